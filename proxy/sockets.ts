// One WebSocket, top to bottom. A session is one connection on either side; money is held, and booked, for each turn in it.
//   arrive -> hold -> connect -> messages pass, each turn settled before the client learns that it is over -> finish
// Nothing that can cost money goes to the provider unless an attempt is held for it.
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import type { RawData } from "ws";
import type { Subject } from "../ledger/budgets.ts";
import { formatRequestId } from "../ledger/ids.ts";
import type { AttemptId } from "../ledger/ids.ts";
import { admit, subjectOf } from "./admit.ts";
import type { Admission } from "./admit.ts";
import { credentialFor, identify, readArrival } from "./arrival.ts";
import type { Arrival } from "./arrival.ts";
import { count, NOTHING_MORE, settle } from "./close.ts";
import type { ProxyContext } from "./context.ts";
import type { Conversation, Need } from "./dialects/conversation.ts";
import { NO_READING } from "./dialects/dialect.ts";
import type { Reading } from "./dialects/dialect.ts";
import { outgoingHeaders } from "./forward.ts";
import type { Ending } from "./forward.ts";
import { checkModel, guessDialect, KEY_PROTOCOL, readJson, readProtocols } from "./gate.ts";
import type { Target } from "./gate.ts";
import type { Entry } from "./limits.ts";
import { checkPolicy, checkProvider } from "./policy.ts";
import { nowhere, Refused, renderRefusal } from "./refusals.ts";
import type { Seen } from "./meter.ts";
import { toEvent } from "./settle.ts";
import { readTags } from "./tags.ts";

export type Sockets = {
  /** Takes over a socket that asks to become a WebSocket. Never throws. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** How many sessions are open. */
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
/** How long a turn that was cancelled may take to say what it used. */
const MOST_CANCEL_MS = 3 * SECOND;
const MOST_ANSWER_BYTES = 64 * 1024 * 1024;
const MOST_ERROR_BYTES = 64 * 1024;
/** Messages that wait their turn; from here on their sender is not read. */
const MOST_WAITING = 16;
/** Close codes, RFC 6455 section 7.4.1. */
const NORMAL = 1000;
const GOING_AWAY = 1001;
const POLICY = 1008;
const INTERNAL = 1011;
const MOST_REASON_BYTES = 123;
/** What a turn counts in limits of tokens until it says what it used. */
const USUAL_TURN_TOKENS = 1_000;

type Session = {
  readonly startedMs: number;
  /** Ends it when no turn is open. */
  drain(): void;
  /** Ends it now. */
  finish(how: Ending["how"], code: number, reason: string): Promise<void>;
  /** Who asks for what in it. */
  subjects(): Subject[];
  /** Whether both sides still answer: asked every half minute. */
  isAlive(): boolean;
};

export function createSockets(context: ProxyContext): Sockets {
  const sessions = new Set<Session>();
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: context.config.mostBodyBytes,
  });
  setInterval(() => {
    const oldest = Date.now() - context.config.totalSeconds * SECOND;
    for (const session of sessions) {
      if (session.startedMs < oldest) void session.finish("failed", GOING_AWAY, "the session took longer than it may");
      else if (!session.isAlive()) void session.finish("client_left", GOING_AWAY, "no answer");
    }
  }, LOOK_EVERY_MS).unref();

  return {
    upgrade(request, socket, head) {
      // Without a listener a reset would end the process.
      socket.on("error", () => socket.destroy());
      begin(context, server, sessions, request, socket, head).catch((error: unknown) => {
        refuse(context, request, socket, error);
      });
    },
    open: () => sessions.size,
    drain: () => sessions.forEach((session) => session.drain()),
    cut(test) {
      const ones = [...sessions].filter((session) => session.subjects().some(test));
      for (const one of ones) void one.finish("cut", POLICY, "whoever runs Keymeter stopped this key or scope");
      return ones.length;
    },
    stop: () => sessions.forEach((session) => void session.finish("stopped", GOING_AWAY, "Keymeter is shutting down")),
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
      ? target.dialect.converse?.(target.match, arrival.query)
      : undefined;
  if (!conversation)
    throw new Refused(
      "websocket",
      "this WebSocket cannot be metered; use HTTP, to which clients fall back at once, or a session that names its model",
    );

  const held = createHeld(context, request, arrival, target);
  if (conversation.opening) await held.hold({ call: conversation.opening, begins: false }, 0);
  const headers = outgoingHeaders(request, target.credentialHeader, credential, principal.kind === "virtual");
  const upstream = await connect(context, target, headers, readProtocols(request));
  if (upstream.kind !== "open") {
    await held.bookAll({ ...PASSED, how: upstream.kind, status: upstream.status, sent: upstream.status !== undefined });
    answer(socket, upstream.status ?? 502, upstream.headers, upstream.body);
    return;
  }
  if (socket.destroyed) {
    upstream.socket.terminate();
    return held.bookAll(PASSED);
  }
  server.handleUpgrade(request, socket, head, (client) => {
    const session = converse(context, conversation, held, client, upstream.socket, () => sessions.delete(session));
    sessions.add(session);
    upstream.socket.resume();
  });
}

/** Whether it can become a WebSocket at all: asked before money is held for it. */
function isHandshake({ method, headers }: IncomingMessage): boolean {
  return method === "GET" && headers["sec-websocket-version"] === "13" && headers["sec-websocket-key"] !== undefined;
}

/** The attempts of one session: those that are held for what may come, and those that a turn has taken. */
type Held = {
  /** Holds what a message needs. Throws Refused when it does not fit, and when the key is no longer good. */
  hold(need: Exclude<Need, { unmetered: string }>, bytes: number): Promise<void>;
  began(turnId: string): void;
  declined(): void;
  /** Books what a turn used. */
  ended(turnId: string, reading: Reading, how: Ending["how"]): Promise<void>;
  readonly turns: ReadonlySet<string>;
  subjects(): Subject[];
  /** Books all that is held: what may have been used at what is held for it, the rest as nothing. */
  bookAll(ending: Ending): Promise<void>;
};

/** A turn that never says what it used is booked at what was held for it. */
const UNSEEN: Seen = { tokens: 0, isPartial: true };
const PASSED: Ending = {
  how: "ended",
  timedOut: false,
  sent: true,
  status: 200,
  firstByteMs: undefined,
  providerRequestId: undefined,
  error: undefined,
};

function createHeld(context: ProxyContext, request: IncomingMessage, { credential }: Arrival, target: Target): Held {
  const { provider, priceList } = target;
  /** Held, and no turn yet; the first of them are promised to turns that the client asked for. */
  const waiting: Admission[] = [];
  let promised = 0;
  const turns = new Map<string, Admission>();
  /** Places in the limits, by attempt. */
  const entries = new Map<AttemptId, Entry>();
  let latest: Admission | undefined;

  const book = async (admission: Admission, reading: Reading, ending: Ending): Promise<void> => {
    const used = Object.values(reading.usage ?? {}).reduce((sum, count) => sum + count, 0);
    entries.get(admission.attemptId)?.leave(used, Date.now());
    entries.delete(admission.attemptId);
    const event = toEvent(admission, ending, reading, UNSEEN, context.prices, Date.now());
    const isBooked = await settle(context, event, admission);
    if (!isBooked()) return;
    count(context, event, reading);
    if (event.usageState === "reported" && event.usage.output !== undefined)
      context.expectations.observe(event.keyId, event.requestedModel, event.usage.output);
  };
  /** A turn that nobody held anything for was used all the same. */
  const take = (): Admission | undefined =>
    waiting.shift() ?? (latest && { ...latest, attemptId: context.writer.nextAttemptId() });

  return {
    async hold({ call, begins }, bytes) {
      checkModel(call);
      if (begins) promised += 1;
      while (waiting.length < Math.max(1, promised)) {
        // A session lives for an hour; a key that was paused meanwhile starts nothing more.
        const principal = identify(context, request, credential, provider.name);
        checkPolicy(principal.key, { provider: provider.name, endpoint: call.endpoint, model: call.model });
        const entry = context.limiter.enter(principal, USUAL_TURN_TOKENS, bytes, Date.now());
        try {
          const admission = await admit(
            { ...context, refusalStatus: context.config.refusalStatus },
            { principal, provider, priceList, call, tags: readTags(request.headers, call.bodyTags), bodyBytes: bytes },
          );
          waiting.push(admission);
          entries.set(admission.attemptId, entry);
          latest = admission;
        } catch (error) {
          entry.leave(0, Date.now());
          throw error;
        }
      }
    },
    began(turnId) {
      const admission = take();
      promised = Math.max(0, promised - 1);
      if (admission) turns.set(turnId, admission);
    },
    declined() {
      promised = Math.max(0, promised - 1);
    },
    async ended(turnId, reading, how) {
      const admission = turns.get(turnId) ?? take();
      turns.delete(turnId);
      if (admission) await book(admission, reading, { ...PASSED, how });
    },
    subjects: () => [...waiting, ...turns.values(), ...(latest ? [latest] : [])].map(subjectOf),
    get turns() {
      return new Set(turns.keys());
    },
    async bookAll(ending) {
      const unsure = [...turns.values(), ...waiting.splice(0, promised)];
      turns.clear();
      await Promise.all([
        ...unsure.map((admission) => book(admission, NO_READING, ending)),
        ...waiting.splice(0).map((admission) => book(admission, NOTHING_MORE, ending)),
      ]);
    },
  };
}

/** Lets messages pass, in order, each side as fast as the other one reads. */
function converse(
  context: ProxyContext,
  conversation: Conversation,
  held: Held,
  client: WebSocket,
  upstream: WebSocket,
  over: () => void,
): Session {
  /** Why nothing more of the client goes on. The turns that are open come to their end. */
  let closing: { readonly code: number; readonly reason: string; readonly refused?: Refused } | undefined;
  let finishing: Promise<void> | undefined;
  let turnsDone: (() => void) | undefined;

  const closeWhenDone = (): void => {
    if (held.turns.size > 0) return;
    turnsDone?.();
    if (closing) void finish("ended", closing.code, closing.reason);
  };

  const fromClient = lane(client, async (data, isBinary) => {
    if (closing || finishing) return;
    try {
      if (conversation.isStrict) readJson(data);
      const need = conversation.sent(toText(data));
      if (need && "unmetered" in need) throw new Refused("websocket", `this cannot be metered: ${need.unmetered}`);
      if (need) await held.hold(need, data.length);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      context.metrics.countRefused(error.reason);
      if (error.refusal.kind !== "money") context.writer.countRefused("", "", error.reason);
      closing = { code: POLICY, reason: error.message, refused: error };
      closeWhenDone();
      return;
    }
    await send(upstream, data, isBinary);
  });

  const fromUpstream = lane(upstream, async (data, isBinary) => {
    for (const said of conversation.received(toText(data))) {
      if (said.kind === "began") held.began(said.turnId);
      else if (said.kind === "declined") held.declined();
      else await held.ended(said.turnId, said.reading, "ended");
    }
    await send(client, data, isBinary);
    closeWhenDone();
  });

  const finish = (how: Ending["how"], code: number, reason: string): Promise<void> =>
    (finishing ??= (async () => {
      if (held.turns.size > 0 && upstream.readyState === WebSocket.OPEN) {
        const stops = [...held.turns].flatMap((turnId) => conversation.cancel(turnId) ?? []);
        const done = new Promise<void>((resolve) => (turnsDone = resolve));
        for (const stop of stops) upstream.send(stop);
        if (stops.length > 0) await Promise.race([done, later(MOST_CANCEL_MS), gone(upstream)]);
      }
      await Promise.all([...held.turns].map((turnId) => held.ended(turnId, conversation.partial(turnId), how)));
      await held.bookAll({ ...PASSED, how: how === "ended" || how === "client_left" ? "ended" : how });
      if (closing?.refused) {
        const message = conversation.errorMessage(closing.refused.refusal.message);
        if (message !== undefined) await send(client, Buffer.from(message), false);
      }
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
      const isClean = code === NORMAL || code === GOING_AWAY || code >= 3000 || code === POLICY;
      return finish(isClean ? "ended" : "failed", isClean ? code : INTERNAL, reason.toString("utf8"));
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
    subjects: () => held.subjects(),
    isAlive: () => answering.every((ask) => ask()),
  };
}

/** Takes messages one after the other; a side that sends faster than they are taken is not read for a while. */
function lane(
  source: WebSocket,
  take: (data: Buffer, isBinary: boolean) => Promise<void>,
): { readonly idle: () => Promise<void> } {
  let waiting = 0;
  let tail = Promise.resolve();
  source.on("error", () => source.terminate());
  source.on("message", (data, isBinary) => {
    waiting += 1;
    if (waiting === MOST_WAITING) source.pause();
    tail = tail
      .then(() => take(toBuffer(data), isBinary))
      .catch(() => source.terminate())
      .then(() => {
        waiting -= 1;
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
): Promise<Connected> {
  const named: { [name: string]: string[] } = {};
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string;
    if (!name.startsWith("sec-websocket-") && name !== "accept-encoding")
      (named[name] ??= []).push(headers[i + 1] as string);
  }
  const socket = new WebSocket(
    provider.origin.replace(/^http/, "ws") + upstreamPath + query,
    protocols.filter((protocol) => !KEY_PROTOCOL.test(protocol)),
    {
      headers: named as unknown as { [name: string]: string },
      perMessageDeflate: false,
      followRedirects: false,
      handshakeTimeout: context.config.connectSeconds * SECOND * 2,
      maxPayload: MOST_ANSWER_BYTES,
    },
  );
  return new Promise((resolve) => {
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
      const { body } = dialect.refusal({ kind: "upstream", status: 502, message }, "");
      const headersOut = ["content-type", "application/json"];
      resolve({ kind: "unreachable", status: undefined, headers: headersOut, body: Buffer.from(body) });
    });
  });
}

function refuse(context: ProxyContext, request: IncomingMessage, socket: Duplex, error: unknown): void {
  const requestId = formatRequestId(context.writer.nextAttemptId());
  const dialect = guessDialect(context.providers, request.url ?? "/");
  if (!(error instanceof Refused)) {
    context.log.error({ requestId, err: error }, "WebSocket failed");
    const message = "Keymeter: an error of ours; nothing more is known to the client than this id";
    const { status, body } = dialect.refusal({ kind: "unavailable", status: 500, message }, requestId);
    return answer(socket, status, ["content-type", "application/json"], Buffer.from(body));
  }
  context.metrics.countRefused(error.reason);
  if (error.refusal.kind !== "money") context.writer.countRefused("", "", error.reason);
  const { status, headers, body } = renderRefusal(error, dialect, requestId, request.headers["user-agent"] ?? "");
  answer(socket, status, headers, Buffer.from(body));
}

/** An HTTP answer to a handshake that comes to nothing. */
function answer(socket: Duplex, status: number, headers: readonly string[], body: Buffer): void {
  if (socket.destroyed) return;
  const lines = [`HTTP/1.1 ${status} ${status === 426 ? "Upgrade Required" : "Refused"}`];
  for (let i = 0; i + 1 < headers.length; i += 2)
    lines.push(`${headers[i]}: ${(headers[i + 1] as string).replace(/[\r\n]/g, " ")}`);
  lines.push("connection: close", `content-length: ${body.length}`, "", "");
  socket.end(Buffer.concat([Buffer.from(lines.join("\r\n"), "latin1"), body]));
}

/** Resolves when the bytes have gone to the network, or can no longer go. */
function send(socket: WebSocket, data: Buffer, isBinary: boolean): Promise<void> {
  return new Promise((resolve) => {
    if (socket.readyState !== WebSocket.OPEN) return resolve();
    socket.send(data, { binary: isBinary }, () => resolve());
  });
}

function hangUp(socket: WebSocket, code: number, reason: string): void {
  if (socket.readyState === WebSocket.OPEN) {
    // A reason is cut by bytes; what is left of a character is no character.
    const short = Buffer.from(reason)
      .subarray(0, MOST_REASON_BYTES)
      .toString("utf8")
      .replace(/\uFFFD+$/, "");
    socket.close(code, short);
  } else socket.terminate();
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

function later(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}

function toBuffer(data: RawData): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}

/** Both providers put JSON into text and into binary messages. */
function toText(data: Buffer): string {
  return data.toString("utf8");
}
