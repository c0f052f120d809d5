// What the bookings share: where they write, and what is kept in memory beside the books. All of that can be read from
// the books again, and is when a commit failed.
import { answerFrom, ask, askRows } from "../../asking.ts";
import type { Budget, BudgetRefusal } from "../../budgets.ts";
import { askMembers, askOwners, askSettled, ownNamesOf } from "../budget-spend.ts";
import type { OwnNames } from "../budget-spend.ts";
import { askBudgets, askFreezes } from "../changes.ts";
import type { AttemptId } from "../../ids.ts";
import type { Sqlite } from "../../sqlite.ts";
import { askOpenMoves } from "../reassign.ts";
import type { OpenMove } from "../reassign.ts";
import { createReservationBook } from "../reservations.ts";
import type { CapMode, Need, ReservationBook } from "../reservations.ts";
import { createRollups, rebuildDaysIfZoneChanged } from "../rollups.ts";
import type { Rollups } from "../rollups.ts";
import { reservations, servedNames } from "../schema.ts";
import { askSealedEnd } from "../seals.ts";
import type { NanoUsd } from "../../money.ts";
import type { Calendar, Window } from "../../windows.ts";
import type { Answer, Task } from "../wire.ts";
import type { Entries } from "./entries.ts";
import { createSqliteEntries } from "./sqlite-entries.ts";

export type Ledger = {
  readonly calendar: Calendar;
  readonly capMode: CapMode;
  /** Whether what a tag names counts in budgets of that name. */
  readonly tagsCount: boolean;
  readonly entries: Entries;
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
  /** Keys that have a row. */
  keyIds: Set<string>;
  /** On a node: for which of what it lacks the operation that is booked now is refused; undefined: it waits. */
  givesUp?: (needs: readonly Need[]) => Need | undefined;
};

/** Whether a node refuses for what it lacks, and for which: throws FallsShort while others may still give some back. */
export function refusalFor(ledger: Ledger, needs: readonly Need[] | undefined): BudgetRefusal | undefined {
  if (!needs || !ledger.givesUp) return undefined;
  const vain = ledger.givesUp(needs);
  if (!vain) throw new FallsShort(needs);
  return vain.refusal;
}

/** An attempt needs more than the node was granted: nothing of the operation is booked, until more is. */
export class FallsShort extends Error {
  override readonly name = "FallsShort";
  readonly needs: readonly Need[];
  constructor(needs: readonly Need[]) {
    super("more has to be granted first");
    this.needs = needs;
  }
}

/** The one on SQLite, with its writer's connection. */
export type SqliteLedger = Ledger & { readonly database: Sqlite };

/** How operations of one kind are booked, inside the transaction. */
export type Booker<T extends Task["type"]> = (operation: Extract<Task, { type: T }>) => Answer;

export const DONE: Answer = { type: "done" };

export function openLedger(database: Sqlite, calendar: Calendar, capMode: CapMode, tagsCount: boolean): SqliteLedger {
  rebuildDaysIfZoneChanged(database, calendar);
  const entries = createSqliteEntries(database);
  const rollups = createRollups(calendar, (rows) => entries.sums(rows));
  const base = { database, calendar, capMode, tagsCount, entries, rollups };
  return { ...base, ...readMemory(base) };
}

/** Throws away what is in memory: it may say what was never committed. */
export function readAgain(ledger: SqliteLedger): void {
  Object.assign(ledger, readMemory(ledger));
}

type Memory = Pick<Ledger, "book" | "budgets" | "ownNames" | "moves" | "sealedEnd" | "keyIds">;

function readMemory(base: Omit<SqliteLedger, keyof Memory>): Memory {
  const { database, tagsCount } = base;
  const ownNames = ownNamesOf(tagsCount ? undefined : answerFrom(database, askOwners()));
  const budgets = answerFrom(database, askBudgets());
  return {
    ownNames,
    budgets,
    book: readBook(base, budgets, ownNames),
    moves: answerFrom(database, askOpenMoves()),
    sealedEnd: answerFrom(database, askSealedEnd()),
    keyIds: new Set(answerFrom(database, ask<[string]>("SELECT id FROM keys")).map(([id]) => id)),
  };
}

/** The sums as the books have them, with what open attempts hold. */
function readBook(
  { database, calendar, capMode, tagsCount, rollups }: Omit<SqliteLedger, keyof Memory>,
  budgets: readonly Budget[],
  ownNames: OwnNames,
): ReservationBook {
  const members = (rule: Budget, window: Window): ReadonlyMap<string, NanoUsd> => {
    // What this transaction has added up so far belongs to what is read.
    rollups.flush();
    return answerFrom(database, askMembers(rule, window, tagsCount, Infinity));
  };
  const book = createReservationBook(calendar, capMode, {
    members,
    of(budget, window) {
      rollups.flush();
      return answerFrom(database, askSettled(budget, window, tagsCount));
    },
  });
  book.setBudgets(budgets);
  book.setFreezes(answerFrom(database, askFreezes()));
  for (const { provider, requestedModel, servedModel } of answerFrom(database, askRows(servedNames, undefined)))
    book.learnServedName(provider, requestedModel, servedModel);
  for (const row of answerFrom(database, askRows(reservations, undefined))) {
    book.carry({
      attemptId: row.attemptId,
      subject: ownNames({ ...row, model: row.requestedModel }),
      boundNanoUsd: row.boundNanoUsd ?? undefined,
      expectedNanoUsd: row.expectedNanoUsd ?? undefined,
      mostNanoUsd: row.mostNanoUsd ?? undefined,
      payer: row.payer,
    });
  }
  return book;
}
