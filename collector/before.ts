// Before the meter: the last months of usage and bills, read once, so that forecasts, pages and comparisons start full.
// It is billed, not metered: no leak, variance, alert or cap looks at it.
import { readBillDays, readBilledLines, readBilledUsage, replaceBills, replaceUsage } from "../ledger/billing/bills.ts";
import type { BilledLineOfDay, BilledUsage } from "../ledger/billing/bills.ts";
import { readBilledHours, replaceBilledHours } from "../ledger/billing/billed-hours.ts";
import type { BilledHour } from "../ledger/billing/billed-hours.ts";
import { readComparisons } from "../ledger/billing/closed-days.ts";
import { cost } from "../ledger/cost.ts";
import { allocate } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Providers } from "../ledger/providers.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import { findMeterBegan, firstMeteredDay, readMeterHours } from "../ledger/usage/meter-hours.ts";
import type { ForecastScope, HourlySpend } from "../ledger/usage/hours.ts";
import { addDays, DAY_MS, HOUR_MS, utcDay } from "../ledger/windows.ts";
import { reasonOf } from "../service/finding.ts";
import type { CollectorBooks } from "./compare.ts";
import type { Importer } from "./importers/importer.ts";

const HOURS_A_DAY = 24;
/** As far back as sources are asked for what was before the meter. */
const HISTORY_DAYS = 90;
/** As far back as bills count as history, whoever brought them: a file may hold a year. */
const MOST_HISTORY_DAYS = 400;
/** Over so many days it is seen how much of a bill goes through the meter. */
const COVERED_DAYS = 28;

/** Reads the last months from the sources that have not been asked for them yet, usage and bills, up to the days that
 *  are read anyway. A source that cannot say is asked again the next time. Returns what failed, a sentence each, and
 *  the earliest day that was read. */
export async function readHistory(
  { billing }: CollectorBooks,
  importers: readonly Importer[],
  untilDay: string,
  nowMs: number,
  onProgress: (text: string) => void = () => undefined,
): Promise<{ readonly failures: string[]; readonly firstDay: string }> {
  const sinceDay = addDays(utcDay(nowMs), -HISTORY_DAYS);
  const failures: string[] = [];
  let firstDay = untilDay;
  for (const importer of sinceDay < untilDay ? importers : []) {
    // A source answers with each day that it was asked for, also with those without a line.
    const asked = await readBillDays(billing, sinceDay, addDays(sinceDay, 1));
    if (importer.providers.every((one) => asked.some(({ provider }) => provider === one))) continue;
    try {
      const bills = await importer.fetchBills(sinceDay, untilDay, (done) =>
        onProgress(`${importer.name}, history: ${done}`),
      );
      // With its days a source counts as asked.
      await replaceBills(billing, bills, nowMs);
      firstDay = sinceDay;
    } catch (error) {
      failures.push(
        `${importer.name}: the last ${HISTORY_DAYS} days could not be read, and are asked for again at the next run; what is metered does not need them. ${reasonOf(error)}`,
      );
      continue;
    }
    try {
      const [sinceMs, untilMs] = [startOf(sinceDay), startOf(untilDay)];
      const usage = await importer.fetchUsage?.(sinceMs, untilMs);
      if (!usage) continue;
      const within = usage.usage.filter(({ hourMs }) => hourMs >= sinceMs && hourMs < untilMs);
      await replaceUsage(billing, usage.provider, sinceMs, untilMs, within);
    } catch (error) {
      failures.push(
        `${importer.name}: the usage of the last ${HISTORY_DAYS} days could not be read; their bills are spread evenly over the hours. ${reasonOf(error)}`,
      );
    }
  }
  return { failures, firstDay };
}

/** Spreads the bills of the days before the meter over their hours. At any time, with the same result. */
export async function refreshBilledHours(
  books: CollectorBooks,
  prices: PriceBook,
  providers: Providers,
  nowMs: number,
): Promise<void> {
  const { usage, billing } = books;
  const beganMs = (await findMeterBegan(usage)) ?? Math.floor(nowMs / HOUR_MS) * HOUR_MS;
  const firstDay = utcDay(beganMs);
  const sinceDay = addDays(firstDay, -MOST_HISTORY_DAYS);
  const untilDay = addDays(firstDay, 1);
  const days = await readBillDays(billing, sinceDay, untilDay);
  for (const provider of new Set(days.map((one) => one.provider))) {
    const lines = Map.groupBy(await readBilledLines(billing, provider, sinceDay, untilDay), ({ day }) => day);
    const hours: BilledHour[] = [];
    const worth = (one: BilledUsage): bigint => worthOf(one, (model) => providers.priceListOf(provider, model), prices);
    for (const [day, ofDay] of lines) {
      const startMs = startOf(day);
      const used = await readBilledUsage(billing, provider, startMs, startMs + HOURS_A_DAY * HOUR_MS);
      for (const one of spread(provider, startMs, ofDay, used, worth)) if (one.hourMs < beganMs) hours.push(one);
    }
    await replaceBilledHours(billing, provider, hours);
  }
}

/** A day's bill by the hour, key and model: each amount whole, to the nano-USD. Shaped as the key's use of the model
 *  was, else as the model's, else as all use of the day, else even. */
function spread(
  provider: string,
  startMs: number,
  lines: readonly BilledLineOfDay[],
  usage: readonly BilledUsage[],
  worthOf: (one: BilledUsage) => bigint,
): BilledHour[] {
  const amounts = new Map<string, { billedKey: string; model: string; amount: NanoUsd }>();
  for (const { kind, billedKey = "", model = "", amountNanoUsd } of lines) {
    // Credits and taxes are no use of anything.
    if (kind !== "usage" && kind !== "fee") continue;
    const name = `${billedKey}\n${model}`;
    const known = amounts.get(name);
    if (known) known.amount += amountNanoUsd;
    else amounts.set(name, { billedKey, model, amount: amountNanoUsd });
  }
  const shapes = new Map<string, bigint[]>();
  for (const one of usage) {
    const worth = worthOf(one);
    const hour = Math.floor((one.hourMs - startMs) / HOUR_MS);
    for (const name of [`${one.billedKey ?? ""}\n${one.model ?? ""}`, `\n${one.model ?? ""}`, "all"]) {
      const shape = shapes.get(name) ?? Array<bigint>(HOURS_A_DAY).fill(0n);
      shape[hour] = (shape[hour] ?? 0n) + worth;
      shapes.set(name, shape);
    }
  }
  const even = Array<bigint>(HOURS_A_DAY).fill(1n);
  return [...amounts.values()].flatMap(({ billedKey, model, amount }) => {
    const known = [`${billedKey}\n${model}`, `\n${model}`, "all"].map((name) => shapes.get(name));
    const shape = known.find((one) => one?.some((part) => part > 0n)) ?? even;
    return allocate(amount, shape).flatMap((costNanoUsd, hour) =>
      costNanoUsd === 0n ? [] : [{ provider, hourMs: startMs + hour * HOUR_MS, billedKey, model, costNanoUsd }],
    );
  });
}

/** What a quantity costs by the list, as a weight; where it has no price, the quantity. */
function worthOf(
  { model, unit, tier, quantity, hourMs }: BilledUsage,
  listOf: (model: string) => string,
  prices: PriceBook,
): bigint {
  if (model === undefined || unit === "requests") return BigInt(quantity);
  const price = prices.find(listOf(model), model, hourMs, tier ? [tier] : []);
  return (price && cost({ [unit]: quantity }, price).costNanoUsd) ?? BigInt(quantity);
}

/** What a forecast may start from before the meter: what was billed, as far as it goes through the meter since. Teams,
 *  projects, environments and keys are not told apart by bills. While nobody knows how far (no whole day has been
 *  compared yet), `unknown` says what stands for it: all of it, for people who look where the month lands; nothing, for
 *  what is frozen and alerts go by. */
export async function readHistoryOf(
  books: CollectorBooks,
  sinceMs: number,
  untilMs: number,
  scope: ForecastScope["scope"],
  unknown: "all" | "nothing",
  nowMs: number,
): Promise<HourlySpend[]> {
  if (scope !== "org" && scope !== "provider" && scope !== "model") return [];
  const hours = await readBilledHours(books.billing, sinceMs, untilMs, scope);
  if (hours.length === 0) return [];
  const covered = await readCovered(books, nowMs);
  const sums = new Map<string, HourlySpend>();
  for (const { hourMs, provider, id, costNanoUsd } of hours) {
    const share = covered.get(provider) ?? (unknown === "all" ? { metered: 1n, billed: 1n } : undefined);
    if (!share) continue;
    const { metered, billed } = share;
    const name = `${hourMs} ${id}`;
    const known = sums.get(name)?.costNanoUsd ?? 0n;
    sums.set(name, { hourMs, id, costNanoUsd: known + (costNanoUsd * metered) / billed });
  }
  return [...sums.values()];
}

/** The hours whose spend is known without a row being there: the meter ran, or the day was billed. */
export async function readKnownHours(
  { usage, billing }: CollectorBooks,
  sinceMs: number,
  untilMs: number,
): Promise<Set<number>> {
  const known = await readMeterHours(usage, sinceMs, untilMs);
  const beganMs = (await findMeterBegan(usage)) ?? untilMs;
  for (const { day, asOfMs } of await readBillDays(billing, utcDay(sinceMs), utcDay(beganMs + DAY_MS))) {
    const startMs = startOf(day);
    // What a day's bill does not name was not used, once the bill is whole.
    if (asOfMs < Math.min(startMs + DAY_MS, beganMs)) continue;
    for (let hour = 0; hour < HOURS_A_DAY; hour++) {
      const ofDay = startMs + hour * HOUR_MS;
      if (ofDay < beganMs) known.add(ofDay);
    }
  }
  return known;
}

/** How much of each provider's bill was metered on the whole days since the meter began: a team that sends a tenth of
 *  its traffic through it must not be expected to spend the whole. None for a provider: no such day has been compared
 *  yet. */
async function readCovered(
  books: CollectorBooks,
  nowMs: number,
): Promise<Map<string, { readonly metered: NanoUsd; readonly billed: NanoUsd }>> {
  const firstDay = addDays(await firstMeteredDay(books.usage, nowMs), 1);
  const lately = addDays(utcDay(nowMs), -COVERED_DAYS);
  const covered = new Map<string, { metered: NanoUsd; billed: NanoUsd }>();
  for (const one of await readComparisons(books.billing, lately > firstDay ? lately : firstDay, utcDay(nowMs))) {
    if (one.kind !== undefined) continue;
    const sums = covered.get(one.provider) ?? { metered: 0n, billed: 0n };
    sums.metered += one.meteredNanoUsd;
    sums.billed += one.billedNanoUsd;
    covered.set(one.provider, sums);
  }
  for (const [provider, sums] of covered) {
    if (sums.billed <= 0n) covered.delete(provider);
    else if (sums.metered > sums.billed) sums.metered = sums.billed;
  }
  return covered;
}

function startOf(day: string): number {
  return Date.parse(`${day}T00:00:00Z`);
}
