// One team: what it costs, which keys and models, which budgets hold for it. And the list of all.
import { readBudgets } from "../../ledger/usage/changes.ts";
import { UNPROVEN_KEY_ID } from "../../ledger/usage/keys.ts";
import { onlyTeamOf } from "../../ledger/usage/seen.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { addDays } from "../../ledger/windows.ts";
import { budgetSection } from "./budgets.ts";
import type { PageContext, Query } from "./builder.ts";
import { spansOf } from "./days.ts";
import { readLately } from "./lately.ts";
import { teamCell } from "./links.ts";
import { modelsSection } from "./model-table.ts";
import { monthChart, outlookFigures, readOutlook } from "./outlook.ts";
import { byCost, leftOut, readTotal, spent, sumUp } from "./sums.ts";
import { landingOf, readRests } from "../../ledger/billing/landings.ts";
import { keysTable } from "./keys.ts";
import { count, text, usd } from "./page.ts";
import type { Cell, Page } from "./page.ts";

/** A team that has neither a key nor a budget left is found by what it spent. */
const KNOWN_DAYS = 400;

export async function teams(context: PageContext): Promise<Page> {
  const { month: span } = spansOf(context);
  const { month, today, week, weekBefore } = await readLately(context, "team");
  const registered = (await readKeys(context.books.usage)).keys.filter(({ id }) => id !== UNPROVEN_KEY_ID);
  const keysOf = Map.groupBy(registered, ({ team }) => team);
  const names = [...new Set([...month.keys(), ...week.keys(), ...weekBefore.keys(), ...keysOf.keys()])].toSorted(
    byCost(month),
  );
  const rests = new Map(
    (await readRests(context.books, context.nowMs, { scope: "team", window: "month" })).map((one) => [one.id, one]),
  );
  const landing = (name: string): Cell => {
    const rest = rests.get(name);
    return rest && rest.method !== "learning"
      ? usd(landingOf(rest, month.get(name)?.costNanoUsd ?? 0n, context.nowMs).p50NanoUsd)
      : undefined;
  };
  return {
    title: "Teams",
    days: "local",
    focus: { since: span.firstDay, until: span.endDay },
    sections: [
      {
        title: "Teams",
        question: "What does each team spend, and where does its month end?",
        money: "metered",
        table: {
          name: "teams",
          columns: [
            { field: "team", title: "Team", is: "text" },
            { field: "keys", title: "Keys", is: "count" },
            { field: "today", title: "Today", is: "usd" },
            { field: "month", title: "This month", is: "usd" },
            { field: "landsAt", title: "Lands at", is: "usd" },
            { field: "requests", title: "Requests this month", is: "count" },
          ],
          rows: names.map((name): Cell[] => [
            teamCell(name),
            count(keysOf.get(name)?.length ?? 0),
            spent(today.get(name)),
            spent(month.get(name)),
            landing(name),
            count(month.get(name)?.requests ?? 0),
          ]),
          total: [
            text("All"),
            count(names.reduce((all, name) => all + (keysOf.get(name)?.length ?? 0), 0)),
            spent(sumUp(today.values())),
            spent(sumUp(month.values())),
            // Quantiles of parts do not add up to that of the whole.
            text(""),
            count(sumUp(month.values()).requests),
          ],
          empty: "No team has used a key yet.",
        },
        notes: leftOut(sumUp(month.values()), "this month"),
      },
    ],
  };
}

export async function team(context: PageContext, { id = "" }: Query): Promise<Page | undefined> {
  const { books } = context;
  const { today, tomorrow, month } = spansOf(context);
  const within = { team: id };
  const isKnown =
    (await readKeys(books.usage)).keys.some((key) => key.team === id) ||
    (await readBudgets(books.usage)).some(({ scope }) => scope.team === id) ||
    (await readSpend(books.usage, [], addDays(tomorrow, -KNOWN_DAYS), tomorrow, within)).length > 0;
  if (!isKnown) return undefined;
  const outlook = await readOutlook(context, { scope: "team", id });
  const { week, more } = await readLately(context, "team", within);
  const spentThisMonth = await readTotal(context, month.firstDay, month.endDay, within);
  return {
    title: "Team",
    days: "local",
    subject: id === "" ? "(no team)" : id,
    focus: { since: month.firstDay, until: month.endDay, team: id },
    sections: [
      {
        title: "This month",
        question: "What will this team's month cost?",
        money: "metered",
        figures: [
          { title: "Today", value: spent(await readTotal(context, today, tomorrow, within)), money: "metered" },
          {
            title: "This month so far",
            value: spent(spentThisMonth),
            money: "metered",
          },
          ...outlookFigures(outlook),
          { title: "Last 7 days", value: spent(week.get(id)), money: "metered" },
          { title: "Against the 7 days before", value: more([id]), money: "metered" },
        ],
        chart: await monthChart(context, { scope: "team", id }, outlook),
        notes: leftOut(spentThisMonth, "this month"),
      },
      {
        title: "Keys",
        question: "Which of its keys spend it?",
        money: "metered",
        table: await keysTable(context, within),
      },
      modelsSection(
        await readSpend(books.usage, ["provider", "model"], month.firstDay, month.endDay, within),
        "On which models was it spent this month?",
      ),
      await budgetSection(
        context,
        (await readBudgets(books.usage)).filter(
          ({ scope }) =>
            scope.team === id ||
            (onlyTeamOf(context.holder) === undefined && Object.values(scope).every((one) => one === undefined)),
        ),
        "Which budgets hold for this team?",
      ),
    ],
  };
}
