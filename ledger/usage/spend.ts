// Spend: read models over the rollups. Sums of cost over a window and a scope, for people and programs; reads only.
import { and, asc, desc, eq, gt, gte, lt, ne, sql } from "../drizzle.ts";
import type { AnySQLiteColumn, SQL } from "../drizzle.ts";
import type { Subject } from "../budgets.ts";
import { firstAttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { booked, events, keys, meterHours, refused, rollupDay, rollupHour } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { sqliteOf, tablesOf } from "../sqlite-books.ts";
import type { FORECAST_SCOPES } from "../billing/schema.ts";
import type { Calendar } from "../windows.ts";
import { BOOKED_COLUMNS, lies } from "./within.ts";
import type { Within } from "./within.ts";

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

function toSpendRow(group: SpendRow["group"], sums: Sums): SpendRow {
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
const hourTotals = totalsOf(rollupHour);

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
const QUARTER_MS = 900_000;

/** What a forecast is about: the organisation ("all"), or one value of a dimension. */
export type ForecastScope = { readonly scope: (typeof FORECAST_SCOPES)[number]; readonly id: string };

/** Spend of one scope in one UTC hour, by the hour's start: the forecast's input. */
export type HourlySpend = { readonly hourMs: number; readonly id: string; readonly costNanoUsd: NanoUsd };

/** Hours `[sinceMs, untilMs)` in which anything was spent, by the values of one dimension; of what lies `within` another scope
 *  only. An hour without a row is zero only if the meter ran. */
export async function readHourlySpend(
  books: UsageBooks,
  sinceMs: number,
  untilMs: number,
  by: ForecastScope["scope"],
  within?: ForecastScope,
): Promise<HourlySpend[]> {
  const id = by === "org" ? sql<string>`'all'` : HOUR_COLUMNS[by];
  return tablesOf(books)
    .select({ hourMs: rollupHour.hourMs, id: sql<string>`${id}`, cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})` })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), lt(rollupHour.hourMs, untilMs), isWithin(within)))
    .groupBy(rollupHour.hourMs, id)
    .orderBy(asc(rollupHour.hourMs))
    .all()
    .map(({ cost, ...row }) => ({ ...row, costNanoUsd: cost }));
}

/** Spend of each UTC hour of `[sinceMs, untilMs)` by all of its parts, hour by hour. */
export async function readSpendByHour(
  books: UsageBooks,
  sinceMs: number,
  untilMs: number,
): Promise<(SpendRow & { readonly hourMs: number })[]> {
  const parts = Object.keys(HOUR_COLUMNS) as (keyof typeof HOUR_COLUMNS)[];
  const rows = tablesOf(books)
    .select({ hourMs: rollupHour.hourMs, ...HOUR_COLUMNS, ...hourTotals })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), lt(rollupHour.hourMs, untilMs)))
    .groupBy(rollupHour.hourMs, ...Object.values(HOUR_COLUMNS))
    .orderBy(asc(rollupHour.hourMs))
    .all();
  return rows.map(({ hourMs, ...row }) => ({
    hourMs,
    ...toSpendRow(Object.fromEntries(parts.map((part) => [part, row[part]])), row),
  }));
}

/** Spend of the UTC hours `[sinceMs, untilMs)` by the values of one dimension. */
export async function readSpendOfHours(
  books: UsageBooks,
  sinceMs: number,
  untilMs: number,
  by: ForecastScope["scope"],
  within?: ForecastScope,
): Promise<Map<string, NanoUsd>> {
  const id = by === "org" ? sql<string>`'all'` : HOUR_COLUMNS[by];
  const rows = tablesOf(books)
    .select({ id: sql<string>`${id}`, cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})` })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), lt(rollupHour.hourMs, untilMs), isWithin(within)))
    .groupBy(id)
    .all();
  return new Map(rows.map((row) => [row.id, row.cost]));
}

/** Spend with all that a budget's scope looks at. */
export type SubjectSpend = Subject & { readonly costNanoUsd: NanoUsd };

/** Spend since an instant, by subject: of whole UTC hours, or to the millisecond from the events themselves (minutes, not days). */
export async function readSubjectSpend(
  books: UsageBooks,
  sinceMs: number,
  from: "hours" | "events",
): Promise<SubjectSpend[]> {
  const tables = tablesOf(books);
  if (from === "hours")
    return tables
      .select({
        team: rollupHour.team,
        project: rollupHour.project,
        env: rollupHour.env,
        keyId: rollupHour.keyId,
        provider: rollupHour.provider,
        model: rollupHour.requestedModel,
        servedModel: rollupHour.model,
        costNanoUsd: sql<bigint>`SUM(${rollupHour.costNanoUsd})`,
      })
      .from(rollupHour)
      .where(gte(rollupHour.hourMs, sinceMs))
      .groupBy(
        rollupHour.team,
        rollupHour.project,
        rollupHour.env,
        rollupHour.keyId,
        rollupHour.provider,
        rollupHour.requestedModel,
        rollupHour.model,
      )
      .all();
  return tables
    .select({
      team: booked.team,
      project: booked.project,
      env: booked.env,
      keyId: booked.keyId,
      provider: booked.provider,
      model: booked.requestedModel,
      servedModel: booked.model,
      costNanoUsd: sql<bigint>`SUM(${booked.bookedNanoUsd})`,
    })
    .from(booked)
    .where(gte(booked.attemptId, firstAttemptId(sinceMs)))
    .groupBy(
      booked.team,
      booked.project,
      booked.env,
      booked.keyId,
      booked.provider,
      booked.requestedModel,
      booked.model,
    )
    .all();
}

/** How a provider answered since an instant. `rejected`: 401 or 403 to a credential of ours, under a virtual key. */
export async function readAnswers(
  books: UsageBooks,
  sinceMs: number,
): Promise<
  { readonly provider: string; readonly requests: number; readonly failed: number; readonly rejected: number }[]
> {
  return tablesOf(books)
    .select({
      provider: events.provider,
      requests: sql<bigint>`COUNT(*)`,
      failed: sql<bigint>`SUM(${events.outcome} IN ('upstream_failed', 'upstream_unreachable') OR COALESCE(${events.httpStatus} >= 500, 0))`,
      rejected: sql<bigint>`SUM(COALESCE(${events.httpStatus} IN (401, 403), 0)
        AND EXISTS (SELECT 1 FROM keys WHERE keys.id = ${events.keyId} AND keys.kind = 'virtual'))`,
    })
    .from(events)
    .where(gte(events.attemptId, firstAttemptId(sinceMs)))
    .groupBy(events.provider)
    .all()
    .map(({ provider, ...counts }) => ({
      provider,
      requests: Number(counts.requests),
      failed: Number(counts.failed),
      rejected: Number(counts.rejected),
    }));
}

/** Attempts since an instant that have no price, by provider and model. */
export async function readUnpriced(
  books: UsageBooks,
  sinceMs: number,
): Promise<{ readonly provider: string; readonly model: string; readonly requests: number }[]> {
  return tablesOf(books)
    .select({
      provider: booked.provider,
      model: booked.model,
      requests: sql<bigint>`SUM(${booked.unpriced})`,
    })
    .from(booked)
    .where(gte(booked.attemptId, firstAttemptId(sinceMs)))
    .groupBy(booked.provider, booked.model)
    .all()
    .map((row) => ({ ...row, requests: Number(row.requests) }))
    .filter(({ requests }) => requests > 0);
}

export const HOUR_COLUMNS = {
  key: rollupHour.keyId,
  team: rollupHour.team,
  project: rollupHour.project,
  env: rollupHour.env,
  provider: rollupHour.provider,
  model: rollupHour.model,
};

function isWithin(within: ForecastScope | undefined): SQL | undefined {
  return within === undefined || within.scope === "org" ? undefined : eq(HOUR_COLUMNS[within.scope], within.id);
}

/** The start of the last UTC hour, before an instant if one is given, in which each key asked for something that was booked: a look or two at an index
 *  for each key, however many hours are kept. */
export async function readLastUsed(
  books: UsageBooks,
  beforeMs = Number.MAX_SAFE_INTEGER,
): Promise<Map<string, number>> {
  const rows = sqliteOf(books)
    .prepare(
      `WITH RECURSIVE ids(id) AS (
         SELECT MIN(key_id) FROM rollup_hour
         UNION ALL
         SELECT (SELECT MIN(key_id) FROM rollup_hour WHERE key_id > ids.id) FROM ids WHERE ids.id IS NOT NULL)
       SELECT id, (SELECT hour_ms FROM rollup_hour WHERE key_id = ids.id AND requests > 0 AND hour_ms < ?
                   ORDER BY hour_ms DESC LIMIT 1) FROM ids WHERE id IS NOT NULL`,
    )
    .raw()
    .all(beforeMs) as [string, bigint | number | null][];
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
  return tablesOf(books)
    .select({ name: sql<string>`${column}` })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), ne(column, "")))
    .groupBy(column)
    .orderBy(desc(sql`SUM(${rollupHour.requests})`), asc(column))
    .limit(most)
    .all()
    .map(({ name }) => name);
}

/** When a key was last used, as `readLastUsed` says it of all. */
export async function findLastUsed(books: UsageBooks, keyId: string): Promise<number | undefined> {
  return tablesOf(books)
    .select({ hourMs: rollupHour.hourMs })
    .from(rollupHour)
    .where(and(eq(rollupHour.keyId, keyId), gt(rollupHour.requests, 0)))
    .orderBy(desc(rollupHour.hourMs))
    .limit(1)
    .get()?.hourMs;
}

/** The hours of `[sinceMs, untilMs)` in which the meter ran, by the start of each UTC hour. */
export async function readMeterHours(books: UsageBooks, sinceMs: number, untilMs: number): Promise<Set<number>> {
  const rows = tablesOf(books)
    .select()
    .from(meterHours)
    .where(and(gte(meterHours.hourMs, sinceMs), lt(meterHours.hourMs, untilMs)))
    .all();
  return new Set(rows.map((row) => row.hourMs));
}

/** The start of the first UTC hour in which the meter ran, in part at least; undefined: it never did. */
export async function findMeterBegan(books: UsageBooks): Promise<number | undefined> {
  const first = sqliteOf(books)
    .prepare(
      "SELECT MIN(hour_ms) FROM (SELECT MIN(hour_ms) AS hour_ms FROM meter_hours UNION ALL SELECT MIN(hour_ms) FROM rollup_hour)",
    )
    .pluck()
    .get() as number | bigint | null;
  return first === null ? undefined : Number(first);
}

/** The UTC day on which the meter began: today, if it never ran. Days before it are billed and not metered: they are compared with nothing. */
export async function firstMeteredDay(books: UsageBooks, nowMs: number): Promise<string> {
  return new Date((await findMeterBegan(books)) ?? nowMs).toISOString().slice(0, 10);
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
    .all();
}

/** Names of keys by id. */
export async function readKeyNames(books: UsageBooks): Promise<Map<string, string>> {
  return new Map(
    tablesOf(books)
      .select({ id: keys.id, name: keys.name })
      .from(keys)
      .all()
      .map((row) => [row.id, row.name]),
  );
}

/** Refused requests in `[sinceMs, untilMs)` by key and reason. `observed`: they were let through (cap mode observe). */
export type RefusedRow = {
  readonly keyId: string;
  readonly reason: string;
  readonly budgetId: string;
  readonly observed: boolean;
  readonly count: number;
  /** The start of the last minute in which it happened. */
  readonly lastMinuteMs: number;
};

export async function readRefused(books: UsageBooks, sinceMs: number, untilMs: number): Promise<RefusedRow[]> {
  return tablesOf(books)
    .select({
      keyId: refused.keyId,
      reason: refused.reason,
      budgetId: refused.budgetId,
      observed: refused.observed,
      count: sql<bigint>`SUM(${refused.count})`,
      lastMinuteMs: sql<bigint>`MAX(${refused.minuteMs})`,
    })
    .from(refused)
    .where(and(gte(refused.minuteMs, sinceMs), lt(refused.minuteMs, untilMs)))
    .groupBy(refused.keyId, refused.reason, refused.budgetId, refused.observed)
    .all()
    .map((row) => ({
      ...row,
      observed: row.observed === 1,
      count: Number(row.count),
      lastMinuteMs: Number(row.lastMinuteMs),
    }));
}
