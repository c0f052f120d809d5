// How programs come to the books: each opens what it reads, and the one that it writes. Errors are sentences for
// whoever runs Keymeter.
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LedgerInUse } from "./books.ts";
import type { BillingBooks, BookName, Books, NoticesBooks, UsageBooks } from "./books.ts";
import { hasApplied, lockForWriting, openForReading, openForWriting } from "./sqlite.ts";
import type { Durability } from "./sqlite.ts";
import { sqliteBooks } from "./sqlite-books.ts";

export { hasApplied, lockForWriting };
export type { Durability };

/** Opens a book for reading. `place`: a data folder, or the URL of a Postgres database. Undefined while nothing has
 *  written it yet. Rejects with a LedgerError. */
export function openUsage(place: string): Promise<UsageBooks | undefined> {
  return openToRead(place, "usage");
}

export function openBilling(place: string): Promise<BillingBooks | undefined> {
  return openToRead(place, "billing");
}

export function openNotices(place: string): Promise<NoticesBooks | undefined> {
  return openToRead(place, "notices");
}

/** Opens a book for its one writer, and makes it when it is missing. Rejects with LedgerInUse when another process has
 *  it; in a database it waits until that has it no more, where `onWait` is given, which hears who it is. */
export async function openToWrite<Name extends Exclude<BookName, "usage">>(
  place: string,
  name: Name,
  durability: Durability = "power",
  onWait?: (who: string) => void,
): Promise<Books<Name>> {
  if (isPostgresUrl(place)) return openPostgres(place, name, { onWait });
  const path = pathOf(place, name);
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

/** Resolves when no process has the books of usage in a folder, or the folder itself. Who comes first has them then. */
export async function waitForBooks(dataDir: string, name: "usage.db" | "keymeter" = "usage.db"): Promise<void> {
  for (;;) {
    try {
      return lockForWriting(join(dataDir, name)).release();
    } catch (error) {
      if (!(error instanceof LedgerInUse)) throw error;
    }
    await sleep(LOOK_MS);
  }
}

const LOOK_MS = 25;

async function openToRead<Name extends BookName>(place: string, name: Name): Promise<Books<Name> | undefined> {
  if (isPostgresUrl(place)) return openPostgres(place, name);
  const reading = openForReading(pathOf(place, name));
  return reading && sqliteBooks<Name>(reading);
}

/** What Postgres takes is loaded where the books are there. */
async function openPostgres<Name extends BookName>(
  url: string,
  name: Name,
  writing?: { readonly onWait: ((who: string) => void) | undefined },
): Promise<Books<Name>> {
  const [{ openPool }, { postgresBooks }, { lead }] = await Promise.all([
    import("./postgres.ts"),
    import("./postgres-books.ts"),
    import("./leader.ts"),
  ]);
  const { pool, release } = await openPool(url);
  if (!writing) return postgresBooks(pool, name, { isReadOnly: true, closed: release });
  try {
    const leader = await lead(
      pool,
      name,
      `the writer of ${name} on ${hostname()}, process ${process.pid}`,
      writing.onWait,
    );
    return postgresBooks(pool, name, { isReadOnly: false, leader, closed: release });
  } catch (error) {
    await release();
    throw error;
  }
}

function isPostgresUrl(place: string): boolean {
  return /^postgres(?:ql)?:\/\//.test(place);
}

function pathOf(dataDir: string, name: BookName): string {
  return join(dataDir, `${name}.db`);
}
