// Things at the provider that a key's request made: files, caches, conversations, batches. At the provider all Keymeter
// keys of one credential are one account; here each thing has the key that made it. In memory, so that a body full of
// names waits for no disk; what memory no longer holds is asked of the books.
import { readThingOwners, readThings } from "../ledger/usage/things.ts";
import type { UsageBooks } from "../ledger/books.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import type { Log } from "../service/log.ts";
import { createNewest } from "./newest.ts";

export type Things = {
  /** Remembers what a key made, so that the key may reach it, and writes it down. Resolves when it is durable. Never
   *  rejects. */
  own(provider: string, keyId: string, names: readonly string[]): Promise<void>;
  /** Remembers what the books have already. */
  remember(provider: string, keyId: string, names: readonly string[]): void;
  /** The key that made it; undefined: none through this Keymeter. */
  ownerOf(provider: string, name: string): Promise<string | undefined>;
  /** The keys that made any of these. */
  ownersOf(provider: string, names: readonly string[]): Promise<string[]>;
};

/** Names in memory: some 100 MB of them. */
const MOST_REMEMBERED = 500_000;

export async function createThings(books: UsageBooks, writer: Writer, log: Log): Promise<Things> {
  const owners = createNewest<string>(MOST_REMEMBERED);
  const nameOf = (provider: string, name: string): string => `${provider}\n${name}`;
  /** Whether the books hold more than memory does. */
  let isPart = writer.isOneOfMany;

  const remember: Things["remember"] = (provider, keyId, names) => {
    for (const name of names) {
      const key = nameOf(provider, name);
      // The first that made it stays its owner, as in the books.
      if (owners.has(key)) continue;
      if (owners.set(key, keyId)) isPart = true;
    }
  };
  const ownersOf: Things["ownersOf"] = async (provider, names) => {
    const known = names.map((name) => owners.get(nameOf(provider, name)));
    const missing = isPart ? names.filter((_, i) => known[i] === undefined) : [];
    const older = missing.length > 0 ? await readThingOwners(books, provider, missing) : undefined;
    return [...known.filter((owner) => owner !== undefined), ...(older?.values() ?? [])];
  };

  for await (const { provider, name, keyId } of readThings(books, MOST_REMEMBERED + 1))
    remember(provider, keyId, [name]);

  return {
    remember,
    async own(provider, keyId, names) {
      if (names.length === 0) return;
      remember(provider, keyId, names);
      // Their instant, by which the newest are read first after a start: no attempt stands behind every thing.
      await writer.own(writer.nextAttemptId(), provider, keyId, names).catch((error: unknown) => {
        // The thing is there all the same; after a restart its key has to ask whoever runs Keymeter for it.
        log.error({ err: error, provider, keyId }, "what a key made could not be written down");
      });
    },
    ownersOf,
    ownerOf: async (provider, name) => (await ownersOf(provider, [name]))[0],
  };
}
