// The two books of the collector: billing.db, which it alone writes, and usage.db, which the proxy makes. Held from here until they are closed.
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { lockForWriting, openForReading, openForWriting } from "../ledger/open.ts";
import type { Sqlite } from "../ledger/open.ts";
import { noBooks } from "../service/admin.ts";
import type { Log } from "../service/log.ts";
import type { Books } from "./compare.ts";

const WAIT_FOR_BOOKS_MS = 30_000;

/** `waitMs` 0: whoever asks does not wait for a proxy that never ran. */
export async function openBooks(
  { dataDir }: { readonly dataDir: string },
  log: Log,
  waitMs = WAIT_FOR_BOOKS_MS,
): Promise<{ readonly books: Books; readonly close: () => void }> {
  if (waitMs === 0 && !existsSync(`${dataDir}/usage.db`)) throw noBooks(`${dataDir}/usage.db`);
  const path = `${dataDir}/billing.db`;
  const lock = lockForWriting(path);
  try {
    const billing = openForWriting(path, "billing", "power");
    const usage = await waitForBooks(`${dataDir}/usage.db`, log);
    return {
      books: { usage, billing },
      close() {
        usage.close();
        billing.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** The proxy makes usage.db; started together, the collector waits for it. */
async function waitForBooks(path: string, log: Log): Promise<Sqlite> {
  const deadline = Date.now() + WAIT_FOR_BOOKS_MS;
  while (Date.now() < deadline) {
    const books = existsSync(path) ? openForReading(path) : undefined;
    if (books && Number(books.pragma("user_version", { simple: true })) > 0) return books;
    books?.close();
    log.debug({ path }, "waiting for the proxy to make its books");
    await sleep(200);
  }
  throw new Error(
    `${path} is not there: the proxy makes it. Start the proxy first, or set KEYMETER_DATA_DIR to its data folder.`,
    { cause: "missing" },
  );
}
