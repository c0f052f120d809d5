// The proxy as fastify instances, without sockets: the public listener, one wildcard to handle.ts, and the operations
// listener. Tests build it as it is.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { uptime } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import Fastify from "fastify";
import type { ConnectionError, FastifyError, FastifyInstance, FastifyRequest } from "fastify";
import { createExpectations } from "../ledger/usage/expectations.ts";
import { describeScope } from "../ledger/budgets.ts";
import type { Subject } from "../ledger/budgets.ts";
import { attemptAtMs, formatRequestId } from "../ledger/ids.ts";
import { openForReading } from "../ledger/open.ts";
import { openPriceBook } from "../ledger/prices/price-list.ts";
import { openWriter } from "../ledger/usage/writer.ts";
import type { Mark, Writer } from "../ledger/usage/writer.ts";
import { createDigest } from "../ledger/usage/keys.ts";
import { createListener, metricsGuard } from "../service/listener.ts";
import type { Log } from "../service/log.ts";
import { RESTORE } from "../service/secret.ts";
import type { Secret } from "../service/secret.ts";
import { addAdminRoutes } from "./admin.ts";
import { addressOf, arrive } from "./arrival.ts";
import type { Arrival } from "./arrival.ts";
import { createBodies } from "./bodies.ts";
import { answerCors } from "./cors.ts";
import { answerFront } from "./front.ts";
import type { ProxyConfig } from "./config.ts";
import type { ProxyContext } from "./context.ts";
import { createForwarder } from "./forward.ts";
import { guessDialect } from "./target.ts";
import { handle } from "./handle.ts";
import { createLimiter } from "./limits.ts";
import { createMetrics } from "./metrics.ts";
import { createCaches } from "./caches.ts";
import { createLengths } from "./lengths.ts";
import { createNames } from "./names.ts";
import { passesUnread } from "./pass.ts";
import { createPatience } from "./patience.ts";
import { createBlocks } from "./policy.ts";
import { createProviders } from "./providers/index.ts";
import { createReaders } from "./readers.ts";
import { answerRefused, answerSocket, renderRefused } from "./refuse.ts";
import { Refused } from "./refusals.ts";
import { createRegister } from "./register.ts";
import { createSightings } from "./sightings.ts";
import { createSockets } from "./sockets.ts";
import type { Sockets } from "./sockets.ts";
import { createThings } from "./things.ts";
import { createUnmetered } from "./unmetered.ts";
import { createWork } from "./work.ts";

export type Proxy = {
  readonly app: FastifyInstance;
  readonly ops: FastifyInstance;
  readonly writer: Writer;
  readonly context: ProxyContext;
  /** Answers no new request, waits for open ones, cuts what is left after `drainSeconds`, closes the books. */
  stop(): Promise<void>;
};

declare module "fastify" {
  interface FastifyRequest {
    /** Who asks, for which place: found out before the body is taken in. */
    arrival: Arrival | undefined;
  }
}

const SECOND = 1000;
const HEADERS_MS = 10 * SECOND;
const CHECK_MS = SECOND;
/** Longer than the idle time of common load balancers, so that they, not we, close first. */
const KEEP_ALIVE_MS = 75 * SECOND;
const SWEEP_MS = 50;
const REFRESH_PRICES_MS = 60 * SECOND;
const SIGHTINGS_MS = 60 * SECOND;
const CLOSE_EVERY_MS = 3600 * SECOND;
/** Anthropic keeps results for 29 days, the others for less. */
const MOST_WORK_MS = 31 * 24 * 3600 * SECOND;
const MOST_COMMIT_MS = 5 * SECOND;
const ASK_TIME_MS = 10 * SECOND;

/** Opens the books and builds both listeners. Rejects with a LedgerError when the books cannot be opened. */
export async function createProxy(config: ProxyConfig, log: Log): Promise<Proxy> {
  const path = `${config.dataDir}/usage.db`;
  const writer = await openWriter({
    path,
    durability: config.durability,
    zone: config.timezone,
    capMode: config.capMode,
    tagsInBudgets: config.tagsInBudgets,
    sinceBoot: () => uptime() * SECOND,
    marks: [markOf("pepper", config.pepper, true), markOf("admin-token", config.adminToken, false)],
  });
  const books = openForReading(path);
  if (!books) throw new Error(`${path} is gone right after it was opened`);
  const limiter = createLimiter();
  const register = createRegister(books, config.pepper.reveal(), config.adminToken, limiter);
  await register.reload();
  const forwarder = createForwarder({
    connectMs: config.connectSeconds * SECOND,
    headersMs: config.headersSeconds * SECOND,
    idleMs: config.idleSeconds * SECOND,
    totalMs: config.totalSeconds * SECOND,
  });
  const providers = createProviders(config);
  const prices = openPriceBook(config.dataDir, config.prices, config.discounts, (message) => log.error(message));
  const refreshing = setInterval(() => prices.refresh(), REFRESH_PRICES_MS).unref();
  const work = await createWork(books, writer);
  const things = await createThings(books, writer, log);
  const unmetered = createUnmetered();
  const sightings = createSightings(writer, log);
  const noting = setInterval(() => void sightings.flush(), SIGHTINGS_MS).unref();
  await writer.noteSeen({ credentials: register.credentialsOf(providers.all, Date.now()) });
  let draining = false;
  let openSessions = (): number => 0;
  const context: ProxyContext = {
    config,
    providers,
    register,
    names: createNames(books, Date.now()),
    lengths: createLengths(),
    caches: createCaches(),
    readers: createReaders(),
    bodies: createBodies(config.mostBodyBytes, config.mostBodiesBytes),
    limiter,
    sightings,
    writer,
    prices,
    expectations: createExpectations(books),
    forwarder,
    work,
    things,
    metrics: createMetrics(
      writer,
      () => forwarder.open() + openSessions(),
      () => work.list(),
    ),
    unmetered,
    books,
    patience: createPatience(MOST_COMMIT_MS),
    log,
    isDraining: () => draining,
    isTrusted: createBlocks(config.trustedProxies),
  };
  const closing = setInterval(
    () =>
      void closeOldWork(context).catch((error: unknown) => log.error({ err: error }, "old work could not be closed")),
    CLOSE_EVERY_MS,
  ).unref();
  // A clock in doubt is held against those of providers: their Date is in every answer, also to who has no key.
  const askingTime = setInterval(() => {
    if (writer.isClockInDoubt()) for (const { origin } of providers.all) void askTime(origin, writer);
  }, ASK_TIME_MS).unref();
  if (writer.recovered > 0)
    log.warn(
      { attempts: writer.recovered },
      "attempts of a process that died were booked as crashed, at the amount reserved",
    );

  for (const { id, scope } of writer.losing)
    log.warn(
      { budget: id, scope: describeScope(scope) },
      "this budget counts less than before: what a tag names counts no longer where the key belongs to nobody; tags_in_budgets: on makes it count again",
    );

  const sockets = createSockets(context);
  openSessions = () => sockets.open();
  const app = createPublicListener(context, sockets);
  const ops = createListener(
    context.metrics.registry,
    () => (draining ? "draining" : writer.trouble()),
    metricsGuard(config, (message) => log.warn(message)),
  );
  const cut = (test: (subject: Subject) => boolean): number => forwarder.cut(test) + sockets.cut(test);
  addAdminRoutes(ops, { writer, register, work, unmetered, cut, config });

  return {
    app,
    ops,
    writer,
    context,
    async stop() {
      draining = true;
      clearInterval(closing);
      clearInterval(noting);
      clearInterval(askingTime);
      clearInterval(refreshing);
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
      await sightings.flush();
      books.close();
      await writer.close();
    },
  };
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

/** Work that is older than any provider keeps its results will never say what it used. */
async function closeOldWork({ work, writer, log }: ProxyContext): Promise<void> {
  const oldest = Date.now() - MOST_WORK_MS;
  for (const { workId, attemptId } of work.list().filter((one) => attemptAtMs(one.attemptId) < oldest)) {
    const requestId = formatRequestId(attemptId);
    await writer.change({ type: "closeWork", workId }, "proxy").then(
      () => log.warn({ requestId, workId }, "work that nobody fetched was booked at what was held for it"),
      (error: unknown) => log.error({ requestId, workId, err: error }, "old work could not be closed"),
    );
  }
  await work.reload();
}

function createPublicListener(context: ProxyContext, sockets: Sockets): FastifyInstance {
  const { config } = context;
  const server = {
    headersTimeout: HEADERS_MS,
    connectionsCheckingInterval: CHECK_MS,
    maxHeaderSize: 16 * 1024,
    shouldUpgradeCallback: isWebSocket,
  };
  const app = Fastify({
    logger: false,
    bodyLimit: config.mostBodyBytes,
    // A body that is held has a shorter one of its own (bodies.ts).
    requestTimeout: config.totalSeconds * SECOND,
    keepAliveTimeout: KEEP_ALIVE_MS,
    trustProxy: false,
    exposeHeadRoutes: false,
    ...(config.tls
      ? // An https server has all of an http server that is used here.
        { https: { ...server, cert: config.tls.cert, key: config.tls.key.reveal() } as unknown as null }
      : { http: server }),
    routerOptions: { ignoreTrailingSlash: false, maxParamLength: 8192 },
    clientErrorHandler: (error, socket) => refuseUnreadable(context, error, socket),
    // Targets the router cannot read still get an answer in a dialect.
    frameworkErrors: (error, request, reply) =>
      refuseEarly(context, new Refused("bad_target", error.message), request.raw, reply.raw),
  });
  app.removeAllContentTypeParsers();
  app.decorateRequest("arrival", undefined);
  app.addContentTypeParser("*", async (request: FastifyRequest) => {
    const target = request.arrival?.target;
    // What passes unread is passed on as it comes, however large.
    if (target && passesUnread(target)) return undefined;
    return context.bodies.take(request.raw, addressOf(context, request.raw));
  });
  app.addHook("onRequest", async (request, reply) => {
    if (answerCors(config.corsOrigins, request.raw, reply.raw) || answerFront(request.raw, reply.raw))
      return void reply.hijack();
    reply.raw.once("close", () => context.bodies.letGo(request.raw));
    // Before the body: whoever is unknown, or asks for what cannot be served, must not upload it first.
    request.arrival = arrive(context, request.raw);
    const hasBody =
      request.headers["content-length"] !== undefined || request.headers["transfer-encoding"] !== undefined;
    if (request.method === "GET" && hasBody && request.headers["content-length"] !== "0")
      throw new Refused("bad_headers", "a GET with a body is not accepted");
  });
  app.all("/*", (request, reply) => handle(context, request, reply));
  app.setNotFoundHandler((request, reply) => handle(context, request, reply));
  app.setErrorHandler((error: FastifyError | Refused, request, reply) => {
    reply.hijack();
    refuseEarly(context, error instanceof Refused ? error : fromFastify(error, config), request.raw, reply.raw);
  });

  // Node would answer 100-continue before anybody asked who it is.
  app.server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
    try {
      arrive(context, request);
      response.writeContinue();
      app.server.emit("request", request, response);
    } catch (error) {
      refuseEarly(
        context,
        error instanceof Refused ? error : new Refused("bad_headers", "unreadable request"),
        request,
        response,
      );
    }
  });
  app.server.on("upgrade", (request: IncomingMessage, socket: Socket, head: Buffer) => {
    sockets.upgrade(request, socket, head);
  });
  return app;
}

function isWebSocket(request: IncomingMessage): boolean {
  return request.headers.upgrade?.toLowerCase() === "websocket";
}

function fromFastify(error: FastifyError, config: ProxyConfig): Refused {
  if (error.statusCode === 415)
    return new Refused("unsupported_media", "the content-type is empty or unreadable; send application/json");
  if (error.statusCode === 413)
    return new Refused(
      "body_too_large",
      `the body is larger than ${config.mostBodyBytes} bytes; proxy.max_body_mb sets the limit`,
    );
  return new Refused("bad_headers", error.message);
}

function refuseEarly(
  context: ProxyContext,
  refused: Refused,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  answerRefused(context, request, response, guessDialect(context.providers, request.url ?? "/"), refused);
}

/** What Node's parser gave up: there is no request, only the bytes it looked at. */
function refuseUnreadable(context: ProxyContext, error: ConnectionError, socket: Socket): void {
  if (error.code === "ECONNRESET" || !socket.writable) return void socket.destroy();
  const target =
    /^[A-Z]+ (\S+)/.exec(
      Buffer.from((error.rawPacket as unknown as Uint8Array | undefined) ?? []).toString("latin1", 0, 1_024),
    )?.[1] ?? "/";
  const refused =
    error.code === "HPE_HEADER_OVERFLOW"
      ? new Refused("bad_headers", "the headers are larger than 16 KB in all, or more than 2,000", { status: 431 })
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? new Refused("bad_headers", "the request did not come in time", { status: 408 })
        : new Refused("bad_headers", "this is no HTTP request that can be read");
  const { status, headers, body } = renderRefused(context, refused, guessDialect(context.providers, target), undefined);
  answerSocket(socket, status, headers, Buffer.from(body));
}

async function sleepUntil(done: () => boolean, atMostMs: number): Promise<void> {
  const deadline = Date.now() + atMostMs;
  while (!done() && Date.now() < deadline) await sleep(10);
}
