// The client's side of an exchange: head, bytes with backpressure, and the last bytes, which wait for the books. It
// knows whether the client takes what it gets, or has left.
import type { ServerResponse } from "node:http";
import { clientHeaders, withoutVary } from "./headers.ts";
import type { Head } from "./headers.ts";
import type { Mask } from "./mask.ts";

/** What the client does: it takes (`open`), or has more than it takes (`full`), or went (`left`). `early`: it may get
 *  nothing yet, for what is held for it may still be lost. `released`: its last bytes are written, and nothing more comes.
 *  Each from `sinceMs` on. */
type AnswerState = "open" | "early" | "full" | "left" | "released";

export type AnswerOptions = {
  readonly requestId: string;
  /** Of ours, beside the provider's. */
  readonly headers: readonly string[];
  readonly mask: Mask | undefined;
  /** Asked before the first byte. Undefined: it may go out. Else resolves when it may; false: it may not. */
  readonly mayBegin?: (() => Promise<boolean> | undefined) | undefined;
};

/** Who hears what the client does. */
export type Hearer = {
  /** It takes more. */
  drained(): void;
  /** Nothing may go to it. */
  withheld(): void;
  /** Its connection, or the answer, is over. */
  closed(): void;
};

const MOST_JOINED_BYTES = 1024 * 1024;
const NOTHING: Buffer[] = [];

export class Answer {
  state: AnswerState;
  sinceMs = Date.now();

  readonly #response: ServerResponse;
  readonly #options: AnswerOptions;
  readonly #hearer: Hearer;
  #head: Head | undefined;
  /** What has come while nothing may go out. */
  #early: Buffer[] = NOTHING;
  /** Only errors are looked through: a search in each byte of each answer would cost every request. */
  #bodyMask: Mask | undefined;

  constructor(response: ServerResponse, options: AnswerOptions, hearer: Hearer) {
    this.#response = response;
    this.#options = options;
    this.#hearer = hearer;
    // It may have left while it was being admitted: then close has been and gone.
    this.state = response.destroyed ? "left" : "open";
    response.on("close", () => {
      if (this.state !== "released") this.#turn("left");
      hearer.closed();
    });
    response.on("drain", () => {
      if (this.state !== "full") return;
      this.#turn("open");
      hearer.drained();
    });
  }

  /** Whether the client has got any of it. */
  get hasBegun(): boolean {
    return this.#response.headersSent;
  }

  /** Nothing more can go out now. */
  get isFull(): boolean {
    return this.state === "full" || this.state === "early";
  }

  /** Nobody is there any longer. */
  get isGone(): boolean {
    return this.#response.destroyed;
  }

  /** All of it has gone to the network. */
  get isFinished(): boolean {
    return this.#response.writableFinished;
  }

  begin(head: Head): void {
    this.#head = head;
    if (head.status >= 400) this.#bodyMask = this.#options.mask;
    if (isEventStream(head) && this.#mayBegin()) this.#beginEvents();
  }

  /** False: the client has more than it takes, until it drains. */
  write(chunk: Buffer): boolean {
    if (this.#response.destroyed) return true;
    const out = this.#bodyMask ? this.#bodyMask.push(chunk) : chunk;
    if (out === undefined) return true;
    if (this.state === "early" || (!this.#response.headersSent && !this.#mayBegin())) {
      this.#early.push(out);
      return false;
    }
    if (!this.#response.headersSent) this.#writeHead([]);
    if (this.#response.write(out)) return true;
    this.#turn("full");
    return false;
  }

  #beginEvents(): void {
    this.#writeHead([]);
    // Send the head with the first event if that comes now, alone if not.
    setImmediate(() => {
      if (!this.#response.writableEnded && !this.#response.destroyed) this.#response.flushHeaders();
    });
  }

  #mayBegin(): boolean {
    const may = this.#options.mayBegin?.();
    if (!may) return true;
    this.#early = [];
    this.#turn("early");
    void may.then((itMay) => this.#began(itMay));
    return false;
  }

  #began(itMay: boolean): void {
    if (this.state !== "early") return;
    if (!itMay) return this.#hearer.withheld();
    this.#turn("open");
    this.#sendEarly();
    this.#hearer.drained();
  }

  #sendEarly(): void {
    if (this.#head && isEventStream(this.#head)) this.#beginEvents();
    else if (this.#early.length > 0) this.#writeHead([]);
    for (const piece of this.#early) this.#response.write(piece);
    this.#early = NOTHING;
  }

  /** The rest of an answer that is whole; `headers` are added when none were sent yet. */
  end(held: readonly Buffer[], headers: readonly string[]): void {
    if (!this.#release()) return;
    const rest = this.#unmasked(held);
    // One write: corked writes before end() break the chunk framing on Node 24.
    if (this.#response.headersSent) return void this.#response.end(rest.length > 0 ? Buffer.concat(rest) : undefined);
    const size = rest.reduce((sum, piece) => sum + piece.length, 0);
    this.#writeHead([...headers, "content-length", String(size)]);
    // To join a large one would hold everybody up.
    if (size > MOST_JOINED_BYTES) {
      for (const piece of rest) this.#response.write(piece);
      this.#response.end();
    } else this.#response.end(rest.length === 1 && rest[0] ? rest[0] : Buffer.concat(rest));
  }

  /** The rest of an answer that broke off. It must look broken: what came goes out, then the connection is cut. */
  breakOff(held: readonly Buffer[]): void {
    if (this.#release()) this.#response.write(Buffer.concat(this.#unmasked(held)), () => this.#response.destroy());
  }

  /** The rest of a stream that we ended, and an error of ours. In any other frame than events that would be no error
   *  but nonsense. */
  endWithError(held: readonly Buffer[], event: string): void {
    if (!this.#head || !isEventStream(this.#head)) return this.breakOff(held);
    if (this.#release()) this.#response.end(Buffer.concat([...this.#unmasked(held), Buffer.from(event)]));
  }

  /** An answer of ours where none of the provider's came. */
  refuse(status: number, headers: readonly string[], body: string): void {
    if (this.state === "early") this.#turn("open");
    if (this.#release()) this.#response.writeHead(status, [...headers]).end(body);
  }

  /** Nobody waits any longer for a client that does not read its last bytes. */
  cut(): void {
    this.#response.destroy();
  }

  #turn(state: AnswerState): void {
    this.state = state;
    this.sinceMs = Date.now();
  }

  /** From here on nothing more comes. False: nobody is there who could get it. */
  #release(): boolean {
    const isGone = this.#response.destroyed || this.#response.writableEnded;
    // It ended before the word came that it may begin: it stands in the books whole.
    if (this.state === "early" && !isGone) this.#sendEarly();
    this.#turn("released");
    return !isGone;
  }

  #unmasked(held: readonly Buffer[]): readonly Buffer[] {
    const mask = this.#bodyMask;
    return mask ? [...held.flatMap((piece) => mask.push(piece) ?? []), mask.end()] : held;
  }

  #writeHead(more: readonly string[]): void {
    const { status = 502, headers = [] } = this.#head ?? {};
    const { requestId, headers: own } = this.#options;
    // Whom an answer differs for is ours to say where a page in a browser asked (cors.ts).
    const theirs = this.#response.hasHeader("vary") ? withoutVary(headers) : headers;
    this.#response.writeHead(status, [
      ...clientHeaders(theirs, own),
      "x-keymeter-request-id",
      requestId,
      ...own,
      ...more,
    ]);
  }
}

function isEventStream({ contentType }: Head): boolean {
  return contentType.includes("text/event-stream");
}
