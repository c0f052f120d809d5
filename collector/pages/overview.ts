// Overview: what this month costs and how sure that is, who spends it, whether the bills agree, and whom the caps
// refuse.
import { readBudgets } from "../../ledger/usage/changes.ts";
import { readScores, recordOf } from "../../ledger/billing/forecasts.ts";
import { readRefused } from "../../ledger/usage/refused.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import type { SpendSums } from "../../ledger/usage/spend-sums.ts";
import { readBilledSpend } from "../../ledger/billing/billed-hours.ts";
import { addDays, DAY_MS, utcDay } from "../../ledger/windows.ts";
import { beforeSections, firstDay } from "./before.ts";
import type { SpanOfDays } from "./before.ts";
import { agreementSection, readDays } from "./billed-days.ts";
import { budgetSection } from "./budgets.ts";
import type { PageContext } from "./builder.ts";
import { daysChart } from "./day-chart.ts";
import { spansOf } from "./days.ts";
import { readLately } from "./lately.ts";
import { teamCell } from "./links.ts";
import { monthChart, outlookFigures, readOutlook } from "./outlook.ts";
import { byCost, leftOut, readTotal, spent, sumUp } from "./sums.ts";
import { count, share, sum, text, usd } from "./page.ts";
import type { Cell, Figure, Page, Section, Table } from "./page.ts";

const ORG = { scope: "org", id: "all" } as const;
const SCORED_MS = 28 * DAY_MS;
const REFUSED_MS = 7 * DAY_MS;
const CHART_DAYS = 60;

export async function overview(context: PageContext): Promise<Page> {
  const { books, nowMs } = context;
  const { today, tomorrow, month } = spansOf(context);
  const outlook = await readOutlook(context, ORG);
  const utcToday = utcDay(nowMs);
  return {
    title: "Overview",
    days: "local",
    focus: { since: month.firstDay, until: tomorrow },
    sections: [
      {
        title: "This month",
        question: "What will this month cost, and how sure is it?",
        money: "metered",
        figures: [
          { title: "Today", value: spent(await readTotal(context, today, tomorrow)), money: "metered" },
          {
            title: "This month so far",
            value: spent(await readTotal(context, month.firstDay, month.endDay)),
            money: "metered",
          },
          ...outlookFigures(outlook),
          await lastMonth(context, month.firstDay),
        ],
        chart: await monthChart(context, ORG, outlook),
        notes: [await howSure(context)],
      },
      await teams(context),
      await agreementSection(context, await readDays(context, `${utcToday.slice(0, 7)}-01`, addDays(utcToday, 1))),
      await refusedSection(context),
      await budgetSection(context, await readBudgets(books.usage), "Which budgets are near their end?"),
      {
        title: "Day by day",
        question: "Which days were dear, and at which provider?",
        money: "metered",
        chart: await daysChart(context, "provider", addDays(tomorrow, -CHART_DAYS), tomorrow),
        table: await daysTable(context, addDays(tomorrow, -CHART_DAYS), tomorrow),
      },
      ...(await beforeSections(context, monthsOf(month.firstDay, tomorrow), ["provider"], (by, { since, until }) =>
        readSpend(books.usage, [by], since, until),
      )),
    ],
  };

  async function refusedSection({ calendar }: PageContext): Promise<Section> {
    const refused = (await readRefused(books.usage, nowMs - REFUSED_MS, nowMs + 60_000)).filter(
      ({ observed, reason }) => !observed && reason === "budget_exceeded",
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

/** What the month before cost: not known where the meter did not run, and from when where it began in it. */
async function lastMonth(context: PageContext, endDay: string): Promise<Figure> {
  const since = `${addDays(endDay, -1).slice(0, 7)}-01`;
  const title = `Last month (${since.slice(0, 7)})`;
  const began = await firstDay(context);
  if (began === undefined || began >= endDay) {
    const billed = await readBilledSpend(context.books.billing, context.calendar, "provider", since, endDay);
    const total = billed.length === 0 ? undefined : sum(billed.map(({ costNanoUsd }) => costNanoUsd));
    return {
      title,
      value: usd(total),
      money: billed.length === 0 ? "metered" : "billed",
      note: "The meter did not run yet.",
    };
  }
  return {
    title,
    value: spent(await readTotal(context, since, endDay)),
    money: "metered",
    ...(began > since ? { note: `From ${began} on, when the meter began.` } : {}),
  };
}

/** This month and the one before. */
function monthsOf(firstDayOfMonth: string, until: string): SpanOfDays[] {
  const before = `${addDays(firstDayOfMonth, -1).slice(0, 7)}-01`;
  return [
    { field: "lastMonth", title: "Last month", since: before, until: firstDayOfMonth },
    { field: "month", title: "This month", since: firstDayOfMonth, until },
  ];
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
  const { month, today, week, weekBefore, more } = await readLately(context, "team");
  const names = [...new Set([...month.keys(), ...week.keys(), ...weekBefore.keys()])].toSorted(byCost(month));
  const all = sumUp(month.values());
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
        { field: "part", title: "Share", is: "share" },
        { field: "lastSevenDays", title: "Last 7 days", is: "usd" },
        { field: "more", title: "Against the 7 before", is: "usd" },
      ],
      rows: names.map((name) => [
        teamCell(name),
        spent(today.get(name)),
        spent(month.get(name)),
        share(month.get(name)?.costNanoUsd ?? 0n, all.costNanoUsd),
        spent(week.get(name)),
        more([name]),
      ]),
      total: [
        text("All"),
        spent(sumUp(today.values())),
        spent(all),
        share(all.costNanoUsd, all.costNanoUsd),
        spent(sumUp(week.values())),
        more(),
      ],
      empty: "Nothing has been metered yet. Point an SDK at the proxy, and its spend stands here within a minute.",
    },
    notes: ["The last 7 days are whole days up to yesterday.", ...leftOut(all, "this month")],
  };
}

async function daysTable({ books }: PageContext, since: string, until: string): Promise<Table> {
  const rows = (await readSpend(books.usage, ["day"], since, until)).toSorted((a, b) =>
    (b.group.day ?? "").localeCompare(a.group.day ?? ""),
  );
  const cells = (row: SpendSums): Cell[] => [
    count(row.requests),
    spent(row),
    count(row.unpriced),
    count(row.unknown),
    count(row.estimated),
  ];
  return {
    name: "days",
    isFolded: true,
    columns: [
      { field: "day", title: "Day", is: "text" },
      { field: "requests", title: "Requests", is: "count" },
      { field: "cost", title: "Cost", is: "usd" },
      { field: "unpriced", title: "Without a price", is: "count" },
      { field: "unknown", title: "Without usage", is: "count" },
      { field: "estimated", title: "Estimated", is: "count" },
    ],
    rows: rows.map((row) => [text(row.group.day ?? ""), ...cells(row)]),
    total: [text("All"), ...cells(sumUp(rows))],
    empty: "Nothing was metered in these days.",
  };
}
