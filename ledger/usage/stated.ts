// Costs that providers state in their answers, beside what our prices come to: where the two part, a price or a fee has
// changed.
import { and, desc, gte, isNotNull } from "../drizzle.ts";
import type { LineUnit } from "../usage.ts";
import { firstAttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import { events } from "./schema.ts";

/** Answers of a model whose cost the provider stated and our prices give too. */
export type StatedSums = {
  readonly provider: string;
  readonly model: string;
  readonly requests: number;
  /** Of `requests`: those whose stated cost is too small to be believed, so that ours was booked. */
  readonly unbelieved: number;
  readonly statedNanoUsd: NanoUsd;
  /** What our prices come to. */
  readonly oursNanoUsd: NanoUsd;
};

const MOST_READ = 20_000;

/** Sums since an instant, of the newest answers only where there are more than can be read at once. */
export async function readStated(usage: UsageBooks, sinceMs: number): Promise<StatedSums[]> {
  const rows = await tablesOf(usage)
    .select({
      provider: events.provider,
      requestedModel: events.requestedModel,
      servedModel: events.servedModel,
      stated: events.statedCostNanoUsd,
      booked: events.costNanoUsd,
      lines: events.costLines,
    })
    .from(events)
    .where(and(isNotNull(events.statedCostNanoUsd), gte(events.attemptId, firstAttemptId(sinceMs))))
    .orderBy(desc(events.attemptId))
    .limit(MOST_READ)
    .all();
  const sums = new Map<string, { -readonly [part in keyof StatedSums]: StatedSums[part] }>();
  for (const { provider, requestedModel, servedModel, stated, booked, lines } of rows) {
    const ours = ownCost(lines);
    if (stated === null || ours === undefined) continue;
    const model = servedModel ?? requestedModel;
    const name = `${provider}\n${model}`;
    let sum = sums.get(name);
    if (!sum)
      sums.set(name, (sum = { provider, model, requests: 0, unbelieved: 0, statedNanoUsd: 0n, oursNanoUsd: 0n }));
    sum.requests += 1;
    if (booked !== stated) sum.unbelieved += 1;
    sum.statedNanoUsd += stated;
    sum.oursNanoUsd += ours;
  }
  return [...sums.values()];
}

/** How far what is stated lies from ours, as a share of ours; undefined where ours is nothing. */
export function differenceOf({ statedNanoUsd, oursNanoUsd }: StatedSums): number | undefined {
  return oursNanoUsd === 0n ? undefined : Math.abs(Number(statedNanoUsd - oursNanoUsd)) / Number(oursNanoUsd);
}

/** What the lines of our own prices come to; undefined where nothing of the answer has a price. */
function ownCost(lines: string | null): NanoUsd | undefined {
  const all: [LineUnit, number, string, string, string?][] = lines === null ? [] : JSON.parse(lines);
  const own = all.filter(([unit]) => unit !== "stated");
  if (own.length === 0) return undefined;
  return own.reduce((sum, [, , , amount]) => sum + BigInt(amount), 0n);
}
