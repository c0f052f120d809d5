// A reader that never throws, whatever an answer holds: what it cannot read makes the usage unreadable, and passes.
import { NO_READING } from "../dialects/reading.ts";
import type { Reading, UsageReader } from "../dialects/reading.ts";

export function total(reader: UsageReader): Required<UsageReader> & { readonly isBroken: boolean } {
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
    goesOn: (data) => attempt(() => reader.goesOn?.(data) ?? false, false),
    words: (data) => attempt(() => reader.words?.(data) ?? 0, 0),
    isFinishing: () => attempt(() => reader.isFinishing?.() ?? false, false),
    reading: () => attempt(() => reader.reading(), BROKEN),
  };
}

/** What is said of an answer that could not be read. */
export const BROKEN: Reading = { ...NO_READING, ended: true };
