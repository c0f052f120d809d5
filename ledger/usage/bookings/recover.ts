// Recover: open reservations of a process that died become events, marked as its crash. Those of work that goes on at
// the provider stay open.
import { drizzle, isNull } from "../../drizzle.ts";
import { reservations } from "../schema.ts";
import type { Ledger } from "./ledger.ts";
import type { SettleAsHeld } from "./settle-as-held.ts";

/** Returns how many there were. */
export function recover({ database, rollups, sealedEnd }: Ledger, settleAsHeld: SettleAsHeld): number {
  const markAsWork = database.prepare("UPDATE reservations SET work_id = ? WHERE attempt_id = ?");
  const open = drizzle(database).select().from(reservations).where(isNull(reservations.workId)).all();
  if (open.length === 0) return 0;
  database
    .transaction(() => {
      for (const row of open) {
        // A day that was sealed under a clock that was ahead takes it as it takes late work: with a record of its own.
        if (row.attemptId < sealedEnd) markAsWork.run(`lost:${row.attemptId}`, row.attemptId);
        settleAsHeld(row, "crash");
      }
      rollups.flush();
    })
    .immediate();
  return open.length;
}
