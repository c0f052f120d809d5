// The collector's jobs: freeze forecasts, reconcile bills. Each can run at any time, any number of times, with the same
// result; a job reads, computes by a pure function, and writes billing.db.
import { addDays, createCalendar } from "../ledger/windows.ts";
import type { Calendar } from "../ledger/windows.ts";
import { noteImport, readBilled, replaceDay, replaceVariances } from "../ledger/bills.ts";
import { freezeForecasts, readForecasts } from "../ledger/forecasts.ts";
import type { ForecastScope, FrozenForecast } from "../ledger/forecasts.ts";
import type { Sqlite } from "../ledger/open.ts";
import { readHourlySpend, readMeteredDay, readMeterHours } from "../ledger/spend.ts";
import type { HourlySpend } from "../ledger/spend.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Log } from "../service/log.ts";
import { forecast } from "./forecast.ts";
import type { History } from "./forecast.ts";
import { ImportError } from "./importers/importer.ts";
import type { Importer } from "./importers/importer.ts";
import { reconcile } from "./reconcile.ts";

const HOUR_MS = 3_600_000;
const HISTORY_MS = 28 * 24 * HOUR_MS;

export type Books = { readonly usage: Sqlite; readonly billing: Sqlite };

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

/** Reads the bills of the last days again, and books the variance of each. One provider's failure leaves the others alone.
 *  Returns what failed, as sentences. */
export async function reconcileBills(
  { usage, billing }: Books,
  importers: readonly Importer[],
  days: number,
  nowMs: number,
  log: Log,
): Promise<string[]> {
  const failures: string[] = [];
  const today = new Date(nowMs).toISOString().slice(0, 10);
  for (const importer of importers) {
    let error: string | undefined;
    for (let back = days; back >= 0; back--) {
      const day = addDays(today, -back);
      try {
        await replaceDay(billing, importer.provider, day, await importer.fetchDay(day));
        const metered = await readMeteredDay(usage, importer.provider, Date.parse(`${day}T00:00:00Z`));
        const billed = await readBilled(billing, importer.provider, day, addDays(day, 1));
        await replaceVariances(
          billing,
          importer.provider,
          day,
          reconcile(importer.provider, day, metered, billed, nowMs),
        );
      } catch (caught) {
        error = caught instanceof Error ? caught.message : String(caught);
        if (!(caught instanceof ImportError))
          log.error({ err: caught, provider: importer.provider, day }, "import failed");
        break;
      }
    }
    await noteImport(billing, importer.provider, nowMs, error);
    if (error !== undefined) failures.push(error);
  }
  return failures;
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
