// Extend: a stream has cost what was held for it, and goes on. More is held, or why not is said and counted.
import { refusalFor } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";
import type { Refusals } from "./refusals.ts";

export function bookExtend(ledger: Ledger, refusals: Refusals): Booker<"extend"> {
  return ({ attemptId, leastNanoUsd, wantedNanoUsd, atMs }) => {
    const holder = ledger.book.holder(attemptId);
    const extension = ledger.book.extend(attemptId, leastNanoUsd, wantedNanoUsd, atMs);
    if (!extension || !holder) throw new Error(`attempt ${attemptId} holds no reservation that could be extended`);
    const { keyId, model } = holder;
    if ("refusal" in extension) {
      const refusal = refusalFor(ledger, extension.needs) ?? extension.refusal;
      refusals.count(atMs, keyId, model, "capped", refusal.budget.id);
      return { type: "extended", extension: { refusal } };
    }
    const { wouldRefuse, heldNanoUsd } = extension;
    if (wouldRefuse) refusals.count(atMs, keyId, model, "capped", wouldRefuse.budget.id, true);
    ledger.entries.extend(attemptId, heldNanoUsd);
    return { type: "extended", extension };
  };
}
