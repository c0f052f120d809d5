// Freezes forecasts that are due and scores those whose window is over: reads hours of spend, forecasts by a pure
// function, writes billing.db. At any time, any number of times, with the same result.
import { setImmediate as breathe } from "node:timers/promises";
import { createCalendar, DAY_MS, HOUR_MS } from "../ledger/windows.ts";
import type { Window } from "../ledger/windows.ts";
import {
  dropHourForecasts,
  FORECAST_SCOPES,
  FORECAST_WINDOWS,
  freezeForecasts,
  noteScores,
  readForecasts,
  readUnscored,
} from "../ledger/billing/forecasts.ts";
import type { ForecastScore, ForecastWindow, FrozenForecast } from "../ledger/billing/forecasts.ts";
import { readPlans, withoutPlans, withPlans } from "../ledger/billing/plans.ts";
import type { PlannedEvent } from "../ledger/billing/plans.ts";
import { readHourlySpend, readSpendOfHours } from "../ledger/usage/hours.ts";
import { findMeterBegan, readMeterHours } from "../ledger/usage/meter-hours.ts";
import type { ForecastScope, HourlySpend } from "../ledger/usage/hours.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { CollectorBooks } from "./compare.ts";
import { replaceRests } from "../ledger/billing/landings.ts";
import type { Rest } from "../ledger/billing/landings.ts";
import { readHistoryOf, readKnownHours } from "./before.ts";
import { forecast, forecasts } from "./forecast.ts";
import type { History } from "./forecast.ts";

const HISTORY_MS = 28 * DAY_MS;
/** Scopes of one dimension that get a forecast: the largest of the last four weeks. */
const MOST_IDS = 500;
/** Windows are scored as far back as this. */
const SCORED_MS = 45 * DAY_MS;
/** A window in which the meter did not run for more than this share is not scored: what is missing is not zero. */
const MOST_MISSING = 0.1;
const KEPT_HOURS_MS = 14 * DAY_MS;

/** Freezes what is due, scores what is over, and works out what is to come. Can run at any time, any number of
 *  times. */
export async function refreshForecasts(books: CollectorBooks, timezone: string, nowMs: number): Promise<void> {
  await freezeDueForecasts(books, timezone, nowMs);
  await scoreForecasts(books, nowMs);
  await refreshRests(books, timezone, nowMs);
}

/** Freezes the forecasts of the running hour, day, week and month, of whatever spent anything in the last four weeks,
 *  where none stands yet: at the window's start, or at the first chance after it from what was known by then. Returns
 *  how many were made. */
export async function freezeDueForecasts(
  { usage, billing }: CollectorBooks,
  timezone: string,
  nowMs: number,
): Promise<number> {
  const calendar = createCalendar(timezone);
  const untilMs = hourStart(nowMs);
  const sinceMs = hourStart(calendar.window("month", nowMs).startMs) - HISTORY_MS;
  const existing = new Map((await readForecasts(billing, nowMs)).map((one) => [nameOf(one), one.method]));
  const ran = await readKnownHours({ usage, billing }, sinceMs, untilMs);
  const beganMs = (await findMeterBegan(usage)) ?? untilMs;
  const plans = await readPlans(billing, sinceMs, untilMs);
  let count = 0;
  for (const scope of FORECAST_SCOPES) {
    const spend = await readHours({ usage, billing }, plans, scope, sinceMs, untilMs, "nothing", nowMs);
    const made: FrozenForecast[] = [];
    for (const [id, hourly] of largest(spend)) {
      for (const kind of FORECAST_WINDOWS) {
        const window = calendar.window(kind, nowMs);
        const known = existing.get(nameOf({ scope, id, windowId: window.id }));
        if (known !== undefined && known !== "learning") continue;
        const one = freeze({ scope, id }, kind, hourly, ran, window, beganMs, untilMs, nowMs);
        // What was only learning is no forecast yet; the first one that is stays.
        if (known === undefined || one.method !== "learning") made.push(one);
        await breathe();
      }
    }
    if (made.length > 0) await freezeForecasts(billing, made);
    count += made.length;
  }
  return count;
}

/** What is to come in the running day, week and month of everybody who spent anything in the last four weeks, as of the
 *  start of this hour. */
export async function refreshRests({ usage, billing }: CollectorBooks, timezone: string, nowMs: number): Promise<void> {
  const calendar = createCalendar(timezone);
  const untilMs = hourStart(nowMs);
  const sinceMs = untilMs - HISTORY_MS;
  const ran = await readKnownHours({ usage, billing }, sinceMs, untilMs);
  const plans = await readPlans(billing, sinceMs, untilMs);
  const windows = RESTING_WINDOWS.map((kind) => ({ kind, window: calendar.window(kind, nowMs) }));
  const horizons = windows.map(({ window }) => Math.max(1, Math.ceil((window.endMs - untilMs) / HOUR_MS)));
  const made: Rest[] = [];
  for (const scope of FORECAST_SCOPES) {
    const spend = await readHours({ usage, billing }, plans, scope, sinceMs, untilMs, "all", nowMs);
    for (const [id, hourly] of largest(spend)) {
      const all = forecasts(historyUntil(untilMs, hourly, ran), horizons);
      for (const [i, { kind, window }] of windows.entries()) {
        const one = all[i];
        if (!one) continue;
        made.push({
          scope,
          id,
          window: kind,
          windowId: window.id,
          startMs: untilMs,
          endMs: window.endMs,
          madeAtMs: nowMs,
          method: one.isLearning ? "learning" : one.method,
          historyHours: hourly.size,
          p10NanoUsd: nano(one.p10),
          p50NanoUsd: nano(one.p50),
          p90NanoUsd: nano(one.p90),
          largestHourNanoUsd: 0n,
          hours: one.hours.map(nano),
        });
      }
      await breathe();
    }
  }
  await replaceRests(billing, made);
}

/** An hour is over before anybody looks where it lands. */
const RESTING_WINDOWS = ["day", "week", "month"] as const satisfies readonly ForecastWindow[];

/** Whether somebody spends today who has no forecast yet: a key that is minutes old. */
export async function hasNewcomers(
  { usage, billing }: CollectorBooks,
  timezone: string,
  nowMs: number,
): Promise<boolean> {
  const day = createCalendar(timezone).window("day", nowMs);
  const existing = Map.groupBy(
    (await readForecasts(billing, nowMs)).filter(({ windowId }) => windowId === day.id),
    ({ scope }) => scope,
  );
  for (const scope of FORECAST_SCOPES) {
    const known = new Set(existing.get(scope)?.map(({ id }) => id));
    if (known.size >= MOST_IDS) continue;
    const spending = await readSpendOfHours(usage, hourStart(day.startMs), hourStart(nowMs) + HOUR_MS, scope);
    for (const id of spending.keys()) if (id !== "" && !known.has(id)) return true;
  }
  return false;
}

/** Holds the forecasts of windows that are over against what was spent in them. Returns how many were scored. */
export async function scoreForecasts(books: CollectorBooks, nowMs: number): Promise<number> {
  const { usage, billing } = books;
  await dropHourForecasts(billing, nowMs - KEPT_HOURS_MS);
  // An hour's rollup may still grow while answers that began in it are under way.
  const over = await readUnscored(billing, nowMs - SCORED_MS, nowMs - HOUR_MS);
  const scores: ForecastScore[] = [];
  const byWindow = Map.groupBy(
    (await withPlans(books, over, nowMs)).filter(({ method }) => method !== "learning"),
    ({ scope, startMs, endMs }) => `${scope} ${startMs} ${endMs}`,
  );
  for (const [first, ...rest] of byWindow.values()) {
    if (!first) continue;
    const [startMs, endMs] = [hourStart(first.startMs), hourStart(first.endMs)];
    const ran = await readMeterHours(usage, startMs, endMs);
    const hours = Math.round((endMs - startMs) / HOUR_MS);
    if (ran.size < hours * (1 - MOST_MISSING)) continue;
    const spent = await readSpendOfHours(usage, startMs, endMs, first.scope);
    for (const one of [first, ...rest])
      scores.push({
        scope: one.scope,
        id: one.id,
        window: one.window,
        windowId: one.windowId,
        endMs: one.endMs,
        p10NanoUsd: one.p10NanoUsd,
        p50NanoUsd: one.p50NanoUsd,
        p90NanoUsd: one.p90NanoUsd,
        actualNanoUsd: spent.get(one.id) ?? 0n,
        scoredAtMs: nowMs,
      });
  }
  await noteScores(billing, scores);
  return scores.length;
}

/** What was spent by the hour, without what was planned: metered, and before the meter as it was billed. */
async function readHours(
  books: CollectorBooks,
  plans: readonly PlannedEvent[],
  scope: ForecastScope["scope"],
  sinceMs: number,
  untilMs: number,
  unknown: "all" | "nothing",
  nowMs: number,
): Promise<HourlySpend[]> {
  // Who spends for the first time in the running hour is known too, and has no history yet.
  const metered = await readHourlySpend(books.usage, sinceMs, untilMs + HOUR_MS, scope);
  // What is billed and never came through the meter is nobody's forecast here; the organisation's is everybody's.
  const known = new Set([...metered.map(({ id }) => id), ...(scope === "org" ? ["all"] : [])]);
  const before = (await readHistoryOf(books, sinceMs, untilMs, scope, unknown, nowMs)).filter(({ id }) =>
    known.has(id),
  );
  return withoutPlans(books.usage, plans, scope, [...before, ...metered]);
}

type Hourly = ReadonlyMap<number, NanoUsd>;

/** By id, the largest first; a name that was never given ("") is none. */
function largest(spend: readonly HourlySpend[]): [id: string, hourly: Hourly][] {
  const byId = new Map<string, { hourly: Map<number, NanoUsd>; sum: NanoUsd }>();
  for (const { hourMs, id, costNanoUsd } of spend) {
    if (id === "") continue;
    let one = byId.get(id);
    if (!one) byId.set(id, (one = { hourly: new Map(), sum: 0n }));
    one.hourly.set(hourMs, costNanoUsd);
    one.sum += costNanoUsd;
  }
  return [...byId]
    .toSorted(([, a], [, b]) => (b.sum > a.sum ? 1 : b.sum < a.sum ? -1 : 0))
    .slice(0, MOST_IDS)
    .map(([id, { hourly }]) => [id, hourly]);
}

/** Forecasts from the window's start when enough was known then, else from now on: what passed already is then fact. So
 *  it is in a window in which the meter began: what was billed before is not metered, and no alert may expect it. Where
 *  a zone's hours are half an hour off, the books' UTC hours stand for them. */
function freeze(
  { scope, id }: ForecastScope,
  kind: ForecastWindow,
  hourly: Hourly,
  ran: ReadonlySet<number>,
  window: Window,
  beganMs: number,
  untilMs: number,
  nowMs: number,
): FrozenForecast {
  const startMs = hourStart(window.startMs);
  const hours = Math.round((window.endMs - window.startMs) / HOUR_MS);
  const atStart = forecast(historyUntil(startMs, hourly, ran), hours);
  const useStart = (!atStart.isLearning && beganMs <= startMs) || untilMs <= startMs;
  const elapsed = useStart ? 0 : Math.round((untilMs - startMs) / HOUR_MS);
  const rest = useStart ? atStart : forecast(historyUntil(untilMs, hourly, ran), hours - elapsed);
  const passed = Array.from({ length: elapsed }, (_, i) => {
    const hourMs = startMs + i * HOUR_MS;
    return hourMs < beganMs ? 0n : (hourly.get(hourMs) ?? 0n);
  });
  const soFar = passed.reduce((sum, one) => sum + one, 0n);
  const madeFromMs = useStart ? startMs : untilMs;
  let largestHourNanoUsd = 0n;
  for (const [hourMs, cost] of hourly)
    if (hourMs >= madeFromMs - 7 * DAY_MS && hourMs < madeFromMs && cost > largestHourNanoUsd)
      largestHourNanoUsd = cost;
  return {
    scope,
    id,
    window: kind,
    windowId: window.id,
    startMs: window.startMs,
    endMs: window.endMs,
    madeAtMs: nowMs,
    method: rest.isLearning ? "learning" : rest.method,
    historyHours: hourly.size,
    p10NanoUsd: soFar + nano(rest.p10),
    p50NanoUsd: soFar + nano(rest.p50),
    p90NanoUsd: soFar + nano(rest.p90),
    largestHourNanoUsd,
    hours: [...passed, ...rest.hours.map(nano)],
  };
}

/** The hours of a scope from its first spend on. An hour without a row is zero if the meter ran, else missing. */
function historyUntil(untilMs: number, hourly: Hourly, ran: ReadonlySet<number>): History {
  let first = untilMs;
  for (const hourMs of hourly.keys()) if (hourMs < first) first = hourMs;
  const startMs = Math.max(first, untilMs - HISTORY_MS);
  const hours = Array.from({ length: Math.round((untilMs - startMs) / HOUR_MS) }, (_, i) => {
    const hourMs = startMs + i * HOUR_MS;
    const spent = hourly.get(hourMs);
    return spent !== undefined ? Math.max(0, toUsdNumber(spent)) : ran.has(hourMs) ? 0 : undefined;
  });
  return { startMs, hours };
}

/** The start of the UTC hour that holds an instant. */
function hourStart(atMs: number): number {
  return Math.floor(atMs / HOUR_MS) * HOUR_MS;
}

function nameOf({ scope, id, windowId }: ForecastScope & { readonly windowId: string }): string {
  return `${scope} ${id} ${windowId}`;
}

function nano(usd: number): NanoUsd {
  return BigInt(Math.round(usd * 1e9));
}
