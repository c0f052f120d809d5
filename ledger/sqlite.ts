// Opens a ledger file: who may write, how durable a commit is, and whether this program knows the schema. Every way in
// goes through here. A file that cannot be trusted is refused with a sentence; nothing is repaired or made anew.
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import Database from "better-sqlite3";
import { LedgerError, LedgerInUse } from "./books.ts";
import type { BookName } from "./books.ts";
import { mendSchema } from "./mend-schema.ts";

/** `power`: each commit survives a power cut (fsync in the commit). `process`: each commit survives the end of the
 *  process; an fsync every 100 ms bounds what a power cut may take. */
export type Durability = "power" | "process";

export type Sqlite = Database.Database;
export type Statement = Database.Statement;

/** SQLite before 3.51.3 can corrupt a WAL file when two connections write and checkpoint at once. */
const OLDEST_SQLITE = [3, 51, 3];
const LOG_PAGES = 4_000;
const PAGE_BYTES = 4_096;
const PRIVATE = 0o600;
const MOST_CHECKED_BYTES = 256 * 1024 * 1024;

const MIGRATIONS: { readonly [set in BookName]: RegExp } = {
  usage: /^\d{4}-usage/,
  billing: /^\d{4}-billing/,
  notices: /^\d{4}-notices/,
};

/** A held lock: one program per ledger file. The operating system lets go of it when the process ends, however it
 *  ends. */
export type Lock = { release(): void };

/** Takes the right to write the file, or says who cannot: a second program on one file is refused. */
export function lockForWriting(path: string): Lock {
  return explain(path, () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    keepPrivate(`${path}.lock`);
    const lock = new Database(`${path}.lock`, { timeout: 0 });
    try {
      lock.pragma("locking_mode = EXCLUSIVE");
      lock.exec("BEGIN EXCLUSIVE");
    } catch (error) {
      lock.close();
      if (isSqliteError(error, "SQLITE_BUSY")) {
        throw new LedgerInUse(
          `${path} is in use by another Keymeter process. Stop that one first, or give this one a data folder of its own (KEYMETER_DATA_DIR).`,
        );
      }
      throw error;
    }
    return { release: () => lock.close() };
  });
}

/** Opens the file for its one writer, makes it when it is missing, and brings its schema up to date in one
 *  transaction. The caller holds the lock. */
export function openForWriting(path: string, set: BookName, durability: Durability): Sqlite {
  return explain(path, () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    refuseForeignFile(path);
    refuseBesideRescued(path);
    keepPrivate(path);
    const database = new Database(path, { timeout: 2000 });
    database.defaultSafeIntegers(true);
    try {
      requireSqliteVersion(database);
      database.pragma("journal_mode = WAL");
      const synchronous = durability === "power" ? 2 : 1;
      database.pragma(`synchronous = ${synchronous}`);
      database.pragma("foreign_keys = ON");
      database.pragma(`wal_autocheckpoint = ${LOG_PAGES}`);
      checkWhole(database, path);
      migrate(database, path, set);
      if (set === "usage") growLog(database);
      // better-sqlite3 is built with NORMAL as WAL's default and falls back to it: read back what we rely on.
      const inForce = Number(database.pragma("synchronous", { simple: true }));
      if (inForce !== synchronous)
        throw new LedgerError(
          `${path}: SQLite runs with synchronous=${String(inForce)} instead of ${synchronous}; refusing to promise durability.`,
        );
      return database;
    } catch (error) {
      database.close();
      throw error;
    }
  });
}

/** Books in memory, with the schema of a file and nothing in them: to play through what was done to real ones. */
export function openScratch(set: BookName): Sqlite {
  const database = new Database(":memory:");
  database.defaultSafeIntegers(true);
  database.pragma("foreign_keys = ON");
  migrate(database, ":memory:", set);
  return database;
}

/** Opens the file for reading only. Undefined when it does not exist yet. */
export function openForReading(path: string): Sqlite | undefined {
  if (!existsSync(path)) return undefined;
  return explain(path, () => {
    const database = new Database(path, { readonly: true, fileMustExist: true, timeout: 2000 });
    database.defaultSafeIntegers(true);
    const known = knownVersion(setOf(path));
    const version = Number(database.pragma("user_version", { simple: true }));
    if (version === known) return database;
    database.close();
    // Made, and not filled yet.
    if (version === 0) return undefined;
    throw version > known
      ? newer(path, version, known)
      : new LedgerError(
          `${path} was written by an older Keymeter (schema ${version}, this one needs ${known}). Start the program that writes it once; it brings the file up to date.`,
        );
  });
}

/** Whether an error is SQLite's, of one of these codes or their extended forms. */
export function isSqliteError(error: unknown, ...codes: string[]): boolean {
  return (
    error instanceof Database.SqliteError &&
    codes.some((code) => error.code === code || error.code.startsWith(`${code}_`))
  );
}

function migrate(database: Sqlite, path: string, set: BookName): void {
  const version = Number(database.pragma("user_version", { simple: true }));
  const files = migrationFiles(set);
  if (version > files.length) throw newer(path, version, files.length);
  const digests = files.map((file) => [file, digestOf(file)] as const);
  const isKnown = database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").get() !== undefined;
  if (isKnown) refuseEdited(database, path, digests.slice(0, version));
  if (isKnown && version === files.length) return;
  database
    .transaction(() => {
      // Files of before digests were kept may have other tables than their version says.
      if (!isKnown && version > 0) mendSchema(database, set, version);
      for (const file of files.slice(version))
        database.exec(readFileSync(new URL(`./migrations/${file}`, import.meta.url), "utf8"));
      database.exec("CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, digest TEXT NOT NULL) STRICT");
      const insert = database.prepare("INSERT OR IGNORE INTO migrations (name, digest) VALUES (?, ?)");
      for (const one of digests) insert.run(...one);
      database.pragma(`user_version = ${files.length}`);
    })
    .immediate();
}

/** Whether a file, of whatever version, has a migration; undefined: there is no such file yet, or nothing is in it. */
export function hasApplied(path: string, migration: string): boolean | undefined {
  if (!existsSync(path)) return undefined;
  return explain(path, () => {
    const database = new Database(path, { readonly: true, fileMustExist: true, timeout: 2000 });
    try {
      const has = (table: string): boolean =>
        database.prepare("SELECT 1 FROM sqlite_master WHERE name = ?").get(table) !== undefined;
      if (!has("meta") && !has("events")) return undefined;
      return (
        has("migrations") && database.prepare("SELECT 1 FROM migrations WHERE name = ?").get(migration) !== undefined
      );
    } finally {
      database.close();
    }
  });
}

/** A migration that was applied and then edited would leave files of one version with different tables. */
function refuseEdited(database: Sqlite, path: string, digests: readonly (readonly [string, string])[]): void {
  const applied = new Map(
    (database.prepare("SELECT name, digest FROM migrations").all() as { name: string; digest: string }[]).map(
      ({ name, digest }) => [name, digest],
    ),
  );
  const edited = digests.find(([name, digest]) => (applied.get(name) ?? digest) !== digest)?.[0];
  if (edited !== undefined)
    throw new LedgerError(
      `${path}: ledger/migrations/${edited} is not what was applied to this file. Bring it back from the release that is installed, and put what is new into a migration of its own.`,
    );
}

function digestOf(file: string): string {
  const text = readFileSync(new URL(`./migrations/${file}`, import.meta.url));
  return createHash("sha256").update(text).digest("hex");
}

function migrationFiles(set: BookName): string[] {
  return readdirSync(new URL("./migrations/", import.meta.url))
    .filter((file) => file.endsWith(".sql") && MIGRATIONS[set].test(file))
    .toSorted();
}

/** What a file holds, by its name. */
function setOf(path: string): BookName {
  return (Object.keys(MIGRATIONS) as BookName[]).find((set) => path.endsWith(`${set}.db`)) ?? "usage";
}

function knownVersion(set: BookName): number {
  return migrationFiles(set).length;
}

function newer(path: string, version: number, known: number): LedgerError {
  return new LedgerError(
    `${path} was written by a newer Keymeter (schema ${version}, this one knows ${known}). Start that version, or restore a backup made before the upgrade.`,
  );
}

function requireSqliteVersion(database: Sqlite): void {
  const version = String(database.prepare("SELECT sqlite_version()").pluck().get());
  const parts = version.split(".").map(Number);
  const older = OLDEST_SQLITE.map((needed, i) => (parts[i] ?? 0) - needed).find((difference) => difference !== 0);
  if (older !== undefined && older < 0)
    throw new LedgerError(
      `SQLite ${version} can corrupt a ledger; Keymeter needs ${OLDEST_SQLITE.join(".")} or newer.`,
    );
}

/** Gives the write-ahead log its working size at once: an fsync of a file that grows costs two to three times one of a
 *  file that is written over. The rows are rolled back; only the space stays. */
export function growLog(database: Sqlite): void {
  database.pragma("cache_size = 100");
  database.exec(
    `BEGIN IMMEDIATE; INSERT INTO meta (name, value) VALUES ('', hex(zeroblob(${(LOG_PAGES * PAGE_BYTES) / 2}))); ROLLBACK`,
  );
  database.pragma("cache_size = -64000");
}

/** Books hold who asked for what: they are for the user that runs Keymeter alone, and what SQLite makes beside them has
 *  their mode. */
function keepPrivate(path: string): void {
  closeSync(openSync(path, "a", PRIVATE));
  for (const file of [path, `${path}-wal`, `${path}-shm`])
    if (existsSync(file) && (statSync(file).mode & 0o077) !== 0) chmodSync(file, PRIVATE);
}

/** New books beside rescued ones would begin at nothing, without a word. */
function refuseBesideRescued(path: string): void {
  const own = statSync(path, { throwIfNoEntry: false });
  const prefix = `${basename(path)}.rescued-`;
  const rescued = existsSync(dirname(path)) ? readdirSync(dirname(path)).filter((name) => name.startsWith(prefix)) : [];
  const newest = rescued.toSorted().at(-1);
  // Books that were written since have gone on without it.
  const isOlder = newest !== undefined && (own?.mtimeMs ?? 0) <= statSync(join(dirname(path), newest)).mtimeMs;
  if (newest !== undefined && own !== undefined && own.size > 0 && isOlder)
    throw new LedgerError(
      `${newest} beside ${path} is a copy that was rescued when its files were deleted, and holds more. Put it in its place (mv ${join(dirname(path), newest)} ${path}), or move it out of the folder to go on without it.`,
    );
  if (own !== undefined && own.size > 0) return;
  if (newest !== undefined)
    throw new LedgerError(
      `${path} is gone, and ${newest} beside it is a copy that was rescued when it was deleted. Put it in its place (mv ${join(dirname(path), newest)} ${path}), or move it out of the folder to start empty books.`,
    );
}

/** A file that is there but is no SQLite file is somebody else's, or damaged: not ours to write into. */
function refuseForeignFile(path: string): void {
  if (!existsSync(path) || statSync(path).size === 0) return;
  // Whoever made it was cut off in its first write: SQLite takes that back, and says so if it is somebody else's.
  if (existsSync(`${path}-journal`)) return;
  const head = Buffer.alloc(16);
  const file = openSync(path, "r");
  try {
    readSync(file, head, 0, 16, 0);
  } finally {
    closeSync(file);
  }
  if (head.toString("latin1") !== "SQLite format 3\u0000") throw damaged(path, "it does not start like an SQLite file");
}

function checkWhole(database: Sqlite, path: string): void {
  if (statSync(path).size > MOST_CHECKED_BYTES) return;
  const answer = String(database.pragma("quick_check(1)", { simple: true }));
  if (answer !== "ok") throw damaged(path, answer);
}

function damaged(path: string, detail: string): LedgerError {
  return new LedgerError(
    `${path} is damaged (${detail}). Nothing was changed. Restore a backup of the file together with its -wal, or move it away to start empty books.`,
  );
}

/** Turns the storage errors that users can mend into sentences. */
function explain<T>(path: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    if (isSqliteError(error, "SQLITE_CORRUPT", "SQLITE_NOTADB")) throw damaged(path, (error as Error).message);
    if (
      isSqliteError(error, "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM") ||
      hasCode(error, "EACCES", "EROFS", "EPERM", "ENOTDIR", "EEXIST", "ENOENT")
    ) {
      throw new LedgerError(
        `${path} cannot be written (${(error as Error).message}). Give this user write access to the folder, or set KEYMETER_DATA_DIR to one that has it.`,
      );
    }
    if (isSqliteError(error, "SQLITE_FULL") || hasCode(error, "ENOSPC")) {
      throw new LedgerError(`${path}: the disk is full. Free some space and start again; nothing was lost.`);
    }
    throw error;
  }
}

function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && "code" in error && codes.includes(String(error.code));
}
