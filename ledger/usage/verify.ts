// The proof that sums are nothing but their events and adjustments, and that keys, budgets and limits are what the
// audit says was done to them: both are made again, and every row that disagrees is named.
import { createHash } from "node:crypto";
import { applyChange } from "./changes.ts";
import type { Change } from "./changes.ts";
import { asc, drizzle } from "../drizzle.ts";
import type { NanoUsd } from "../money.ts";
import { openScratch } from "../sqlite.ts";
import type { Sqlite } from "../sqlite.ts";
import { sqliteOf } from "../sqlite-books.ts";
import type { UsageBooks } from "../books.ts";
import { createRollups } from "./rollups.ts";
import { audit } from "./schema.ts";
import { createCalendar } from "../windows.ts";

const MOST_NAMED = 100;

/** All cache writes of an event. Said here once more: a proof does not go by the view that it would prove. */
const ALL_CACHE_WRITES = `COALESCE(cache_write_5m, 0) + COALESCE(cache_write_1h, 0)
  + COALESCE(json_extract(other_usage, '$.cache_write_30m'), 0) + COALESCE(json_extract(other_usage, '$.cache_write_12h'), 0)`;

const DIMENSIONS = "key_id, provider, model, requested_model, team, project, env";
const SUMS = "requests, cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred";

/** Rows of the hour and of the day sums that are not the sum of their events and adjustments, in any of what they add
 *  up, or stand for none. Empty, always. */
export async function readFoldDifferences(books: UsageBooks): Promise<string[]> {
  const database = sqliteOf(books);
  const zone = database.prepare("SELECT value FROM meta WHERE name = 'zone'").pluck().get() as string | undefined;
  const calendar = createCalendar(zone ?? "UTC");
  database.function("local_day", { deterministic: true }, (atMs: unknown) => calendar.day(Number(atMs)));
  return [
    ...compareFold(database, "rollup_hour", "hour_ms", "at_ms - at_ms % 3600000"),
    ...compareFold(database, "rollup_day", "day", "local_day(at_ms)"),
  ];
}

function compareFold(database: Sqlite, table: string, time: string, timeOf: string): string[] {
  const sums = SUMS.split(", ");
  const rows = database
    .prepare(
      `WITH corrected AS (
         SELECT attempt_id, SUM(amount_nano_usd) AS amount, SUM(unpriced) AS unpriced, SUM(inferred) AS inferred FROM adjustments GROUP BY 1),
       folded AS (
         SELECT ${timeOf} AS ${time}, key_id, provider, COALESCE(served_model, requested_model) AS model, requested_model, team, project, env,
           COUNT(*) AS requests, SUM(COALESCE(cost_nano_usd, 0) + COALESCE(amount, 0)) AS cost_nano_usd,
           SUM(COALESCE(input, 0)) AS input, SUM(COALESCE(cache_read, 0)) AS cache_read, SUM(${ALL_CACHE_WRITES}) AS cache_write,
           SUM(COALESCE(output, 0)) AS output, SUM(usage_state = 'estimated') AS estimated, SUM(usage_state = 'unknown') AS unknown,
           SUM(COALESCE(price_confidence = 'unpriced', 0) + COALESCE(corrected.unpriced, 0)) AS unpriced,
           SUM(COALESCE(price_confidence = 'inferred', 0) + COALESCE(corrected.inferred, 0)) AS inferred
         FROM events LEFT JOIN corrected USING (attempt_id)
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8)
       SELECT ${time} AS time, key_id AS key, model, ${sums.map((sum) => `folded.${sum} AS folded_${sum}, stored.${sum} AS stored_${sum}`).join(", ")}
       FROM folded FULL OUTER JOIN ${table} AS stored USING (${time}, ${DIMENSIONS})
       WHERE ${sums.map((sum) => `folded.${sum} IS NOT stored.${sum}`).join(" OR ")}
       LIMIT ${MOST_NAMED}`,
    )
    .all() as Row[];
  return rows.map((row) => {
    const when =
      typeof row["time"] === "bigint"
        ? `hour ${new Date(Number(row["time"])).toISOString()}`
        : `day ${String(row["time"])}`;
    const odd = sums
      .filter((sum) => row[`folded_${sum}`] !== row[`stored_${sum}`])
      .map((sum) => `${sum} of events ${String(row[`folded_${sum}`])}, stored ${String(row[`stored_${sum}`])}`);
    return `${when}, key ${String(row["key"])}, model ${String(row["model"])}: ${odd.join("; ")}`;
  });
}

/** What is changed by changes alone, and by what its rows are told apart. */
const REGISTER = { keys: "id", budgets: "id", raises: "id", freezes: "id", limits: "scope" } as const;
/** Audit records that change nothing in the register. */
const ELSEWHERE = new Set(["adjust", "reassign", "closeWork", "acceptClock", "seal", "late"]);

/** Rows of the register that are not what the audit's changes, played through again, make of them; and secrets that no
 *  change brought. Provider keys that were seen in passing come without a change: they begin active, under the name
 *  that they have, as nobody's. */
export async function readRegisterDifferences(books: UsageBooks): Promise<string[]> {
  const database = sqliteOf(books);
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
      const change = readChange(detail);
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
    const made = scratch.prepare(ISSUED).all() as Row[];
    for (const id of old) {
      const count = (rows: readonly Row[]): number => rows.filter(({ keyId }) => keyId === id).length;
      if (count(secrets) !== count(made))
        found.push(
          `key_secrets: key ${String(id)} has ${count(secrets)} secrets, by the audit it was given ${count(made)}`,
        );
    }
    return [...found, ...compareSecrets(secrets.filter(isNew), made.filter(isNew))];
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

/** A change as the audit has it: amounts are digits there, and in old records keys have no purpose and no policy. */
function readChange(detail: string): Change {
  const change = JSON.parse(detail) as Change;
  switch (change.type) {
    case "createKey":
      return {
        ...change,
        key: { ...change.key, purpose: change.key.purpose ?? "", policy: change.key.policy ?? {} },
        ...(change.budget ? { budget: readAmount(change.budget) } : {}),
      };
    case "setBudget":
      return { ...change, budget: readAmount(change.budget) };
    case "raiseBudget":
      return { ...change, raise: readAmount(change.raise) };
    default:
      return change;
  }
}

function readAmount<T extends { readonly amountNanoUsd: NanoUsd }>(one: T): T {
  return { ...one, amountNanoUsd: BigInt(String(one.amountNanoUsd)) };
}
