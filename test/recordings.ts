// Recorded provider traffic, read from ../shared/recordings where it is there (it is not part of this repository).
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import type { Usage } from "../ledger/usage.ts";
import { noteSkipped } from "./skipped.ts";

const FOLDER = fileURLToPath(new URL("../../shared/recordings/", import.meta.url));

export const hasRecordings = existsSync(FOLDER);
if (!hasRecordings)
  noteSkipped(`the recordings are not here (${FOLDER}); every test that replays real traffic is skipped`);

export type Recording = {
  readonly id: string;
  readonly provider: string;
  readonly method: string;
  readonly url: string;
  readonly stream: boolean;
  readonly status: number;
  readonly request_body: unknown;
  readonly request_headers: { readonly [name: string]: string };
  readonly response_headers: { readonly [name: string]: string };
  readonly response_body: string;
  readonly response_body_encoding: string;
  readonly elided_chars?: number;
  readonly file: string;
};

export type ExpectedUsage = {
  readonly input: number;
  readonly cache_read: number;
  readonly cache_write_5m: number;
  readonly cache_write_1h: number;
  readonly output: number;
  readonly reasoning: number;
  readonly audio_in: number;
  readonly audio_out: number;
  readonly image_in: number;
  readonly image_out: number;
  readonly web_search_requests: number;
  readonly service_tier: string | null;
  readonly served_model: string | null;
};
export type Expected = {
  readonly id: string;
  readonly state: string;
  readonly usage: ExpectedUsage | null;
  readonly response_id?: string;
  readonly extra?: {
    readonly extra_usage?: readonly { readonly model: string | null; readonly usage: ExpectedUsage }[];
    readonly ambiguous?: unknown;
    readonly seconds?: number;
    readonly transcription_usage?: readonly { readonly seconds: number }[];
    readonly prompt_audio_seconds?: number;
    readonly provider_cost_usd?: number;
    readonly batch_items?: unknown;
  };
};

export function readRecordings(file: string): Recording[] {
  return lines(`${file}.jsonl.gz`).map((line) => ({ ...(JSON.parse(line) as Recording), file }));
}

export function readExpected(): Map<string, Expected> {
  return new Map(
    lines("expected-usage.jsonl.gz")
      .map((line) => JSON.parse(line) as Expected)
      .map((expected) => [expected.id, expected]),
  );
}

function lines(name: string): string[] {
  return gunzipSync(readFileSync(FOLDER + name))
    .toString("utf8")
    .split("\n")
    .filter((line) => line !== "");
}

/** Ours, folded to the classes of the expectations. */
export function fold(
  usage: Usage,
): Pick<
  ExpectedUsage,
  "input" | "cache_read" | "cache_write_5m" | "cache_write_1h" | "output" | "web_search_requests"
> {
  const sum = (...units: (keyof Usage)[]): number => units.reduce((total, unit) => total + (usage[unit] ?? 0), 0);
  return {
    input: sum("input", "input_tool", "input_audio", "input_image", "input_video"),
    cache_read: sum("cache_read", "cache_read_audio", "cache_read_image"),
    cache_write_5m: sum("cache_write_5m", "cache_write_30m"),
    cache_write_1h: sum("cache_write_1h", "cache_write_12h"),
    output: sum("output", "output_audio", "output_image"),
    web_search_requests: sum("web_search", "web_search_preview", "grounding_query", "grounded_prompt"),
  };
}

export function expectedFold(expected: ExpectedUsage): ReturnType<typeof fold> {
  const { input, cache_read, cache_write_5m, cache_write_1h, output, web_search_requests } = expected;
  return { input, cache_read, cache_write_5m, cache_write_1h, output, web_search_requests };
}

export function addFolds(a: ReturnType<typeof fold>, b: ReturnType<typeof fold>): ReturnType<typeof fold> {
  return Object.fromEntries(
    Object.entries(a).map(([name, value]) => [name, value + b[name as keyof typeof b]]),
  ) as ReturnType<typeof fold>;
}

/** Searches where the expectations count others than are billed: none though the model searches before every answer,
 *  and empty queries. */
export const DISAGREED: ReadonlyMap<string, number> = new Map([
  ["r_b375cdc2c8f35d8a", 1],
  ["r_336b4df5ebf27794", 1],
]);

/** The expected searches of a record. Before version 3 Gemini bills the prompt that was grounded, not its queries,
 *  which is what the expectations count; of Interactions they count none. */
export function expectedSearches(id: string, used: Usage, counted: number): number {
  return used.grounded_prompt ? 1 : (DISAGREED.get(id) ?? counted);
}

/** Answers that name what was written and not what was read: their usage cannot be read as it stands. */
export const PROMPTLESS: ReadonlySet<string> = new Set(["r_2c0a966820fe05d4"]);

/** The names of all files with recordings. */
export function listRecordings(): string[] {
  return readdirSync(FOLDER)
    .filter((name) => name.endsWith(".jsonl.gz") && name !== "expected-usage.jsonl.gz")
    .map((name) => name.slice(0, -".jsonl.gz".length))
    .toSorted();
}
