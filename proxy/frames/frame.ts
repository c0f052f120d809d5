// A frame is how an answer is cut into what a dialect reads: events, lines, one body. To add one: a file here and a row
// in meter.ts.
import type { Call } from "../dialects/call.ts";
import type { Dialect } from "../dialects/dialect.ts";
import type { Reading } from "../dialects/reading.ts";
import type { Readers } from "../readers.ts";

/** What came by that no usage was stated for: an estimate of the tokens in it. */
export type Seen = {
  readonly tokens: number;
  /** Some of it could not be read (a line beyond all limits, a damaged or unknown encoding): the estimate says
   *  nothing. */
  readonly isPartial: boolean;
};

export type Meter = {
  /** Takes a chunk from the provider; returns what may go to the client at once, or undefined when it has to wait. */
  push(chunk: Buffer): Buffer | undefined;
  /** The bytes that wait: sent after the books have the event. */
  takeHeld(): Buffer[];
  /** Of a meter that lags, now: resolves when all that was pushed is read. Called once, before `reading`. */
  flush?(): Promise<void> | undefined;
  reading(): Reading;
  /** What the answer has said until now; more may come. */
  soFar(): Reading;
  seen(): Seen;
  /** Whether the model has said its last word, and only its counts may still come. */
  isFinishing?(): boolean;
  /** Whether the answer has come to its end, and what still comes is of no use to anybody. */
  isOver?(): boolean;
};

/** Whose answer it is. */
export type Framing = {
  readonly dialect: Dialect;
  readonly call: Call;
  /** Whether one event is to be hidden from the client. */
  readonly hides: boolean;
  /** Threads for large bodies; absent: all is read here. */
  readonly readers: Readers | undefined;
};

export type Frame = {
  /** Whether an answer of that type comes in it. */
  fits(contentType: string, call: Call): boolean;
  create(framing: Framing): Meter;
};

/** A line, or an event, longer than this is none of any provider: it passes, unread. */
export const LONGEST_LINE = 16 * 1024 * 1024;
/** Providers answer about four bytes of text a token. */
export const BYTES_PER_TOKEN = 4;
