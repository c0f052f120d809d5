// Spend: read models over the rollups. Sums of cost over a window and a scope, for people and programs; reads only.
import { QUARTER_MS } from "../windows.ts";
import { and, gte, lt, sql } from "../drizzle.ts";
import type { AnySQLiteColumn } from "../drizzle.ts";
import { firstAttemptId } from "../ids.ts";
import { booked, rollupDay } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import type { Calendar } from "../windows.ts";
import { BOOKED_COLUMNS, lies } from "./within.ts";
import type { Within } from "./within.ts";
import { addSums, eventTotals, largestFirst, toSpendRow, totals } from "./spend-sums.ts";
import type { Breakdown, Dimension, SpendRow, Sums } from "./spend-sums.ts";

const COLUMNS: { readonly [dimension in Dimension]: AnySQLiteColumn } = {
  day: rollupDay.day,
  key: rollupDay.keyId,
  team: rollupDay.team,
  project: rollupDay.project,
  env: rollupDay.env,
  user: rollupDay.user,
  payer: rollupDay.payer,
  provider: rollupDay.provider,
  model: rollupDay.model,
};

/** Spend of the local days `[sinceDay, untilDay)`, by any dimensions, largest first; of what lies `within` only. */
export async function readSpend(
  books: UsageBooks,
  by: readonly Dimension[],
  sinceDay: string,
  untilDay: string,
  within: Within = {},
): Promise<SpendRow[]> {
  const columns = Object.fromEntries(by.map((dimension) => [dimension, COLUMNS[dimension]]));
  const rows = (await tablesOf(books)
    .select({ ...columns, ...totals })
    .from(rollupDay)
    .where(and(gte(rollupDay.day, sinceDay), lt(rollupDay.day, untilDay), ...lies(within, COLUMNS)))
    .groupBy(...by.map((dimension) => COLUMNS[dimension]))
    .orderBy(...by.map((dimension) => COLUMNS[dimension]))
    .all()) as (Record<string, string> & { [sum in keyof typeof totals]: bigint | null })[];
  return rows
    .filter((row) => row.requests !== null && Number(row.requests) > 0)
    .map((row) => toSpendRow(Object.fromEntries(by.map((dimension) => [dimension, row[dimension] ?? ""])), row))
    .toSorted(largestFirst);
}

/** The same, by tags too. Tags stand with the events only, so these are walked: as far back as events are kept. */
export async function readSpendByTag(
  books: UsageBooks,
  by: readonly Breakdown[],
  calendar: Calendar,
  sinceDay: string,
  untilDay: string,
  within: Within = {},
): Promise<SpendRow[]> {
  // Days belong to the zone, which SQL does not know; a quarter of an hour lies in one day of any zone.
  const expressions = by.map((part) => {
    if (part === "day") return sql`${booked.atMs} / ${sql.raw(String(QUARTER_MS))}`;
    // Whom requests name stood among their tags, before users.
    if (part === "tag:user")
      return sql`COALESCE(NULLIF(${booked.user}, ''), json_extract(${booked.tags}, '$."user"'), '')`;
    return isTag(part) ? sql`COALESCE(json_extract(${booked.tags}, ${tagPath(part)}), '')` : BOOKED_COLUMNS[part];
  });
  const rows = (await tablesOf(books)
    .select({
      ...Object.fromEntries(expressions.map((expression, i) => [`part${i}`, sql`${expression}`])),
      ...eventTotals,
    })
    .from(booked)
    .where(
      and(
        gte(booked.attemptId, firstAttemptId(calendar.dayStart(sinceDay))),
        lt(booked.attemptId, firstAttemptId(calendar.dayStart(untilDay))),
        ...lies(within, BOOKED_COLUMNS),
      ),
    )
    .groupBy(...expressions.map((_expression, i) => sql.raw(String(i + 1))))
    .orderBy(...expressions.map((_expression, i) => sql.raw(String(i + 1))))
    .all()) as (Record<string, string | bigint> & Sums)[];
  const groups = new Map<string, SpendRow>();
  for (const row of rows) {
    if (Number(row.requests ?? 0) === 0) continue;
    const values = by.map((part, i) =>
      part === "day" ? calendar.day(Number(row[`part${i}`]) * QUARTER_MS) : String(row[`part${i}`] ?? ""),
    );
    const name = JSON.stringify(values);
    const read = toSpendRow(Object.fromEntries(by.map((part, i) => [part, values[i] ?? ""])), row);
    const known = groups.get(name);
    groups.set(name, known ? { group: known.group, ...addSums(known, read) } : read);
  }
  return [...groups.values()].toSorted(largestFirst);
}

export function isTag(part: string): part is `tag:${string}` {
  return part.startsWith("tag:");
}

/** The place of a tag in the event's JSON. */
export function tagPath(part: `tag:${string}`): string {
  return `$."${part.slice("tag:".length)}"`;
}
