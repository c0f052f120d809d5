// The tap: bytes pass to the client unchanged, and the same bytes go to the dialect's usage reader. Works on any cut into
// chunks, holds a bounded carry, never throws, and never changes a byte but for the one event it was told to hide.
import { Buffer } from "node:buffer";
import type { Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress, constants } from "node:zlib";
import type { Dialect } from "./dialects/dialect.ts";
import type { Call } from "./dialects/call.ts";
import type { Reading, UsageReader } from "./dialects/reading.ts";
import { NO_READING } from "./dialects/reading.ts";
import { parseObject } from "./dialects/json.ts";
import { joined } from "./bodies.ts";
import type { Readers } from "./readers.ts";
import { createFieldScanner } from "./json-scan.ts";
import type { FieldScanner } from "./json-scan.ts";

/** What came by that no usage was stated for: an estimate of the tokens in it. */
export type Seen = {
  readonly tokens: number;
  /** Some of it could not be read (a line beyond all limits, a damaged or unknown encoding): the estimate says nothing. */
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

/** A JSON answer up to this size is held and sent in one write; a larger one streams, its last chunk waits. */
const MOST_HELD_BYTES = 1024 * 1024;
/** Results of work are read whole, with all that they hold. */
const MOST_HELD_RESULT_BYTES = 64 * 1024 * 1024;
/** Beyond this a body that is needed whole is read in a thread. */
const PARSE_HERE_BYTES = 1024 * 1024;
/** Up to here parsing the whole body is as cheap as looking for its fields. */
const PARSE_WHOLE_BYTES = 32 * 1024;
/** A line, or an event, longer than this is none of any provider: it passes, unread. */
const LONGEST_LINE = 16 * 1024 * 1024;
/** What may wait for the books behind an end that was said; a provider that goes on beyond it is not listened to. */
const MOST_WAITING_BYTES = 1024 * 1024;
/** Providers answer about four bytes of text a token. */
const BYTES_PER_TOKEN = 4;
const SPACE = 0x20;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** Picks the framing by the answer's content type; where a stream was asked for and the type does not say so, by the
 *  first byte: events never start with a brace or bracket. */
export function createMeter(
  dialect: Dialect,
  call: Call,
  hides: boolean,
  contentType: string,
  contentEncoding = "",
  readers?: Readers,
): Meter {
  if (contentEncoding !== "" && contentEncoding !== "identity")
    return createEncodedMeter(dialect, call, contentType, contentEncoding, readers);
  if (contentType.includes("text/event-stream")) return createEventMeter(dialect, call, hides);
  if (call.isResult && !/^application\/json\b/i.test(contentType)) return createLineMeter(dialect, call);
  if (!call.stream) return createBodyMeter(dialect, call, readers);
  let chosen: Meter | undefined;
  // White space says nothing yet: it waits for what comes first.
  let blank: Buffer = Buffer.alloc(0);
  const choose = (start?: Buffer): Meter =>
    (chosen ??=
      start && /^\s*[^\s[{]/.test(start.toString("latin1"))
        ? createEventMeter(dialect, call, hides)
        : createBodyMeter(dialect, call, readers));
  return {
    push(chunk) {
      if (chosen) return chosen.push(chunk);
      const start = blank.length > 0 ? Buffer.concat([blank, chunk]) : chunk;
      if (start.length < MOST_BLANK_BYTES && /^\s*$/.test(start.toString("latin1"))) {
        blank = start;
        return undefined;
      }
      blank = Buffer.alloc(0);
      return choose(start).push(start);
    },
    takeHeld: () => [...(blank.length > 0 ? [blank] : []), ...choose().takeHeld()],
    reading: () => choose().reading(),
    soFar: () => choose().soFar(),
    seen: () => choose().seen(),
    isFinishing: () => chosen?.isFinishing?.() ?? false,
    isOver: () => chosen?.isOver?.() ?? false,
  };
}

/** An answer that came packed though plain was asked for: it passes as it is, and is unpacked beside that for reading. Unpacking
 *  lags, so the newest chunk waits until the next one comes, and a small whole body until all of it is read. */
function createEncodedMeter(
  dialect: Dialect,
  call: Call,
  contentType: string,
  contentEncoding: string,
  readers: Readers | undefined,
): Meter {
  const inner = createMeter(dialect, call, false, contentType, "", readers);
  const unpack = UNPACKERS[contentEncoding]?.();
  const packed: Buffer[] = [];
  const isWhole = !contentType.includes("text/event-stream") && !call.stream;
  let size = 0;
  let unpacked = 0;
  let isBroken = unpack === undefined;
  unpack?.on("data", (piece: Buffer) => {
    unpacked += piece.length;
    if (unpacked > MOST_UNPACKED_BYTES) unpack.destroy(new Error("it unpacks to more than any answer"));
    else inner.push(piece);
  });
  unpack?.on("error", () => (isBroken = true));
  return {
    push(chunk) {
      if (!isBroken) unpack?.write(chunk);
      size += chunk.length;
      packed.push(chunk);
      if (isWhole && size <= MOST_HELD_BYTES) return undefined;
      const out = Buffer.concat(packed.splice(0, packed.length - 1));
      return out.length > 0 ? out : undefined;
    },
    takeHeld: () => packed.splice(0),
    flush: () =>
      new Promise<void>((resolve) => {
        if (!unpack || isBroken) return resolve();
        unpack.once("close", () => resolve());
        unpack.end();
      }).then(() => inner.flush?.()),
    isFinishing: () => inner.isFinishing?.() ?? false,
    isOver: () => inner.isOver?.() ?? false,
    // What is damaged is read as far as it goes, like what is cut.
    reading: () => inner.reading(),
    soFar: () => inner.soFar(),
    seen() {
      const seen = inner.seen();
      return { ...seen, isPartial: isBroken || seen.isPartial };
    },
  };
}

const UNPACKERS: { readonly [encoding: string]: () => Transform } = {
  // What is cut short is unpacked as far as it goes, however it came.
  gzip: () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }),
  "x-gzip": () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }),
  deflate: () => createInflate({ finishFlush: constants.Z_SYNC_FLUSH }),
  br: () => createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH }),
  zstd: () => createZstdDecompress({ finishFlush: constants.ZSTD_e_flush }),
};
/** A choice with something in it: the answer goes on, in sound or in what nobody counts. */
const GOES_ON = /"(?:choices|candidates)"\s*:\s*\[\s*\{/;
const MOST_BLANK_BYTES = 4_096;
const MOST_UNPACKED_BYTES = 1024 * 1024 * 1024;

/** A reader that never throws, whatever an answer holds: what it cannot read makes the usage unreadable, and passes. */
function total(reader: UsageReader): UsageReader & { readonly isBroken: boolean } {
  let isBroken = false;
  const attempt = <T>(read: () => T, otherwise: T): T => {
    if (isBroken) return otherwise;
    try {
      return read();
    } catch {
      isBroken = true;
      return otherwise;
    }
  };
  return {
    get isBroken() {
      return isBroken;
    },
    needsWholeBody: reader.needsWholeBody,
    body: (body) => attempt(() => reader.body(body), undefined),
    event: (data) => attempt(() => reader.event(data), "pass"),
    text: (text) => attempt(() => reader.text?.(text), undefined),
    words: (data) => attempt(() => reader.words?.(data) ?? 0, 0),
    isFinishing: () => attempt(() => reader.isFinishing?.() ?? false, false),
    reading: () => attempt(() => reader.reading(), BROKEN),
  };
}

const BROKEN: Reading = { ...NO_READING, ended: true };

/** Server-sent events. */
function createEventMeter(dialect: Dialect, call: Call, hides: boolean): Meter {
  const reader = total(dialect.reader(call, hides));
  const held: Buffer[] = [];
  let holding = false;
  /** The line that has begun; and, when hiding, the finished lines of its event. latin1, so offsets are byte offsets. */
  let carry: string[] = [];
  let carried = 0;
  let isPartial = false;
  let event = "";
  let waiting = 0;
  let skipsLine = false;
  let data: string | undefined;
  let events = 0;
  let bytes = 0;

  /** One line without its end. A blank line ends the event; true when that event is to be hidden. */
  const takeLine = (line: string): boolean => {
    if (line === "") {
      if (data === undefined) return false;
      const verdict = reader.event(data);
      const words = reader.words?.(data) ?? 0;
      if (words > 0) {
        events += 1;
        bytes += words;
      }
      const said = data;
      data = undefined;
      if (verdict !== "pass") holding = true;
      // Counts that came early, with words behind them, were not the end.
      else if (holding && (words > 0 || GOES_ON.test(said)) && !reader.reading().ended) holding = false;
      return verdict === "hide";
    }
    if (line.startsWith("data:")) {
      const payload = line.charCodeAt(5) === SPACE ? line.slice(6) : line.slice(5);
      data = data === undefined ? payload : `${data}\n${payload}`;
      if (data.length > LONGEST_LINE) {
        data = undefined;
        isPartial = true;
      }
    }
    return false;
  };

  /** Reads all whole lines; returns what may pass when one event has to be hidden. */
  const read = (chunk: Buffer): string => {
    const piece = chunk.toString("latin1");
    const isLineOpen = !piece.includes("\n") && !piece.includes("\r") && carry.at(-1)?.endsWith("\r") !== true;
    if (isLineOpen && carried + piece.length <= LONGEST_LINE) {
      // A long line comes in many pieces: they are joined once, when it ends.
      carry.push(piece);
      carried += piece.length;
      return "";
    }
    const text = carry.join("") + piece;
    const hasCarriage = text.includes("\r");
    let passed = "";
    let from = 0;
    for (;;) {
      const end = hasCarriage ? lineEnd(text, from) : text.indexOf("\n", from);
      if (end < 0) break;
      const isCarriage = text.charCodeAt(end) === CARRIAGE_RETURN;
      // The line feed that belongs to a carriage return may come with the next chunk.
      if (isCarriage && end + 1 === text.length) break;
      const next = isCarriage && text.charCodeAt(end + 1) === LINE_FEED ? end + 2 : end + 1;
      const hidden = skipsLine ? false : takeLine(text.slice(from, end));
      skipsLine = false;
      if (hides) {
        event += text.slice(from, next);
        if (end === from || event.length > LONGEST_LINE) {
          if (!hidden) passed += event;
          event = "";
        }
      }
      from = next;
    }
    let rest = text.slice(from);
    if (rest.length > LONGEST_LINE) {
      skipsLine = isPartial = true;
      passed += event + rest;
      rest = event = "";
    }
    carry = rest === "" ? [] : [rest];
    carried = rest.length;
    return passed;
  };

  return {
    push(chunk) {
      const passed = read(chunk);
      const out = hides ? Buffer.from(passed, "latin1") : chunk;
      if (holding) {
        // Behind the end nothing is kept that has no end itself.
        if (out.length > 0 && waiting <= MOST_WAITING_BYTES) held.push(out);
        waiting += out.length;
        return undefined;
      }
      if (held.length === 0) return out.length > 0 ? out : undefined;
      waiting = 0;
      return Buffer.concat([...held.splice(0), out]);
    },
    isOver: () => holding && waiting > MOST_WAITING_BYTES,
    takeHeld() {
      // What is left of an unfinished event belongs to the client all the same.
      const rest = event + carry.join("");
      if (hides && rest !== "") held.push(Buffer.from(rest, "latin1"));
      carry = [];
      event = "";
      return held.splice(0);
    },
    reading() {
      // A stream may end without the blank line that closes its last event.
      if (carry.length > 0) takeLine(carry.join("").replace(/\r$/, ""));
      takeLine("");
      return reader.reading();
    },
    soFar: () => reader.reading(),
    isFinishing: () => reader.isFinishing?.() ?? false,
    seen: () => ({
      isPartial: isPartial || reader.isBroken,
      // An event with words is a token at least.
      tokens: Math.max(events, Math.ceil(bytes / BYTES_PER_TOKEN)),
    }),
  };
}

/** One JSON object a line. Everything flows; only the newest chunk waits for the books. */
function createLineMeter(dialect: Dialect, call: Call): Meter {
  const reader = total(dialect.reader(call, false));
  let carry: string[] = [];
  let carried = 0;
  let isPartial = false;
  let newest: Buffer | undefined;
  const take = (line: string): void => {
    if (line.trim() === "") return;
    reader.event(line);
  };
  return {
    push(chunk) {
      const [first = "", ...others] = chunk.toString("latin1").split("\n");
      carry.push(first);
      carried += first.length;
      if (carried > LONGEST_LINE) {
        // No result is as long: what it used is not known.
        isPartial = true;
        carry = [];
        carried = 0;
      }
      const last = others.pop();
      if (last !== undefined) {
        take(carry.join(""));
        for (const line of others) take(line);
        carry = [last];
        carried = last.length;
      }
      const out = newest;
      newest = chunk;
      return out;
    },
    takeHeld() {
      const held = newest ? [newest] : [];
      newest = undefined;
      return held;
    },
    reading() {
      take(carry.join(""));
      carry = [];
      const reading = reader.reading();
      return isPartial ? { ...reading, usage: undefined, final: false } : reading;
    },
    soFar: () => reader.reading(),
    seen: () => ({ tokens: 0, isPartial: true }),
  };
}

/** JSON, whole or as an array of objects; anything else is unreadable and says so. */
function createBodyMeter(dialect: Dialect, call: Call, readers: Readers | undefined): Meter {
  const reader = total(dialect.reader(call, false));
  const mostHeld = call.isResult || reader.needsWholeBody ? MOST_HELD_RESULT_BYTES : MOST_HELD_BYTES;
  let held: Buffer[] = [];
  let size = 0;
  let words = 0;
  let overflowed = false;
  /** What a thread read of a body that is large and needed whole. */
  let readElsewhere: Reading | undefined;
  // Made when it is needed: most answers are small and parsed whole.
  let made: FieldScanner | undefined;
  const scanner = (): FieldScanner =>
    (made ??= createFieldScanner(
      [...dialect.bodyFields, ...(call.stream ? ["candidates", "promptFeedback"] : [])],
      (fields) => {
        // Elements of an array stream are read like events: the same objects, in another frame.
        if (!call.stream) return;
        const element = JSON.stringify(fields);
        reader.event(element);
        words += reader.words?.(element) ?? 0;
      },
    ));

  return {
    push(chunk) {
      size += chunk.length;
      if (call.stream) {
        // An array stream must keep flowing: only its newest chunk waits.
        scanner().push(chunk);
        overflowed = true;
      } else if (overflowed) {
        scanner().push(chunk);
      } else if (size > mostHeld) {
        overflowed = true;
        for (const piece of held) scanner().push(piece);
        scanner().push(chunk);
      }
      held.push(chunk);
      if (!overflowed) return undefined;
      const out = Buffer.concat(held.slice(0, -1));
      held = held.slice(-1);
      return out.length > 0 ? out : undefined;
    },
    takeHeld: () => held.splice(0),
    flush() {
      if (overflowed || size <= PARSE_HERE_BYTES || !reader.needsWholeBody || !readers) return undefined;
      const asked = joined(held).then((whole) => readers.answer(dialect.name, call, whole));
      return asked.then(
        (reading) => void (readElsewhere = reading),
        () => void (readElsewhere = BROKEN),
      );
    },
    reading() {
      if (readElsewhere) return readElsewhere;
      if (call.stream && scanner().isArray) {
        if (scanner().complete) reader.body({});
        return reader.reading();
      }
      if (overflowed) {
        if (scanner().complete) reader.body(scanner().fields());
        return reader.reading();
      }
      const body = held.length === 1 && held[0] ? held[0] : Buffer.concat(held);
      if (size > PARSE_WHOLE_BYTES && !reader.needsWholeBody) {
        scanner().push(body);
        if (scanner().complete) reader.body(scanner().fields());
        return reader.reading();
      }
      const parsed = parseObject(body.toString("latin1"));
      if (parsed) reader.body(parsed);
      else reader.text?.(body.toString("utf8"));
      return reader.reading();
    },
    soFar: () => reader.reading(),
    seen: () => ({
      tokens:
        (readElsewhere ?? reader.reading()).failed && !call.stream
          ? 0
          : Math.ceil((call.stream ? words : size) / BYTES_PER_TOKEN),
      // Of what is too large to be held the fees inside are not seen.
      isPartial: reader.isBroken || readElsewhere === BROKEN || (overflowed && !call.stream && reader.needsWholeBody),
    }),
  };
}

/** Where the next line ends: at a line feed or a carriage return, whichever comes first; -1 when it does not. */
function lineEnd(text: string, from: number): number {
  const feed = text.indexOf("\n", from);
  const carriage = text.indexOf("\r", from);
  if (carriage < 0) return feed;
  return feed < 0 ? carriage : Math.min(feed, carriage);
}
