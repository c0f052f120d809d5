// Connections to a Postgres database that keeps the books: how values travel, which schema it must have, and sentences
// for what an operator can mend. No named statements, no SET, no LISTEN, no locks of a session: a pooler that gives out
// connections by the transaction may stand between.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { Pool, types } from "pg";
import type { PoolClient } from "pg";
import { LedgerError } from "./books.ts";

export type { Pool };
export type Client = PoolClient;

const FOLDER = new URL("./migrations/postgres/", import.meta.url);
const MOST_CONNECTIONS = 10;
const CONNECT_MS = 10_000;
const MOST_QUERY_MS = 120_000;
/** Postgres's numbers for bigint, smallint, integer and numeric, which is what sums are. */
const INTEGERS = new Set<number>([20, 21, 23, 1700]);

/** The books of one database share their connections. */
const open = new Map<string, { readonly pool: Pool; users: number }>();

/** Opens connections as they are needed, until all who asked have released them. Rejects with a LedgerError when the
 *  database cannot be reached, or is not what this program knows. */
export async function openPool(url: string): Promise<{ readonly pool: Pool; readonly release: () => Promise<void> }> {
  const shared = open.get(url) ?? { pool: poolOf(url), users: 0 };
  open.set(url, shared);
  shared.users += 1;
  const release = async (): Promise<void> => {
    shared.users -= 1;
    if (shared.users > 0) return;
    open.delete(url);
    await shared.pool.end();
  };
  try {
    await explain(url, () => checkSchema(shared.pool, url));
    return { pool: shared.pool, release };
  } catch (error) {
    await release();
    throw error;
  }
}

/** Makes the schema, or brings it up to date, in one transaction. For a role that owns it. `programs`: another role, of
 *  the programs, that is to use it; those that did before go on. Returns the migrations that were applied. */
export async function migratePostgres(url: string, programs?: string): Promise<readonly string[]> {
  const pool = poolOf(url);
  try {
    return await explain(url, async () => {
      const client = await pool.connect();
      try {
        await client.query("BEGIN");
        // Two that migrate at once: one waits, and finds nothing to do.
        await client.query("SELECT pg_advisory_xact_lock(hashtext('keymeter ledger migrate'))");
        const applied = await appliedTo(client);
        refuseOther(url, applied);
        const files = migrationFiles().filter((file) => !applied.has(file));
        const roles = new Set(applied.size > 0 ? await programsOf(client) : []);
        if (programs !== undefined) roles.add(programs);
        for (const file of files) {
          await client.query(readFileSync(new URL(file, FOLDER), "utf8"));
          await client.query("INSERT INTO usage.migrations (name, digest) VALUES ($1, $2)", [file, digestOf(file)]);
        }
        await client.query("UPDATE usage.migrations SET is_additive = true WHERE name = ANY($1)", [
          files.filter(isAdditive),
        ]);
        await client.query(
          `DO $$ BEGIN EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I SET search_path = usage, billing, notices, public', current_database()); END $$`,
        );
        for (const role of roles) await grantTo(client, role);
        await client.query("COMMIT");
        return files;
      } catch (error) {
        await client.query("ROLLBACK");
        throw error;
      } finally {
        client.release();
      }
    });
  } finally {
    await pool.end();
  }
}

/** Roles that programs use it as: they may write events, and do not own the books. */
async function programsOf(client: Client): Promise<string[]> {
  const rows = await runOn(
    client,
    `SELECT rolname FROM pg_class, aclexplode(relacl) JOIN pg_roles ON pg_roles.oid = grantee
    WHERE pg_class.oid = 'usage.events'::regclass AND privilege_type = 'INSERT' AND grantee <> relowner`,
    [],
  );
  return rows.map(([name]) => String(name));
}

/** What the programs may do: read and write rows, and nothing to what is booked once and for all. */
async function grantTo(client: Client, role: string): Promise<void> {
  const name = client.escapeIdentifier(role);
  await client.query(`
    GRANT USAGE ON SCHEMA usage, billing, notices TO ${name};
    GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA usage, billing, notices TO ${name};
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA usage, billing, notices TO ${name};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA usage, billing, notices TO ${name};
    REVOKE INSERT, UPDATE, DELETE ON usage.migrations FROM ${name};
    REVOKE UPDATE, DELETE ON usage.events, usage.audit, usage.sealed_days, usage.adjustments FROM ${name};
    -- Who it belongs to may be corrected; the audit says so.
    GRANT UPDATE (team, project, env) ON usage.events TO ${name}`);
  await client.query(
    `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = usage, billing, notices, public', current_database()); END $$`,
  );
}

/** Runs a text whose values stand as `?`. Rows are lists of columns; integers and sums are bigint. `answerMs`: after that
 *  long without an answer the connection is given up, and what became of the statement is open. */
export async function runOn(
  client: Pool | Client,
  text: string,
  values: readonly unknown[],
  answerMs?: number,
): Promise<unknown[][]> {
  const { rows } = await client.query<unknown[]>({
    text: numbered(text),
    values: [...values],
    rowMode: "array",
    ...(answerMs === undefined ? {} : { query_timeout: answerMs }),
  });
  return rows;
}

const known = new Map<string, string>();
const MOST_KNOWN = 500;

/** `?` as Postgres has it: $1, $2 ... What stands in quotes is left as it is. */
export function numbered(text: string): string {
  let made = known.get(text);
  if (made === undefined) {
    let count = 0;
    made = text.replace(/'(?:[^']|'')*'|"(?:[^"]|"")*"|\?/g, (found) => (found === "?" ? `$${++count}` : found));
    if (known.size >= MOST_KNOWN) known.clear();
    known.set(text, made);
  }
  return made;
}

/** Where it is, without its password. */
export function shownUrl(url: string): string {
  const shown = new URL(url);
  if (shown.password !== "") shown.password = "***";
  return shown.href;
}

/** Connections without a look at what is there. */
export function poolOf(url: string): Pool {
  if (!URL.canParse(url))
    throw new LedgerError("the ledger's URL is none: it is written postgres://user:password@host:5432/database");
  const pool = new Pool({
    connectionString: url,
    max: MOST_CONNECTIONS,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
    // A server that is gone sends no answer: then the connection is given up.
    query_timeout: MOST_QUERY_MS,
    types: { getTypeParser },
  });
  // A connection that breaks while nobody asks anything of it is replaced; whoever asks hears it as an error of the query.
  pool.on("error", () => undefined);
  pool.on("connect", (client) => client.on("error", () => undefined));
  return pool;
}

const getTypeParser: typeof types.getTypeParser = (type, format) =>
  INTEGERS.has(type) ? BigInt : types.getTypeParser(type, format);

async function checkSchema(pool: Pool, url: string): Promise<void> {
  const client = await pool.connect();
  try {
    const applied = await appliedTo(client);
    refuseOther(url, applied);
    const missing = migrationFiles().filter((file) => !applied.has(file));
    if (missing.length > 0)
      throw new LedgerError(
        `${shownUrl(url)} has no books of this version (${missing.join(", ")} is missing). Run \`keymeter ledger migrate\` first, as the role that owns the books.`,
      );
    const path = String((await runOn(client, "SELECT array_to_string(current_schemas(false), ' ')", []))[0]?.[0]);
    if (!path.startsWith("usage billing notices"))
      throw new LedgerError(
        `${shownUrl(url)} looks for tables in "${path}". Say ALTER ROLE ... IN DATABASE ... SET search_path = usage, billing, notices, public for its role, and start again.`,
      );
    const isolation = String(
      (await runOn(client, "SELECT current_setting('default_transaction_isolation')", []))[0]?.[0],
    );
    if (isolation !== "read committed")
      throw new LedgerError(
        `${shownUrl(url)} has default_transaction_isolation ${isolation}; sums of several proxies need "read committed". Set it for the role or the database, and start again.`,
      );
  } finally {
    client.release();
  }
}

/** By name of the migration. `isAdditive`: programs of the release before go on with it. */
type Applied = ReadonlyMap<string, { readonly digest: string; readonly isAdditive: boolean }>;

/** Migrations that the database has. */
async function appliedTo(client: Client): Promise<Applied> {
  const [there] = await runOn(client, "SELECT to_regclass('usage.migrations') IS NOT NULL", []);
  if (there?.[0] === true)
    return new Map(
      (
        (await runOn(
          client,
          "SELECT name, digest, COALESCE((to_jsonb(migrations) ->> 'is_additive')::boolean, false) FROM usage.migrations",
          [],
        )) as [string, string, boolean][]
      ).map(([name, digest, additive]) => [name, { digest, isAdditive: additive }]),
    );
  const [other] = await runOn(
    client,
    "SELECT nspname FROM pg_namespace WHERE nspname IN ('usage', 'billing', 'notices') LIMIT 1",
    [],
  );
  if (other !== undefined)
    throw new LedgerError(
      `the database has a schema "${String(other[0])}" that is not Keymeter's. Give Keymeter a database of its own.`,
    );
  return new Map();
}

function refuseOther(url: string, applied: Applied): void {
  const files = migrationFiles();
  const newer = [...applied].find(([name, { isAdditive: isUsable }]) => !files.includes(name) && !isUsable)?.[0];
  if (newer !== undefined)
    throw new LedgerError(
      `${shownUrl(url)} was written by a newer Keymeter (it has ${newer}). Start that version, or restore a backup made before the upgrade.`,
    );
  const edited = files.find((file) => (applied.get(file)?.digest ?? digestOf(file)) !== digestOf(file));
  if (edited !== undefined)
    throw new LedgerError(
      `${shownUrl(url)}: ledger/migrations/postgres/${edited} is not what was applied to it. Bring it back from the release that is installed.`,
    );
}

function migrationFiles(): string[] {
  return readdirSync(FOLDER)
    .filter((file) => file.endsWith(".sql"))
    .toSorted();
}

/** Its first line says so. */
function isAdditive(file: string): boolean {
  return readFileSync(new URL(file, FOLDER), "utf8").startsWith("-- additive\n");
}

function digestOf(file: string): string {
  return createHash("sha256")
    .update(readFileSync(new URL(file, FOLDER)))
    .digest("hex");
}

/** Settings of the server under which what was committed may be gone after a power cut. */
const LOSING: { readonly [setting: string]: readonly string[] } = {
  fsync: ["off"],
  full_page_writes: ["off"],
  synchronous_commit: ["off"],
};

/** Rejects with a LedgerError when the server may lose what it has committed. */
export async function checkDurability(pool: Pool, url: string): Promise<void> {
  for (const [setting, losing] of Object.entries(LOSING)) {
    const [row] = await runOn(pool, "SELECT current_setting(?)", [setting]);
    if (losing.includes(String(row?.[0])))
      throw new LedgerError(
        `${shownUrl(url)} has ${setting} ${String(row?.[0])}: a power cut there takes what was booked. Set it on, or say that it may: proxy.durability (KEYMETER_DURABILITY) process.`,
      );
  }
}

const ADVICE: { readonly [code: string]: string } = {
  "28P01": "its password is another one",
  "28000": "it lets this role in from nowhere here (pg_hba.conf)",
  "3D000": "there is no such database; make it first",
  "42501": "its role may not do that; use the role that owns the books, or give it the rights",
  "25006": "it is a read-only standby; give the address of the primary",
  "53300": "it has no connection free; raise max_connections or put a pooler between",
  "57P03": "it is starting or stopping; start again when it is up",
};

/** Turns what an operator can mend into sentences. */
export async function explain<T>(url: string, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (error) {
    if (error instanceof LedgerError || !(error instanceof Error)) throw error;
    const code = "code" in error ? String(error.code) : "";
    const advice = ADVICE[code];
    if (advice !== undefined) throw new LedgerError(`${shownUrl(url)} cannot be used: ${advice} (${error.message})`);
    if (/^E[A-Z]+$/.test(code) || error.message.includes("timeout"))
      throw new LedgerError(
        `${shownUrl(url)} cannot be reached (${error.message || code}). Is it up, and may this machine connect to it?`,
      );
    throw error;
  }
}
