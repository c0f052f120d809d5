// Extend: a stream has cost what was held for it, and goes on. More is held, or why not is said and counted.
import { createHolderReader } from "./holder.ts";
import type { Booker, Ledger } from "./ledger.ts";
import type { Refusals } from "./refusals.ts";

export function bookExtend(ledger: Ledger, refusals: Refusals): Booker<"extend"> {
  const holderOf = createHolderReader(ledger);
  const raise = ledger.database.prepare("UPDATE reservations SET expected_nano_usd = ? WHERE attempt_id = ?");
  return ({ attemptId, leastNanoUsd, wantedNanoUsd, atMs }) => {
    const extension = ledger.book.extend(attemptId, leastNanoUsd, wantedNanoUsd, atMs);
    const holder = holderOf(attemptId);
    if (!extension || !holder) throw new Error(`attempt ${attemptId} holds no reservation that could be extended`);
    const refusal = "refusal" in extension ? extension.refusal : extension.wouldRefuse;
    const isTried = !("refusal" in extension);
    if (refusal) refusals.count(atMs, holder.keyId, holder.model, "capped", refusal.budget.id, isTried);
    if ("heldNanoUsd" in extension) raise.run(extension.heldNanoUsd, attemptId);
    return { type: "extended", extension };
  };
}
