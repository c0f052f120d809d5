// A word where an answer is of events that have left the books.
import type { UsageBooks } from "../ledger/books.ts";
import { readKeptFrom } from "../ledger/usage/retention.ts";

/** Says on stderr what an answer that is made of events does not count, where it goes back further than they do. */
export async function noteKept(books: UsageBooks, sinceMs: number | undefined): Promise<void> {
  const keptMs = await readKeptFrom(books);
  if (keptMs === undefined || (sinceMs !== undefined && sinceMs >= keptMs)) return;
  process.stderr.write(
    `Events before ${new Date(keptMs).toISOString().slice(0, 10)} (UTC) have left the books for files (retention): they are not counted here.\n`,
  );
}
