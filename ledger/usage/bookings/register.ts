// Changes of the register, and corrections: made in the books with their audit record, and then in memory. Only what a
// change touches is read again; corrections move the sums in memory as they move those of the books.
import type { Budget } from "../../budgets.ts";
import { ownersIn, ownNamesOf } from "../budget-spend.ts";
import type { KeyOwner } from "../budget-spend.ts";
import { ChangeRefused } from "../change-refused.ts";
import { applyChange, budgetsIn, freezesIn } from "../changes.ts";
import type { Change } from "../changes.ts";
import { drizzle, eq } from "../../drizzle.ts";
import { attemptAtMs } from "../../ids.ts";
import { readOpenMoves } from "../reassign.ts";
import type { Rollups } from "../rollups.ts";
import { reservations } from "../schema.ts";
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";
import { acceptClock } from "./newest.ts";
import type { SettleAsHeld } from "./settle-as-held.ts";

export function bookChange(ledger: Ledger, settleAsHeld: SettleAsHeld): Booker<"change"> {
  const { database, rollups } = ledger;
  const correcting = alsoInMemory(ledger);

  const closeWork = (workId: string): void => {
    const row = drizzle(database).select().from(reservations).where(eq(reservations.workId, workId)).get();
    if (!row) throw new ChangeRefused(`no work ${workId} is pending; \`keymeter work list\` shows what is`);
    settleAsHeld(row, "upstream_failed");
  };

  return ({ change, author }) => {
    const all = flat(change);
    for (const one of all) if (one.type === "closeWork") closeWork(one.workId);
    const touched = new Set(all.flatMap(touches));
    const before = touched.has("owners") && !ledger.tagsCount ? ownersIn(database) : [];
    rollups.flush();
    applyChange(database, correcting, change, author);
    if (change.type === "acceptClock") acceptClock(database);
    rollups.flush();
    renew(ledger, touched, before);
    return DONE;
  };
}

type Single = Exclude<Change, { type: "together" }>;

function flat(change: Change): Single[] {
  return change.type === "together" ? change.changes.flatMap(flat) : [change];
}

/** Parts of what is in memory. */
type Part = "budgets" | "freezes" | "owners" | "moves";

function touches(change: Single): readonly Part[] {
  switch (change.type) {
    case "setBudget":
    case "removeBudget":
    case "raiseBudget":
    case "endRaise":
      return ["budgets"];
    case "createKey":
      return change.budget ? ["budgets", "owners"] : ["owners"];
    case "describeKey":
      return ["owners"];
    case "freeze":
    case "lift":
      return ["freezes"];
    case "reassign":
      return ["owners", "moves"];
    case "setKeyState":
    case "rotateKey":
    case "setPolicy":
    case "setLimits":
    case "removeLimits":
    case "closeWork":
    case "acceptClock":
    case "adjust":
      return [];
  }
}

function renew(ledger: Ledger, touched: ReadonlySet<Part>, before: readonly KeyOwner[]): void {
  const { database, book, tagsCount } = ledger;
  if (touched.has("moves")) ledger.moves = readOpenMoves(database);
  if (touched.has("freezes")) book.setFreezes(freezesIn(database));
  if (touched.has("budgets")) {
    ledger.budgets = budgetsIn(database);
    book.setBudgets(ledger.budgets);
  }
  if (touched.has("owners") && !tagsCount) {
    ledger.ownNames = ownNamesOf(tagsCount ? undefined : ownersIn(database));
    const known = new Set(before.map((one) => one.join("\n")));
    const gained = ownersIn(database).filter((one) => !known.has(one.join("\n")));
    // What was only a tag's name is the key's own now: it has always counted, then.
    if (gained.length > 0) book.readAgain((budget) => gained.some((one) => mayName(budget, one)));
  }
}

function mayName({ scope }: Budget, [keyId, part, value]: KeyOwner): boolean {
  return scope[part] === value && (scope.keyId ?? keyId) === keyId;
}

/** The rollups, by which corrections reach the sums in memory too. */
function alsoInMemory(ledger: Ledger): Rollups {
  const { rollups } = ledger;
  const correct = (event: Parameters<Rollups["adjust"]>[0], amount: bigint): void =>
    ledger.book.correct(attemptAtMs(event.attemptId), ledger.ownNames(event), amount);
  return {
    ...rollups,
    adjust(event, correction) {
      rollups.adjust(event, correction);
      correct(event, correction.amountNanoUsd);
    },
    move(before, after, corrections) {
      rollups.move(before, after, corrections);
      const amount = before.costNanoUsd + corrections.amountNanoUsd;
      correct(before, -amount);
      correct(after, amount);
    },
  };
}
