// Suspend: the work of an attempt goes on at its provider. Its reservation stays open under the provider's id of the
// work. One charge for one id of the provider, for ever: who brought the name first stands for the work.
import type { Booker, Ledger } from "./ledger.ts";
import { prove } from "./prove.ts";

export function bookSuspend(ledger: Ledger): Booker<"suspend"> {
  return ({ attemptId, workId, tiers, proven }) => {
    const holder = ledger.book.holder(attemptId);
    if (!holder) throw new Error(`attempt ${attemptId} holds no reservation that could stay open`);
    const isFirst = ledger.entries.suspend(holder, workId, tiers);
    if (proven) prove(ledger, holder, proven);
    return { type: "suspended", isFirst };
  };
}
