// Where lines are drawn: every threshold in money, once, with the teams that have their own. The collector exports each
// line as a gauge beside the figure that it is for; the rules compare the two.
import { z } from "zod";

const share = z.number().min(0).max(100);
const usd = z.number().min(0);
const factor = z.number().positive();
const days = z.number().int().min(1).max(3_660);

/** Measured on real traffic where it says so (collector/README.md). */
const THRESHOLDS = {
  over_forecast: {
    schema: share,
    usual: 0.2,
    says: "a day or month will end so much over its forecast: a warning, where the forecast's own band allows",
  },
  far_over_forecast: { schema: share, usual: 0.5, says: "... and so much: critical" },
  over_forecast_usd: { schema: usd, usual: 1, says: "over by less is not worth a message" },
  key_org_share: {
    schema: share,
    usual: 0.012,
    says: "of a key: nor by less than this share of the organisation's usual day",
  },
  key_spike: {
    schema: factor,
    usual: 1.25,
    says: "one hour of a key that is so many times its largest of the last seven days",
  },
  key_idle_days: { schema: days, usual: 14, says: "a key that was silent for so long" },
  key_idle_usd: { schema: usd, usual: 5, says: "... and then spends so much within a day" },
  key_age_days: { schema: days, usual: 180, says: "a secret that is older and still in use" },
  burn_fast: {
    schema: factor,
    usual: 14.4,
    says: "a budget burns so many times too fast, over an hour and five minutes",
  },
  burn_slow: { schema: factor, usual: 6, says: "... over six hours and thirty minutes" },
  burn_drift: { schema: factor, usual: 1.5, says: "... over three days and six hours" },
  burn_usd: { schema: usd, usual: 5, says: "... and so much money at least" },
  unallocated_share: { schema: share, usual: 0.05, says: "of a day's spend belongs to no team" },
  unallocated_usd: { schema: usd, usual: 5, says: "... and so much at least" },
  variance_share: { schema: share, usual: 0.03, says: "a bill differs from the meter by so much of a day" },
  variance_usd: { schema: usd, usual: 10, says: "... and so much at least" },
  unmetered_usd: { schema: usd, usual: 5, says: "a day's bill for what was never metered" },
  forecast_error: {
    schema: share,
    usual: 0.5,
    says: "error over spend of the last four weeks: the forecast is of no use",
  },
  forecast_coverage: { schema: share, usual: 0.5, says: "... or its 80 % band held less than this share" },
};

export type Thresholds = { readonly [name in keyof typeof THRESHOLDS]: number };

const each = <T>(of: (one: (typeof THRESHOLDS)[keyof Thresholds]) => T): { [name in keyof Thresholds]: T } =>
  Object.fromEntries(Object.entries(THRESHOLDS).map(([name, one]) => [name, of(one)])) as {
    [name in keyof Thresholds]: T;
  };

const USUAL: Thresholds = each(({ usual }) => usual);

export const thresholdsSchema = z.strictObject(each(({ schema }) => schema)).partial() as z.ZodType<
  Partial<Thresholds>
>;

/** Each as a line of YAML. */
export const THRESHOLD_LINES: readonly string[] = Object.entries(THRESHOLDS).map(
  ([name, { usual, says }]) => `${name}: ${usual} # ${says}`,
);

/** The thresholds of a team: its own, else everybody's. */
export function thresholdsOf({ thresholds, teamThresholds }: ThresholdSettings, team: string): Thresholds {
  return { ...USUAL, ...thresholds, ...(Object.hasOwn(teamThresholds, team) ? teamThresholds[team] : undefined) };
}

export type ThresholdSettings = {
  readonly thresholds: Partial<Thresholds>;
  readonly teamThresholds: { readonly [team: string]: Partial<Thresholds> };
};
