// The collector's work on bills: read them, compare, look for leaks, close days. Each part can run at any time, any
// number of times, with the same result; one source's failure leaves the others alone.
import type { Adjustment } from "../ledger/usage/adjustments.ts";
import {
  noteImport,
  noteUsage,
  readBillDays,
  readBilledUsage,
  readImports,
  readProviderKeys,
  readUsageReads,
  replaceBills,
  replaceProviderKeys,
  replaceUsage,
} from "../ledger/billing/bills.ts";
import { findClosed, readComparisons } from "../ledger/billing/closed-days.ts";
import type { Comparison } from "../ledger/billing/closed-days.ts";
import { readDismissals, noteLeak } from "../ledger/billing/leaks.ts";
import { readMeteredCredentials } from "../ledger/usage/credentials.ts";
import { hasBatchesSince, readMeteredHours, readStraddling, readWorkTokens } from "../ledger/usage/metered-hours.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import { findMeterBegan, firstMeteredDay } from "../ledger/usage/meter-hours.ts";
import { addDays, DAY_MS, HOUR_MS, utcDay } from "../ledger/windows.ts";
import type { Log } from "../service/log.ts";
import { readHistory, refreshBilledHours } from "./before.ts";
import { closeBilledDay, compareDays, whyOpen } from "./compare.ts";
import type { CollectorBooks, ClosingRules } from "./compare.ts";
import type { CollectorConfig } from "./config.ts";
import { ImportError } from "./importers/importer.ts";
import type { Importer } from "./importers/importer.ts";
import { findLeaks, poolOfKey, UNMATCHED } from "./leaks.ts";
import { worthOfLeak } from "./worth.ts";
import type { FoundLeak } from "./leaks.ts";
import { isShownAs, matchKeys, statedOf } from "./match.ts";
import type { Stated, StatedSettings } from "./match.ts";

/** Usage is held against the meter over this long. */
const LEAK_WINDOW_MS = 26 * HOUR_MS;
/** A batch may take a day, and its result be fetched a day later. */
const BATCH_MS = 3 * DAY_MS;
/** Days whose bill may bring the first sign of a leak, where the provider reports no usage. */
const LEAK_DAYS = 7;
/** Under a cent a day is no leak that anybody has to get up for. */
const LEAST_LEAK_NANO_USD = 10_000_000n;

export type ReconcileSettings = StatedSettings &
  Pick<CollectorConfig, "reconcileDays" | "closeAfterDays" | "closeQuietHours">;

/** Reads the bills, and once what was before the meter; compares, closes what has settled. */
export async function reconcileBills(
  books: CollectorBooks,
  importers: readonly Importer[],
  settings: ReconcileSettings,
  prices: PriceBook,
  adjust: (list: Adjustment[]) => Promise<void>,
  log: Log,
  onProgress: (text: string) => void = () => undefined,
): Promise<string[]> {
  const now = Date.now();
  const stated = statedOf(settings);
  const { failures, notes, firstDay } = await readBills(books, importers, settings.reconcileDays, now, log, onProgress);
  for (const note of notes) log.warn({ note }, "a billing source has something to say");
  const history = await readHistory(books, importers, firstDay, now, onProgress);
  await refreshBilledHours(books, prices, stated.providers, now);
  for (const question of await compareLately(books, history.firstDay, stated, now))
    log.warn({ question }, "a bill cannot be told apart");
  const rules = { afterDays: settings.closeAfterDays, quietMs: settings.closeQuietHours * HOUR_MS };
  const closing = await closeQuietDays(books, rules, stated, adjust, now);
  if (closing.closed > 0) log.info({ days: closing.closed }, "days were closed");
  return [...failures, ...history.failures, ...closing.failures];
}

export type Report = {
  readonly failures: string[];
  readonly notes: string[];
  /** The earliest day that was read. */
  readonly firstDay: string;
};

/** Reads keys, bills and usage of the last days, today included, and of what was missed before. Each whole, or nothing
 *  of it. */
export async function readBills(
  books: CollectorBooks,
  importers: readonly Importer[],
  days: number,
  nowMs: number,
  log: Log,
  onProgress: (text: string) => void = () => undefined,
): Promise<Report> {
  const { billing } = books;
  const failures: string[] = [];
  const notes: string[] = [];
  const untilDay = addDays(utcDay(nowMs), 1);
  let firstDay = addDays(utcDay(nowMs), -days);
  for (const importer of importers) {
    /** Undefined: it worked; else the sentence, which is kept. */
    const attempt = async (work: () => Promise<void>): Promise<string | undefined> => {
      try {
        await work();
        return undefined;
      } catch (error) {
        if (!(error instanceof ImportError)) log.error({ err: error, importer: importer.name }, "an import failed");
        return error instanceof Error ? error.message : String(error);
      }
    };
    const [provider = ""] = importer.providers;
    const sinceDay = await firstDayFor(books, importer, addDays(utcDay(nowMs), -days), nowMs);
    if (sinceDay < firstDay) firstDay = sinceDay;
    // Keys, money and quantities come from places with rights of their own: one may fail without the others. Where
    // there is no bill, its reason is the one worth saying.
    const withoutKeys = await attempt(async () => {
      if (importer.fetchKeys) await replaceProviderKeys(billing, provider, await importer.fetchKeys(), nowMs);
    });
    const error = await attempt(async () => {
      const bills = await importer.fetchBills(sinceDay, untilDay, (done) => onProgress(`${importer.name}: ${done}`));
      await replaceBills(billing, bills, nowMs);
    });
    const said: string[] = [];
    if (error !== undefined) failures.push(error);
    else {
      const sinceMs = Date.parse(`${sinceDay}T00:00:00Z`);
      const withoutUsage = await attempt(() => readUsage(billing, importer, sinceMs, nowMs));
      const unheard = await attempt(async () => void said.push(...((await importer.inspect?.()) ?? [])));
      failures.push(...[withoutKeys, withoutUsage, unheard].filter((why) => why !== undefined));
    }
    for (const one of importer.providers)
      await noteImport(billing, one, nowMs, { error, ...(said.length === 0 ? {} : { note: said.join("; ") }) });
    notes.push(...said);
  }
  return { failures: [...new Set(failures)], notes, firstDay };
}

/** From which day on a source is read: the last days, and whatever was missed since it was last read, or has not closed
 *  yet. */
async function firstDayFor(
  books: CollectorBooks,
  importer: Importer,
  usualDay: string,
  nowMs: number,
): Promise<string> {
  const { billing } = books;
  const today = utcDay(nowMs);
  const meteredDay = await firstMeteredDay(books.usage, nowMs);
  const earliest = addDays(today, -MOST_DAYS_READ);
  const candidates = [usualDay];
  for (const note of await readImports(billing))
    if (importer.providers.includes(note.provider) && note.lastSuccessMs !== null)
      candidates.push(addDays(utcDay(note.lastSuccessMs), -1));
  for (const provider of importer.providers)
    for (const { day, lines } of await readBillDays(billing, earliest, today, provider))
      // What was never metered is never closed: it is read once, as history.
      if (lines > 0 && day >= meteredDay && !(await findClosed(billing, provider, day))) candidates.push(day);
  const [first = usualDay] = candidates.toSorted();
  return first < earliest ? earliest : first;
}

/** Reads quantities of the hours since `sinceMs`, as far as the source reports any. What fails is noted, and thrown. */
async function readUsage(
  billing: CollectorBooks["billing"],
  importer: Importer,
  sinceMs: number,
  nowMs: number,
): Promise<void> {
  if (!importer.fetchUsage) return;
  const fromMs = Math.floor(sinceMs / HOUR_MS) * HOUR_MS;
  const untilMs = Math.ceil(nowMs / HOUR_MS) * HOUR_MS;
  try {
    const { provider, asOfMs, usage } = await importer.fetchUsage(fromMs, untilMs);
    const asked = usage.filter(({ hourMs }) => hourMs >= fromMs && hourMs < untilMs);
    await replaceUsage(billing, provider, fromMs, untilMs, asked);
    await noteUsage(billing, provider, nowMs, { asOfMs });
  } catch (error) {
    await noteUsage(billing, importer.providers[0] ?? "", nowMs, {
      error: error instanceof Error ? error.message : String(error),
    });
    throw error;
  }
}

/** Reads usage of the last hours, and holds it against what was metered: the same day, and where the provider counts by
 *  the minute, within minutes. */
export async function watchUsage(
  books: CollectorBooks,
  importers: readonly Importer[],
  stated: Stated,
  prices: PriceBook,
  nowMs: number,
  log: Log,
): Promise<string[]> {
  const failures: string[] = [];
  for (const importer of importers) {
    if (!importer.fetchUsage) continue;
    const [provider = ""] = importer.providers;
    try {
      await readUsage(books.billing, importer, nowMs - LEAK_WINDOW_MS, nowMs);
      await lookForLeaks(books, provider, stated, prices, nowMs);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
      if (!(error instanceof ImportError))
        log.error({ err: error, importer: importer.name }, "usage could not be read");
    }
  }
  return failures;
}

/** Holds a provider's usage of the last hours against the meter, and books what went round it. */
async function lookForLeaks(
  { usage, billing }: CollectorBooks,
  provider: string,
  stated: Stated,
  prices: PriceBook,
  nowMs: number,
): Promise<FoundLeak[]> {
  const asOfMs = (await readUsageReads(billing)).find((one) => one.provider === provider)?.asOfMs ?? 0;
  const untilMs = Math.ceil(asOfMs / HOUR_MS) * HOUR_MS;
  // Of the hour in which the meter began the provider counts what came before it too.
  const meteredMs = ((await findMeterBegan(usage)) ?? nowMs) + HOUR_MS;
  const sinceMs = Math.max(untilMs - Math.ceil(LEAK_WINDOW_MS / HOUR_MS) * HOUR_MS, meteredMs);
  if (asOfMs === 0 || nowMs - asOfMs > LEAK_WINDOW_MS || sinceMs >= untilMs) return [];
  const credentials = (await readMeteredCredentials(usage)).filter((one) => one.provider === provider);
  const providerKeys = await readProviderKeys(billing, provider);
  const { byCredential } = matchKeys(credentials, providerKeys, stated);
  const open = credentials.filter(({ credential }) => !byCredential.has(credential));
  const mayBeOurs = (billedKey: string): boolean => {
    if (open.length === 0) return false;
    const shown = providerKeys.find((key) => key.billedKey === billedKey)?.hint ?? "";
    return shown === "" || open.some(({ hint }) => hint === "" || isShownAs(hint, shown));
  };
  const matched = new Set(byCredential.values());
  const poolOf = (billedKey: string): string => poolOfKey(billedKey, matched, mayBeOurs);
  const dismissals = await readDismissals(billing, provider);
  const dismissed = (billedKey: string): number => {
    const own = dismissals.get(billedKey) ?? 0;
    const isPooled = !matched.has(billedKey) && mayBeOurs(billedKey);
    return isPooled ? Math.max(own, dismissals.get(UNMATCHED) ?? 0) : own;
  };
  const billed = (await readBilledUsage(billing, provider, sinceMs, untilMs)).filter(
    ({ billedKey, hourMs }) => billedKey === undefined || hourMs >= dismissed(billedKey),
  );
  const metered = await readMeteredHours(usage, provider, sinceMs, untilMs);
  const hasBatches = await hasBatchesSince(usage, provider, nowMs - BATCH_MS);
  const found = findLeaks({
    usage: billed,
    metered,
    straddling: await readStraddling(usage, provider, sinceMs, untilMs),
    byCredential,
    mayBeOurs,
    work: await readWorkTokens(usage, provider, sinceMs - DAY_MS),
    hasBatches,
    sinceMs,
    untilMs,
  });
  for (const leak of found) {
    const { firstHourMs, lastHourMs, billedKey } = leak;
    const isIn = ({ hourMs }: { readonly hourMs: number }): boolean => hourMs >= firstHourMs && hourMs <= lastHourMs;
    const rows = billed.filter(
      (one) => isIn(one) && one.billedKey !== undefined && poolOf(one.billedKey) === billedKey,
    );
    const ours = metered.filter((one) => isIn(one) && (byCredential.get(one.credential) ?? UNMATCHED) === billedKey);
    const priceOf = (model: string, hourMs: number, tier: string | undefined) =>
      prices.find(stated.providers.priceListOf(provider, model), model, hourMs, tier ? [tier] : []);
    const costNanoUsd = worthOfLeak({ rows, metered: hasBatches ? [] : ours, hasBatches, leak, priceOf });
    const { straddling: _straddling, ...noted } = leak;
    await noteLeak(billing, { provider, ...noted, costNanoUsd }, nowMs);
  }
  return found;
}

/** Compares the days since `sinceDay`, and books what the bills themselves say went round the proxy, where no usage by
 *  the hour says more. Returns what somebody has to say. */
export async function compareLately(
  books: CollectorBooks,
  sinceDay: string,
  stated: Stated,
  nowMs: number,
): Promise<string[]> {
  const untilDay = addDays(utcDay(nowMs), 1);
  const asked = await compareDays(books, sinceDay, untilDay, stated, nowMs);
  const byHour = new Set(
    (await readUsageReads(books.billing))
      .filter(({ asOfMs }) => asOfMs !== null && nowMs - asOfMs < LEAK_WINDOW_MS)
      .map((one) => one.provider),
  );
  const firstDay = await firstMeteredDay(books.usage, nowMs);
  const leakDay = addDays(untilDay, -LEAK_DAYS);
  const lately = await readComparisons(books.billing, leakDay > firstDay ? leakDay : firstDay, untilDay);
  const fresh = [];
  for (const [provider, ofProvider] of Map.groupBy(lately, (one) => one.provider)) {
    if (byHour.has(provider)) continue;
    const dismissals = await readDismissals(books.billing, provider);
    for (const one of ofProvider)
      if (Date.parse(`${one.day}T00:00:00Z`) >= (dismissals.get(one.key ?? UNMATCHED) ?? 0)) fresh.push(one);
  }
  for (const leak of leaksOfBills(fresh)) await noteLeak(books.billing, leak, nowMs);
  return asked.flatMap(({ provider, questions }) => questions.map((question) => `${provider}: ${question}`));
}

type BilledLeak = Parameters<typeof noteLeak>[1];

/** Use that only the bill knows, by key: a bill tells no hour, so it is the whole day. */
function leaksOfBills(comparisons: readonly Comparison[]): BilledLeak[] {
  const found = new Map<string, BilledLeak>();
  for (const { provider, day, key, model, variances } of comparisons) {
    const piece = variances.find(({ cause }) => cause === "unmetered key");
    if (!piece || piece.amountNanoUsd < LEAST_LEAK_NANO_USD || key === "") continue;
    const billedKey = key ?? UNMATCHED;
    const startMs = Date.parse(`${day}T00:00:00Z`);
    const known = found.get(`${provider} ${billedKey}`);
    const isMetered = comparisons.some(
      (one) => one.provider === provider && one.key === key && one.meteredNanoUsd > 0n,
    );
    found.set(`${provider} ${billedKey}`, {
      provider,
      billedKey,
      kind: isMetered ? "beyond_metered" : "unknown_key",
      firstHourMs: known?.firstHourMs ?? startMs,
      lastHourMs: startMs + DAY_MS - HOUR_MS,
      quantity: (known?.quantity ?? 0) + (piece.quantity ?? 0),
      unit: "tokens",
      costNanoUsd: (known?.costNanoUsd ?? 0n) + piece.amountNanoUsd,
      models: [...new Set([...(known?.models ?? []), ...(model === undefined ? [] : [model])])].toSorted(),
    });
  }
  return [...found.values()];
}

/** Closes every day whose bill is whole, old enough and has stood still. Returns how many, and why adjustments could
 *  not be sent. */
export async function closeQuietDays(
  books: CollectorBooks,
  rules: ClosingRules,
  stated: Stated,
  adjust: (list: Adjustment[]) => Promise<void>,
  nowMs: number,
): Promise<{ readonly closed: number; readonly failures: string[] }> {
  const failures: string[] = [];
  let closed = 0;
  const today = utcDay(nowMs);
  const firstDay = await firstMeteredDay(books.usage, nowMs);
  for (const one of await readBillDays(books.billing, addDays(today, -CLOSE_WITHIN_DAYS), today)) {
    // A day without a line is no bill of nothing: somebody has to say so.
    if (one.lines === 0 || (await findClosed(books.billing, one.provider, one.day))) continue;
    if (whyOpen(one, rules, firstDay, nowMs) !== undefined) continue;
    try {
      const why = await closeBilledDay(books, one, "keymeter", stated, adjust, nowMs);
      if (why === undefined) closed += 1;
      else failures.push(`${one.day} of ${one.provider} stays open: ${why}`);
    } catch (error) {
      failures.push(
        `${one.day} of ${one.provider} could not be closed: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
  return { closed, failures };
}

/** A day that nothing closed in this time is somebody's to close. */
const CLOSE_WITHIN_DAYS = 120;
/** As far back as sources are asked for what was missed. */
const MOST_DAYS_READ = 62;
