// The provider's side of an exchange: one dispatch to the provider's own origin, read as fast as the books and the
// client allow. Never retries, never follows a redirect, and always ends: by the provider, by a time limit, or because
// we end it.
import type { Readable } from "node:stream";
import { Pool } from "undici";
import type { Dispatcher } from "undici";
import type { Ending } from "./ending.ts";
import type { Provider } from "./providers/provider.ts";

export type TimeLimits = {
  readonly connectMs: number;
  readonly headersMs: number;
  readonly idleMs: number;
  readonly totalMs: number;
};

export type Outgoing = {
  readonly provider: Provider;
  readonly method: string;
  readonly path: string;
  readonly headers: readonly string[];
  /** A stream is passed on as it comes; one that breaks off breaks the request off. */
  readonly body: Buffer | Readable | undefined;
};

/** Who hears what the provider says: its status and headers, its bytes, its end. */
export type Listener = {
  begins(status: number, rawHeaders: readonly (Buffer | string)[]): void;
  takes(chunk: Buffer): void;
  ends(how: Ending["how"], error: string | undefined, timedOut: boolean): void;
};

/** What is waited for before more is read. */
type Wait = "books" | "client";

/** connecting -> reading <-> paused, and from each of them over; or, when we end it, aborted until undici has said that
 *  it is over. */
type State =
  /** No byte was sent. */
  | { readonly at: "connecting" }
  | { readonly at: "reading" }
  | { readonly at: "paused"; readonly why: Wait }
  | { readonly at: "aborted"; readonly how: Exclude<Ending["how"], "unreachable">; readonly why: string }
  | { readonly at: "over"; readonly how: Ending["how"] };

// One object for all: a stream that is paused at each chunk makes none.
const CONNECTING: State = { at: "connecting" };
const READING: State = { at: "reading" };
const PAUSED: { readonly [why in Wait]: State } = {
  books: { at: "paused", why: "books" },
  client: { at: "paused", why: "client" },
};

/** undici's handler of one dispatch. A class, for one stands on each request and its chunks must not make closures. */
export class Upstream implements Dispatcher.DispatchHandler {
  readonly startedMs = Date.now();
  /** What is known of it so far. */
  sent = false;
  status: number | undefined;
  firstByteMs: number | undefined;

  readonly #listener: Listener;
  readonly #mayRedirect: boolean;
  #state = CONNECTING;
  /** undici's, from when it has a connection on. */
  #controller: Dispatcher.DispatchController | undefined;

  constructor(listener: Listener, mayRedirect: boolean) {
    this.#listener = listener;
    this.#mayRedirect = mayRedirect;
  }

  get isConnecting(): boolean {
    return this.#state.at === "connecting";
  }

  /** How it ended, when it has. */
  get how(): Ending["how"] | undefined {
    return this.#state.at === "over" ? this.#state.how : undefined;
  }

  /** Reads no more until it is resumed for the same reason. */
  pause(why: Wait): void {
    const { at } = this.#state;
    if (at !== "reading" && at !== "paused") return;
    this.#state = PAUSED[why];
    this.#controller?.pause();
  }

  /** What was waited for is there. Undefined: nothing is waited for any longer. */
  resume(why: Wait | undefined): void {
    const state = this.#state;
    if (state.at !== "paused" || (why !== undefined && state.why !== why)) return;
    this.#state = READING;
    this.#controller?.resume();
  }

  /** Ends it; the first reason counts. The listener hears its end from undici's own. */
  abort(how: Exclude<Ending["how"], "unreachable">, why: string): void {
    const { at } = this.#state;
    if (at === "aborted" || at === "over") return;
    this.#state = { at: "aborted", how, why };
    this.#controller?.abort(new Error(why));
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // It was ended while it waited for a connection.
    if (this.#state.at === "aborted") return controller.abort(new Error(this.#state.why));
    this.#state = READING;
    this.sent = true;
  }

  onResponseStart(controller: Dispatcher.DispatchController, status: number): void {
    if (status < 200) return;
    this.firstByteMs = Date.now() - this.startedMs;
    this.status = status;
    // Never followed: a redirect of an API is a trap or a mistake.
    if (status >= 300 && status < 400 && !this.#mayRedirect)
      return this.abort("failed", `the provider answered with a redirect (${status})`);
    this.#listener.begins(status, (controller.rawHeaders ?? []) as (Buffer | string)[]);
  }

  onResponseData(_controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#listener.takes(chunk);
  }

  onResponseEnd(): void {
    this.#end("ended", undefined, false);
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error & { code?: string }): void {
    const state = this.#state;
    switch (state.at) {
      case "aborted":
        return this.#end(state.how, state.how === "ended" ? undefined : state.why, false);
      case "connecting":
        return this.#end("unreachable", error.code ?? error.message, isTimeout(error));
      case "reading":
      case "paused":
        return this.#end("failed", error.code ?? error.message, isTimeout(error));
      case "over":
    }
  }

  #end(how: Ending["how"], error: string | undefined, timedOut: boolean): void {
    if (this.#state.at === "over") return;
    this.#state = { at: "over", how };
    this.#listener.ends(how, error, timedOut);
  }
}

function isTimeout({ code }: { readonly code?: string }): boolean {
  return code === "UND_ERR_HEADERS_TIMEOUT" || code === "UND_ERR_BODY_TIMEOUT" || code === "UND_ERR_CONNECT_TIMEOUT";
}

/** Connections to providers, a pool for each origin. */
export type Pools = {
  dispatch(outgoing: Outgoing, upstream: Upstream): void;
  close(): Promise<void>;
};

export function createPools({ connectMs, headersMs, idleMs }: TimeLimits): Pools {
  const pools = new Map<string, Pool>();
  const poolOf = (origin: string): Pool => {
    let pool = pools.get(origin);
    if (!pool) {
      // One connection a request: a long answer must not queue others. No pipelining, no redirects, no interceptors.
      pool = new Pool(origin, {
        connections: null,
        pipelining: 1,
        connect: { timeout: connectMs },
        headersTimeout: headersMs,
        bodyTimeout: idleMs,
        keepAliveTimeout: 30_000,
      });
      pools.set(origin, pool);
    }
    return pool;
  };
  return {
    dispatch({ provider, method, path, headers, body }, upstream) {
      poolOf(provider.origin).dispatch({ method, path, headers: headers as string[], body: body ?? null }, upstream);
    },
    async close() {
      await Promise.all([...pools.values()].map((pool) => pool.destroy()));
    },
  };
}
