// The proof that sums are nothing but their events and adjustments, and that keys, budgets and limits are what the
// audit says was done to them: both are made again, and every row that disagrees is named.
import { answerFrom, answerIn } from "../asking.ts";
import { createHash } from "node:crypto";
import { applyChange } from "./changes.ts";
import type { Change } from "./changes.ts";
import { asc, drizzle, getTableColumns, getTableName, sql } from "../drizzle.ts";
import type { AnySQLiteColumn, SQLiteTable } from "../drizzle.ts";
import { rowsOf, snapshotOf, tablesOf, valueOf } from "../engine.ts";
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { openScratch } from "../sqlite.ts";
import type { UsageBooks } from "../books.ts";
import type { Key } from "./keys.ts";
import { askPeople, foldName } from "./people.ts";
import { endOfExpiries, readExpiries } from "./retention.ts";
import { createRollups } from "./rollups.ts";
import { audit, budgets, freezes, keys, keySecrets, limits, raises, seatPrices, tokens } from "./schema.ts";
import { addDays, createCalendar } from "../windows.ts";

const MOST_NAMED = 100;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** All cache writes of an event. Said here once more: a proof does not go by the view that it would prove. */
const ALL_CACHE_WRITES = `COALESCE(cache_write_5m, 0) + COALESCE(cache_write_1h, 0)
  + COALESCE(CAST(json_extract(other_usage, '$.cache_write_30m') AS BIGINT), 0)
  + COALESCE(CAST(json_extract(other_usage, '$.cache_write_12h') AS BIGINT), 0)`;

const DIMENSIONS = ["key_id", "provider", "model", "requested_model", "team", "project", "env", "person", "payer"];
const SUMS = [
  "requests",
  "cost_nano_usd",
  "input",
  "cache_read",
  "cache_write",
  "output",
  "estimated",
  "unknown",
  "unpriced",
  "inferred",
  "seat_nano_usd",
];

/** A rollup, and the pieces of time in which it is compared. */
type Fold = {
  readonly table: string;
  /** Its column that says when. */
  readonly time: string;
  /** When an event was, as that column has it; of one that is the same in the whole piece nothing. */
  readonly timeOf: string;
  /** The piece that holds an instant: events of `[sinceMs, untilMs)`, rows of `[first, end)`. */
  readonly pieceOf: (atMs: number) => {
    readonly sinceMs: number;
    readonly untilMs: number;
    readonly first: number | string;
    readonly end: number | string;
  };
};

/** Rows of the hour and of the day sums that are not the sum of their events and adjustments, in any of what they add
 *  up, or stand for none. Empty, always. Piece by piece, each as of one instant. */
export async function readFoldDifferences(books: UsageBooks): Promise<string[]> {
  const zone = await valueOf<string>(books, "SELECT value FROM meta WHERE name = 'zone'");
  const calendar = createCalendar(zone ?? "UTC");
  return [
    ...(await compareFold(books, {
      table: "rollup_hour",
      time: "hour_ms",
      timeOf: `at_ms - at_ms % ${HOUR_MS}`,
      pieceOf(atMs) {
        const sinceMs = atMs - (atMs % DAY_MS);
        const untilMs = sinceMs + DAY_MS;
        return { sinceMs, untilMs, first: sinceMs, end: untilMs };
      },
    })),
    ...(await compareFold(books, {
      table: "rollup_day",
      time: "day",
      timeOf: "CAST(NULL AS TEXT)",
      pieceOf(atMs) {
        const first = calendar.day(atMs);
        const end = addDays(first, 1);
        return { sinceMs: calendar.dayStart(first), untilMs: calendar.dayStart(end), first, end };
      },
    })),
  ];
}

type FoldRow = readonly [time: bigint | string | null, ...rest: (bigint | string | null)[]];

async function compareFold(books: UsageBooks, { table, time, timeOf, pieceOf }: Fold): Promise<string[]> {
  const folded = `SELECT ${timeOf}, key_id, provider, COALESCE(served_model, requested_model), requested_model, team, project, env, person, payer,
      COUNT(*), SUM(COALESCE(cost_nano_usd, 0) + COALESCE(amount, 0)), SUM(COALESCE(input, 0)), SUM(COALESCE(cache_read, 0)),
      SUM(${ALL_CACHE_WRITES}), SUM(COALESCE(output, 0)),
      SUM(CASE WHEN usage_state = 'estimated' THEN 1 ELSE 0 END), SUM(CASE WHEN usage_state = 'unknown' THEN 1 ELSE 0 END),
      SUM(CASE WHEN price_confidence = 'unpriced' THEN 1 ELSE 0 END + COALESCE(corrected.unpriced, 0)),
      SUM(CASE WHEN price_confidence = 'inferred' THEN 1 ELSE 0 END + COALESCE(corrected.inferred, 0)),
      SUM(COALESCE(seat_nano_usd, 0))
    FROM events LEFT JOIN (
      SELECT attempt_id, SUM(amount_nano_usd) AS amount, SUM(unpriced) AS unpriced, SUM(inferred) AS inferred
      FROM adjustments WHERE attempt_id >= ? AND attempt_id < ? GROUP BY attempt_id) AS corrected
      ON corrected.attempt_id = events.attempt_id
    WHERE events.attempt_id >= ? AND events.attempt_id < ? GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10`;
  const stored = `SELECT ${[time, ...DIMENSIONS, ...SUMS].join(", ")} FROM ${table} WHERE ${time} >= ? AND ${time} < ?`;
  // Before the walk: what comes meanwhile has events that the walk may not have seen.
  const times = await rowsOf<[bigint | string]>(books, `SELECT DISTINCT ${time} FROM ${table} ORDER BY 1`);
  const found: string[] = [];
  const pieces: { readonly first: number | string; readonly end: number | string }[] = [];
  // What has left the books is proven by the audit (retention.ts).
  const kept = endOfExpiries(await readExpiries(books));
  for (let from: AttemptId = kept; found.length < MOST_NAMED;) {
    const next = await valueOf<bigint | null>(books, "SELECT MIN(attempt_id) FROM events WHERE attempt_id >= ?", from);
    if (typeof next !== "bigint") break;
    const piece = pieceOf(attemptAtMs(Number(next)));
    if (firstAttemptId(piece.sinceMs) < kept) {
      from = firstAttemptId(piece.untilMs);
      pieces.push(piece);
      continue;
    }
    const [first, end] = [firstAttemptId(piece.sinceMs), firstAttemptId(piece.untilMs)];
    const [wanted, actual] = await snapshotOf(books, async (own) => [
      await rowsOf<FoldRow>(own, folded, first, end, first, end),
      await rowsOf<FoldRow>(own, stored, piece.first, piece.end),
    ]);
    found.push(
      ...compareSums(
        wanted.map(([when, ...rest]): FoldRow => [when ?? String(piece.first), ...rest]),
        actual,
      ),
    );
    pieces.push(piece);
    from = end;
    // Others get a turn between two pieces.
    await new Promise((resolve) => setImmediate(resolve));
  }
  // Sums of a time without events stand for none.
  const oldest = pieceOf(attemptAtMs(kept)).first;
  for (const [when] of times) {
    if (found.length >= MOST_NAMED) break;
    if (when < oldest || pieces.some(({ first, end }) => when >= first && when < end)) continue;
    const alone = `SELECT ${[time, ...DIMENSIONS, ...SUMS].join(", ")} FROM ${table} WHERE ${time} = ?`;
    found.push(...compareSums([], await rowsOf<FoldRow>(books, alone, when)));
  }
  return found.slice(0, MOST_NAMED);
}

/** What a row is told apart by: its time and its dimensions; the sums stand behind. */
const NAMED = 1 + DIMENSIONS.length;

function compareSums(wanted: readonly FoldRow[], actual: readonly FoldRow[]): string[] {
  const nameOf = (row: FoldRow): string => row.slice(0, NAMED).map(String).join("\n");
  const there = new Map(actual.map((row) => [nameOf(row), row]));
  const pairs = wanted.map((row) => ({ row, other: there.get(nameOf(row)), isFolded: true }));
  const known = new Set(wanted.map(nameOf));
  const alone = actual
    .filter((row) => !known.has(nameOf(row)))
    .map((row) => ({ row, other: undefined, isFolded: false }));
  return [...pairs, ...alone].flatMap(({ row, other, isFolded }) => {
    const odd = SUMS.flatMap((sum, i) => {
      const [mine, others = null] = [row[NAMED + i], other?.[NAMED + i]];
      const [folded, stored] = isFolded ? [mine, others] : [others, mine];
      return folded === stored ? [] : [`${sum} of events ${String(folded)}, stored ${String(stored)}`];
    });
    if (odd.length === 0) return [];
    const [when, key, , model] = row;
    const time = typeof when === "bigint" ? `hour ${new Date(Number(when)).toISOString()}` : `day ${when}`;
    return [`${time}, key ${String(key)}, model ${String(model)}: ${odd.join("; ")}`];
  });
}

/** What is changed by changes alone, and by what its rows are told apart. */
const REGISTER = [
  [keys, [keys.id]],
  [budgets, [budgets.id]],
  [raises, [raises.id]],
  [freezes, [freezes.id]],
  [limits, [limits.scope]],
  [seatPrices, [seatPrices.scope, seatPrices.month]],
  [tokens, [tokens.id]],
] as const;
/** Audit records that change nothing in the register. */
const ELSEWHERE = new Set([
  "adjust",
  "expire",
  "reassign",
  "closeWork",
  "acceptClock",
  "rotateCredential",
  "seal",
  "late",
  "nameUser",
  "forgetUser",
]);

/** Rows of the register that are not what the audit's changes, played through again, make of them; and secrets that no
 *  change brought. Provider keys that were seen in passing come without a change: they begin active, under the name
 *  that they have, as nobody's. */
export async function readRegisterDifferences(books: UsageBooks): Promise<string[]> {
  const scratch = openScratch("usage");
  try {
    const { there, records, names, secrets } = await snapshotOf(books, async (own) => {
      const tables = tablesOf(own);
      const rows: Row[][] = [];
      for (const [table, names] of REGISTER)
        rows.push(
          await tables
            .select()
            .from(table)
            .orderBy(...names)
            .all(),
        );
      return {
        there: rows,
        records: await tables.select().from(audit).orderBy(asc(audit.seq)).all(),
        names: await answerIn(own, askPeople()),
        secrets: await tables.select().from(keySecrets).where(ISSUED).orderBy(keySecrets.digest).all(),
      };
    });
    const again = drizzle(scratch);
    for (const { id, kind, provider, name, hint, createdAtMs } of there[0] as (typeof keys.$inferSelect)[])
      if (kind === "fingerprint")
        again
          .insert(keys)
          .values({
            id,
            kind,
            provider,
            name,
            hint,
            createdAtMs,
            state: "active",
            team: "",
            project: "",
            env: "",
          })
          .run();
    // Nothing here adds to sums.
    const rollups = createRollups(createCalendar("UTC"), () => {});
    const found: string[] = [];
    /** Keys whose secrets were given before secrets were in the audit. */
    const old = new Set<unknown>();
    const ids = new Map([...names].map(([id, name]) => [foldName(name), id]));
    const users = new Map((there[0] as (typeof keys.$inferSelect)[]).map(({ id, user }) => [id, user]));
    // Records of before users name an owner. One whose name was taken away since is whoever the key has.
    const ofOwner = (keyId: string, owner: string): string => {
      const user = users.get(keyId) ?? "";
      if (owner === "" || !names.has(user)) return owner === "" ? "" : user;
      return ids.get(foldName(owner)) ?? user;
    };
    for (const { seq, action, actor, atMs, detail } of records) {
      if (ELSEWHERE.has(action)) continue;
      const change = readChange(detail, ofOwner);
      const brings = change.type === "createKey" || change.type === "rotateKey";
      if (brings && change.digest === undefined) old.add(change.type === "createKey" ? change.key.id : change.keyId);
      try {
        const whole = brings ? { ...change, digest: change.digest ?? `record ${seq}` } : change;
        answerFrom(scratch, applyChange(rollups, whole, { actor, atMs }));
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        found.push(`audit record ${seq} (${action}) cannot be played through: ${why}`);
      }
    }
    REGISTER.forEach(([table, names], i) =>
      found.push(...compareRows(table, names, (there[i] ?? []).map(asInAudit), again.select().from(table).all())),
    );
    const isNew = ({ keyId }: Issued): boolean => !old.has(keyId);
    const made = again.select().from(keySecrets).where(ISSUED).orderBy(keySecrets.digest).all();
    for (const id of old) {
      const count = (rows: readonly Issued[]): number => rows.filter(({ keyId }) => keyId === id).length;
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
const ISSUED = sql`EXISTS (SELECT 1 FROM ${keys} WHERE ${keys.id} = ${keySecrets.keyId} AND ${keys.kind} = 'virtual')`;

type Issued = Pick<typeof keySecrets.$inferSelect, "digest" | "keyId" | "validUntilMs">;
type Row = { readonly [field: string]: unknown };

/** A row as the audit makes it again: of a token's digest it has a digest. */
function asInAudit(row: Row): Row {
  const { digest } = row;
  return typeof digest === "string" ? { ...row, digest: createHash("sha256").update(digest).digest("hex") } : row;
}

function compareRows(
  table: SQLiteTable,
  names: readonly AnySQLiteColumn[],
  actual: readonly Row[],
  wanted: readonly Row[],
): string[] {
  const columns = getTableColumns(table);
  const title = getTableName(table);
  const fields = Object.entries(columns).flatMap(([field, column]) => (names.includes(column) ? [field] : []));
  const idOf = (row: Row): string => fields.map((field) => String(row[field])).join(" ");
  const there = new Map(actual.map((row) => [idOf(row), row]));
  const known = new Set(wanted.map(idOf));
  const found = [...there.keys()].filter((id) => !known.has(id)).map((id) => `${title}: no audit record made ${id}`);
  for (const row of wanted) {
    const id = idOf(row);
    const one = there.get(id);
    if (!one) found.push(`${title}: ${id} is gone, and no audit record says so`);
    else
      for (const [part, value] of Object.entries(row))
        if (one[part] !== value)
          found.push(
            `${title}: ${id} has ${columns[part]?.name ?? part} ${String(one[part])}, by the audit it is ${String(value)}`,
          );
  }
  return found;
}

/** The audit holds of each secret's digest a digest. */
function compareSecrets(actual: readonly Issued[], made: readonly Issued[]): string[] {
  const wanted = new Map(made.map(({ keyId, digest, validUntilMs }) => [`${keyId} ${digest}`, validUntilMs]));
  const found = actual.flatMap(({ digest, keyId, validUntilMs }) => {
    const name = `${keyId} ${createHash("sha256").update(digest).digest("hex")}`;
    const until = wanted.get(name);
    if (until === undefined) return [`key_secrets: no audit record gave key ${keyId} one of its secrets`];
    wanted.delete(name);
    return until === validUntilMs
      ? []
      : [
          `key_secrets: a secret of key ${keyId} is good until ${String(validUntilMs)}, by the audit until ${String(until)}`,
        ];
  });
  return [...found, ...[...wanted.keys()].map((one) => `key_secrets: a secret of key ${one.split(" ")[0]} is gone`)];
}

/** A change as the audit has it: amounts are digits there, and in old records keys have no purpose and no policy, and an
 *  owner in place of a user. */
function readChange(detail: string, ofOwner: (keyId: string, owner: string) => string): Change {
  const change = JSON.parse(detail) as Change;
  switch (change.type) {
    case "createKey": {
      const { owner = "", ...key } = change.key as Key & { readonly owner?: string };
      return {
        ...change,
        key: {
          ...key,
          user: key.user ?? ofOwner(key.id, owner),
          purpose: key.purpose ?? "",
          policy: key.policy ?? {},
        },
        ...(change.budget ? { budget: readAmount(change.budget) } : {}),
      };
    }
    case "describeKey": {
      const { owner, ...fields } = change.fields as typeof change.fields & { readonly owner?: string };
      return { ...change, fields: owner === undefined ? fields : { ...fields, user: ofOwner(change.keyId, owner) } };
    }
    case "setBudget":
      return { ...change, budget: readAmount(change.budget) };
    case "raiseBudget":
      return { ...change, raise: readAmount(change.raise) };
    case "setSeatPrice":
      return { ...change, seat: { ...change.seat, priceNanoUsd: BigInt(String(change.seat.priceNanoUsd)) } };
    default:
      return change;
  }
}

function readAmount<T extends { readonly amountNanoUsd: NanoUsd }>(one: T): T {
  return { ...one, amountNanoUsd: BigInt(String(one.amountNanoUsd)) };
}
