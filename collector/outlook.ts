// What lies ahead of budgets: how fast each burns, and where its window will land. Reads the books, and forecasts by
// the pure function.
import { setImmediate as breathe } from "node:timers/promises";
import { covers } from "../ledger/budgets.ts";
import type { Budget } from "../ledger/budgets.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { UsageBooks } from "../ledger/books.ts";
import { readHoursInScope, readOwnNames } from "../ledger/usage/budget-spend.ts";
import { readSubjectSpend } from "../ledger/usage/hours.ts";
import { readMeterHours } from "../ledger/usage/meter-hours.ts";
import { DAY_MS, HOUR_MS } from "../ledger/windows.ts";
import type { Calendar } from "../ledger/windows.ts";
import { forecast } from "./forecast.ts";

const MINUTE_MS = 60_000;
const HISTORY_MS = 28 * DAY_MS;

/** Spans over which a burn rate is taken. Up to an hour from single events, longer ones from whole hours. */
const BURN_SPANS = {
  "5m": { ms: 5 * MINUTE_MS, from: "events" },
  "30m": { ms: 30 * MINUTE_MS, from: "events" },
  "1h": { ms: HOUR_MS, from: "events" },
  "6h": { ms: 6 * HOUR_MS, from: "hours" },
  "3d": { ms: 72 * HOUR_MS, from: "hours" },
} as const;
type BurnSpan = keyof typeof BURN_SPANS;

export type Burn = {
  readonly span: BurnSpan;
  readonly spentNanoUsd: NanoUsd;
  /** Spend speed over (amount over length of window): 1 spends the budget exactly. */
  readonly ratio: number;
};

/** How fast budgets of a week or longer burn. `spent` of longer spans is that of whole UTC hours and the running
 *  one. */
export async function readBurns(
  usage: UsageBooks,
  budgets: readonly { readonly budget: Budget; readonly amountNanoUsd: NanoUsd; readonly lengthMs: number }[],
  nowMs: number,
): Promise<Map<string, Burn[]>> {
  const burns = new Map<string, Burn[]>(budgets.map(({ budget }) => [budget.id, []]));
  if (budgets.length === 0) return burns;
  const ownNames = await readOwnNames(usage);
  for (const [span, { ms, from }] of Object.entries(BURN_SPANS) as [BurnSpan, (typeof BURN_SPANS)[BurnSpan]][]) {
    const sinceMs = from === "hours" ? Math.floor((nowMs - ms) / HOUR_MS + 1) * HOUR_MS : nowMs - ms;
    const spend = (await readSubjectSpend(usage, sinceMs, from)).map(ownNames);
    for (const { budget, amountNanoUsd, lengthMs } of budgets) {
      let spent = 0n;
      for (const one of spend) if (covers(budget.scope, one)) spent += one.costNanoUsd;
      const even = (toUsdNumber(amountNanoUsd) * ms) / lengthMs;
      burns.get(budget.id)?.push({ span, spentNanoUsd: spent, ratio: even > 0 ? toUsdNumber(spent) / even : 0 });
    }
    await breathe();
  }
  return burns;
}

/** What a budget's scope will spend from now to its window's end, in USD; undefined where there is too little
 *  history. */
export type Ahead = { readonly p10: number; readonly p50: number; readonly p90: number };

export async function forecastRest(
  usage: UsageBooks,
  budget: Budget,
  calendar: Calendar,
  nowMs: number,
): Promise<Ahead | undefined> {
  const { endMs } = calendar.window(budget.window, nowMs);
  const untilMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
  const horizon = Math.round((endMs - untilMs) / HOUR_MS);
  if (horizon < 1) return { p10: 0, p50: 0, p90: 0 };
  const spent = await readHoursInScope(usage, budget.scope, untilMs - HISTORY_MS, untilMs);
  const first = Math.min(...spent.keys());
  if (!Number.isFinite(first)) return undefined;
  const ran = await readMeterHours(usage, first, untilMs);
  const hours = Array.from({ length: (untilMs - first) / HOUR_MS }, (_, i) => {
    const hourMs = first + i * HOUR_MS;
    const cost = spent.get(hourMs);
    return cost !== undefined ? Math.max(0, toUsdNumber(cost)) : ran.has(hourMs) ? 0 : undefined;
  });
  const { p10, p50, p90, isLearning } = forecast({ startMs: first, hours }, horizon);
  return isLearning ? undefined : { p10, p50, p90 };
}
