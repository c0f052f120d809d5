// The figures people quote, as gauges: read from the ledger, refreshed together, so that a restart changes no total. The
// conversion to a float is the last step.
import { Gauge, Registry } from "prom-client";
import { amountAt, describeScope, USUAL_THRESHOLDS } from "../ledger/budgets.ts";
import { readBillDays, readImports, readUsageReads } from "../ledger/billing/bills.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import { readClosed, readComparisons, readVarianceSums } from "../ledger/billing/closed-days.ts";
import { expectedSoFar } from "../ledger/billing/forecasts.ts";
import { readKeys } from "../ledger/usage/keys.ts";
import { isOpen, readLeaks } from "../ledger/billing/leaks.ts";
import { readMarks } from "../ledger/billing/metered.ts";
import { landingOf, readRests } from "../ledger/billing/landings.ts";
import { readExpectations } from "../ledger/billing/plans.ts";
import { toUsdNumber } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import { readAllSettled } from "../ledger/usage/budget-spend.ts";
import { firstMeteredDay, readRefused } from "../ledger/usage/spend.ts";
import { addDays, createCalendar } from "../ledger/windows.ts";
import { createAlertMetrics, kindOf } from "./alert-metrics.ts";
import type { Books } from "./compare.ts";
import type { CollectorConfig } from "./config.ts";
import { observedPrices } from "./observed-prices.ts";
import { createSpendMetrics, MOST_KEYS } from "./spend-metrics.ts";

export type CollectorMetrics = {
  readonly registry: Registry;
  /** Reads the books again. */
  refresh(nowMs: number): Promise<void>;
};

const REFUSED_MS = 10 * 60_000;
const BILLED_DAYS = 62;
const PRICE_DAYS = 7;
/** Prices closer than this to ours are rounding. */
const LEAST_RATIO = 0.002;
/** A leak that brought nothing for so long has stopped; the list still has it. */
const LEAK_MS = 30 * 3_600_000;
const MOST_LEAKS = 50;

export type CollectorMetricsSettings = Pick<
  CollectorConfig,
  "timezone" | "dataDir" | "capMode" | "thresholds" | "teamThresholds" | "providers"
> & { readonly prices: PriceBook; readonly pagesUrl: string };

/** `sources`: whose bills are read here; of others there may be old notes. */
export function createCollectorMetrics(
  { usage, billing }: Books,
  settings: CollectorMetricsSettings,
  sources: readonly string[] = [],
): CollectorMetrics {
  const registry = new Registry();
  const calendar = createCalendar(settings.timezone);
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[]): Gauge<L> =>
    new Gauge({ name, help, labelNames: [...labelNames], registers: [registry] });

  const forecastUsd = gauge("keymeter_forecast_usd", "Frozen forecast of the running window's total.", [
    "scope",
    "id",
    "window",
    "quantile",
  ]);
  const landingUsd = gauge(
    "keymeter_landing_usd",
    "Where the running window lands as it looks now: spent, and to come.",
    ["scope", "id", "window", "quantile"],
  );
  const soFar = gauge("keymeter_forecast_so_far_usd", "What the frozen forecast expected until now.", [
    "scope",
    "id",
    "window",
  ]);
  const learning = gauge("keymeter_forecast_learning", "1 where there is too little history for a forecast.", [
    "scope",
    "id",
    "window",
  ]);
  const budgetUsd = gauge("keymeter_budget_usd", "Amount of a budget, with what it is raised by now.", [
    "budget",
    "scope",
    "team",
    "window",
    "kind",
  ]);
  const budgetSpent = gauge("keymeter_budget_spent_usd", "Spend inside a budget's running window.", [
    "budget",
    "scope",
    "team",
    "window",
    "kind",
  ]);
  const budgetThreshold = gauge(
    "keymeter_budget_threshold_passed",
    "1 where a budget's spend has come to a share of its amount, in percent, at which somebody is told.",
    ["budget", "scope", "team", "window", "kind", "threshold"],
  );
  const budgetRefused = gauge(
    "keymeter_budget_refused_requests",
    "Requests that a budget refused in the last ten minutes.",
    ["budget", "scope", "team", "window", "kind"],
  );
  const keyInfo = gauge("keymeter_key_info", "Who a key belongs to; always 1.", [
    "id",
    "name",
    "team",
    "project",
    "env",
    "owner",
  ]);
  const billed = gauge("keymeter_billed_usd", "What the provider bills for a UTC day.", ["provider", "day"]);
  const metered = gauge("keymeter_metered_usd", "What was metered on a UTC day that was compared with a bill.", [
    "provider",
    "day",
  ]);
  const variance = gauge("keymeter_variance_usd", "Billed minus metered of the days compared, by cause.", [
    "provider",
    "cause",
  ]);
  const openDay = gauge(
    "keymeter_oldest_open_day_timestamp_seconds",
    "The oldest UTC day that is used and not closed, by its start; today where all are closed.",
    ["provider"],
  );
  const usageAsOf = gauge(
    "keymeter_usage_as_of_timestamp_seconds",
    "Up to when a provider's usage by the hour is known.",
    ["provider"],
  );
  const leak = gauge("keymeter_leak_quantity", "Use of a provider key that did not come through the proxy.", [
    "provider",
    "billed_key",
    "kind",
    "unit",
  ]);
  const leakUsd = gauge("keymeter_leak_usd", "What that use costs by the price list.", [
    "provider",
    "billed_key",
    "kind",
  ]);
  const priceRatio = gauge("keymeter_observed_price_ratio", "Billed price over metered price, where they differ.", [
    "provider",
    "model",
    "unit",
  ]);
  const importSuccess = gauge(
    "keymeter_import_last_success_timestamp_seconds",
    "When a provider's bill was last read.",
    ["provider"],
  );
  const refreshed = gauge(
    "keymeter_collector_refresh_timestamp_seconds",
    "When these gauges were last read from the ledger.",
    [],
  );

  const closedDay = gauge("keymeter_day_closed_timestamp_seconds", "When a UTC day's bill was signed off.", [
    "provider",
    "day",
  ]);
  gauge("keymeter_pages_info", "Where the report pages are; always 1.", ["url"]).set({ url: settings.pagesUrl }, 1);

  const refreshSpend = createSpendMetrics(gauge, {
    usage,
    calendar,
    prices: settings.prices,
    providers: settings.providers,
  });
  const refreshAlertMetrics = createAlertMetrics(gauge, {
    books: { usage, billing },
    calendar,
    thresholds: settings,
    dataDir: settings.dataDir,
    capMode: settings.capMode,
  });

  /** What the bills say changes only when something is written: it is read again then, and not every fifteen seconds. */
  let seenWrites = -1;
  const refreshBills = async (nowMs: number): Promise<void> => {
    const writes = Number(billing.prepare("SELECT total_changes()").pluck().get());
    if (writes === seenWrites) return;
    for (const one of [billed, metered, variance, closedDay, importSuccess, usageAsOf, openDay, priceRatio])
      one.reset();
    const today = new Date(nowMs).toISOString().slice(0, 10);
    const [since, until] = [addDays(today, -BILLED_DAYS), addDays(today, 1)];
    // Days before the meter are compared with nothing, and never signed.
    const firstDay = firstMeteredDay(usage, nowMs);
    const days = await readBillDays(billing, firstDay > since ? firstDay : since, until);
    const marks = await readMarks(usage, since, until);
    const signed = await readClosed(billing, since, until);
    for (const { provider, day, closedAtMs } of signed) closedDay.set({ provider, day }, closedAtMs / 1000);
    const closed = new Set(signed.map(({ provider, day }) => `${provider} ${day}`));
    const compared = new Set(days.map(({ provider, day }) => `${provider} ${day}`));
    for (const { provider, day, amountNanoUsd, lines } of days) {
      if (lines > 0) billed.set({ provider, day }, toUsdNumber(amountNanoUsd));
    }
    for (const { provider, day, costNanoUsd } of marks)
      if (compared.has(`${provider} ${day}`)) metered.set({ provider, day }, toUsdNumber(costNanoUsd));
    const causes = new Map<string, { readonly provider: string; readonly cause: string; amountNanoUsd: NanoUsd }>();
    for (const { provider, day, cause, amountNanoUsd } of await readVarianceSums(billing, since, until)) {
      // On a closed day estimates have been corrected: they are metered money by now, and no difference.
      if (cause === "estimate corrected" && closed.has(`${provider} ${day}`)) continue;
      const sum = causes.get(`${provider} ${cause}`) ?? { provider, cause, amountNanoUsd: 0n };
      sum.amountNanoUsd += amountNanoUsd;
      causes.set(`${provider} ${cause}`, sum);
    }
    for (const { provider, cause, amountNanoUsd } of causes.values())
      variance.set({ provider, cause }, toUsdNumber(amountNanoUsd));
    // A day without use has nothing to close.
    const used = new Set(
      [...marks, ...days.filter(({ lines }) => lines > 0)].map(({ provider, day }) => `${provider} ${day}`),
    );
    for (const provider of sources) {
      const open = days.find(
        (one) =>
          one.provider === provider && used.has(`${provider} ${one.day}`) && !closed.has(`${provider} ${one.day}`),
      );
      openDay.set({ provider }, Date.parse(`${open?.day ?? today}T00:00:00Z`) / 1000);
    }
    for (const one of await readImports(billing))
      if (sources.includes(one.provider))
        importSuccess.set({ provider: one.provider }, (one.lastSuccessMs ?? 0) / 1000);
    for (const { provider, asOfMs } of await readUsageReads(billing))
      if (sources.includes(provider)) usageAsOf.set({ provider }, (asOfMs ?? 0) / 1000);
    for (const one of observedPrices(await readComparisons(billing, addDays(today, -PRICE_DAYS), until))) {
      const labels = { provider: one.provider, model: one.model, unit: one.unit };
      if (Math.abs(one.ratio - 1) > LEAST_RATIO) priceRatio.set(labels, one.ratio);
    }
    seenWrites = writes;
  };

  return {
    registry,
    async refresh(nowMs) {
      for (const one of [
        forecastUsd,
        landingUsd,
        soFar,
        learning,
        budgetUsd,
        budgetSpent,
        budgetThreshold,
        budgetRefused,
        keyInfo,
        leak,
        leakUsd,
      ])
        one.reset();

      const spend = await refreshSpend(nowMs);
      for (const window of ["day", "month"] as const) {
        for (const rest of await readRests({ usage, billing }, nowMs, { window })) {
          if (rest.method === "learning") continue;
          const { p10NanoUsd, p50NanoUsd, p90NanoUsd } = landingOf(
            rest,
            spend.get(window)?.get(rest.scope)?.get(rest.id)?.costNanoUsd ?? 0n,
            nowMs,
          );
          const labels = { scope: rest.scope, id: rest.id, window };
          landingUsd.set({ ...labels, quantile: "0.1" }, toUsdNumber(p10NanoUsd));
          landingUsd.set({ ...labels, quantile: "0.5" }, toUsdNumber(p50NanoUsd));
          landingUsd.set({ ...labels, quantile: "0.9" }, toUsdNumber(p90NanoUsd));
        }
      }
      const expectations = await readExpectations({ usage, billing }, nowMs);
      const budgets = readBudgets(usage);
      const settled = await readAllSettled(usage, budgets, ({ window }) => calendar.window(window, nowMs));
      await refreshAlertMetrics(expectations, budgets, settled, nowMs);
      for (const one of expectations) {
        const labels = { scope: one.scope, id: one.id, window: one.window };
        learning.set(labels, one.method === "learning" ? 1 : 0);
        if (one.method === "learning") continue;
        forecastUsd.set({ ...labels, quantile: "0.1" }, toUsdNumber(one.p10NanoUsd));
        forecastUsd.set({ ...labels, quantile: "0.5" }, toUsdNumber(one.p50NanoUsd));
        forecastUsd.set({ ...labels, quantile: "0.9" }, toUsdNumber(one.p90NanoUsd));
        soFar.set(labels, toUsdNumber(expectedSoFar(one, nowMs)));
      }

      const refused = await readRefused(usage, nowMs - REFUSED_MS, nowMs + 60_000);
      for (const budget of budgets) {
        const labels = {
          budget: budget.id,
          scope: describeScope(budget.scope),
          team: budget.scope.team ?? "",
          window: budget.window,
          kind: kindOf(budget, settings.capMode),
        };
        const amount = amountAt(budget, nowMs);
        const spent = settled.get(budget.id) ?? 0n;
        budgetUsd.set(labels, toUsdNumber(amount));
        budgetSpent.set(labels, toUsdNumber(spent));
        for (const threshold of budget.thresholds ?? USUAL_THRESHOLDS)
          budgetThreshold.set(
            { ...labels, threshold: String(threshold) },
            spent > 0n && spent * 100n >= amount * BigInt(threshold) ? 1 : 0,
          );
        budgetRefused.set(
          labels,
          refused.filter((row) => row.budgetId === budget.id && !row.observed).reduce((sum, row) => sum + row.count, 0),
        );
      }
      for (const key of (await readKeys(usage)).keys.slice(0, MOST_KEYS))
        keyInfo.set(
          { id: key.id, name: key.name, team: key.team, project: key.project, env: key.env, owner: key.owner },
          1,
        );

      await refreshBills(nowMs);
      for (const one of (await readLeaks(billing))
        .filter((leak) => isOpen(leak) && nowMs - leak.lastHourMs < LEAK_MS)
        .slice(0, MOST_LEAKS)) {
        const labels = { provider: one.provider, billed_key: one.billedKey, kind: one.kind };
        leak.set({ ...labels, unit: one.unit }, one.quantity);
        if (one.costNanoUsd !== undefined) leakUsd.set(labels, toUsdNumber(one.costNanoUsd));
      }
      refreshed.set(nowMs / 1000);
    },
  };
}
