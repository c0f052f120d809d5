// Extend: a stream has cost what was held for it, and goes on. More is held, or why not is said and counted.
import { FallsShort } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";
import type { Refusals } from "./refusals.ts";

export function bookExtend(ledger: Ledger, refusals: Refusals): Booker<"extend"> {
  return ({ attemptId, leastNanoUsd, wantedNanoUsd, atMs }) => {
    const holder = ledger.book.holder(attemptId);
    const extension = ledger.book.extend(attemptId, leastNanoUsd, wantedNanoUsd, atMs);
    if (!extension || !holder) throw new Error(`attempt ${attemptId} holds no reservation that could be extended`);
    if ("refusal" in extension && extension.short && ledger.mayWait) throw new FallsShort(extension.short);
    const refusal = "refusal" in extension ? extension.refusal : extension.wouldRefuse;
    const isTried = !("refusal" in extension);
    if (refusal) refusals.count(atMs, holder.keyId, holder.model, "capped", refusal.budget.id, isTried);
    if ("heldNanoUsd" in extension) ledger.entries.extend(attemptId, extension.heldNanoUsd);
    return { type: "extended", extension: "refusal" in extension ? { refusal: extension.refusal } : extension };
  };
}
