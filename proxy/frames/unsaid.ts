// A stream was asked for, and the type of the answer does not say that it is one: its first byte tells. Events never
// start with a brace or bracket.
import { BODY } from "./body.ts";
import { EVENTS } from "./events.ts";
import type { Frame, Framing, Meter } from "./frame.ts";

const MOST_BLANK_BYTES = 4_096;

export const UNSAID: Frame = { fits: () => true, create: createUnsaidMeter };

function createUnsaidMeter(framing: Framing): Meter {
  let chosen: Meter | undefined;
  // White space says nothing yet: it waits for what comes first.
  let blank: Buffer = Buffer.alloc(0);
  const choose = (start?: Buffer): Meter =>
    (chosen ??= start && /^\s*[^\s[{]/.test(start.toString("latin1")) ? EVENTS.create(framing) : BODY.create(framing));
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
