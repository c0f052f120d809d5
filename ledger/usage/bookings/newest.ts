// The newest attempts: where new ids begin, and which lie ahead of a clock that somebody accepted as right since.
import { firstAttemptId } from "../../ids.ts";
import type { AttemptId } from "../../ids.ts";
import type { Sqlite } from "../../sqlite.ts";
import { answerFrom } from "../../asking.ts";
import { askSealedEnd } from "../seals.ts";
import type { Booker, SqliteLedger } from "./ledger.ts";

/** The newest id at the time when somebody accepted the clock. */
const CLOCK_ACCEPTED = "clock_accepted";

export type Newest = { readonly lastAttemptId: AttemptId; readonly ahead: readonly AttemptId[] };

/** Those that lie ahead stay as they are, and a day that they sealed takes no more. */
export function readNewest(database: Sqlite, nowMs: number): Newest {
  const number = (sql: string, ...values: number[]): number =>
    Number(
      database
        .prepare(sql)
        .pluck()
        .get(...values) ?? 0,
    );
  const below = (end: AttemptId): AttemptId =>
    Math.max(
      number("SELECT MAX(attempt_id) FROM events WHERE attempt_id < ?", end),
      number("SELECT MAX(attempt_id) FROM reservations WHERE attempt_id < ?", end),
    );
  const newest = below(Number.MAX_SAFE_INTEGER);
  const accepted = number(`SELECT value FROM meta WHERE name = '${CLOCK_ACCEPTED}'`);
  const here = firstAttemptId(nowMs);
  if (newest < here || newest > accepted) return { lastAttemptId: newest, ahead: [] };
  const lastAttemptId = Math.max(below(here), answerFrom(database, askSealedEnd()) - 1);
  const ahead = database
    .prepare(
      "SELECT attempt_id FROM events WHERE attempt_id > ? UNION SELECT attempt_id FROM reservations WHERE attempt_id > ?",
    )
    .pluck()
    .all(lastAttemptId, lastAttemptId) as (number | bigint)[];
  return { lastAttemptId, ahead: ahead.map(Number) };
}

/** The clock is right: what is in the books by now may lie ahead of it. */
export function acceptClock(database: Sqlite): void {
  const newest = String(readNewest(database, 0).lastAttemptId);
  database.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)").run(CLOCK_ACCEPTED, newest);
}

export function answerNewest({ database }: SqliteLedger): Booker<"newest"> {
  return ({ atMs }) => ({ type: "newest", ...readNewest(database, atMs) });
}
