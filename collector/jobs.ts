// The collector's work on bills: read them, compare, look for leaks, close days. Each part can run at any time, any number of times,
// with the same result; one source's failure leaves the others alone.
import type { Adjustment } from "../ledger/adjustments.ts";
import {
  noteImport,
  readBillDays,
  readBilledUsage,
  readImports,
  readProviderKeys,
  replaceBills,
  replaceProviderKeys,
  replaceUsage,
} from "../ledger/bills.ts";
import { findClosed, readComparisons } from "../ledger/closing.ts";
import type { Comparison } from "../ledger/closing.ts";
import { cost } from "../ledger/cost.ts";
import { dismissedUntil, noteLeak } from "../ledger/leaks.ts";
import { hasBatchesSince, readHourTokens, readMeteredCredentials, readStraddling } from "../ledger/metered.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { PriceBook } from "../ledger/prices.ts";
import { addDays } from "../ledger/windows.ts";
import type { Log } from "../service/log.ts";
import { closeBilledDay, compareDays, whyOpen } from "./compare.ts";
import type { Books, ClosingRules } from "./compare.ts";
import { ImportError } from "./importers/importer.ts";
import type { Importer } from "./importers/importer.ts";
import { findLeaks, UNMATCHED } from "./leaks.ts";
import type { FoundLeak } from "./leaks.ts";
import { matchKeys } from "./match.ts";
import type { Stated } from "./match.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Usage is held against the meter over this long. */
const LEAK_WINDOW_MS = 26 * HOUR_MS;
/** A batch may take a day, and its result be fetched a day later. */
const BATCH_MS = 3 * DAY_MS;
/** Days whose bill may bring the first sign of a leak, where the provider reports no usage. */
const LEAK_DAYS = 7;
/** Under a cent a day is no leak that anybody has to get up for. */
const LEAST_LEAK_NANO_USD = 10_000_000n;

export type Report = { readonly failures: string[]; readonly notes: string[] };

/** Whose price list a provider's use goes by. */
const LISTS: { readonly [provider: string]: string } = {
  openai: "openai",
  anthropic: "anthropic",
  "gcp.gemini": "google",
};

/** Reads keys, usage and bills of the last days, today included. Whole sources or nothing of them. */
export async function readBills(
  { billing }: Books,
  importers: readonly Importer[],
  days: number,
  nowMs: number,
  log: Log,
  onProgress: (text: string) => void = () => undefined,
): Promise<Report> {
  const failures: string[] = [];
  const notes: string[] = [];
  const untilDay = addDays(dayOf(nowMs), 1);
  const sinceDay = addDays(untilDay, -days - 1);
  for (const importer of importers) {
    const [said, failed]: [string[], string[]] = [[], []];
    let usageAsOfMs: number | undefined;
    try {
      if (importer.fetchKeys) {
        const keys = await importer.fetchKeys();
        for (const provider of importer.providers.slice(0, 1)) replaceProviderKeys(billing, provider, keys, nowMs);
      }
      const bills = await importer.fetchBills(sinceDay, untilDay, (done) => onProgress(`${importer.name}: ${done}`));
      replaceBills(billing, bills, nowMs);
      usageAsOfMs = await readUsage(billing, importer, Date.parse(`${sinceDay}T00:00:00Z`), nowMs);
      said.push(...((await importer.inspect?.()) ?? []));
    } catch (error) {
      failed.push(error instanceof Error ? error.message : String(error));
      if (!(error instanceof ImportError)) log.error({ err: error, importer: importer.name }, "an import failed");
    }
    for (const provider of importer.providers)
      noteImport(billing, provider, nowMs, {
        error: failed[0],
        usageAsOfMs,
        ...(said.length === 0 ? {} : { note: said.join("; ") }),
      });
    failures.push(...failed);
    notes.push(...said);
  }
  return { failures, notes };
}

/** Reads quantities of the hours since `sinceMs`. Returns up to when they are known; undefined: the source reports none. */
async function readUsage(
  billing: Books["billing"],
  importer: Importer,
  sinceMs: number,
  nowMs: number,
): Promise<number | undefined> {
  if (!importer.fetchUsage) return undefined;
  const fromMs = Math.floor(sinceMs / HOUR_MS) * HOUR_MS;
  const untilMs = Math.ceil(nowMs / HOUR_MS) * HOUR_MS;
  const { provider, asOfMs, usage } = await importer.fetchUsage(fromMs, untilMs);
  replaceUsage(billing, provider, fromMs, untilMs, usage);
  return asOfMs;
}

/** Reads usage of the last hours, and holds it against what was metered: the same day, and where the provider counts by the minute, within
 *  minutes. */
export async function watchUsage(
  books: Books,
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
      const asOfMs = await readUsage(books.billing, importer, nowMs - LEAK_WINDOW_MS, nowMs);
      noteImport(books.billing, provider, nowMs, { usageAsOfMs: asOfMs });
      await lookForLeaks(books, provider, stated, prices, nowMs);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      failures.push(why);
      noteImport(books.billing, provider, nowMs, { error: why });
      if (!(error instanceof ImportError))
        log.error({ err: error, importer: importer.name }, "usage could not be read");
    }
  }
  return failures;
}

/** Holds a provider's usage of the last hours against the meter, and books what went round it. */
async function lookForLeaks(
  { usage, billing }: Books,
  provider: string,
  stated: Stated,
  prices: PriceBook,
  nowMs: number,
): Promise<FoundLeak[]> {
  const asOfMs = (await readImports(billing)).find((one) => one.provider === provider)?.usageAsOfMs ?? 0;
  const untilMs = Math.ceil(asOfMs / HOUR_MS) * HOUR_MS;
  const sinceMs = untilMs - Math.ceil(LEAK_WINDOW_MS / HOUR_MS) * HOUR_MS;
  if (asOfMs === 0 || nowMs - asOfMs > LEAK_WINDOW_MS) return [];
  const credentials = (await readMeteredCredentials(usage)).filter((one) => one.provider === provider);
  const providerKeys = await readProviderKeys(billing, provider);
  const { byCredential } = matchKeys(credentials, providerKeys, stated);
  const open = credentials.filter(({ credential }) => !byCredential.has(credential));
  const billed = (await readBilledUsage(billing, provider, sinceMs, untilMs)).filter(
    ({ billedKey, hourMs }) => billedKey === undefined || hourMs >= dismissedUntil(billing, provider, billedKey),
  );
  const found = findLeaks({
    usage: billed,
    metered: await readHourTokens(usage, provider, sinceMs, untilMs),
    straddling: await readStraddling(usage, provider, sinceMs, untilMs),
    byCredential,
    credentials: credentials.map(({ credential }) => credential),
    mayBeOurs: (billedKey) => {
      if (open.length === 0) return false;
      const shown = providerKeys.find((key) => key.billedKey === billedKey)?.hint ?? "";
      return shown === "" || open.some(({ hint }) => hint === "" || shown.endsWith(hint.slice(-3)));
    },
    hasBatches: hasBatchesSince(usage, provider, nowMs - BATCH_MS),
    sinceMs,
    untilMs,
  });
  for (const leak of found) {
    const rows = billed.filter(
      (one) =>
        (one.billedKey === leak.billedKey || leak.billedKey === UNMATCHED) &&
        one.hourMs >= leak.firstHourMs &&
        one.hourMs <= leak.lastHourMs,
    );
    noteLeak(billing, { provider, ...leak, costNanoUsd: worth(rows, leak.quantity, provider, prices) }, nowMs);
  }
  return found;
}

/** What so many of these tokens cost by the list: the mean price of the hours in which they were used. */
function worth(
  rows: Awaited<ReturnType<typeof readBilledUsage>>,
  quantity: number,
  provider: string,
  prices: PriceBook,
): NanoUsd | undefined {
  let [sum, tokens] = [0n, 0];
  for (const { model, unit, tier, quantity: of, hourMs } of rows) {
    if (model === undefined || unit === "requests") continue;
    const price = prices.find(LISTS[provider] ?? provider, model, hourMs, tier ? [tier] : []);
    const amount = price && cost({ [unit]: of }, price).costNanoUsd;
    if (amount === undefined) continue;
    sum += amount;
    tokens += of;
  }
  return tokens === 0 ? undefined : (sum * BigInt(quantity)) / BigInt(tokens);
}

/** Compares the last days, and books what the bills themselves say went round the proxy, where no usage by the hour says more. Returns what
 *  somebody has to say. */
export async function compareLately(books: Books, days: number, stated: Stated, nowMs: number): Promise<string[]> {
  const untilDay = addDays(dayOf(nowMs), 1);
  const asked = await compareDays(books, addDays(untilDay, -days - 1), untilDay, stated, nowMs);
  const byHour = new Set(
    (await readImports(books.billing)).filter((one) => one.usageAsOfMs).map((one) => one.provider),
  );
  const lately = await readComparisons(books.billing, addDays(untilDay, -LEAK_DAYS), untilDay);
  for (const leak of leaksOfBills(lately.filter(({ provider }) => !byHour.has(provider))))
    if (leak.lastHourMs > dismissedUntil(books.billing, leak.provider, leak.billedKey))
      noteLeak(books.billing, leak, nowMs);
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

/** Closes every day whose bill is whole, old enough and has stood still. Returns how many, and why adjustments could not be sent. */
export async function closeSettledDays(
  books: Books,
  rules: ClosingRules,
  stated: Stated,
  adjust: (list: Adjustment[]) => Promise<void>,
  nowMs: number,
): Promise<{ readonly closed: number; readonly failures: string[] }> {
  const failures: string[] = [];
  let closed = 0;
  const today = dayOf(nowMs);
  for (const one of await readBillDays(books.billing, addDays(today, -CLOSE_WITHIN_DAYS), today)) {
    // A day without a line is no bill of nothing: somebody has to say so.
    if (one.lines === 0 || findClosed(books.billing, one.provider, one.day)) continue;
    if (whyOpen(one, rules, nowMs) !== undefined) continue;
    try {
      if (await closeBilledDay(books, one, "keymeter", stated, adjust, nowMs)) closed += 1;
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

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}
