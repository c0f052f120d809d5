// Things that keys made at providers: files, caches, conversations, batches. At the provider all keys of one credential are one account;
// here each name has the key that made it, the first one for ever. Whether anything of it goes on is no matter of this table.
import { sqliteOf } from "../sqlite-books.ts";
import type { UsageBooks } from "../books.ts";

/** Changes nothing where the name is known. */
export const INSERT_THING = "INSERT OR IGNORE INTO things (provider, name, key_id, attempt_id) VALUES (?, ?, ?, ?)";

/** The newest `most` of all, oldest of these first. */
export async function* readThings(
  books: UsageBooks,
  most: number,
): AsyncGenerator<{ readonly provider: string; readonly name: string; readonly keyId: string }> {
  const database = sqliteOf(books);
  const rows = database
    .prepare(
      "SELECT provider, name, key_id AS keyId FROM (SELECT * FROM things ORDER BY attempt_id DESC LIMIT ?) ORDER BY attempt_id",
    )
    .iterate(most);
  for (const row of rows) yield row as { provider: string; name: string; keyId: string };
}

/** Looks for the key that made a thing; undefined: none through this ledger. */
export function createThingReader(books: UsageBooks): (provider: string, name: string) => string | undefined {
  const database = sqliteOf(books);
  const find = database.prepare("SELECT key_id FROM things WHERE provider = ? AND name = ?").pluck();
  return (provider, name) => find.get(provider, name) as string | undefined;
}
