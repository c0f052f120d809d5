// What is kept no longer is deleted, a slice at a time: events that have left the books (retention.ts), raw usage, refusals,
// addresses. SQLite's; Postgres has `sweep_v1`.
import { ask, askValue } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { firstAttemptId } from "../ids.ts";
import { DAY_MS, HOUR_MS } from "../windows.ts";
import type { KeptDays } from "./kept-days.ts";
import { askKeptFrom } from "./retention.ts";

/** Rows that one sweep touches: requests are booked between two. */
const SLICE = 300;
/** Of refusals, which are counts by the minute. */
const SLICE_MS = 6 * HOUR_MS;
const RAW_UNTIL = "raw_usage_emptied_until";

/** Deletes a slice of what is kept no longer, in SQLite. Returns whether there may be more. */
export function* askSweep(kept: KeptDays, nowMs: number): Asking<boolean> {
  const from = yield* askKeptFrom();
  if (from > 0) {
    const gone = yield* ask<[bigint]>(
      "SELECT attempt_id FROM events WHERE attempt_id < ? ORDER BY 1 LIMIT ?",
      from,
      SLICE,
    );
    const last = gone.at(-1)?.[0];
    if (last !== undefined) {
      yield* ask("DELETE FROM events WHERE attempt_id <= ?", last);
      return true;
    }
    const stop = yield* ask<[number: bigint, attemptId: bigint]>(
      "SELECT number, attempt_id FROM commits ORDER BY number LIMIT ?",
      SLICE,
    );
    const until = stop.find(([, attemptId]) => Number(attemptId) >= from)?.[0] ?? stop.at(-1)?.[0];
    if (until !== undefined && until !== stop[0]?.[0]) {
      yield* ask("DELETE FROM commits WHERE number < ?", until);
      return true;
    }
  }
  return (
    (yield* sweepRawUsage(kept.rawUsageDays, nowMs)) ||
    (yield* sweepRefusals(kept.refusalsDays, nowMs)) ||
    (yield* sweepAddresses(kept.addressesDays, nowMs))
  );
}

function* sweepRawUsage(days: number | undefined, nowMs: number): Asking<boolean> {
  if (days === undefined) return false;
  const from = Number((yield* askValue<string>(`SELECT value FROM meta WHERE name = '${RAW_UNTIL}'`)) ?? 0);
  const rows = yield* ask<[bigint]>(
    "SELECT attempt_id FROM events WHERE attempt_id >= ? AND attempt_id < ? ORDER BY 1 LIMIT ?",
    from,
    firstAttemptId(nowMs - days * DAY_MS),
    SLICE,
  );
  const last = rows.at(-1)?.[0];
  if (last === undefined) return false;
  yield* ask(
    "UPDATE events SET raw_usage = NULL WHERE attempt_id >= ? AND attempt_id <= ? AND raw_usage IS NOT NULL",
    from,
    last,
  );
  yield* ask(
    `INSERT INTO meta (name, value) VALUES ('${RAW_UNTIL}', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
    String(last + 1n),
  );
  return true;
}

function* sweepRefusals(days: number | undefined, nowMs: number): Asking<boolean> {
  if (days === undefined) return false;
  const oldest = yield* askValue<bigint | null>("SELECT MIN(minute_ms) FROM refused");
  const before = nowMs - days * DAY_MS;
  if (typeof oldest !== "bigint" || Number(oldest) >= before) return false;
  yield* ask("DELETE FROM refused WHERE minute_ms < ?", Math.min(before, Number(oldest) + SLICE_MS));
  return true;
}

function* sweepAddresses(days: number | undefined, nowMs: number): Asking<boolean> {
  if (days === undefined) return false;
  const before = nowMs - days * DAY_MS;
  const found = yield* ask("SELECT 1 FROM key_addresses WHERE last_seen_ms < ? LIMIT 1", before);
  if (found.length === 0) return false;
  yield* ask("DELETE FROM key_addresses WHERE last_seen_ms < ?", before);
  return false;
}
