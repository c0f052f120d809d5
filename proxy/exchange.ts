// An exchange: the provider's side (upstream.ts) and the client's (answer.ts), joined. Bytes go from one through the
// meter to the other; what one of them does, the other one hears here. It is over when both are.
import type { ServerResponse } from "node:http";
import type { Subject } from "../ledger/budgets.ts";
import { Answer } from "./answer.ts";
import type { Hearer } from "./answer.ts";
import type { Ending } from "./ending.ts";
import type { Extension, NoMore } from "./extend.ts";
import { readHead } from "./headers.ts";
import type { Head } from "./headers.ts";
import { createMask } from "./mask.ts";
import type { Mask } from "./mask.ts";
import type { Meter } from "./meter.ts";
import { Upstream } from "./upstream.ts";
import type { Listener, TimeLimits } from "./upstream.ts";

export type Exchange = {
  /** Resolves when the provider's side is over. Never rejects. */
  readonly ending: Promise<Ending>;
  /** Sends what was held and ends the client's answer; `headers` are added when none were sent yet. */
  release(headers: readonly string[]): void;
  /** Sends what was held and then an error of our own, for a client that still listens. */
  releaseWithError(event: string): void;
  /** Answers with an error of our own where nothing of the provider's was sent. */
  refuse(status: number, headers: readonly string[], body: string): void;
  /** Whether the client has got any of the answer. */
  readonly answered: boolean;
  readonly meter: Meter | undefined;
};

/** Chooses how to read an answer once its status and type are known. */
export type ChooseMeter = (status: number, contentType: string, contentEncoding: string) => Meter;

export type ExchangeOptions = {
  readonly stream: boolean;
  readonly requestId: string;
  readonly headers: readonly string[];
  /** What is held for it, which may have to grow while it flows. */
  readonly extension?: Extension | undefined;
  /** Asked before the first byte of the answer goes to the client (`Attempt.kept`). */
  readonly mayBegin?: (() => Promise<boolean> | undefined) | undefined;
  /** Who asks for what; undefined: a path that costs nothing. */
  readonly subject?: Subject;
  /** A credential of ours: the client must not see it, whatever the provider repeats. */
  readonly secret?: string | undefined;
  /** Puts places at the provider that a header of its answer names here. */
  readonly placeUrl?: ((value: string) => string) | undefined;
  /** A redirect is handed to the client, who has a key of its own: nothing is booked by it. */
  readonly mayRedirect?: boolean;
};

/** How long the counts of a stream are waited for when its client has left. A whole answer is read as long as any may
 *  take. */
const MOST_UNHEARD_MS = 5_000;

/** Why an answer of the provider's does not go out. */
export const NOT_KEPT = "the ledger cannot be written now, and no byte goes out before what is held for it is safe";

/** A class, for one stands on each request and its chunks must not make closures. */
export class OpenExchange implements Exchange, Listener, Hearer {
  readonly ending: Promise<Ending>;
  readonly subject: Subject | undefined;
  readonly upstream: Upstream;
  meter: Meter | undefined;

  readonly #answer: Answer;
  readonly #chooseMeter: ChooseMeter;
  readonly #options: ExchangeOptions;
  readonly #mask: Mask | undefined;
  readonly #over: (exchange: OpenExchange) => void;
  #head: Head | undefined;
  #resolve!: (ending: Ending) => void;

  /** `over` is told when neither side can do anything more. */
  constructor(
    response: ServerResponse,
    chooseMeter: ChooseMeter,
    options: ExchangeOptions,
    over: (exchange: OpenExchange) => void,
  ) {
    const { requestId, headers, secret, mayBegin, mayRedirect = false } = options;
    this.subject = options.subject;
    this.#chooseMeter = chooseMeter;
    this.#options = options;
    this.#over = over;
    this.#mask = createMask(secret);
    this.ending = new Promise((resolve) => (this.#resolve = resolve));
    this.upstream = new Upstream(this, mayRedirect);
    this.#answer = new Answer(response, { requestId, headers, mask: this.#mask, mayBegin }, this);
    if (this.#answer.isGone) this.closed();
  }

  get answered(): boolean {
    return this.#answer.hasBegun;
  }

  begins(status: number, rawHeaders: readonly (Buffer | string)[]): void {
    const head = readHead(status, rawHeaders, this.#mask, this.#options.placeUrl);
    this.#head = head;
    this.meter = this.#chooseMeter(status, head.contentType, head.contentEncoding);
    this.#answer.begin(head);
  }

  takes(chunk: Buffer): void {
    const { meter } = this;
    const passed = meter?.push(chunk);
    if (meter?.isOver?.()) return this.abort("ended", "the answer had come to its end");
    const asked = meter && this.#options.extension?.look(meter);
    if (asked) this.#waitForBooks(asked);
    if (passed === undefined || this.#answer.write(passed)) return;
    // The books are waited for first, then the client.
    if (!asked) this.upstream.pause("client");
  }

  /** Nothing more is read from the provider until the books hold what it may cost. */
  #waitForBooks(asked: Promise<NoMore | undefined>): void {
    this.upstream.pause("books");
    void asked.then(
      (noMore) => {
        if (noMore) this.abort(noMore.how, noMore.why);
        else if (this.#answer.isFull) this.upstream.pause("client");
        else this.upstream.resume("books");
      },
      (error: unknown) => this.abort("failed", error instanceof Error ? error.message : String(error)),
    );
  }

  drained(): void {
    this.upstream.resume("client");
  }

  withheld(): void {
    this.abort("stopped", NOT_KEPT);
  }

  closed(): void {
    if (this.upstream.how || this.#answer.isFinished) return this.#over(this);
    // A whole answer is read to its end, for its exact usage, and so is a stream of which nothing but the counts is
    // missing; any other stream would go on costing money for nobody.
    const isFinishing = this.meter?.isFinishing?.() === true;
    if (this.upstream.isConnecting || (this.#options.stream && !isFinishing))
      this.abort("client_left", "the client left");
    else this.upstream.resume(undefined);
  }

  ends(how: Ending["how"], error: string | undefined, timedOut: boolean): void {
    const isGone = this.#answer.isGone;
    if (isGone) this.#over(this);
    const { sent, status, firstByteMs } = this.upstream;
    const ending: Ending = {
      how: how === "ended" && isGone && !this.#answer.isFinished ? "client_left" : how,
      timedOut,
      sent,
      status,
      firstByteMs,
      providerRequestId: this.#head?.requestId,
      headers: this.#head?.headers,
      error,
    };
    const flushed = this.meter?.flush?.();
    if (flushed) void flushed.then(() => this.#resolve(ending));
    else this.#resolve(ending);
  }

  abort(how: Exclude<Ending["how"], "unreachable">, why: string): void {
    this.upstream.abort(how, why);
  }

  /** Ends what takes longer than it may. */
  checkTime(nowMs: number, limits: TimeLimits): void {
    const { state, sinceMs } = this.#answer;
    // The books are closed on it; a client that never reads its answer must not keep socket and bytes for ever.
    if (state === "released") {
      if (nowMs - sinceMs > limits.idleMs) this.#answer.cut();
    } else if (nowMs - this.upstream.startedMs > limits.totalMs)
      this.abort("failed", "the request took longer than it may in all");
    else if (state === "full" && nowMs - sinceMs > limits.idleMs)
      this.abort("client_left", "the client stopped reading");
    else if (state === "left" && this.#options.stream && nowMs - sinceMs > MOST_UNHEARD_MS)
      this.abort("client_left", "the client left");
  }

  release(headers: readonly string[]): void {
    const held = this.meter?.takeHeld() ?? [];
    if (this.upstream.how === "ended" || !this.answered) this.#answer.end(held, headers);
    else this.#answer.breakOff(held);
  }

  releaseWithError(event: string): void {
    this.#answer.endWithError(this.meter?.takeHeld() ?? [], event);
  }

  refuse(status: number, headers: readonly string[], body: string): void {
    this.#answer.refuse(status, headers, body);
  }
}
