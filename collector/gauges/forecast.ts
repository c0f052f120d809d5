// Gauges of forecasts: what was frozen when a window began, where it lands as it looks now, and how good forecasts have
// been, with the lines below which they are of no use.
import { expectedSoFar, readScores, recordOf } from "../../ledger/billing/forecasts.ts";
import { landingOf, readRests } from "../../ledger/billing/landings.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { DAY_MS } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { thresholdsOf } from "../thresholds.ts";
import type { GaugeSettings, MakeGauge, Refresh } from "./gauge.ts";
import { hasSeries } from "./spend-sums.ts";

const SCOPE = ["scope", "id", "window"] as const;
export const FORECAST = [
  "keymeter_forecast_usd",
  "Frozen forecast of the running window's total.",
  [...SCOPE, "quantile"],
] as const;
export const SO_FAR = ["keymeter_forecast_so_far_usd", "What the frozen forecast expected until now.", SCOPE] as const;

const SCORED_MS = 28 * DAY_MS;
/** Fewer windows than this say nothing about forecasts. */
const LEAST_SCORES = 7;

export function forecastGauges(make: MakeGauge, books: CollectorBooks, settings: GaugeSettings): Refresh {
  const frozen = make(...FORECAST);
  const landing = make("keymeter_landing_usd", "Where the running window lands as it looks now: spent, and to come.", [
    ...SCOPE,
    "quantile",
  ]);
  const soFar = make(...SO_FAR);
  const learning = make("keymeter_forecast_learning", "1 where there is too little history for a forecast.", SCOPE);
  const setRecord = recordGauges(make, books, settings);
  return async (reading) => {
    for (const one of [frozen, landing, soFar, learning]) one.reset();
    for (const one of await reading.expectations()) {
      if (!hasSeries(one.scope)) continue;
      const labels = { scope: one.scope, id: one.id, window: one.window };
      learning.set(labels, one.method === "learning" ? 1 : 0);
      if (one.method === "learning") continue;
      for (const [quantile, amount] of quantilesOf(one)) frozen.set({ ...labels, quantile }, toUsdNumber(amount));
      soFar.set(labels, toUsdNumber(expectedSoFar(one, reading.nowMs)));
    }
    for (const window of ["day", "month"] as const)
      for (const rest of await readRests(books, reading.nowMs, { window })) {
        if (rest.method === "learning" || !hasSeries(rest.scope)) continue;
        const spent = (await reading.costs(window, rest.scope)).get(rest.id) ?? 0n;
        for (const [quantile, amount] of quantilesOf(landingOf(rest, spent, reading.nowMs)))
          landing.set({ scope: rest.scope, id: rest.id, window, quantile }, toUsdNumber(amount));
      }
    await setRecord(reading);
  };
}

/** The middle of a forecast and the ends of its band, by quantile. */
export function quantilesOf({
  p10NanoUsd,
  p50NanoUsd,
  p90NanoUsd,
}: {
  readonly [quantile in "p10NanoUsd" | "p50NanoUsd" | "p90NanoUsd"]: NanoUsd;
}): [quantile: string, amountNanoUsd: NanoUsd][] {
  return [
    ["0.1", p10NanoUsd],
    ["0.5", p50NanoUsd],
    ["0.9", p90NanoUsd],
  ];
}

function recordGauges(make: MakeGauge, { billing }: CollectorBooks, settings: GaugeSettings): Refresh {
  const of = ["scope", "window"] as const;
  const error = make("keymeter_forecast_error_ratio", "Forecast error over spend, of the last four weeks (WAPE).", of);
  const errorLimit = make("keymeter_forecast_error_limit_ratio", "A forecast that is worse is of no use.", of);
  const bias = make("keymeter_forecast_bias_ratio", "Forecast minus spend, over spend, of the last four weeks.", of);
  const coverage = make("keymeter_forecast_coverage_ratio", "How often spend lay in the 80 % band.", of);
  const coverageLimit = make("keymeter_forecast_coverage_limit_ratio", "A band that holds less is of no use.", of);
  const { forecast_error: errorMost, forecast_coverage: coverageLeast } = thresholdsOf(settings, "");
  return async ({ nowMs }) => {
    for (const one of [error, errorLimit, bias, coverage, coverageLimit]) one.reset();
    const scores = (await readScores(billing, nowMs - SCORED_MS)).filter(({ scope }) => hasSeries(scope));
    for (const group of Map.groupBy(scores, (one) => `${one.scope} ${one.window}`).values()) {
      const [first] = group;
      const found = recordOf(group);
      if (!first || !found || new Set(group.map(({ windowId }) => windowId)).size < LEAST_SCORES) continue;
      const labels = { scope: first.scope, window: first.window };
      error.set(labels, found.error);
      errorLimit.set(labels, errorMost);
      bias.set(labels, found.bias);
      coverage.set(labels, found.coverage);
      coverageLimit.set(labels, coverageLeast);
    }
  };
}
