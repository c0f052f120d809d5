// What every page is built from, and the few figures that more than one of them shows.
import type { Budget, Scope } from "../../ledger/budgets.ts";
import { amountAt, covers, describeScope, isAbout } from "../../ledger/budgets.ts";
import { readBudgets } from "../../ledger/usage/changes.ts";
import { expectedSoFar } from "../../ledger/billing/forecasts.ts";
import type { FrozenForecast } from "../../ledger/billing/forecasts.ts";
import { landingOf, readRests } from "../../ledger/billing/landings.ts";
import type { Landing, Rest } from "../../ledger/billing/landings.ts";
import { readBilledSpend } from "../../ledger/billing/billed-hours.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import { formatUsd, formatUsdCents, toUsdNumber } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readExpectations } from "../../ledger/billing/plans.ts";
import type { PriceBook } from "../../ledger/prices/price-book.ts";
import { readAllSettled } from "../../ledger/usage/budget-spend.ts";
import {
  addSums,
  findMeterBegan,
  NO_SPEND,
  readHourlySpend,
  readKeyNames,
  readSpend,
} from "../../ledger/usage/spend.ts";
import type { Dimension, ForecastScope, SpendRow, SpendSums } from "../../ledger/usage/spend.ts";
import type { Within } from "../../ledger/usage/within.ts";
import { addDays, isDay, utcDay } from "../../ledger/windows.ts";
import type { Calendar, Window } from "../../ledger/windows.ts";
import { courseOf, courseStart } from "../../charts/course.ts";
import { drawDays } from "../../charts/days.ts";
import { drawSpend } from "../../charts/spend.ts";
import { SCREEN, WIDE } from "../../charts/draw.ts";
import { kindOf } from "../gauges/budgets.ts";
import type { Books } from "../compare.ts";
import type { Stated } from "../match.ts";
import { firstDay } from "./before.ts";
import { change, count, share, sum, text, time, usd } from "./page.ts";
import type { Cell, Chart, Control, Figure, Link, Page, Section, Value } from "./page.ts";

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

/** Budgets that stand in a table, those nearest their end. */
const MOST_BUDGETS = 50;

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

/** All in one. */
export function sumUp(rows: Iterable<SpendSums | undefined>): SpendSums {
  let all = NO_SPEND;
  for (const row of rows) if (row) all = addSums(all, row);
  return all;
}

/** What was spent in `[since, until)`, in one sum. */
export async function readTotal(
  { books }: PageContext,
  since: string,
  until: string,
  within: Within = {},
): Promise<SpendSums> {
  return sumUp(await readSpend(books.usage, [], since, until, within));
}

/** Spend of the spans that lists show, by one dimension. The last seven days are whole ones, up to yesterday. */
export type Lately = {
  readonly [span in "month" | "today" | "week" | "weekBefore"]: ReadonlyMap<string, SpendRow>;
} & {
  /** How much more the last seven days cost than the seven before, of these or of all; undefined: the meter did not run in all of them. */
  readonly more: (names?: readonly string[]) => Cell;
};

export async function readLately(context: PageContext, by: Dimension, within: Within = {}): Promise<Lately> {
  const { today, tomorrow, month } = spansOf(context);
  const read = async (since: string, until: string): Promise<Map<string, SpendRow>> =>
    byValue(await readSpend(context.books.usage, [by], since, until, within), by);
  const week = await read(addDays(today, -7), today);
  const weekBefore = await read(addDays(today, -14), addDays(today, -7));
  const of = (map: ReadonlyMap<string, SpendRow>, names: readonly string[] | undefined): SpendSums =>
    sumUp(names === undefined ? map.values() : names.map((name) => map.get(name)));
  const isWhole = addDays(today, -14) >= ((await firstDay(context)) ?? tomorrow);
  return {
    month: await read(month.firstDay, month.endDay),
    today: await read(today, tomorrow),
    week,
    weekBefore,
    more: (names) => (isWhole ? more(of(week, names), of(weekBefore, names)) : undefined),
  };
}

/** Orders names by what they cost, the dearest first. */
export function byCost(costs: ReadonlyMap<string, SpendSums>): (a: string, b: string) => number {
  const cost = (name: string): NanoUsd => costs.get(name)?.costNanoUsd ?? 0n;
  return (a, b) => (cost(b) > cost(a) ? 1 : cost(b) < cost(a) ? -1 : 0);
}

/** What sums cost, as a cell: not known where nothing in them has a known cost. */
export const spent = (sums: SpendSums | undefined): Cell => usd(knownCost(sums ?? NO_SPEND));

/** How much more sums cost than others. */
function more(now: SpendSums, before: SpendSums): Cell {
  const [is, was] = [knownCost(now), knownCost(before)];
  return is === undefined || was === undefined ? undefined : change(is - was);
}

/** Requests whose cost is known. What has no usage often has no price either, and is counted under both. */
export function pricedRequests({ requests, unpriced, unknown }: SpendSums): number {
  return requests - Math.max(unpriced, unknown);
}

/** What sums leave out, in a sentence; none where they leave nothing out. */
export function leftOut(sums: SpendSums, span: string): string[] {
  const parts = [
    ...(sums.unpriced > 0 ? [`${sums.unpriced.toLocaleString("en-US")} without a price`] : []),
    ...(sums.unknown > 0 ? [`${sums.unknown.toLocaleString("en-US")} without usage that could be read`] : []),
  ];
  return parts.length === 0 ? [] : [`Requests of ${span} that are in no sum: ${parts.join(", ")}.`];
}

/** Days `[since, until)` that a page is about, and how they were chosen. */
export type ChosenDays = {
  readonly since: string;
  readonly until: string;
  /** "the last 28 days", "2026-11-01 to 2026-11-15". */
  readonly words: string;
  readonly controls: readonly Control[];
  /** Why others are shown than were asked for. */
  readonly notes: readonly string[];
};

/** A choice of the last days, or of any: what was written down counts, whatever else is chosen. `tomorrow`: the day after the last of these. */
export function chooseDays(query: Query, spans: readonly string[], usual: string, tomorrow: string): ChosenDays {
  const asked = spans.find((one) => one === query["days"]) ?? usual;
  const { since = "", until: last = "" } = query;
  const isOwn = since !== "" || last !== "";
  const isGood = isDay(since) && isDay(last) && since <= last;
  const options = [
    ...spans.map((one) => ({ value: one, label: `the last ${one}` })),
    { value: "own", label: "my own dates:" },
  ];
  const chosen = isOwn && isGood ? "own" : asked;
  return {
    ...(isOwn && isGood
      ? { since, until: addDays(last, 1), words: `${since} to ${last}` }
      : { since: addDays(tomorrow, -Number(asked)), until: tomorrow, words: `the last ${asked} days` }),
    controls: [
      { name: "days", label: "Days", value: chosen, options },
      { name: "since", label: "from", value: since, kind: "date" },
      { name: "until", label: "to", value: last, kind: "date" },
    ],
    notes:
      isOwn && !isGood
        ? [`Own dates are two days, the first not after the last; the last ${asked} days are shown.`]
        : [],
  };
}

/** Rows by what one dimension of them is. */
export function byValue(rows: readonly SpendRow[], dimension: Dimension): Map<string, SpendRow> {
  return new Map(rows.map((row) => [row.group[dimension] ?? "", row]));
}

const teamLink = (team: string): Link => ({ page: "team", query: { id: team } });
export const keyLink = (id: string): Link => ({ page: "key", query: { id } });
export const dayLink = (provider: string, day: string): Link => ({ page: "bill", query: { provider, day } });
export const teamCell = (team: string): Value => text(team === "" ? "(no team)" : team, teamLink(team));

/** The running month of a scope, seen from two sides. */
export type Outlook = {
  /** As it was forecast when it began: frozen. "learning": there was too little history to show one. */
  readonly frozen: FrozenForecast | "learning" | undefined;
  /** What is to come, and where it lands with what is spent; undefined: nobody knows yet. */
  readonly rest: Rest | undefined;
  readonly landing: Landing | undefined;
};

export async function readOutlook(context: PageContext, of: ForecastScope): Promise<Outlook> {
  const { books, nowMs } = context;
  const { month } = spansOf(context);
  const [found] = await readExpectations(books, nowMs, { ...of, window: "month" });
  const [rest] = await readRests(books, nowMs, { ...of, window: "month" });
  const within = of.scope === "org" ? {} : { [of.scope]: of.id };
  const { costNanoUsd } = await readTotal(context, month.firstDay, month.endDay, within);
  const isKnown = rest !== undefined && rest.method !== "learning";
  return {
    frozen: found?.method === "learning" ? "learning" : found,
    rest: isKnown ? rest : undefined,
    landing: isKnown ? landingOf(rest, costNanoUsd, nowMs) : undefined,
  };
}

/** Where the month lands, and what was forecast when it began. */
export function outlookFigures({ frozen, landing }: Outlook): Figure[] {
  const known: Figure[] = landing
    ? [
        { title: "Lands at", value: usd(landing.p50NanoUsd), money: "landing" },
        { title: "At least, with 90 % probability", value: usd(landing.p10NanoUsd), money: "landing" },
        { title: "At most, with 90 % probability", value: usd(landing.p90NanoUsd), money: "landing" },
      ]
    : [
        {
          title: "Lands at",
          value: undefined,
          money: "landing",
          note: "Fewer than three days of history: nothing is worth showing yet. It is worked out every hour, for the organisation and the 500 largest of each kind.",
        },
      ];
  if (frozen === undefined || frozen === "learning") return known;
  const date = utcDay(frozen.madeAtMs);
  return [
    ...known,
    {
      title: "Forecast when it began",
      value: usd(frozen.p50NanoUsd),
      money: "forecast",
      note: `Fixed on ${date}; alerts go by it.`,
    },
  ];
}

/** The month so far, where it lands and what was forecast, drawn; undefined where there is nothing to draw it against. */
export async function monthChart(
  context: PageContext,
  of: ForecastScope,
  { frozen, rest, landing }: Outlook,
): Promise<Chart | undefined> {
  if (frozen === undefined || frozen === "learning") return undefined;
  const { books, calendar, nowMs } = context;
  const hours = await readHourlySpend(books.usage, courseStart(frozen), nowMs, of.scope, of);
  const course = courseOf(
    frozen,
    hours.filter(({ id }) => id === of.id),
    rest,
    nowMs,
  );
  const knownFromMs = await findMeterBegan(books.usage);
  const series = { ...course, budget: await monthBudget(context, of), timezone: calendar.zone, knownFromMs };
  const total = course.spent.reduce((all, one) => all + one, 0);
  const lands = landing ? ` It lands at ${formatUsdCents(landing.p50NanoUsd)}.` : "";
  return {
    svg: await drawSpend(series, SCREEN, WIDE),
    narrow: await drawSpend(series, SCREEN),
    label: `This month: ${total.toLocaleString("en-US", { style: "currency", currency: "USD" })} spent, ${formatUsdCents(expectedSoFar(frozen, nowMs))} expected by now as forecast when it began, ${formatUsdCents(frozen.p50NanoUsd)} by the end.${lands}`,
  };
}

/** Days drawn by one dimension: metered, and before the meter as they were billed. Undefined where there is nothing to draw. */
export async function daysChart(
  context: PageContext,
  by: "provider" | "model",
  since: string,
  until: string,
  within: Within = {},
): Promise<Chart | undefined> {
  const { books, calendar } = context;
  const rows = await readSpend(books.usage, ["day", by], since, until, within);
  // Bills know neither teams nor keys of ours.
  const isAll = Object.keys(within).length === 0;
  const billed = isAll ? await readBilledSpend(books.billing, calendar, by, since, until) : [];
  if (rows.length + billed.length === 0) return undefined;
  const days: string[] = [];
  for (let day = since; day < until; day = addDays(day, 1)) days.push(day);
  const bars = [
    ...rows.map(({ group, costNanoUsd }) => ({
      day: group.day ?? "",
      name: group[by] ?? "",
      costNanoUsd,
      isBilled: false,
    })),
    ...billed.map(({ day, id, costNanoUsd }) => ({
      day,
      name: `${id || "(not told)"}, billed`,
      costNanoUsd,
      isBilled: true,
    })),
  ];
  const cost = new Map(bars.map(({ day, name, costNanoUsd }) => [`${day} ${name}`, toUsdNumber(costNanoUsd)]));
  const began = await firstDay(context);
  const series = {
    days,
    series: [...new Map(bars.map(({ name, isBilled }) => [name, isBilled]))].map(([name, isBilled]) => ({
      name,
      isBilled,
      values: days.map((day) => cost.get(`${day} ${name}`) ?? 0),
    })),
    ...(began !== undefined && began > since ? { meteredFrom: began } : {}),
  };
  // Rows come with the largest first.
  const [dearest] = rows;
  const metered =
    dearest === undefined
      ? "Nothing metered"
      : `Metered spend by day and ${by} since ${began !== undefined && began > since ? began : since}: ${formatUsd(sumUp(rows).costNanoUsd)} in all. Most: ${dearest.group.day} with ${dearest.group[by]}, ${formatUsd(dearest.costNanoUsd)}`;
  const before =
    billed.length === 0
      ? ""
      : ` Billed before the meter began: ${formatUsd(sum(billed.map(({ costNanoUsd }) => costNanoUsd)))}.`;
  return {
    svg: await drawDays(series, SCREEN, WIDE),
    narrow: await drawDays(series, SCREEN),
    label: `${metered}.${before}`,
  };
}

async function monthBudget({ books, nowMs }: PageContext, { scope, id }: ForecastScope): Promise<number | undefined> {
  const own = (await readBudgets(books.usage)).find(
    (budget) => budget.window === "month" && isAbout(budget, scope, id),
  );
  return own && toUsdNumber(amountAt(own, nowMs));
}

/** What a budget covers, in words, with the key's name. */
export function scopeWords(scope: Scope, names: ReadonlyMap<string, string>): string {
  const { keyId } = scope;
  return describeScope(keyId === undefined ? scope : { ...scope, keyId: names.get(keyId) ?? keyId });
}

/** Budgets as a table: of those that hold for what is shown, the ones that are nearest their end. */
export async function budgetSection(
  { books, calendar, nowMs, capMode }: PageContext,
  budgets: readonly Budget[],
  question: string,
): Promise<Section> {
  const windowOf = ({ window }: Budget): Window => calendar.window(window, nowMs);
  const names = await readKeyNames(books.usage);
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

/** Budgets that hold for a key, on whichever model. */
export async function budgetsOf(
  { books }: PageContext,
  key: Pick<Key, "id" | "team" | "project" | "env">,
): Promise<Budget[]> {
  return (await readBudgets(books.usage)).filter(({ scope: { provider: _provider, model: _model, ...owner } }) =>
    covers(owner, { ...key, keyId: key.id, provider: "", model: "" }),
  );
}

/** What sums cost; undefined where nothing is known to have been spent and something is not known: that is not nothing. */
export function knownCost({ costNanoUsd, unpriced, unknown }: SpendSums): NanoUsd | undefined {
  return costNanoUsd === 0n && unpriced + unknown > 0 ? undefined : costNanoUsd;
}

/** Tokens by class and what they cost, by served model. */
export function modelsSection(rows: readonly SpendRow[], question: string): Section {
  const cells = (row: SpendSums): Cell[] => [
    count(row.requests),
    count(row.input),
    count(row.cacheRead),
    count(row.cacheWrite),
    count(row.output),
    spent(row),
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
      rows: rows.map((row) => [text(row.group.model ?? ""), text(row.group.provider ?? ""), ...cells(row)]),
      total: [text("All"), text(""), ...cells(sumUp(rows))],
      empty: "Nothing was used.",
    },
    notes: leftOut(sumUp(rows), "this month"),
  };
}
