// Books that move between a folder and Postgres: every row of every table, unchanged, table by table. What SQLite keeps in
// one rollup is the part of one node there.
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { answerIn } from "./asking.ts";
import { LedgerError } from "./books.ts";
import type { BookName, UsageBooks } from "./books.ts";
import { rowsOf } from "./engine.ts";
import { explain, openPool, runOn } from "./postgres.ts";
import type { Client } from "./postgres.ts";
import { openForReading, openForWriting } from "./sqlite.ts";
import type { Sqlite } from "./sqlite.ts";
import { readAuditHead } from "./usage/audit.ts";
import type { AuditHead } from "./usage/audit.ts";

/** Commits are numbered where they are made: they are numbered anew, and telemetry begins anew. */
export const NOT_MOVED: readonly string[] = ["commits", "telemetry"];
/** In an order in which no row names one that is not there yet. */
export const TABLES: { readonly [book in BookName]: readonly string[] } = {
  usage: [
    "meta",
    "people",
    "keys",
    "key_secrets",
    "key_owners",
    "key_addresses",
    "budgets",
    "raises",
    "asked_raises",
    "limits",
    "seat_prices",
    "tokens",
    "freezes",
    "credentials",
    "served_names",
    "things",
    "refused",
    "meter_hours",
    "reassigned",
    "reservations",
    "events",
    "rollup_hour",
    "rollup_day",
    "audit",
    "adjustments",
    "sealed_days",
  ],
  billing: [
    "imports",
    "usage_reads",
    "provider_keys",
    "bill_days",
    "billed_lines",
    "billed_usage",
    "billed_hours",
    "metered_days",
    "metered_lines",
    "comparisons",
    "variances",
    "closed_days",
    "corrections",
    "leaks",
    "forecasts",
    "forecast_scores",
    "landings",
    "planned_events",
    "rotations",
    "rotation_steps",
  ],
  notices: ["deliveries", "outbox", "notices", "mutes"],
};
/** What new rows go on from. */
const AFTER: { readonly [book in BookName]: readonly string[] } = {
  usage: [
    `INSERT INTO meta (name, value) SELECT 'moved_end', CAST(MAX(attempt_id) AS TEXT)
     FROM (SELECT attempt_id FROM events UNION ALL SELECT attempt_id FROM reservations) AS moved HAVING MAX(attempt_id) IS NOT NULL`,
  ],
  billing: [],
  notices: [
    `SELECT setval('notices.numbers', MAX(id)) FROM (SELECT id FROM notices UNION ALL SELECT id FROM outbox) AS moved
     HAVING MAX(id) IS NOT NULL`,
  ],
};
const ROLLUPS = new Set(["rollup_hour", "rollup_day"]);
/** The node whose part the sums of before become. */
const FIRST_NODE = 0;
const ROWS_AT_ONCE = 500;
/** Copies the books of a folder into a database, each in one transaction. Returns how many rows each table had. A book that
 *  is there already, whole, is left as it is; rejects with a LedgerError where another one is. */
export async function copyToPostgres(dataDir: string, url: string): Promise<ReadonlyMap<string, number>> {
  const { pool, release } = await openPool(url);
  const counts = new Map<string, number>();
  try {
    await explain(url, async () => {
      for (const book of Object.keys(TABLES) as BookName[]) {
        const from = openForReading(join(dataDir, `${book}.db`));
        if (!from) continue;
        const client = await pool.connect();
        try {
          await client.query("BEGIN");
          from.exec("BEGIN");
          if (await isThere(from, client, book)) {
            await client.query("ROLLBACK");
            continue;
          }
          for (const table of TABLES[book]) counts.set(table, await copyTable(from, client, table));
          for (const text of AFTER[book]) await client.query(text);
          await client.query("COMMIT");
        } catch (error) {
          await client.query("ROLLBACK");
          throw error;
        } finally {
          client.release();
          from.close();
        }
      }
    });
    return counts;
  } finally {
    await release();
  }
}

/** Whether the database has this very book: as many rows in each table. Rejects where it has another one. */
async function isThere(from: Sqlite, to: Client, book: BookName): Promise<boolean> {
  let other: string | undefined;
  let isEmpty = true;
  for (const table of TABLES[book]) {
    const target = ROLLUPS.has(table) ? `${table}_of_node` : table;
    // What a move notes there is not in the folder.
    const where = table === "meta" ? " WHERE name NOT IN ('moved_end', 'commit_base')" : "";
    const here = Number(from.prepare(`SELECT COUNT(*) FROM ${table}${where}`).pluck().get());
    const there = Number((await runOn(to, `SELECT COUNT(*) FROM ${target}${where}`, []))[0]?.[0]);
    if (there !== here) other ??= target;
    if (there > 0) isEmpty = false;
  }
  if (isEmpty || other === undefined) return !isEmpty;
  throw new LedgerError(
    `the database has books already, and ${other} is not what is in the folder. Move into a database of its own.`,
  );
}

/** Copies the books of a database into a folder that has none. Returns how many rows each table had. Rejects with a
 *  LedgerError while something is open there that only a proxy can book. */
export async function copyToFolder(url: string, dataDir: string): Promise<ReadonlyMap<string, number>> {
  const { pool, release } = await openPool(url);
  const made: string[] = [];
  const counts = new Map<string, number>();
  try {
    await explain(url, async () => {
      const client = await pool.connect();
      try {
        await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        const [open] = await runOn(
          client,
          "SELECT (SELECT COUNT(*) FROM usage.reservations WHERE work_id IS NULL) + (SELECT COUNT(*) FROM usage.late)",
          [],
        );
        if (open?.[0] !== 0n)
          throw new LedgerError(
            `${String(open?.[0])} attempts are open in the database: start one proxy on it, and stop it when they are booked`,
          );
        for (const book of Object.keys(TABLES) as BookName[]) {
          const path = join(dataDir, `${book}.db`);
          if (existsSync(path)) throw new LedgerError(`${path} exists already: move into a folder of its own`);
          const to = openForWriting(path, book, "power");
          made.push(path);
          try {
            to.exec("BEGIN");
            for (const table of TABLES[book]) counts.set(table, await copyBack(client, to, table));
            if (book === "usage") to.exec("DELETE FROM meta WHERE name IN ('moved_end', 'commit_base')");
            to.exec("COMMIT");
          } finally {
            to.close();
          }
        }
        await client.query("COMMIT");
      } finally {
        client.release();
      }
    });
    return counts;
  } catch (error) {
    // Half of the books are none.
    for (const path of made) for (const end of ["", "-wal", "-shm"]) rmSync(`${path}${end}`, { force: true });
    throw error;
  } finally {
    await release();
  }
}

/** Programs that were heard of on a database in the last 15 seconds. */
export async function runningOn(url: string): Promise<string[]> {
  const { pool, release } = await openPool(url);
  try {
    const rows = await runOn(
      pool,
      `SELECT name FROM usage.nodes WHERE state = 'live' AND clock_timestamp() - seen_at < interval '15 seconds'
      UNION SELECT name FROM usage.leaders WHERE clock_timestamp() - seen_at < interval '15 seconds' ORDER BY 1`,
      [],
    );
    return rows.map(([name]) => String(name));
  } finally {
    await release();
  }
}

async function copyBack(from: Client, to: Sqlite, table: string): Promise<number> {
  const columns = columnsOf(to, table);
  // What a new file begins with is the old one's.
  to.exec(`DELETE FROM ${table}`);
  const insert = to.prepare(
    `INSERT INTO ${table} (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`,
  );
  await from.query(`DECLARE moved CURSOR FOR SELECT ${columns.join(", ")} FROM ${table} ORDER BY 1`);
  let count = 0;
  for (;;) {
    const rows = await runOn(from, `FETCH ${ROWS_AT_ONCE} FROM moved`, []);
    for (const row of rows) insert.run(...row);
    count += rows.length;
    if (rows.length < ROWS_AT_ONCE) break;
  }
  await from.query("CLOSE moved");
  return count;
}

/** A generated column makes itself. */
function columnsOf(database: Sqlite, table: string): string[] {
  const names = database.prepare("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0").pluck().all(table);
  return (names as string[]).map((name) => `"${name}"`);
}

async function copyTable(from: Sqlite, to: Client, table: string): Promise<number> {
  const isRollup = ROLLUPS.has(table);
  const target = isRollup ? `${table}_of_node` : table;
  const columns = columnsOf(from, table);
  const names = isRollup ? [...columns, "node"] : columns;
  const row = `(${names.map(() => "?").join(", ")})`;
  let count = 0;
  let waiting: unknown[][] = [];
  const flush = async (): Promise<void> => {
    if (waiting.length === 0) return;
    const rows = waiting.map(() => row).join(", ");
    await runOn(to, `INSERT INTO ${target} (${names.join(", ")}) VALUES ${rows}`, waiting.flat());
    count += waiting.length;
    waiting = [];
  };
  for (const values of from
    .prepare(`SELECT ${columns.join(", ")} FROM ${table}`)
    .raw()
    .iterate()) {
    waiting.push(isRollup ? [...(values as unknown[]), FIRST_NODE] : (values as unknown[]));
    if (waiting.length >= ROWS_AT_ONCE) await flush();
  }
  await flush();
  return count;
}

/** What has to be the same on both sides of a move: sums by day and key, and the audit's head. Rejects with a LedgerError
 *  that names what is not. */
export async function compareMoved(one: UsageBooks, other: UsageBooks): Promise<AuditHead> {
  const sums =
    "SELECT day, key_id, SUM(requests), SUM(cost_nano_usd) FROM rollup_day GROUP BY day, key_id ORDER BY day, key_id";
  const [here, there] = [await rowsOf(one, sums), await rowsOf(other, sums)];
  const at = here.findIndex((row, i) => row.join(" ") !== there[i]?.join(" "));
  if (at >= 0 || here.length !== there.length)
    throw new LedgerError(`what was moved is not what was there: ${String((here[at] ?? there.at(-1))?.join(" "))}`);
  const [head, moved] = [await answerIn(one, readAuditHead()), await answerIn(other, readAuditHead())];
  if (head.hash !== moved.hash)
    throw new LedgerError(`the audit that was moved ends with record ${moved.seq}, not ${head.seq}`);
  return head;
}
