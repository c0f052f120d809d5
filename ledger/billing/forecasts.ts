// Forecasts: made once for a window, at its start or at the first chance after it, and never touched again; and what
// came of them. What somebody planned since (plans.ts) is laid over them when they are read. billing.db; the collector
// is its only writer.
import { and, eq, gt, gte, lt, lte, sql } from "../drizzle.ts";
import type { NanoUsd } from "../money.ts";
import type { BillingBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import { FORECAST_SCOPES, FORECAST_WINDOWS, forecasts, forecastScores } from "./schema.ts";
import type { ForecastScope } from "../usage/hours.ts";

export { FORECAST_SCOPES, FORECAST_WINDOWS };
export type ForecastWindow = (typeof FORECAST_WINDOWS)[number];

export type FrozenForecast = ForecastScope & {
  readonly window: ForecastWindow;
  readonly windowId: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly madeAtMs: number;
  /** "learning": too little history; shown, and no alert goes by it. */
  readonly method: string;
  /** Hours of history it was made from. */
  readonly historyHours: number;
  readonly p10NanoUsd: NanoUsd;
  readonly p50NanoUsd: NanoUsd;
  readonly p90NanoUsd: NanoUsd;
  /** The largest hour of the seven days before it was made. */
  readonly largestHourNanoUsd: NanoUsd;
  /** The window's hours in order, each with its part of p50. */
  readonly hours: readonly NanoUsd[];
};

/** What came of a forecast; its quantiles are those that counted in the end, planned events included. */
export type ForecastScore = ForecastScope &
  Pick<FrozenForecast, "window" | "windowId" | "endMs" | "p10NanoUsd" | "p50NanoUsd" | "p90NanoUsd"> & {
    readonly actualNanoUsd: NanoUsd;
    readonly scoredAtMs: number;
  };

/** How good forecasts were, over the windows that were scored. All are shares: 0.2 is 20 %. */
export type ForecastRecord = {
  readonly windows: number;
  /** Sum of errors over sum of spend (WAPE). */
  readonly error: number;
  /** Forecast minus spend, over spend: above 0, too much was expected. */
  readonly bias: number;
  /** How often spend lay in the 80 % band. */
  readonly coverage: number;
};

/** Freezes forecasts; one that exists for the same scope and window stays as it is, unless it was only learning. */
export async function freezeForecasts(books: BillingBooks, made: readonly FrozenForecast[]): Promise<void> {
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    for (const { id, hours, ...rest } of made) {
      const same = and(
        eq(forecasts.scope, rest.scope),
        eq(forecasts.scopeId, id),
        eq(forecasts.windowId, rest.windowId),
      );
      await tables
        .delete(forecasts)
        .where(and(same, eq(forecasts.method, "learning")))
        .run();
      await tables
        .insert(forecasts)
        .values({ ...rest, scopeId: id, hours: JSON.stringify(hours.map(String)) })
        .onConflictDoNothing()
        .run();
    }
  });
}

/** Which forecasts: of one scope, of one of its ids, of one window. */
export type ForecastFilter = Partial<Pick<FrozenForecast, "scope" | "id" | "window">>;

/** The forecasts of the windows that hold an instant, as they were frozen. */
export async function readForecasts(
  books: BillingBooks,
  atMs: number,
  { scope, id, window }: ForecastFilter = {},
): Promise<FrozenForecast[]> {
  const rows = await tablesOf(books)
    .select()
    .from(forecasts)
    .where(
      and(
        lte(forecasts.startMs, atMs),
        gt(forecasts.endMs, atMs),
        scope === undefined ? undefined : eq(forecasts.scope, scope),
        id === undefined ? undefined : eq(forecasts.scopeId, id),
        window === undefined ? undefined : eq(forecasts.window, window),
      ),
    )
    .orderBy(forecasts.scope, forecasts.scopeId, forecasts.window, forecasts.windowId)
    .all();
  return rows.map(toForecast);
}

/** Forecasts whose window ended in `[sinceMs, untilMs)` and that have no score yet. */
export async function readUnscored(books: BillingBooks, sinceMs: number, untilMs: number): Promise<FrozenForecast[]> {
  const rows = await tablesOf(books)
    .select()
    .from(forecasts)
    .where(
      and(
        gte(forecasts.endMs, sinceMs),
        lt(forecasts.endMs, untilMs),
        sql`NOT EXISTS (SELECT 1 FROM ${forecastScores} AS scored WHERE scored.scope = ${forecasts.scope}
          AND scored.scope_id = ${forecasts.scopeId} AND scored.window_id = ${forecasts.windowId})`,
      ),
    )
    .orderBy(forecasts.scope, forecasts.scopeId, forecasts.window, forecasts.windowId)
    .all();
  return rows.map(toForecast);
}

export async function noteScores(books: BillingBooks, scores: readonly ForecastScore[]): Promise<void> {
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    for (const { id, ...rest } of scores)
      await tables
        .insert(forecastScores)
        .values({ ...rest, scopeId: id })
        .onConflictDoNothing()
        .run();
  });
}

/** Scores of the windows that ended since an instant. */
export async function readScores(books: BillingBooks, sinceMs: number): Promise<ForecastScore[]> {
  const rows = await tablesOf(books)
    .select()
    .from(forecastScores)
    .where(gte(forecastScores.endMs, sinceMs))
    .orderBy(forecastScores.scope, forecastScores.scopeId, forecastScores.endMs, forecastScores.windowId)
    .all();
  return rows.map(({ scopeId, ...row }) => ({ ...row, id: scopeId }));
}

/** Lets go of what nobody asks for any more: forecasts of single hours. */
export async function dropHourForecasts(books: BillingBooks, beforeMs: number): Promise<void> {
  await books.transaction(async (own) => {
    for (const table of [forecasts, forecastScores])
      await tablesOf(own)
        .delete(table)
        .where(and(eq(table.window, "hour"), lt(table.endMs, beforeMs)))
        .run();
  });
}

/** The record of some scores; undefined where nothing was spent in any of them. */
export function recordOf(scores: readonly ForecastScore[]): ForecastRecord | undefined {
  let [spent, missed, expected, held] = [0n, 0n, 0n, 0];
  for (const { actualNanoUsd: actual, p10NanoUsd: low, p50NanoUsd: middle, p90NanoUsd: high } of scores) {
    spent += actual;
    expected += middle;
    missed += actual > middle ? actual - middle : middle - actual;
    if (low <= actual && actual <= high) held += 1;
  }
  if (spent <= 0n) return undefined;
  const share = (part: NanoUsd): number => Number(part) / Number(spent);
  return {
    windows: scores.length,
    error: share(missed),
    bias: share(expected - spent),
    coverage: held / scores.length,
  };
}

/** What the forecast expected from the window's start until an instant; the running hour in proportion. */
export function expectedSoFar(forecast: FrozenForecast, atMs: number): NanoUsd {
  const elapsedMs = Math.min(Math.max(atMs, forecast.startMs), forecast.endMs) - forecast.startMs;
  const whole = Math.floor(elapsedMs / HOUR_MS);
  const sum = forecast.hours.slice(0, whole).reduce((total, hour) => total + hour, 0n);
  return sum + ((forecast.hours[whole] ?? 0n) * BigInt(elapsedMs % HOUR_MS)) / BigInt(HOUR_MS);
}

function toForecast({ scopeId, hours, ...row }: typeof forecasts.$inferSelect): FrozenForecast {
  return { ...row, id: scopeId, hours: (JSON.parse(hours) as string[]).map(BigInt) };
}

const HOUR_MS = 3_600_000;
