// The proxy, put together and taken apart: books, context, both listeners as fastify instances, without sockets. Tests
// build it as it is.
import type { Server as NetServer } from "node:net";
import { hash } from "node:crypto";
import { uptime } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import { describeBudgetScope } from "../ledger/budgets.ts";
import type { Subject } from "../ledger/budgets.ts";
import type { UsageBooks } from "../ledger/books.ts";
import { openBilling, openUsage } from "../ledger/open.ts";
import { createCalendar } from "../ledger/windows.ts";
import { readPeople } from "../ledger/usage/people.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import { builtInModels } from "../ledger/prices/built-in.ts";
import { openPriceBook } from "../ledger/prices/price-list.ts";
import { takePriceList } from "../ledger/prices/shared-list.ts";
import { createExpectations, learnExpectations } from "../ledger/usage/expectations.ts";
import { createDigest } from "../ledger/usage/keys.ts";
import { openWriter } from "../ledger/usage/writer.ts";
import type { Mark } from "../ledger/usage/appender.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import { agreedOn, nodeName } from "../service/admin.ts";
import { placeOf } from "../service/config.ts";
import { createListener, metricsGuard } from "../service/listener.ts";
import { createLate } from "../service/late.ts";
import type { Log } from "../service/log.ts";
import { addSecretGauges } from "../service/secrets/gauges.ts";
import { openSecrets, secretsOf } from "../service/secrets/index.ts";
import { RESTORE } from "../service/secret.ts";
import type { Secret } from "../service/secret.ts";
import { addAdminRoutes } from "./admin.ts";
import { createBodies } from "./bodies.ts";
import type { ProxyConfig } from "./config.ts";
import type { ProxyContext } from "./context.ts";
import { createForwarder } from "./forward.ts";
import { createCaches } from "./caches.ts";
import { createLengths } from "./lengths.ts";
import { createLimiter } from "./limits.ts";
import { isAwaited, leaveTo } from "./beside.ts";
import { createPublicListener } from "./listener.ts";
import { createMetrics } from "./metrics.ts";
import { createNames } from "./names.ts";
import { createPeople } from "./people.ts";
import { createPatience } from "./patience.ts";
import { createBlocks } from "./policy.ts";
import { createProviders } from "./providers/index.ts";
import { createReaders } from "./readers.ts";
import { createRegister } from "./register.ts";
import { createSeatCaps } from "./seat-caps.ts";
import { createSightings } from "./sightings.ts";
import { createSockets } from "./sockets.ts";
import { createThings } from "./things.ts";
import { createUnmetered } from "./unmetered.ts";
import { settleOldWork, createWork } from "./work.ts";

export type Proxy = {
  readonly app: FastifyInstance;
  readonly ops: FastifyInstance;
  readonly writer: Writer;
  readonly context: ProxyContext;
  /** `listening`: where that is another server than the app's. Answers no new request, waits for open ones, cuts what is left after `drainSeconds`, closes the books. */
  stop(listening?: NetServer): Promise<void>;
};

const SECOND = 1000;
const SWEEP_MS = 50;
const REFRESH_PRICES_MS = 60 * SECOND;
const SIGHTINGS_MS = 60 * SECOND;
const NOTE_CREDENTIALS_MS = 60 * SECOND;
const SETTLE_WORK_MS = 3600 * SECOND;
const MOST_COMMIT_MS = 5 * SECOND;
/** So late at most another proxy hears what passed here, and how long Postgres takes. */
const TELL_PASSED_MS = 100;
const ASK_TIME_MS = 10 * SECOND;

/** Opens the books and builds both listeners. Rejects with a LedgerError when the books cannot be opened. */
export async function createProxy(config: ProxyConfig, log: Log): Promise<Proxy> {
  const secrets = await openSecrets(config, log, [
    config.pepper,
    config.adminToken,
    config.ledgerUrl,
    config.metricsToken,
  ]);
  const writer = await openWriter(writerOptions(config));
  const books = await openUsage(placeOf(config));
  if (!books) throw new Error(`${config.dataDir}/usage.db is gone right after it was opened`);
  await takeSharedPrices(config, log);
  const prices = openPriceBook(config.dataDir, config.prices, config.discounts, (message) => log.error(message));
  // The list is loaded now, not by the first request.
  builtInModels("");
  let draining = false;
  let openSessions = (): number => 0;
  const context = await createContext(config, log, writer, books, prices, {
    isDraining: () => draining,
    openSessions: () => openSessions(),
  });
  addSecretGauges(context.metrics.registry, config);
  const { forwarder, register, people, work, unmetered, sightings, providers } = context;
  const noteCredentials = (): Promise<void> =>
    writer.noteSeen({ credentials: register.credentialsOf(providers.all, Date.now()) });
  await noteCredentials();
  // What the books did not take at that moment is noted a minute later.
  const noteAgain = (): void => void noteCredentials().catch(() => undefined);
  for (const secret of secretsOf(config)) secret.onChange(noteAgain);
  warnOfStart(writer, log);
  const timers = startTimers(context, () => void takeSharedPrices(config, log).then(() => prices.refresh()));
  timers.push(setInterval(noteAgain, NOTE_CREDENTIALS_MS).unref());
  if (writer.isOneOfMany) timers.push(shareLimits(context, writer));

  const sockets = createSockets(context);
  openSessions = () => sockets.open();
  const app = createPublicListener(context, sockets);
  const ops = createListener(
    context.metrics.registry,
    () => (draining ? "draining" : writer.trouble()),
    metricsGuard(config, (message) => log.warn(message)),
  );
  const cut = (test: (subject: Subject) => boolean): number => forwarder.cut(test) + sockets.cut(test);
  addAdminRoutes(ops, { writer, register, people, work, unmetered, cut, config });

  return {
    app,
    ops,
    writer,
    context,
    async stop(listening: NetServer = app.server) {
      if (isAwaited(config.dataDir)) await leaveTo(app.server, listening);
      else if (listening !== app.server) listening.close();
      draining = true;
      for (const timer of timers) clearInterval(timer);
      secrets.stop();
      sockets.drain();
      const closed = app.close();
      // A server waits for keep-alive and silent sockets for ever: they are swept until the open requests are done.
      const deadline = Date.now() + config.drainSeconds * SECOND;
      while (forwarder.open() + sockets.open() > 0 && Date.now() < deadline) {
        app.server.closeIdleConnections();
        await sleep(SWEEP_MS);
      }
      forwarder.stop();
      sockets.stop();
      await sleepUntil(() => forwarder.open() + sockets.open() === 0 && writer.waiting() === 0, 5 * SECOND);
      await sleep(SWEEP_MS);
      app.server.closeAllConnections();
      await closed;
      await ops.close();
      await forwarder.close();
      context.patience.close();
      await context.readers.close();
      await Promise.race([sightings.flush(), sleep(5 * SECOND)]);
      await books.close();
      await context.billing.close();
      await writer.close();
    },
  };
}

function writerOptions(config: ProxyConfig): Parameters<typeof openWriter>[0] {
  const { durability, timezone: zone, capMode, tagsInBudgets, ledgerUrl, orphanSeconds, retention: kept } = config;
  const shared = { zone, capMode, tagsInBudgets, kept, sinceBoot: () => uptime() * SECOND };
  const pepper = markOf("pepper", config.pepper, true);
  if (!ledgerUrl)
    return {
      ...shared,
      path: `${config.dataDir}/usage.db`,
      durability,
      marks: [pepper, markOf("admin-token", config.adminToken, false)],
    };
  const digestOf = (value: unknown): string => hash("sha256", JSON.stringify(value)).slice(0, 12);
  return {
    ...shared,
    url: ledgerUrl.reveal(),
    name: nodeName("proxy"),
    survivesPower: durability !== "process",
    orphanSeconds,
    agreed: {
      ...agreedOn(config),
      "proxy.cap_mode": capMode,
      "proxy.pepper": pepper.digest.slice(0, 12),
      "proxy.prices": digestOf([config.prices, config.discounts]),
      "proxy.upstreams": digestOf(createProviders(config).all.map(({ name, priceList }) => [name, priceList])),
    },
  };
}

/** All that a request needs of the program. */
async function createContext(
  config: ProxyConfig,
  log: Log,
  writer: Writer,
  books: UsageBooks,
  prices: PriceBook,
  { isDraining, openSessions }: Pick<ProxyContext, "isDraining"> & { readonly openSessions: () => number },
): Promise<ProxyContext> {
  const limiter = createLimiter();
  const people = createPeople(() => readPeople(books), writer);
  const seatCaps = createSeatCaps(
    books,
    createCalendar(config.timezone),
    (id) => people.nameOf(id) ?? register.nameOf(id),
    config.refusalStatus,
  );
  const register = createRegister(books, config.pepper.reveal(), config.adminToken, async (limits) => {
    limiter.set(limits);
    await seatCaps.set(limits);
  });
  const reload = async (): Promise<void> => {
    await register.reload();
    await people.reload();
  };
  follow(writer, reload, log);
  await reload();
  const forwarder = createForwarder({
    connectMs: config.connectSeconds * SECOND,
    headersMs: config.headersSeconds * SECOND,
    idleMs: config.idleSeconds * SECOND,
    totalMs: config.totalSeconds * SECOND,
  });
  const expectations = createExpectations();
  await learnExpectations(books, expectations);
  const work = await createWork(books, writer);
  follow(writer, () => work.reload(), log);
  return {
    config,
    providers: createProviders(config),
    register,
    names: await createNames(books, Date.now()),
    people,
    lengths: createLengths(),
    caches: createCaches(),
    readers: createReaders(),
    bodies: createBodies(config.mostBodyBytes, config.mostBodiesBytes),
    limiter,
    seatCaps,
    sightings: createSightings(writer, log),
    writer,
    prices,
    expectations,
    forwarder,
    work,
    things: await createThings(books, writer, log),
    metrics: createMetrics(
      writer,
      () => forwarder.open() + openSessions(),
      () => work.list(),
    ),
    unmetered: createUnmetered(),
    books,
    billing: createLate(() => openBilling(placeOf(config))),
    patience: createPatience(MOST_COMMIT_MS),
    log,
    isDraining,
    isTrusted: createBlocks(config.trustedProxies),
  };
}

/** Reads again what another proxy has changed, until it is read. */
function follow(writer: Writer, reload: () => Promise<void>, log: Log): void {
  const again = (): void =>
    void reload().catch((error: unknown) => {
      log.error({ err: error }, "what another proxy changed could not be read; it is tried again");
      setTimeout(again, SECOND).unref();
    });
  writer.onChanged(again);
}

/** Limits hold for all proxies together: each says what passed, and hears of the others. While Postgres is away each goes
 *  by what it heard last. */
function shareLimits({ limiter, seatCaps }: ProxyContext, writer: Writer): NodeJS.Timeout {
  let isUnderWay = false;
  return setInterval(() => {
    const nowMs = Date.now();
    if (isUnderWay || !(limiter.hasSome() || seatCaps.hasSome())) return;
    isUnderWay = true;
    writer
      .tellPassed([...limiter.passed(nowMs), ...seatCaps.passed(nowMs)])
      .then((others) => {
        limiter.hear(others, Date.now());
        seatCaps.hear(others);
      })
      .catch(() => undefined)
      .finally(() => (isUnderWay = false));
  }, TELL_PASSED_MS).unref();
}

/** What has to be said of books that were just opened. */
function warnOfStart({ recovered, losing }: Writer, log: Log): void {
  if (recovered > 0)
    log.warn({ attempts: recovered }, "attempts of a process that died were booked as crashed, at the amount reserved");
  for (const budget of losing)
    log.warn(
      { budget: budget.id, scope: describeBudgetScope(budget) },
      "this budget counts less than before: what a tag names counts no longer where the key belongs to nobody; tags_in_budgets: on makes it count again",
    );
}

/** With books in Postgres: the price list that another machine has fetched. */
async function takeSharedPrices({ dataDir, ledgerUrl }: ProxyConfig, log: Log): Promise<void> {
  if (!ledgerUrl) return;
  try {
    await takePriceList(ledgerUrl.reveal(), dataDir);
  } catch (error) {
    log.error({ err: error }, "the price list of the books could not be taken; the one of before goes on");
  }
}

/** What is done again and again while the proxy runs. */
function startTimers(
  { sightings, work, writer, providers, log }: ProxyContext,
  refreshPrices: () => void,
): NodeJS.Timeout[] {
  const settleWork = (): void =>
    void settleOldWork(work, writer, log).catch((error: unknown) =>
      log.error({ err: error }, "old work could not be settled"),
    );
  // A clock in doubt is held against those of providers: their Date is in every answer, also to who has no key.
  const askClocks = (): void => {
    if (writer.isClockInDoubt()) for (const { origin } of providers.all) void askTime(origin, writer);
  };
  return [
    setInterval(refreshPrices, REFRESH_PRICES_MS).unref(),
    setInterval(() => void sightings.flush(), SIGHTINGS_MS).unref(),
    setInterval(settleWork, SETTLE_WORK_MS).unref(),
    setInterval(askClocks, ASK_TIME_MS).unref(),
  ];
}

/** What books know of a secret of theirs. */
function markOf(name: keyof typeof RESTORE, secret: Secret, mustStay: boolean): Mark {
  const digest = createDigest(secret.reveal())(`keymeter ${name}`);
  return { name, digest, isNew: secret.isNew, mustStay, restore: RESTORE[name] };
}

async function askTime(origin: string, writer: Writer): Promise<void> {
  try {
    const answer = await fetch(origin, { method: "HEAD", redirect: "manual", signal: AbortSignal.timeout(5 * SECOND) });
    writer.heardDate(Date.parse(answer.headers.get("date") ?? ""));
  } catch {
    // Another one may answer.
  }
}

async function sleepUntil(done: () => boolean, atMostMs: number): Promise<void> {
  const deadline = Date.now() + atMostMs;
  while (!done() && Date.now() < deadline) await sleep(10);
}
