// Usage: how much of what was used, and no money. Units are disjoint: no quantity is part of another, so cost is a
// plain sum and nobody downstream subtracts. Counts are non-negative safe integers.

/** Token classes in the order people read them. `input` is uncached text, `input_tool` what tools put into the prompt
 *  at the provider, `output` includes reasoning. */
export const TOKEN_CLASSES = [
  "input",
  "input_tool",
  "cache_read",
  "cache_write_5m",
  "cache_write_30m",
  "cache_write_1h",
  "cache_write_12h",
  "output",
  "input_audio",
  "input_image",
  "input_video",
  "cache_read_audio",
  "cache_read_image",
  "output_audio",
  "output_image",
  "output_video",
] as const;
/** Fees per use. OpenAI's older search tool costs more with models that do not reason. Gemini bills grounding by the
 *  query from version 3 on, by the prompt before. Seconds are of sound or film, characters of text to be spoken, a
 *  token hour is a token that a cache keeps for an hour, a container is a session of a code interpreter. */
export const FEE_UNITS = [
  "web_search",
  "web_search_preview",
  "file_search",
  "grounding_query",
  "grounded_prompt",
  "container",
  "cache_token_hour",
  "image",
  "audio_second",
  "video_second",
  "character",
  "request",
] as const;
/** What a cache was written with, for as long as it keeps. */
const CACHE_WRITES = ["cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h"] as const;

export type TokenClass = (typeof TOKEN_CLASSES)[number];
export type FeeUnit = (typeof FEE_UNITS)[number];
export type Unit = TokenClass | FeeUnit;
/** What a cost line is of: a unit, or what the provider's own word is beyond the other lines. */
export type LineUnit = Unit | "stated";

/** Quantities by unit. A missing unit was not used, or not named by the provider; it is never "unknown": that is
 *  said by `UsageState`. */
export type Usage = { readonly [unit in Unit]?: number };

/** How the quantities came about: stated by the provider, worked out by us, or not known at all. */
export type UsageState = "reported" | "estimated" | "unknown";

/** Why the quantities are not the provider's word. cut: the answer ended, or was left, before it said. failed: an error
 *  stood in its place. not_stated: such an answer never says. unreadable: what it says are no counts, or the answer
 *  could not be read. contradictory: its counts do not fit together; they are booked as far as they can be read.
 *  not_fetched: work whose result nobody has seen. crash: this process died in between. */
export type UsageReason = "cut" | "failed" | "not_stated" | "unreadable" | "contradictory" | "not_fetched" | "crash";

export const UNITS: readonly Unit[] = [...TOKEN_CLASSES, ...FEE_UNITS];
export const NO_USAGE: Usage = Object.freeze({});

/** The classes that are a model's input: what decides a long-context tier. */
export const INPUT_CLASSES = [
  "input",
  "input_tool",
  "cache_read",
  ...CACHE_WRITES,
  "input_audio",
  "input_image",
  "input_video",
  "cache_read_audio",
  "cache_read_image",
] as const satisfies readonly TokenClass[];
/** The classes that a model writes. */
export const OUTPUT_CLASSES = [
  "output",
  "output_audio",
  "output_image",
  "output_video",
] as const satisfies readonly TokenClass[];

const FEES: ReadonlySet<Unit> = new Set(FEE_UNITS);
/** Whether a unit is a fee per use: tiers change the price of tokens, not of these. */
export function isFee(unit: Unit): boolean {
  return FEES.has(unit);
}

/** Sum per unit. */
export function addUsage(a: Usage, b: Usage): Usage {
  const sum: { [unit in Unit]?: number } = { ...a };
  for (const unit of UNITS) {
    const more = b[unit];
    if (more !== undefined) sum[unit] = (sum[unit] ?? 0) + more;
  }
  return sum;
}

/** All input tokens, cached or not: the context size that providers' long-context prices go by. */
export function contextTokens(usage: Usage): number {
  let sum = 0;
  for (const unit of INPUT_CLASSES) sum += usage[unit] ?? 0;
  return sum;
}

/** All tokens of whichever class; fees are none. */
export function countTokens(usage: Usage): number {
  let sum = 0;
  for (const unit of TOKEN_CLASSES) sum += usage[unit] ?? 0;
  return sum;
}

/** No request uses more than this of anything; what says so is not believed. */
const MOST_OF_ANYTHING = 1_000_000_000;

/** A count as providers write it (number, or int64 as a string). `undefined` when absent, and when it is no
 *  non-negative integer below a thousand million: an absurd count is refused, not booked. */
export function readCount(value: unknown): number | undefined {
  const count = typeof value === "string" && /^\d{1,15}$/.test(value) ? Number(value) : value;
  return typeof count === "number" && Number.isSafeInteger(count) && count >= 0 && count <= MOST_OF_ANYTHING
    ? count
    : undefined;
}
