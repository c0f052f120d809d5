// keymeter ledger migrate: books in Postgres.
import { LedgerError } from "../ledger/books.ts";
import { migratePostgres, shownUrl } from "../ledger/postgres.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter ledger migrate    makes the books in the Postgres database of KEYMETER_LEDGER_URL, or brings them up to date
  For the role that owns them; programs may run meanwhile. docs/operating.md says which rights they need themselves.`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...more] = args;
  if (verb !== "migrate" || more.length > 0) throw new UsageError(USAGE);
  const { ledgerUrl } = loadCommandConfig();
  if (!ledgerUrl)
    throw new LedgerError(
      "KEYMETER_LEDGER_URL is not set: without it the books are SQLite files in the data folder, which the programs bring up to date themselves",
    );
  const made = await migratePostgres(ledgerUrl.reveal());
  const where = shownUrl(ledgerUrl.reveal());
  process.stdout.write(made.length === 0 ? `${where} is up to date\n` : `${where}: ${made.join(", ")}\n`);
}
