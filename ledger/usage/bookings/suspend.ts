// Suspend: the work of an attempt goes on at its provider. Its reservation stays open under the provider's id of the
// work.
import { INSERT_THING } from "../things.ts";
import { createHolderReader } from "./holder.ts";
import type { Booker, Ledger } from "./ledger.ts";
import { createProver } from "./prove.ts";

export function bookSuspend(ledger: Ledger): Booker<"suspend"> {
  const holderOf = createHolderReader(ledger);
  const insertThing = ledger.database.prepare(INSERT_THING);
  const suspend = ledger.database.prepare("UPDATE reservations SET work_id = ?, tiers = ? WHERE attempt_id = ?");
  const { prove } = createProver(ledger);
  return ({ attemptId, workId, tiers, proven }) => {
    const holder = holderOf(attemptId);
    if (!holder) throw new Error(`attempt ${attemptId} holds no reservation that could stay open`);
    // One charge for one id of the provider, for ever: who brought the name first stands for the work.
    const isFirst = insertThing.run(holder.provider, workId, holder.keyId, attemptId).changes > 0;
    if (isFirst) suspend.run(workId, tiers.join(","), attemptId);
    if (proven) prove({ ...holder, attemptId }, proven);
    return { type: "suspended", isFirst };
  };
}
