// Recover: open reservations of a process that died become events, marked as its crash. Those of work that goes on at
// the provider stay open.
import { answerFrom, askRows } from "../../asking.ts";
import { isNull } from "../../drizzle.ts";
import { reservations } from "../schema.ts";
import type { SqliteLedger } from "./ledger.ts";
import { settleAsHeld } from "./settle-as-held.ts";

/** Returns how many there were. */
export function recover(ledger: SqliteLedger): number {
  const { database, rollups, sealedEnd } = ledger;
  const markAsWork = database.prepare("UPDATE reservations SET work_id = ? WHERE attempt_id = ?");
  const open = answerFrom(database, askRows(reservations, isNull(reservations.workId)));
  if (open.length === 0) return 0;
  database
    .transaction(() => {
      for (const row of open) {
        // A day that was sealed under a clock that was ahead takes it as it takes late work: with a record of its own.
        if (row.attemptId < sealedEnd) markAsWork.run(`lost:${row.attemptId}`, row.attemptId);
        settleAsHeld(ledger, row, "crash");
      }
      rollups.flush();
    })
    .immediate();
  return open.length;
}
