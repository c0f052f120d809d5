// The client's side of an exchange: head, bytes with backpressure, and the last bytes, which wait for the books. It
// knows whether the client takes what it gets, or has left.
import type { ServerResponse } from "node:http";
import { clientHeaders, withoutVary } from "./headers.ts";
import type { Head } from "./headers.ts";
import type { Mask } from "./mask.ts";

/** What the client does: it takes (`open`), or has more than it takes (`full`), or went (`left`). `released`: its last
 *  bytes are written, and nothing more comes. Each from `sinceMs` on. */
type AnswerState = "open" | "full" | "left" | "released";

export type AnswerOptions = {
  readonly requestId: string;
  /** Of ours, beside the provider's. */
  readonly headers: readonly string[];
  readonly mask: Mask | undefined;
};

/** Who hears what the client does. */
export type Hearer = {
  /** It takes more. */
  drained(): void;
  /** Its connection, or the answer, is over. */
  closed(): void;
};

const MOST_JOINED_BYTES = 1024 * 1024;

export class Answer {
  state: AnswerState;
  sinceMs = Date.now();

  readonly #response: ServerResponse;
  readonly #options: AnswerOptions;
  #head: Head | undefined;
  /** Only errors are looked through: a search in each byte of each answer would cost every request. */
  #bodyMask: Mask | undefined;

  constructor(response: ServerResponse, options: AnswerOptions, hearer: Hearer) {
    this.#response = response;
    this.#options = options;
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
    if (!isEventStream(head)) return;
    this.#writeHead([]);
    // Send the head with the first event if that comes now, alone if not.
    setImmediate(() => {
      if (!this.#response.writableEnded && !this.#response.destroyed) this.#response.flushHeaders();
    });
  }

  /** False: the client has more than it takes, until it drains. */
  write(chunk: Buffer): boolean {
    if (this.#response.destroyed) return true;
    const out = this.#bodyMask ? this.#bodyMask.push(chunk) : chunk;
    if (out === undefined) return true;
    if (!this.#response.headersSent) this.#writeHead([]);
    if (this.#response.write(out)) return true;
    this.#turn("full");
    return false;
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
    this.#turn("released");
    return !this.#response.destroyed && !this.#response.writableEnded;
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
