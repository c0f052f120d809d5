// Frozen forecasts: made once for a window, at its start or at the first chance after it, and never touched again.
// billing.db; the collector is its only writer.
import { and, drizzle, gt, lte } from "./drizzle.ts";
import type { NanoUsd } from "./money.ts";
import type { Sqlite } from "./open.ts";
import { forecasts } from "./schema.ts";

export type ForecastScope = { readonly scope: "org" | "team" | "key"; readonly id: string };

export type FrozenForecast = ForecastScope & {
  readonly window: "day" | "month";
  readonly windowId: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly madeAtMs: number;
  readonly method: string;
  /** Hours of history it was made from. */
  readonly historyHours: number;
  readonly p10NanoUsd: NanoUsd;
  readonly p50NanoUsd: NanoUsd;
  readonly p90NanoUsd: NanoUsd;
  /** The window's hours in order, each with its part of p50. */
  readonly hours: readonly NanoUsd[];
};

/** Freezes a forecast; one that exists for the same scope and window stays as it is. */
export async function freezeForecasts(database: Sqlite, made: readonly FrozenForecast[]): Promise<void> {
  const books = drizzle(database);
  database
    .transaction(() => {
      for (const { id, hours, ...rest } of made)
        books
          .insert(forecasts)
          .values({ ...rest, scopeId: id, hours: JSON.stringify(hours.map(String)) })
          .onConflictDoNothing()
          .run();
    })
    .immediate();
}

/** The forecasts of the windows that hold an instant. */
export async function readForecasts(database: Sqlite, atMs: number): Promise<FrozenForecast[]> {
  return drizzle(database)
    .select()
    .from(forecasts)
    .where(and(lte(forecasts.startMs, atMs), gt(forecasts.endMs, atMs)))
    .all()
    .map(({ scopeId, hours, ...row }) => ({ ...row, id: scopeId, hours: (JSON.parse(hours) as string[]).map(BigInt) }));
}

/** What the forecast expected from the window's start until an instant; the running hour in proportion. */
export function expectedSoFar(forecast: FrozenForecast, atMs: number): NanoUsd {
  const elapsedMs = Math.min(Math.max(atMs, forecast.startMs), forecast.endMs) - forecast.startMs;
  const whole = Math.floor(elapsedMs / HOUR_MS);
  const sum = forecast.hours.slice(0, whole).reduce((total, hour) => total + hour, 0n);
  return sum + ((forecast.hours[whole] ?? 0n) * BigInt(elapsedMs % HOUR_MS)) / BigInt(HOUR_MS);
}

const HOUR_MS = 3_600_000;
