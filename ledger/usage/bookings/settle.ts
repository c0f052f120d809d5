// Settle: an attempt has ended. Its event is written, its hold let go, and what it cost is in all sums, in memory and
// in the books.
import { INSERT_EVENT } from "../event-columns.ts";
import type { EventRow } from "../event-columns.ts";
import { endedAtMs, readBooked, withOwner } from "../events.ts";
import { movedOwner } from "../reassign.ts";
import { recordLate } from "../seals.ts";
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";
import { createProver } from "./prove.ts";

export type Settle = (row: EventRow) => void;

export function createSettle(ledger: Ledger): Settle {
  const { database, rollups } = ledger;
  const insertEvent = database.prepare(INSERT_EVENT);
  const deleteReservation = database.prepare("DELETE FROM reservations WHERE attempt_id = ?");
  const rememberServedName = database.prepare(
    "INSERT INTO served_names (provider, requested_model, served_model) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET served_model = excluded.served_model",
  );
  return (asked) => {
    // What was under way when its key's past became another's is booked as theirs.
    const row = withOwner(asked, movedOwner(ledger.moves, readBooked(asked)));
    const booked = readBooked(row);
    // Memory first: a window's sum that is read from the books here must not hold this event yet.
    ledger.book.settle(booked.attemptId, booked.costNanoUsd, ledger.ownNames(booked));
    insertEvent.run(...row);
    if (booked.attemptId < ledger.sealedEnd) recordLate(database, booked.attemptId, endedAtMs(row));
    deleteReservation.run(booked.attemptId);
    rollups.add(booked);
    const { provider, model, servedModel } = booked;
    if (ledger.book.learnServedName(provider, model, servedModel)) rememberServedName.run(provider, model, servedModel);
  };
}

export function bookSettle(ledger: Ledger, settle: Settle): Booker<"settle"> {
  const { prove } = createProver(ledger);
  return ({ row, proven }) => {
    if (proven) prove(readBooked(row), proven);
    settle(row);
    return DONE;
  };
}
