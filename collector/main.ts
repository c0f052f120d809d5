// The collector program: its jobs and their times, the gauges, and what somebody tells it to do. Reads usage.db, writes
// billing.db.
import { join } from "node:path";
import { createTask } from "node-cron";
import type { ScheduledTask } from "node-cron";
import type { Registry } from "prom-client";
import type { Adjustment } from "../ledger/usage/adjustments.ts";
import { openPriceBook } from "../ledger/prices/price-list.ts";
import { createCalendar } from "../ledger/windows.ts";
import { addressOf, askProxy } from "../service/admin.ts";
import { makePass } from "../service/pass.ts";
import { createAccess, tokenBooks } from "../service/admin-routes.ts";
import { toJson } from "../service/json.ts";
import { createListener, listen, metricsGuard } from "../service/listener.ts";
import { VERSION } from "../service/version.ts";
import { innerHostOf, noteOpenNetwork } from "../service/network.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { giveWay } from "../service/priority.ts";
import { openBooks } from "./books.ts";
import { expireDays } from "./archive.ts";
import { loadCollectorConfig } from "./config.ts";
import type { CollectorConfig } from "./config.ts";
import { createCollectorMetrics } from "./gauges/index.ts";
import { createImporters } from "./importers/index.ts";
import { reconcileBills, watchUsage } from "./jobs.ts";
import { statedOf } from "./match.ts";
import type { LeakContext } from "./leak/playbook.ts";
import { createMetricsPage, REFRESH_MS } from "./metrics-page.ts";
import type { OfferedCommand } from "./offered-command.ts";
import { addPages } from "./pages/routes.ts";
import { fetchPriceList } from "./price-list.ts";
import type { CollectorBooks } from "./compare.ts";
import { addTaskRoutes } from "./tasks.ts";
import { startTelemetry } from "./telemetry/export.ts";
import type { Telemetry } from "./telemetry/export.ts";
import { rotateOn } from "./rotation/run.ts";
import { actionsOf } from "./rotation/own-keys.ts";
import type { Rotating } from "./rotation/run.ts";
import { createTurn } from "./turn.ts";
import { addSecretGauges } from "../service/secrets/gauges.ts";
import { openSecrets } from "../service/secrets/index.ts";
import { placeOf } from "../service/config.ts";

/** A rotation waits for minutes at the least. */
const ROTATE_MS = 5_000;
/** A bill of 128 MiB on a slow line. */
const UPLOAD_MS = 15 * 60_000;
/** A command from elsewhere is over by then. */
const COMMAND_MS = 16 * 60_000;
/** To CloudWatch alone, where nothing says how often. */
const EXPORT_SECONDS = 60;
/** Once a day, when the day before has settled. */
const RETENTION_CRON = "23 3 * * *";
/** Once a day, before anybody works. */
const PRICES_CRON = "41 4 * * *";

export type { Asker, OfferedCommand } from "./offered-command.ts";

/** Starts the collector. `command`: what it offers to those who ask from elsewhere, and to its pages; it does not know it
 *  itself. */
export async function startCollector(command?: OfferedCommand): Promise<{ stop(): Promise<void>; log: Log }> {
  const config = loadCollectorConfig();
  giveWay("below normal");
  const log = createLog("collector", config.logLevel);
  const open = noteOpenNetwork(config);
  if (open !== undefined) log.warn(open);
  const secrets = await openSecrets(config, log, [
    config.ledgerUrl,
    config.adminToken,
    config.readToken,
    config.metricsToken,
  ]);
  const importers = await createImporters(config, log);
  const { books, close } = await openBooks(config, log);
  const providers = importers.flatMap((importer) => importer.providers);
  const prices = openPriceBook(config.dataDir, [], [], (message) => log.error(message));
  const pagesUrl = (config.pagesUrl ?? addressOf(innerHostOf(config), config.collectorPort)).replace(/\/+$/, "");
  const metrics = createCollectorMetrics(books, { ...config, prices, pagesUrl }, providers);
  addSecretGauges(metrics.registry, config);
  const page = createMetricsPage(books, config.timezone, metrics, log);
  const adjust = sendToProxy(config);
  // Bills are read, compared and closed by one at a time, whoever asks.
  const inTurn = createTurn();
  const runJob = (name: string, work: () => Promise<string[]>): Promise<void> =>
    inTurn(async () => {
      try {
        for (const failure of await work()) log.error({ failure }, `${name}: something is to be mended`);
      } catch (error) {
        log.error({ err: error }, `${name} failed; it is tried again at its next time`);
      }
      page.forecastAnew();
      await page.refresh();
    });
  const runReconcile = (): Promise<void> =>
    runJob("reconcile", () => reconcileBills(books, importers, config, prices, adjust, log));
  const runWatch = (): Promise<void> =>
    runJob("watch", () => watchUsage(books, importers, statedOf(config), prices, Date.now(), log));

  const lookedAt = new Map<string, number>();
  const ownKeys = { rotations: config.ownKeyRotations, actions: actionsOf(config) };
  let rotation: Promise<void> | undefined;
  const rotateNow = (): void => {
    rotation ??= rotateOn({ books, rotations: config.rotations, ownKeys, audit: auditRotation(config), log, lookedAt })
      .catch((error: unknown) => log.error({ err: error }, "rotations could not be looked at; it is tried again"))
      .finally(() => (rotation = undefined));
  };
  // Without any in the settings too: one may go on that was taken out of them.
  const rotating = setInterval(rotateNow, ROTATE_MS);
  await page.refresh();
  const timer = setInterval(() => void page.refresh(), REFRESH_MS);
  const tasks = await schedule(config.timezone, [
    { cron: config.reconcileCron, work: runReconcile },
    ...(importers.some(({ fetchUsage }) => fetchUsage) ? [{ cron: config.watchCron, work: runWatch }] : []),
    ...(config.retention.eventsDays === undefined
      ? []
      : [{ cron: RETENTION_CRON, work: () => runJob("retention", () => retain(books, config, log)) }]),
    ...(config.priceListUrl === undefined ? [] : [{ cron: PRICES_CRON, work: () => refreshPrices(config, log) }]),
  ]);
  if (importers.length > 0) void runReconcile().then(runWatch);

  const published = { contentType: metrics.registry.contentType, metrics: async () => page.text() };
  const app = createListener(
    published,
    () => (page.isStale() ? "the gauges are stale" : undefined),
    metricsGuard(config, (message) => log.warn(message)),
    UPLOAD_MS,
  );
  const telemetry = await exportFrom(books, metrics.registry, config, log);
  const access = createAccess(config.adminToken, tokenBooks(books.usage));
  await addTaskRoutes(
    app,
    {
      books,
      prices,
      stated: statedOf(config),
      rotations: config.rotations,
      change: changeBy(config),
      adjust,
      now: Date.now,
    },
    access,
    inTurn,
  );
  command?.addRoutes(app, access, (holder) => makePass(config.adminToken, holder, Date.now() + COMMAND_MS));
  const makeLink = await addPages(
    app,
    () => ({
      books,
      calendar: createCalendar(config.timezone),
      prices,
      stated: statedOf(config),
      dataDir: config.dataDir,
      place: placeOf(config),
      capMode: config.capMode,
      sources: providers,
      nowMs: Date.now(),
    }),
    { ...config, access, command, pagesUrl },
    log,
    inTurn,
  );
  const port = await listen(app, innerHostOf(config), config.collectorPort, "KEYMETER_COLLECTOR_PORT");
  log.info({ port, importers: providers }, "collector is ready");
  process.send?.({ type: "ready", port, importers: providers, link: makeLink() });
  return {
    log,
    async stop() {
      secrets.stop();
      await telemetry?.stop();
      clearInterval(timer);
      clearInterval(rotating);
      await rotation;
      for (const task of tasks) await task.destroy();
      await command?.close();
      await app.close();
      await close();
    },
  };
}

/** Takes what is kept no longer out of the books. */
function retain(books: CollectorBooks, config: CollectorConfig, log: Log): Promise<string[]> {
  const { retention, dataDir, timezone } = config;
  const { eventsDays = Infinity, folder = join(dataDir, "archive") } = retention;
  const change = changeBy(config);
  return expireDays(books, { eventsDays, folder, timezone }, (one) => change(one, "keymeter"), log, Date.now());
}

async function refreshPrices(config: CollectorConfig, log: Log): Promise<void> {
  const failure = await fetchPriceList(config, config.priceListUrl);
  if (failure === undefined) log.info("the price list is new; the proxy takes it within a minute");
  else log.error({ failure }, "the price list could not be refreshed");
}

/** Telemetry is never a reason not to start. */
async function exportFrom(
  books: CollectorBooks,
  registry: Registry,
  { otlp, cloudWatch }: CollectorConfig,
  log: Log,
): Promise<Telemetry | undefined> {
  const { everySeconds = EXPORT_SECONDS, serviceName = "keymeter" } = otlp ?? {};
  const settings = { otlp, cloudWatch, everySeconds, serviceName, version: VERSION };
  try {
    return await startTelemetry(books, registry, settings, log);
  } catch (error) {
    log.error({ err: error }, "telemetry is not exported");
    return undefined;
  }
}

async function schedule(
  timezone: string,
  jobs: readonly { readonly cron: string; readonly work: () => Promise<void> }[],
): Promise<ScheduledTask[]> {
  const tasks = jobs.map(({ cron, work }) => createTask(cron, work, { timezone, noOverlap: true }));
  for (const task of tasks) await task.start();
  return tasks;
}

/** A change that somebody made through this program. */
function changeBy(config: CollectorConfig): LeakContext["change"] {
  return async (change, by) => {
    await askProxy(config, "POST", "/admin/changes", toJson(change), config.adminToken.reveal(), by);
  };
}

/** A step of a rotation, in the audit that the proxy keeps. */
function auditRotation(config: CollectorConfig): Rotating["audit"] {
  return async ({ rotationId, step, state, said }, { place }) => {
    const change = toJson({ type: "rotateCredential", rotationId, step, place, state, said });
    await askProxy(config, "POST", "/admin/changes", change, config.adminToken.reveal());
  };
}

/** Corrections are the proxy's to book. */
function sendToProxy(config: CollectorConfig): (adjustments: Adjustment[]) => Promise<void> {
  return async (adjustments) => {
    const change = toJson({ type: "adjust", adjustments });
    await askProxy(config, "POST", "/admin/changes", change, config.adminToken.reveal());
  };
}
