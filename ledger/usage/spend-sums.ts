// What a sum of spend is made of, and how rows of it are read: the same for days, hours and single events.
import { sql } from "../drizzle.ts";
import type { AnySQLiteColumn, SQL } from "../drizzle.ts";
import type { NanoUsd } from "../money.ts";
import { booked, rollupDay, rollupHour } from "./schema.ts";

/** What spend can be broken down by. */
export const DIMENSIONS = ["day", "key", "team", "project", "env", "user", "payer", "provider", "model"] as const;

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
  /** What subscriptions would have cost: in no other sum. */
  readonly seatNanoUsd: NanoUsd;
};

/** The sum of one group, by the values of the dimensions asked for, in their order. */
export type SpendRow = SpendSums & { readonly group: { readonly [part in Breakdown]?: string } };

export type Sums = { readonly [sum in keyof typeof totals]: bigint | null };

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
    seatNanoUsd: BigInt(sums.seatNanoUsd ?? 0),
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
  seatNanoUsd: 0n,
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
    seatNanoUsd: a.seatNanoUsd + b.seatNanoUsd,
  };
}

export function largestFirst(a: SpendRow, b: SpendRow): number {
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
  seatNanoUsd: total(rollup.seatNanoUsd),
});

export const totals = totalsOf(rollupDay);

export const hourTotals = totalsOf(rollupHour);

/** The sums of the rollups, from the events themselves. */
export const eventTotals: { readonly [sum in keyof typeof totals]: SQL<bigint | null> } = {
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
  seatNanoUsd: total(booked.seatNanoUsd),
};
