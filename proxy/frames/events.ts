// Server-sent events: each passes as it comes, but for the one that is to be hidden; behind the end that was said all
// waits for the books.
import { LONGEST_LINE, BYTES_PER_TOKEN } from "./frame.ts";
import type { Frame, Framing, Meter, Seen } from "./frame.ts";
import type { Reading } from "../dialects/reading.ts";
import { Total } from "./total.ts";

/** What may wait for the books behind an end that was said; a provider that goes on beyond it is not listened to. */
const MOST_WAITING_BYTES = 1024 * 1024;
const SPACE = 0x20;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

export const EVENTS: Frame = {
  fits: (contentType) => contentType.includes("text/event-stream"),
  create: createEventMeter,
};

function createEventMeter({ dialect, call, hides }: Framing): Meter {
  const reader = createEventReader({ dialect, call, hides });
  const held: Buffer[] = [];
  /** The line that has begun; and, when hiding, the finished lines of its event. latin1, so offsets are byte
   *  offsets. */
  let carry: string[] = [];
  let carried = 0;
  let isPartial = false;
  let event = "";
  let waiting = 0;
  let skipsLine = false;

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
    const text = carry.length === 0 ? piece : carry.join("") + piece;
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
      const hidden = skipsLine ? false : reader.take(text.slice(from, end));
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
    carry.length = 0;
    if (rest !== "") carry.push(rest);
    carried = rest.length;
    return passed;
  };

  return {
    push(chunk) {
      const passed = read(chunk);
      const out = hides ? Buffer.from(passed, "latin1") : chunk;
      if (reader.isHolding) {
        // Behind the end nothing is kept that has no end itself.
        if (out.length > 0 && waiting <= MOST_WAITING_BYTES) held.push(out);
        waiting += out.length;
        return undefined;
      }
      if (held.length === 0) return out.length > 0 ? out : undefined;
      waiting = 0;
      return Buffer.concat([...held.splice(0), out]);
    },
    isOver: () => reader.isHolding && waiting > MOST_WAITING_BYTES,
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
      if (carry.length > 0) reader.take(carry.join("").replace(/\r$/, ""));
      reader.take("");
      return reader.reading();
    },
    soFar: () => reader.reading(),
    isFinishing: () => reader.isFinishing(),
    seen() {
      const seen = reader.seen();
      return { ...seen, isPartial: isPartial || seen.isPartial };
    },
  };
}

/** The lines of a stream, made events and read. */
function createEventReader({ dialect, call, hides }: Omit<Framing, "readers">): {
  /** One line without its end. A blank line ends the event; true when that event is to be hidden. */
  take(line: string): boolean;
  /** Whether an end was said: what comes now waits. */
  readonly isHolding: boolean;
  reading(): Reading;
  isFinishing(): boolean;
  seen(): Seen;
} {
  const reader = new Total(dialect.reader(call, hides));
  let isHolding = false;
  let data: string | undefined;
  let isPartial = false;
  let events = 0;
  let bytes = 0;

  const end = (said: string): boolean => {
    const verdict = reader.event(said);
    const words = reader.words(said);
    if (words > 0) {
      events += 1;
      bytes += words;
    }
    if (verdict !== "pass") isHolding = true;
    // Counts that came early, with words behind them, were not the end.
    else if (isHolding && (words > 0 || reader.goesOn(said)) && !reader.reading().ended) isHolding = false;
    return verdict === "hide";
  };

  return {
    take(line) {
      if (line === "") {
        if (data === undefined) return false;
        const said = data;
        data = undefined;
        return end(said);
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
    },
    get isHolding() {
      return isHolding;
    },
    reading: () => reader.reading(),
    isFinishing: () => reader.isFinishing(),
    seen: () => ({
      isPartial: isPartial || reader.isBroken,
      // An event with words is a token at least.
      tokens: Math.max(events, Math.ceil(bytes / BYTES_PER_TOKEN)),
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
