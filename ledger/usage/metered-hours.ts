// What was metered by the hour, as leaks are looked for: tokens and requests by credential, of answers that lie over
// the end of an hour, and of work that goes on. Reads only.
import { and, eq, gte, lt, ne, sql } from "../drizzle.ts";
import type { AnySQLiteColumn, SQL } from "../drizzle.ts";
import { SEAT, SUMMED_ENDPOINTS } from "./usage-event.ts";
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import type { UsageBooks } from "../books.ts";
import { rowsOf, tablesOf, valueOf } from "../engine.ts";
import { rollupHour } from "./schema.ts";
import { HOUR_MS } from "../billing/metered.ts";
import { readCredentials } from "./credentials.ts";

/** Whether a batch at a provider was begun since an instant, or is under way. A file that a key made for one is
 *  none. */
export async function hasBatchesSince(usage: UsageBooks, provider: string, sinceMs: number): Promise<boolean> {
  const isBatch = `endpoint IN (${SUMMED_ENDPOINTS.map((endpoint) => `'${endpoint}'`).join(", ")})`;
  const begun = await valueOf(
    usage,
    `SELECT 1 FROM things JOIN events USING (attempt_id) WHERE things.provider = ? AND things.attempt_id >= ? AND ${isBatch} LIMIT 1`,
    provider,
    firstAttemptId(sinceMs),
  );
  if (begun !== undefined) return true;
  const underWay = await valueOf(
    usage,
    `SELECT 1 FROM reservations WHERE provider = ? AND work_id IS NOT NULL AND ${isBatch} LIMIT 1`,
    provider,
  );
  return underWay !== undefined;
}

export type MeteredCells = { readonly [cell in "input" | "cache_read" | "cache_write" | "output"]: number };

/** Tokens and money of a UTC hour by credential and served model. */
export type MeteredHour = {
  readonly hourMs: number;
  readonly credential: string;
  readonly model: string;
  readonly requests: number;
  readonly tokens: number;
  /** Of `tokens`: as the rollup tells them apart. */
  readonly cells: MeteredCells;
  /** As it was booked, with discounts and fees. */
  readonly costNanoUsd: bigint;
  /** Of `requests`: those whose usage is not the provider's word. */
  readonly unsure: number;
};

/** Hours `[sinceMs, untilMs)` of a provider, from the rollup. */
export async function readMeteredHours(
  usage: UsageBooks,
  provider: string,
  sinceMs: number,
  untilMs: number,
): Promise<MeteredHour[]> {
  const credentialOf = await readCredentials(usage);
  const sum = (column: AnySQLiteColumn): SQL<bigint> => sql<bigint>`SUM(${column})`;
  const rows = await tablesOf(usage)
    .select({
      hourMs: rollupHour.hourMs,
      keyId: rollupHour.keyId,
      payer: rollupHour.payer,
      model: rollupHour.model,
      requests: sum(rollupHour.requests),
      costNanoUsd: sum(rollupHour.costNanoUsd),
      unsure: sql<bigint>`SUM(${rollupHour.estimated} + ${rollupHour.unknown})`,
      input: sum(rollupHour.input),
      cacheRead: sum(rollupHour.cacheRead),
      cacheWrite: sum(rollupHour.cacheWrite),
      output: sum(rollupHour.output),
    })
    .from(rollupHour)
    .where(
      and(
        eq(rollupHour.provider, provider),
        gte(rollupHour.hourMs, sinceMs),
        lt(rollupHour.hourMs, untilMs),
        ne(rollupHour.payer, SEAT),
      ),
    )
    .groupBy(rollupHour.hourMs, rollupHour.keyId, rollupHour.payer, rollupHour.model)
    .orderBy(rollupHour.hourMs, rollupHour.keyId, rollupHour.payer, rollupHour.model)
    .all();
  return rows.flatMap((row) => {
    const cells = {
      input: Number(row.input),
      cache_read: Number(row.cacheRead),
      cache_write: Number(row.cacheWrite),
      output: Number(row.output),
    };
    // An hour in which the credential was swapped counts for the old one and the new one: which of them paid is not
    // in the sums.
    const paid = [row.hourMs, row.hourMs + HOUR_MS - 1].map((atMs) =>
      credentialOf(row.keyId, provider, atMs, row.payer),
    );
    return [...new Set(paid)].map((credential) => ({
      hourMs: row.hourMs,
      credential,
      model: row.model,
      requests: Number(row.requests),
      costNanoUsd: row.costNanoUsd,
      unsure: Number(row.unsure),
      tokens: cells.input + cells.cache_read + cells.cache_write + cells.output,
      cells,
    }));
  });
}

/** Work at a provider that began since an instant, by the hour of its beginning: its tokens, once its result passed;
 *  undefined before. */
export async function readWorkTokens(
  usage: UsageBooks,
  provider: string,
  sinceMs: number,
): Promise<{ readonly hourMs: number; readonly credential: string; readonly tokens: number | undefined }[]> {
  const credentialOf = await readCredentials(usage);
  const first = firstAttemptId(sinceMs);
  const rows = await rowsOf<[attemptId: bigint, keyId: string, payer: string, tokens: bigint | null]>(
    usage,
    `SELECT attempt_id, key_id, payer, CAST(NULL AS BIGINT) FROM reservations
    WHERE work_id IS NOT NULL AND provider = ? AND attempt_id >= ? AND payer <> '${SEAT}'
    UNION ALL
    SELECT attempt_id, key_id, payer, input + cache_read + cache_write + output FROM booked
    WHERE attempt_id IN (SELECT attempt_id FROM things WHERE provider = ? AND attempt_id >= ?) AND payer <> '${SEAT}' ORDER BY 1`,
    provider,
    first,
    provider,
    first,
  );
  return rows.map(([attemptId, keyId, payer, tokens]) => {
    const atMs = attemptAtMs(Number(attemptId));
    return {
      hourMs: atMs - (atMs % HOUR_MS),
      credential: credentialOf(keyId, provider, atMs, payer),
      tokens: tokens === null ? undefined : Number(tokens),
    };
  });
}

/** Tokens and requests, by credential, of answers that had begun before an hour of `[sinceMs, untilMs)` and ended in
 *  it: a provider may count them in either. `hourMs` is the hour in which they ended. */
export async function readStraddling(
  usage: UsageBooks,
  provider: string,
  sinceMs: number,
  untilMs: number,
): Promise<
  { readonly hourMs: number; readonly credential: string; readonly tokens: number; readonly requests: number }[]
> {
  const credentialOf = await readCredentials(usage);
  const rows = await rowsOf<[keyId: string, payer: string, hour: bigint, tokens: bigint, requests: bigint]>(
    usage,
    `SELECT key_id, payer, at_ms / ${HOUR_MS} + 1, SUM(input + cache_read + cache_write + output), COUNT(*)
      FROM booked WHERE attempt_id >= ? AND attempt_id < ? AND provider = ? AND (at_ms + COALESCE(duration_ms, 0)) / ${HOUR_MS} > at_ms / ${HOUR_MS}
      AND payer <> '${SEAT}'
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
    firstAttemptId(sinceMs - HOUR_MS),
    firstAttemptId(untilMs),
    provider,
  );
  return rows.map(([keyId, payer, hour, tokens, requests]) => ({
    hourMs: Number(hour) * HOUR_MS,
    credential: credentialOf(keyId, provider, Number(hour) * HOUR_MS - 1, payer),
    tokens: Number(tokens),
    requests: Number(requests),
  }));
}

/** Tokens of answers that were under way at an instant, by credential and served model: a provider may count them
 *  before it or after it. */
export type UnderWay = {
  readonly credential: string;
  readonly model: string;
  readonly tier: string;
  readonly cells: MeteredCells;
};

export async function readUnderWay(usage: UsageBooks, provider: string, atMs: number): Promise<UnderWay[]> {
  const credentialOf = await readCredentials(usage);
  const rows = await rowsOf<
    [
      keyId: string,
      payer: string,
      model: string,
      tier: string,
      input: bigint,
      cacheRead: bigint,
      cacheWrite: bigint,
      output: bigint,
    ]
  >(
    usage,
    `SELECT key_id, payer, model, COALESCE(tier, ''), SUM(input), SUM(cache_read), SUM(cache_write), SUM(output) FROM booked
      WHERE attempt_id >= ? AND attempt_id < ? AND provider = ? AND at_ms + COALESCE(duration_ms, 0) >= ? AND payer <> '${SEAT}'
      GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4`,
    firstAttemptId(atMs - HOUR_MS),
    firstAttemptId(atMs),
    provider,
    atMs,
  );
  return rows.map(([keyId, payer, model, tier, input, cacheRead, cacheWrite, output]) => ({
    credential: credentialOf(keyId, provider, atMs - 1, payer),
    model,
    tier,
    cells: {
      input: Number(input),
      cache_read: Number(cacheRead),
      cache_write: Number(cacheWrite),
      output: Number(output),
    },
  }));
}
