// Whether providers answer, and what has no price: counts over the last events. Reads only.
import { gte, sql } from "../drizzle.ts";
import { firstAttemptId } from "../ids.ts";
import { booked, events } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";

/** How a provider answered since an instant. `rejected`: 401 or 403 to a credential of ours, under a virtual key. */
export async function readAnswers(
  books: UsageBooks,
  sinceMs: number,
): Promise<
  { readonly provider: string; readonly requests: number; readonly failed: number; readonly rejected: number }[]
> {
  const rows = await tablesOf(books)
    .select({
      provider: events.provider,
      requests: sql<bigint>`COUNT(*)`,
      failed: sql<bigint>`SUM(CASE WHEN ${events.outcome} IN ('upstream_failed', 'upstream_unreachable') OR ${events.httpStatus} >= 500 THEN 1 ELSE 0 END)`,
      rejected: sql<bigint>`SUM(CASE WHEN ${events.httpStatus} IN (401, 403)
        AND EXISTS (SELECT 1 FROM keys WHERE keys.id = ${events.keyId} AND keys.kind = 'virtual') THEN 1 ELSE 0 END)`,
    })
    .from(events)
    .where(gte(events.attemptId, firstAttemptId(sinceMs)))
    .groupBy(events.provider)
    .orderBy(events.provider)
    .all();
  return rows.map(({ provider, ...counts }) => ({
    provider,
    requests: Number(counts.requests),
    failed: Number(counts.failed),
    rejected: Number(counts.rejected),
  }));
}

/** Attempts since an instant that have no price, by provider and model. */
export async function readUnpriced(
  books: UsageBooks,
  sinceMs: number,
): Promise<{ readonly provider: string; readonly model: string; readonly requests: number }[]> {
  const rows = await tablesOf(books)
    .select({
      provider: booked.provider,
      model: booked.model,
      requests: sql<bigint>`SUM(${booked.unpriced})`,
    })
    .from(booked)
    .where(gte(booked.attemptId, firstAttemptId(sinceMs)))
    .groupBy(booked.provider, booked.model)
    .orderBy(booked.provider, booked.model)
    .all();
  return rows.map((row) => ({ ...row, requests: Number(row.requests) })).filter(({ requests }) => requests > 0);
}
