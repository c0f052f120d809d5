// A reader that never throws, whatever an answer holds: what it cannot read makes the usage unreadable, and passes.
import { NO_READING } from "../dialects/reading.ts";
import type { JsonObject } from "../dialects/json.ts";
import type { Reading, UsageReader } from "../dialects/reading.ts";

/** A class, for one stands on each answer. */
export class Total implements Required<UsageReader> {
  readonly needsWholeBody: boolean;
  readonly #reader: UsageReader;
  #isBroken = false;

  constructor(reader: UsageReader) {
    this.#reader = reader;
    this.needsWholeBody = reader.needsWholeBody;
  }

  get isBroken(): boolean {
    return this.#isBroken;
  }

  body(body: JsonObject): void {
    this.#attempt((reader) => reader.body(body), undefined);
  }

  event(data: string): ReturnType<UsageReader["event"]> {
    return this.#attempt((reader, data) => reader.event(data), "pass", data);
  }

  text(text: string): void {
    this.#attempt((reader) => reader.text?.(text), undefined);
  }

  goesOn(data: string): boolean {
    return this.#attempt((reader, data) => reader.goesOn?.(data) ?? false, false, data);
  }

  words(data: string): number {
    return this.#attempt((reader, data) => reader.words?.(data) ?? 0, 0, data);
  }

  isFinishing(): boolean {
    return this.#attempt((reader) => reader.isFinishing?.() ?? false, false);
  }

  reading(): Reading {
    return this.#attempt((reader) => reader.reading(), BROKEN);
  }

  /** `data` is handed on, for a closure of its own would stand on each event. */
  #attempt<T>(read: (reader: UsageReader, data: string) => T, otherwise: T, data = ""): T {
    if (this.#isBroken) return otherwise;
    try {
      return read(this.#reader, data);
    } catch {
      this.#isBroken = true;
      return otherwise;
    }
  }
}

/** What is said of an answer that could not be read. */
export const BROKEN: Reading = { ...NO_READING, ended: true };
