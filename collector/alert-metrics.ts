// Gauges that alerts go by: a figure, and beside it the line it must not cross, with the same labels. The rules compare the two, in
// Prometheus or in the alerts program; thresholds stand in thresholds.ts, and nowhere else.
import type { Gauge } from "prom-client";
import { amountAt, covers, describeScope } from "../ledger/budgets.ts";
import type { Budget } from "../ledger/budgets.ts";
import { readComparisons } from "../ledger/billing/closed-days.ts";
import { expectedSoFar, readScores, recordOf } from "../ledger/billing/forecasts.ts";
import type { FrozenForecast } from "../ledger/billing/forecasts.ts";
import { readKeys, readSecretAges } from "../ledger/usage/keys.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { priceListAtMs } from "../ledger/prices/price-list.ts";
import {
  readAnswers,
  readLastUsed,
  readSpend,
  readSpendOfHours,
  readSubjectSpend,
  readUnpriced,
} from "../ledger/usage/spend.ts";
import { differenceOf, readStated } from "../ledger/usage/stated.ts";
import { addDays, DAY_MS, HOUR_MS, utcDay } from "../ledger/windows.ts";
import type { Calendar } from "../ledger/windows.ts";
import type { Books } from "./compare.ts";
import { limitsOf } from "./lines.ts";
import { forecastRest, readBurns } from "./outlook.ts";
import type { Ahead } from "./outlook.ts";
import { thresholdsOf } from "./thresholds.ts";
import type { ThresholdSettings } from "./thresholds.ts";

export type MakeGauge = <L extends string>(name: string, help: string, labelNames: readonly L[]) => Gauge<L>;

export type AlertMetricsContext = {
  readonly books: Books;
  readonly calendar: Calendar;
  readonly thresholds: ThresholdSettings;
  readonly dataDir: string;
  /** Of the proxy: where it only observes, no cap can fail. */
  readonly capMode: "enforce" | "observe";
};

/** What each budget has spent in its running window, by id. */
export type Settled = ReadonlyMap<string, NanoUsd>;

const MINUTE_MS = 60_000;
const ANSWERED_MS = 10 * MINUTE_MS;
const UNPRICED_MS = 15 * MINUTE_MS;
/** Fewer answers than this in ten minutes say nothing about a provider. */
const LEAST_ANSWERS = 20;
const SCORED_MS = 28 * DAY_MS;
const LEAST_SCORES = 7;
const STAYS_ABOVE = 0.8;
/** A hard budget that is this far past its amount, and goes on. */
const PAST_CAP = 1.05;
const PAST_CAP_MS = 5 * MINUTE_MS;
const MOST_KEYS = 500;
const STATED_MS = 5 * MINUTE_MS;
const MOST_STATED = 200;
const TEAM_DAYS = 28;
/** Days of bills that are looked at: the last whole ones. */
const BILLED_DAYS = 7;
/** Differences that are no fault of the meter, or go away by themselves. */
const NO_FAULT = new Set(["credit or tax", "late", "day boundary", "before the meter"]);
/** Budgets over longer windows burn and land; an hour or a day is over before anybody reads. */
const LONG = new Set(["week", "month", "quarter"]);

/** Makes the gauges; the function that comes back reads the books again. `forecasts` are those of now, with what is planned; `settled` what each
 *  of the budgets has spent. */
export function createAlertMetrics(
  makeGauge: MakeGauge,
  { books, calendar, thresholds, dataDir, capMode }: AlertMetricsContext,
): (
  forecasts: readonly FrozenForecast[],
  budgets: readonly Budget[],
  settled: Settled,
  nowMs: number,
) => Promise<void> {
  const { usage, billing } = books;
  const all: Gauge[] = [];
  const gauge: MakeGauge = (name, help, labelNames) => {
    const made = makeGauge(name, help, labelNames);
    all.push(made);
    return made;
  };
  const scope = ["scope", "id", "team", "window"] as const;
  const key = ["scope", "id", "team"] as const;
  const budgetLabels = ["budget", "scope", "team", "window", "kind"] as const;
  const over = gauge(
    "keymeter_over_forecast_usd",
    "Spend so far minus what the frozen forecast, with what is planned, expected by now.",
    scope,
  );
  const overLimit = gauge("keymeter_over_forecast_limit_usd", "Over by more than this is worth telling.", [
    ...scope,
    "level",
  ]);
  const overFloor = gauge("keymeter_over_forecast_floor_usd", "Over by less than this is not worth a message.", scope);
  const hour = gauge("keymeter_hour_usd", "Metered spend of the running UTC hour.", key);
  const hourLimit = gauge("keymeter_hour_limit_usd", "One hour that costs more than this is a spike.", key);
  const woken = gauge("keymeter_key_woken_usd", "Spend of the last day by a key that was silent for long before.", key);
  const wokenLimit = gauge("keymeter_key_woken_limit_usd", "Such a key may spend this much unheard.", key);
  const secretDue = gauge(
    "keymeter_key_secret_due_timestamp_seconds",
    "When the secret of a key that is in use should be replaced.",
    key,
  );
  const burn = makeGauge("keymeter_budget_burn_ratio", "Speed of spending over a span; 1 spends the budget exactly.", [
    ...budgetLabels,
    "span",
  ]);
  const burnLimit = gauge("keymeter_budget_burn_limit_ratio", "Speeds that are too high: fast, slow and drift.", [
    ...budgetLabels,
    "speed",
  ]);
  const landing = gauge("keymeter_budget_landing_usd", "Where a budget's window will end.", [
    ...budgetLabels,
    "quantile",
  ]);
  const pastCap = gauge(
    "keymeter_budget_past_cap_usd",
    "Spend of the last five minutes inside a hard budget that had been passed by a twentieth before.",
    budgetLabels,
  );
  const unallocated = gauge("keymeter_unallocated_usd", "Spend of the running day that belongs to no team.", []);
  const unallocatedLimit = gauge("keymeter_unallocated_limit_usd", "More than this should have an owner.", []);
  const gap = gauge(
    "keymeter_variance_day_usd",
    "Billed minus metered of the last day that was compared, without sign, credits, tax and what is still to come.",
    ["provider"],
  );
  const gapLimit = gauge("keymeter_variance_day_limit_usd", "A larger difference is worth looking at.", ["provider"]);
  const unmetered = gauge("keymeter_unmetered_day_usd", "The largest day of what was billed and never metered.", [
    "provider",
  ]);
  const unmeteredLimit = gauge("keymeter_unmetered_day_limit_usd", "More than this went round the proxy.", [
    "provider",
  ]);
  const unpriced = gauge("keymeter_unpriced_requests", "Attempts of the last 15 minutes that have no price.", [
    "provider",
    "model",
  ]);
  const rejected = gauge(
    "keymeter_provider_rejected_requests",
    "Attempts of the last ten minutes that a provider answered with 401 or 403, under a credential of ours.",
    ["provider"],
  );
  const failing = gauge(
    "keymeter_provider_failed_ratio",
    "Share of the last ten minutes' attempts that a provider failed, where there were enough to tell.",
    ["provider"],
  );
  const stated = makeGauge(
    "keymeter_stated_cost_difference_ratio",
    "How far the costs that a provider stated in its answers of the last day lie from our prices, as a share of ours.",
    ["provider", "model"],
  );
  const record = ["scope", "window"] as const;
  const error = gauge(
    "keymeter_forecast_error_ratio",
    "Forecast error over spend, of the last four weeks (WAPE).",
    record,
  );
  const bias = gauge(
    "keymeter_forecast_bias_ratio",
    "Forecast minus spend, over spend, of the last four weeks.",
    record,
  );
  const coverage = gauge("keymeter_forecast_coverage_ratio", "How often spend lay in the 80 % band.", record);
  const errorLimit = gauge("keymeter_forecast_error_limit_ratio", "A forecast that is worse is of no use.", record);
  const coverageLimit = gauge("keymeter_forecast_coverage_limit_ratio", "A band that holds less is of no use.", record);
  const priceList = gauge("keymeter_price_list_timestamp_seconds", "When the price list was fetched or published.", []);
  const teamOf = (name: string): ReturnType<typeof thresholdsOf> => thresholdsOf(thresholds, name);

  /** Once crossed, a line is lower until the figure is back under it: what hovers at it is one alert. */
  let crossed = new Set<string>();
  let stillCrossed = new Set<string>();
  const settle = (line: string, figure: number, limit: number): number => {
    const lower = limit * STAYS_ABOVE;
    if (figure <= (crossed.has(line) ? lower : limit)) return limit;
    stillCrossed.add(line);
    return lower;
  };

  /** Spend so far of the windows that have forecasts. */
  const setOver = async (forecasts: readonly FrozenForecast[], nowMs: number): Promise<void> => {
    // Lines of windows that are over are forgotten with them.
    stillCrossed = new Set();
    const known = forecasts.filter((one) => one.method !== "learning");
    const orgDay = toUsdNumber(known.find((one) => one.scope === "org" && one.window === "day")?.p50NanoUsd ?? 0n);
    const teams = await readTeams(books, calendar, nowMs);
    const hourMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
    for (const name of SCOPES) {
      const running = await readSpendOfHours(usage, hourMs, nowMs, name);
      for (const window of ["day", "month"] as const) {
        const { firstDay, endDay } = calendar.window(window, nowMs);
        const rows = await readSpend(usage, name === "org" ? [] : [name], firstDay, endDay);
        const spent = new Map(rows.map((row) => [name === "org" ? "all" : (row.group[name] ?? ""), row.costNanoUsd]));
        for (const one of known.filter((other) => other.scope === name && other.window === window)) {
          const team = name === "team" ? one.id : (teams.get(`${name} ${one.id}`) ?? "");
          const labels = { scope: name, id: one.id, team };
          const ofTeam = teamOf(team);
          const soFar = expectedSoFar(one, nowMs);
          const limits = limitsOf(
            {
              scope: name,
              p50: toUsdNumber(one.p50NanoUsd),
              p90: toUsdNumber(one.p90NanoUsd),
              largestHour: toUsdNumber(one.largestHourNanoUsd),
              hourExpected: toUsdNumber(soFar - expectedSoFar(one, Math.max(hourMs, one.startMs))),
              orgDay,
            },
            ofTeam,
          );
          const ahead = toUsdNumber((spent.get(one.id) ?? 0n) - soFar);
          over.set({ ...labels, window }, ahead);
          for (const level of ["warning", "critical"] as const)
            overLimit.set(
              { ...labels, window, level },
              settle(`${name} ${one.id} ${one.windowId} ${level}`, ahead, limits[level]),
            );
          overFloor.set({ ...labels, window }, limits.floor);
          if (window === "month" || name !== "key") continue;
          hour.set(labels, toUsdNumber(running.get(one.id) ?? 0n));
          hourLimit.set(labels, limits.hour);
        }
      }
    }
    crossed = stillCrossed;
  };

  const setKeys = async (nowMs: number): Promise<void> => {
    const active = (await readKeys(usage)).keys.filter((one) => one.state === "active");
    const made = await readSecretAges(usage);
    const dayAgo = Math.floor((nowMs - DAY_MS) / HOUR_MS) * HOUR_MS;
    const lately = await readSpendOfHours(usage, dayAgo, nowMs, "key");
    const before = await readLastUsed(usage, dayAgo);
    let shown = 0;
    for (const { id, team, createdAtMs, kind } of active) {
      const spent = lately.get(id);
      const labels = { scope: "key", id, team };
      const { key_idle_days: idleDays, key_idle_usd: idleUsd, key_age_days: ageDays } = teamOf(team);
      const silentMs = dayAgo - (before.get(id) ?? createdAtMs);
      if (spent !== undefined && spent > 0n && silentMs > idleDays * DAY_MS) {
        woken.set(labels, toUsdNumber(spent));
        wokenLimit.set(labels, idleUsd);
      }
      const secretMs = made.get(id);
      const isUsed = spent !== undefined || nowMs - (before.get(id) ?? 0) < 30 * DAY_MS;
      if (kind !== "virtual" || secretMs === undefined || !isUsed || ++shown > MOST_KEYS) continue;
      secretDue.set(labels, (secretMs + ageDays * DAY_MS) / 1000);
    }
  };

  // What a budget will land at changes by the hour, and costs a forecast each.
  const ahead = new Map<string, { readonly hourMs: number; readonly rest: Ahead | undefined }>();
  let burnedMs = 0;
  const setBudgets = async (all: readonly Budget[], settled: Settled, nowMs: number): Promise<void> => {
    const budgets = all.filter(({ window }) => LONG.has(window));
    for (const id of ahead.keys()) if (!all.some((budget) => budget.id === id)) ahead.delete(id);
    const hourMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
    const labelsOf = (budget: Budget): { [name in (typeof budgetLabels)[number]]: string } => ({
      budget: budget.id,
      scope: describeScope(budget.scope),
      team: budget.scope.team ?? "",
      window: budget.window,
      kind: kindOf(budget, capMode),
    });
    const passed = all.filter((budget) => {
      const limit = (amountAt(budget, nowMs) * BigInt(PAST_CAP * 100)) / 100n;
      return kindOf(budget, capMode) === "hard" && (settled.get(budget.id) ?? 0n) > limit;
    });
    const lately = passed.length === 0 ? [] : await readSubjectSpend(usage, nowMs - PAST_CAP_MS, "events");
    for (const budget of passed) {
      const own = lately.filter((one) => covers(budget.scope, one));
      pastCap.set(labelsOf(budget), toUsdNumber(own.reduce((sum, one) => sum + one.costNanoUsd, 0n)));
    }
    const inForce = budgets.map((budget) => {
      const { startMs, endMs } = calendar.window(budget.window, nowMs);
      return { budget, amountNanoUsd: amountAt(budget, nowMs), lengthMs: endMs - startMs };
    });
    for (const { budget } of inForce) {
      let known = ahead.get(budget.id);
      if (known?.hourMs !== hourMs) {
        known = { hourMs, rest: await forecastRest(usage, budget, calendar, nowMs) };
        ahead.set(budget.id, known);
      }
      if (!known.rest) continue;
      const spent = toUsdNumber(settled.get(budget.id) ?? 0n);
      for (const [quantile, rest] of [
        ["0.1", known.rest.p10],
        ["0.5", known.rest.p50],
        ["0.9", known.rest.p90],
      ] as const)
        landing.set({ ...labelsOf(budget), quantile }, spent + rest);
    }
    for (const { budget } of inForce) {
      const { burn_fast: fast, burn_slow: slow, burn_drift: drift } = teamOf(budget.scope.team ?? "");
      for (const [speed, ratio] of Object.entries({ fast, slow, drift }))
        burnLimit.set({ ...labelsOf(budget), speed }, ratio);
    }
    if (nowMs - burnedMs < MINUTE_MS) return;
    burn.reset();
    const burns = await readBurns(usage, inForce, nowMs);
    for (const { budget } of inForce) {
      const floor = teamOf(budget.scope.team ?? "").burn_usd;
      const longest = toUsdNumber(burns.get(budget.id)?.find(({ span }) => span === "1h")?.spentNanoUsd ?? 0n);
      for (const { span, ratio, spentNanoUsd } of burns.get(budget.id) ?? []) {
        // Below the floor a budget burns, but not so that anybody has to hear of it.
        const isSmall = toUsdNumber(spentNanoUsd) < floor && longest < floor;
        burn.set({ ...labelsOf(budget), span }, isSmall ? 0 : ratio);
      }
    }
    burnedMs = nowMs;
  };

  const setUnallocated = async (nowMs: number): Promise<void> => {
    const { firstDay, endDay } = calendar.window("day", nowMs);
    const rows = await readSpend(usage, ["team"], firstDay, endDay);
    const sum = (of: typeof rows): number => toUsdNumber(of.reduce((total, row) => total + row.costNanoUsd, 0n));
    const { unallocated_share: share, unallocated_usd: usd } = teamOf("");
    unallocated.set({}, sum(rows.filter(({ group }) => (group.team ?? "") === "")));
    unallocatedLimit.set({}, Math.max(usd, share * sum(rows)));
  };

  const setBills = async (nowMs: number): Promise<void> => {
    const today = utcDay(nowMs);
    const { variance_share: share, variance_usd: usd, unmetered_usd: unmeteredUsd } = teamOf("");
    const days = new Map<string, { provider: string; day: string; billed: NanoUsd; gap: NanoUsd; round: NanoUsd }>();
    for (const one of await readComparisons(billing, addDays(today, -BILLED_DAYS), today)) {
      const name = `${one.provider} ${one.day}`;
      const sum = days.get(name) ?? { provider: one.provider, day: one.day, billed: 0n, gap: 0n, round: 0n };
      days.set(name, sum);
      sum.billed += one.billedNanoUsd;
      for (const piece of one.variances) {
        if (piece.cause.startsWith("unmetered")) sum.round += piece.amountNanoUsd;
        else if (!NO_FAULT.has(piece.cause)) sum.gap += piece.amountNanoUsd;
      }
    }
    for (const provider of new Set([...days.values()].map((one) => one.provider))) {
      const own = [...days.values()].filter((one) => one.provider === provider);
      const last = own.toSorted((a, b) => b.day.localeCompare(a.day))[0];
      if (!last) continue;
      gap.set({ provider }, Math.abs(toUsdNumber(last.gap)));
      gapLimit.set({ provider }, Math.max(usd, share * toUsdNumber(last.billed)));
      unmetered.set({ provider }, Math.max(0, ...own.map(({ round }) => toUsdNumber(round))));
      unmeteredLimit.set({ provider }, unmeteredUsd);
    }
  };

  const setAnswers = async (nowMs: number): Promise<void> => {
    for (const { provider, requests, failed, rejected: refused } of await readAnswers(usage, nowMs - ANSWERED_MS)) {
      rejected.set({ provider }, refused);
      if (requests >= LEAST_ANSWERS) failing.set({ provider }, failed / requests);
    }
    for (const { provider, model, requests } of await readUnpriced(usage, nowMs - UNPRICED_MS))
      unpriced.set({ provider, model }, requests);
  };

  let statedMs = 0;
  const setStated = async (nowMs: number): Promise<void> => {
    if (nowMs - statedMs < STATED_MS) return;
    const sums = await readStated(usage, nowMs - DAY_MS);
    stated.reset();
    for (const one of sums.toSorted((a, b) => b.requests - a.requests).slice(0, MOST_STATED)) {
      const difference = differenceOf(one);
      if (difference !== undefined) stated.set({ provider: one.provider, model: one.model }, difference);
    }
    statedMs = nowMs;
  };

  const setRecord = async (nowMs: number): Promise<void> => {
    const { forecast_error: errorMost, forecast_coverage: coverageLeast } = teamOf("");
    const scores = await readScores(billing, nowMs - SCORED_MS);
    for (const [name, group] of Map.groupBy(scores, (one) => `${one.scope} ${one.window}`)) {
      const found = recordOf(group);
      if (!found || new Set(group.map(({ windowId }) => windowId)).size < LEAST_SCORES) continue;
      const [of = "", window = ""] = name.split(" ");
      const labels = { scope: of, window };
      error.set(labels, found.error);
      bias.set(labels, found.bias);
      coverage.set(labels, found.coverage);
      errorLimit.set(labels, errorMost);
      coverageLimit.set(labels, coverageLeast);
    }
  };

  return async (forecasts, budgets, settled, nowMs) => {
    for (const one of all) one.reset();
    await setOver(forecasts, nowMs);
    await setKeys(nowMs);
    await setBudgets(budgets, settled, nowMs);
    await setUnallocated(nowMs);
    await setBills(nowMs);
    await setAnswers(nowMs);
    await setStated(nowMs);
    await setRecord(nowMs);
    priceList.set({}, priceListAtMs(dataDir) / 1000);
  };
}

/** Scopes that somebody answers for. */
const SCOPES = ["org", "team", "project", "key"] as const;

/** "soft", "hard", or "observed": a hard one that is tried out and refuses nothing. */
export function kindOf(budget: Budget, capMode: AlertMetricsContext["capMode"]): string {
  return budget.kind === "hard" && (capMode === "observe" || budget.observe === true) ? "observed" : budget.kind;
}

/** Whom to tell of a project or key: the team that spent most in it in the last four weeks (of what is new: today). The day itself does
 *  not move it, so that what a leak spends does not send its message elsewhere. */
async function readTeams({ usage }: Books, calendar: Calendar, nowMs: number): Promise<Map<string, string>> {
  const { firstDay: today, endDay } = calendar.window("day", nowMs);
  const teams = new Map<string, string>();
  for (const [since, until] of [
    [today, endDay],
    [addDays(today, -TEAM_DAYS), today],
  ] as const) {
    const most = new Map<string, NanoUsd>();
    for (const { group, costNanoUsd } of await readSpend(usage, ["key", "team", "project"], since, until))
      for (const name of [`key ${group.key ?? ""}`, `project ${group.project ?? ""}`]) {
        const place = `${name}\n${group.team ?? ""}`;
        most.set(place, (most.get(place) ?? 0n) + costNanoUsd);
      }
    const ascending = [...most].toSorted(([, a], [, b]) => (a > b ? 1 : a < b ? -1 : 0));
    for (const [place] of ascending) {
      const [name = "", team = ""] = place.split("\n");
      teams.set(name, team);
    }
  }
  return teams;
}
