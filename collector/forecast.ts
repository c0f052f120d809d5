// The forecast: hourly spend -> what the coming hours will cost, with quantiles of their total. Pure: arrays in, arrays
// out, in USD as floats; a forecast is an estimate and no ledger amount.
//
// The next hour is the profile (profile.ts) and the hour that just ended, each weighted by how well it did lately.
// Longer horizons are the profile and what is usual at that hour, the median of the last seven days with a share of
// yesterday that fades. The band is the method's own error, replayed on the past without knowledge of its future.
// Measured on real traffic: README.md.
import { DAY, median, profile, sum } from "./profile.ts";
import type { History } from "./profile.ts";

export type { History } from "./profile.ts";

export type Forecast = {
  readonly method: "blend" | "flat";
  /** Expected USD of each hour of the horizon; they add up to `p50`. */
  readonly hours: readonly number[];
  /** Quantiles of their total. */
  readonly p025: number;
  readonly p10: number;
  readonly p50: number;
  readonly p90: number;
  readonly p975: number;
  /** Too little history for anything but a flat mean: show it, but raise no alert by it. */
  readonly isLearning: boolean;
};

/** Under three days nothing about a day's shape is known. */
const LEAST_HOURS = 3 * DAY;
const USUAL_DAYS = 7;
const USUAL_SHARE = 0.43;
const YESTERDAY_SHARE = 0.2;
const YESTERDAY_FADE_HOURS = 12;
/** Below 1, so that of two that disagree the smaller counts a little more: an hour is more often quiet than loud. */
const MIX_POWER = 0.6;
/** How many hours the next hour's two opinions are tried on, and how sharply the better one is preferred. */
const TRIED_HOURS = 7 * DAY;
const TRIED_POWER = 3;
const PRIOR_WEIGHT = 3;
const PRIOR_SIGMA = { day: 0.45, hour: 0.6 };
const MOST_REPLAYS = 10;
/** Student's t for an 80 % and a 95 % interval, by degrees of freedom from 3 on. */
const T80 = [1.638, 1.533, 1.476, 1.44, 1.415, 1.397, 1.383, 1.372, 1.363, 1.356, 1.35];
const T95 = [3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16];

/** Forecasts the `horizon` hours that follow the history. */
export function forecast(history: History, horizon: number): Forecast {
  return forecasts(history, [horizon])[0] as Forecast;
}

/** Forecasts several spans of hours that all begin where the history ends, in the order given: the work is done
 *  once. */
export function forecasts(history: History, horizons: readonly number[]): Forecast[] {
  const known = history.hours.filter((hour) => hour !== undefined);
  // What never cost anything (a model without a price, say) has no shape to learn either.
  if (known.length < LEAST_HOURS || sum(known) === 0) {
    const mean = known.length === 0 ? 0 : sum(known) / known.length;
    return horizons.map((horizon) => ({
      method: "flat",
      hours: Array<number>(horizon).fill(mean),
      ...band(mean * horizon, { sigma: Math.LN2, weight: Infinity }),
      isLearning: true,
    }));
  }
  const floor = sum(known) / known.length;
  const longest = Math.max(...horizons);
  const all = longest > 1 ? blend(history, longest, history.hours.length) : [];
  const error = longest > 1 ? dayError(history, floor * DAY * 0.05) : undefined;
  return horizons.map((horizon): Forecast => {
    if (horizon === 1 || !error) {
      const next = nextHour(history, floor * 0.3);
      return { method: "blend", hours: [next.expected], ...band(next.expected, next.error), isLearning: false };
    }
    const hours = all.slice(0, horizon);
    // Errors of following days are nearly the same error: the band of a longer horizon is hardly narrower.
    const wider = horizon > DAY ? (horizon / DAY) ** 0.1 : 1;
    return {
      method: "blend",
      hours,
      ...band(sum(hours), { ...error, sigma: error.sigma * wider }),
      isLearning: false,
    };
  });
}

type Spread = { readonly sigma: number; readonly weight: number };

/** Log-normal around the median, with Student's quantiles while few errors are known. */
function band(p50: number, { sigma, weight }: Spread): Pick<Forecast, "p025" | "p10" | "p50" | "p90" | "p975"> {
  const at = (table: readonly number[]): number =>
    Math.exp(sigma * (table[Math.min(weight - 3, table.length - 1)] ?? 1));
  const [inner, outer] = [at(T80), at(T95)];
  return { p025: p50 / outer, p10: p50 / inner, p50, p90: p50 * inner, p975: p50 * outer };
}

/** The `horizon` hours after the first `end` hours of the history. */
function blend(history: History, horizon: number, end: number): number[] {
  return profile(history, horizon, end).map((profiled, i) => {
    const usual = usualHour(history, end, i) ?? profiled;
    return ((1 - USUAL_SHARE) * profiled ** MIX_POWER + USUAL_SHARE * usual ** MIX_POWER) ** (1 / MIX_POWER);
  });
}

/** What is usual at an hour, `ahead` of the end: the median of the last seven days, and a share of the latest. */
function usualHour({ hours }: History, end: number, ahead: number): number | undefined {
  const values: number[] = [];
  for (let back = 1; back <= USUAL_DAYS; back++) {
    const value = hours[end - DAY * back + (ahead % DAY)];
    if (value !== undefined) values.push(value);
  }
  if (values.length === 0) return undefined;
  const share = YESTERDAY_SHARE * Math.exp(-ahead / YESTERDAY_FADE_HOURS);
  const yesterday = hours[end - DAY + (ahead % DAY)] ?? median(values);
  return (1 - share) * median(values) + share * yesterday;
}

/** The next hour, and how wrong the same rule was about the last hours. */
function nextHour(history: History, floor: number): { readonly expected: number; readonly error: Spread } {
  const { hours } = history;
  const opinions = (end: number): readonly [profiled: number, last: number] => {
    const [profiled = 0] = profile(history, 1, end);
    return [profiled, hours[end - 1] ?? profiled];
  };
  const tried: { readonly profiled: number; readonly last: number; readonly actual: number }[] = [];
  for (let end = Math.max(LEAST_HOURS, hours.length - TRIED_HOURS); end < hours.length; end++) {
    const actual = hours[end];
    if (actual === undefined) continue;
    const [profiled, last] = opinions(end);
    tried.push({ profiled, last, actual });
  }
  const errorOf = (opinion: "profiled" | "last"): number =>
    sum(tried.map((one) => Math.abs(one[opinion] - one.actual))) ** TRIED_POWER;
  const [ofProfile, ofLast] = [errorOf("profiled"), errorOf("last")];
  const share = ofProfile + ofLast > 0 ? ofProfile / (ofProfile + ofLast) : 0.5;
  const mix = (profiled: number, last: number): number => (1 - share) * profiled + share * last;
  return {
    expected: mix(...opinions(hours.length)),
    error: spread(
      tried.map(({ profiled, last, actual }) => Math.log((actual + floor) / (mix(profiled, last) + floor))),
      PRIOR_SIGMA.hour,
    ),
  };
}

/** How wrong the method was about the totals of up to ten earlier days. */
function dayError(history: History, floor: number): Spread {
  const errors: number[] = [];
  for (let back = 1; back <= MOST_REPLAYS; back++) {
    const origin = history.hours.length - DAY * back;
    if (origin < 2 * DAY) break;
    const actual = history.hours.slice(origin, origin + DAY).filter((hour) => hour !== undefined);
    if (actual.length < DAY / 2) continue;
    const predicted = sum(blend(history, DAY, origin));
    errors.push(Math.log(((sum(actual) * DAY) / actual.length + floor) / (predicted + floor)));
  }
  return spread(errors, PRIOR_SIGMA.day);
}

/** The scale of log errors, with a prior worth three of them; one error counts as two at most. */
function spread(errors: readonly number[], prior: number): Spread {
  const weight = PRIOR_WEIGHT + errors.length;
  const squares = PRIOR_WEIGHT * prior ** 2 + sum(errors.map((error) => Math.min(4, error ** 2)));
  return { sigma: Math.sqrt(squares / weight), weight };
}
