// One JSON object a line: results of work. Everything flows; only the newest chunk waits for the books.
import { LONGEST_LINE } from "./frame.ts";
import type { Frame, Framing, Meter } from "./frame.ts";
import { Total } from "./total.ts";

export const LINES: Frame = {
  fits: (contentType, call) => call.isResult === true && !/^application\/json\b/i.test(contentType),
  create: createLineMeter,
};

function createLineMeter({ dialect, call }: Framing): Meter {
  const reader = new Total(dialect.reader(call, false));
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
