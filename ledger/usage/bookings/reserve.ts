// Reserve: an attempt asks for its money. It is held in memory and in a row, or the refusal is counted.
import { attemptAtMs } from "../../ids.ts";
import type { Booker, Ledger } from "./ledger.ts";
import type { Refusals } from "./refusals.ts";

export function bookReserve(ledger: Ledger, refusals: Refusals): Booker<"reserve"> {
  const insert = ledger.database.prepare(
    "INSERT INTO reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd, expected_nano_usd, most_nano_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
  );
  return ({ request, endpoint, tags }) => {
    const { attemptId, subject } = request;
    const { keyId, provider, model, team, project, env } = subject;
    const atMs = attemptAtMs(attemptId);
    const decision = ledger.book.reserve({ ...request, subject: ledger.ownNames(subject) });
    if ("frozen" in decision) {
      refusals.count(atMs, keyId, model, "frozen", decision.frozen.id);
      return { type: "decision", decision };
    }
    const refusal = decision.admitted ? decision.wouldRefuse : decision.refusal;
    if (refusal) refusals.count(atMs, keyId, model, refusal.reason, refusal.budget.id, decision.admitted);
    if (decision.admitted) {
      const { boundNanoUsd = null, expectedNanoUsd = null, mostNanoUsd = null } = request;
      const who = [attemptId, keyId, provider, endpoint, model, team, project, env, tags];
      insert.run(...who, boundNanoUsd, expectedNanoUsd, mostNanoUsd);
    }
    return { type: "decision", decision };
  };
}
