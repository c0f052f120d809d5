// Spend: read models over the rollups. Sums of cost over a window and a scope, for people and programs; reads only.
import { and, asc, drizzle, eq, gte, lt, sql } from "./drizzle.ts";
import type { AnySQLiteColumn, SQL } from "./drizzle.ts";
import type { Budget } from "./budgets.ts";
import { firstAttemptId } from "./ids.ts";
import type { NanoUsd } from "./money.ts";
import type { Sqlite } from "./open.ts";
import { events, keys, meterHours, refused, rollupDay, rollupHour } from "./schema.ts";
import type { Window } from "./windows.ts";

/** What spend can be broken down by. */
export const DIMENSIONS = ["day", "key", "team", "project", "env", "provider", "model"] as const;
export type Dimension = (typeof DIMENSIONS)[number];

/** A sum of cost and what it is made of. Requests whose cost is not known stand apart: they are in no sum. */
export type SpendRow = {
  /** Values of the dimensions asked for, in their order. */
  readonly group: { readonly [dimension in Dimension]?: string };
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

const COLUMNS: { readonly [dimension in Dimension]: AnySQLiteColumn } = {
  day: rollupDay.day,
  key: rollupDay.keyId,
  team: rollupDay.team,
  project: rollupDay.project,
  env: rollupDay.env,
  provider: rollupDay.provider,
  model: rollupDay.model,
};

/** Spend of the local days `[sinceDay, untilDay)`, by any dimensions, largest first. */
export async function readSpend(
  database: Sqlite,
  by: readonly Dimension[],
  sinceDay: string,
  untilDay: string,
): Promise<SpendRow[]> {
  const columns = Object.fromEntries(by.map((dimension) => [dimension, COLUMNS[dimension]]));
  const rows = drizzle(database)
    .select({ ...columns, ...totals })
    .from(rollupDay)
    .where(and(gte(rollupDay.day, sinceDay), lt(rollupDay.day, untilDay)))
    .groupBy(...by.map((dimension) => COLUMNS[dimension]))
    .all() as (Record<string, string> & { [sum in keyof typeof totals]: bigint | null })[];
  return rows
    .filter((row) => row.requests !== null && Number(row.requests) > 0)
    .map((row) => ({
      group: Object.fromEntries(by.map((dimension) => [dimension, row[dimension] ?? ""])),
      costNanoUsd: BigInt(row.costNanoUsd ?? 0),
      requests: Number(row.requests),
      input: Number(row.input),
      cacheRead: Number(row.cacheRead),
      cacheWrite: Number(row.cacheWrite),
      output: Number(row.output),
      estimated: Number(row.estimated),
      unknown: Number(row.unknown),
      unpriced: Number(row.unpriced),
      inferred: Number(row.inferred),
    }))
    .toSorted((a, b) => (b.costNanoUsd > a.costNanoUsd ? 1 : b.costNanoUsd < a.costNanoUsd ? -1 : 0));
}

const total = (column: AnySQLiteColumn): SQL<bigint | null> => sql`SUM(${column})`;
const totals = {
  costNanoUsd: total(rollupDay.costNanoUsd),
  requests: total(rollupDay.requests),
  input: total(rollupDay.input),
  cacheRead: total(rollupDay.cacheRead),
  cacheWrite: total(rollupDay.cacheWrite),
  output: total(rollupDay.output),
  estimated: total(rollupDay.estimated),
  unknown: total(rollupDay.unknown),
  unpriced: total(rollupDay.unpriced),
  inferred: total(rollupDay.inferred),
};

/** One hour of spend of one owner: the forecast's input. `hourMs` is the start of a UTC hour. */
export type HourlySpend = {
  readonly hourMs: number;
  readonly keyId: string;
  readonly team: string;
  readonly costNanoUsd: NanoUsd;
};

/** Hours `[sinceMs, untilMs)` in which anything was spent, by key and team. An hour without a row is zero only if the
 *  meter ran. */
export async function readHourlySpend(database: Sqlite, sinceMs: number, untilMs: number): Promise<HourlySpend[]> {
  return drizzle(database)
    .select({
      hourMs: rollupHour.hourMs,
      keyId: rollupHour.keyId,
      team: rollupHour.team,
      cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})`,
    })
    .from(rollupHour)
    .where(and(gte(rollupHour.hourMs, sinceMs), lt(rollupHour.hourMs, untilMs)))
    .groupBy(rollupHour.hourMs, rollupHour.keyId, rollupHour.team)
    .orderBy(asc(rollupHour.hourMs))
    .all()
    .map(({ cost, ...row }) => ({ ...row, costNanoUsd: cost }));
}

/** The hours of `[sinceMs, untilMs)` in which the meter ran, by the start of each UTC hour. */
export async function readMeterHours(database: Sqlite, sinceMs: number, untilMs: number): Promise<Set<number>> {
  const rows = drizzle(database)
    .select()
    .from(meterHours)
    .where(and(gte(meterHours.hourMs, sinceMs), lt(meterHours.hourMs, untilMs)))
    .all();
  return new Set(rows.map((row) => row.hourMs));
}

/** What was metered on one UTC day at one provider, by key and served model: the meter's side of reconciliation. */
export type MeteredDay = {
  readonly keyId: string;
  readonly model: string;
  readonly costNanoUsd: NanoUsd;
  readonly requests: number;
};

export async function readMeteredDay(database: Sqlite, provider: string, dayStartMs: number): Promise<MeteredDay[]> {
  return drizzle(database)
    .select({
      keyId: rollupHour.keyId,
      model: rollupHour.model,
      cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})`,
      requests: sql<bigint>`SUM(${rollupHour.requests})`,
    })
    .from(rollupHour)
    .where(
      and(
        eq(rollupHour.provider, provider),
        gte(rollupHour.hourMs, dayStartMs),
        lt(rollupHour.hourMs, dayStartMs + 86_400_000),
      ),
    )
    .groupBy(rollupHour.keyId, rollupHour.model)
    .all()
    .map((row) => ({
      keyId: row.keyId,
      model: row.model,
      costNanoUsd: row.cost,
      requests: Number(row.requests),
    }));
}

/** The settled sum of a budget in a window, folded from the books: whole days from the day rollup, hours from events. */
export function readSettled(database: Sqlite, budget: Budget, window: Window): NanoUsd {
  const { scope } = budget;
  if (budget.window === "hour") {
    const row = drizzle(database)
      .select({ cost: sql<bigint | null>`SUM(${events.costNanoUsd})` })
      .from(events)
      .where(
        and(
          gte(events.attemptId, firstAttemptId(window.startMs)),
          lt(events.attemptId, firstAttemptId(window.endMs)),
          ...parts(scope, {
            team: events.team,
            project: events.project,
            env: events.env,
            keyId: events.keyId,
            provider: events.provider,
          }),
          scope.model === undefined
            ? undefined
            : sql`(${events.servedModel} GLOB ${scope.model} OR ${events.requestedModel} GLOB ${scope.model})`,
        ),
      )
      .get();
    return BigInt(row?.cost ?? 0);
  }
  const row = drizzle(database)
    .select({ cost: sql<bigint | null>`SUM(${rollupDay.costNanoUsd})` })
    .from(rollupDay)
    .where(
      and(
        gte(rollupDay.day, window.firstDay),
        lt(rollupDay.day, window.endDay),
        ...parts(scope, {
          team: rollupDay.team,
          project: rollupDay.project,
          env: rollupDay.env,
          keyId: rollupDay.keyId,
          provider: rollupDay.provider,
        }),
        scope.model === undefined
          ? undefined
          : sql`(${rollupDay.model} GLOB ${scope.model} OR ${rollupDay.requestedModel} GLOB ${scope.model})`,
      ),
    )
    .get();
  return BigInt(row?.cost ?? 0);
}

function parts(
  scope: Budget["scope"],
  columns: { readonly [part in "team" | "project" | "env" | "keyId" | "provider"]: AnySQLiteColumn },
): (SQL | undefined)[] {
  return (["team", "project", "env", "keyId", "provider"] as const).map((part) =>
    scope[part] === undefined ? undefined : eq(columns[part], scope[part]),
  );
}

/** Names of keys by id. */
export async function readKeyNames(database: Sqlite): Promise<Map<string, string>> {
  return new Map(
    drizzle(database)
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
};

export async function readRefused(database: Sqlite, sinceMs: number, untilMs: number): Promise<RefusedRow[]> {
  return drizzle(database)
    .select({
      keyId: refused.keyId,
      reason: refused.reason,
      budgetId: refused.budgetId,
      observed: refused.observed,
      count: sql<bigint>`SUM(${refused.count})`,
    })
    .from(refused)
    .where(and(gte(refused.minuteMs, sinceMs), lt(refused.minuteMs, untilMs)))
    .groupBy(refused.keyId, refused.reason, refused.budgetId, refused.observed)
    .all()
    .map((row) => ({ ...row, observed: row.observed === 1, count: Number(row.count) }));
}
