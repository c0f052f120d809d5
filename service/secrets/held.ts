// A secret that a store holds: read before it is needed, kept in memory and nowhere else, refreshed beside all work. When
// the store is away the last good value goes on.
import { setTimeout as sleep } from "node:timers/promises";
import { Secret } from "../secret.ts";
import type { Reference } from "./reference.ts";
import { StoreError } from "./store.ts";
import type { Found, Staging, Store, Why } from "./store.ts";

/** A secret that was never read, or not for so long that it may not be used any more. */
export class SecretUnavailable extends Error {
  override readonly name = "SecretUnavailable";
}

/** How it stands with a secret. */
export type SecretState = {
  /** Where it stands in the settings. */
  readonly place: string;
  readonly reference: string;
  /** When the store last said what it is; undefined: never. */
  readonly readAtMs: number | undefined;
  readonly version: string | undefined;
  /** Why the last reading failed; undefined: it did not. */
  readonly failure: { readonly why: Why; readonly message: string; readonly sinceMs: number } | undefined;
  readonly failures: number;
};

export type Refreshing = {
  /** Seconds between two readings. */
  readonly refreshSeconds?: number | undefined;
  /** A value that is older is not used; undefined: it is used however old it is. */
  readonly maxStaleSeconds?: number | undefined;
};

const SECOND = 1000;
const USUAL_REFRESH = 60;
const READING_MS = 5 * SECOND;
/** Whoever needs it now asks the store no oftener. */
const SOONEST_MS = 5 * SECOND;
const LATE = "it did not answer in time";
/** Ten programs that started together do not ask together. */
const SPREAD = 0.1;

export class HeldSecret extends Secret {
  readonly place: string;
  readonly reference: Reference;
  readonly #store: Store;
  readonly #refreshing: Refreshing;
  /** Each says what is wrong with a text; undefined: nothing. */
  readonly #faults: ((text: string) => string | undefined)[];
  isFixed = false;
  /** A reading that did not end in time: the store is not asked again before it does. */
  #late: Promise<unknown> | undefined;
  #current: (Found & { readonly readAtMs: number }) | undefined;
  #failure: SecretState["failure"];
  #failures = 0;
  #askedAtMs = 0;
  #reading: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isStopped = false;
  readonly #listeners: (() => void)[] = [];
  readonly #watchers: ((state: SecretState) => void)[] = [];

  constructor(
    place: string,
    reference: Reference,
    store: Store,
    fault: (text: string) => string | undefined,
    refreshing: Refreshing = {},
  ) {
    super("");
    this.place = place;
    this.reference = reference;
    this.#store = store;
    this.#faults = [faultOf, fault];
    this.#refreshing = refreshing;
  }

  /** The last good value. Throws SecretUnavailable where there is none, or where it could not be read for too long. */
  override reveal(): string {
    const { maxStaleSeconds = Infinity } = this.#refreshing;
    if (!this.#current) throw new SecretUnavailable(this.#describe("was not read yet"));
    if (!this.isFixed && this.#failure && Date.now() - this.#current.readAtMs > maxStaleSeconds * SECOND)
      throw new SecretUnavailable(this.#describe(`was not read for more than ${maxStaleSeconds} s`));
    return this.#current.text;
  }

  get state(): SecretState {
    return {
      place: this.place,
      reference: this.reference.text,
      readAtMs: this.#current?.readAtMs,
      version: this.#current?.version,
      failure: this.#failure,
      failures: this.#failures,
    };
  }

  /** It is now, and stays, what it was read as: what a program began with holds until it ends. */
  fix(): void {
    this.isFixed = true;
    this.stop();
  }

  /** Another thing that may be wrong with a text. */
  require(fault: (text: string) => string | undefined): void {
    this.#faults.push(fault);
  }

  /** Begins with what another one of the same reference has. */
  beginAs(twin: HeldSecret): void {
    this.#current ??= twin.#current;
  }

  /** Called when another value takes its place. */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Called when it cannot be read any more, and when it can be read again. */
  onTrouble(watcher: (state: SecretState) => void): void {
    this.#watchers.push(watcher);
  }

  /** The places beside it, for the one that follows. Throws a StoreError where its store is not written to. */
  staging(): Staging {
    const staging = this.#store.staging?.(this.reference);
    if (!staging) throw new StoreError("refused", `Keymeter does not write to ${this.reference.scheme}: stores`);
    return staging;
  }

  /** Asks the store now; one reading at a time. Never rejects: `state` says how it went. */
  refresh(): Promise<void> {
    if (this.isFixed) return Promise.resolve();
    return (this.#reading ??= this.#read().finally(() => (this.#reading = undefined)));
  }

  /** Somebody was refused with it: it may be another one by now. */
  async refreshSoon(): Promise<void> {
    if (Date.now() - this.#askedAtMs >= SOONEST_MS) await this.refresh();
  }

  /** Refreshes it from now on, beside all work. */
  start(): void {
    if (this.#timer || this.#isStopped) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.refresh().then(() => this.start());
    }, this.#pauseMs()).unref();
  }

  stop(): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  /** Reads it until it is there, at most so long. Whether it is. */
  async load(atMostMs: number): Promise<boolean> {
    const deadline = Date.now() + atMostMs;
    for (let pauseMs = 100; ; pauseMs = Math.min(2 * pauseMs, SECOND)) {
      await this.refresh();
      if (this.#current) return true;
      if (Date.now() + pauseMs > deadline) return false;
      await sleep(pauseMs);
    }
  }

  async #read(): Promise<void> {
    this.#askedAtMs = Date.now();
    try {
      const read = await this.#inTime();
      const found = { ...read, text: read.text.replace(/\r?\n$/, "") };
      for (const faultIn of this.#faults) {
        const fault = faultIn(found.text);
        if (fault !== undefined) throw new StoreError("unusable", fault);
      }
      const isAnother = this.#current?.text !== found.text;
      this.#current = { ...found, readAtMs: Date.now() };
      const wasFailing = this.#failure !== undefined;
      this.#failure = undefined;
      if (wasFailing) this.#tell();
      if (isAnother) for (const listener of this.#listeners) listener();
    } catch (error) {
      const { why, message } =
        error instanceof StoreError
          ? error
          : {
              why: "away" as const,
              message: error instanceof SecretUnavailable ? error.message : "the reading failed",
            };
      this.#failures += 1;
      const isNew = this.#failure?.message !== message;
      this.#failure = { why, message, sinceMs: this.#failure?.sinceMs ?? Date.now() };
      if (isNew) this.#tell();
    }
  }

  /** What hangs, such as a folder of a machine that is gone, hangs alone. */
  async #inTime(): Promise<Found> {
    if (this.#late) throw new StoreError("away", LATE);
    const reading = this.#store.read(this.reference, AbortSignal.timeout(READING_MS));
    const over = new AbortController();
    const late = sleep(READING_MS + SECOND, undefined, { signal: over.signal, ref: false }).catch(() => undefined);
    try {
      const read = await Promise.race([reading, late]);
      if (read) return read;
      this.#late = reading.catch(() => undefined).finally(() => (this.#late = undefined));
      throw new StoreError("away", LATE);
    } finally {
      over.abort();
    }
  }

  #tell(): void {
    for (const watcher of this.#watchers) watcher(this.state);
  }

  /** Never read, it is asked for every second at first, and then ever more seldom. */
  #pauseMs(): number {
    const { refreshSeconds = this.#store.usualRefresh ?? USUAL_REFRESH } = this.#refreshing;
    const usualMs = refreshSeconds * SECOND;
    const pauseMs = this.#current ? usualMs : Math.min(usualMs, SECOND * 2 ** Math.min(this.#failures, 10));
    return pauseMs * (1 - SPREAD + 2 * SPREAD * Math.random());
  }

  #describe(what: string): string {
    const why = this.#failure ? `: ${this.#failure.message}` : "";
    return `the secret of ${this.place} (${this.reference.text}) ${what}${why}`;
  }
}

/** Whoever pastes a secret into a store pastes the end of its line along, or nothing at all. */
function faultOf(text: string): string | undefined {
  if (text.trim() === "") return "it is empty";
  return /[\r\n]/.test(text) && !/^\s*\{/.test(text) ? "it has more than one line" : undefined;
}
