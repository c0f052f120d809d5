// The other programs' books, to read: each is opened when it is there, which may be later than we are.
import type { UsageBooks } from "../ledger/books.ts";
import { openBilling, openUsage } from "../ledger/open.ts";
import { createLate } from "../service/late.ts";
import type { FigureBooks } from "./figures.ts";

export type OtherBooks = {
  /** Those that are there by now. */
  readonly now: () => Promise<FigureBooks>;
  readonly usage: () => Promise<UsageBooks | undefined>;
  close(): Promise<void>;
};

export function openOtherBooks(place: string): OtherBooks {
  const usage = createLate(() => openUsage(place));
  const billing = createLate(() => openBilling(place));
  return {
    usage: usage.get,
    now: async () => ({ usage: await usage.get(), billing: await billing.get() }),
    async close() {
      await usage.close();
      await billing.close();
    },
  };
}
