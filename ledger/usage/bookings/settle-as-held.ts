// An attempt of which nobody can say more is booked at what is held for it: never as nothing.
import { eventRow } from "../event-columns.ts";
import { attemptAtMs } from "../../ids.ts";
import type { reservations } from "../schema.ts";
import type { Outcome, UsageEvent } from "../usage-event.ts";
import type { Ledger } from "./ledger.ts";
import { noteKey } from "./prove.ts";
import { settle } from "./settle.ts";

export type Reservation = typeof reservations.$inferSelect;

export function settleAsHeld(ledger: Ledger, row: Reservation, outcome: Outcome): void {
  const servedModel = ledger.book.servedName(row.provider, row.requestedModel);
  const subject = ledger.ownNames({ ...row, model: row.requestedModel, servedModel });
  const isStrict = ledger.book.covering(subject).some(({ mode }) => mode === "strict");
  const cost = (isStrict ? row.boundNanoUsd : null) ?? row.expectedNanoUsd ?? undefined;
  const { keyId, provider, attemptId } = row;
  noteKey(ledger, { keyId, provider, name: keyId, hint: "", atMs: attemptAtMs(attemptId) });
  settle(ledger, eventRow(heldEvent(row, servedModel, cost, outcome)));
}

/** Nothing was heard of it: the name it would have answered under is the last one, so that budgets on that name count
 *  it too. */
function heldEvent(
  row: Reservation,
  servedModel: string | undefined,
  costNanoUsd: bigint | undefined,
  outcome: Outcome,
): UsageEvent {
  return {
    attemptId: row.attemptId,
    keyId: row.keyId,
    provider: row.provider,
    endpoint: row.endpoint,
    requestedModel: row.requestedModel,
    team: row.team,
    project: row.project,
    env: row.env,
    user: row.user,
    payer: row.payer,
    seatNanoUsd: row.seatNanoUsd ?? undefined,
    tags: row.tags ?? undefined,
    usage: {},
    usageState: costNanoUsd === undefined ? "unknown" : "estimated",
    usageReason: outcome === "crash" ? "crash" : "not_fetched",
    costNanoUsd,
    costLines: [],
    outcome,
    servedModel,
    tier: undefined,
    reasoning: undefined,
    priceVersion: undefined,
    priceConfidence: costNanoUsd === undefined ? "unpriced" : undefined,
    httpStatus: undefined,
    durationMs: undefined,
    firstByteMs: undefined,
    providerRequestId: undefined,
    responseId: undefined,
    rawUsage: undefined,
  };
}
