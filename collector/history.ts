// The books' past as OpenMetrics: what the gauges would have said, an hour apart, so that a new Prometheus has the history that dashboards draw. For
// `promtool tsdb create-blocks-from openmetrics`; figures as they are known today, corrections included.
import { expectedSoFar } from "../ledger/billing/forecasts.ts";
import { formatUsdExact } from "../ledger/money.ts";
import { readExpectations } from "../ledger/billing/plans.ts";
import { addSums, readSpend, readSpendByHour } from "../ledger/usage/spend.ts";
import type { SpendRow } from "../ledger/usage/spend.ts";
import type { Sqlite } from "../ledger/open.ts";
import { addDays, createCalendar, HOUR_MS } from "../ledger/windows.ts";
import type { Calendar } from "../ledger/windows.ts";
import { CLASSES, daysOf, hasTokens, sumByScope } from "./spend-metrics.ts";
import type { SpendWindow } from "./spend-metrics.ts";

export type HistoryBooks = { readonly usage: Sqlite; readonly billing: Sqlite | undefined };

/** A sample stands so long before an hour's end: it is the whole hour's, and still the same day's. */
const BEFORE_MS = 15_000;
const RUNNING = ["day", "month"] as const satisfies readonly SpendWindow[];
const FORECAST_SCOPES = ["org", "team"] as const;

type Sample = { readonly name: string; readonly labels: { readonly [label: string]: string }; readonly value: string };

const FAMILIES = {
  keymeter_spend_usd: "Metered spend in the running window, from the ledger; last_day: of the last whole day.",
  keymeter_spend_requests: "Attempts behind that spend.",
  keymeter_spend_tokens: "Tokens behind that spend, by disjoint class.",
  keymeter_forecast_usd: "Frozen forecast of the running window's total.",
  keymeter_forecast_so_far_usd: "What the frozen forecast expected until now.",
} as const;
type Family = keyof typeof FAMILIES;

/** The local days `[sinceDay, untilDay)` as OpenMetrics text, family by family. */
export async function* writeHistory(
  books: HistoryBooks,
  timezone: string,
  sinceDay: string,
  untilDay: string,
  onDay: (day: string) => void = () => undefined,
): AsyncGenerator<string> {
  for (const family of Object.keys(FAMILIES) as Family[]) {
    yield `# HELP ${family} ${FAMILIES[family]}\n# TYPE ${family} gauge\n`;
    const isForecast = family.startsWith("keymeter_forecast");
    const calendar = createCalendar(timezone);
    const days = isForecast
      ? forecastDays(books, calendar, sinceDay, untilDay, family)
      : spendDays(books.usage, calendar, sinceDay, untilDay, family);
    for await (const { day, text } of days) {
      yield text;
      onDay(day);
    }
  }
  yield "# EOF\n";
}

type Day = { readonly day: string; readonly text: string };

async function* spendDays(
  usage: Sqlite,
  calendar: Calendar,
  sinceDay: string,
  untilDay: string,
  family: Family,
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
        text += lines(samplesOf(family, window, totals), atMs);
    }
    yield { day, text };
  }
}

const PARTS = ["key", "team", "project", "env", "provider", "model"] as const;

function samplesOf(family: Family, window: SpendWindow, totals: Totals): Sample[] {
  return [...sumByScope([...totals.values()])].flatMap(([scope, byId]) =>
    [...byId].flatMap(([id, sum]): Sample[] => {
      const labels = { scope, id, window };
      switch (family) {
        case "keymeter_spend_usd":
          return [{ name: family, labels, value: formatUsdExact(sum.costNanoUsd) }];
        case "keymeter_spend_requests":
          return [{ name: family, labels, value: String(sum.requests) }];
        default:
          if (scope === "key" || !hasTokens(scope, window)) return [];
          return Object.entries(CLASSES).map(([unit, field]) => ({
            name: family,
            labels: { ...labels, class: unit },
            value: String(sum[field]),
          }));
      }
    }),
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
  family: Family,
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
            text += lines(
              family === "keymeter_forecast_so_far_usd"
                ? [{ name: family, labels, value: formatUsdExact(expectedSoFar(one, atMs)) }]
                : (
                    [
                      ["0.1", one.p10NanoUsd],
                      ["0.5", one.p50NanoUsd],
                      ["0.9", one.p90NanoUsd],
                    ] as const
                  ).map(([quantile, amount]) => ({
                    name: family,
                    labels: { ...labels, quantile },
                    value: formatUsdExact(amount),
                  })),
              atMs,
            );
        }
    yield { day, text };
  }
}

/** One sample a line, at an instant in seconds. */
function lines(samples: readonly Sample[], atMs: number): string {
  return samples
    .map(({ name, labels, value }) => {
      const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escape(text)}"`);
      return `${name}{${pairs.join(",")}} ${value} ${atMs / 1000}\n`;
    })
    .join("");
}

function escape(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
