// Staging in stores whose newest version is the current one, at once and for everybody: what is to follow waits in a secret of its
// own, NAME-next; what it followed is an earlier version.
import type { Reference } from "./reference.ts";
import { fieldOf, withField } from "./store.ts";
import type { Staging } from "./store.ts";

/** One secret of such a store. Texts are whole; each call rejects with a StoreError. */
export type Versions = {
  current(signal: AbortSignal): Promise<string>;
  /** Of the versions that can be read, the newest first; it may begin with the current one. */
  history(signal: AbortSignal): AsyncIterable<string>;
  /** A new version. */
  write(text: string, signal: AbortSignal): Promise<void>;
  /** The secret beside it; it need not be there. */
  readonly next: {
    read(signal: AbortSignal): Promise<string | undefined>;
    write(text: string, signal: AbortSignal): Promise<void>;
    /** None of its versions can be read any more. */
    drop(signal: AbortSignal): Promise<void>;
  };
};

/** Others may write other fields: versions that have the same value are one. */
const MOST_VERSIONS = 20;

/** Staging by such versions. Its calls reject with a StoreError. */
export function stagingOfVersions(reference: Reference, versions: Versions): Staging {
  const { next } = versions;
  const valueIn = (text: string): string => fieldOf(text, reference).replace(/\r?\n$/, "");
  /** Of what holds several, only the one field is taken along. */
  const makeCurrent = async (value: string, signal: AbortSignal): Promise<void> => {
    const now = await versions.current(signal);
    if (valueIn(now) !== value) await versions.write(withField(now, reference, value), signal);
  };
  const staged = async (signal: AbortSignal): Promise<string | undefined> => {
    const text = await next.read(signal);
    return text === undefined ? undefined : valueIn(text);
  };
  const previous = async (signal: AbortSignal): Promise<string | undefined> => {
    const now = valueIn(await versions.current(signal));
    let seen = 0;
    for await (const text of versions.history(signal)) {
      const value = valueIn(text);
      if (value !== now) return value;
      if ((seen += 1) >= MOST_VERSIONS) break;
    }
    return undefined;
  };
  return {
    write: makeCurrent,
    stage: async (value, signal) => next.write(withField(await versions.current(signal), reference, value), signal),
    staged,
    previous,
    async promote(signal) {
      const value = await staged(signal);
      if (value !== undefined) await makeCurrent(value, signal);
      await next.drop(signal);
    },
    async restore(signal) {
      const value = await previous(signal);
      if (value !== undefined) await makeCurrent(value, signal);
    },
    clear: (signal) => next.drop(signal),
  };
}
