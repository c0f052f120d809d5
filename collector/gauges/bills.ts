// Gauges of bills: what is billed and what was metered, by day and by cause of the difference; how far bills are read
// and closed; and the differences of the last days beside the lines from which they are worth a look.
import { readBillDays, readImports, readUsageReads } from "../../ledger/billing/bills.ts";
import { readClosed, readVarianceSums } from "../../ledger/billing/closed-days.ts";
import { readMarks } from "../../ledger/billing/metered.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { firstMeteredDay } from "../../ledger/usage/meter-hours.ts";
import { addDays } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { thresholdsOf } from "../thresholds.ts";
import type { GaugeSettings, MakeGauge, Refresh } from "./gauge.ts";
import type { Reading } from "./reading.ts";

const BILLED_DAYS = 62;
/** Differences that are no fault of the meter, or go away by themselves. */
const NO_FAULT = new Set(["credit or tax", "late", "day boundary", "before the meter"]);

export function billGauges(make: MakeGauge, books: CollectorBooks, settings: GaugeSettings): Refresh {
  const parts = [
    dayGauges(make, books, settings),
    sourceGauges(make, books, settings),
    differenceGauges(make, books, settings),
  ];
  let seen = "";
  return async (reading) => {
    const mark = await reading.billsMark();
    if (mark === seen) return;
    for (const refresh of parts) await refresh(reading);
    seen = mark;
  };
}

function dayGauges(make: MakeGauge, { usage, billing }: CollectorBooks, { sources }: GaugeSettings): Refresh {
  const day = ["provider", "day"] as const;
  const billed = make("keymeter_billed_usd", "What the provider bills for a UTC day.", day);
  const metered = make("keymeter_metered_usd", "What was metered on a UTC day that was compared with a bill.", day);
  const variance = make("keymeter_variance_usd", "Billed minus metered of the days compared, by cause.", [
    "provider",
    "cause",
  ]);
  const closedAt = make("keymeter_day_closed_timestamp_seconds", "When a UTC day's bill was signed off.", day);
  const openDay = make(
    "keymeter_oldest_open_day_timestamp_seconds",
    "The oldest UTC day that is used and not closed, by its start; today where all are closed.",
    ["provider"],
  );
  return async ({ nowMs, today }) => {
    for (const one of [billed, metered, variance, closedAt, openDay]) one.reset();
    const [since, until] = [addDays(today, -BILLED_DAYS), addDays(today, 1)];
    // Days before the meter are compared with nothing, and never signed.
    const firstDay = await firstMeteredDay(usage, nowMs);
    const days = await readBillDays(billing, firstDay > since ? firstDay : since, until);
    const marks = await readMarks(usage, since, until);
    const signed = await readClosed(billing, since, until);
    for (const one of signed) closedAt.set({ provider: one.provider, day: one.day }, one.closedAtMs / 1000);
    const closed = new Set(signed.map(nameOf));
    const compared = new Set(days.map(nameOf));
    const withBill = days.filter(({ lines }) => lines > 0);
    for (const one of withBill) billed.set({ provider: one.provider, day: one.day }, toUsdNumber(one.amountNanoUsd));
    for (const one of marks)
      if (compared.has(nameOf(one)))
        metered.set({ provider: one.provider, day: one.day }, toUsdNumber(one.costNanoUsd));
    for (const { provider, cause, amountNanoUsd } of await sumCauses(billing, since, until, closed))
      variance.set({ provider, cause }, toUsdNumber(amountNanoUsd));
    // A day without use has nothing to close.
    const used = new Set([...marks, ...withBill].map(nameOf));
    for (const provider of sources) {
      const open = days.find((one) => one.provider === provider && used.has(nameOf(one)) && !closed.has(nameOf(one)));
      openDay.set({ provider }, Date.parse(`${open?.day ?? today}T00:00:00Z`) / 1000);
    }
  };
}

function nameOf({ provider, day }: { readonly provider: string; readonly day: string }): string {
  return `${provider} ${day}`;
}

async function sumCauses(
  billing: CollectorBooks["billing"],
  since: string,
  until: string,
  closed: ReadonlySet<string>,
): Promise<{ readonly provider: string; readonly cause: string; readonly amountNanoUsd: NanoUsd }[]> {
  const causes = new Map<string, { readonly provider: string; readonly cause: string; amountNanoUsd: NanoUsd }>();
  for (const { provider, day, cause, amountNanoUsd } of await readVarianceSums(billing, since, until)) {
    // On a closed day estimates have been corrected: they are metered money by now, and no difference.
    if (cause === "estimate corrected" && closed.has(nameOf({ provider, day }))) continue;
    const sum = causes.get(`${provider} ${cause}`) ?? { provider, cause, amountNanoUsd: 0n };
    sum.amountNanoUsd += amountNanoUsd;
    causes.set(`${provider} ${cause}`, sum);
  }
  return [...causes.values()];
}

function sourceGauges(make: MakeGauge, { billing }: CollectorBooks, { sources }: GaugeSettings): Refresh {
  const success = make("keymeter_import_last_success_timestamp_seconds", "When a provider's bill was last read.", [
    "provider",
  ]);
  const asOf = make("keymeter_usage_as_of_timestamp_seconds", "Up to when a provider's usage by the hour is known.", [
    "provider",
  ]);
  return async () => {
    success.reset();
    asOf.reset();
    for (const { provider, lastSuccessMs } of await readImports(billing))
      if (sources.includes(provider)) success.set({ provider }, (lastSuccessMs ?? 0) / 1000);
    for (const { provider, asOfMs } of await readUsageReads(billing))
      if (sources.includes(provider)) asOf.set({ provider }, (asOfMs ?? 0) / 1000);
  };
}

function differenceGauges(make: MakeGauge, _books: CollectorBooks, settings: GaugeSettings): Refresh {
  const gap = make(
    "keymeter_variance_day_usd",
    "Billed minus metered of the last day that was compared, without sign, credits, tax and what is still to come.",
    ["provider"],
  );
  const gapLine = make("keymeter_variance_day_line_usd", "A larger difference is worth looking at.", ["provider"]);
  const unmetered = make("keymeter_unmetered_day_usd", "The largest day of what was billed and never metered.", [
    "provider",
  ]);
  const unmeteredLine = make("keymeter_unmetered_day_line_usd", "More than this went round the proxy.", ["provider"]);
  const { variance_share: share, variance_usd: usd, unmetered_usd: unmeteredUsd } = thresholdsOf(settings, "");
  return async (reading) => {
    for (const one of [gap, gapLine, unmetered, unmeteredLine]) one.reset();
    for (const [provider, own] of Map.groupBy(await sumDays(reading), (one) => one.provider)) {
      const last = own.toSorted((a, b) => b.day.localeCompare(a.day))[0];
      if (!last) continue;
      gap.set({ provider }, Math.abs(toUsdNumber(last.gap)));
      gapLine.set({ provider }, Math.max(usd, share * toUsdNumber(last.billed)));
      unmetered.set({ provider }, Math.max(0, ...own.map(({ round }) => toUsdNumber(round))));
      unmeteredLine.set({ provider }, unmeteredUsd);
    }
  };
}

type DaySums = { readonly provider: string; readonly day: string; billed: NanoUsd; gap: NanoUsd; round: NanoUsd };

/** The last whole days: what was billed, what of it differs, and what of it went round the proxy. */
async function sumDays(reading: Reading): Promise<DaySums[]> {
  const days = new Map<string, DaySums>();
  for (const one of await reading.comparisons()) {
    if (one.day >= reading.today) continue;
    const name = nameOf(one);
    const sum = days.get(name) ?? { provider: one.provider, day: one.day, billed: 0n, gap: 0n, round: 0n };
    days.set(name, sum);
    sum.billed += one.billedNanoUsd;
    for (const piece of one.variances) {
      if (piece.cause.startsWith("unmetered")) sum.round += piece.amountNanoUsd;
      else if (!NO_FAULT.has(piece.cause)) sum.gap += piece.amountNanoUsd;
    }
  }
  return [...days.values()];
}
