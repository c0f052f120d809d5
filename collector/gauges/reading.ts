// What one refresh reads of the books: each thing once, however many gauges are of it, and only when one asks. What one
// topic alone needs it reads itself.
import { readBillingMark } from "../../ledger/billing/bills.ts";
import { readComparisons } from "../../ledger/billing/closed-days.ts";
import type { Comparison } from "../../ledger/billing/closed-days.ts";
import type { FrozenForecast } from "../../ledger/billing/forecasts.ts";
import { readExpectations } from "../../ledger/billing/plans.ts";
import type { Budget } from "../../ledger/budgets.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readCaps, watchedOf } from "../../ledger/usage/caps.ts";
import type { RuleUse } from "../../ledger/usage/caps.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import type { ForecastScope } from "../../ledger/usage/hours.ts";
import type { SpendRow } from "../../ledger/usage/spend-sums.ts";
import { addDays, utcDay } from "../../ledger/windows.ts";
import type { Calendar } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { costByScope, daysOf, PARTS } from "./spend-sums.ts";
import type { SpendWindow } from "./spend-sums.ts";

/** UTC days of bills that are compared lately: the last whole ones, and today. */
const COMPARED_DAYS = 7;

export type Reading = {
  readonly nowMs: number;
  /** The UTC day, which bills go by. */
  readonly today: string;
  /** Spend of a window by all parts together, the largest first. */
  spend(window: SpendWindow): Promise<readonly SpendRow[]>;
  /** What a window cost, by the ids of a scope. */
  costs(window: SpendWindow, scope: ForecastScope["scope"]): Promise<ReadonlyMap<string, NanoUsd>>;
  /** Budgets, and the caps of rules' members that are near their end. */
  budgets(): Promise<readonly Budget[]>;
  rules(): Promise<readonly RuleUse[]>;
  /** What each budget has spent in its running window, by id. */
  settled(): Promise<ReadonlyMap<string, NanoUsd>>;
  keys(): Promise<readonly Key[]>;
  /** Forecasts of the windows that run, with what is planned. */
  expectations(): Promise<readonly FrozenForecast[]>;
  comparisons(): Promise<readonly Comparison[]>;
  /** Another whenever what bills say may be another: they are read again then, and not every fifteen seconds. */
  billsMark(): Promise<string>;
};

export function startReading({ usage, billing }: CollectorBooks, calendar: Calendar, nowMs: number): Reading {
  const today = utcDay(nowMs);
  const spend = onceEach((window: SpendWindow) => readSpend(usage, PARTS, ...daysOf(window, calendar, nowMs)));
  const costs = onceEach((window: SpendWindow) =>
    onceEach(async (scope: ForecastScope["scope"]) => costByScope(await spend(window), scope)),
  );
  const caps = once(async () => readCaps(usage, calendar, nowMs));
  const watched = once(async () => watchedOf(await caps(), nowMs));
  return {
    nowMs,
    today,
    spend,
    costs: (window, scope) => costs(window)(scope),
    budgets: once(async () => (await watched()).map(({ budget }) => budget)),
    rules: async () => (await caps()).rules,
    settled: once(
      async () => new Map((await watched()).map(({ budget, settledNanoUsd }) => [budget.id, settledNanoUsd])),
    ),
    keys: once(async () => (await readKeys(usage)).keys),
    expectations: once(async () => readExpectations({ usage, billing }, nowMs)),
    comparisons: once(async () => readComparisons(billing, addDays(today, -COMPARED_DAYS), addDays(today, 1))),
    billsMark: once(async () => `${today} ${await readBillingMark(billing)}`),
  };
}

function once<T>(read: () => Promise<T>): () => Promise<T> {
  let found: Promise<T> | undefined;
  return () => (found ??= read());
}

function onceEach<K, T>(read: (of: K) => T): (of: K) => T {
  const found = new Map<K, T>();
  return (of) => {
    const known = found.get(of) ?? read(of);
    found.set(of, known);
    return known;
  };
}
