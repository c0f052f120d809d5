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
    this.#attempt(() => this.#reader.body(body), undefined);
  }

  event(data: string): ReturnType<UsageReader["event"]> {
    return this.#attempt(() => this.#reader.event(data), "pass");
  }

  text(text: string): void {
    this.#attempt(() => this.#reader.text?.(text), undefined);
  }

  goesOn(data: string): boolean {
    return this.#attempt(() => this.#reader.goesOn?.(data) ?? false, false);
  }

  words(data: string): number {
    return this.#attempt(() => this.#reader.words?.(data) ?? 0, 0);
  }

  isFinishing(): boolean {
    return this.#attempt(() => this.#reader.isFinishing?.() ?? false, false);
  }

  reading(): Reading {
    return this.#attempt(() => this.#reader.reading(), BROKEN);
  }

  #attempt<T>(read: () => T, otherwise: T): T {
    if (this.#isBroken) return otherwise;
    try {
      return read();
    } catch {
      this.#isBroken = true;
      return otherwise;
    }
  }
}

/** What is said of an answer that could not be read. */
export const BROKEN: Reading = { ...NO_READING, ended: true };
