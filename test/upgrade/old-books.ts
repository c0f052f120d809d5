// Books as earlier code wrote them (schemas/*.sql), put back into files; and what of them has to stay as it was.
import { createHash } from "node:crypto";
import { globSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import Database from "better-sqlite3";
import type { BookName, Books } from "../../ledger/books.ts";
import { openForReading } from "../../ledger/sqlite.ts";
import type { Sqlite } from "../../ledger/sqlite.ts";
import { booksOn } from "../books.ts";
import { temporaryFolder } from "../start-proxy.ts";

/** Those folders' pepper, the secret of their key `key_1`, and the one before it, whose grace is over. */
export const PEPPER = "pepper-of-the-release-before-in-a-fixture";
export const SECRET = "km_prod_Before0002_OldSecretOfAFixtureOldSecretOfAFixtureOldSe2m1tFW";
export const ROTATED_SECRET = "km_prod_Before0001_OldSecretOfAFixtureOldSecretOfAFixtureOldSe354VIR";
export const ZONE = "Europe/Berlin";

const SCHEMAS = fileURLToPath(new URL("schemas/", import.meta.url));

/** Names of dumps: the set, and the commit whose code wrote it; with two, what the second one's migrations made of
 *  it. */
export function dumpsOf(set: BookName): string[] {
  return globSync(`${set}-*.sql`, { cwd: SCHEMAS })
    .map((file) => basename(file, ".sql"))
    .toSorted();
}

/** A data folder with this file in it, and the pepper. */
export function restore(dump: string): { readonly folder: string; readonly path: string } {
  const folder = join(temporaryFolder(), "data");
  mkdirSync(folder, { mode: 0o700 });
  const path = join(folder, `${dump.split("-")[0]}.db`);
  const database = new Database(path);
  database.pragma("journal_mode = WAL");
  // They are put back in a moment, whatever the disk.
  database.pragma("synchronous = OFF");
  database.exec(readFileSync(join(SCHEMAS, `${dump}.sql`), "utf8"));
  database.close();
  writeFileSync(join(folder, "pepper"), `${PEPPER}\n`, { mode: 0o600 });
  return { folder, path };
}

/** Does something to a file behind the product's back. */
export function tamper<T>(path: string, what: (database: Sqlite) => T): T {
  const database = new Database(path);
  try {
    return what(database);
  } finally {
    database.close();
  }
}

/** Asks a file as it is, whatever its schema. */
export function ask<T>(path: string, question: (database: Sqlite) => T): T {
  const database = new Database(path, { readonly: true });
  try {
    return question(database);
  } finally {
    database.close();
  }
}

export function digestOf(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

/** Every table, column, index and trigger, by name; in a form that does not tell how it was written, or in which order
 *  columns came. */
export function schemaOf(database: Sqlite): { readonly [name: string]: readonly string[] } {
  const rows = database
    .prepare("SELECT type, name, tbl_name AS host, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type, name")
    .all() as { type: string; name: string; host: string; sql: string }[];
  return Object.fromEntries(
    rows.map(({ type, name, host, sql }) => [
      `${type} ${name} on ${host}`,
      type === "table" ? partsOf(plain(sql)) : [plain(sql)],
    ]),
  );
}

/** All rows of all tables, and the version. */
export function contentOf(database: Sqlite): { readonly [table: string]: unknown } {
  const tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").pluck().all() as string[];
  const rowsOf = (table: string): string[] =>
    (database.prepare(`SELECT * FROM "${table}"`).raw().all() as unknown[][]).map((row) => row.map(String).join("|"));
  return {
    version: Number(database.pragma("user_version", { simple: true })),
    ...Object.fromEntries(tables.map((table) => [table, rowsOf(table).toSorted()])),
  };
}

/** Sums by what is summed. */
type Money = { readonly [what: string]: bigint };

/** What must not change: money and tokens, in events and their sums; budgets; how many rows there are of what is never
 *  deleted. */
export function moneyOf(database: Sqlite): Money {
  const columns = (table: string): string[] =>
    (database.pragma(`table_info("${table}")`) as { name: string }[]).map(({ name }) => name);
  const sum = (table: string, column: string): bigint =>
    database.prepare(`SELECT COALESCE(SUM(${column}), 0) FROM ${table}`).safeIntegers().pluck().get() as bigint;
  const sums: { [what: string]: bigint } = {};
  for (const table of ["events", "rollup_hour", "rollup_day"])
    for (const column of ["cost_nano_usd", "input", "cache_read", "output"])
      sums[`${table}.${column}`] = sum(table, column);
  for (const table of ["rollup_hour", "rollup_day"])
    for (const column of ["requests", "estimated", "unknown", "unpriced", "inferred"])
      sums[`${table}.${column}`] = sum(table, column);
  for (const table of ["budgets", "raises"])
    if (columns(table).length > 0) sums[`${table}.amount_nano_usd`] = sum(table, "amount_nano_usd");
  sums["reservations.bound_nano_usd"] = sum("reservations", "bound_nano_usd");
  for (const table of ["events", "keys", "key_secrets", "audit", "refused", "reservations"])
    sums[`rows of ${table}`] = sum(table, "1");
  return sums;
}

/** Days are made again from events where their table was an older one: by the writer, that knows the zone. */
export const withoutDays = (sums: Money): Money =>
  Object.fromEntries(Object.entries(sums).filter(([what]) => !what.startsWith("rollup_day")));

/** Ids of work that goes on at a provider. */
export function openWorkIn(database: Sqlite): string[] {
  const columns = database.pragma("table_info(reservations)") as { name: string }[];
  if (!columns.some(({ name }) => name === "work_id")) return [];
  return database.prepare("SELECT work_id FROM reservations WHERE work_id IS NOT NULL").pluck().all() as string[];
}

/** Opens a file for reading and lets go of it. */
export async function withBooks<Name extends BookName, T>(
  path: string,
  what: (books: Books<Name>) => Promise<T> | T,
): Promise<T> {
  const reading = openForReading(path);
  if (!reading) throw new Error(`${path} does not exist`);
  try {
    return await what(booksOn<Name>(reading));
  } finally {
    reading.close();
  }
}

function plain(sql: string): string {
  return sql
    .replace(/--[^\n]*/g, " ")
    .replaceAll('"', "")
    .replace(/\s+/g, " ")
    .replace(/ ?([(),]) ?/g, "$1")
    .replace(/;? ?$/, "");
}

/** What stands between the outer brackets of a table's definition, part by part; and what stands after them. */
function partsOf(sql: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let part = "";
  for (const letter of sql.slice(sql.indexOf("(") + 1)) {
    if (letter === "(") depth += 1;
    if (letter === ")") depth -= 1;
    if ((letter === "," && depth === 0) || depth < 0) {
      parts.push(part);
      part = "";
      if (depth < 0) depth = 1000;
    } else part += letter;
  }
  return [...parts.toSorted(), `after it: ${part}`];
}
