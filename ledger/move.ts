// Books that move from a folder into Postgres: every row of every table, unchanged, table by table. What SQLite keeps in
// one rollup is the part of one node there.
import { join } from "node:path";
import { LedgerError } from "./books.ts";
import type { BookName } from "./books.ts";
import { explain, poolOf, runOn } from "./postgres.ts";
import type { Client } from "./postgres.ts";
import { openForReading } from "./sqlite.ts";
import type { Sqlite } from "./sqlite.ts";

/** In an order in which no row names one that is not there yet. */
export const TABLES: { readonly [book in BookName]: readonly string[] } = {
  usage: [
    "meta",
    "keys",
    "key_secrets",
    "key_owners",
    "key_addresses",
    "budgets",
    "raises",
    "limits",
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

/** Copies the books of a folder into a database whose books are empty, in one transaction for each book. Returns how
 *  many rows each table had. Rejects with a LedgerError when there is something in it already. */
export async function copyToPostgres(dataDir: string, url: string): Promise<ReadonlyMap<string, number>> {
  const pool = poolOf(url);
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
    await pool.end();
  }
}

async function copyTable(from: Sqlite, to: Client, table: string): Promise<number> {
  const isRollup = ROLLUPS.has(table);
  const target = isRollup ? `${table}_of_node` : table;
  const [there] = await runOn(to, `SELECT 1 FROM ${target} LIMIT 1`, []);
  if (there !== undefined)
    throw new LedgerError(`the database has books already: ${target} is not empty. Move into a database of its own.`);
  // A generated column makes itself.
  const columns = (
    from.prepare(`SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 0`).pluck().all(table) as string[]
  ).map((name) => `"${name}"`);
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
