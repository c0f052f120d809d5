// Where lines are drawn: every threshold in money, once, with the teams that have their own. The collector exports each line as a
// gauge beside the figure that it is for; the rules compare the two.
import { z } from "zod";

const share = (): z.ZodType<number> => z.number().min(0).max(100);
const usd = (): z.ZodType<number> => z.number().min(0);
const factor = (): z.ZodType<number> => z.number().positive();
const days = (): z.ZodType<number> => z.number().int().min(1).max(3_660);

const SCHEMAS = {
  over_forecast: share(),
  far_over_forecast: share(),
  over_forecast_usd: usd(),
  key_org_share: share(),
  key_spike: factor(),
  key_idle_days: days(),
  key_idle_usd: usd(),
  key_age_days: days(),
  burn_fast: factor(),
  burn_slow: factor(),
  burn_drift: factor(),
  burn_usd: usd(),
  unallocated_share: share(),
  unallocated_usd: usd(),
  variance_share: share(),
  variance_usd: usd(),
  unmetered_usd: usd(),
  forecast_error: share(),
  forecast_coverage: share(),
};

export type Thresholds = { readonly [name in keyof typeof SCHEMAS]: number };

/** Measured on real traffic where it says so (collector/README.md); keymeter.example.yaml says what each means. */
const USUAL: Thresholds = {
  over_forecast: 0.2,
  far_over_forecast: 0.5,
  over_forecast_usd: 1,
  key_org_share: 0.012,
  key_spike: 1.25,
  key_idle_days: 14,
  key_idle_usd: 5,
  key_age_days: 180,
  burn_fast: 14.4,
  burn_slow: 6,
  burn_drift: 1.5,
  burn_usd: 5,
  unallocated_share: 0.05,
  unallocated_usd: 5,
  variance_share: 0.03,
  variance_usd: 10,
  unmetered_usd: 5,
  forecast_error: 0.5,
  forecast_coverage: 0.5,
};

export const thresholdsSchema = z.strictObject(SCHEMAS).partial() as z.ZodType<Partial<Thresholds>>;

/** The thresholds of a team: its own, else everybody's. */
export function thresholdsOf({ thresholds, teamThresholds }: ThresholdSettings, team: string): Thresholds {
  return { ...USUAL, ...thresholds, ...(Object.hasOwn(teamThresholds, team) ? teamThresholds[team] : undefined) };
}

export type ThresholdSettings = {
  readonly thresholds: Partial<Thresholds>;
  readonly teamThresholds: { readonly [team: string]: Partial<Thresholds> };
};
