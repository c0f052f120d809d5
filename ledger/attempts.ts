// Attempts one by one, and how they ended: what sums do not tell. Read models over the events, each bounded; reads only.
import { and, desc, drizzle, eq, gte, isNotNull, lt, sql } from "./drizzle.ts";
import { readEvents } from "./events.ts";
import type { EventRecord, Outcome } from "./events.ts";
import { firstAttemptId } from "./ids.ts";
import type { NanoUsd } from "./money.ts";
import type { Sqlite } from "./open.ts";
import { adjustments, events, rollupHour } from "./schema.ts";

const HOUR_MS = 3_600_000;

/** The newest attempts of a key before an instant, newest first. Only hours in which the key was used are looked at: a key that is rarely used costs
 *  no walk over everybody else's events. */
export async function readLastEvents(
  database: Sqlite,
  keyId: string,
  limit: number,
  beforeMs = Number.MAX_SAFE_INTEGER,
): Promise<EventRecord[]> {
  const found: EventRecord[] = [];
  const hours = drizzle(database)
    .selectDistinct({ hourMs: rollupHour.hourMs })
    .from(rollupHour)
    .where(and(eq(rollupHour.keyId, keyId), lt(rollupHour.hourMs, beforeMs)))
    .orderBy(desc(rollupHour.hourMs))
    .limit(limit)
    .all();
  for (const { hourMs } of hours) {
    const untilMs = Math.min(hourMs + HOUR_MS, beforeMs);
    const page = await readEvents(database, { sinceMs: hourMs, untilMs, keyId, limit: limit - found.length });
    found.push(...page.toReversed());
    if (found.length >= limit) break;
  }
  return found;
}

/** What attempts came to, by how they ended. */
export type OutcomeRow = {
  readonly provider: string;
  readonly model: string;
  readonly outcome: Outcome;
  readonly requests: number;
  readonly costNanoUsd: NanoUsd;
};

/** Attempts of `[sinceMs, untilMs)` by served model and outcome, corrections included. */
export async function readOutcomes(database: Sqlite, sinceMs: number, untilMs: number): Promise<OutcomeRow[]> {
  return drizzle(database)
    .select({
      provider: events.provider,
      model: sql<string>`COALESCE(${events.servedModel}, ${events.requestedModel})`,
      outcome: sql<Outcome>`${events.outcome}`,
      requests: sql<bigint>`COUNT(*)`,
      costNanoUsd: sql<bigint>`SUM(COALESCE(${events.costNanoUsd}, 0) + COALESCE((SELECT SUM(${adjustments.amountNanoUsd}) FROM ${adjustments} WHERE ${adjustments.attemptId} = ${events.attemptId}), 0))`,
    })
    .from(events)
    .where(inSpan(sinceMs, untilMs))
    .groupBy(events.provider, sql`2`, events.outcome)
    .all()
    .map((row) => ({ ...row, requests: Number(row.requests) }));
}

/** How fast models answer, in milliseconds to the first byte. */
export type Speed = { readonly provider: string; readonly model: string; readonly p50: number; readonly p95: number };

/** Of the newest `most` complete attempts of `[sinceMs, untilMs)`. */
export async function readSpeeds(database: Sqlite, sinceMs: number, untilMs: number, most: number): Promise<Speed[]> {
  const rows = drizzle(database)
    .select({
      provider: events.provider,
      model: sql<string>`COALESCE(${events.servedModel}, ${events.requestedModel})`,
      firstByteMs: events.firstByteMs,
    })
    .from(events)
    .where(and(inSpan(sinceMs, untilMs), eq(events.outcome, "complete"), isNotNull(events.firstByteMs)))
    .orderBy(desc(events.attemptId))
    .limit(most)
    .all();
  return [...Map.groupBy(rows, ({ provider, model }) => `${provider}\n${model}`)].map(([name, group]) => {
    const [provider = "", model = ""] = name.split("\n");
    const sorted = group.map(({ firstByteMs }) => firstByteMs ?? 0).toSorted((a, b) => a - b);
    const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
    return { provider, model, p50: at(0.5), p95: at(0.95) };
  });
}

function inSpan(sinceMs: number, untilMs: number): ReturnType<typeof and> {
  return and(gte(events.attemptId, firstAttemptId(sinceMs)), lt(events.attemptId, firstAttemptId(untilMs)));
}
