// Changes of the register, and corrections: made in the books with their audit record, and then in memory. Only what a
// change touches is read again; corrections move the sums in memory as they move those of the books.
import { answerFrom, askRows } from "../../asking.ts";
import type { Asking } from "../../asking.ts";
import { splitTag } from "../../budgets.ts";
import type { Budget } from "../../budgets.ts";
import { ANYBODY, askOwners, ownNamesOf } from "../budget-spend.ts";
import type { KeyOwner } from "../budget-spend.ts";
import { ChangeRefused } from "../change-refused.ts";
import { askBudgets, askFreezes } from "../changes.ts";
import { flat } from "../flat.ts";
import type { Single } from "../flat.ts";
import { applyAs, requireMayChange } from "../may-change.ts";
import { eq } from "../../drizzle.ts";
import type { Sqlite } from "../../sqlite.ts";
import { attemptAtMs } from "../../ids.ts";
import { askOpenMoves, dropEmpty } from "../reassign.ts";
import type { Rollups } from "../rollups.ts";
import { reservations } from "../schema.ts";
import { DONE } from "./ledger.ts";
import type { Booker, Ledger, SqliteLedger } from "./ledger.ts";
import { acceptClock } from "./newest.ts";
import { settleAsHeld } from "./settle-as-held.ts";

export function bookChange(ledger: SqliteLedger): Booker<"change"> {
  const { database, rollups } = ledger;
  const answer = <T>(asking: Asking<T>): T => answerFrom(database, asking);
  const correcting = alsoInMemory(ledger);

  const closeWork = (workId: string): void => {
    const [row] = answer(askRows(reservations, eq(reservations.workId, workId)));
    if (!row) throw new ChangeRefused(`no work ${workId} is pending; \`keymeter work list\` shows what is`);
    settleAsHeld(ledger, row, "upstream_failed");
  };

  return ({ change, author }) => {
    const all = flat(change);
    for (const one of all) {
      if (one.type !== "closeWork") continue;
      answer(requireMayChange(author.holder, one, author.actor));
      closeWork(one.workId);
    }
    const touched = new Set(all.flatMap(touches));
    const before = touched.has("owners") && !ledger.tagsCount ? answer(askOwners()) : [];
    rollups.flush();
    const forgets = all.some(({ type }) => type === "forgetUser");
    // What is taken out is on no page from the first write on.
    if (forgets) database.pragma("secure_delete = ON");
    answer(applyAs(correcting, change, author));
    if (change.type === "acceptClock") acceptClock(database);
    if (forgets) wipePeople(database);
    rollups.flush();
    for (const one of all) if (one.type === "reassign") answer(dropEmpty(one));
    for (const one of all) if (one.type === "createKey") ledger.keyIds.add(one.key.id);
    const made = new Set(all.flatMap((one) => (one.type === "createKey" ? [one.key.id] : [])));
    renew(ledger, touched, before, made);
    return DONE;
  };
}

/** Writes the table of people anew: what was taken out of it is on none of its pages any more. */
function wipePeople(database: Sqlite): void {
  const rows = database.prepare("SELECT id, name, folded, created_at_ms FROM people").raw().all() as unknown[][];
  database.exec("DELETE FROM people");
  const insert = database.prepare("INSERT INTO people (id, name, folded, created_at_ms) VALUES (?, ?, ?, ?)");
  for (const row of rows) insert.run(...row);
  database.pragma("secure_delete = OFF");
}

/** Parts of what is in memory. */
export type Part = "budgets" | "freezes" | "owners" | "moves";

export function touches(change: Single): readonly Part[] {
  switch (change.type) {
    case "setBudget":
    case "removeBudget":
    case "raiseBudget":
    case "endRaise":
      return ["budgets"];
    case "createKey":
      return change.budget ? ["budgets", "owners"] : ["owners"];
    case "describeKey":
    case "setPolicy":
      return ["owners"];
    case "freeze":
    case "lift":
      return ["freezes"];
    case "reassign":
      return ["owners", "moves"];
    case "createToken":
    case "revokeToken":
    case "setKeyState":
    case "rotateKey":
    case "endOldSecrets":
    case "nameUser":
    case "forgetUser":
    case "setLimits":
    case "removeLimits":
    case "setSeatPrice":
    case "closeWork":
    case "acceptClock":
    case "rotateCredential":
    case "adjust":
    case "expire":
    case "askRaise":
    case "answerAsk":
      return [];
  }
}

/** `made`: keys that have spent nothing yet. */
function renew(
  ledger: SqliteLedger,
  touched: ReadonlySet<Part>,
  before: readonly KeyOwner[],
  made: ReadonlySet<string>,
): void {
  const { database, book, tagsCount } = ledger;
  if (touched.has("moves")) ledger.moves = answerFrom(database, askOpenMoves());
  if (touched.has("freezes")) book.setFreezes(answerFrom(database, askFreezes()));
  if (touched.has("budgets")) {
    ledger.budgets = answerFrom(database, askBudgets());
    book.setBudgets(ledger.budgets);
  }
  if (touched.has("owners") && !tagsCount) {
    const owners = answerFrom(database, askOwners());
    ledger.ownNames = ownNamesOf(owners);
    const known = new Set(before.map((one) => one.join("\n")));
    const gained = owners.filter((one) => !known.has(one.join("\n")) && !made.has(one[0]));
    // What was only a tag's name is the key's own now: it has always counted, then.
    if (gained.length > 0) book.readAgain((budget) => gained.some((one) => mayName(budget, one)));
  }
}

/** Whether more may count in a budget since a name is a key's own. */
export function mayName({ scope, each }: Budget, [keyId, part, value]: KeyOwner): boolean {
  const isOfEach = part === "tag" ? each === `tag:${splitTag(value)[0]}` : each === part;
  const isNamed = isOfEach || (part === "user" && value === ANYBODY ? scope.user !== undefined : scope[part] === value);
  return isNamed && (scope.keyId ?? keyId) === keyId;
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
