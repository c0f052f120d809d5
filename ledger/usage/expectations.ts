// What a request will probably cost, for budgets of mode `expected`: input by bytes, output by the 95th percentile of
// that key and model once enough is known. In memory; a restart learns anew from the last events.
import { desc, notInArray } from "../drizzle.ts";
import { SUMMED_ENDPOINTS } from "./usage-event.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import { events } from "./schema.ts";

const ENOUGH = 50;
const REMEMBERED = 200;
const RENEW_EVERY = 20;
const MOST_PAIRS = 10_000;
const LEARN_FROM = 20_000;
const QUANTILE = 0.95;

export type Expectations = {
  /** Output tokens that 95 of 100 answers of this key and model stay under; undefined before 50 were seen. */
  outputTokens(keyId: string, model: string): number | undefined;
  observe(keyId: string, model: string, outputTokens: number): void;
};

type Recent = { readonly values: number[]; next: number; seen: number; p95: number | undefined };

export function createExpectations(): Expectations {
  const pairs = new Map<string, Recent>();

  const observe = (keyId: string, model: string, outputTokens: number): void => {
    const name = `${keyId}\n${model}`;
    let recent = pairs.get(name);
    if (!recent) {
      if (pairs.size >= MOST_PAIRS) pairs.clear();
      pairs.set(name, (recent = { values: [], next: 0, seen: 0, p95: undefined }));
    }
    recent.values[recent.next] = outputTokens;
    recent.next = (recent.next + 1) % REMEMBERED;
    recent.seen += 1;
    if (recent.seen >= ENOUGH && (recent.p95 === undefined || recent.seen % RENEW_EVERY === 0)) {
      // By numbers alone: without a function that compares two of them it is less than half.
      const sorted = Float64Array.from(recent.values).toSorted();
      recent.p95 = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * QUANTILE))];
    }
  };

  return { observe, outputTokens: (keyId, model) => pairs.get(`${keyId}\n${model}`)?.p95 };
}

/** Learns from the last events of the books. */
export async function learnExpectations(books: UsageBooks, expectations: Expectations): Promise<void> {
  const last = await tablesOf(books)
    .select({ keyId: events.keyId, model: events.requestedModel, output: events.output, state: events.usageState })
    .from(events)
    .where(notInArray(events.endpoint, SUMMED_ENDPOINTS))
    .orderBy(desc(events.attemptId))
    .limit(LEARN_FROM)
    .all();
  for (const row of last.toReversed())
    if (row.state === "reported" && row.output !== null) expectations.observe(row.keyId, row.model, row.output);
}
