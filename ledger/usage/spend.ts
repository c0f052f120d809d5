// Spend: read models over the rollups. Sums of cost over a window and a scope, for people and programs; reads only.
import { and, gte, lt, sql } from "../drizzle.ts";
import type { AnySQLiteColumn, SQL } from "../drizzle.ts";
import { firstAttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { booked, events, rollupDay, rollupHour } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../sqlite-books.ts";
import type { Calendar } from "../windows.ts";
import { BOOKED_COLUMNS, lies } from "./within.ts";
import type { Within } from "./within.ts";
import { QUARTER_MS } from "./hours.ts";

/** What spend can be broken down by. */
export const DIMENSIONS = ["day", "key", "team", "project", "env", "provider", "model"] as const;

export type Dimension = (typeof DIMENSIONS)[number];

/** A dimension, or the value of a tag: `tag:feature`. */
export type Breakdown = Dimension | `tag:${string}`;

/** A sum of cost and what it is made of. Requests whose cost is not known stand apart: they are in no sum. */
export type SpendSums = {
  readonly costNanoUsd: NanoUsd;
  readonly requests: number;
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly output: number;
  readonly estimated: number;
  readonly unknown: number;
  readonly unpriced: number;
  readonly inferred: number;
};

/** The sum of one group, by the values of the dimensions asked for, in their order. */
export type SpendRow = SpendSums & { readonly group: { readonly [part in Breakdown]?: string } };

const COLUMNS: { readonly [dimension in Dimension]: AnySQLiteColumn } = {
  day: rollupDay.day,
  key: rollupDay.keyId,
  team: rollupDay.team,
  project: rollupDay.project,
  env: rollupDay.env,
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
  const rows = tablesOf(books)
    .select({ ...columns, ...totals })
    .from(rollupDay)
    .where(and(gte(rollupDay.day, sinceDay), lt(rollupDay.day, untilDay), ...lies(within, COLUMNS)))
    .groupBy(...by.map((dimension) => COLUMNS[dimension]))
    .all() as (Record<string, string> & { [sum in keyof typeof totals]: bigint | null })[];
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
    return isTag(part) ? sql`COALESCE(json_extract(${booked.tags}, ${tagPath(part)}), '')` : BOOKED_COLUMNS[part];
  });
  const rows = tablesOf(books)
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
    .all() as (Record<string, string | bigint> & Sums)[];
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
function tagPath(part: `tag:${string}`): string {
  return `$."${part.slice("tag:".length)}"`;
}

type Sums = { readonly [sum in keyof typeof totals]: bigint | null };

export function toSpendRow(group: SpendRow["group"], sums: Sums): SpendRow {
  return {
    group,
    costNanoUsd: BigInt(sums.costNanoUsd ?? 0),
    requests: Number(sums.requests),
    input: Number(sums.input),
    cacheRead: Number(sums.cacheRead),
    cacheWrite: Number(sums.cacheWrite),
    output: Number(sums.output),
    estimated: Number(sums.estimated),
    unknown: Number(sums.unknown),
    unpriced: Number(sums.unpriced),
    inferred: Number(sums.inferred),
  };
}

/** Nothing was asked, nothing was spent. */
export const NO_SPEND: SpendSums = {
  costNanoUsd: 0n,
  requests: 0,
  input: 0,
  cacheRead: 0,
  cacheWrite: 0,
  output: 0,
  estimated: 0,
  unknown: 0,
  unpriced: 0,
  inferred: 0,
};

/** Two sums in one. */
export function addSums(a: SpendSums, b: SpendSums): SpendSums {
  return {
    costNanoUsd: a.costNanoUsd + b.costNanoUsd,
    requests: a.requests + b.requests,
    input: a.input + b.input,
    cacheRead: a.cacheRead + b.cacheRead,
    cacheWrite: a.cacheWrite + b.cacheWrite,
    output: a.output + b.output,
    estimated: a.estimated + b.estimated,
    unknown: a.unknown + b.unknown,
    unpriced: a.unpriced + b.unpriced,
    inferred: a.inferred + b.inferred,
  };
}

function largestFirst(a: SpendRow, b: SpendRow): number {
  return b.costNanoUsd > a.costNanoUsd ? 1 : b.costNanoUsd < a.costNanoUsd ? -1 : 0;
}

const total = (column: AnySQLiteColumn): SQL<bigint | null> => sql`SUM(${column})`;

const totalsOf = (
  rollup: typeof rollupDay | typeof rollupHour,
): { readonly [sum in keyof SpendSums]: SQL<bigint | null> } => ({
  costNanoUsd: total(rollup.costNanoUsd),
  requests: total(rollup.requests),
  input: total(rollup.input),
  cacheRead: total(rollup.cacheRead),
  cacheWrite: total(rollup.cacheWrite),
  output: total(rollup.output),
  estimated: total(rollup.estimated),
  unknown: total(rollup.unknown),
  unpriced: total(rollup.unpriced),
  inferred: total(rollup.inferred),
});

const totals = totalsOf(rollupDay);

export const hourTotals = totalsOf(rollupHour);

/** The sums of the rollups, from the events themselves. */
const eventTotals: { readonly [sum in keyof typeof totals]: SQL<bigint | null> } = {
  costNanoUsd: total(booked.bookedNanoUsd),
  requests: sql`COUNT(*)`,
  input: total(booked.input),
  cacheRead: total(booked.cacheRead),
  cacheWrite: total(booked.cacheWrite),
  output: total(booked.output),
  estimated: total(booked.estimated),
  unknown: total(booked.unknown),
  unpriced: total(booked.unpriced),
  inferred: total(booked.inferred),
};
