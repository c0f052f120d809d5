// The profile of a series: hour-of-day shape x recent level x weekday factor, and what the last hours say. Pure.
//
// The level is an exponentially weighted mean of the last 24-hour blocks, each capped, so that yesterday's incident is
// not today's forecast; further ahead it returns to a slower one. Constants were measured on real traffic (README.md).
import { HOUR_MS } from "../ledger/windows.ts";

/** Hourly spend, oldest first, without gaps; the first hour begins at `startMs`. An hour in which the meter did not run
 *  is undefined: missing, not zero. */
export type History = { readonly startMs: number; readonly hours: readonly (number | undefined)[] };

export const DAY = 24;
const MOST_DAYS = 28;
const LEVEL_ALPHA = 0.6;
const LEVEL_CAP = 1.6;
const SLOW_ALPHA = 0.05;
const SLOW_CAP = 3;
/** What of the recent level is left a day further ahead. */
const LEVEL_FADE = 0.95;
const SHAPE_ALPHA = 0.07;
const SHAPE_FLAT_DAYS = 0.4;
const SHAPE_CAP = 3.2;
const WEEKDAY_FROM_DAYS = 14;
const WEEKDAY_SHRINK = 4;
const NEAR_HOURS = 3;
const NEAR_FADE_HOURS = 11;
const NEAR_CALM = 0.3;

/** What the profile expects of each of the `horizon` hours that follow the first `end` hours of the history. */
export function profile(history: History, horizon: number, end = history.hours.length): number[] {
  const { hours } = history;
  const startHour = Math.floor(history.startMs / HOUR_MS);
  const weekdayOf = (i: number): number => (Math.floor((startHour + i) / DAY) + 4) % 7;
  const hourOf = (i: number): number => (startHour + i) % DAY;

  const blocks = blocksOf(hours, end, weekdayOf);
  const weekday = weekdayFactors(blocks);
  const plain = blocks.map((block) => block.total / (weekday[block.weekday] ?? 1));
  const usual = median(plain.slice(0, 14));
  const level = (alpha: number, cap: number): number =>
    weightedMean(plain.map((value, k) => [usual > 0 ? Math.min(value, cap * usual) : value, (1 - alpha) ** k])) / DAY;
  const recent = level(LEVEL_ALPHA, LEVEL_CAP);
  const slow = level(SLOW_ALPHA, SLOW_CAP);

  const shape = dayShape(hours, blocks, hourOf);
  const factor = (i: number): number => (shape[hourOf(i)] ?? 1) * (weekday[weekdayOf(i)] ?? 1);

  // The last hours tell whether today runs high or low; what they tell fades.
  let seen = NEAR_CALM * recent;
  let fitted = NEAR_CALM * recent;
  for (let i = Math.max(0, end - NEAR_HOURS); i < end; i++) {
    const value = hours[i];
    if (value === undefined) continue;
    seen += value;
    fitted += recent * factor(i);
  }
  const near = fitted > 0 ? Math.min(Math.max(seen / fitted, 0.05), 8) : 1;
  return Array.from({ length: horizon }, (_, i) => {
    const kept = LEVEL_FADE ** (i / DAY);
    return (kept * recent + (1 - kept) * slow) * factor(end + i) * (1 + (near - 1) * Math.exp(-i / NEAR_FADE_HOURS));
  });
}

type Block = { readonly total: number; readonly weekday: number; readonly from: number };

/** 24-hour blocks, the latest first; one with missing hours is scaled up by what is known of it. */
function blocksOf(
  hours: readonly (number | undefined)[],
  end: number,
  weekdayOf: (i: number) => number,
): readonly Block[] {
  const blocks: Block[] = [];
  for (let k = 0; k < Math.min(Math.floor(end / DAY), MOST_DAYS); k++) {
    const from = end - DAY * (k + 1);
    let total = 0;
    let known = 0;
    for (let i = from; i < from + DAY; i++) {
      const value = hours[i];
      if (value === undefined) continue;
      total += value;
      known += 1;
    }
    if (known >= DAY / 2) blocks.push({ total: (total * DAY) / known, weekday: weekdayOf(from + DAY / 2), from });
  }
  return blocks;
}

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
  const raw = ratios.map((seen) =>
    seen.length === 0 ? 1 : (seen.length * median(seen) + WEEKDAY_SHRINK) / (seen.length + WEEKDAY_SHRINK),
  );
  const mean = sum(raw) / 7;
  return raw.map((factor) => Math.max(0.05, factor / mean));
}

/** The share of each hour of the day, mean 1, shrunk to flat by a part of a day. */
function dayShape(
  hours: readonly (number | undefined)[],
  blocks: readonly Block[],
  hourOf: (i: number) => number,
): number[] {
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

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

export function median(values: readonly number[]): number {
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
