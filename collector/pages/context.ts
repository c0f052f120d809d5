// What every page is built from, and the few figures that more than one of them shows.
import type { Budget } from "../../ledger/budgets.ts";
import { amountAt, covers, describeScope } from "../../ledger/budgets.ts";
import { readBudgets } from "../../ledger/changes.ts";
import { expectedSoFar } from "../../ledger/forecasts.ts";
import type { FrozenForecast } from "../../ledger/forecasts.ts";
import type { Key } from "../../ledger/keys.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readExpectations } from "../../ledger/plans.ts";
import type { PriceBook } from "../../ledger/prices.ts";
import { readHourlySpend, readSettled, readSpend } from "../../ledger/spend.ts";
import type { Dimension, ForecastScope, SpendRow, Within } from "../../ledger/spend.ts";
import { addDays } from "../../ledger/windows.ts";
import type { Calendar } from "../../ledger/windows.ts";
import { drawSpend } from "../../charts/spend.ts";
import { SCREEN } from "../../charts/draw.ts";
import { kindOf } from "../alert-metrics.ts";
import type { Books } from "../compare.ts";
import type { Stated } from "../match.ts";
import { count, sum, text, time, usd } from "./page.ts";
import type { Cell, Chart, Figure, Link, Page, Section, Value } from "./page.ts";

export type PageContext = {
  readonly books: Books;
  readonly calendar: Calendar;
  readonly prices: PriceBook;
  readonly stated: Stated;
  readonly dataDir: string;
  readonly capMode: "enforce" | "observe";
  /** Providers whose bills are read here. */
  readonly sources: readonly string[];
  readonly nowMs: number;
};

/** What was asked of a page, as it stands in the address. */
export type Query = { readonly [name: string]: string };

/** Builds a page; undefined: there is no such team, key or day. */
export type BuildPage = (context: PageContext, query: Query) => Promise<Page | undefined>;

const HOUR_MS = 3_600_000;

/** The spans of days that people ask for: today, and whole days before it. */
export type Spans = {
  readonly today: string;
  readonly tomorrow: string;
  readonly month: { readonly firstDay: string; readonly endDay: string };
};

export function spansOf({ calendar, nowMs }: PageContext): Spans {
  const today = calendar.day(nowMs);
  const { firstDay, endDay } = calendar.window("month", nowMs);
  return { today, tomorrow: addDays(today, 1), month: { firstDay, endDay } };
}

/** What was spent in `[since, until)`, in one sum. */
export async function readTotal(
  { books }: PageContext,
  since: string,
  until: string,
  within: Within = {},
): Promise<NanoUsd> {
  return sum((await readSpend(books.usage, [], since, until, within)).map((row) => row.costNanoUsd));
}

/** Rows by what one dimension of them is. */
export function byValue(rows: readonly SpendRow[], dimension: Dimension): Map<string, SpendRow> {
  return new Map(rows.map((row) => [row.group[dimension] ?? "", row]));
}

const teamLink = (team: string): Link => ({ page: "team", query: { id: team } });
export const keyLink = (id: string): Link => ({ page: "key", query: { id } });
export const dayLink = (provider: string, day: string): Link => ({ page: "bill", query: { provider, day } });
export const teamCell = (team: string): Value => text(team === "" ? "(no team)" : team, teamLink(team));

/** The running month or day of a scope: its forecast, where there is one that is worth showing. */
export async function readForecast(
  { books, nowMs }: PageContext,
  { scope, id }: ForecastScope,
  window: "day" | "month",
): Promise<FrozenForecast | undefined> {
  const [found] = await readExpectations(books, nowMs, { scope, id, window });
  return found?.method === "learning" ? undefined : found;
}

/** "1,204.50 to 1,611.00 with 80 % probability". */
export function forecastFigures(forecast: FrozenForecast | undefined, window: string): Figure[] {
  if (!forecast)
    return [
      {
        title: `Forecast for the ${window}`,
        value: undefined,
        money: "forecast",
        note: "Fewer than three days of history: no forecast is worth showing yet.",
      },
    ];
  return [
    { title: `Forecast for the ${window}`, value: usd(forecast.p50NanoUsd), money: "forecast" },
    {
      title: "At least, with 90 % probability",
      value: usd(forecast.p10NanoUsd),
      money: "forecast",
    },
    {
      title: "At most, with 90 % probability",
      value: usd(forecast.p90NanoUsd),
      money: "forecast",
    },
  ];
}

/** The month so far beside its forecast, drawn; undefined without a forecast. */
export async function monthChart(
  context: PageContext,
  of: ForecastScope,
  forecast: FrozenForecast | undefined,
  title: string,
): Promise<Chart | undefined> {
  if (!forecast) return undefined;
  const { books, calendar, nowMs } = context;
  const spent = new Map(
    (await readHourlySpend(books.usage, forecast.startMs, nowMs, of.scope, of))
      .filter((row) => row.id === of.id)
      .map((row) => [row.hourMs, toUsdNumber(row.costNanoUsd)]),
  );
  const hours = Math.ceil((nowMs - forecast.startMs) / HOUR_MS);
  const p50 = Number(forecast.p50NanoUsd);
  const svg = await drawSpend(
    {
      startMs: forecast.startMs,
      endMs: forecast.endMs,
      nowMs,
      spent: Array.from({ length: hours }, (_, i) => spent.get(forecast.startMs + i * HOUR_MS) ?? 0),
      expected: forecast.hours.map(toUsdNumber),
      low: p50 === 0 ? 1 : Number(forecast.p10NanoUsd) / p50,
      high: p50 === 0 ? 1 : Number(forecast.p90NanoUsd) / p50,
      budget: monthBudget(context, of),
      timezone: calendar.zone,
    },
    SCREEN,
  );
  const total = [...spent.values()].reduce((all, one) => all + one, 0);
  return {
    svg,
    label: `${title}: ${total.toFixed(2)} USD spent, ${toUsdNumber(expectedSoFar(forecast, nowMs)).toFixed(2)} USD expected by now, ${toUsdNumber(forecast.p50NanoUsd).toFixed(2)} USD by the end.`,
  };
}

function monthBudget({ books, nowMs }: PageContext, { scope, id }: ForecastScope): number | undefined {
  const part = scope === "key" ? "keyId" : scope;
  const own = readBudgets(books.usage).find(
    (budget) =>
      budget.window === "month" &&
      (part === "org" ? Object.keys(budget.scope).length === 0 : budget.scope[part] === id) &&
      Object.values(budget.scope).filter((value) => value !== undefined).length === (part === "org" ? 0 : 1),
  );
  return own && toUsdNumber(amountAt(own, nowMs));
}

/** Budgets as a table: those that hold for what is shown. */
export function budgetSection(
  { books, calendar, nowMs, capMode }: PageContext,
  budgets: readonly Budget[],
  question: string,
): Section {
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
        { field: "ends", title: "Starts anew", is: "time" },
        { field: "budget", title: "Budget", is: "text" },
      ],
      rows: budgets.map((budget): Cell[] => {
        const window = calendar.window(budget.window, nowMs);
        const amount = amountAt(budget, nowMs);
        const spent = readSettled(books.usage, budget, window);
        return [
          text(describeScope(budget.scope)),
          text(budget.window),
          text(kindOf(budget, capMode)),
          usd(amount),
          usd(spent),
          usd(amount - spent),
          amount === 0n ? undefined : { is: "share", share: Number(spent) / Number(amount) },
          budget.window === "total" ? undefined : time(window.endMs),
          text(budget.id),
        ];
      }),
      empty: "No budget holds here. `keymeter budgets set` makes one.",
    },
  };
}

/** Budgets that hold for a key, on whichever model. */
export function budgetsOf({ books }: PageContext, key: Pick<Key, "id" | "team" | "project" | "env">): Budget[] {
  return readBudgets(books.usage).filter(({ scope: { provider: _provider, model: _model, ...owner } }) =>
    covers(owner, { ...key, keyId: key.id, provider: "", model: "" }),
  );
}

/** What rows cost; undefined where none of their requests has a price: that is not nothing. */
export function knownCost({ costNanoUsd, unpriced, requests }: SpendRow): NanoUsd | undefined {
  return costNanoUsd === 0n && unpriced > 0 && unpriced === requests ? undefined : costNanoUsd;
}

/** Tokens by class and what they cost, by served model. */
export function modelsSection(rows: readonly SpendRow[], question: string): Section {
  const total = rows.reduce(
    (all, row) => ({
      requests: all.requests + row.requests,
      input: all.input + row.input,
      cacheRead: all.cacheRead + row.cacheRead,
      cacheWrite: all.cacheWrite + row.cacheWrite,
      output: all.output + row.output,
      costNanoUsd: all.costNanoUsd + row.costNanoUsd,
    }),
    { requests: 0, input: 0, cacheRead: 0, cacheWrite: 0, output: 0, costNanoUsd: 0n },
  );
  const cells = (row: typeof total): Cell[] => [
    count(row.requests),
    count(row.input),
    count(row.cacheRead),
    count(row.cacheWrite),
    count(row.output),
    usd(row.costNanoUsd),
  ];
  return {
    title: "Models",
    question,
    money: "metered",
    table: {
      name: "models",
      columns: [
        { field: "model", title: "Model", is: "text" },
        { field: "provider", title: "Provider", is: "text" },
        { field: "requests", title: "Requests", is: "count" },
        { field: "inputTokens", title: "Input tokens", is: "count" },
        { field: "cacheReadTokens", title: "Cache read", is: "count" },
        { field: "cacheWriteTokens", title: "Cache write", is: "count" },
        { field: "outputTokens", title: "Output tokens", is: "count" },
        { field: "cost", title: "Cost", is: "usd" },
      ],
      rows: rows.map((row) => [
        text(row.group.model ?? ""),
        text(row.group.provider ?? ""),
        ...cells(row).slice(0, -1),
        usd(knownCost(row)),
      ]),
      total: [text("All"), text(""), ...cells(total)],
      empty: "Nothing was used.",
    },
  };
}
