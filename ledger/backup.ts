// Copies of books, and whether books are whole. A copy is of one instant, and is made while everything runs.
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { LedgerError } from "./books.ts";
import type { BookName, Books } from "./books.ts";
import { openForReading } from "./sqlite.ts";
import { damageOf } from "./engine.ts";

/** Copies a book of a data folder into another folder and looks whether the copy is whole. False: there is none yet.
 *  Rejects with a LedgerError when the copy cannot be relied on. */
export async function copyBook(dataDir: string, name: BookName, folder: string): Promise<boolean> {
  const from = openForReading(join(dataDir, `${name}.db`));
  if (!from) return false;
  const to = join(folder, `${name}.db`);
  // In one read, so that nothing which is written meanwhile makes it begin anew.
  from.prepare("VACUUM INTO ?").run(to);
  from.close();
  chmodSync(to, 0o600);
  const copy = openForReading(to);
  const damage = copy ? String(copy.pragma("quick_check(1)", { simple: true })) : "nothing is in it";
  copy?.close();
  if (damage !== "ok") throw new LedgerError(`${to} is not whole (${damage}); nothing of this backup can be relied on`);
  return true;
}

/** What is wrong with a book that is open, in the storage's words; undefined: it is whole. */
export function findDamage(books: Books<BookName>): Promise<string | undefined> {
  return damageOf(books);
}
