// Keys as their use shows them: what they are called, when each was used last, in which hours; and the names that
// clients use most. Reads only.
import { and, asc, desc, eq, gt, gte, ne, sql } from "../drizzle.ts";
import { readPeople } from "./people.ts";
import { keys, rollupHour } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { rowsOf, tablesOf } from "../engine.ts";

/** The start of the last UTC hour, before an instant if one is given, in which each key asked for something that was
 *  booked: a look or two at an index for each key, however many hours are kept. */
export async function readLastUsed(
  books: UsageBooks,
  beforeMs = Number.MAX_SAFE_INTEGER,
): Promise<Map<string, number>> {
  const rows = await rowsOf<[keyId: string, hourMs: bigint | null]>(
    books,
    `WITH RECURSIVE ids(id) AS (
         SELECT MIN(key_id) FROM rollup_hour
         UNION ALL
         SELECT (SELECT MIN(key_id) FROM rollup_hour WHERE key_id > ids.id) FROM ids WHERE ids.id IS NOT NULL)
       SELECT id, (SELECT hour_ms FROM rollup_hour WHERE key_id = ids.id AND requests > 0 AND hour_ms < ?
                   ORDER BY hour_ms DESC LIMIT 1) FROM ids WHERE id IS NOT NULL`,
    beforeMs,
  );
  return new Map(rows.flatMap(([id, hourMs]) => (hourMs === null ? [] : [[id, Number(hourMs)] as const])));
}

/** The names of one kind with the most requests in the hours since an instant, the most first. */
export async function readMostUsed(
  books: UsageBooks,
  kind: "team" | "project" | "env" | "requestedModel",
  sinceMs: number,
  most: number,
): Promise<string[]> {
  const column = rollupHour[kind];
  const rows = await tablesOf(books)
    .select({ name: sql<string>`${column}` })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), ne(column, "")))
    .groupBy(column)
    .orderBy(desc(sql`SUM(${rollupHour.requests})`), asc(column))
    .limit(most)
    .all();
  return rows.map(({ name }) => name);
}

/** When a key was last used, as `readLastUsed` says it of all. */
export async function findLastUsed(books: UsageBooks, keyId: string): Promise<number | undefined> {
  const last = await tablesOf(books)
    .select({ hourMs: rollupHour.hourMs })
    .from(rollupHour)
    .where(and(eq(rollupHour.keyId, keyId), gt(rollupHour.requests, 0)))
    .orderBy(desc(rollupHour.hourMs))
    .limit(1)
    .get();
  return last?.hourMs;
}

/** The UTC hours since an instant in which a key was used, by provider. */
export async function readKeyHours(
  books: UsageBooks,
  keyId: string,
  sinceMs: number,
): Promise<{ readonly provider: string; readonly hourMs: number }[]> {
  return tablesOf(books)
    .selectDistinct({ provider: rollupHour.provider, hourMs: rollupHour.hourMs })
    .from(rollupHour)
    .where(and(eq(rollupHour.keyId, keyId), gte(rollupHour.hourMs, sinceMs)))
    .orderBy(rollupHour.hourMs, rollupHour.provider)
    .all();
}

/** Names of keys and of users, by id. */
export async function readNames(books: UsageBooks): Promise<Map<string, string>> {
  const ofKeys = await tablesOf(books).select({ id: keys.id, name: keys.name }).from(keys).orderBy(keys.id).all();
  return new Map([...ofKeys.map((row) => [row.id, row.name] as const), ...(await readPeople(books))]);
}
