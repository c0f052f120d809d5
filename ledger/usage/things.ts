// Things that keys made at providers: files, caches, conversations, batches. At the provider all keys of one credential
// are one account; here each name has the key that made it, the first one for ever. Whether anything of it goes on is
// no matter of this table.
import type { UsageBooks } from "../books.ts";
import { and, eq, inArray } from "../drizzle.ts";
import { rowsOf, tablesOf } from "../engine.ts";
import { things } from "./schema.ts";

/** Names that are asked for in one query. */
const MOST_ASKED = 500;

/** The newest `most` of all, oldest of these first. */
export async function* readThings(
  books: UsageBooks,
  most: number,
): AsyncGenerator<{ readonly provider: string; readonly name: string; readonly keyId: string }> {
  const rows = await rowsOf<[provider: string, name: string, keyId: string]>(
    books,
    `SELECT provider, name, key_id FROM (SELECT * FROM things ORDER BY attempt_id DESC LIMIT ?) AS newest
    ORDER BY attempt_id, provider, name`,
    most,
  );
  for (const [provider, name, keyId] of rows) yield { provider, name, keyId };
}

/** The keys that made things at a provider, by name; those that nobody made through this ledger are not among them. */
export async function readThingOwners(
  books: UsageBooks,
  provider: string,
  names: readonly string[],
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (let i = 0; i < names.length; i += MOST_ASKED) {
    // Others get a turn in between.
    if (i > 0) await new Promise((resolve) => setImmediate(resolve));
    const rows = await tablesOf(books)
      .select({ name: things.name, keyId: things.keyId })
      .from(things)
      .where(and(eq(things.provider, provider), inArray(things.name, names.slice(i, i + MOST_ASKED))))
      .all();
    for (const { name, keyId } of rows) found.set(name, keyId);
  }
  return found;
}
