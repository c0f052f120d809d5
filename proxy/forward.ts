// Forwarding: one dispatch to the provider's own origin, bytes back through the
// meter with backpressure kept. Never retries, never follows a redirect, and always ends: by the provider, the client, a
// time limit or our own stop.
import type { ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { Pool } from "undici";
import type { Dispatcher } from "undici";
import type { Subject } from "../ledger/budgets.ts";
import type { Extension, NoMore } from "./extend.ts";
import { clientHeaders, isRequestId, isReturned } from "./headers.ts";
import { createMask } from "./mask.ts";
import type { Mask } from "./mask.ts";
import type { Meter } from "./meter.ts";
import type { Provider } from "./providers/provider.ts";

/** How the exchange with the provider ended. */
export type Ending = {
  /** `ended`: the body came to its end. `unreachable`: no byte was sent. `failed`: cut, timeout or nonsense after bytes
   *  were sent. `client_left`, `stopped`, `cut`, `capped`: we ended it, for the client had gone, this program stops, whoever runs
   *  it said so, or a budget had no more. */
  readonly how: "ended" | "unreachable" | "failed" | "client_left" | "stopped" | "cut" | "capped";
  readonly timedOut: boolean;
  /** Whether the request was, or may have been, written to the provider. */
  readonly sent: boolean;
  /** The provider's status, undefined when none came. */
  readonly status: number | undefined;
  readonly firstByteMs: number | undefined;
  readonly providerRequestId: string | undefined;
  /** A few words for the log and the client, without secrets. */
  readonly error: string | undefined;
};

export type TimeLimits = {
  readonly connectMs: number;
  readonly headersMs: number;
  readonly idleMs: number;
  readonly totalMs: number;
};

type Outgoing = {
  readonly provider: Provider;
  readonly method: string;
  readonly path: string;
  readonly headers: readonly string[];
  /** A stream is passed on as it comes; one that breaks off breaks the request off. */
  readonly body: Buffer | Readable | undefined;
};

export type Exchange = {
  /** Resolves when the provider's side is over. Never rejects. */
  readonly ending: Promise<Ending>;
  /** Sends what was held and ends the client's answer; `headers` are added when none were sent yet. */
  release(headers: readonly string[]): void;
  /** Sends what was held and then an error of our own, for a client that still listens. */
  releaseWithError(event: string): void;
  /** Whether the client has got any of the answer. */
  readonly answered: boolean;
  readonly meter: Meter | undefined;
};

/** Chooses how to read an answer once its status and type are known. */
export type ChooseMeter = (status: number, contentType: string, contentEncoding: string) => Meter;

type ExchangeOptions = {
  readonly stream: boolean;
  readonly requestId: string;
  readonly headers: readonly string[];
  /** What is held for it, which may have to grow while it flows. */
  readonly extension?: Extension | undefined;
  /** Who asks for what; undefined: a path that costs nothing. */
  readonly subject?: Subject;
  /** A credential of ours: the client must not see it, whatever the provider repeats. */
  readonly secret?: string | undefined;
  /** Puts places at the provider that a header of its answer names here. */
  readonly placeUrl?: ((value: string) => string) | undefined;
  /** A redirect is handed to the client, who has a key of its own: nothing is booked by it. */
  readonly mayRedirect?: boolean;
};

export type Forwarder = {
  exchange(outgoing: Outgoing, response: ServerResponse, chooseMeter: ChooseMeter, options: ExchangeOptions): Exchange;
  /** Ends the exchanges whose subject the test takes. Returns how many. */
  cut(test: (subject: Subject) => boolean): number;
  /** How many exchanges are open. */
  open(): number;
  /** Cuts everything that is open: the last step of a stop. */
  stop(): void;
  close(): Promise<void>;
};

const MOST_JOINED_BYTES = 1024 * 1024;
const SWEEP_MS = 500;
/** How long the counts of a stream are waited for when its client has left. A whole answer is read as long as any may take. */
const MOST_UNHEARD_MS = 5_000;

export function createForwarder(limits: TimeLimits): Forwarder {
  const pools = new Map<string, Pool>();
  const openOnes = new Set<OpenExchange>();

  const pool = (origin: string): Pool => {
    let found = pools.get(origin);
    if (!found) {
      // One connection a request: a long answer must not queue others. No pipelining, no redirects, no interceptors.
      found = new Pool(origin, {
        connections: null,
        pipelining: 1,
        connect: { timeout: limits.connectMs },
        headersTimeout: limits.headersMs,
        bodyTimeout: limits.idleMs,
        keepAliveTimeout: 30_000,
      });
      pools.set(origin, found);
    }
    return found;
  };

  // One timer for all: each exchange has a whole time, and a client that reads nothing is not waited for for ever.
  const sweep = setInterval(() => {
    const now = Date.now();
    for (const one of openOnes) one.checkTime(now, limits);
  }, SWEEP_MS).unref();

  return {
    exchange(outgoing, response, chooseMeter, options) {
      const one = new OpenExchange(response, chooseMeter, options, () => openOnes.delete(one));
      openOnes.add(one);
      pool(outgoing.provider.origin).dispatch(
        {
          method: outgoing.method,
          path: outgoing.path,
          headers: outgoing.headers as string[],
          body: outgoing.body ?? null,
        },
        one,
      );
      return one;
    },
    cut(test) {
      const ones = [...openOnes].filter(({ subject }) => subject !== undefined && test(subject));
      for (const one of ones) one.abort("cut", "whoever runs Keymeter stopped it");
      return ones.length;
    },
    open: () => openOnes.size,
    stop() {
      for (const one of openOnes) one.abort("stopped", "shutting down");
    },
    async close() {
      clearInterval(sweep);
      await Promise.all([...pools.values()].map((one) => one.destroy()));
    },
  };
}

/** One dispatch: undici's handler on one side, the client's response on the other. A class, for one stands on each
 *  request and its chunks must not make closures. */
class OpenExchange implements Dispatcher.DispatchHandler, Exchange {
  readonly ending: Promise<Ending>;
  readonly subject: Subject | undefined;
  meter: Meter | undefined;
  answered = false;

  readonly #response: ServerResponse;
  readonly #chooseMeter: ChooseMeter;
  readonly #stream: boolean;
  readonly #requestId: string;
  readonly #ownHeaders: readonly string[];
  readonly #mask: Mask | undefined;
  readonly #mayRedirect: boolean;
  readonly #placeUrl: ((value: string) => string) | undefined;
  #masksBody = false;
  readonly #extension: Extension | undefined;
  readonly #over: () => void;
  readonly #startedMs = Date.now();
  #resolve!: (ending: Ending) => void;
  #controller: Dispatcher.DispatchController | undefined;
  #aborted: { how: Exclude<Ending["how"], "unreachable">; why: string } | undefined;
  #isOver = false;
  #status: number | undefined;
  #headers: string[] = [];
  #isEventStream = false;
  #firstByteMs: number | undefined;
  #providerRequestId: string | undefined;
  #pausedSinceMs: number | undefined;
  #waitsForBooks = false;
  #leftSinceMs: number | undefined;
  #releasedSinceMs: number | undefined;
  #sent = false;
  #how: Ending["how"] | undefined;

  constructor(response: ServerResponse, chooseMeter: ChooseMeter, options: ExchangeOptions, over: () => void) {
    this.#response = response;
    this.#chooseMeter = chooseMeter;
    this.#stream = options.stream;
    this.subject = options.subject;
    this.#requestId = options.requestId;
    this.#ownHeaders = options.headers;
    this.#extension = options.extension;
    this.#mask = options.secret === undefined ? undefined : createMask(options.secret);
    this.#mayRedirect = options.mayRedirect === true;
    this.#placeUrl = options.placeUrl;
    this.#over = over;
    this.ending = new Promise((resolve) => (this.#resolve = resolve));
    response.on("close", () => this.#clientClosed());
    response.on("drain", () => this.#drained());
    // It may have left while it was being admitted: then close has been and gone.
    if (response.destroyed) this.#clientClosed();
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#aborted) controller.abort(new Error(this.#aborted.why));
    else this.#sent = true;
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return;
    this.#firstByteMs = Date.now() - this.#startedMs;
    this.#status = status;
    if (status >= 300 && status < 400 && !this.#mayRedirect) {
      // Never followed: a redirect of an API is a trap or a mistake.
      return this.abort("failed", `the provider answered with a redirect (${status})`);
    }
    let contentType = "";
    let contentEncoding = "";
    const raw = (controller.rawHeaders ?? []) as (Buffer | string)[];
    for (let i = 0; i + 1 < raw.length; i += 2) {
      const name = String(raw[i]).toLowerCase();
      const value = Buffer.isBuffer(raw[i + 1]) ? (raw[i + 1] as Buffer).toString("latin1") : String(raw[i + 1]);
      if (name === "content-type") contentType = value;
      if (name === "content-encoding") contentEncoding = value.toLowerCase();
      if (isRequestId(name)) this.#providerRequestId ??= this.#mask?.text(value) ?? value;
      const seen = this.#placeUrl?.(value) ?? value;
      if (isReturned(name)) this.#headers.push(name, this.#mask?.text(seen) ?? seen);
    }
    this.#masksBody = this.#mask !== undefined && status >= 400;
    this.#isEventStream = contentType.includes("text/event-stream");
    this.meter = this.#chooseMeter(status, contentType, contentEncoding);
    if (this.#isEventStream) {
      this.#writeHead([]);
      // Send the head with the first event if that comes now, alone if not.
      setImmediate(() => {
        if (!this.#response.writableEnded && !this.#response.destroyed) this.#response.flushHeaders();
      });
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    const passed = this.meter?.push(chunk);
    const out = passed && this.#masksBody ? this.#mask?.push(passed) : passed;
    if (this.meter?.isOver?.()) return this.abort("ended", "the answer had come to its end");
    if (this.#extension && this.meter) this.#extend(this.#extension.look(this.meter), controller);
    if (out === undefined || this.#response.destroyed) return;
    if (!this.answered) this.#writeHead([]);
    if (!this.#response.write(out)) {
      this.#pausedSinceMs = Date.now();
      controller.pause();
    }
  }

  /** Nothing more is read from the provider until the books hold what it may cost. */
  #extend(asked: Promise<NoMore | undefined> | undefined, controller: Dispatcher.DispatchController): void {
    if (!asked) return;
    this.#waitsForBooks = true;
    controller.pause();
    void asked.then(
      (noMore) => {
        this.#waitsForBooks = false;
        if (noMore) this.abort(noMore.how, noMore.why);
        else if (this.#pausedSinceMs === undefined && !this.#isOver) controller.resume();
      },
      (error: unknown) => this.abort("failed", error instanceof Error ? error.message : String(error)),
    );
  }

  onResponseEnd(): void {
    this.#finish("ended", undefined, false);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error & { code?: string }): void {
    const timedOut =
      error.code === "UND_ERR_HEADERS_TIMEOUT" ||
      error.code === "UND_ERR_BODY_TIMEOUT" ||
      error.code === "UND_ERR_CONNECT_TIMEOUT";
    if (this.#aborted?.how === "ended") this.#finish("ended", undefined, false);
    else if (this.#aborted) this.#finish(this.#aborted.how, this.#aborted.why, false);
    else this.#finish(this.#controller ? "failed" : "unreachable", error.code ?? error.message, timedOut);
  }

  checkTime(nowMs: number, limits: TimeLimits): void {
    if (this.#releasedSinceMs !== undefined) {
      // The books are closed on it; a client that never reads its answer must not keep socket and bytes for ever.
      if (nowMs - this.#releasedSinceMs > limits.idleMs) this.#response.destroy();
    } else if (nowMs - this.#startedMs > limits.totalMs)
      this.abort("failed", "the request took longer than it may in all");
    else if (this.#pausedSinceMs !== undefined && nowMs - this.#pausedSinceMs > limits.idleMs)
      this.abort("client_left", "the client stopped reading");
    else if (this.#stream && this.#leftSinceMs !== undefined && nowMs - this.#leftSinceMs > MOST_UNHEARD_MS)
      this.abort("client_left", "the client left");
  }

  abort(how: Exclude<Ending["how"], "unreachable">, why: string): void {
    if (this.#isOver || this.#aborted) return;
    this.#aborted = { how, why };
    this.#controller?.abort(new Error(why));
  }

  release(headers: readonly string[]): void {
    const response = this.#response;
    this.#releasedSinceMs = Date.now();
    if (response.destroyed || response.writableEnded) return;
    const held = this.#takeHeld();
    const isWhole = this.#how === "ended";
    if (!this.answered) {
      const size = held.reduce((sum, piece) => sum + piece.length, 0);
      this.#writeHead([...headers, "content-length", String(size)]);
      // To join a large one would hold everybody up.
      if (size > MOST_JOINED_BYTES) {
        for (const piece of held) response.write(piece);
        response.end();
      } else response.end(held.length === 1 && held[0] ? held[0] : Buffer.concat(held));
      return;
    }
    if (isWhole) {
      // One write: corked writes before end() break the chunk framing on Node 24.
      response.end(held.length > 0 ? Buffer.concat(held) : undefined);
      return;
    }
    // A broken answer must look broken: what came goes out, then the connection is cut.
    response.write(Buffer.concat(held), () => response.destroy());
  }

  /** Ends a stream of ours with a native error, for a client that still listens. */
  releaseWithError(event: string): void {
    // In any other frame than events an error of ours would be no error but nonsense.
    if (!this.#isEventStream) return this.release([]);
    this.#releasedSinceMs = Date.now();
    const held = this.#takeHeld();
    this.#response.end(Buffer.concat([...held, Buffer.from(event)]));
  }

  #takeHeld(): Buffer[] {
    const held = this.meter?.takeHeld() ?? [];
    if (!this.#masksBody || !this.#mask) return held;
    const mask = this.#mask;
    return [...held.flatMap((piece) => mask.push(piece) ?? []), mask.end()];
  }

  #writeHead(more: readonly string[]): void {
    this.answered = true;
    // Whom an answer differs for is ours to say where a page in a browser asked (cors.ts).
    if (this.#response.hasHeader("vary")) this.#headers = withoutVary(this.#headers);
    this.#response.writeHead(this.#status ?? 502, [
      ...clientHeaders(this.#headers, this.#ownHeaders),
      "x-keymeter-request-id",
      this.#requestId,
      ...this.#ownHeaders,
      ...more,
    ]);
  }

  #clientClosed(): void {
    if (this.#isOver || this.#response.writableFinished) return this.#over();
    this.#pausedSinceMs = undefined;
    this.#leftSinceMs = Date.now();
    // A whole answer is read to its end, for its exact usage, and so is a stream of which nothing but the counts is missing; any other
    // stream would go on costing money for nobody.
    const isFinishing = this.meter?.isFinishing?.() === true;
    if (this.#controller === undefined || (this.#stream && !isFinishing)) this.abort("client_left", "the client left");
    else if (this.#controller.paused) this.#controller.resume();
  }

  #drained(): void {
    this.#pausedSinceMs = undefined;
    if (!this.#isOver && !this.#waitsForBooks) this.#controller?.resume();
  }

  #finish(how: Ending["how"], error: string | undefined, timedOut: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const left = how === "ended" && this.#response.destroyed && !this.#response.writableFinished;
    this.#how = how;
    if (this.#response.destroyed) this.#over();
    const ending: Ending = {
      how: left ? "client_left" : how,
      timedOut,
      sent: this.#sent,
      status: this.#status,
      firstByteMs: this.#firstByteMs,
      providerRequestId: this.#providerRequestId,
      error,
    };
    const flushed = this.meter?.flush?.();
    if (flushed) void flushed.then(() => this.#resolve(ending));
    else this.#resolve(ending);
  }
}

function withoutVary(headers: readonly string[]): string[] {
  return headers.filter((_text, i) => headers[i - (i % 2)] !== "vary");
}
