// The public listener: what Node and fastify may take in, who is asked before a body is, and a refusal in a dialect for
// what is no request.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import Fastify from "fastify";
import type { ConnectionError, FastifyError, FastifyInstance, FastifyRequest } from "fastify";
import { addressOf, arrive, askingAgain } from "./arrival.ts";
import type { Arrival } from "./arrival.ts";
import type { ProxyConfig } from "./config.ts";
import type { ProxyContext } from "./context.ts";
import { answerCors } from "./cors.ts";
import { answerFront } from "./front.ts";
import { guessDialect } from "./target.ts";
import { handle } from "./handle.ts";
import { meteredRoute } from "./pass.ts";
import { answerRefused, answerSocket, renderRefused } from "./refuse.ts";
import { Refused } from "./refusals.ts";
import type { Sockets } from "./sockets.ts";

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

export function createPublicListener(context: ProxyContext, sockets: Sockets): FastifyInstance {
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
      answerRefused(context, request.raw, reply.raw, new Refused("bad_target", error.message)),
  });
  app.removeAllContentTypeParsers();
  app.decorateRequest("arrival", undefined);
  app.addContentTypeParser("*", (request: FastifyRequest, _payload, done) => {
    const target = request.arrival?.target;
    // What passes unread is passed on as it comes, however large.
    if (target && !meteredRoute(target)) return done(null, undefined);
    return context.bodies.take(request.raw, addressOf(context, request.raw));
  });
  app.addHook("onRequest", async (request, reply) => {
    if (answerCors(config.corsOrigins, request.raw, reply.raw) || answerFront(request.raw, reply.raw))
      return void reply.hijack();
    reply.raw.once("close", () => context.bodies.letGo(request.raw));
    // Before the body: whoever is unknown, or asks for what cannot be served, must not upload it first.
    request.arrival = await askingAgain(context, () => arrive(context, request.raw));
    const hasBody =
      request.headers["content-length"] !== undefined || request.headers["transfer-encoding"] !== undefined;
    if (request.method === "GET" && hasBody && request.headers["content-length"] !== "0")
      throw new Refused("bad_headers", "a GET with a body is not accepted");
  });
  app.all("/*", (request, reply) => handle(context, request, reply));
  app.setNotFoundHandler((request, reply) => handle(context, request, reply));
  app.setErrorHandler((error: FastifyError | Refused, request, reply) => {
    reply.hijack();
    answerRefused(context, request.raw, reply.raw, error instanceof Refused ? error : fromFastify(error, config));
  });

  // Node would answer 100-continue before anybody asked who it is.
  app.server.on("checkContinue", (request: IncomingMessage, response: ServerResponse) => {
    askingAgain(context, () => arrive(context, request)).then(
      () => {
        response.writeContinue();
        app.server.emit("request", request, response);
      },
      (error: unknown) => {
        const refused = error instanceof Refused ? error : new Refused("bad_headers", "unreadable request");
        answerRefused(context, request, response, refused);
      },
    );
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
