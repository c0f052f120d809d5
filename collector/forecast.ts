// The forecast: hourly spend -> what the coming hours will cost, with quantiles of their total. Pure: arrays in, arrays
// out, in USD as floats; a forecast is an estimate and no ledger amount.
//
// Method "blend", measured on real traffic (see README.md): 0.6 of a profile and 0.4 of the median of the same hour on the
// last seven days. The profile is hour-of-day shape x recent level x weekday factor. The level is an exponentially
// weighted mean of the last 24-hour blocks, each capped, so that yesterday's incident is not today's forecast.

/** Hourly spend, oldest first, without gaps; the first hour begins at `startMs`. An hour in which the meter did not run is
 *  undefined: missing, not zero. */
export type History = { readonly startMs: number; readonly hours: readonly (number | undefined)[] };

export type Forecast = {
  readonly method: "blend" | "flat";
  /** Expected USD of each hour of the horizon. */
  readonly hours: readonly number[];
  /** Quantiles of their total. */
  readonly p10: number;
  readonly p50: number;
  readonly p90: number;
  /** Too little history for anything but a flat mean: show it, but raise no alert by it. */
  readonly isLearning: boolean;
};

const DAY = 24;
const HOUR_MS = 3_600_000;
/** Under three days nothing about a day's shape is known. */
const LEAST_HOURS = 3 * DAY;
const MOST_DAYS = 28;
const LEVEL_ALPHA = 0.45;
const LEVEL_CAP = 1.6;
const SHAPE_ALPHA = 0.07;
const SHAPE_FLAT_DAYS = 0.7;
const SHAPE_CAP = 3.2;
const WEEKDAY_FROM_DAYS = 14;
const WEEKDAY_SHRINK = 4;
const NEAR_HOURS = 3;
const NEAR_FADE_HOURS = 8;
const NEAR_CALM = 0.3;
const MEDIAN_SHARE = 0.4;
const PRIOR_SIGMA = 0.45;
const PRIOR_WEIGHT = 3;
const MOST_REPLAYS = 10;
/** Student's t for an 80 % interval, by degrees of freedom from 3 on. */
const T80 = [1.638, 1.533, 1.476, 1.44, 1.415, 1.397, 1.383, 1.372, 1.363, 1.356, 1.35];

/** Forecasts the `horizon` hours that follow the history. */
export function forecast(history: History, horizon: number): Forecast {
  const known = history.hours.filter((hour) => hour !== undefined);
  if (known.length < LEAST_HOURS) {
    const mean = known.length === 0 ? 0 : sum(known) / known.length;
    const total = mean * horizon;
    return {
      method: "flat",
      hours: Array(horizon).fill(mean),
      p10: total / 2,
      p50: total,
      p90: total * 2,
      isLearning: true,
    };
  }
  const hours = blend(history, horizon);
  const total = sum(hours);
  const { sigma, weight } = errorOf(history);
  // Errors of following days are nearly the same error: the band of a longer horizon is hardly narrower.
  const spread =
    (T80[Math.min(weight, 3 + T80.length - 1) - 3] ?? 1.35) * sigma * (horizon > DAY ? (horizon / DAY) ** 0.1 : 1);
  return {
    method: "blend",
    hours,
    p10: total * Math.exp(-spread),
    p50: total,
    p90: total * Math.exp(spread),
    isLearning: false,
  };
}

function blend(history: History, horizon: number): number[] {
  const profiled = profile(history, horizon);
  const usual = sameHourMedian(history, horizon);
  return profiled.map((value, i) => (1 - MEDIAN_SHARE) * value + MEDIAN_SHARE * (usual[i] ?? value));
}

/** The median of the same hour over the last seven days. */
function sameHourMedian({ hours }: History, horizon: number): number[] {
  return Array.from({ length: horizon }, (_, i) => {
    const values: number[] = [];
    for (let back = 1; back <= 7; back++) {
      const value = hours[hours.length - DAY * back + (i % DAY)];
      if (value !== undefined) values.push(value);
    }
    return median(values);
  });
}

function profile(history: History, horizon: number): number[] {
  const { hours } = history;
  const n = hours.length;
  const startHour = Math.floor(history.startMs / HOUR_MS);
  const weekdayOf = (i: number): number => (Math.floor((startHour + i) / DAY) + 4) % 7;
  const hourOf = (i: number): number => (startHour + i) % DAY;

  // 24-hour blocks, the latest first; a block with missing hours is scaled up by what is known of it.
  const blocks = Array.from({ length: Math.min(Math.floor(n / DAY), MOST_DAYS) }, (_, k) => {
    const known = hours.slice(n - DAY * (k + 1), n - DAY * k).filter((hour) => hour !== undefined);
    return known.length < DAY / 2
      ? undefined
      : {
          total: (sum(known) * DAY) / known.length,
          weekday: weekdayOf(n - DAY * k - DAY / 2),
          from: n - DAY * (k + 1),
        };
  }).filter((block) => block !== undefined);

  const weekday = weekdayFactors(blocks);
  const plain = blocks.map((block) => block.total / (weekday[block.weekday] ?? 1));
  const cap = median(plain.slice(0, 14)) * LEVEL_CAP;
  const level = weightedMean(plain.map((value, k) => [cap > 0 ? Math.min(value, cap) : value, (1 - LEVEL_ALPHA) ** k]));
  const hourly = level / DAY;

  const shape = dayShape(history, blocks, hourOf);
  const fit = (i: number): number => hourly * (shape[hourOf(i)] ?? 1) * (weekday[weekdayOf(i)] ?? 1);

  // The last hours tell whether today runs high or low; what they tell fades.
  let seen = NEAR_CALM * hourly;
  let fitted = NEAR_CALM * hourly;
  for (let i = Math.max(0, n - NEAR_HOURS); i < n; i++) {
    const value = hours[i];
    if (value === undefined) continue;
    seen += value;
    fitted += fit(i);
  }
  const near = fitted > 0 ? Math.min(Math.max(seen / fitted, 0.05), 8) : 1;
  return Array.from({ length: horizon }, (_, i) =>
    Math.max(0, fit(n + i) * (1 + (near - 1) * Math.exp(-i / NEAR_FADE_HOURS))),
  );
}

type Block = { readonly total: number; readonly weekday: number; readonly from: number };

/** How a weekday differs from the week around it, shrunk towards 1 while few were seen. */
function weekdayFactors(blocks: readonly Block[]): number[] {
  const factors = Array<number>(7).fill(1);
  if (blocks.length < WEEKDAY_FROM_DAYS) return factors;
  const ratios: number[][] = Array.from({ length: 7 }, () => []);
  blocks.forEach((block, k) => {
    const around = blocks.slice(Math.max(0, Math.min(blocks.length - 7, k - 3))).slice(0, 7);
    const mean = sum(around.map(({ total }) => total)) / around.length;
    if (mean > 0) ratios[block.weekday]?.push(Math.min(4, block.total / mean));
  });
  const raw = ratios.map((of) =>
    of.length === 0 ? 1 : (of.length * median(of) + WEEKDAY_SHRINK) / (of.length + WEEKDAY_SHRINK),
  );
  const mean = sum(raw) / 7;
  return raw.map((factor) => Math.max(0.05, factor / mean));
}

/** The share of each hour of the day, mean 1, shrunk to flat by a part of a day. */
function dayShape({ hours }: History, blocks: readonly Block[], hourOf: (i: number) => number): number[] {
  const shares = Array<number>(DAY).fill(SHAPE_FLAT_DAYS);
  const weights = Array<number>(DAY).fill(SHAPE_FLAT_DAYS);
  blocks.forEach((block, k) => {
    if (block.total <= 0) return;
    const weight = (1 - SHAPE_ALPHA) ** k;
    for (let i = block.from; i < block.from + DAY; i++) {
      const value = hours[i];
      if (value === undefined) continue;
      const hour = hourOf(i);
      shares[hour] = (shares[hour] ?? 0) + weight * Math.min(SHAPE_CAP, value / (block.total / DAY));
      weights[hour] = (weights[hour] ?? 0) + weight;
    }
  });
  const shape = shares.map((share, hour) => share / (weights[hour] ?? 1));
  const mean = sum(shape) / DAY;
  return shape.map((value) => value / mean);
}

/** The method's own error: the log of actual over forecast on earlier days, replayed without knowledge of their future,
 *  with a prior worth three days. */
function errorOf(history: History): { sigma: number; weight: number } {
  const known = history.hours.filter((hour) => hour !== undefined);
  const floor = (sum(known) / known.length) * DAY * 0.05 || 1e-9;
  let squares = PRIOR_WEIGHT * PRIOR_SIGMA ** 2;
  let replays = 0;
  for (let back = 1; back <= MOST_REPLAYS; back++) {
    const origin = history.hours.length - DAY * back;
    if (origin < 2 * DAY) break;
    const actual = history.hours.slice(origin, origin + DAY).filter((hour) => hour !== undefined);
    if (actual.length < DAY / 2) continue;
    const predicted = sum(blend({ startMs: history.startMs, hours: history.hours.slice(0, origin) }, DAY));
    const error = Math.log(((sum(actual) * DAY) / actual.length + floor) / (predicted + floor));
    squares += Math.min(4, error ** 2);
    replays += 1;
  }
  return { sigma: Math.sqrt(squares / (PRIOR_WEIGHT + replays)), weight: PRIOR_WEIGHT + replays };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length === 0
    ? 0
    : sorted.length % 2 === 1
      ? (sorted[middle] ?? 0)
      : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

function weightedMean(pairs: readonly (readonly [value: number, weight: number])[]): number {
  const weight = sum(pairs.map(([, w]) => w));
  return weight === 0 ? 0 : sum(pairs.map(([value, w]) => value * w)) / weight;
}
