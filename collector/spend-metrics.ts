// Gauges of spend: what finance reads. Each window is read from the books once, at the finest grain, and added up by scope here, so that
// every panel is a sum of the same rows and no two can disagree.
import type { Gauge } from "prom-client";
import { FORECAST_SCOPES } from "../ledger/billing/forecasts.ts";
import { readOutcomes } from "../ledger/usage/outcomes.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { Sqlite } from "../ledger/open.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import { addSums, NO_SPEND, readSpend } from "../ledger/usage/spend.ts";
import type { ForecastScope, SpendRow, SpendSums } from "../ledger/usage/spend.ts";
import { addDays } from "../ledger/windows.ts";
import type { Calendar } from "../ledger/windows.ts";
import type { MakeGauge } from "./alert-metrics.ts";
import type { Providers } from "../ledger/providers.ts";

/** Keys, teams, models and the like with series of their own: the largest of a window; the rest is `other`. Reports have the full list. */
export const MOST_KEYS = 500;
/** `last_day`: the last whole day, which history is made of: its figure stands all day long. */
const SPEND_WINDOWS = ["day", "week", "month", "last_day"] as const;
export type SpendWindow = (typeof SPEND_WINDOWS)[number];

const PARTS = ["key", "team", "project", "env", "provider", "model"] as const;
const HOUR_MS = 3_600_000;
/** Classes as rollups keep them. */
export const CLASSES = {
  input: "input",
  cache_read: "cacheRead",
  cache_write: "cacheWrite",
  output: "output",
} as const;
/** The unit that each class is priced as. */
const PRICED = { input: "input", cache_read: "cache_read", cache_write: "cache_write_5m", output: "output" } as const;
/** Where tokens are told by class; of single keys for the month alone. */
export function hasTokens(scope: ForecastScope["scope"], window: SpendWindow): boolean {
  return window === "month" || (window !== "week" && scope !== "key");
}

/** Where spend is told by all of its parts together. */
const BREAKDOWN_WINDOWS: ReadonlySet<SpendWindow> = new Set(["day", "month"]);

/** Local days `[firstDay, endDay)` of a window. */
export function daysOf(window: SpendWindow, calendar: Calendar, nowMs: number): [firstDay: string, endDay: string] {
  if (window === "last_day") {
    const today = calendar.day(nowMs);
    return [addDays(today, -1), today];
  }
  const { firstDay, endDay } = calendar.window(window, nowMs);
  return [firstDay, endDay];
}

/** Rows of one window, by scope and id: of each the largest, and `other`. */
export function sumByScope(rows: readonly SpendRow[]): Map<ForecastScope["scope"], Map<string, SpendSums>> {
  const sums = new Map<ForecastScope["scope"], Map<string, SpendSums>>();
  for (const scope of FORECAST_SCOPES) {
    const byId = new Map<string, SpendSums>();
    for (const { group, ...row } of rows) {
      const id = scope === "org" ? "all" : (group[scope] ?? "");
      if (id === "") continue;
      const known = byId.get(id);
      byId.set(id, known ? addSums(known, row) : row);
    }
    if (scope === "org" && byId.size === 0) byId.set("all", NO_SPEND);
    sums.set(scope, withOthers(byId));
  }
  return sums;
}

function withOthers(byId: ReadonlyMap<string, SpendSums>): Map<string, SpendSums> {
  const sorted = [...byId].toSorted(([, a], [, b]) => Number(b.costNanoUsd - a.costNanoUsd));
  const rest = sorted.slice(MOST_KEYS).map(([, row]) => row);
  return new Map([
    ...sorted.slice(0, MOST_KEYS),
    ...(rest.length > 0 ? [["other", rest.reduce(addSums)] as const] : []),
  ]);
}

/** What was spent in a window, by scope and id. */
export type SpendOfWindow = ReturnType<typeof sumByScope>;

/** Makes the gauges; the function that comes back reads the books again, and gives the sums by window. */
export function createSpendMetrics(
  makeGauge: MakeGauge,
  {
    usage,
    calendar,
    prices,
    providers,
  }: {
    readonly usage: Sqlite;
    readonly calendar: Calendar;
    readonly prices: PriceBook;
    readonly providers: Providers;
  },
): (nowMs: number) => Promise<ReadonlyMap<string, SpendOfWindow>> {
  const scope = ["scope", "id", "window"] as const;
  const spend = makeGauge(
    "keymeter_spend_usd",
    "Metered spend in the running window, from the ledger; last_day: of the last whole day.",
    scope,
  );
  const requests = makeGauge("keymeter_spend_requests", "Attempts behind that spend.", scope);
  const tokens = makeGauge("keymeter_spend_tokens", "Tokens behind that spend, by disjoint class.", [
    ...scope,
    "class",
  ]);
  const breakdown = makeGauge(
    "keymeter_breakdown_usd",
    "Metered spend in the running window by all of its parts together: adds up along any of them.",
    ["window", ...PARTS],
  );
  const breakdownRequests = makeGauge("keymeter_breakdown_requests", "Attempts behind that spend.", [
    "window",
    ...PARTS,
  ]);
  const ended = ["provider", "model", "outcome"] as const;
  const outcomeUsd = makeGauge(
    "keymeter_last_day_outcome_usd",
    "Metered spend of the last whole day by how attempts ended.",
    ended,
  );
  const outcomeRequests = makeGauge(
    "keymeter_last_day_outcome_requests",
    "Attempts of the last whole day by how they ended.",
    ended,
  );
  const price = makeGauge(
    "keymeter_price_usd_per_million_tokens",
    "List price of models that were used this month, by token class; of short contexts, without tiers.",
    ["provider", "model", "class"],
  );
  const all: Gauge[] = [spend, requests, tokens, breakdown, breakdownRequests, price];

  /** Outcomes stand with single events: a day of them is walked once an hour. */
  let endedHour = -1;
  const refreshOutcomes = async (nowMs: number): Promise<void> => {
    const hour = Math.floor(nowMs / HOUR_MS);
    if (hour === endedHour) return;
    outcomeUsd.reset();
    outcomeRequests.reset();
    const [firstDay, endDay] = daysOf("last_day", calendar, nowMs);
    for (const one of await readOutcomes(usage, calendar.dayStart(firstDay), calendar.dayStart(endDay))) {
      const labels = { provider: one.provider, model: one.model, outcome: one.outcome };
      outcomeUsd.set(labels, toUsdNumber(one.costNanoUsd));
      outcomeRequests.set(labels, one.requests);
    }
    endedHour = hour;
  };

  const setPrices = (rows: readonly SpendRow[], nowMs: number): void => {
    for (const { group } of rows) {
      const { provider = "", model = "" } = group;
      const found = prices.find(providers.priceListOf(provider, model), model, nowMs);
      for (const [unit, labels] of Object.entries(PRICED)) {
        const base = found?.units[labels]?.base;
        if (base !== undefined) price.set({ provider, model, class: unit }, Number(base) / 1e6);
      }
    }
  };

  return async (nowMs) => {
    for (const one of all) one.reset();
    await refreshOutcomes(nowMs);
    const byWindow = new Map<string, SpendOfWindow>();
    for (const window of SPEND_WINDOWS) {
      const rows = await readSpend(usage, PARTS, ...daysOf(window, calendar, nowMs));
      const sums = sumByScope(rows);
      byWindow.set(window, sums);
      for (const [name, byId] of sums)
        for (const [id, sum] of byId) {
          const labels = { scope: name, id, window };
          spend.set(labels, toUsdNumber(sum.costNanoUsd));
          requests.set(labels, sum.requests);
          if (hasTokens(name, window))
            for (const [unit, field] of Object.entries(CLASSES)) tokens.set({ ...labels, class: unit }, sum[field]);
        }
      if (window === "month") setPrices(rows, nowMs);
      if (!BREAKDOWN_WINDOWS.has(window)) continue;
      for (const { group, costNanoUsd, requests: count } of rows) {
        const named = PARTS.map((part) => {
          const id = group[part] ?? "";
          return [part, id === "" || sums.get(part)?.has(id) ? id : "other"];
        });
        const labels = { window, ...Object.fromEntries(named) };
        breakdown.inc(labels, toUsdNumber(costNanoUsd));
        breakdownRequests.inc(labels, count);
      }
    }
    return byWindow;
  };
}
