// JSON, whole or as an array of objects; anything else is unreadable and says so. A small one is held and sent in one
// write.
import { joined } from "../bodies.ts";
import { parseObject, rawOf } from "../dialects/json.ts";
import type { Reading } from "../dialects/reading.ts";
import { createFieldScanner } from "../json-scan.ts";
import type { FieldScanner } from "../json-scan.ts";
import { BYTES_PER_TOKEN } from "./frame.ts";
import type { Frame, Framing, Meter } from "./frame.ts";
import { BROKEN, Total } from "./total.ts";

/** A JSON answer up to this size is held and sent in one write; a larger one streams, its last chunk waits. */
export const MOST_HELD_BYTES = 1024 * 1024;
/** Results of work are read whole, with all that they hold. */
const MOST_HELD_RESULT_BYTES = 64 * 1024 * 1024;
/** Beyond this a body that is needed whole is read in a thread. */
const PARSE_HERE_BYTES = 1024 * 1024;
/** Up to here parsing the whole body is as cheap as looking for its fields. */
const PARSE_WHOLE_BYTES = 32 * 1024;

export const BODY: Frame = { fits: (_contentType, call) => !call.stream, create: createBodyMeter };

function createBodyMeter({ dialect, call, readers }: Framing): Meter {
  const reader = new Total(dialect.reader(call, false));
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
      [...dialect.bodyFields, ...(call.stream ? (dialect.elementFields ?? []) : [])],
      (fields) => {
        // Elements of an array stream are read like events: the same objects, in another frame.
        if (!call.stream) return;
        const element = rawOf(fields) ?? "{}";
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
