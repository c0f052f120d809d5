// Whom the caps refused, and what it would take to let them through.
import { readPeople } from "../../ledger/usage/people.ts";
import { amountAt, findBudget } from "../../ledger/budgets.ts";
import type { Budget } from "../../ledger/budgets.ts";
import { readSettled } from "../../ledger/usage/budget-spend.ts";
import { readBudgets } from "../../ledger/usage/changes.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import { formatUsdExact, scale } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readRefused } from "../../ledger/usage/refused.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import type { RefusedRow } from "../../ledger/usage/refused.ts";
import { addDays } from "../../ledger/windows.ts";
import { scopeWords } from "./budgets.ts";
import type { PageContext, Query } from "./builder.ts";
import { chooseDays, spansOf } from "./days.ts";
import { keyLink, teamCell } from "./links.ts";
import { byValue, pricedRequests } from "./sums.ts";
import { count, sum, text, time, usd } from "./page.ts";
import type { Cell, Page, Section } from "./page.ts";

const SPANS = ["1", "7", "28"];
/** Where a request's usual cost is read from. */
const USUAL_DAYS = 28;

export async function refused(context: PageContext, query: Query): Promise<Page> {
  const { books } = context;
  const { tomorrow } = spansOf(context);
  const { since, until, controls, notes } = chooseDays(query, SPANS, "7", tomorrow);
  const { calendar } = context;
  const rows = (await readRefused(books.usage, calendar.dayStart(since), calendar.dayStart(until))).toSorted(
    (a, b) => b.lastMinuteMs - a.lastMinuteMs,
  );
  const usual = byValue(await readSpend(books.usage, ["key"], addDays(tomorrow, -USUAL_DAYS), tomorrow), "key");
  const worth = (row: RefusedRow): NanoUsd | undefined => {
    const known = usual.get(row.keyId);
    const priced = known ? pricedRequests(known) : 0;
    return known && priced > 0 ? scale(known.costNanoUsd, BigInt(row.count), BigInt(priced)) : undefined;
  };
  const keys = new Map((await readKeys(books.usage)).keys.map((key) => [key.id, key]));
  const people = await readPeople(books.usage);
  const names = new Map([...keys].map(([id, { name }]) => [id, name]));
  const table = (list: readonly RefusedRow[], name: string, empty: string): Section["table"] & object => ({
    name,
    columns: [
      { field: "key", title: "Key", is: "text" },
      { field: "team", title: "Team", is: "text" },
      { field: "user", title: "User", is: "text" },
      { field: "reason", title: "Why", is: "text" },
      { field: "budget", title: "Budget", is: "text" },
      { field: "requests", title: "Requests", is: "count" },
      { field: "worth", title: "At its usual cost", is: "usd" },
      { field: "last", title: "Last (minute)", is: "time" },
    ],
    rows: list.map((row): Cell[] => {
      const key = keys.get(row.keyId);
      return [
        text(key?.name ?? row.keyId, keyLink(row.keyId)),
        teamCell(key?.team ?? ""),
        text(people.get(key?.user ?? "") ?? ""),
        text(row.reason.replaceAll("_", " ")),
        text(row.budgetId),
        count(row.count),
        usd(worth(row)),
        time(row.lastMinuteMs),
      ];
    }),
    empty,
  });
  return {
    title: "Refused",
    days: "local",
    controls,
    sections: [
      await whatItTakes(context, rows.filter(isRefusedByBudget), names, worth),
      {
        title: "Who",
        question: "Whom did we refuse, and why?",
        money: "metered",
        table: table(
          rows.filter(({ observed }) => !observed),
          "refused",
          "Nobody was refused.",
        ),
        notes: [
          `At its usual cost: requests times what a request of that key cost on average in the last ${USUAL_DAYS} days.`,
          ...notes,
        ],
      },
      {
        title: "Let through, and counted",
        question: "Whom would budgets that only observe have refused?",
        money: "metered",
        table: table(
          rows.filter(({ observed }) => observed),
          "observed",
          "Nobody.",
        ),
      },
    ],
  };
}

/** A budget that was used up refused it: more money lets it through. What is frozen, unpriced or unbounded takes
 *  another remedy. */
function isRefusedByBudget({ observed, reason }: RefusedRow): boolean {
  return !observed && reason === "budget_exceeded";
}

/** A line a budget: what it has, what it refused in its running window, and the words that raise it. */
async function whatItTakes(
  { books, calendar, nowMs }: PageContext,
  rows: readonly RefusedRow[],
  names: ReadonlyMap<string, string>,
  worth: (row: RefusedRow) => NanoUsd | undefined,
): Promise<Section> {
  const budgets = await readBudgets(books.usage);
  const lines: Cell[][] = [];
  for (const [id, lately] of Map.groupBy(rows, ({ budgetId }) => budgetId)) {
    const budget = findBudget(budgets, id);
    if (!budget) {
      const requests = lately.reduce((all, row) => all + row.count, 0);
      lines.push([text(id), text("removed"), undefined, undefined, count(requests), undefined, undefined, text("")]);
      continue;
    }
    const window = calendar.window(budget.window, nowMs);
    const own =
      budget.window === "total"
        ? lately
        : (await readRefused(books.usage, window.startMs, nowMs + 60_000)).filter(
            (row) => row.budgetId === id && isRefusedByBudget(row),
          );
    const amounts = own.map(worth);
    const needed = amounts.some((one) => one === undefined) ? undefined : sum(amounts.map((one) => one ?? 0n));
    const [amount, settled] = [amountAt(budget, nowMs), await readSettled(books.usage, budget, window)];
    lines.push([
      text(scopeWords(budget.scope, names)),
      text(budget.window),
      usd(amount),
      usd(settled),
      count(own.reduce((all, row) => all + row.count, 0)),
      usd(needed),
      budget.window === "total" ? undefined : time(window.endMs),
      text(remedy(budget, window.endMs, needed, amount - settled)),
    ]);
  }
  return {
    title: "What it would take",
    question: "What would it take to let them through?",
    money: "metered",
    table: {
      name: "raises",
      columns: [
        { field: "scope", title: "Budget for", is: "text" },
        { field: "window", title: "Window", is: "text" },
        { field: "amount", title: "Amount", is: "usd" },
        { field: "spent", title: "Spent", is: "usd" },
        { field: "requests", title: "Refused in this window", is: "count" },
        { field: "worth", title: "At their usual cost", is: "usd" },
        { field: "ends", title: "Ends", is: "time" },
        { field: "command", title: "To let as many through", is: "text" },
      ],
      rows: lines,
      empty: "No budget that was used up refused anything.",
    },
    notes: [
      "Refused requests are counted, not priced: nobody knows what they would have cost. A raise ends by itself; the reason stands in the audit log. What a freeze refused goes through once it is lifted (`keymeter budgets lift`); what no price or bound is known of takes `keymeter prices` or a request that says how long its answer may be.",
    ],
  };
}

/** `left`: of the budget's amount; below nothing where it was overshot. */
function remedy(budget: Budget, endMs: number, needed: NanoUsd | undefined, left: NanoUsd): string {
  const until = budget.window === "total" ? "DAY" : new Date(endMs).toISOString().slice(0, 16).concat("Z");
  const raise = (by: string): string => `keymeter budgets raise ${budget.id} --by ${by} --until ${until} --why WORDS`;
  if (needed === undefined) return raise("USD");
  return needed > left ? raise(inCents(needed - left)) : "nothing: what is left is enough for as many";
}

/** Rounded up to whole cents: one too few refuses again. */
function inCents(amount: NanoUsd): string {
  const cent = 10_000_000n;
  return formatUsdExact(((amount + cent - 1n) / cent) * cent).replace(/0{7}$/, "");
}
