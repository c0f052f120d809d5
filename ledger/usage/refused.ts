// What was refused: counts by key, model, reason, budget and minute. Reads only.
import { and, gte, lt, sql } from "../drizzle.ts";
import { refused } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";

/** Refused requests in `[sinceMs, untilMs)` by key and reason. `observed`: they were let through (cap mode observe). */
export type RefusedRow = {
  readonly keyId: string;
  readonly reason: string;
  readonly budgetId: string;
  readonly observed: boolean;
  readonly count: number;
  /** The start of the last minute in which it happened. */
  readonly lastMinuteMs: number;
};

export async function readRefused(books: UsageBooks, sinceMs: number, untilMs: number): Promise<RefusedRow[]> {
  const rows = await tablesOf(books)
    .select({
      keyId: refused.keyId,
      reason: refused.reason,
      budgetId: refused.budgetId,
      observed: refused.observed,
      count: sql<bigint>`SUM(${refused.count})`,
      lastMinuteMs: sql<bigint>`MAX(${refused.minuteMs})`,
    })
    .from(refused)
    .where(and(gte(refused.minuteMs, sinceMs), lt(refused.minuteMs, untilMs)))
    .groupBy(refused.keyId, refused.reason, refused.budgetId, refused.observed)
    .orderBy(refused.keyId, refused.reason, refused.budgetId, refused.observed)
    .all();
  return rows.map((row) => ({
    ...row,
    observed: row.observed === 1,
    count: Number(row.count),
    lastMinuteMs: Number(row.lastMinuteMs),
  }));
}
