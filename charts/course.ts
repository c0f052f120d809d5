// How a window goes, as a picture takes it: a forecast's hours, and what was spent in each so far. Pure.
import type { FrozenForecast } from "../ledger/billing/forecasts.ts";
import type { Rest } from "../ledger/billing/landings.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { HourlySpend } from "../ledger/usage/hours.ts";
import type { Ahead, SpendSeries } from "./spend.ts";

const HOUR_MS = 3_600_000;

/** Hours of books are hours of UTC: where a zone's midnight lies within one, the window begins with all of it. */
export function courseStart({ startMs }: Pick<FrozenForecast, "startMs">): number {
  return Math.floor(startMs / HOUR_MS) * HOUR_MS;
}

/** `spent`: hours of the forecast's scope since `courseStart`. `rest`: what is to come. */
export function courseOf(
  made: FrozenForecast,
  spent: readonly HourlySpend[],
  rest: Rest | undefined,
  nowMs: number,
): Omit<SpendSeries, "title" | "budget" | "timezone"> {
  const startMs = courseStart(made);
  const hours = new Map(spent.map(({ hourMs, costNanoUsd }) => [hourMs, toUsdNumber(costNanoUsd)]));
  const passed = Math.min(Math.floor((nowMs - startMs) / HOUR_MS) + 1, made.hours.length);
  return {
    startMs,
    endMs: made.endMs,
    nowMs,
    spent: Array.from({ length: passed }, (_, i) => hours.get(startMs + i * HOUR_MS) ?? 0),
    expected: made.hours.map(toUsdNumber),
    ahead: rest && aheadOf(rest, nowMs),
  };
}

/** The hours from now on, the first one what is left of the running one. */
function aheadOf(rest: Rest, nowMs: number): Ahead {
  const runs = Math.floor((nowMs - rest.startMs) / HOUR_MS);
  const left = 1 - (nowMs - rest.startMs - runs * HOUR_MS) / HOUR_MS;
  const p50 = Number(rest.p50NanoUsd);
  return {
    hours: rest.hours.slice(runs).map((hour, i) => toUsdNumber(hour) * (i === 0 ? left : 1)),
    low: p50 === 0 ? 1 : Number(rest.p10NanoUsd) / p50,
    high: p50 === 0 ? 1 : Number(rest.p90NanoUsd) / p50,
  };
}
