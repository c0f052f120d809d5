// The proof that memory is what the books say. Finds nothing, always. In slices, for each sum is read anew: requests are
// booked between two of them.
import { answerFrom } from "../../asking.ts";
import { OTHER_MEMBERS, ruleOf } from "../../budgets.ts";
import { askMembers, askSettled } from "../budget-spend.ts";
import type { Part } from "../reservations.ts";
import type { Booker, SqliteLedger } from "./ledger.ts";

/** Sums that are read from the books in one transaction: a few milliseconds. */
const SLICE = 2;

/** Settled money, budget by budget in all its windows that are in memory (of a rule all members of a window at once), and the
 *  attempts that hold some. */
export function answerVerify(ledger: SqliteLedger): Booker<"verify"> {
  return ({ after }) => {
    const { book, database, rollups } = ledger;
    // What this very batch has settled is in memory already.
    rollups.flush();
    const rest = [...Map.groupBy(book.parts(), ({ budget, window }) => `${budget.ruleId ?? budget.id}\n${window.id}`)]
      .map(([name, parts]) => ({ name, parts }))
      .filter(({ name }) => name > after)
      .toSorted((one, other) => (one.name < other.name ? -1 : 1));
    const slice = rest.slice(0, SLICE);
    const differences = slice.flatMap(({ parts }) => differencesOf(ledger, parts));
    const { amount, attempts } = book.reserved();
    const next = rest.length > SLICE ? slice.at(-1)?.name : undefined;
    const rows = Number(database.prepare("SELECT COUNT(*) FROM reservations").pluck().get());
    if (next === undefined && rows !== attempts)
      differences.push(`${attempts} attempts hold money in memory, ${rows} in the books`);
    return { type: "verified", differences, reservedNanoUsd: amount, next };
  };
}

/** Parts of one budget, or of the members of one rule, in one window. */
function differencesOf({ database, budgets }: SqliteLedger, parts: readonly Part[]): string[] {
  const [first] = parts;
  const rule = budgets.find(({ id }) => id === first?.budget.ruleId);
  // All of them: who has a cap of his own was decided by who came first, not by who has spent the most.
  const members = first && rule ? answerFrom(database, askMembers(rule, first.window, undefined, Infinity)) : undefined;
  return parts.flatMap(({ budget, window, settled }) => {
    const { member = "" } = ruleOf(budget.id);
    // What many share is the rest of a rule.
    if (member === OTHER_MEMBERS) return [];
    const folded = members ? (members.get(member) ?? 0n) : answerFrom(database, askSettled(budget, window));
    return folded === settled
      ? []
      : [`budget ${budget.id}, ${window.id}: in memory ${settled}, in the books ${folded} nano-USD`];
  });
}
