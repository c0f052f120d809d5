// Sealing days of books in Postgres: by the node that leads in it. A day is over when each node has said that it makes no
// more ids of it, and nothing of it is open but work.
import { answerIn, answerWith, ask } from "../../asking.ts";
import type { UsageBooks } from "../../books.ts";
import { attemptAtMs, firstAttemptId } from "../../ids.ts";
import type { KeptDays } from "../kept-days.ts";
import { DAY_MS } from "../../windows.ts";
import { runOn } from "../../postgres.ts";
import type { Pool } from "../../postgres.ts";
import { within } from "../../postgres-books.ts";
import { applySeal, askDayToSeal, digestBy, endOfDay, recordLate } from "../seals.ts";

/** Rows of a slice. */
const SWEPT = 1_000;

/** Puts what came late to sealed days into the audit, and seals the oldest day that is over. Returns whether there may be
 *  more to do. */
export async function sealDay(pool: Pool, books: UsageBooks, nowMs: number): Promise<boolean> {
  await recordAllLate(pool);
  const first = await answerIn(books, askDayToSeal(nowMs));
  if (first === undefined) return false;
  const behind = await runOn(pool, "SELECT 1 FROM nodes WHERE state = 'live' AND last_id < ? LIMIT 1", [
    endOfDay(first),
  ]);
  if (behind.length > 0) return false;
  const seal = await digestBy(books, first);
  await inRegister(pool, async (run) => answerWith(run, applySeal(seal, nowMs)));
  return true;
}

/** Parts of windows that are long over, and what was noted of changes that were answered long ago. */
export async function dropOld(pool: Pool, nowMs: number): Promise<void> {
  for (const [kind, days] of KEPT_DAYS) {
    // A window's id has its first day or hour in it.
    const before = new Date(nowMs - days * DAY_MS)
      .toISOString()
      .slice(0, kind === "quarter" ? 4 : kind === "month" ? 7 : 10);
    await runOn(pool, "DELETE FROM escrow WHERE window_id >= ? AND window_id < ? AND held_nano_usd = 0", [
      `${kind}:`,
      `${kind}:${before}`,
    ]);
  }
  await runOn(pool, "DELETE FROM changes_made WHERE at < clock_timestamp() - interval '1 day'", []);
}

/** Deletes a slice of what is kept no longer. Returns whether there may be more. */
export async function sweep(pool: Pool, kept: KeptDays, nowMs: number): Promise<boolean> {
  const before = (days: number | undefined): number | null => (days === undefined ? null : nowMs - days * DAY_MS);
  const raw = before(kept.rawUsageDays);
  const [row] = await runOn(pool, "SELECT sweep_v1(?, ?, ?, ?)", [
    raw === null ? null : firstAttemptId(raw),
    before(kept.refusalsDays),
    before(kept.addressesDays),
    SWEPT,
  ]);
  return row?.[0] === true;
}

/** Work may go on for a month after its window. */
const KEPT_DAYS = [
  ["hour", 40],
  ["day", 40],
  ["week", 50],
  ["month", 80],
  ["quarter", 500],
] as const;

/** Events that came to days that were sealed, for work that went on. */
async function recordAllLate(pool: Pool): Promise<void> {
  const late = await runOn(pool, "SELECT attempt_id FROM late ORDER BY attempt_id LIMIT 1000", []);
  if (late.length === 0) return;
  await inRegister(pool, async (run) => {
    for (const [id] of late) {
      const attemptId = Number(id);
      const [event] = await answerWith(
        run,
        ask<[duration: bigint | null]>("SELECT duration_ms FROM events WHERE attempt_id = ?", attemptId),
      );
      await answerWith(run, recordLate(attemptId, attemptAtMs(attemptId) + Number(event?.[0] ?? 0)));
      await run("DELETE FROM late WHERE attempt_id = ?", [attemptId]);
    }
  });
}

/** A change of what all nodes go by: it waits for all batches, and lets none begin. */
async function inRegister(
  pool: Pool,
  change: (run: (text: string, values: readonly unknown[]) => Promise<unknown[][]>) => Promise<unknown>,
): Promise<void> {
  await within(pool, "BEGIN", async (client) => {
    const run = (text: string, values: readonly unknown[]) => runOn(client, text, values);
    await run("SELECT pg_advisory_xact_lock(hashtext('keymeter register'))", []);
    await change(run);
    await run("UPDATE register SET version = version + 1", []);
  });
}
