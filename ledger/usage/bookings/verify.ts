// The proof that memory is what the books say. Finds nothing, always. In slices, for each sum is read anew: requests are
// booked between two of them.
import { answerFrom } from "../../asking.ts";
import { OTHER_MEMBERS, ruleOf } from "../../budgets.ts";
import { askSettled } from "../budget-spend.ts";
import type { Booker, SqliteLedger } from "./ledger.ts";

/** Sums that are read from the books in one transaction: a few milliseconds. */
const SLICE = 2;

/** Settled money, budget by budget in all its windows that are in memory, and the attempts that hold some. */
export function answerVerify(ledger: SqliteLedger): Booker<"verify"> {
  return ({ after }) => {
    const { book, database, rollups } = ledger;
    // What this very batch has settled is in memory already.
    rollups.flush();
    const rest = book
      .parts()
      // What many share is the rest of a rule.
      .filter(({ budget }) => ruleOf(budget.id).member !== OTHER_MEMBERS)
      .map((part) => ({ part, name: `${part.budget.id}\n${part.window.id}` }))
      .filter(({ name }) => name > after)
      .toSorted((one, other) => (one.name < other.name ? -1 : 1));
    const slice = rest.slice(0, SLICE);
    const differences = slice.flatMap(({ part: { budget, window, settled } }) => {
      const folded = answerFrom(database, askSettled(budget, window));
      return folded === settled
        ? []
        : [`budget ${budget.id}, ${window.id}: in memory ${settled}, in the books ${folded} nano-USD`];
    });
    const { amount, attempts } = book.reserved();
    const next = rest.length > SLICE ? slice.at(-1)?.name : undefined;
    const rows = Number(database.prepare("SELECT COUNT(*) FROM reservations").pluck().get());
    if (next === undefined && rows !== attempts)
      differences.push(`${attempts} attempts hold money in memory, ${rows} in the books`);
    return { type: "verified", differences, reservedNanoUsd: amount, next };
  };
}
