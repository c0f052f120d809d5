// The collector program: its jobs and their times, and the gauges. Reads usage.db, writes billing.db.
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { createTask } from "node-cron";
import { lockForWriting, openForReading, openForWriting } from "../ledger/open.ts";
import type { Sqlite } from "../ledger/open.ts";
import { createListener, listen } from "../service/listener.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { loadCollectorConfig } from "./config.ts";
import { createImporters } from "./importers/index.ts";
import { freezeDueForecasts, reconcileBills } from "./jobs.ts";
import { fetchPriceList } from "./price-list.ts";
import { createCollectorMetrics } from "./metrics.ts";

const REFRESH_MS = 15_000;
/** A refresh older than this means that the gauges are stale. */
const STALE_MS = 4 * REFRESH_MS;
/** Once a day, before anybody works. */
const PRICES_CRON = "41 4 * * *";
const WAIT_FOR_BOOKS_MS = 30_000;

export const COLLECTOR_JOBS = ["forecast", "reconcile", "prices"] as const;
export type CollectorJob = (typeof COLLECTOR_JOBS)[number];

/** Starts the collector; with `once`, runs that job and returns what failed instead. */
export async function startCollector(): Promise<{ stop(): Promise<void>; log: Log }> {
  const config = loadCollectorConfig();
  const log = createLog("collector", config.logLevel);
  const lock = lockForWriting(`${config.dataDir}/billing.db`);
  const billing = openForWriting(`${config.dataDir}/billing.db`, "billing", "power");
  const usage = await waitForBooks(`${config.dataDir}/usage.db`, log);
  const books = { usage, billing };
  const importers = createImporters(config);
  const metrics = createCollectorMetrics(books, config.timezone);

  let refreshedMs = 0;
  const refresh = async (): Promise<void> => {
    const now = Date.now();
    try {
      await freezeDueForecasts(books, config.timezone, now);
      await metrics.refresh(now);
      refreshedMs = now;
    } catch (error) {
      log.error({ err: error }, "refresh failed; the gauges keep their last figures and go stale");
    }
  };
  const runReconcile = async (): Promise<void> => {
    const failures = await reconcileBills(books, importers, config.reconcileDays, Date.now(), log);
    for (const failure of failures) log.error({ failure }, "a bill could not be read");
    await refresh();
  };

  await refresh();
  const timer = setInterval(() => void refresh(), REFRESH_MS);
  const task = createTask(config.reconcileCron, runReconcile, { timezone: config.timezone, noOverlap: true });
  await task.start();
  const refreshPrices = async (): Promise<void> => {
    const failure = await fetchPriceList(config.dataDir, config.priceListUrl);
    if (failure === undefined) log.info("the price list is new; the proxy takes it within a minute");
    else log.error({ failure }, "the price list could not be refreshed");
  };
  const prices = config.priceListUrl === undefined ? undefined : createTask(PRICES_CRON, refreshPrices);
  await prices?.start();
  if (importers.length > 0) void runReconcile();

  const app = createListener(metrics.registry, () =>
    Date.now() - refreshedMs > STALE_MS ? "the gauges are stale" : undefined,
  );
  const port = await listen(app, config.host, config.collectorPort, "KEYMETER_COLLECTOR_PORT");
  log.info({ port, importers: importers.map((importer) => importer.provider) }, "collector is ready");
  process.send?.({ type: "ready", port, importers: importers.map((importer) => importer.provider) });
  return {
    log,
    async stop() {
      clearInterval(timer);
      await task.destroy();
      await prices?.destroy();
      await app.close();
      usage.close();
      billing.close();
      lock.release();
    },
  };
}

/** Runs one job and ends: for `keymeter collector --once JOB`. Returns what failed, as sentences. */
export async function runCollectorJob(job: CollectorJob): Promise<string[]> {
  const config = loadCollectorConfig();
  const log = createLog("collector", config.logLevel);
  if (job === "prices") {
    const failure = await fetchPriceList(config.dataDir, config.priceListUrl);
    return failure === undefined ? [] : [failure];
  }
  const lock = lockForWriting(`${config.dataDir}/billing.db`);
  const billing = openForWriting(`${config.dataDir}/billing.db`, "billing", "power");
  const usage = await waitForBooks(`${config.dataDir}/usage.db`, log);
  try {
    if (job === "forecast") {
      await freezeDueForecasts({ usage, billing }, config.timezone, Date.now());
      return [];
    }
    const importers = createImporters(config);
    if (importers.length === 0) return ["no billing reader is configured; set OPENAI_ADMIN_KEY"];
    return await reconcileBills({ usage, billing }, importers, config.reconcileDays, Date.now(), log);
  } finally {
    usage.close();
    billing.close();
    lock.release();
  }
}

/** The proxy makes usage.db; started together, the collector waits for it. */
async function waitForBooks(path: string, log: Log): Promise<Sqlite> {
  const deadline = Date.now() + WAIT_FOR_BOOKS_MS;
  while (Date.now() < deadline) {
    const books = existsSync(path) ? openForReading(path) : undefined;
    if (books && Number(books.pragma("user_version", { simple: true })) > 0) return books;
    books?.close();
    log.debug({ path }, "waiting for the proxy to make its books");
    await sleep(200);
  }
  throw new Error(
    `${path} is not there: the proxy makes it. Start the proxy first, or set KEYMETER_DATA_DIR to its data folder.`,
    { cause: "missing" },
  );
}
