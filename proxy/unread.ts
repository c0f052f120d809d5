// Answers whose use nobody reads: they pass as they are, or are held for the places or the name in them.
import { NOTHING_MORE } from "./attempt.ts";
import type { Dialect } from "./dialects/dialect.ts";
import { parseObject } from "./dialects/json.ts";
import type { Meter } from "./meter.ts";

/** Reads nothing, holds nothing. */
export const UNREAD: Meter = {
  push: (chunk) => chunk,
  takeHeld: () => [],
  reading: () => NOTHING_MORE,
  soFar: () => NOTHING_MORE,
  seen: () => ({ tokens: 0, isPartial: true }),
};

/** Holds an answer and puts the places that it names here. */
export function createPlacer(dialect: Dialect, base: string): Meter {
  const held: Buffer[] = [];
  let size = 0;
  return {
    ...UNREAD,
    push(chunk) {
      size += chunk.length;
      // No list of places is as long: it passes as it is.
      return size > MOST_PLACED_BYTES ? Buffer.concat([...held.splice(0), chunk]) : void held.push(chunk);
    },
    takeHeld: () => {
      // latin1, so that every other byte stays what it is, packed answers included.
      const text = Buffer.concat(held).toString("latin1");
      return [Buffer.from(dialect.placeUrls?.(text, base) ?? text, "latin1")];
    },
  };
}

/** Holds a small answer, and reads from it what was made. */
export function createNameReader(dialect: Dialect): Meter & { name(): string | undefined } {
  const held: Buffer[] = [];
  let size = 0;
  return {
    ...UNREAD,
    push(chunk) {
      size += chunk.length;
      return size > MOST_NAMING_BYTES ? Buffer.concat([...held.splice(0), chunk]) : void held.push(chunk);
    },
    takeHeld: () => held.splice(0),
    name() {
      const answer = parseObject(Buffer.concat(held).toString("utf8"));
      return answer && dialect.made?.(answer);
    },
  };
}

/** Holds a list of models, and leaves out of it what `mayUse` does not take. A list that cannot be read passes whole. */
export function createModelFilter(mayUse: (model: string) => boolean): Meter {
  const held: Buffer[] = [];
  let size = 0;
  return {
    ...UNREAD,
    push(chunk) {
      size += chunk.length;
      return size > MOST_PLACED_BYTES ? Buffer.concat([...held.splice(0), chunk]) : void held.push(chunk);
    },
    takeHeld() {
      const whole = Buffer.concat(held);
      const list = parseObject(whole.toString("utf8"));
      // `data` of OpenAI and Anthropic, `models` of Google and of some servers of one's own.
      const member = ["data", "models"].find((name) => Array.isArray(list?.[name]));
      if (!list || member === undefined) return [whole];
      const models = (list[member] as readonly unknown[]).filter((model) => mayUse(modelIn(model)));
      return [Buffer.from(JSON.stringify({ ...list, [member]: models }))];
    },
  };
}

function modelIn(listed: unknown): string {
  const { id, name } = (typeof listed === "object" && listed !== null ? listed : {}) as {
    id?: unknown;
    name?: unknown;
  };
  const text = typeof id === "string" ? id : typeof name === "string" ? name : "";
  return text.replace(/^models\//, "");
}

const MOST_NAMING_BYTES = 1024 * 1024;
const MOST_PLACED_BYTES = 16 * 1024 * 1024;
