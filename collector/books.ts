// The two books of the collector: billing.db, which it alone writes, and usage.db, which the proxy makes. Held from
// here until they are closed.
import { setTimeout as sleep } from "node:timers/promises";
import type { UsageBooks } from "../ledger/books.ts";
import { openToWrite, openUsage } from "../ledger/open.ts";
import { noBooks } from "../service/admin.ts";
import type { Log } from "../service/log.ts";
import type { CollectorBooks } from "./compare.ts";

const WAIT_FOR_BOOKS_MS = 30_000;

/** `waitMs` 0: whoever asks does not wait for a proxy that never ran. */
export async function openBooks(
  { dataDir }: { readonly dataDir: string },
  log: Log,
  waitMs = WAIT_FOR_BOOKS_MS,
): Promise<{ readonly books: CollectorBooks; readonly close: () => Promise<void> }> {
  const early = waitMs === 0 ? await openUsage(dataDir) : undefined;
  if (waitMs === 0 && !early) throw noBooks(`${dataDir}/usage.db`);
  const billing = await openToWrite(dataDir, "billing");
  try {
    const usage = early ?? (await waitForUsage(dataDir, log));
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

/** The proxy makes usage.db; started together, the collector waits for it. */
async function waitForUsage(dataDir: string, log: Log): Promise<UsageBooks> {
  const deadline = Date.now() + WAIT_FOR_BOOKS_MS;
  while (Date.now() < deadline) {
    const books = await openUsage(dataDir);
    if (books) return books;
    log.debug({ dataDir }, "waiting for the proxy to make its books");
    await sleep(200);
  }
  throw new Error(
    `${dataDir}/usage.db is not there: the proxy makes it. Start the proxy first, or set KEYMETER_DATA_DIR to its data folder.`,
    { cause: "missing" },
  );
}
