// Sums of spend as gauges have them: windows, the parts that spend is told by, and sums by scope. Pure; the gauges of
// now (spend.ts) and the past as OpenMetrics (history.ts) add up the same way.
import { FORECAST_SCOPES } from "../../ledger/billing/forecasts.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { addSums, NO_SPEND } from "../../ledger/usage/spend-sums.ts";
import type { ForecastScope } from "../../ledger/usage/hours.ts";
import type { SpendRow, SpendSums } from "../../ledger/usage/spend-sums.ts";
import { addDays } from "../../ledger/windows.ts";
import type { Calendar } from "../../ledger/windows.ts";

/** Keys, teams, models and the like with series of their own: the largest of a window; the rest is `other`. Reports
 *  have the full list. */
export const MOST_KEYS = 500;

/** `last_day`: the last whole day, which history is made of: its figure stands all day long. */
export const SPEND_WINDOWS = ["day", "week", "month", "last_day"] as const;
export type SpendWindow = (typeof SPEND_WINDOWS)[number];

/** The finest grain: every other sum is one of these rows. */
export const PARTS = ["key", "team", "project", "env", "provider", "model"] as const;

type ScopeName = ForecastScope["scope"];

/** Whether a scope has series: persons are in reports, and in no metric but that of a cap. */
export function hasSeries(scope: ScopeName): scope is Exclude<ScopeName, "user"> {
  return scope !== "user";
}

/** Local days `[firstDay, endDay)` of a window. */
export function daysOf(window: SpendWindow, calendar: Calendar, nowMs: number): [firstDay: string, endDay: string] {
  if (window === "last_day") {
    const today = calendar.day(nowMs);
    return [addDays(today, -1), today];
  }
  const { firstDay, endDay } = calendar.window(window, nowMs);
  return [firstDay, endDay];
}

/** Where tokens are told by class; of single keys for the month alone. */
export function hasTokens(scope: ScopeName, window: SpendWindow): boolean {
  return window === "month" || (window !== "week" && scope !== "key");
}

/** Tokens by class, as rollups keep them. */
export function tokensOf({ input, cacheRead, cacheWrite, output }: SpendSums): [unit: string, quantity: number][] {
  return Object.entries({ input, cache_read: cacheRead, cache_write: cacheWrite, output });
}

/** Rows of one window, by scope and id: of each the largest, and `other`. */
export function sumByScope(rows: readonly SpendRow[]): Map<ScopeName, Map<string, SpendSums>> {
  const sums = new Map<ScopeName, Map<string, SpendSums>>();
  for (const scope of FORECAST_SCOPES.filter(hasSeries)) {
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

/** What rows cost, by the ids of one scope: of all of them. */
export function costByScope(rows: readonly SpendRow[], scope: ScopeName): Map<string, NanoUsd> {
  const costs = new Map<string, NanoUsd>();
  for (const { group, costNanoUsd } of rows) {
    const id = scope === "org" ? "all" : (group[scope] ?? "");
    costs.set(id, (costs.get(id) ?? 0n) + costNanoUsd);
  }
  return costs;
}
