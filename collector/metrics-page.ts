// The page of gauges that is handed out: as of the end of the last refresh, for who asks in the middle of one must not
// see half of it. Before the gauges are read, once an hour, forecasts are brought up to date.
import { HOUR_MS } from "../ledger/windows.ts";
import type { Log } from "../service/log.ts";
import type { CollectorBooks } from "./compare.ts";
import { hasNewcomers, refreshForecasts } from "./freeze.ts";
import type { CollectorMetrics } from "./gauges/index.ts";

export type MetricsPage = {
  refresh(): Promise<void>;
  /** What was read may be history that forecasts start from: they are made anew at the next refresh. */
  forecastAnew(): void;
  text(): string;
  isStale(): boolean;
};

export const REFRESH_MS = 15_000;
/** A refresh older than this means that the gauges are stale. */
const STALE_MS = 4 * REFRESH_MS;
/** How often somebody new is looked for, who has no forecast yet. */
const NEWCOMERS_MS = 5 * 60_000;

export function createMetricsPage(
  books: CollectorBooks,
  timezone: string,
  metrics: CollectorMetrics,
  log: Log,
): MetricsPage {
  let page = "";
  let refreshedMs = 0;
  let isRefreshing = false;
  let newcomersMs = 0;
  let forecastHour = -1;

  const forecast = async (nowMs: number): Promise<void> => {
    const hour = Math.floor(nowMs / HOUR_MS);
    const looksForNewcomers = nowMs - newcomersMs > NEWCOMERS_MS;
    if (hour !== forecastHour || (looksForNewcomers && (await hasNewcomers(books, timezone, nowMs)))) {
      await refreshForecasts(books, timezone, nowMs);
      forecastHour = hour;
    }
    if (looksForNewcomers) newcomersMs = nowMs;
  };

  return {
    async refresh() {
      if (isRefreshing) return;
      isRefreshing = true;
      const nowMs = Date.now();
      try {
        await forecast(nowMs);
        await metrics.refresh(nowMs);
        page = await metrics.registry.metrics();
        refreshedMs = nowMs;
      } catch (error) {
        log.error({ err: error }, "refresh failed; the gauges keep their last figures and go stale");
      } finally {
        isRefreshing = false;
      }
    },
    forecastAnew() {
      forecastHour = -1;
    },
    text: () => page,
    isStale: () => Date.now() - refreshedMs > STALE_MS,
  };
}
