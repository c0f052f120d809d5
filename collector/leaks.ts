// Leaks: use of a provider key that did not come through the proxy. Pure. Hour by hour, what the provider counts on a
// key is held against what was metered on it; what is beyond it over any stretch of hours is use from elsewhere.
import type { BilledUsage } from "../ledger/billing/bills.ts";
import type { MeteredHour } from "../ledger/usage/metered-hours.ts";
import { DAY_MS, HOUR_MS } from "../ledger/windows.ts";

export type FoundLeak = {
  /** The provider's id of the key; "unmatched" for all keys together that cannot be told apart. */
  readonly billedKey: string;
  readonly kind: "unknown_key" | "beyond_metered";
  readonly unit: "tokens" | "requests";
  /** The most likely amount. Whether it is a leak is decided by less, with every doubt subtracted. */
  readonly quantity: number;
  /** Tokens of answers that had begun before its first hour, and may be counted in it. */
  readonly straddling: number;
  readonly firstHourMs: number;
  readonly lastHourMs: number;
  /** Models of the hours concerned, as billed. */
  readonly models: readonly string[];
};

export type LeakInput = {
  readonly usage: readonly BilledUsage[];
  readonly metered: readonly MeteredHour[];
  readonly straddling: readonly {
    readonly hourMs: number;
    readonly credential: string;
    readonly tokens: number;
    readonly requests: number;
  }[];
  /** The provider's key id of a credential, where it is known. */
  readonly byCredential: ReadonlyMap<string, string>;
  /** Work that went on at the provider (background answers): metered when it began, counted when it ended, up to a day
   *  later. Tokens undefined: nobody has fetched it yet, so it is not metered at all. */
  readonly work: readonly {
    readonly hourMs: number;
    readonly credential: string;
    readonly tokens: number | undefined;
  }[];
  /** Whether a billed key that no credential was matched with may still be one of those that could not be told
   *  apart. */
  readonly mayBeOurs: (billedKey: string) => boolean;
  /** Whether batches of this provider were metered lately, or are under way: they are metered when they begin and
   *  billed as they end. */
  readonly hasBatches: boolean;
  readonly sinceMs: number;
  /** Up to where the usage is known. */
  readonly untilMs: number;
};

/** All that cannot be told apart is held against each other as one key. */
export const UNMATCHED = "unmatched";
/** What a billed key is looked for under. */
export function poolOfKey(billedKey: string, matched: ReadonlySet<string>, mayBeOurs: LeakInput["mayBeOurs"]): string {
  return matched.has(billedKey) || !mayBeOurs(billedKey) ? billedKey : UNMATCHED;
}

/** The longest that work goes on. */
const WORK_MS = DAY_MS;
/** Less than this is noise of counting. */
const LEAST = { tokens: 1_000, requests: 5 };
/** An answer whose usage nobody stated may have been as many usual ones. */
const UNSURE_TIMES = 8;
/** Classes that hours are metered by; sound and pictures are left out on both sides. */
const CLASSES: ReadonlySet<string> = new Set([
  "input",
  "cache_read",
  "cache_write_5m",
  "cache_write_30m",
  "cache_write_1h",
  "cache_write_12h",
  "output",
]);

type Hour = { billed: number; metered: number; before: number; slack: number; readonly models: Set<string> };

export function findLeaks(input: LeakInput): FoundLeak[] {
  const unit = input.usage.some((one) => one.unit === "requests") ? "requests" : "tokens";
  const keys = new Map<string, Map<number, Hour>>();
  const matched = new Set(input.byCredential.values());
  const at = (key: string, hourMs: number): Hour | undefined => {
    if (hourMs < input.sinceMs || hourMs >= input.untilMs) return undefined;
    let hours = keys.get(key);
    if (!hours) keys.set(key, (hours = new Map()));
    let hour = hours.get(hourMs);
    if (!hour) hours.set(hourMs, (hour = { billed: 0, metered: 0, before: 0, slack: 0, models: new Set() }));
    return hour;
  };
  for (const one of input.usage) {
    // Use without a key (a sign-in, the provider's own pages) has none that could leak.
    if (one.billedKey === undefined) continue;
    if (unit === "tokens" && (!CLASSES.has(one.unit) || (one.tier === "batch" && input.hasBatches))) continue;
    const key = poolOfKey(one.billedKey, matched, input.mayBeOurs);
    const hour = at(key, one.hourMs);
    if (!hour) continue;
    hour.billed += one.quantity;
    if (one.model !== undefined) hour.models.add(one.model);
  }
  const keyOf = (credential: string): string => input.byCredential.get(credential) ?? UNMATCHED;
  const mean = usualAnswer(input.metered);
  for (const one of input.metered) {
    const hour = at(keyOf(one.credential), one.hourMs);
    if (!hour) continue;
    hour.metered += unit === "tokens" ? one.tokens : one.requests;
    if (unit === "tokens") hour.slack += one.unsure * mean * UNSURE_TIMES;
  }
  for (const one of input.straddling) {
    const hour = at(keyOf(one.credential), one.hourMs);
    if (hour) hour.before += one[unit];
  }
  for (const { hourMs, credential, tokens } of input.work) {
    const size = unit === "requests" ? 1 : (tokens ?? mean * UNSURE_TIMES);
    const key = keyOf(credential);
    // A stretch that begins after it may hold its end.
    for (let later = hourMs + HOUR_MS; later <= hourMs + WORK_MS; later += HOUR_MS) {
      const hour = at(key, later);
      if (hour) hour.before += size;
    }
    const begun = tokens === undefined ? at(key, Math.max(hourMs, input.sinceMs)) : undefined;
    if (begun) begun.slack += size;
  }
  return [...keys].flatMap(([billedKey, hours]) => {
    const found = worstStretch(hours, input.sinceMs, input.untilMs);
    if (!found || found.least < LEAST[unit]) return [];
    const { least: _least, ...rest } = found;
    const isKnown = billedKey === UNMATCHED || matched.has(billedKey);
    return [{ billedKey, kind: isKnown ? ("beyond_metered" as const) : ("unknown_key" as const), unit, ...rest }];
  });
}

/** The stretch of hours in which most was billed beyond what was metered: of answers that overlap it, wherever the
 *  provider counts them. */
function worstStretch(
  hours: ReadonlyMap<number, Hour>,
  sinceMs: number,
  untilMs: number,
):
  | (Pick<FoundLeak, "quantity" | "straddling" | "firstHourMs" | "lastHourMs" | "models"> & { readonly least: number })
  | undefined {
  let best: { least: number; firstHourMs: number; lastHourMs: number } | undefined;
  let sum = Number.NEGATIVE_INFINITY;
  let firstHourMs = sinceMs;
  for (let hourMs = sinceMs; hourMs < untilMs; hourMs += HOUR_MS) {
    const hour = hours.get(hourMs);
    const excess = hour ? hour.billed - hour.metered - hour.slack : 0;
    // To begin here costs what had begun before and may be counted here, stated or not.
    const fresh = excess - (hour?.before ?? 0) - (hours.get(hourMs - HOUR_MS)?.slack ?? 0);
    if (fresh >= sum + excess) {
      sum = fresh;
      firstHourMs = hourMs;
    } else sum += excess;
    if (!best || sum > best.least) best = { least: Math.floor(sum), firstHourMs, lastHourMs: hourMs };
  }
  if (!best || best.least <= 0) return undefined;
  const { firstHourMs: from, lastHourMs: to } = best;
  const within = [...hours].flatMap(([hourMs, hour]) => (hourMs >= from && hourMs <= to ? [hour] : []));
  const straddling = hours.get(from)?.before ?? 0;
  const likely = within.reduce((sum, { billed, metered }) => sum + billed - metered, -straddling);
  return {
    ...best,
    straddling,
    quantity: Math.max(best.least, likely),
    models: [...new Set(within.flatMap((hour) => [...hour.models]))].toSorted(),
  };
}

function usualAnswer(metered: readonly MeteredHour[]): number {
  const [tokens, requests] = metered.reduce(([a, b], one) => [a + one.tokens, b + one.requests], [0, 0]);
  return requests === 0 ? 0 : Math.ceil(tokens / requests);
}
