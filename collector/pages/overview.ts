// Overview: what this month costs and how sure that is, who spends it, whether the bills agree, and whom the caps refuse.
import { drawDays } from "../../charts/days.ts";
import { readBudgets } from "../../ledger/changes.ts";
import { readScores, recordOf } from "../../ledger/forecasts.ts";
import { formatUsd, toUsdNumber } from "../../ledger/money.ts";
import { readRefused, readSpend } from "../../ledger/spend.ts";
import { addDays } from "../../ledger/windows.ts";
import { agreementSection } from "./bills.ts";
import {
  budgetSection,
  byValue,
  forecastFigures,
  monthChart,
  readForecast,
  readTotal,
  spansOf,
  teamCell,
} from "./context.ts";
import type { PageContext } from "./context.ts";
import { change, count, share, sum, text, usd } from "./page.ts";
import type { Chart, Page, Section } from "./page.ts";

const ORG = { scope: "org", id: "all" } as const;
const SCORED_MS = 28 * 86_400_000;
const REFUSED_MS = 7 * 86_400_000;
const CHART_DAYS = 60;

export async function overview(context: PageContext): Promise<Page> {
  const { books, nowMs } = context;
  const { today, tomorrow, month } = spansOf(context);
  const forecast = await readForecast(context, ORG, "month");
  const lastMonth = addDays(month.firstDay, -1).slice(0, 7);
  return {
    title: "Overview",
    focus: { since: month.firstDay, until: tomorrow },
    sections: [
      {
        title: "This month",
        question: "What will this month cost, and how sure is it?",
        money: "metered",
        figures: [
          { title: "Today", value: usd(await readTotal(context, today, tomorrow)), money: "metered" },
          {
            title: "This month so far",
            value: usd(await readTotal(context, month.firstDay, month.endDay)),
            money: "metered",
          },
          ...forecastFigures(forecast, "month"),
          {
            title: `Last month (${lastMonth})`,
            value: usd(await readTotal(context, `${lastMonth}-01`, month.firstDay)),
            money: "metered",
          },
        ],
        chart: await monthChart(context, ORG, forecast, "This month against its forecast"),
        notes: [await howSure(context)],
      },
      await teams(context),
      await agreementSection(context),
      await refusedSection(context),
      budgetSection(context, readBudgets(books.usage), "Which budgets are near their end?"),
      {
        title: "Day by day",
        question: "Which days were dear, and at which provider?",
        money: "metered",
        chart: await daysChart(context, addDays(tomorrow, -CHART_DAYS), tomorrow),
        table: await daysTable(context, addDays(tomorrow, -CHART_DAYS), tomorrow),
      },
    ],
  };

  async function refusedSection({ calendar }: PageContext): Promise<Section> {
    const refused = (await readRefused(books.usage, nowMs - REFUSED_MS, nowMs + 60_000)).filter(
      ({ observed, budgetId }) => !observed && budgetId !== "",
    );
    const requests = refused.reduce((all, row) => all + row.count, 0);
    return {
      title: "Refused",
      question: "Whom did the cap refuse in the last seven days?",
      money: "none",
      figures: [
        { title: "Requests refused by a budget", value: count(requests), money: "none" },
        { title: "Keys", value: count(new Set(refused.map(({ keyId }) => keyId)).size), money: "none" },
        {
          title: "Who, and what it would take",
          value: text("Refused", { page: "refused" }),
          money: "none",
          note: `Since ${calendar.day(nowMs - REFUSED_MS)}.`,
        },
      ],
    };
  }
}

/** How good forecasts of whole days were. */
async function howSure({ books, nowMs }: PageContext): Promise<string> {
  const scores = (await readScores(books.billing, nowMs - SCORED_MS)).filter(
    ({ scope, window }) => scope === "org" && window === "day",
  );
  const record = recordOf(scores);
  if (!record) return "No forecast has been held against what came of it yet; the first is, an hour after a day's end.";
  const percent = (part: number): string => `${Math.round(part * 100)} %`;
  const leaning =
    Math.abs(record.bias) < 0.02
      ? "neither too high nor too low"
      : `${percent(Math.abs(record.bias))} too ${record.bias > 0 ? "high" : "low"} on the whole`;
  return `How sure: of the last ${record.windows} days that were forecast, ${percent(record.coverage)} lay in their band (80 % should); forecasts were ${percent(record.error)} off, ${leaning}.`;
}

/** Teams of this month; also those that spent nothing in it and did in the weeks before. */
async function teams(context: PageContext): Promise<Section> {
  const { usage } = context.books;
  const { today, tomorrow, month } = spansOf(context);
  const read = async (since: string, until: string): Promise<ReturnType<typeof byValue>> =>
    byValue(await readSpend(usage, ["team"], since, until), "team");
  const [ofMonth, ofDay, ofWeek, before] = [
    await read(month.firstDay, month.endDay),
    await read(today, tomorrow),
    await read(addDays(today, -7), today),
    await read(addDays(today, -14), addDays(today, -7)),
  ];
  const names = [...new Set([...ofMonth.keys(), ...ofWeek.keys(), ...before.keys()])];
  const cost = (map: typeof ofMonth, name: string): bigint => map.get(name)?.costNanoUsd ?? 0n;
  const sorted = names.toSorted((a, b) => Number(cost(ofMonth, b) - cost(ofMonth, a)));
  const all = sum(names.map((name) => cost(ofMonth, name)));
  return {
    title: "Teams",
    question: "Who spends it, and who spends more than the week before?",
    money: "metered",
    table: {
      name: "teams",
      columns: [
        { field: "team", title: "Team", is: "text" },
        { field: "today", title: "Today", is: "usd" },
        { field: "month", title: "This month", is: "usd" },
        { field: "part", title: "Part of it", is: "share" },
        { field: "lastSevenDays", title: "Last 7 days", is: "usd" },
        { field: "more", title: "More than the 7 before", is: "usd" },
      ],
      rows: sorted.map((name) => [
        teamCell(name),
        usd(cost(ofDay, name)),
        usd(cost(ofMonth, name)),
        share(cost(ofMonth, name), all),
        usd(cost(ofWeek, name)),
        change(cost(ofWeek, name) - cost(before, name)),
      ]),
      total: [
        text("All"),
        usd(sum(names.map((name) => cost(ofDay, name)))),
        usd(all),
        share(all, all),
        usd(sum(names.map((name) => cost(ofWeek, name)))),
        change(sum(names.map((name) => cost(ofWeek, name) - cost(before, name)))),
      ],
      empty: "Nothing has been metered yet. Point an SDK at the proxy, and its spend stands here within a minute.",
    },
    notes: ["The last 7 days are whole days up to yesterday."],
  };
}

async function daysChart({ books }: PageContext, since: string, until: string): Promise<Chart | undefined> {
  const rows = await readSpend(books.usage, ["day", "provider"], since, until);
  if (rows.length === 0) return undefined;
  const days: string[] = [];
  for (let day = since; day < until; day = addDays(day, 1)) days.push(day);
  const cost = new Map(rows.map((row) => [`${row.group.day} ${row.group.provider}`, toUsdNumber(row.costNanoUsd)]));
  const providers = [...new Set(rows.map((row) => row.group.provider ?? ""))];
  const svg = await drawDays({
    days,
    series: providers.map((name) => ({ name, values: days.map((day) => cost.get(`${day} ${name}`) ?? 0) })),
  });
  const most = rows.toSorted((a, b) => Number(b.costNanoUsd - a.costNanoUsd))[0];
  return {
    svg,
    label: `Metered spend by day and provider since ${since}. The dearest: ${most?.group.day} at ${most?.group.provider}, ${formatUsd(most?.costNanoUsd ?? 0n)} USD. The table below has each day.`,
  };
}

async function daysTable({ books }: PageContext, since: string, until: string): Promise<Section["table"] & object> {
  const rows = (await readSpend(books.usage, ["day"], since, until)).toSorted((a, b) =>
    (b.group.day ?? "").localeCompare(a.group.day ?? ""),
  );
  return {
    name: "days",
    isFolded: true,
    columns: [
      { field: "day", title: "Day", is: "text" },
      { field: "requests", title: "Requests", is: "count" },
      { field: "cost", title: "Cost", is: "usd" },
      { field: "unpriced", title: "Without a price", is: "count" },
      { field: "estimated", title: "Estimated", is: "count" },
    ],
    rows: rows.map((row) => [
      text(row.group.day ?? ""),
      count(row.requests),
      usd(row.costNanoUsd),
      count(row.unpriced),
      count(row.estimated + row.unknown),
    ]),
    total: [
      text("All"),
      count(rows.reduce((all, row) => all + row.requests, 0)),
      usd(sum(rows.map((row) => row.costNanoUsd))),
      count(rows.reduce((all, row) => all + row.unpriced, 0)),
      count(rows.reduce((all, row) => all + row.estimated + row.unknown, 0)),
    ],
    empty: "Nothing was metered in these days.",
  };
}
