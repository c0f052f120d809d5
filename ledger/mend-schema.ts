// Before the first release some migrations were edited after they had been used, so that files of the same version have
// different tables. These are told by their structure and brought to the one that is meant, without loss, before newer
// migrations run; a file that needs nothing is left as it is. From here on a migration has a digest, and an edited one
// is refused (open.ts).
import { readFileSync } from "node:fs";
import type { BookName } from "./books.ts";
import type Database from "better-sqlite3";

/** Mends what an old file lacks, inside the caller's transaction. Returns what was mended, in words. */
export function mendSchema(database: Database.Database, set: BookName, version: number): string[] {
  const mended: string[] = [];
  const mend = (what: string, ...statements: readonly string[]): void => {
    for (const statement of statements) database.exec(statement);
    mended.push(what);
  };
  const columns = (table: string): string[] =>
    (database.pragma(`table_info("${table}")`) as { name: string }[]).map(({ name }) => name);
  const definition = (name: string): string | undefined =>
    database.prepare("SELECT sql FROM sqlite_master WHERE name = ?").pluck().get(name) as string | undefined;
  if (set === "usage") mendUsage(version, mend, columns, definition);
  if (set === "billing" && version >= 2) mendBilling(mend, columns, definition);
  if (set === "notices" && version === 1)
    // The next migration keeps one delivery of a group: the newest, which is what is said.
    database.exec("DELETE FROM outbox WHERE id NOT IN (SELECT MAX(id) FROM outbox GROUP BY group_key)");
  return mended;
}

type Mend = (what: string, ...statements: readonly string[]) => void;
type Columns = (table: string) => string[];
type Definition = (name: string) => string | undefined;

function mendUsage(version: number, mend: Mend, columns: Columns, definition: Definition): void {
  const first = readMigration("0001-usage");
  if (version >= 1) {
    if (!columns("rollup_hour").includes("requested_model"))
      mend(
        "sums by the hour",
        "ALTER TABLE rollup_hour RENAME TO old_rollup_hour",
        pickTable(first, "rollup_hour"),
        FOLD_HOURS,
        KEEP_OLD_HOURS,
        "DROP TABLE old_rollup_hour",
        ...(version >= 8 ? ["CREATE INDEX rollup_hour_of_key ON rollup_hour (key_id, hour_ms)"] : []),
      );
    if (!columns("rollup_day").includes("requested_model"))
      // Without a zone they are made anew from the events.
      mend(
        "sums by the day",
        "DROP TABLE rollup_day",
        pickTable(first, "rollup_day"),
        "DELETE FROM meta WHERE name = 'zone'",
      );
    if (definition("meter_hours") === undefined)
      mend(
        "hours of the meter",
        pickTable(first, "meter_hours"),
        "INSERT INTO meter_hours SELECT DISTINCT hour_ms FROM rollup_hour",
      );
  }
  if (version >= 2) {
    const second = readMigration("0002-usage");
    if (definition("reservations_work") !== undefined) mend("an index", "DROP INDEX reservations_work");
    if (definition("work") === undefined)
      mend(
        "work that goes on",
        pickTable(second, "work"),
        "INSERT INTO work SELECT provider, work_id, key_id, attempt_id FROM reservations WHERE work_id IS NOT NULL",
        `INSERT OR IGNORE INTO work SELECT provider, response_id, key_id, MIN(attempt_id) FROM events
         WHERE endpoint IN ('batches', 'message_batches') AND response_id IS NOT NULL GROUP BY provider, response_id`,
      );
    if (!columns("events").includes("stated_cost_nano_usd"))
      mend(
        "stated costs",
        "ALTER TABLE events ADD COLUMN stated_cost_nano_usd INTEGER CHECK (stated_cost_nano_usd >= 0)",
        pickTrigger(second, "events_stated_fixed"),
      );
  }
  if (version >= 6) {
    const sixth = readMigration("0006-usage");
    const sealed = pickTrigger(sixth, "events_sealed");
    if (plain(definition("events_sealed") ?? "") !== plain(sealed))
      mend("the seal of days that are over", "DROP TRIGGER IF EXISTS events_sealed", sealed);
    if (definition("served_names") === undefined)
      mend(
        "names that models answered under",
        pickTable(sixth, "served_names"),
        `INSERT INTO served_names (provider, requested_model, served_model)
         SELECT provider, requested_model, model FROM (
           SELECT provider, requested_model, model, MAX(hour_ms) FROM rollup_hour WHERE requested_model <> model GROUP BY 1, 2)`,
      );
  }
}

function mendBilling(mend: Mend, columns: Columns, definition: Definition): void {
  const second = readMigration("0002-billing");
  if (!columns("comparisons").includes("kind")) {
    const kept = columns("comparisons").join(", ");
    mend(
      "comparisons",
      "ALTER TABLE comparisons RENAME TO old_comparisons",
      pickTable(second, "comparisons"),
      `INSERT INTO comparisons (${kept}) SELECT ${kept} FROM old_comparisons`,
      "DROP TABLE old_comparisons",
    );
  }
  const isOld = columns("imports").includes("usage_as_of_ms");
  if (definition("usage_reads") === undefined)
    mend(
      "when usage was read",
      pickTable(second, "usage_reads"),
      ...(isOld
        ? [
            `INSERT INTO usage_reads (provider, as_of_ms, read_at_ms)
             SELECT provider, usage_as_of_ms, COALESCE(last_success_ms, last_attempt_ms) FROM imports WHERE usage_as_of_ms IS NOT NULL`,
          ]
        : []),
    );
  if (isOld) mend("imports", "ALTER TABLE imports DROP COLUMN usage_as_of_ms");
  for (const [name, of] of [
    ["bill_days_day", "bill_days (day)"],
    ["comparisons_day", "comparisons (day)"],
    ["variances_day", "variances (day, provider, cause, amount_nano_usd)"],
  ] as const)
    if (definition(name) === undefined) mend("an index", `CREATE INDEX ${name} ON ${of}`);
}

const FOLD_HOURS = `INSERT INTO rollup_hour SELECT at_ms - at_ms % 3600000, key_id, provider, COALESCE(served_model, requested_model),
  requested_model, team, project, env, COUNT(*), COALESCE(SUM(cost_nano_usd), 0), COALESCE(SUM(input), 0), COALESCE(SUM(cache_read), 0),
  SUM(COALESCE(cache_write_5m, 0) + COALESCE(cache_write_1h, 0) + COALESCE(json_extract(other_usage, '$.cache_write_30m'), 0)
    + COALESCE(json_extract(other_usage, '$.cache_write_12h'), 0)), COALESCE(SUM(output), 0), SUM(usage_state = 'estimated'),
  SUM(usage_state = 'unknown'), SUM(COALESCE(price_confidence = 'unpriced', 0)), SUM(COALESCE(price_confidence = 'inferred', 0))
  FROM events GROUP BY 1, 2, 3, 4, 5, 6, 7, 8`;
/** Hours whose events are gone: as far as the old sums know. */
const KEEP_OLD_HOURS = `INSERT INTO rollup_hour SELECT hour_ms, key_id, provider, model, model, team, project, env, requests, cost_nano_usd,
  input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred FROM old_rollup_hour AS o
  WHERE NOT EXISTS (SELECT 1 FROM events WHERE attempt_id >= (o.hour_ms - 1577836800000) * 4096
    AND attempt_id < (o.hour_ms - 1577836800000 + 3600000) * 4096)`;

function readMigration(name: string): string {
  return readFileSync(new URL(`./migrations/${name}.sql`, import.meta.url), "utf8");
}

/** One statement of a migration: what is meant stands there once. */
function pickTable(migration: string, name: string): string {
  return pick(migration, new RegExp(`CREATE TABLE ${name} \\([\\s\\S]*?\\) STRICT(?:, WITHOUT ROWID)?;`), name);
}

function pickTrigger(migration: string, name: string): string {
  return pick(migration, new RegExp(`CREATE TRIGGER ${name} [\\s\\S]*?END;`), name);
}

function pick(migration: string, pattern: RegExp, name: string): string {
  const found = pattern.exec(migration)?.[0];
  if (found === undefined) throw new Error(`no migration makes ${name}`);
  return found;
}

/** Without what SQLite keeps of a definition and another one has otherwise: spaces, comments, the last semicolon. */
function plain(sql: string): string {
  return sql
    .replace(/--[^\n]*/g, "")
    .replace(/\s+/g, " ")
    .replace(/;\s*$/, "")
    .trim();
}
