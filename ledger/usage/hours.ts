// Spend by the UTC hour, and what forecasts and corrections read of it: by one dimension, by what a scope covers. Reads
// only.
import { and, asc, eq, gte, lt, sql } from "../drizzle.ts";
import type { SQL } from "../drizzle.ts";
import type { Subject } from "../budgets.ts";
import { firstAttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { booked, rollupHour } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import type { FORECAST_SCOPES } from "../billing/schema.ts";
import { hourTotals, toSpendRow } from "./spend-sums.ts";
import type { SpendRow } from "./spend-sums.ts";

/** What a forecast is about: the organisation ("all"), or one value of a dimension. */
export type ForecastScope = { readonly scope: (typeof FORECAST_SCOPES)[number]; readonly id: string };

/** Spend of one scope in one UTC hour, by the hour's start: the forecast's input. */
export type HourlySpend = { readonly hourMs: number; readonly id: string; readonly costNanoUsd: NanoUsd };

/** Hours `[sinceMs, untilMs)` in which anything was spent, by the values of one dimension; of what lies `within`
 *  another scope only. An hour without a row is zero only if the meter ran. */
export async function readHourlySpend(
  books: UsageBooks,
  sinceMs: number,
  untilMs: number,
  by: ForecastScope["scope"],
  within?: ForecastScope,
): Promise<HourlySpend[]> {
  const id = by === "org" ? sql<string>`CAST('all' AS TEXT)` : HOUR_COLUMNS[by];
  const rows = await tablesOf(books)
    .select({ hourMs: rollupHour.hourMs, id: sql<string>`${id}`, cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})` })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), lt(rollupHour.hourMs, untilMs), isWithin(within)))
    .groupBy(rollupHour.hourMs, id)
    .orderBy(asc(rollupHour.hourMs), id)
    .all();
  return rows.map(({ cost, ...row }) => ({ ...row, costNanoUsd: cost }));
}

/** Spend of each UTC hour of `[sinceMs, untilMs)` by all of its parts, hour by hour. */
export async function readSpendByHour(
  books: UsageBooks,
  sinceMs: number,
  untilMs: number,
): Promise<(SpendRow & { readonly hourMs: number })[]> {
  const parts = Object.keys(HOUR_COLUMNS) as (keyof typeof HOUR_COLUMNS)[];
  const rows = await tablesOf(books)
    .select({ hourMs: rollupHour.hourMs, ...HOUR_COLUMNS, ...hourTotals })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), lt(rollupHour.hourMs, untilMs)))
    .groupBy(rollupHour.hourMs, ...Object.values(HOUR_COLUMNS))
    .orderBy(asc(rollupHour.hourMs), ...Object.values(HOUR_COLUMNS))
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
  const id = by === "org" ? sql<string>`CAST('all' AS TEXT)` : HOUR_COLUMNS[by];
  const rows = await tablesOf(books)
    .select({ id: sql<string>`${id}`, cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})` })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), lt(rollupHour.hourMs, untilMs), isWithin(within)))
    .groupBy(id)
    .orderBy(id)
    .all();
  return new Map(rows.map((row) => [row.id, row.cost]));
}

/** Spend with all that a budget's scope looks at. */
export type SubjectSpend = Subject & { readonly costNanoUsd: NanoUsd };

/** Spend since an instant, by subject: of whole UTC hours, or to the millisecond from the events themselves (minutes,
 *  not days). */
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
        user: rollupHour.user,
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
        rollupHour.user,
        rollupHour.keyId,
        rollupHour.provider,
        rollupHour.requestedModel,
        rollupHour.model,
      )
      .orderBy(
        rollupHour.team,
        rollupHour.project,
        rollupHour.env,
        rollupHour.user,
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
      user: booked.user,
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
      booked.user,
      booked.keyId,
      booked.provider,
      booked.requestedModel,
      booked.model,
    )
    .orderBy(
      booked.team,
      booked.project,
      booked.env,
      booked.user,
      booked.keyId,
      booked.provider,
      booked.requestedModel,
      booked.model,
    )
    .all();
}

export const HOUR_COLUMNS = {
  key: rollupHour.keyId,
  team: rollupHour.team,
  project: rollupHour.project,
  env: rollupHour.env,
  user: rollupHour.user,
  provider: rollupHour.provider,
  model: rollupHour.model,
};

function isWithin(within: ForecastScope | undefined): SQL | undefined {
  return within === undefined || within.scope === "org" ? undefined : eq(HOUR_COLUMNS[within.scope], within.id);
}
