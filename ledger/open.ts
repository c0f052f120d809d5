// How programs come to the books: each opens what it reads, and the one that it writes. Errors are sentences for
// whoever runs Keymeter.
import { join } from "node:path";
import type { BillingBooks, BookName, Books, NoticesBooks, UsageBooks } from "./books.ts";
import { hasApplied, lockForWriting, openForReading, openForWriting } from "./sqlite.ts";
import type { Durability } from "./sqlite.ts";
import { sqliteBooks } from "./sqlite-books.ts";

export { hasApplied, lockForWriting };
export type { Durability };

/** Opens a book of a data folder for reading. Undefined while nothing has written it yet. Rejects with a
 *  LedgerError. */
export function openUsage(dataDir: string): Promise<UsageBooks | undefined> {
  return openToRead(dataDir, "usage");
}

export function openBilling(dataDir: string): Promise<BillingBooks | undefined> {
  return openToRead(dataDir, "billing");
}

export function openNotices(dataDir: string): Promise<NoticesBooks | undefined> {
  return openToRead(dataDir, "notices");
}

/** Opens a book for its one writer, and makes it when it is missing. Rejects with LedgerInUse when another process has
 *  it. */
export async function openToWrite<Name extends Exclude<BookName, "usage">>(
  dataDir: string,
  name: Name,
  durability: Durability = "power",
): Promise<Books<Name>> {
  const path = pathOf(dataDir, name);
  const lock = lockForWriting(path);
  try {
    const writing = openForWriting(path, name, durability);
    const reading = openForReading(path);
    if (!reading) throw new Error(`${path} was made and cannot be read`);
    return sqliteBooks<Name>(reading, writing, () => lock.release());
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function openToRead<Name extends BookName>(dataDir: string, name: Name): Promise<Books<Name> | undefined> {
  const reading = openForReading(pathOf(dataDir, name));
  return reading && sqliteBooks<Name>(reading);
}

function pathOf(dataDir: string, name: BookName): string {
  return join(dataDir, `${name}.db`);
}
