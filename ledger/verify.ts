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
 *  Provider keys that were seen in passing come without a change: they begin active, under the name that they have, as nobody's. */
export async function readRegisterDifferences(database: Sqlite): Promise<string[]> {
  const scratch = openScratch("usage");
  try {
    const { there, records, secrets, fingerprints } = database.transaction(() => ({
      there: new Map(Object.keys(REGISTER).map((table) => [table, readRows(database, table)])),
      records: drizzle(database).select().from(audit).orderBy(asc(audit.seq)).all(),
      secrets: database.prepare(ISSUED).all() as Row[],
      fingerprints: database
        .prepare("SELECT id, kind, provider, name, hint, created_at_ms FROM keys WHERE kind = 'fingerprint'")
        .all() as Row[],
    }))();
    for (const row of fingerprints)
      scratch
        .prepare(
          "INSERT INTO keys (id, kind, provider, name, hint, created_at_ms, state) VALUES (?, ?, ?, ?, ?, ?, 'active')",
        )
        .run(...Object.values(row));
    const rollups = createRollups(scratch, createCalendar("UTC"));
    const found: string[] = [];
    /** Keys whose secrets were given before secrets were in the audit. */
    const old = new Set<unknown>();
    for (const { seq, action, actor, atMs, detail } of records) {
      if (ELSEWHERE.has(action)) continue;
      const change = JSON.parse(detail, readNanoUsd) as Change;
      const brings = change.type === "createKey" || change.type === "rotateKey";
      if (brings && change.digest === undefined) old.add(change.type === "createKey" ? change.key.id : change.keyId);
      try {
        const again = brings ? { ...change, digest: change.digest ?? `record ${seq}` } : change;
        applyChange(scratch, rollups, again, { actor, atMs });
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        found.push(`audit record ${seq} (${action}) cannot be played through: ${why}`);
      }
    }
    for (const [table, name] of Object.entries(REGISTER))
      found.push(...compareRows(table, name, there.get(table) ?? [], readRows(scratch, table)));
    const isNew = ({ keyId }: Row): boolean => !old.has(keyId);
    return [...found, ...compareSecrets(secrets.filter(isNew), (scratch.prepare(ISSUED).all() as Row[]).filter(isNew))];
  } finally {
    scratch.close();
  }
}

/** Secrets that Keymeter gave out. */
const ISSUED =
  "SELECT digest, key_id AS keyId, valid_until_ms AS validUntilMs FROM key_secrets JOIN keys ON keys.id = key_id WHERE kind = 'virtual'";

function readRows(from: Sqlite, table: string): Row[] {
  return from.prepare(`SELECT * FROM ${table}`).all() as Row[];
}

type Row = { readonly [column: string]: unknown };

function compareRows(table: string, name: string, actual: readonly Row[], wanted: readonly Row[]): string[] {
  const there = new Map(actual.map((row) => [row[name], row]));
  const known = new Set(wanted.map((row) => row[name]));
  const found = [...there.keys()]
    .filter((id) => !known.has(id))
    .map((id) => `${table}: no audit record made ${String(id)}`);
  for (const row of wanted) {
    const id = String(row[name]);
    const one = there.get(row[name]);
    if (!one) found.push(`${table}: ${id} is gone, and no audit record says so`);
    else
      for (const [column, value] of Object.entries(row))
        if (one[column] !== value)
          found.push(`${table}: ${id} has ${column} ${String(one[column])}, by the audit it is ${String(value)}`);
  }
  return found;
}

/** The audit holds of each secret's digest a digest. */
function compareSecrets(actual: readonly Row[], made: readonly Row[]): string[] {
  const wanted = new Map(
    made.map((row) => [`${String(row["keyId"])} ${String(row["digest"])}`, row["validUntilMs"] as bigint | null]),
  );
  const found = actual.flatMap(({ digest, keyId, validUntilMs }) => {
    const name = `${String(keyId)} ${createHash("sha256").update(String(digest)).digest("hex")}`;
    const until = wanted.get(name);
    if (until === undefined) return [`key_secrets: no audit record gave key ${String(keyId)} one of its secrets`];
    wanted.delete(name);
    return until === validUntilMs
      ? []
      : [
          `key_secrets: a secret of key ${String(keyId)} is good until ${String(validUntilMs)}, by the audit until ${String(until)}`,
        ];
  });
  return [...found, ...[...wanted.keys()].map((one) => `key_secrets: a secret of key ${one.split(" ")[0]} is gone`)];
}

function readNanoUsd(name: string, value: unknown): unknown {
  return name.endsWith("NanoUsd") && typeof value === "string" ? BigInt(value) : value;
}
