// Freezes forecasts that are due: reads hours of spend, forecasts by a pure function, writes billing.db. At any time, any number of times,
// with the same result.
import { createCalendar } from "../ledger/windows.ts";
import type { Calendar } from "../ledger/windows.ts";
import { freezeForecasts, readForecasts } from "../ledger/forecasts.ts";
import type { ForecastScope, FrozenForecast } from "../ledger/forecasts.ts";
import { readHourlySpend, readMeterHours } from "../ledger/spend.ts";
import type { HourlySpend } from "../ledger/spend.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Books } from "./compare.ts";
import { forecast } from "./forecast.ts";
import type { History } from "./forecast.ts";

const HOUR_MS = 3_600_000;
const HISTORY_MS = 28 * 24 * HOUR_MS;

/** Freezes the day's and the month's forecast of the organisation, each team and each key, where none stands yet: at the
 *  window's start, or at the first chance after it from what was known by then. Returns how many were made. */
export async function freezeDueForecasts({ usage, billing }: Books, timezone: string, nowMs: number): Promise<number> {
  const calendar = createCalendar(timezone);
  const existing = new Set(
    (await readForecasts(billing, nowMs)).map((one) => `${one.scope} ${one.id} ${one.windowId}`),
  );
  const made: FrozenForecast[] = [];
  for (const kind of ["day", "month"] as const) {
    const window = calendar.window(kind, nowMs);
    const untilMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
    const sinceMs = window.startMs - HISTORY_MS;
    const [spend, ran] = [
      await readHourlySpend(usage, sinceMs, untilMs),
      await readMeterHours(usage, sinceMs, untilMs),
    ];
    for (const [scope, hourly] of byScope(spend)) {
      if (existing.has(`${scope.scope} ${scope.id} ${window.id}`)) continue;
      made.push(freeze(scope, hourly, ran, window, untilMs, nowMs));
    }
  }
  if (made.length > 0) await freezeForecasts(billing, made);
  return made.length;
}

function byScope(spend: readonly HourlySpend[]): Map<ForecastScope, Map<number, NanoUsd>> {
  const scopes = new Map<string, [ForecastScope, Map<number, NanoUsd>]>();
  const add = (scope: ForecastScope, hourMs: number, cost: NanoUsd): void => {
    const name = `${scope.scope} ${scope.id}`;
    let entry = scopes.get(name);
    if (!entry) scopes.set(name, (entry = [scope, new Map()]));
    entry[1].set(hourMs, (entry[1].get(hourMs) ?? 0n) + cost);
  };
  for (const { hourMs, keyId, team, costNanoUsd } of spend) {
    add({ scope: "org", id: "all" }, hourMs, costNanoUsd);
    if (team !== "") add({ scope: "team", id: team }, hourMs, costNanoUsd);
    add({ scope: "key", id: keyId }, hourMs, costNanoUsd);
  }
  return new Map(scopes.values());
}

/** Forecasts from the window's start when enough was known then, else from now on: what passed already is then fact. */
function freeze(
  { scope, id }: ForecastScope,
  hourly: ReadonlyMap<number, NanoUsd>,
  ran: ReadonlySet<number>,
  window: ReturnType<Calendar["window"]>,
  untilMs: number,
  nowMs: number,
): FrozenForecast {
  const hours = Math.round((window.endMs - window.startMs) / HOUR_MS);
  const atStart = forecast(historyUntil(window.startMs, hourly, ran), hours);
  const useStart = !atStart.isLearning || untilMs <= window.startMs;
  const elapsed = useStart ? 0 : Math.round((untilMs - window.startMs) / HOUR_MS);
  const rest = useStart ? atStart : forecast(historyUntil(untilMs, hourly, ran), hours - elapsed);
  const passed = Array.from({ length: elapsed }, (_, i) => hourly.get(window.startMs + i * HOUR_MS) ?? 0n);
  const soFar = passed.reduce((sum, one) => sum + one, 0n);
  return {
    scope,
    id,
    window: window.id.startsWith("day") ? "day" : "month",
    windowId: window.id,
    startMs: window.startMs,
    endMs: window.endMs,
    madeAtMs: nowMs,
    method: rest.isLearning ? "learning" : rest.method,
    historyHours: hourly.size,
    p10NanoUsd: soFar + nano(rest.p10),
    p50NanoUsd: soFar + nano(rest.p50),
    p90NanoUsd: soFar + nano(rest.p90),
    hours: [...passed, ...rest.hours.map(nano)],
  };
}

/** The hours of a scope from its first spend on. An hour without a row is zero if the meter ran, else missing. */
function historyUntil(untilMs: number, hourly: ReadonlyMap<number, NanoUsd>, ran: ReadonlySet<number>): History {
  const first = Math.min(...hourly.keys());
  const startMs = Number.isFinite(first) ? Math.min(first, untilMs) : untilMs;
  const hours = Array.from({ length: Math.round((untilMs - startMs) / HOUR_MS) }, (_, i) => {
    const hourMs = startMs + i * HOUR_MS;
    const spent = hourly.get(hourMs);
    return spent !== undefined ? toUsdNumber(spent) : ran.has(hourMs) ? 0 : undefined;
  });
  return { startMs, hours };
}

function nano(usd: number): NanoUsd {
  return BigInt(Math.round(usd * 1e9));
}
