// One WebSocket session: one connection on either side, messages in order between them, each turn in the books before
// the client learns that it is over. It ends once, by either side, by a refusal or by us; what goes on then may say
// what it used before it is booked.
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import type { RawData } from "ws";
import type { Subject } from "../ledger/budgets.ts";
import type { ProxyContext } from "./context.ts";
import type { Conversation, Said } from "./dialects/conversation.ts";
import type { JsonObject } from "./dialects/json.ts";
import type { Ending } from "./ending.ts";
import { readJson } from "./json-body.ts";
import type { Mask } from "./mask.ts";
import { addressed, countRefused } from "./refuse.ts";
import { Refused } from "./refusals.ts";
import type { Turns } from "./turns.ts";

export type Session = {
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

/** Both sides of a session. */
type Ends = {
  readonly client: WebSocket;
  readonly userAgent: string;
  readonly upstream: WebSocket;
  /** What hides our credential from the client. */
  readonly mask: Mask | undefined;
};

type Speaking = Pick<ProxyContext, "config" | "log" | "metrics" | "writer">;

const SECOND = 1000;
/** How long a turn that was cancelled may take to say what it used, and what is under way to be taken. */
const MOST_CANCEL_MS = 3 * SECOND;
/** How long the other side may take to answer a close. */
const MOST_CLOSE_MS = 2 * SECOND;
/** Messages and bytes that wait their turn; from here on their sender is not read. */
const MOST_WAITING = 16;
const MOST_WAITING_BYTES = 1024 * 1024;
/** Close codes, RFC 6455 section 7.4.1. */
const NORMAL = 1000;
export const GOING_AWAY = 1001;
export const POLICY = 1008;
const NO_CODE = 1005;
const INTERNAL = 1011;
const OWN_CODES = 3000;
const MOST_REASON_BYTES = 123;

/** Lets messages pass, in order, each side as fast as the other one reads. `check` rejects with Refused for a message
 *  that may not go on; `over` is told when nothing more passes. */
export function createSession(
  context: Speaking,
  conversation: Conversation,
  turns: Turns,
  { client, userAgent, upstream, mask }: Ends,
  check: (message: JsonObject) => Promise<void>,
  over: () => void,
): Session {
  /** Why nothing more of the client goes on. What goes on or was asked for comes to its end. */
  let goodbye: { readonly code: number; readonly reason: string; readonly refused?: Refused } | undefined;
  let finishing: Promise<void> | undefined;
  let turnsDone: (() => void) | undefined;

  const finishWhenDone = (): void => {
    if (turns.begun().length === 0) turnsDone?.();
    if (goodbye && !turns.isBusy()) void finish("ended", goodbye.code, goodbye.reason);
  };

  /** Nothing more of the client goes on, and what the provider would start by itself is not waited for. */
  const refuseMore = (error: unknown): void => {
    if (!(error instanceof Refused)) throw error;
    countRefused(context, error);
    goodbye ??= { code: POLICY, reason: error.message, refused: error };
    finishWhenDone();
  };

  const fromClient = lane(context, client, async (data, isBinary) => {
    if (goodbye || finishing) return;
    try {
      const message = readJson(data);
      await check(message);
      const need = conversation.sent(message);
      if (need && "unmetered" in need) throw new Refused("websocket", `this cannot be metered: ${need.unmetered}`);
      if (need) await turns.reserve(need, data.length);
    } catch (error) {
      return refuseMore(error);
    }
    await send(upstream, data, isBinary);
  });

  const fromUpstream = lane(context, upstream, async (data, isBinary) => {
    for (const said of conversation.received(data.toString("utf8"))) await hear(turns, said, refuseMore);
    await send(client, isBinary ? data : (mask?.whole(data) ?? data), isBinary);
    finishWhenDone();
  });

  const finish = (how: Ending["how"], code: number, reason: string): Promise<void> =>
    (finishing ??= (async () => {
      if (turns.begun().length > 0 && upstream.readyState === WebSocket.OPEN) {
        const stops = turns.begun().flatMap((turnId) => conversation.cancel(turnId) ?? []);
        const done = new Promise<void>((resolve) => (turnsDone = resolve));
        for (const stop of stops) upstream.send(stop);
        if (stops.length > 0) await Promise.race([done, sleep(MOST_CANCEL_MS), gone(upstream)]);
      }
      // What is being taken now says more than a guess.
      await Promise.race([fromUpstream.idle(), sleep(MOST_CANCEL_MS)]);
      await bookBegun(turns, conversation, how);
      await turns.bookRest({ how });
      const said =
        goodbye?.refused && conversation.errorMessage(addressed(context, goodbye.refused.refusal), userAgent);
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
      const why = (mask?.whole(reason) ?? reason).toString("utf8");
      if (isClean(code)) return finish("ended", code, why);
      return code === NO_CODE ? finish("ended", NORMAL, why) : finish("failed", INTERNAL, why);
    });
  });

  const answering = [isAnswering(client), isAnswering(upstream)];
  return {
    startedMs: Date.now(),
    drain() {
      goodbye ??= { code: GOING_AWAY, reason: "Keymeter is shutting down" };
      finishWhenDone();
    },
    finish,
    subjects: () => turns.subjects(),
    isAlive: () => answering.every((ask) => ask()),
  };
}

/** What a message of the provider's does to the turns. */
async function hear(turns: Turns, said: Said, refuseMore: (error: unknown) => void): Promise<void> {
  switch (said.kind) {
    case "began":
      return turns.began(said.turnId, said.lane).catch(refuseMore);
    case "ended":
      return turns.ended(said.turnId, said.reading, "ended", { apart: said.apart === true });
    case "declined":
      return turns.declined(said.lane);
    case "merged":
      return turns.merged();
  }
}

/** Books the turns that go on, as far as they have come. */
async function bookBegun(turns: Turns, conversation: Conversation, how: Ending["how"]): Promise<void> {
  await Promise.all(
    turns.begun().map((turnId) => {
      const { reading, tokens } = conversation.partial(turnId);
      return turns.ended(turnId, reading, how, { tokens });
    }),
  );
}

function isClean(code: number): boolean {
  return code === NORMAL || code === GOING_AWAY || code === POLICY || code >= OWN_CODES;
}

/** Takes messages one after the other; a side that sends faster than they are taken is not read for a while. */
function lane(
  { log }: Speaking,
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
        log.error({ err: error }, "a WebSocket message could not be taken");
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
