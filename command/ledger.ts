// keymeter ledger migrate|move: books in Postgres.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { LedgerError } from "../ledger/books.ts";
import type { BookName, UsageBooks } from "../ledger/books.ts";
import { compareMoved, copyToFolder, copyToPostgres, runningOn } from "../ledger/move.ts";
import { lockForWriting, openUsage } from "../ledger/open.ts";
import { migratePostgres, shownUrl } from "../ledger/postgres.ts";
import { openWriter } from "../ledger/usage/writer.ts";
import type { SharedConfig } from "../service/config.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter ledger migrate [--programs ROLE]  makes the books in the Postgres database of KEYMETER_LEDGER_URL, or brings them up to date
  As the role that owns them; programs may run meanwhile. ROLE: another one, as which the programs connect: it reads and writes rows, alters no
  table, and changes no event, no correction and no record of the audit.
keymeter ledger move --to postgres://...   copies the books of the data folder into a database that was migrated
keymeter ledger move --to FOLDER           copies the books of KEYMETER_LEDGER_URL into a folder that has none
  All programs have to be stopped. What was copied is compared: sums by day and key, and the audit's head. The old books stay where they are.
  Asked again after it was interrupted it goes on. docs/fleet.md says more.`;

const BOOKS = ["usage", "billing", "notices"] as const satisfies readonly BookName[];

export async function run(args: string[]): Promise<void> {
  const [verb, ...more] = args;
  const config = loadCommandConfig();
  if (verb === "migrate") {
    const { values } = parseArgs({ args: more, options: { programs: { type: "string" } } });
    return migrate(config, values.programs);
  }
  if (verb !== "move") throw new UsageError(USAGE);
  const { to } = parseArgs({ args: more, options: { to: { type: "string" } } }).values;
  if (to === undefined) throw new UsageError(USAGE);
  const startedAt = performance.now();
  const isToPostgres = /^postgres(?:ql)?:\/\//.test(to);
  const counts = isToPostgres ? await moveToPostgres(config, to) : await moveToFolder(config, to);
  const [from, target] = [isToPostgres ? config.dataDir : urlOf(config), to];
  const head = await withBooks(from, (one) => withBooks(target, (other) => compareMoved(one, other)));
  const events = counts.get("events") ?? 0;
  const seconds = Math.round((performance.now() - startedAt) / 1000);
  process.stdout.write(
    `${events} events were copied in ${seconds} s; sums by day and key are the same, and so is the audit's head (${head.seq}:${head.hash}).\n` +
      (isToPostgres
        ? "Start the programs with KEYMETER_LEDGER_URL. The folder keeps the secrets; its books are not written any more.\n"
        : `Start the programs without KEYMETER_LEDGER_URL, on ${to}: copy the secrets of the old data folder into it first.\n`),
  );
}

async function migrate(config: SharedConfig, programs: string | undefined): Promise<void> {
  const url = urlOf(config);
  const made = await migratePostgres(url, programs);
  process.stdout.write(
    made.length === 0 ? `${shownUrl(url)} is up to date\n` : `${shownUrl(url)}: ${made.join(", ")}\n`,
  );
}

function urlOf({ ledgerUrl }: SharedConfig): string {
  if (!ledgerUrl)
    throw new LedgerError(
      "KEYMETER_LEDGER_URL is not set: without it the books are SQLite files in the data folder, which the programs bring up to date themselves",
    );
  return ledgerUrl.reveal();
}

/** Holds the folder's books, so that nobody writes them meanwhile. */
async function moveToPostgres(
  { dataDir, timezone, tagsInBudgets }: SharedConfig,
  to: string,
): Promise<ReadonlyMap<string, number>> {
  // What a process left open that died is booked first, as its next start would.
  const path = join(dataDir, "usage.db");
  await (await openWriter({ path, durability: "power", zone: timezone, capMode: "enforce", tagsInBudgets })).close();
  const locks = BOOKS.map((book) => lockForWriting(join(dataDir, `${book}.db`)));
  try {
    return await copyToPostgres(dataDir, to);
  } finally {
    for (const lock of locks) lock.release();
  }
}

async function moveToFolder(config: SharedConfig, to: string): Promise<ReadonlyMap<string, number>> {
  const running = await runningOn(urlOf(config));
  if (running.length > 0)
    throw new LedgerError(`the database is in use: ${running.join("; ")}. Stop all of them first.`);
  return copyToFolder(urlOf(config), to);
}

async function withBooks<T>(place: string, read: (books: UsageBooks) => Promise<T>): Promise<T> {
  const books = await openUsage(place);
  if (!books) throw new LedgerError("there are no books where they were copied");
  try {
    return await read(books);
  } finally {
    await books.close();
  }
}
