// The command's way to the books: reading is free; a change goes through the program that owns the file.
import type { Scope } from "../ledger/budgets.ts";
import type { Change } from "../ledger/usage/changes.ts";
import type { UsageBooks } from "../ledger/books.ts";
import { openUsage } from "../ledger/open.ts";
import { askProxy, makeChange as changeBooks, noBooks, ProgramGone } from "../service/admin.ts";
import { placeOf } from "../service/config.ts";
import type { BooksConfig } from "../service/config.ts";

/** Opens usage.db for reading, or says that there is none yet. */
export async function requireUsage(config: BooksConfig): Promise<UsageBooks> {
  const books = await openUsage(placeOf(config));
  if (!books) throw noBooks(`${config.dataDir}/usage.db`);
  return books;
}

/** Makes a change, whoever owns the books now. Throws ChangeRefused or LedgerError. */
export async function makeChange(config: Parameters<typeof changeBooks>[0], change: Change): Promise<void> {
  await changeBooks(config, change, "command");
}

/** Ends what goes on now in a scope; 0 when no proxy runs. */
export async function cutLive(config: Parameters<typeof changeBooks>[0], scope: Scope): Promise<number> {
  try {
    const answer = (await askProxy(config, "POST", "/admin/cut", JSON.stringify(scope))) as { cut: number };
    return answer.cut;
  } catch (error) {
    if (error instanceof ProgramGone) return 0;
    throw error;
  }
}
