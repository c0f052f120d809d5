// Reserve: an attempt asks for its money. It is held in memory and in a row, or the refusal is counted.
import { attemptAtMs } from "../../ids.ts";
import { refusalFor } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";
import type { Refusals } from "./refusals.ts";

export function bookReserve(ledger: Ledger, refusals: Refusals): Booker<"reserve"> {
  return ({ request, endpoint, tags }) => {
    const { attemptId, subject } = request;
    const { keyId, model } = subject;
    const atMs = attemptAtMs(attemptId);
    const decision = ledger.book.reserve({ ...request, subject: ledger.ownNames({ ...subject, tags }) });
    if ("frozen" in decision) {
      refusals.count(atMs, keyId, model, "frozen", decision.frozen.id);
      return { type: "decision", decision };
    }
    if (decision.admitted) {
      const { wouldRefuse } = decision;
      if (wouldRefuse) refusals.count(atMs, keyId, model, wouldRefuse.reason, wouldRefuse.budget.id, true);
      ledger.entries.hold(request, endpoint, tags);
      return { type: "decision", decision };
    }
    const refusal = refusalFor(ledger, decision.needs) ?? decision.refusal;
    refusals.count(atMs, keyId, model, refusal.reason, refusal.budget.id);
    return { type: "decision", decision: { admitted: false, refusal } };
  };
}
