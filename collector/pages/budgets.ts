// Budgets on a page: those that hold for what it shows, and what is left of each.
import { amountAt, covers, describeScope } from "../../ledger/budgets.ts";
import type { Budget, Scope } from "../../ledger/budgets.ts";
import { readAllSettled } from "../../ledger/usage/budget-spend.ts";
import { readBudgets } from "../../ledger/usage/changes.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import { readNames } from "../../ledger/usage/key-use.ts";
import type { Window } from "../../ledger/windows.ts";
import { kindOf } from "../gauges/budgets.ts";
import type { PageContext } from "./builder.ts";
import { share, text, time, usd } from "./page.ts";
import type { Cell, Section } from "./page.ts";

/** Budgets as a table: of those that hold for what is shown, the ones that are nearest their end. */
export async function budgetSection(
  { books, calendar, nowMs, capMode }: PageContext,
  budgets: readonly Budget[],
  question: string,
): Promise<Section> {
  const windowOf = ({ window }: Budget): Window => calendar.window(window, nowMs);
  const names = await readNames(books.usage);
  const settled = await readAllSettled(books.usage, budgets, windowOf);
  const shown = budgets
    .map((budget) => {
      const [amount, cost] = [amountAt(budget, nowMs), settled.get(budget.id) ?? 0n];
      return { budget, amount, cost, used: amount === 0n ? Number(cost > 0n) : Number(cost) / Number(amount) };
    })
    .toSorted((a, b) => b.used - a.used);
  return {
    title: "Budgets",
    question,
    money: "metered",
    table: {
      name: "budgets",
      columns: [
        { field: "scope", title: "For", is: "text" },
        { field: "window", title: "Window", is: "text" },
        { field: "kind", title: "Kind", is: "text" },
        { field: "amount", title: "Amount", is: "usd" },
        { field: "spent", title: "Spent", is: "usd" },
        { field: "left", title: "Left", is: "usd" },
        { field: "used", title: "Used", is: "share" },
        { field: "ends", title: "Ends", is: "time" },
        { field: "budget", title: "Budget", is: "text" },
      ],
      rows: shown
        .slice(0, MOST_BUDGETS)
        .map(({ budget, amount, cost }): Cell[] => [
          text(scopeWords(budget.scope, names)),
          text(budget.window),
          text(kindOf(budget, capMode)),
          usd(amount),
          usd(cost),
          usd(amount - cost),
          share(cost, amount),
          budget.window === "total" ? undefined : time(windowOf(budget).endMs),
          text(budget.id),
        ]),
      empty: "No budget holds here. `keymeter budgets set` makes one.",
    },
    ...(shown.length > MOST_BUDGETS
      ? { notes: [`The ${MOST_BUDGETS} nearest their end of ${shown.length}; \`keymeter budgets list\` has all.`] }
      : {}),
  };
}

/** Budgets that stand in a table, those nearest their end. */
const MOST_BUDGETS = 50;

/** Budgets that hold for a key, on whichever model. */
export async function budgetsOf(
  { books }: PageContext,
  key: Pick<Key, "id" | "team" | "project" | "env" | "user">,
): Promise<Budget[]> {
  return (await readBudgets(books.usage)).filter(({ scope: { provider: _provider, model: _model, ...owner } }) =>
    covers(owner, { ...key, keyId: key.id, provider: "", model: "" }),
  );
}

/** What a budget covers, in words, with the names of key and user. */
export function scopeWords(scope: Scope, names: ReadonlyMap<string, string>): string {
  const { keyId } = scope;
  const named = keyId === undefined ? scope : { ...scope, keyId: names.get(keyId) ?? keyId };
  return describeScope(named, (id) => (id === scope.user ? names.get(id) : undefined));
}
