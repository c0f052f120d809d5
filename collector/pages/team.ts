// One team: what it costs, which keys and models, which budgets hold for it. And the list of all.
import { readSpend } from "../../ledger/spend.ts";
import { readBudgets } from "../../ledger/changes.ts";
import { readKeys } from "../../ledger/keys.ts";
import { addDays } from "../../ledger/windows.ts";
import {
  budgetSection,
  byValue,
  forecastFigures,
  modelsSection,
  monthChart,
  readForecast,
  readTotal,
  spansOf,
  teamCell,
} from "./context.ts";
import type { PageContext, Query } from "./context.ts";
import { keysTable } from "./keys.ts";
import { change, count, sum, text, usd } from "./page.ts";
import type { Cell, Page } from "./page.ts";

const KNOWN_DAYS = 400;

export async function teams(context: PageContext): Promise<Page> {
  const { usage } = context.books;
  const { today, tomorrow, month } = spansOf(context);
  const read = async (since: string, until: string): Promise<ReturnType<typeof byValue>> =>
    byValue(await readSpend(usage, ["team"], since, until), "team");
  const [ofYear, ofMonth, ofDay] = [
    await read(addDays(tomorrow, -KNOWN_DAYS), tomorrow),
    await read(month.firstDay, month.endDay),
    await read(today, tomorrow),
  ];
  const keysOf = Map.groupBy((await readKeys(usage)).keys, ({ team }) => team);
  const names = [...new Set([...ofYear.keys(), ...keysOf.keys()])].toSorted((a, b) =>
    Number((ofMonth.get(b)?.costNanoUsd ?? 0n) - (ofMonth.get(a)?.costNanoUsd ?? 0n)),
  );
  const forecasts = new Map<string, Cell>();
  for (const name of names)
    forecasts.set(name, usd((await readForecast(context, { scope: "team", id: name }, "month"))?.p50NanoUsd));
  return {
    title: "Teams",
    focus: { since: month.firstDay, until: month.endDay },
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
            { field: "forecast", title: "Forecast for the month", is: "usd" },
            { field: "requests", title: "Requests this month", is: "count" },
          ],
          rows: names.map((name): Cell[] => [
            teamCell(name),
            count(keysOf.get(name)?.length ?? 0),
            usd(ofDay.get(name)?.costNanoUsd ?? 0n),
            usd(ofMonth.get(name)?.costNanoUsd ?? 0n),
            forecasts.get(name),
            count(ofMonth.get(name)?.requests ?? 0),
          ]),
          total: [
            text("All"),
            count(names.reduce((all, name) => all + (keysOf.get(name)?.length ?? 0), 0)),
            usd(sum([...ofDay.values()].map((row) => row.costNanoUsd))),
            usd(sum([...ofMonth.values()].map((row) => row.costNanoUsd))),
            // Quantiles of parts do not add up to that of the whole.
            text(""),
            count([...ofMonth.values()].reduce((all, row) => all + row.requests, 0)),
          ],
          empty: "No team has used a key yet.",
        },
      },
    ],
  };
}

export async function team(context: PageContext, { id = "" }: Query): Promise<Page | undefined> {
  const { books } = context;
  const { today, tomorrow, month } = spansOf(context);
  const within = { team: id };
  const isKnown =
    (await readSpend(books.usage, [], addDays(tomorrow, -KNOWN_DAYS), tomorrow, within)).length > 0 ||
    (await readKeys(books.usage)).keys.some((key) => key.team === id) ||
    readBudgets(books.usage).some(({ scope }) => scope.team === id);
  if (!isKnown) return undefined;
  const forecast = await readForecast(context, { scope: "team", id }, "month");
  const [week, before] = [
    await readTotal(context, addDays(today, -7), today, within),
    await readTotal(context, addDays(today, -14), addDays(today, -7), within),
  ];
  return {
    title: "Team",
    subject: id === "" ? "(no team)" : id,
    focus: { since: month.firstDay, until: month.endDay, team: id },
    sections: [
      {
        title: "This month",
        question: "What will this team's month cost?",
        money: "metered",
        figures: [
          { title: "Today", value: usd(await readTotal(context, today, tomorrow, within)), money: "metered" },
          {
            title: "This month so far",
            value: usd(await readTotal(context, month.firstDay, month.endDay, within)),
            money: "metered",
          },
          ...forecastFigures(forecast, "month"),
          { title: "Last 7 days", value: usd(week), money: "metered" },
          { title: "More than the 7 before", value: change(week - before), money: "metered" },
        ],
        chart: await monthChart(context, { scope: "team", id }, forecast, "This month against its forecast"),
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
      budgetSection(
        context,
        readBudgets(books.usage).filter(
          ({ scope }) => scope.team === id || Object.values(scope).every((one) => one === undefined),
        ),
        "Which budgets hold for this team?",
      ),
    ],
  };
}
