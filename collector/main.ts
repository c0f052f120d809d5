// The collector program: its jobs and their times, the gauges, and what somebody tells it to do. Reads usage.db, writes billing.db.
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { createTask } from "node-cron";
import type { ScheduledTask } from "node-cron";
import type { Adjustment } from "../ledger/usage/adjustments.ts";
import { ChangeRefused } from "../ledger/usage/change-refused.ts";
import { LedgerInUse, lockForWriting, openForReading, openForWriting } from "../ledger/open.ts";
import type { Sqlite } from "../ledger/open.ts";
import { openPriceBook } from "../ledger/prices/price-list.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import { createCalendar } from "../ledger/windows.ts";
import { addressOf, askProgram, askProxy, makeChange, noBooks } from "../service/admin.ts";
import { toJson } from "../service/json.ts";
import { createListener, listen, metricsGuard } from "../service/listener.ts";
import { innerHostOf, noteOpenNetwork } from "../service/network.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { giveWay } from "../service/priority.ts";
import { readHistory, refreshBilledHours } from "./before.ts";
import type { Books } from "./compare.ts";
import { loadCollectorConfig } from "./config.ts";
import type { CollectorConfig } from "./config.ts";
import { freezeDueForecasts, hasNewcomers, refreshRests, scoreForecasts } from "./freeze.ts";
import type { Stated } from "./match.ts";
import { createImporters } from "./importers/index.ts";
import { ImportError } from "./importers/importer.ts";
import type { Importer } from "./importers/importer.ts";
import { closeSettledDays, compareLately, readBills, watchUsage } from "./jobs.ts";
import { createCollectorMetrics } from "./metrics.ts";
import { addPages } from "./pages/routes.ts";
import { fetchPriceList } from "./price-list.ts";
import { addTaskRoutes, perform } from "./tasks.ts";
import type { Task } from "./tasks.ts";

export type { Task } from "./tasks.ts";

const REFRESH_MS = 15_000;
/** A refresh older than this means that the gauges are stale. */
const STALE_MS = 4 * REFRESH_MS;
/** How often somebody new is looked for, who has no forecast yet. */
const NEWCOMERS_MS = 5 * 60_000;
const HOUR_MS = 3_600_000;
/** Once a day, before anybody works. */
const PRICES_CRON = "41 4 * * *";
const WAIT_FOR_BOOKS_MS = 30_000;
const NO_READER =
  "no billing reader is configured: set OPENAI_ADMIN_KEY, ANTHROPIC_ADMIN_KEY or KEYMETER_GOOGLE_BILLING_CREDENTIALS and KEYMETER_GOOGLE_BILLING_TABLE, or import a file with `keymeter import`";

export const COLLECTOR_JOBS = ["forecast", "reconcile", "watch", "prices"] as const;
export type CollectorJob = (typeof COLLECTOR_JOBS)[number];

/** Starts the collector. */
export async function startCollector(): Promise<{ stop(): Promise<void>; log: Log }> {
  const config = loadCollectorConfig();
  giveWay("below normal");
  const log = createLog("collector", config.logLevel);
  const open = noteOpenNetwork(config);
  if (open !== undefined) log.warn(open);
  const importers = createImporters(config);
  const { books, close } = await openBooks(config, log);
  const providers = importers.flatMap((importer) => importer.providers);
  const prices = openPriceBook(config.dataDir, [], [], (message) => log.error(message));
  const pagesUrl = (config.pagesUrl ?? addressOf(innerHostOf(config), config.collectorPort)).replace(/\/+$/, "");
  const metrics = createCollectorMetrics(books, { ...config, prices, pagesUrl }, providers);
  const adjust = async (adjustments: Adjustment[]): Promise<void> => {
    await askProxy(
      config,
      "POST",
      "/admin/changes",
      toJson({ type: "adjust", adjustments }),
      config.adminToken.reveal(),
    );
  };

  let refreshedMs = 0;
  let newcomersMs = 0;
  let frozenHour = -1;
  // A page is as of the end of a refresh: who asks in the middle of one must not see half of it.
  let page = "";
  let isRefreshing = false;
  const refresh = async (): Promise<void> => {
    if (isRefreshing) return;
    isRefreshing = true;
    const now = Date.now();
    try {
      const hour = Math.floor(now / HOUR_MS);
      if (
        hour !== frozenHour ||
        (now - newcomersMs > NEWCOMERS_MS && (await hasNewcomers(books, config.timezone, now)))
      ) {
        await freezeDueForecasts(books, config.timezone, now);
        await scoreForecasts(books, now);
        await refreshRests(books, config.timezone, now);
        frozenHour = hour;
      }
      if (now - newcomersMs > NEWCOMERS_MS) newcomersMs = now;
      await metrics.refresh(now);
      page = await metrics.registry.metrics();
      refreshedMs = now;
    } catch (error) {
      log.error({ err: error }, "refresh failed; the gauges keep their last figures and go stale");
    } finally {
      isRefreshing = false;
    }
  };
  // Bills are read, compared and closed by one at a time, whoever asks.
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const mine = last.then(work);
    last = mine.catch(() => undefined);
    return mine;
  };
  const runJob = (name: string, work: () => Promise<string[]>): Promise<void> =>
    inTurn(async () => {
      try {
        for (const failure of await work()) log.error({ failure }, `${name}: something is to be mended`);
      } catch (error) {
        log.error({ err: error }, `${name} failed; it is tried again at its next time`);
      }
      // What was read may be history that forecasts start from.
      frozenHour = -1;
      await refresh();
    });
  const runReconcile = (): Promise<void> =>
    runJob("reconcile", () => reconcileNow(books, importers, config, prices, adjust, log));
  const runWatch = (): Promise<void> =>
    runJob("watch", () => watchUsage(books, importers, statedOf(config), prices, Date.now(), log));
  const refreshPrices = async (): Promise<void> => {
    const failure = await fetchPriceList(config.dataDir, config.priceListUrl);
    if (failure === undefined) log.info("the price list is new; the proxy takes it within a minute");
    else log.error({ failure }, "the price list could not be refreshed");
  };

  await refresh();
  const timer = setInterval(() => void refresh(), REFRESH_MS);
  const schedule = async (cron: string, work: () => Promise<void>): Promise<ScheduledTask> => {
    const task = createTask(cron, work, { timezone: config.timezone, noOverlap: true });
    await task.start();
    return task;
  };
  const tasks = [await schedule(config.reconcileCron, runReconcile)];
  if (importers.some(({ fetchUsage }) => fetchUsage)) tasks.push(await schedule(config.watchCron, runWatch));
  if (config.priceListUrl !== undefined) tasks.push(await schedule(PRICES_CRON, refreshPrices));
  if (importers.length > 0) void runReconcile().then(runWatch);

  const published = { contentType: metrics.registry.contentType, metrics: async () => page };
  const app = createListener(
    published,
    () => (Date.now() - refreshedMs > STALE_MS ? "the gauges are stale" : undefined),
    metricsGuard(config, (message) => log.warn(message)),
  );
  await addTaskRoutes(
    app,
    { books, prices, stated: statedOf(config), adjust, now: Date.now },
    config.adminToken,
    inTurn,
  );
  const makeLink = await addPages(
    app,
    () => ({
      books,
      calendar: createCalendar(config.timezone),
      prices,
      stated: statedOf(config),
      dataDir: config.dataDir,
      capMode: config.capMode,
      sources: providers,
      nowMs: Date.now(),
    }),
    { ...config, pagesUrl },
    log,
  );
  const port = await listen(app, innerHostOf(config), config.collectorPort, "KEYMETER_COLLECTOR_PORT");
  log.info({ port, importers: providers }, "collector is ready");
  process.send?.({ type: "ready", port, importers: providers, link: makeLink() });
  return {
    log,
    async stop() {
      clearInterval(timer);
      for (const task of tasks) await task.destroy();
      await app.close();
      close();
    },
  };
}

/** Runs one job and ends: for `keymeter collector --once JOB`. Returns what failed, as sentences. */
export async function runCollectorJob(
  job: CollectorJob,
  onProgress: (text: string) => void = () => undefined,
): Promise<string[]> {
  const config = loadCollectorConfig();
  const log = createLog("collector", config.logLevel);
  if (job === "prices") {
    const failure = await fetchPriceList(config.dataDir, config.priceListUrl);
    return failure === undefined ? [] : [failure];
  }
  const importers = createImporters(config);
  if (job !== "forecast" && importers.length === 0) return [NO_READER];
  const { books, close } = await openBooks(config, log, 0);
  try {
    if (job === "forecast") {
      await freezeDueForecasts(books, config.timezone, Date.now());
      await scoreForecasts(books, Date.now());
      await refreshRests(books, config.timezone, Date.now());
      return [];
    }
    const prices = openPriceBook(config.dataDir, [], [], (message) => log.error(message));
    if (job === "reconcile")
      return await reconcileNow(books, importers, config, prices, adjustAnyhow(config), log, onProgress);
    return await watchUsage(books, importers, statedOf(config), prices, Date.now(), log);
  } finally {
    close();
  }
}

/** Does what somebody asks for: in the collector that runs, or here, with its lock, when none does. Returns what was done. */
export async function askCollector(task: Task): Promise<string[]> {
  const config = loadCollectorConfig();
  try {
    const { books, close } = await openBooks(config, createLog("collector", "error"), 0);
    try {
      const prices = openPriceBook(config.dataDir, [], [], () => undefined);
      return await perform(
        { books, prices, stated: statedOf(config), adjust: adjustAnyhow(config), now: Date.now },
        task,
      );
    } finally {
      close();
    }
  } catch (error) {
    if (error instanceof ImportError) throw new ChangeRefused(error.message);
    if (!(error instanceof LedgerInUse)) throw error;
  }
  const program = { name: "collector", port: config.collectorPort, setting: "KEYMETER_COLLECTOR_PORT" };
  const [path, body] =
    task.type === "import"
      ? ([
          `/admin/import?name=${encodeURIComponent(task.name)}&replace=${task.isForced ? "1" : "0"}`,
          task.bytes,
        ] as const)
      : (["/admin/tasks", toJson(task)] as const);
  const answer = await askProgram(config, program, "POST", path, body, config.adminToken.reveal());
  return (answer as { said: string[] }).said;
}

/** Reads the bills, and once what was before the meter; compares, closes what has settled. */
async function reconcileNow(
  books: Books,
  importers: readonly Importer[],
  config: CollectorConfig,
  prices: PriceBook,
  adjust: (list: Adjustment[]) => Promise<void>,
  log: Log,
  onProgress: (text: string) => void = () => undefined,
): Promise<string[]> {
  const now = Date.now();
  const stated = statedOf(config);
  const { failures, notes, firstDay } = await readBills(books, importers, config.reconcileDays, now, log, onProgress);
  for (const note of notes) log.warn({ note }, "a billing source has something to say");
  const history = await readHistory(books, importers, firstDay, now, onProgress);
  await refreshBilledHours(books, prices, stated.providers, now);
  for (const question of await compareLately(books, history.firstDay, stated, now))
    log.warn({ question }, "a bill cannot be told apart");
  const rules = { afterDays: config.closeAfterDays, quietMs: config.closeQuietHours * 3_600_000 };
  const closing = await closeSettledDays(books, rules, stated, adjust, now);
  if (closing.closed > 0) log.info({ days: closing.closed }, "days were closed");
  return [...failures, ...history.failures, ...closing.failures];
}

function statedOf({ billingKeys, billingModels, providers }: CollectorConfig): Stated {
  return { keys: billingKeys, models: billingModels, providers };
}

/** For a command: corrections go to the proxy that runs, or into the books when none does. */
function adjustAnyhow(config: CollectorConfig): (list: Adjustment[]) => Promise<void> {
  return (adjustments) => makeChange(config, { type: "adjust", adjustments }, "collector");
}

async function openBooks(
  config: CollectorConfig,
  log: Log,
  waitMs = WAIT_FOR_BOOKS_MS,
): Promise<{ readonly books: Books; readonly close: () => void }> {
  if (waitMs === 0 && !existsSync(`${config.dataDir}/usage.db`)) throw noBooks(`${config.dataDir}/usage.db`);
  const path = `${config.dataDir}/billing.db`;
  const lock = lockForWriting(path);
  try {
    const billing = openForWriting(path, "billing", "power");
    const usage = await waitForBooks(`${config.dataDir}/usage.db`, log);
    return {
      books: { usage, billing },
      close() {
        usage.close();
        billing.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
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
