// The two books of the collector: billing.db, which it alone writes, and usage.db, which the proxy makes. Held from
// here until they are closed.
import { setTimeout as sleep } from "node:timers/promises";
import type { UsageBooks } from "../ledger/books.ts";
import { openToWrite, openUsage } from "../ledger/open.ts";
import { noBooks } from "../service/admin.ts";
import { placeOf } from "../service/config.ts";
import type { BooksConfig } from "../service/config.ts";
import type { Log } from "../service/log.ts";
import type { CollectorBooks } from "./compare.ts";

const WAIT_FOR_BOOKS_MS = 30_000;

/** `waitMs` 0: whoever asks does not wait for a proxy that never ran. */
export async function openBooks(
  config: BooksConfig,
  log: Log,
  waitMs = WAIT_FOR_BOOKS_MS,
): Promise<{ readonly books: CollectorBooks; readonly close: () => Promise<void> }> {
  const place = placeOf(config);
  if (waitMs === 0 && !(await hasUsage(place))) throw noBooks(`${config.dataDir}/usage.db`);
  // First of all whether a collector has them: it may be of another release, and can do all the same what is asked.
  const standBy = (who: string): void => log.info({ leader: who }, "standing by: another collector leads");
  const billing = await openToWrite(place, "billing", undefined, waitMs > 0 ? standBy : undefined);
  try {
    const usage = await waitForUsage(config, waitMs, log);
    return {
      books: { usage, billing },
      async close() {
        await usage.close();
        await billing.close();
      },
    };
  } catch (error) {
    await billing.close();
    throw error;
  }
}

/** Books that cannot be read are there. */
async function hasUsage(place: string): Promise<boolean> {
  try {
    const books = await openUsage(place);
    await books?.close();
    return books !== undefined;
  } catch {
    return true;
  }
}

/** The proxy makes usage.db; started together, the collector waits for it. */
async function waitForUsage(config: BooksConfig, waitMs: number, log: Log): Promise<UsageBooks> {
  const deadline = Date.now() + waitMs;
  for (;;) {
    const books = await openUsage(placeOf(config));
    if (books) return books;
    if (Date.now() >= deadline)
      throw new Error(
        `${config.dataDir}/usage.db is not there: the proxy makes it. Start the proxy first, or set KEYMETER_DATA_DIR to its data folder.`,
        { cause: "missing" },
      );
    log.debug({ dataDir: config.dataDir }, "waiting for the proxy to make its books");
    await sleep(200);
  }
}
