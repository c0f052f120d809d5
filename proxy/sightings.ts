// From where each key is used: noted in memory on every request, written down once a minute. A key that turns up
// somewhere new is a hint, when more is billed on it than was metered.
import type { Writer } from "../ledger/usage/writer.ts";
import type { Log } from "../service/log.ts";

export type Sightings = {
  see(keyId: string, address: string, nowMs: number): void;
  /** Writes down what was seen since the last time. */
  flush(): Promise<void>;
};

/** More than this in a minute is no hint any more. */
const MOST_SEEN = 10_000;

export function createSightings(writer: Writer, log: Log): Sightings {
  let seen = new Map<string, Map<string, number>>();
  let count = 0;
  return {
    see(keyId, address, nowMs) {
      let addresses = seen.get(keyId);
      if (!addresses) seen.set(keyId, (addresses = new Map()));
      if (!addresses.has(address) && (count += 1) > MOST_SEEN) return;
      addresses.set(address, nowMs);
    },
    async flush() {
      if (count === 0) return;
      const rows = [...seen].flatMap(([keyId, addresses]) =>
        [...addresses].map(([address, atMs]) => ({ keyId, address, atMs })),
      );
      seen = new Map();
      count = 0;
      await writer.noteSeen({ addresses: rows }).catch((error: unknown) => {
        log.warn({ err: error }, "where keys were used could not be written down");
      });
    },
  };
}
