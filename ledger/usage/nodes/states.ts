// What budgets have, over all nodes; and the proof that a node's memory is what the books say, and that the parts of all
// nodes are the fold over the books.
import { answerIn, ask, askValue } from "../../asking.ts";
import type { UsageBooks } from "../../books.ts";
import { amountAt, isOverridden, memberBudget, MOST_MEMBERS, placesOf } from "../../budgets.ts";
import type { BudgetState, Caller } from "../../budgets.ts";
import { snapshotOf } from "../../engine.ts";
import type { NanoUsd } from "../../money.ts";
import { askMembers, askSettled } from "../budget-spend.ts";
import type { Answer } from "../wire.ts";
import type { NodeLedger } from "./ledger.ts";
import { windowsAround } from "./memory.ts";

/** Sums of budgets over all nodes, in their windows of an instant. */
export async function statesOf(
  books: UsageBooks,
  { book, ownNames, calendar }: NodeLedger,
  atMs: number,
  caller: Caller | undefined,
): Promise<Answer> {
  const budgets = book.holding(caller && ownNames(caller));
  const windows = budgets.map((budget) => calendar.window(budget.window, atMs));
  const sums = await readSums(books, [...new Set(windows.map(({ id }) => id))]);
  const states = budgets.map((budget, i): BudgetState => {
    const window = windows[i] ?? calendar.window(budget.window, atMs);
    const { settled = 0n, held = 0n } = sums.get(`${budget.id}\n${window.id}`) ?? {};
    return {
      budget,
      window,
      amountNanoUsd: amountAt(budget, atMs),
      settledNanoUsd: settled,
      reservedNanoUsd: held,
    };
  });
  return { type: "states", states };
}

async function readSums(
  books: UsageBooks,
  windowIds: readonly string[],
): Promise<Map<string, { readonly settled: NanoUsd; readonly held: NanoUsd }>> {
  if (windowIds.length === 0) return new Map();
  const rows = await answerIn(
    books,
    ask<[string, string, bigint, bigint]>(
      `SELECT budget_id, window_id, SUM(settled_nano_usd), SUM(held_nano_usd) FROM escrow
      WHERE window_id IN (${windowIds.map(() => "?").join(", ")}) GROUP BY budget_id, window_id`,
      ...windowIds,
    ),
  );
  return new Map(rows.map(([budgetId, windowId, settled, held]) => [`${budgetId}\n${windowId}`, { settled, held }]));
}

/** Memory against the node's parts, and those of all nodes against the fold over the books, as of one instant. */
export async function proveParts(books: UsageBooks, ledger: NodeLedger, node: number, nowMs: number): Promise<Answer> {
  const { book, calendar, memory, tagsCount } = ledger;
  const differences: string[] = [];
  await snapshotOf(books, async (own) => {
    const windowIds = windowsAround(calendar, nowMs);
    const sums = await readSums(own, windowIds);
    const compare = (budgetId: string, windowId: string, settled: NanoUsd): void => {
      const kept = sums.get(`${budgetId}\n${windowId}`)?.settled ?? 0n;
      if (settled !== kept)
        differences.push(`budget ${budgetId}, ${windowId}: by its parts ${kept}, in the books ${settled} nano-USD`);
    };
    const places = placesOf(memory.budgets);
    for (const budget of memory.budgets) {
      const window = calendar.window(budget.window, nowMs);
      if (budget.each === undefined) {
        compare(budget.id, window.id, await answerIn(own, askSettled(budget, window, tagsCount)));
        continue;
      }
      const members = [...(await answerIn(own, askMembers(budget, window, tagsCount, Infinity)))]
        .map(([member, settled]) => ({ cap: memberBudget(budget, member), settled }))
        .filter(({ cap }) => !isOverridden(cap, places));
      if (members.length <= MOST_MEMBERS) {
        for (const { cap, settled } of members) compare(cap.id, window.id, settled);
        continue;
      }
      // Beyond the most each node has first members of its own: only together are they what the books say.
      const all = members.reduce((sum, { settled }) => sum + settled, 0n);
      const kept = [...sums].reduce(
        (sum, [name, { settled }]) =>
          name.startsWith(`${budget.id}/`) && name.endsWith(`\n${window.id}`) ? sum + settled : sum,
        0n,
      );
      if (all !== kept)
        differences.push(`all of ${budget.id}, ${window.id}: by their parts ${kept}, in the books ${all} nano-USD`);
    }
    // Of windows that are long over a node knows what it has added.
    for (const part of book.parts().filter(({ window, share }) => share && windowIds.includes(window.id))) {
      const rows = await answerIn(
        own,
        ask<[bigint, bigint]>(
          "SELECT settled_nano_usd, held_nano_usd FROM escrow WHERE budget_id = ? AND window_id = ? AND node = ?",
          part.budget.id,
          part.window.id,
          node,
        ),
      );
      const [settled, held] = rows[0] ?? [0n, 0n];
      if (settled !== part.settled || held !== part.reserved)
        differences.push(
          `budget ${part.budget.id}, ${part.window.id}: in memory ${part.settled} and ${part.reserved} held, in the books ${settled} and ${held}`,
        );
    }
    const rows = await answerIn(own, askValue<bigint>("SELECT COUNT(*) FROM reservations WHERE node = ?", node));
    const { attempts } = book.reserved();
    if (Number(rows) !== attempts)
      differences.push(`${attempts} attempts are open in memory, ${String(rows)} in the books`);
  });
  const reservedNanoUsd = await answerIn(
    books,
    askValue<bigint | null>("SELECT SUM(COALESCE(expected_nano_usd, bound_nano_usd)) FROM reservations"),
  );
  return { type: "verified", differences, reservedNanoUsd: reservedNanoUsd ?? 0n, next: undefined };
}
