// The proof that memory is what the books say. Finds nothing, always.
import { settledIn } from "../budget-spend.ts";
import type { Booker, Ledger } from "./ledger.ts";

export function answerVerify(ledger: Ledger): Booker<"verify"> {
  return ({ atMs }) => ({
    type: "verified",
    differences: differences(ledger, atMs),
    reservedNanoUsd: ledger.book.reserved().amount,
  });
}

/** Settled money, budget by budget in all its windows that are in memory, and the attempts that hold some. */
function differences({ book, database, rollups }: Ledger, atMs: number): string[] {
  // What this very batch has settled is in memory already.
  rollups.flush();
  // Those of now are in memory afterwards.
  book.states(atMs);
  const found = book.sums().flatMap(({ budget, window, settledNanoUsd }) => {
    const folded = settledIn(database, budget, window);
    return folded === settledNanoUsd
      ? []
      : [`budget ${budget.id}, ${window.id}: in memory ${settledNanoUsd}, in the books ${folded} nano-USD`];
  });
  const rows = Number(database.prepare("SELECT COUNT(*) FROM reservations").pluck().get());
  const { attempts } = book.reserved();
  return rows === attempts ? found : [...found, `${attempts} attempts hold money in memory, ${rows} in the books`];
}
