// Whom the caps refused, and what it would take to let them through.
import { amountAt, describeScope } from "../../ledger/budgets.ts";
import { readBudgets } from "../../ledger/changes.ts";
import { formatUsd, scale } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readKeys } from "../../ledger/keys.ts";
import { readRefused, readSettled, readSpend } from "../../ledger/spend.ts";
import type { RefusedRow } from "../../ledger/spend.ts";
import { addDays } from "../../ledger/windows.ts";
import { byValue, keyLink, spansOf, teamCell } from "./context.ts";
import type { PageContext, Query } from "./context.ts";
import { count, text, time, usd } from "./page.ts";
import type { Cell, Page, Section } from "./page.ts";

const SPANS = ["1", "7", "28"];
const DAY_MS = 86_400_000;
/** Where a request's usual cost is read from. */
const USUAL_DAYS = 28;

export async function refused(context: PageContext, query: Query): Promise<Page> {
  const { books, nowMs } = context;
  const days = Number(SPANS.includes(query["days"] ?? "") ? query["days"] : "7");
  const rows = (await readRefused(books.usage, nowMs - days * DAY_MS, nowMs + 60_000)).toSorted(
    (a, b) => b.lastMinuteMs - a.lastMinuteMs,
  );
  const { tomorrow } = spansOf(context);
  const usual = byValue(await readSpend(books.usage, ["key"], addDays(tomorrow, -USUAL_DAYS), tomorrow), "key");
  const worth = (row: RefusedRow): NanoUsd | undefined => {
    const known = usual.get(row.keyId);
    return known && known.requests > 0
      ? scale(known.costNanoUsd, BigInt(row.count), BigInt(known.requests))
      : undefined;
  };
  const keys = new Map((await readKeys(books.usage)).keys.map((key) => [key.id, key]));
  const table = (list: readonly RefusedRow[], name: string, empty: string): Section["table"] & object => ({
    name,
    columns: [
      { field: "key", title: "Key", is: "text" },
      { field: "team", title: "Team", is: "text" },
      { field: "owner", title: "Owner", is: "text" },
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
        text(key?.owner ?? ""),
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
    controls: [
      {
        name: "days",
        label: "Days",
        value: String(days),
        options: SPANS.map((value) => ({ value, label: `the last ${value}` })),
      },
    ],
    sections: [
      whatItTakes(
        context,
        rows.filter(({ observed }) => !observed),
        worth,
      ),
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

/** A line a budget: what it has, what it refused, and the words that raise it. */
function whatItTakes(
  { books, calendar, nowMs }: PageContext,
  rows: readonly RefusedRow[],
  worth: (row: RefusedRow) => NanoUsd | undefined,
): Section {
  const budgets = new Map(readBudgets(books.usage).map((budget) => [budget.id, budget]));
  const groups = [
    ...Map.groupBy(
      rows.filter(({ budgetId }) => budgetId !== ""),
      ({ budgetId }) => budgetId,
    ),
  ];
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
        { field: "requests", title: "Refused requests", is: "count" },
        { field: "worth", title: "At their usual cost", is: "usd" },
        { field: "ends", title: "Starts anew", is: "time" },
        { field: "command", title: "To let as many through", is: "text" },
      ],
      rows: groups.map(([id, own]): Cell[] => {
        const budget = budgets.get(id);
        const requests = own.reduce((all, row) => all + row.count, 0);
        const amounts = own.map(worth);
        const needed = amounts.every((one) => one !== undefined)
          ? amounts.reduce((all: NanoUsd, one) => all + (one ?? 0n), 0n)
          : undefined;
        if (!budget)
          return [text(id), text("removed"), undefined, undefined, count(requests), usd(needed), undefined, text("")];
        const window = calendar.window(budget.window, nowMs);
        const [amount, spent] = [amountAt(budget, nowMs), readSettled(books.usage, budget, window)];
        const over = spent > amount ? spent - amount : 0n;
        const until = budget.window === "total" ? "DAY" : new Date(window.endMs).toISOString().slice(0, 16).concat("Z");
        return [
          text(describeScope(budget.scope)),
          text(budget.window),
          usd(amount),
          usd(spent),
          count(requests),
          usd(needed),
          budget.window === "total" ? undefined : time(window.endMs),
          text(
            needed === undefined
              ? `keymeter budgets raise ${id} --by USD --until ${until} --why WORDS`
              : `keymeter budgets raise ${id} --by ${inCents(needed + over)} --until ${until} --why WORDS`,
          ),
        ];
      }),
      empty: "No budget refused anything.",
    },
    notes: [
      "Refused requests are counted, not priced: nobody knows what they would have cost. A raise ends by itself; the reason stands in the audit log.",
    ],
  };
}

/** Rounded up to whole cents: one too few refuses again. */
function inCents(amount: NanoUsd): string {
  const cent = 10_000_000n;
  return formatUsd(((amount + cent - 1n) / cent) * cent);
}
