// What the bookings share: the writer's connection, and what it keeps in memory beside the books. All of that can be
// read from the books again, and is when a commit failed.
import type { Budget } from "../../budgets.ts";
import { ownersIn, ownNamesOf, settledIn } from "../budget-spend.ts";
import type { OwnNames } from "../budget-spend.ts";
import { budgetsIn, freezesIn } from "../changes.ts";
import { drizzle } from "../../drizzle.ts";
import type { AttemptId } from "../../ids.ts";
import type { Sqlite } from "../../sqlite.ts";
import { readOpenMoves } from "../reassign.ts";
import type { OpenMove } from "../reassign.ts";
import { createReservationBook } from "../reservations.ts";
import type { CapMode, ReservationBook } from "../reservations.ts";
import { createRollups } from "../rollups.ts";
import type { Rollups } from "../rollups.ts";
import { reservations, servedNames } from "../schema.ts";
import { readSealedEnd } from "../seals.ts";
import type { Calendar } from "../../windows.ts";
import type { Answer, Task } from "../wire.ts";

export type Ledger = {
  readonly database: Sqlite;
  readonly calendar: Calendar;
  readonly capMode: CapMode;
  /** Whether what a tag names counts in budgets of that name. */
  readonly tagsCount: boolean;
  readonly rollups: Rollups;
  /** What budgets have spent, and what open attempts hold of them. */
  book: ReservationBook;
  /** Those in force. */
  budgets: readonly Budget[];
  /** What a tag names is no name of the key's own. */
  ownNames: OwnNames;
  /** Keys whose past became another's while attempts of theirs were under way. */
  moves: ReadonlyMap<string, readonly OpenMove[]>;
  /** Below this, only work that went on at a provider brings an event, and the audit says so. */
  sealedEnd: AttemptId;
};

/** How operations of one kind are booked, inside the transaction. */
export type Booker<T extends Task["type"]> = (operation: Extract<Task, { type: T }>) => Answer;

export const DONE: Answer = { type: "done" };

export function openLedger(database: Sqlite, calendar: Calendar, capMode: CapMode, tagsCount: boolean): Ledger {
  const rollups = createRollups(database, calendar);
  rollups.rebuildDaysIfZoneChanged();
  const base = { database, calendar, capMode, tagsCount, rollups };
  return { ...base, ...readMemory(base) };
}

/** Throws away what is in memory: it may say what was never committed. */
export function readAgain(ledger: Ledger): void {
  Object.assign(ledger, readMemory(ledger));
}

type Memory = Pick<Ledger, "book" | "budgets" | "ownNames" | "moves" | "sealedEnd">;

function readMemory(base: Omit<Ledger, keyof Memory>): Memory {
  const { database, tagsCount } = base;
  const ownNames = ownNamesOf(tagsCount ? undefined : ownersIn(database));
  const budgets = budgetsIn(database);
  return {
    ownNames,
    budgets,
    book: readBook(base, budgets, ownNames),
    moves: readOpenMoves(database),
    sealedEnd: readSealedEnd(database),
  };
}

/** The sums as the books have them, with what open attempts hold. */
function readBook(
  { database, calendar, capMode, tagsCount, rollups }: Omit<Ledger, keyof Memory>,
  budgets: readonly Budget[],
  ownNames: OwnNames,
): ReservationBook {
  const book = createReservationBook(calendar, capMode, (budget, window) => {
    // What this transaction has added up so far belongs to what is read.
    rollups.flush();
    return settledIn(database, budget, window, tagsCount);
  });
  book.setBudgets(budgets);
  book.setFreezes(freezesIn(database));
  for (const { provider, requestedModel, servedModel } of drizzle(database).select().from(servedNames).all())
    book.learnServedName(provider, requestedModel, servedModel);
  for (const row of drizzle(database).select().from(reservations).all()) {
    book.carry({
      attemptId: row.attemptId,
      subject: ownNames({ ...row, model: row.requestedModel }),
      boundNanoUsd: row.boundNanoUsd ?? undefined,
      expectedNanoUsd: row.expectedNanoUsd ?? undefined,
      mostNanoUsd: row.mostNanoUsd ?? undefined,
    });
  }
  return book;
}
