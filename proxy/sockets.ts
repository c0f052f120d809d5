// WebSockets: one from its handshake to its session, and all that are open. Money is reserved, and booked, for each
// turn in one.
//   arrive -> reserve -> connect -> messages pass, each turn booked before the client learns that it is over (session.ts) -> finish
// Nothing that can cost money goes to the provider unless an attempt is reserved for it (turns.ts).
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import type { Subject } from "../ledger/budgets.ts";
import { askingAgain, credentialFor, identify, paidBy, readArrival } from "./arrival.ts";
import { connect } from "./connect.ts";
import { noteStatus } from "./credential-source.ts";
import type { ProxyContext } from "./context.ts";
import type { JsonObject } from "./dialects/json.ts";
import { checkLimits } from "./gate.ts";
import { guessDialect } from "./target.ts";
import { readProtocols } from "./credential.ts";
import { outgoingHeaders } from "./headers.ts";
import { createMask } from "./mask.ts";
import { checkReferences } from "./scope.ts";
import { checkPolicy, checkProvider } from "./policy.ts";
import { answerSocket, renderRefused } from "./refuse.ts";
import { nowhere, Refused } from "./refusals.ts";
import { createSession, GOING_AWAY, POLICY } from "./session.ts";
import type { Session } from "./session.ts";
import { createTurns } from "./turns.ts";

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
/** A message is held whole before it is read: with this many sessions what they hold together has an end. */
const MOST_MESSAGE_BYTES = 4 * 1024 * 1024;
const MOST_SESSIONS = 1_000;

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
  // Who pays is looked at here too: a key of the client's own that is paused or revoked goes nowhere.
  const principal = await askingAgain(context, () =>
    paidBy(context, request, identify(context, request, arrival.credential, target.provider.name), target, arrival),
  );
  checkProvider(principal.key, target.provider.name);
  const credential = await credentialFor(context, target, principal, arrival.credential, arrival.own);
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

  const turns = createTurns(context, request, arrival, { target, sent: credential });
  if (conversation.opening) await turns.reserve({ call: conversation.opening, mayStart: true }, 0);
  try {
    const headers = outgoingHeaders(request, target.credentialHeader, credential, credential.ours, {
      naming: principal.key?.policy.users,
    });
    const mask = credential.ours ? createMask(credential.text) : undefined;
    const upstream = await connect(context, target, headers, readProtocols(request), socket);
    if (upstream.kind !== "open") {
      const { kind, status } = upstream;
      if (credential.ours?.source) noteStatus(credential.ours.source, status);
      await turns.bookRest({ how: kind, status, sent: status !== undefined });
      return answerSocket(socket, status ?? 502, upstream.headers, mask?.whole(upstream.body) ?? upstream.body);
    }
    let client: WebSocket | undefined;
    // Calls back before it returns, or not at all.
    if (!socket.destroyed && !context.isDraining())
      server.handleUpgrade(request, socket, head, (opened) => (client = opened));
    if (!client) {
      upstream.socket.terminate();
      await turns.bookRest({});
      if (context.isDraining()) throw new Refused("draining", "this Keymeter is shutting down; connect again");
      return;
    }
    const check = async (message: JsonObject): Promise<void> => {
      checkLimits(message, target.dialect.limits, false);
      await checkReferences(context, target.provider.name, principal, target.dialect.references(message));
      const [model, ...others] = conversation.models?.(message) ?? [];
      const endpoint = conversation.opening?.endpoint;
      if (model !== undefined && endpoint !== undefined)
        checkPolicy(principal.key, { provider: target.provider.name, endpoint, model, others });
    };
    const ends = { client, upstream: upstream.socket, mask, userAgent: request.headers["user-agent"] ?? "" };
    const session = createSession(context, conversation, turns, ends, check, () => sessions.delete(session));
    sessions.add(session);
    upstream.socket.resume();
  } catch (error) {
    await turns.bookRest({});
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

function refuse(context: ProxyContext, request: IncomingMessage, socket: Duplex, error: unknown): void {
  const dialect = guessDialect(context.providers, request.url ?? "/");
  const { status, headers, body } = renderRefused(context, error, dialect, request.headers["user-agent"]);
  answerSocket(socket, status, headers, Buffer.from(body));
}
