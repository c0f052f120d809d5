// Books on a connection that a test holds itself: what it wrote with SQL, asked as programs ask.
import type { BookName, Books } from "../ledger/books.ts";
import type { Sqlite } from "../ledger/sqlite.ts";
import { sqliteBooks } from "../ledger/sqlite-books.ts";

/** Reads and writes over this one connection; closing the books closes it. */
export function booksOn<Name extends BookName>(sqlite: Sqlite): Books<Name> {
  return sqliteBooks<Name>(sqlite, sqlite);
}
