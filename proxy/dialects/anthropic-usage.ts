// What Anthropic says was used: counts that are disjoint as they come, passes, tiers.
// Source: platform.claude.com API reference; `iterations` as recorded traffic shows them.
import { UNITS, addUsage, readCount } from "../../ledger/usage.ts";
import type { TokenClass, Usage } from "../../ledger/usage.ts";
import { objectAt, objectsIn, textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { createPasses } from "./passes.ts";
import type { Reading } from "./reading.ts";
import { compactUsage } from "./stated.ts";
import type { KnownFields } from "./stated.ts";

export function readUsage(stated: JsonObject): Usage | undefined {
  const input = readCount(stated["input_tokens"]);
  const output = readCount(stated["output_tokens"]);
  if (input === undefined || output === undefined) return undefined;
  const split = objectAt(stated, "cache_creation");
  const long = readCount(split?.["ephemeral_1h_input_tokens"]) ?? 0;
  // The split of message_start can be stale: the total of the last event counts, the one-hour part of it is known.
  const written =
    readCount(stated["cache_creation_input_tokens"]) ?? (readCount(split?.["ephemeral_5m_input_tokens"]) ?? 0) + long;
  return compactUsage({
    input,
    cache_read: readCount(stated["cache_read_input_tokens"]),
    cache_write_5m: Math.max(written - long, 0),
    cache_write_1h: Math.min(long, written),
    output,
    web_search: readCount(objectAt(stated, "server_tool_use")?.["web_search_requests"]),
  });
}

/** What Anthropic puts into usage. Web fetches cost only the tokens that they bring. */
const PASS: KnownFields = {
  input_tokens: true,
  cache_creation_input_tokens: true,
  cache_read_input_tokens: true,
  cache_creation: { ephemeral_5m_input_tokens: true, ephemeral_1h_input_tokens: true },
  output_tokens: true,
};
export const KNOWN: KnownFields = {
  ...PASS,
  output_tokens_details: { thinking_tokens: true },
  server_tool_use: { web_search_requests: true, web_fetch_requests: true },
  iterations: PASS,
};

/** The passes that the top level sums up, where they are listed and add up to it, so that each is priced by its own
 *  context. */
export function passesOf(whole: Usage, iterations: unknown): Reading["extra"] {
  const listed = objectsIn(iterations).filter((pass) => textAt(pass, "type") === "message");
  const usages = listed.flatMap((pass) => readUsage(pass) ?? []);
  const sum = usages.reduce(addUsage, {});
  const { web_search: searches, ...tokens } = whole;
  const isSum = UNITS.every((unit) => (sum[unit] ?? 0) === (tokens[unit as TokenClass] ?? 0));
  if (listed.length < 2 || usages.length < listed.length || !isSum) return [];
  const passes = createPasses();
  for (const usage of usages) passes.add(undefined, usage);
  const [first, ...others] = passes.list();
  return first ? [{ ...first, usage: addUsage(first.usage, compactUsage({ web_search: searches })) }, ...others] : [];
}

/** Passes that the top level leaves out: compaction at the served model, advisors at their own. The top level is the
 *  sum of the `message` passes, or the fallback's figures. */
export function readIterations(value: unknown): { model: string | undefined; usage: Usage }[] {
  return objectsIn(value).flatMap((pass) => {
    const type = textAt(pass, "type");
    const usage = type === "compaction" || type === "advisor_message" ? readUsage(pass) : undefined;
    return usage ? [{ model: textAt(pass, "model"), usage: addUsage(usage, {}) }] : [];
  });
}

export function readTiers(stated: JsonObject): string[] {
  const tiers: string[] = [];
  const tier = textAt(stated, "service_tier");
  if (tier !== undefined) tiers.push(tier);
  if (textAt(stated, "inference_geo") === "us") tiers.push("geo:us");
  if (textAt(stated, "speed") === "fast") tiers.push("speed:fast");
  return tiers;
}
