// The books' past as OpenMetrics: what the gauges would have said, an hour apart, so that a new Prometheus has the
// history that dashboards draw. For `promtool tsdb create-blocks-from openmetrics`; figures as they are known today,
// corrections included.
import { expectedSoFar } from "../ledger/billing/forecasts.ts";
import type { FrozenForecast } from "../ledger/billing/forecasts.ts";
import { formatUsdExact } from "../ledger/money.ts";
import { readExpectations } from "../ledger/billing/plans.ts";
import { readSpendByHour } from "../ledger/usage/hours.ts";
import { addSums } from "../ledger/usage/spend-sums.ts";
import { readSpend } from "../ledger/usage/spend.ts";
import type { ForecastScope } from "../ledger/usage/hours.ts";
import type { SpendRow, SpendSums } from "../ledger/usage/spend-sums.ts";
import { addDays, createCalendar, HOUR_MS } from "../ledger/windows.ts";
import type { BillingBooks, UsageBooks } from "../ledger/books.ts";
import type { Calendar } from "../ledger/windows.ts";
import { FORECAST, quantilesOf, SO_FAR } from "./gauges/forecast.ts";
import type { Family } from "./gauges/gauge.ts";
import { daysOf, hasTokens, PARTS, sumByScope, tokensOf } from "./gauges/spend-sums.ts";
import type { SpendWindow } from "./gauges/spend-sums.ts";
import { REQUESTS, SPEND, TOKENS } from "./gauges/spend.ts";

export type HistoryBooks = { readonly usage: UsageBooks; readonly billing: BillingBooks | undefined };

/** A sample stands so long before an hour's end: it is the whole hour's, and still the same day's. */
const BEFORE_MS = 15_000;
const RUNNING = ["day", "month"] as const satisfies readonly SpendWindow[];
const FORECAST_SCOPES = ["org", "team"] as const;

type Labels = { readonly [label: string]: string };
type Sample = { readonly labels: Labels; readonly value: string };

type SamplesOf = (
  scope: ForecastScope["scope"],
  window: SpendWindow,
  sums: SpendSums,
) => [more: Labels, value: string][];
type SamplesAt = (made: FrozenForecast, atMs: number) => [more: Labels, value: string][];

/** The gauges of spend that have a past, and what each says of a sum. */
const OF_SPEND: readonly (readonly [Family, SamplesOf])[] = [
  [SPEND, (_scope, _window, { costNanoUsd }) => [[{}, formatUsdExact(costNanoUsd)]]],
  [REQUESTS, (_scope, _window, { requests }) => [[{}, String(requests)]]],
  [
    TOKENS,
    (scope, window, sums) =>
      scope === "key" || !hasTokens(scope, window)
        ? []
        : tokensOf(sums).map(([unit, quantity]) => [{ class: unit }, String(quantity)]),
  ],
];
/** The same of forecasts. */
const OF_FORECASTS: readonly (readonly [Family, SamplesAt])[] = [
  [FORECAST, (made) => quantilesOf(made).map(([quantile, amount]) => [{ quantile }, formatUsdExact(amount)])],
  [SO_FAR, (made, atMs) => [[{}, formatUsdExact(expectedSoFar(made, atMs))]]],
];

/** The local days `[sinceDay, untilDay)` as OpenMetrics text, family by family. */
export async function* writeHistory(
  books: HistoryBooks,
  timezone: string,
  sinceDay: string,
  untilDay: string,
  onDay: (day: string) => void = () => undefined,
): AsyncGenerator<string> {
  const calendar = createCalendar(timezone);
  const past: [Family, AsyncGenerator<Day>][] = [
    ...OF_SPEND.map(([family, of]): [Family, AsyncGenerator<Day>] => [
      family,
      spendDays(books.usage, calendar, sinceDay, untilDay, family, of),
    ]),
    ...OF_FORECASTS.map(([family, of]): [Family, AsyncGenerator<Day>] => [
      family,
      forecastDays(books, calendar, sinceDay, untilDay, family, of),
    ]),
  ];
  for (const [[name, help], days] of past) {
    yield `# HELP ${name} ${help}\n# TYPE ${name} gauge\n`;
    for await (const { day, text } of days) {
      yield text;
      onDay(day);
    }
  }
  yield "# EOF\n";
}

type Day = { readonly day: string; readonly text: string };

async function* spendDays(
  usage: UsageBooks,
  calendar: Calendar,
  sinceDay: string,
  untilDay: string,
  [name]: Family,
  of: SamplesOf,
): AsyncGenerator<Day> {
  for (let day = sinceDay; day < untilDay; day = addDays(day, 1)) {
    const [startMs, endMs] = [calendar.dayStart(day), calendar.dayStart(addDays(day, 1))];
    // What stood before the day began, by window; the day's hours come on top.
    const running = new Map<SpendWindow, Totals>();
    for (const window of RUNNING)
      running.set(window, totalsOf(await readSpend(usage, PARTS, daysOf(window, calendar, startMs)[0], day)));
    const yesterday = totalsOf(await readSpend(usage, PARTS, addDays(day, -1), day));
    const hours = Map.groupBy(await readSpendByHour(usage, startMs, endMs), ({ hourMs }) => hourMs);
    let text = "";
    for (let hourMs = startMs; hourMs < endMs; hourMs += HOUR_MS) {
      const atMs = Math.min(hourMs + HOUR_MS, endMs) - BEFORE_MS;
      for (const totals of running.values()) addTo(totals, hours.get(Math.floor(hourMs / HOUR_MS) * HOUR_MS) ?? []);
      for (const [window, totals] of [...running, ["last_day", yesterday] as const])
        text += print(name, samplesOf(of, window, totals), atMs);
    }
    yield { day, text };
  }
}

function samplesOf(of: SamplesOf, window: SpendWindow, totals: Totals): Sample[] {
  return [...sumByScope([...totals.values()])].flatMap(([scope, byId]) =>
    [...byId].flatMap(([id, sums]) =>
      of(scope, window, sums).map(([more, value]) => ({ labels: { scope, id, window, ...more }, value })),
    ),
  );
}

/** Sums by all parts together. */
type Totals = Map<string, SpendRow>;

function totalsOf(rows: readonly SpendRow[]): Totals {
  const totals: Totals = new Map();
  addTo(totals, rows);
  return totals;
}

function addTo(totals: Totals, rows: readonly SpendRow[]): void {
  for (const row of rows) {
    const name = PARTS.map((part) => row.group[part]).join("\n");
    const known = totals.get(name);
    totals.set(name, known ? { group: row.group, ...addSums(known, row) } : row);
  }
}

async function* forecastDays(
  { usage, billing }: HistoryBooks,
  calendar: Calendar,
  sinceDay: string,
  untilDay: string,
  [name]: Family,
  of: SamplesAt,
): AsyncGenerator<Day> {
  if (!billing) return;
  for (let day = sinceDay; day < untilDay; day = addDays(day, 1)) {
    const [startMs, endMs] = [calendar.dayStart(day), calendar.dayStart(addDays(day, 1))];
    let text = "";
    for (const scope of FORECAST_SCOPES)
      for (const window of ["day", "month"] as const)
        for (const one of await readExpectations({ usage, billing }, startMs + 1, { scope, window })) {
          if (one.method === "learning") continue;
          const labels = { scope, id: one.id, window };
          for (let atMs = startMs + HOUR_MS - BEFORE_MS; atMs < endMs; atMs += HOUR_MS)
            text += print(
              name,
              of(one, atMs).map(([more, value]) => ({ labels: { ...labels, ...more }, value })),
              atMs,
            );
        }
    yield { day, text };
  }
}

/** One sample a line, at an instant in seconds. */
function print(name: string, samples: readonly Sample[], atMs: number): string {
  return samples
    .map(({ labels, value }) => {
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escape(text)}"`);
      return `${name}{${pairs.join(",")}} ${value} ${atMs / 1000}\n`;
    })
    .join("");
}

function escape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
