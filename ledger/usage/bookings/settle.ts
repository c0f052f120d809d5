// Settle: an attempt has ended. Its event is written, its hold let go, and what it cost is in all sums, in memory and
// in the books.
import type { EventRow } from "../event-columns.ts";
import { readBooked, withOwner } from "../events.ts";
import { movedOwner } from "../reassign.ts";
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";
import { prove } from "./prove.ts";

export function settle(ledger: Ledger, asked: EventRow): void {
  // What was under way when its key's past became another's is booked as theirs.
  const row = withOwner(asked, movedOwner(ledger.moves, readBooked(asked)));
  const booked = readBooked(row);
  // Memory first: a window's sum that is read from the books here must not hold this event yet.
  ledger.book.settle(booked.attemptId, booked.costNanoUsd, ledger.ownNames(booked));
  ledger.entries.event(row, booked.attemptId, booked.attemptId < ledger.sealedEnd);
  ledger.rollups.add(booked);
  const { provider, model, servedModel } = booked;
  if (ledger.book.learnServedName(provider, model, servedModel))
    ledger.entries.servedName(provider, model, servedModel);
}

export function bookSettle(ledger: Ledger): Booker<"settle"> {
  return ({ row, proven }) => {
    if (proven) prove(ledger, readBooked(row), proven);
    settle(ledger, row);
    return DONE;
  };
}
