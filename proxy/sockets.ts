// One WebSocket, top to bottom. A session is one connection on either side; money is reserved, and booked, for each turn in it.
//   arrive -> reserve -> connect -> messages pass, each turn settled before the client learns that it is over -> finish
// Nothing that can cost money goes to the provider unless an attempt is reserved for it (attempts.ts).
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket, WebSocketServer } from "ws";
import type { RawData } from "ws";
import type { Subject } from "../ledger/budgets.ts";
import { credentialFor, identify, readArrival } from "./arrival.ts";
import { createAttempts } from "./session.ts";
import type { Attempts } from "./session.ts";
import type { ProxyContext } from "./context.ts";
import type { Conversation } from "./dialects/conversation.ts";
import { outgoingHeaders } from "./headers.ts";
import type { Ending } from "./forward.ts";
import type { JsonObject } from "./dialects/json.ts";
import { guessDialect } from "./target.ts";
import { isKeyProtocol, readProtocols } from "./credential.ts";
import { readJson } from "./json-body.ts";
import type { Target } from "./target.ts";
import { checkLimits } from "./gate.ts";
import { createMask } from "./mask.ts";
import type { Mask } from "./mask.ts";
import { checkReferences } from "./scope.ts";
import { checkPolicy, checkProvider } from "./policy.ts";
import { addressed, answerSocket, countRefused, renderRefused } from "./refuse.ts";
import { nowhere, Refused } from "./refusals.ts";

export type Sockets = {
  /** Takes over a socket that asks to become a WebSocket. Never throws. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** How many sessions are open, or on their way to be. */
  open(): number;
  /** Ends sessions in which nothing is going on; the others as soon as nothing is. */
  drain(): void;
  /** Ends those with an attempt whose subject the test takes. Returns how many. */
  cut(test: (subject: Subject) => boolean): number;
  /** Ends all of them now. */
  stop(): void;
};

const SECOND = 1000;
const LOOK_EVERY_MS = 30 * SECOND;
/** How long a turn that was cancelled may take to say what it used, and what is under way to be taken. */
const MOST_CANCEL_MS = 3 * SECOND;
/** How long the other side may take to answer a close. */
const MOST_CLOSE_MS = 2 * SECOND;
/** A message is held whole before it is read: with this many sessions what they hold together has an end. */
const MOST_MESSAGE_BYTES = 4 * 1024 * 1024;
const MOST_SESSIONS = 1_000;
const MOST_ANSWER_BYTES = 64 * 1024 * 1024;
const MOST_ERROR_BYTES = 64 * 1024;
/** Messages and bytes that wait their turn; from here on their sender is not read. */
const MOST_WAITING = 16;
const MOST_WAITING_BYTES = 1024 * 1024;
/** Close codes, RFC 6455 section 7.4.1. */
const NORMAL = 1000;
const GOING_AWAY = 1001;
const NO_CODE = 1005;
const POLICY = 1008;
const INTERNAL = 1011;
const OWN_CODES = 3000;
const MOST_REASON_BYTES = 123;

type Session = {
  readonly startedMs: number;
  /** Ends it when nothing goes on in it. */
  drain(): void;
  /** Ends it now, once. */
  finish(how: Ending["how"], code: number, reason: string): Promise<void>;
  /** Who asks for what in it. */
  subjects(): Subject[];
  /** Whether both sides still answer: asked every half minute. */
  isAlive(): boolean;
};

export function createSockets(context: ProxyContext): Sockets {
  const sessions = new Set<Session>();
  const beginning = new Set<Duplex>();
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: Math.min(context.config.mostBodyBytes, MOST_MESSAGE_BYTES),
  });
  const looking = setInterval(() => {
    const oldest = Date.now() - context.config.totalSeconds * SECOND;
    for (const session of sessions) {
      if (session.startedMs < oldest) void session.finish("failed", GOING_AWAY, "the session took longer than it may");
      else if (!session.isAlive()) void session.finish("client_left", GOING_AWAY, "no answer");
    }
  }, LOOK_EVERY_MS);
  looking.unref();

  return {
    upgrade(request, socket, head) {
      // Without a listener a reset would end the process.
      socket.on("error", () => socket.destroy());
      if (sessions.size + beginning.size >= MOST_SESSIONS)
        return refuse(
          context,
          request,
          socket,
          new Refused("busy", `${MOST_SESSIONS} WebSockets are open here; try again when some have ended`),
        );
      beginning.add(socket);
      begin(context, server, sessions, request, socket, head)
        .catch((error: unknown) => refuse(context, request, socket, error))
        .finally(() => beginning.delete(socket));
    },
    open: () => sessions.size + beginning.size,
    drain: () => sessions.forEach((session) => session.drain()),
    cut(test) {
      const ones = [...sessions].filter((session) => session.subjects().some(test));
      for (const one of ones) void one.finish("cut", POLICY, "whoever runs Keymeter stopped this key or scope");
      return ones.length;
    },
    stop() {
      clearInterval(looking);
      for (const session of sessions) void session.finish("stopped", GOING_AWAY, "Keymeter is shutting down");
      for (const socket of beginning) socket.destroy();
    },
  };
}

async function begin(
  context: ProxyContext,
  server: WebSocketServer,
  sessions: Set<Session>,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const arrival = readArrival(context, request);
  const { target } = arrival;
  if (!target) throw nowhere(arrival.path);
  const principal = identify(context, request, arrival.credential, target.provider.name);
  checkProvider(principal.key, target.provider.name);
  const credential = await credentialFor(context, target, principal, arrival.credential);
  const conversation =
    isHandshake(request) && target.match?.route.kind === "socket"
      ? target.dialect.converse?.(target.match, arrival.query, {
          vendor: target.priceList,
          allowed: context.config.allowedFields,
        })
      : undefined;
  if (!conversation)
    throw new Refused(
      "websocket",
      "this WebSocket cannot be metered; use HTTP, to which clients fall back at once, or a session that names its model",
    );

  const attempts = createAttempts(context, request, arrival, target);
  if (conversation.opening) await attempts.reserve({ call: conversation.opening, mayStart: true }, 0);
  try {
    const headers = outgoingHeaders(request, target.credentialHeader, credential, principal.kind === "virtual");
    const mask = principal.kind === "virtual" ? createMask(credential.text) : undefined;
    const upstream = await connect(context, target, headers, readProtocols(request), socket);
    if (upstream.kind !== "open") {
      const { kind, status } = upstream;
      await attempts.close({ how: kind, status, sent: status !== undefined });
      return answerSocket(socket, status ?? 502, upstream.headers, mask?.whole(upstream.body) ?? upstream.body);
    }
    let client: WebSocket | undefined;
    // Calls back before it returns, or not at all.
    if (!socket.destroyed && !context.isDraining())
      server.handleUpgrade(request, socket, head, (opened) => (client = opened));
    if (!client) {
      upstream.socket.terminate();
      await attempts.close({});
      if (context.isDraining()) throw new Refused("draining", "this Keymeter is shutting down; connect again");
      return;
    }
    const check = (message: JsonObject): void => {
      checkLimits(message, target.dialect.limits, false);
      checkReferences(context, target.provider.name, principal, target.dialect.references(message));
      const [model, ...others] = conversation.models?.(message) ?? [];
      const endpoint = conversation.opening?.endpoint;
      if (model !== undefined && endpoint !== undefined)
        checkPolicy(principal.key, { provider: target.provider.name, endpoint, model, others });
    };
    const ends = { client, upstream: upstream.socket, mask, userAgent: request.headers["user-agent"] ?? "" };
    const session = converse(context, conversation, attempts, ends, check, () => sessions.delete(session));
    sessions.add(session);
    upstream.socket.resume();
  } catch (error) {
    await attempts.close({});
    throw error;
  }
}

/** Whether it can become a WebSocket at all: asked before money is reserved for it. */
function isHandshake(request: IncomingMessage): boolean {
  const { method, headers } = request;
  const protocols = readProtocols(request);
  return (
    method === "GET" &&
    headers["sec-websocket-version"] === "13" &&
    /^[+/0-9A-Za-z]{22}==$/.test(headers["sec-websocket-key"] ?? "") &&
    new Set(protocols).size === protocols.length &&
    protocols.every((protocol) => /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(protocol))
  );
}

/** Both sides of a session. */
type Ends = {
  readonly client: WebSocket;
  readonly userAgent: string;
  readonly upstream: WebSocket;
  /** What hides our credential from the client. */
  readonly mask: Mask | undefined;
};

/** Lets messages pass, in order, each side as fast as the other one reads. */
function converse(
  context: ProxyContext,
  conversation: Conversation,
  attempts: Attempts,
  { client, userAgent, upstream, mask }: Ends,
  check: (message: JsonObject) => void,
  over: () => void,
): Session {
  /** Why nothing more of the client goes on. What goes on or was asked for comes to its end. */
  let closing: { readonly code: number; readonly reason: string; readonly refused?: Refused } | undefined;
  let finishing: Promise<void> | undefined;
  let turnsDone: (() => void) | undefined;

  const closeWhenDone = (): void => {
    if (attempts.open().length === 0) turnsDone?.();
    if (closing && !attempts.isBusy()) void finish("ended", closing.code, closing.reason);
  };

  /** Nothing more of the client goes on, and what the provider would start by itself is not waited for. */
  const refuseMore = (error: unknown): void => {
    if (!(error instanceof Refused)) throw error;
    countRefused(context, error);
    closing ??= { code: POLICY, reason: error.message, refused: error };
    closeWhenDone();
  };

  const fromClient = lane(context, client, async (data, isBinary) => {
    if (closing || finishing) return;
    try {
      const message = readJson(data);
      check(message);
      const need = conversation.sent(message);
      if (need && "unmetered" in need) throw new Refused("websocket", `this cannot be metered: ${need.unmetered}`);
      if (need) await attempts.reserve(need, data.length);
    } catch (error) {
      return refuseMore(error);
    }
    await send(upstream, data, isBinary);
  });

  const fromUpstream = lane(context, upstream, async (data, isBinary) => {
    for (const said of conversation.received(data.toString("utf8"))) {
      switch (said.kind) {
        case "began":
          await attempts.began(said.turnId, said.lane).catch(refuseMore);
          break;
        case "ended":
          await attempts.ended(said.turnId, said.reading, "ended", { apart: said.apart === true });
          break;
        case "declined":
          await attempts.declined(said.lane);
          break;
        case "merged":
          await attempts.merged();
          break;
      }
    }
    await send(client, isBinary ? data : (mask?.whole(data) ?? data), isBinary);
    closeWhenDone();
  });

  const finish = (how: Ending["how"], code: number, reason: string): Promise<void> =>
    (finishing ??= (async () => {
      if (attempts.open().length > 0 && upstream.readyState === WebSocket.OPEN) {
        const stops = attempts.open().flatMap((turnId) => conversation.cancel(turnId) ?? []);
        const done = new Promise<void>((resolve) => (turnsDone = resolve));
        for (const stop of stops) upstream.send(stop);
        if (stops.length > 0) await Promise.race([done, sleep(MOST_CANCEL_MS), gone(upstream)]);
      }
      // What is being taken now says more than a guess.
      await Promise.race([fromUpstream.idle(), sleep(MOST_CANCEL_MS)]);
      await Promise.all(
        attempts.open().map((turnId) => {
          const { reading, tokens } = conversation.partial(turnId);
          return attempts.ended(turnId, reading, how, { tokens });
        }),
      );
      await attempts.close({ how });
      const said =
        closing?.refused && conversation.errorMessage(addressed(context, closing.refused.refusal), userAgent);
      if (said !== undefined) await Promise.race([send(client, Buffer.from(said), false), sleep(MOST_CLOSE_MS)]);
      hangUp(upstream, NORMAL, "");
      hangUp(client, code, reason);
      over();
    })().catch((error: unknown) => {
      context.log.error({ err: error }, "a WebSocket session could not be finished");
      upstream.terminate();
      client.terminate();
      over();
    }));

  client.on("close", () => void fromClient.idle().then(() => finish("client_left", NORMAL, "")));
  upstream.on("close", (code, reason) => {
    void fromUpstream.idle().then(() => {
      const isClean = code === NORMAL || code === GOING_AWAY || code === POLICY || code >= OWN_CODES;
      const outcome = isClean || code === NO_CODE ? "ended" : "failed";
      return finish(
        outcome,
        isClean ? code : code === NO_CODE ? NORMAL : INTERNAL,
        (mask?.whole(reason) ?? reason).toString("utf8"),
      );
    });
  });

  const answering = [isAnswering(client), isAnswering(upstream)];
  return {
    startedMs: Date.now(),
    drain() {
      closing ??= { code: GOING_AWAY, reason: "Keymeter is shutting down" };
      closeWhenDone();
    },
    finish,
    subjects: () => attempts.subjects(),
    isAlive: () => answering.every((ask) => ask()),
  };
}

/** Takes messages one after the other; a side that sends faster than they are taken is not read for a while. */
function lane(
  context: ProxyContext,
  source: WebSocket,
  take: (data: Buffer, isBinary: boolean) => Promise<void>,
): { readonly idle: () => Promise<void> } {
  let waiting = 0;
  let bytes = 0;
  let tail = Promise.resolve();
  source.on("error", () => source.terminate());
  source.on("message", (data, isBinary) => {
    const message = toBuffer(data);
    waiting += 1;
    bytes += message.length;
    if (waiting >= MOST_WAITING || bytes > MOST_WAITING_BYTES) source.pause();
    tail = tail
      .then(() => take(message, isBinary))
      .catch((error: unknown) => {
        context.log.error({ err: error }, "a WebSocket message could not be taken");
        source.terminate();
      })
      .then(() => {
        waiting -= 1;
        bytes -= message.length;
        if (waiting === 0 && source.isPaused) source.resume();
      });
  });
  return { idle: () => tail };
}

type Connected =
  | { readonly kind: "open"; readonly socket: WebSocket }
  /** `ended`: the provider said no, with a status. */
  | {
      readonly kind: "ended" | "unreachable";
      readonly status: number | undefined;
      readonly headers: readonly string[];
      readonly body: Buffer;
    };

function connect(
  context: ProxyContext,
  { provider, upstreamPath, query, dialect }: Target,
  headers: readonly string[],
  protocols: readonly string[],
  client: Duplex,
): Promise<Connected> {
  const named = Object.create(null) as { [name: string]: string[] };
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string;
    if (!name.startsWith("sec-websocket-") && name !== "accept-encoding")
      (named[name] ??= []).push(headers[i + 1] as string);
  }
  const socket = new WebSocket(
    provider.origin.replace(/^http/, "ws") + upstreamPath + query,
    protocols.filter((protocol) => !isKeyProtocol(protocol)),
    {
      headers: named as unknown as { [name: string]: string },
      perMessageDeflate: false,
      followRedirects: false,
      handshakeTimeout: context.config.connectSeconds * SECOND * 2,
      maxPayload: MOST_ANSWER_BYTES,
    },
  );
  // A client that gives up is not connected for.
  const giveUp = (): void => socket.terminate();
  client.once("close", giveUp);
  return new Promise<Connected>((resolve) => {
    if (client.destroyed) giveUp();
    socket.once("open", () => {
      // What the provider says waits until somebody listens.
      socket.pause();
      resolve({ kind: "open", socket });
    });
    socket.once("unexpected-response", (_request, response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size <= MOST_ERROR_BYTES) chunks.push(chunk);
        else response.destroy();
      });
      response.once("close", () => {
        const status = response.statusCode ?? 502;
        const type = response.headers["content-type"] ?? "application/json";
        resolve({ kind: "ended", status, headers: ["content-type", type], body: Buffer.concat(chunks) });
      });
    });
    socket.once("error", (error) => {
      context.log.warn({ provider: provider.name, err: error }, "no WebSocket to the provider");
      const message = "Keymeter: the provider could not be reached";
      const { body } = dialect.refusal({ kind: "upstream", status: 502, message }, "", "");
      const headersOut = ["content-type", "application/json"];
      resolve({ kind: "unreachable", status: undefined, headers: headersOut, body: Buffer.from(body) });
    });
  }).finally(() => client.removeListener("close", giveUp));
}

function refuse(context: ProxyContext, request: IncomingMessage, socket: Duplex, error: unknown): void {
  const dialect = guessDialect(context.providers, request.url ?? "/");
  const { status, headers, body } = renderRefused(context, error, dialect, request.headers["user-agent"]);
  answerSocket(socket, status, headers, Buffer.from(body));
}

/** Resolves when the bytes have gone to the network, or can no longer go. */
function send(socket: WebSocket, data: Buffer, isBinary: boolean): Promise<void> {
  return new Promise((resolve) => {
    if (socket.readyState !== WebSocket.OPEN) return resolve();
    socket.send(data, { binary: isBinary }, () => resolve());
  });
}

function hangUp(socket: WebSocket, code: number, reason: string): void {
  if (socket.readyState !== WebSocket.OPEN) return socket.terminate();
  // A reason is cut by bytes; what is left of a character is no character.
  const short = Buffer.from(reason)
    .subarray(0, MOST_REASON_BYTES)
    .toString("utf8")
    .replace(/\uFFFD+$/, "");
  socket.close(code, short);
  setTimeout(() => socket.terminate(), MOST_CLOSE_MS).unref();
}

/** Asks with a ping; false when the last one was not answered. */
function isAnswering(socket: WebSocket): () => boolean {
  let asked = false;
  socket.on("pong", () => (asked = false));
  socket.on("message", () => (asked = false));
  return () => {
    if (socket.readyState !== WebSocket.OPEN || socket.isPaused) return true;
    if (asked) return false;
    asked = true;
    socket.ping();
    return true;
  };
}

function gone(socket: WebSocket): Promise<void> {
  return new Promise((resolve) => socket.once("close", () => resolve()));
}

function toBuffer(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
