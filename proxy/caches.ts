// The caches at providers that passed lately: their model, which a change of one does not name, and until when their
// storage is booked, so that no hour of it is booked twice. What is not known any more is booked from the change on.
import type { Call } from "./dialects/call.ts";
import type { Reading } from "./dialects/reading.ts";
import { createNewest } from "./newest.ts";

type Kept = NonNullable<Reading["keeps"]>;

export type Caches = {
  remember(provider: string, kept: Kept): void;
  /** The call with what is known of the cache that it changes. */
  known(provider: string, call: Call): Call;
};

const MOST_REMEMBERED = 10_000;

export function createCaches(): Caches {
  const caches = createNewest<Kept>(MOST_REMEMBERED);
  // Vertex answers with a longer name than stands in its paths.
  const nameOf = (provider: string, name: string): string =>
    `${provider}\n${name.replace(/^.*\/(?=cachedContents\/)/, "")}`;
  return {
    remember(provider, kept) {
      const key = nameOf(provider, kept.name);
      // Of two changes at once the later end counts, whichever is booked last.
      const untilMs = Math.max(kept.untilMs, caches.get(key)?.untilMs ?? 0);
      caches.set(key, { ...kept, untilMs });
    },
    known(provider, call) {
      const kept = call.cache && caches.get(nameOf(provider, call.cache.name));
      if (!call.cache || !kept) return call;
      const model = call.cache.isModelOpen ? kept.model : call.model;
      return { ...call, model, cache: { ...call.cache, bookedUntilMs: kept.untilMs } };
    },
  };
}
