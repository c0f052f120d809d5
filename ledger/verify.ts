// The proof that sums are nothing but their events and adjustments, and that keys, budgets and limits are what the audit says was done
// to them: both are made again, and every row that disagrees is named.
import { createHash } from "node:crypto";
import { applyChange } from "./changes.ts";
import type { Change } from "./changes.ts";
import { asc, drizzle } from "./drizzle.ts";
import { openScratch } from "./open.ts";
import type { Sqlite } from "./open.ts";
import { createRollups } from "./rollups.ts";
import { audit } from "./schema.ts";
import { createCalendar } from "./windows.ts";

const MOST_NAMED = 100;

/** Rows of the hour rollup, and day totals, that are not the sum of their events. Empty, always. */
export async function readFoldDifferences(database: Sqlite): Promise<string[]> {
  const hours = database
    .prepare(
      `WITH folded AS (
         SELECT at_ms - at_ms % 3600000 AS hour_ms, key_id, provider, COALESCE(served_model, requested_model) AS model, requested_model, team, project, env,
                COUNT(*) AS requests, COALESCE(SUM(cost_nano_usd), 0) + COALESCE(SUM(adjusted), 0) AS cost
         FROM events LEFT JOIN (SELECT attempt_id, SUM(amount_nano_usd) AS adjusted FROM adjustments GROUP BY attempt_id) USING (attempt_id)
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8)
       SELECT folded.hour_ms AS hour, folded.key_id AS key, folded.model AS model, folded.cost AS folded, rollup_hour.cost_nano_usd AS stored
       FROM folded LEFT JOIN rollup_hour USING (hour_ms, key_id, provider, model, requested_model, team, project, env)
       WHERE stored IS NULL OR stored <> folded.cost OR rollup_hour.requests <> folded.requests
       LIMIT ${MOST_NAMED}`,
    )
    .all() as { hour: bigint; key: string; model: string; folded: bigint; stored: bigint | null }[];
  const [total] = database
    .prepare(
      "SELECT (SELECT COALESCE(SUM(cost_nano_usd), 0) FROM events) + (SELECT COALESCE(SUM(amount_nano_usd), 0) FROM adjustments) AS events, (SELECT COALESCE(SUM(cost_nano_usd), 0) FROM rollup_hour) AS hours, (SELECT COALESCE(SUM(cost_nano_usd), 0) FROM rollup_day) AS days",
    )
    .all() as { events: bigint; hours: bigint; days: bigint }[];
  const found = hours.map(
    (row) =>
      `hour ${new Date(Number(row.hour)).toISOString()}, key ${row.key}, model ${row.model}: events sum to ${row.folded}, stored ${row.stored ?? "nothing"}`,
  );
  if (total && (total.events !== total.hours || total.events !== total.days))
    found.push(`in all: events ${total.events}, hours ${total.hours}, days ${total.days} nano-USD`);
  return found;
}

/** What is changed by changes alone, and by what its rows are told apart. */
const REGISTER = { keys: "id", budgets: "id", raises: "id", freezes: "id", limits: "scope" } as const;
/** Audit records that change nothing in the register. */
const ELSEWHERE = new Set(["adjust", "closeWork", "seal"]);

/** Rows of the register that are not what the audit's changes, played through again, make of them; and secrets that no change brought.
 *  Provider keys that were seen in passing come without a change: of them only what a change made is compared. */
export async function readRegisterDifferences(database: Sqlite): Promise<string[]> {
  const scratch = openScratch("usage");
  try {
    const rollups = createRollups(scratch, createCalendar("UTC"));
    for (const row of database.prepare("SELECT * FROM keys WHERE kind = 'fingerprint'").all() as Row[])
      scratch
        .prepare(
          `INSERT INTO keys (${Object.keys(row).join(", ")}) VALUES (${Object.keys(row)
            .map(() => "?")
            .join(", ")})`,
        )
        .run(...Object.values(row));
    const found: string[] = [];
    let isOld = false;
    for (const { seq, action, actor, atMs, detail } of drizzle(database)
      .select()
      .from(audit)
      .orderBy(asc(audit.seq))
      .all()) {
      if (ELSEWHERE.has(action)) continue;
      const change = JSON.parse(detail, readNanoUsd) as Change;
      const brings = change.type === "createKey" || change.type === "rotateKey";
      // Records from before secrets were written down there.
      isOld ||= brings && change.digest === undefined;
      try {
        applyChange(scratch, rollups, brings ? { ...change, digest: change.digest ?? `record ${seq}` } : change, {
          actor,
          atMs,
        });
      } catch (error) {
        found.push(
          `audit record ${seq} (${action}) cannot be played through: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    }
    for (const [table, name] of Object.entries(REGISTER)) found.push(...compareTables(table, name, database, scratch));
    if (!isOld) found.push(...compareSecrets(database, scratch));
    return found;
  } finally {
    scratch.close();
  }
}

type Row = { readonly [column: string]: unknown };

function compareTables(table: string, name: string, database: Sqlite, made: Sqlite): string[] {
  const read = (from: Sqlite): Map<unknown, Row> =>
    new Map((from.prepare(`SELECT * FROM ${table}`).all() as Row[]).map((row) => [row[name], row]));
  const [there, wanted] = [read(database), read(made)];
  const found = [...there.keys()]
    .filter((id) => !wanted.has(id))
    .map((id) => `${table}: no audit record made ${String(id)}`);
  for (const [id, row] of wanted) {
    const actual = there.get(id);
    if (!actual) found.push(`${table}: ${String(id)} is gone, and no audit record says so`);
    else
      for (const [column, value] of Object.entries(row))
        if (actual[column] !== value)
          found.push(
            `${table}: ${String(id)} has ${column} ${String(actual[column])}, by the audit it is ${String(value)}`,
          );
  }
  return found;
}

function compareSecrets(database: Sqlite, made: Sqlite): string[] {
  const issued = "SELECT digest, key_id AS keyId FROM key_secrets JOIN keys ON keys.id = key_id WHERE kind = 'virtual'";
  const wanted = new Set(
    (made.prepare(issued).all() as Row[]).map(({ digest, keyId }) => `${String(keyId)} ${String(digest)}`),
  );
  const found = (database.prepare(issued).all() as Row[]).flatMap(({ digest, keyId }) => {
    const hash = createHash("sha256").update(String(digest)).digest("hex");
    return wanted.delete(`${String(keyId)} ${hash}`)
      ? []
      : [`key_secrets: no audit record gave key ${String(keyId)} one of its secrets`];
  });
  return [...found, ...[...wanted].map((one) => `key_secrets: a secret of key ${one.split(" ")[0]} is gone`)];
}

function readNanoUsd(name: string, value: unknown): unknown {
  return name.endsWith("NanoUsd") && typeof value === "string" ? BigInt(value) : value;
}
