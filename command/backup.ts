// keymeter backup FOLDER: a copy of the books and the secrets, of one instant each, while everything runs. Never into a
// folder that has something.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { LedgerError } from "../ledger/books.ts";
import { copyBook } from "../ledger/backup.ts";
import { RESTORE } from "../service/secret.ts";
import { SIGNING_KEY_FILE } from "../service/signing-key.ts";
import { commandEnvironment, loadCommandConfig } from "./config.ts";
import { createProgress } from "./progress.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter backup FOLDER
  Copies books, secrets and keymeter.yaml into a new folder while everything runs, and looks whether the copies are whole. Each file of the books is
  of one instant. The folder is as secret as the data folder: it holds the pepper and the tokens. docs/operating.md says how it is restored.`;

/** The bills first: a day that is signed between two copies is then not signed in the copy, and is signed again. The
 *  other way round its corrections would be missing under the signature. */
const BOOKS = ["billing", "usage", "notices"] as const;
const FILES = [...Object.keys(RESTORE), SIGNING_KEY_FILE, "price-list.json"];

export async function run(args: string[]): Promise<void> {
  const { positionals } = parseArgs({ args, allowPositionals: true, options: {} });
  const [folder, ...more] = positionals;
  if (folder === undefined || more.length > 0) throw new UsageError(USAGE);
  const { dataDir, ledgerUrl } = loadCommandConfig();
  if (ledgerUrl)
    throw new LedgerError(
      "the books are in Postgres: back them up with pg_dump (docs/fleet.md), and keep the pepper beside them",
    );
  if (!existsSync(join(dataDir, "usage.db")))
    throw new LedgerError(`${resolve(dataDir)} has no books; name the data folder with KEYMETER_DATA_DIR`);
  if (existsSync(folder) && (!statSync(folder).isDirectory() || readdirSync(folder).length > 0))
    throw new UsageError(`${folder} is not an empty folder: a backup goes into a folder of its own`);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    chmodSync(folder, 0o700);
  } catch (error) {
    throw new UsageError(
      `${folder} cannot be made, or is not yours alone (${error instanceof Error ? error.message : String(error)}): choose a folder that you may write, outside the data folder`,
    );
  }
  const progress = createProgress();
  const made: string[] = [];
  for (const name of BOOKS) {
    progress.show(`${name}.db`);
    if (await copyBook(dataDir, name, folder)) made.push(`${name}.db`);
  }
  progress.end();
  for (const name of FILES) {
    const from = join(dataDir, name);
    if (!existsSync(from)) continue;
    copyFileSync(from, join(folder, name));
    chmodSync(join(folder, name), 0o600);
    made.push(name);
  }
  const settings = commandEnvironment()["KEYMETER_CONFIG"] ?? "keymeter.yaml";
  if (existsSync(settings)) {
    copyFileSync(settings, join(folder, "keymeter.yaml"));
    chmodSync(join(folder, "keymeter.yaml"), 0o600);
    made.push("keymeter.yaml");
  }
  process.stdout.write(`${resolve(folder)}: ${made.join(", ")}\n`);
  const missing = Object.keys(RESTORE).filter((name) => !made.includes(name));
  if (missing.length > 0)
    process.stderr.write(
      `Not in the data folder, so not in the backup: ${missing.join(", ")}. What was given in the environment is to be kept where you keep your other secrets; without the pepper no key is known.\n`,
    );
  process.stderr.write(`\`KEYMETER_DATA_DIR=${resolve(folder)} npx keymeter verify\` recomputes the copy.\n`);
}
