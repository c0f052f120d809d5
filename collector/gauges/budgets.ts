// Gauges of budgets: the amount, what is spent of it and refused by it; and of those over a week or longer how fast
// they burn, beside the speeds that are too high, and where they land.
import type { Gauge } from "prom-client";
import { amountAt, covers, describeBudgetScope, findBudget, USUAL_THRESHOLDS } from "../../ledger/budgets.ts";
import type { Budget } from "../../ledger/budgets.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import { readAskedRaises } from "../../ledger/usage/asked-raises.ts";
import { readBudgets } from "../../ledger/usage/changes.ts";
import { readHoursInScope, readOwnNames } from "../../ledger/usage/budget-spend.ts";
import { shareOf } from "../../ledger/usage/caps.ts";
import { readSubjectSpend } from "../../ledger/usage/hours.ts";
import { readRefused } from "../../ledger/usage/refused.ts";
import { HOUR_MS } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { forecastRest, readBurns } from "../outlook.ts";
import type { Ahead } from "../outlook.ts";
import { thresholdsOf } from "../thresholds.ts";
import type { GaugeSettings, MakeGauge, Refresh } from "./gauge.ts";
import type { Reading } from "./reading.ts";

const BUDGET = ["budget", "scope", "team", "window", "kind"] as const;
type BudgetLabels = { readonly [name in (typeof BUDGET)[number]]: string };

const MINUTE_MS = 60_000;
const REFUSED_MS = 10 * MINUTE_MS;
/** A hard budget that is this far past its amount, and goes on. */
const PAST_CAP = 1.05;
const PAST_CAP_MS = 5 * MINUTE_MS;
/** Budgets over longer windows burn and land; an hour or a day is over before anybody reads. */
const LONG = new Set(["week", "month", "quarter"]);

export function budgetGauges(make: MakeGauge, books: CollectorBooks, settings: GaugeSettings): Refresh {
  const amount = make("keymeter_budget_usd", "Amount of a budget, with what it is raised by now.", BUDGET);
  const spent = make("keymeter_budget_spent_usd", "Spend inside a budget's running window.", BUDGET);
  const threshold = make(
    "keymeter_budget_threshold_passed",
    "1 where a budget's spend has come to a share of its amount, in percent, at which somebody is told.",
    [...BUDGET, "threshold"],
  );
  const refused = make(
    "keymeter_budget_refused_requests",
    "Requests that a budget refused in the last ten minutes.",
    BUDGET,
  );
  const pastCap = make(
    "keymeter_budget_past_cap_usd",
    "Spend of the last five minutes inside a hard budget that had been passed by a twentieth before.",
    BUDGET,
  );
  const members = make(
    "keymeter_budget_members",
    "Members of a budget of each that have spent in its window, by how much of their cap: any, and 80 and 100 percent or more.",
    [...BUDGET, "used"],
  );
  const asked = make(
    "keymeter_asked_raise_usd",
    "More money that the holder of a key asks for, and nobody has answered.",
    ["ask", "budget", "team"],
  );
  const setBurns = burnGauges(make, books, settings);
  const setLandings = landingGauges(make, books, settings);
  return async (reading) => {
    for (const one of [amount, spent, threshold, refused, pastCap, members, asked]) one.reset();
    const { nowMs } = reading;
    const refusals = await readRefused(books.usage, nowMs - REFUSED_MS, nowMs + MINUTE_MS);
    for (const budget of await reading.budgets()) {
      const labels = labelsOf(budget, settings);
      const [all, used] = [amountAt(budget, nowMs), (await reading.settled()).get(budget.id) ?? 0n];
      amount.set(labels, toUsdNumber(all));
      spent.set(labels, toUsdNumber(used));
      for (const percent of budget.thresholds ?? USUAL_THRESHOLDS)
        threshold.set(
          { ...labels, threshold: String(percent) },
          used > 0n && used * 100n >= all * BigInt(percent) ? 1 : 0,
        );
      const own = refusals.filter(({ budgetId, observed }) => budgetId === budget.id && !observed);
      refused.set(
        labels,
        own.reduce((sum, { count }) => sum + count, 0),
      );
    }
    for (const { rule, members: all } of await reading.rules())
      for (const used of [0, ...USUAL_THRESHOLDS])
        members.set(
          { ...labelsOf(rule, settings), used: used === 0 ? "any" : String(used) },
          all.filter((cap) => (used === 0 ? cap.settledNanoUsd > 0n : shareOf(cap, nowMs) * 100 >= used)).length,
        );
    const all = await readBudgets(books.usage);
    for (const { id, budgetId, amountNanoUsd } of await readAskedRaises(books.usage, nowMs)) {
      const team = findBudget(all, budgetId)?.scope.team ?? "";
      asked.set({ ask: id, budget: budgetId, team }, toUsdNumber(amountNanoUsd));
    }
    await setPastCap(pastCap, books, settings, reading);
    await setLandings(reading);
    await setBurns(reading);
  };
}

/** "soft", "hard", or "observed": a hard one that is tried out and refuses nothing. */
export function kindOf(budget: Budget, capMode: GaugeSettings["capMode"]): string {
  return budget.kind === "hard" && (capMode === "observe" || budget.observe === true) ? "observed" : budget.kind;
}

function labelsOf(budget: Budget, { capMode }: GaugeSettings): BudgetLabels {
  return {
    budget: budget.id,
    scope: describeBudgetScope(budget),
    team: budget.scope.team ?? "",
    window: budget.window,
    kind: kindOf(budget, capMode),
  };
}

async function setPastCap(
  pastCap: Gauge<keyof BudgetLabels>,
  { usage }: CollectorBooks,
  settings: GaugeSettings,
  reading: Reading,
): Promise<void> {
  const settled = await reading.settled();
  const passed = (await reading.budgets()).filter((budget) => {
    const most = (amountAt(budget, reading.nowMs) * BigInt(PAST_CAP * 100)) / 100n;
    return kindOf(budget, settings.capMode) === "hard" && (settled.get(budget.id) ?? 0n) > most;
  });
  if (passed.length === 0) return;
  const lately = (await readSubjectSpend(usage, reading.nowMs - PAST_CAP_MS, "events")).map(await readOwnNames(usage));
  for (const budget of passed) {
    // What requests are tagged with stands with single events alone.
    const costs =
      budget.scope.tag === undefined
        ? lately.filter((one) => covers(budget.scope, one)).map((one) => one.costNanoUsd)
        : [
            ...(
              await readHoursInScope(usage, budget.scope, reading.nowMs - PAST_CAP_MS, reading.nowMs + MINUTE_MS)
            ).values(),
          ];
    pastCap.set(labelsOf(budget, settings), toUsdNumber(costs.reduce((sum, cost) => sum + cost, 0n)));
  }
}

function burnGauges(make: MakeGauge, { usage }: CollectorBooks, settings: GaugeSettings): Refresh {
  const burn = make("keymeter_budget_burn_ratio", "Speed of spending over a span; 1 spends the budget exactly.", [
    ...BUDGET,
    "span",
  ]);
  const limit = make("keymeter_budget_burn_limit_ratio", "Speeds that are too high: fast, slow and drift.", [
    ...BUDGET,
    "speed",
  ]);
  // Spans are read from single events: once a minute is enough.
  let readMs = 0;
  return async (reading) => {
    const { nowMs } = reading;
    // What requests are tagged with stands in no sum of hours.
    const budgets = (await reading.budgets()).filter(
      ({ window, scope }) => LONG.has(window) && scope.tag === undefined,
    );
    limit.reset();
    for (const budget of budgets) {
      const own = thresholdsOf(settings, budget.scope.team ?? "");
      for (const speed of ["fast", "slow", "drift"] as const)
        limit.set({ ...labelsOf(budget, settings), speed }, own[`burn_${speed}`]);
    }
    if (nowMs - readMs < MINUTE_MS) return;
    const inForce = budgets.map((budget) => {
      const { startMs, endMs } = settings.calendar.window(budget.window, nowMs);
      return { budget, amountNanoUsd: amountAt(budget, nowMs), lengthMs: endMs - startMs };
    });
    burn.reset();
    const burns = await readBurns(usage, inForce, nowMs);
    for (const budget of budgets) {
      const spans = burns.get(budget.id) ?? [];
      const floor = thresholdsOf(settings, budget.scope.team ?? "").burn_usd;
      const longest = toUsdNumber(spans.find(({ span }) => span === "1h")?.spentNanoUsd ?? 0n);
      for (const { span, ratio, spentNanoUsd } of spans) {
        // Below the floor a budget burns, but not so that anybody has to hear of it.
        const isSmall = toUsdNumber(spentNanoUsd) < floor && longest < floor;
        burn.set({ ...labelsOf(budget, settings), span }, isSmall ? 0 : ratio);
      }
    }
    readMs = nowMs;
  };
}

function landingGauges(make: MakeGauge, { usage }: CollectorBooks, settings: GaugeSettings): Refresh {
  const landing = make("keymeter_budget_landing_usd", "Where a budget's window will end.", [...BUDGET, "quantile"]);
  // What a budget will land at changes by the hour, and costs a forecast each.
  const ahead = new Map<string, { readonly hourMs: number; readonly rest: Ahead | undefined }>();
  return async (reading) => {
    const { nowMs } = reading;
    landing.reset();
    const budgets = await reading.budgets();
    for (const id of ahead.keys()) if (!budgets.some((budget) => budget.id === id)) ahead.delete(id);
    const hourMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
    for (const budget of budgets.filter(({ window }) => LONG.has(window))) {
      let known = ahead.get(budget.id);
      if (known?.hourMs !== hourMs) {
        known = { hourMs, rest: await forecastRest(usage, budget, settings.calendar, nowMs) };
        ahead.set(budget.id, known);
      }
      const { rest } = known;
      if (!rest) continue;
      const spent = toUsdNumber((await reading.settled()).get(budget.id) ?? 0n);
      for (const [quantile, more] of [
        ["0.1", rest.p10],
        ["0.5", rest.p50],
        ["0.9", rest.p90],
      ] as const)
        landing.set({ ...labelsOf(budget, settings), quantile }, spent + more);
    }
  };
}
