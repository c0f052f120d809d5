// How a window goes, as a picture takes it: a forecast's hours, and what was spent in each so far. Pure.
import type { FrozenForecast } from "../ledger/forecasts.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { HourlySpend } from "../ledger/spend.ts";
import type { SpendSeries } from "./spend.ts";

const HOUR_MS = 3_600_000;

/** Hours of books are hours of UTC: where a zone's midnight lies within one, the window begins with all of it. */
export function courseStart({ startMs }: Pick<FrozenForecast, "startMs">): number {
  return Math.floor(startMs / HOUR_MS) * HOUR_MS;
}

/** `spent`: hours of the forecast's scope since `courseStart`. */
export function courseOf(
  made: FrozenForecast,
  spent: readonly HourlySpend[],
  nowMs: number,
): Omit<SpendSeries, "title" | "budget" | "timezone"> {
  const startMs = courseStart(made);
  const hours = new Map(spent.map(({ hourMs, costNanoUsd }) => [hourMs, toUsdNumber(costNanoUsd)]));
  const passed = Math.min(Math.floor((nowMs - startMs) / HOUR_MS) + 1, made.hours.length);
  const p50 = Number(made.p50NanoUsd);
  return {
    startMs,
    endMs: made.endMs,
    nowMs,
    spent: Array.from({ length: passed }, (_, i) => hours.get(startMs + i * HOUR_MS) ?? 0),
    expected: made.hours.map(toUsdNumber),
    low: p50 === 0 ? 1 : Number(made.p10NanoUsd) / p50,
    high: p50 === 0 ? 1 : Number(made.p90NanoUsd) / p50,
  };
}
