// Reserve: an attempt asks for its money. It is held in memory and in a row, or the refusal is counted.
import { attemptAtMs } from "../../ids.ts";
import { FallsShort } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";
import type { Refusals } from "./refusals.ts";

export function bookReserve(ledger: Ledger, refusals: Refusals): Booker<"reserve"> {
  return ({ request, endpoint, tags }) => {
    const { attemptId, subject } = request;
    const { keyId, model } = subject;
    const atMs = attemptAtMs(attemptId);
    const decision = ledger.book.reserve({ ...request, subject: ledger.ownNames(subject) });
    if ("frozen" in decision) {
      refusals.count(atMs, keyId, model, "frozen", decision.frozen.id);
      return { type: "decision", decision };
    }
    if (!decision.admitted && decision.short && ledger.mayWait) throw new FallsShort(decision.short);
    const refusal = decision.admitted ? decision.wouldRefuse : decision.refusal;
    if (refusal) refusals.count(atMs, keyId, model, refusal.reason, refusal.budget.id, decision.admitted);
    if (decision.admitted) ledger.entries.hold(request, endpoint, tags);
    return {
      type: "decision",
      decision: "refusal" in decision ? { admitted: false, refusal: decision.refusal } : decision,
    };
  };
}
