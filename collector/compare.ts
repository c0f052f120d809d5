// Brings both sides together: what was metered (folded days of usage.db) and what was billed (billing.db), matched,
// compared, kept. And closes days: estimates get their adjustments from the bill, then the figure is signed off.
import type { Adjustment } from "../ledger/usage/adjustments.ts";
import {
  readBillDays,
  readBilledLines,
  readBilledUsage,
  readProviderKeys,
  readUsageReads,
} from "../ledger/billing/bills.ts";
import type { BillDay, ProviderKey } from "../ledger/billing/bills.ts";
import { closeDay, findClosed, readComparisons, replaceComparisons } from "../ledger/billing/closed-days.ts";
import { formatAttemptId } from "../ledger/ids.ts";
import { readMetered, refreshMetered } from "../ledger/billing/metered.ts";
import { readMeteredCredentials } from "../ledger/usage/credentials.ts";
import { readUnderWay } from "../ledger/usage/metered-hours.ts";
import { readUnsureEvents } from "../ledger/usage/unsure-events.ts";
import type { MeteredLine } from "../ledger/billing/metered.ts";
import type { MeteredCredential } from "../ledger/usage/credentials.ts";
import type { UnsureEvent } from "../ledger/usage/unsure-events.ts";
import { allocate } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { BillingBooks, UsageBooks } from "../ledger/books.ts";
import { firstMeteredDay } from "../ledger/usage/meter-hours.ts";
import { addDays, DAY_MS, HOUR_MS } from "../ledger/windows.ts";
import { matchKeys, matchModels } from "./match.ts";
import type { KeyMatches, Stated } from "./match.ts";
import { reconcile, tierOf } from "./reconcile.ts";
import type { Context, Day, Metered } from "./reconcile.ts";

export type CollectorBooks = { readonly usage: UsageBooks; readonly billing: BillingBooks };

const DAYS_AROUND = 3;
const DAYS_AT_ONCE = 7;
/** As many corrections are one change of the proxy's books. */
const MOST_A_CHANGE = 500;
/** A sign-in has no key at the provider: its bills name none. */
const SIGN_IN = / sign-in$/;

export type Asked = { readonly provider: string; readonly questions: readonly string[] };

/** Compares every day of `[sinceDay, untilDay)` that has a bill and was metered, some days at a time; closed ones stay.
 *  Returns what somebody has to say to tell keys or models apart. */
export async function compareDays(
  books: CollectorBooks,
  sinceDay: string,
  untilDay: string,
  stated: Stated,
  nowMs: number,
  onDay: (day: string) => void = () => undefined,
): Promise<Asked[]> {
  const asked = new Map<string, Set<string>>();
  for (let from = sinceDay; from < untilDay; from = addDays(from, DAYS_AT_ONCE)) {
    const limit = addDays(from, DAYS_AT_ONCE);
    const some = await compareSome(books, from, limit < untilDay ? limit : untilDay, stated, nowMs, onDay);
    for (const { provider, questions } of some)
      asked.set(provider, new Set([...(asked.get(provider) ?? []), ...questions]));
    // Others get a turn: the gauges are read from the same thread.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return [...asked].map(([provider, questions]) => ({ provider, questions: [...questions] }));
}

async function compareSome(
  books: CollectorBooks,
  sinceDay: string,
  untilDay: string,
  stated: Stated,
  nowMs: number,
  onDay: (day: string) => void,
): Promise<Asked[]> {
  // The days around show what ran over midnight, and by which end of an answer the provider counts.
  const [first, end] = [addDays(sinceDay, -DAYS_AROUND), addDays(untilDay, DAYS_AROUND)];
  await refreshMetered(books, first, end, nowMs, onDay);
  const metered = new Map<string, MeteredLine[]>();
  await readMetered(books, first, end, (day, provider, lines) => metered.set(`${provider} ${day}`, lines));
  const firstDay = await firstMeteredDay(books.usage, nowMs);
  const billDays = await readBillDays(books.billing, first, end);
  const usageReads = new Map((await readUsageReads(books.billing)).map((one) => [one.provider, one]));
  const credentials = await readMeteredCredentials(books.usage);
  const asked: Asked[] = [];
  for (const provider of new Set(billDays.map((one) => one.provider))) {
    const ofProvider = billDays.filter((one) => one.provider === provider);
    const days = ofProvider.filter(({ day }) => day >= firstDay);
    // What an earlier release compared with nothing.
    for (const { day } of ofProvider)
      if (day < firstDay && day >= sinceDay && day < untilDay)
        await replaceComparisons(books.billing, provider, day, []);
    const own = credentials.filter((one) => one.provider === provider);
    const billed = await readBilledLines(books.billing, provider, first, end);
    const providerKeys = await readProviderKeys(books.billing, provider);
    const keys = matchKeys(own, providerKeys, stated);
    const keyOf = keyNames(own, keys);
    const pooled = unknownKeys(billed, own, keys, providerKeys);
    const linesOf = (day: string): MeteredLine[] => metered.get(`${provider} ${day}`) ?? [];
    const models = matchModels(
      billed.flatMap(({ model, unit }) => (model === undefined || unit === undefined ? [] : [model])),
      days.flatMap(({ day }) => linesOf(day).map(({ model }) => model)),
      stated,
    );
    const usageAsOfMs = usageReads.get(provider)?.asOfMs ?? 0;
    const named = <T extends { readonly billedKey?: string | undefined; readonly model?: string | undefined }>(
      one: T,
    ): T => ({
      ...one,
      billedKey: pooled.length > 0 ? undefined : one.billedKey,
      model: one.model === undefined ? undefined : models.of(one.model),
    });
    const billedByDay = Map.groupBy(billed, (line) => line.day);
    const compared: Day[] = [];
    for (const { day, asOfMs } of days) {
      const startMs = Date.parse(`${day}T00:00:00Z`);
      const usage = await readBilledUsage(books.billing, provider, startMs, startMs + DAY_MS);
      compared.push({
        day,
        isLate: asOfMs < startMs + DAY_MS,
        isFirst: day === firstDay,
        metered: linesOf(day)
          .filter(({ correction }) => correction !== "bill")
          .map((line): Metered => ({ ...line, key: keyOf(line.credential) })),
        billed: (billedByDay.get(day) ?? []).map(named),
        usage: usageAsOfMs <= startMs || usage.length === 0 ? undefined : usage.map(named),
      });
    }
    const context: Context = {
      provider,
      knownKeys: new Set(own.map(({ credential }) => keyOf(credential))),
      knownModels: new Set(compared.flatMap((day) => day.metered.map(({ model }) => model))),
      edge: await readEdges(books.usage, provider, first, end, keyOf),
    };
    const found = Map.groupBy(reconcile(context, compared), (one) => one.day);
    for (const { day } of days)
      if (day >= sinceDay && day < untilDay)
        await replaceComparisons(books.billing, provider, day, found.get(day) ?? []);
    const questions = [...keys.asked, ...models.asked];
    if (pooled.length > 0)
      questions.push(
        `the bill names keys (${pooled.slice(0, 3).join(", ")}${pooled.length > 3 ? ", ..." : ""}), and none of them can be told to be one that was metered; say which under collector.billing_keys in keymeter.yaml: ${own[0]?.credential ?? "fp_..."}: ${pooled[0]}. Until then all keys are compared together`,
      );
    if (questions.length > 0) asked.push({ provider, questions });
  }
  return asked;
}

/** A credential's name in the comparison: the provider's id of the key where it is known. */
function keyNames(own: readonly MeteredCredential[], { byCredential }: KeyMatches): (credential: string) => string {
  const signIns = new Set(own.filter(({ name }) => SIGN_IN.test(name)).map(({ credential }) => credential));
  return (credential) => byCredential.get(credential) ?? (signIns.has(credential) ? "" : credential);
}

/** The keys of a bill, when nothing tells which of them is one of ours: no list of the provider's keys, nothing stated,
 *  none of our own names. Empty: they can be told apart. */
function unknownKeys(
  billed: readonly { readonly billedKey?: string | undefined }[],
  own: readonly MeteredCredential[],
  { byCredential }: KeyMatches,
  providerKeys: readonly ProviderKey[],
): string[] {
  const names = [...new Set(billed.flatMap(({ billedKey }) => (billedKey ? [billedKey] : [])))];
  const ours = new Set([...byCredential.values(), ...own.map(({ credential }) => credential)]);
  const isTold = providerKeys.length > 0 || own.length === 0 || names.some((name) => ours.has(name));
  return isTold ? [] : names;
}

/** How many tokens of a model belong to answers that were under way at a midnight. */
async function readEdges(
  usage: UsageBooks,
  provider: string,
  sinceDay: string,
  untilDay: string,
  keyOf: (credential: string) => string,
): Promise<Context["edge"]> {
  const edges = new Map<string, number>();
  for (let day = sinceDay; day < untilDay; day = addDays(day, 1)) {
    const midnight = Date.parse(`${day}T00:00:00Z`) + DAY_MS;
    for (const { credential, model, tier, cells } of await readUnderWay(usage, provider, midnight))
      for (const [unit, tokens] of Object.entries(cells))
        for (const key of [keyOf(credential), "*"])
          for (const kind of [tierOf(tier), "*"]) {
            const name = `${day} ${key} ${model} ${kind} ${unit}`;
            edges.set(name, (edges.get(name) ?? 0) + tokens);
          }
  }
  return (day, { key, model, tier, unit }) => {
    if (model === undefined || unit === undefined) return 0;
    const kind = unit.startsWith("cache_write") ? "cache_write" : unit;
    return edges.get(`${day} ${key ?? "*"} ${model} ${tier ?? "*"} ${kind}`) ?? 0;
  };
}

/** When a day is taken for settled. */
export type ClosingRules = {
  /** Days after its end before a day is closed at all. */
  readonly afterDays: number;
  /** How long its bill must have stood still. */
  readonly quietMs: number;
};

/** Why a day cannot be closed yet, as a sentence; undefined: it can. `firstDay`: on which the meter began. A file is
 *  not read again; of an API only reads count, for a bill that nobody looked at does not stand still. */
export function whyOpen(
  { provider, day, source, asOfMs, readAtMs, changedAtMs }: BillDay,
  rules: ClosingRules,
  firstDay: string,
  nowMs: number,
): string | undefined {
  if (day < firstDay) return `the meter began on ${firstDay}; nothing of ${day} was metered that could be signed`;
  const endMs = Date.parse(`${day}T00:00:00Z`) + DAY_MS;
  const seenMs = source === "api" ? readAtMs : nowMs;
  if (asOfMs < endMs)
    return `the bill of ${provider} for ${day} is not whole yet: it was last complete up to ${new Date(asOfMs).toISOString()}`;
  if (seenMs - endMs < rules.afterDays * DAY_MS)
    return `${day} ended less than ${rules.afterDays} days before its bill was last read; it may still be revised`;
  if (seenMs - changedAtMs < rules.quietMs)
    return `the bill of ${provider} for ${day} last changed on ${new Date(changedAtMs).toISOString()}; it must stand still for ${Math.round(rules.quietMs / HOUR_MS)} hours`;
  return undefined;
}

/** As often as something is metered or billed while a day is being closed, it is begun again. */
const MOST_TRIES = 4;

/** Closes one day: what the bill says of estimates is sent to the books as adjustments, then the figure is signed.
 *  Stopped anywhere and begun again, it comes to the same. Returns why it cannot be signed; undefined: it is. */
export async function closeBilledDay(
  books: CollectorBooks,
  { provider, day }: Pick<BillDay, "provider" | "day">,
  by: string,
  stated: Stated,
  adjust: (list: Adjustment[]) => Promise<void>,
  nowMs: number,
): Promise<string | undefined> {
  const next = addDays(day, 1);
  let why: string | undefined = "it does not stand still";
  for (let attempt = 0; attempt < MOST_TRIES; attempt++) {
    if (await findClosed(books.billing, provider, day)) return "it is closed already";
    await compareDays(books, day, next, stated, nowMs);
    const list = await adjustmentsOf(books, provider, day, stated);
    for (let from = 0; from < list.length; from += MOST_A_CHANGE) await adjust(list.slice(from, from + MOST_A_CHANGE));
    await refreshMetered(books, day, next, nowMs);
    const [bill] = await readBillDays(books.billing, day, next, provider);
    if (!bill) return "its bill is gone";
    let meteredNanoUsd = 0n;
    await readMetered(books, day, next, (_day, of, lines) => {
      if (of === provider) meteredNanoUsd += lines.reduce((sum, line) => sum + line.costNanoUsd, 0n);
    });
    why = await closeDay(books.billing, {
      provider,
      day,
      meteredNanoUsd,
      billedNanoUsd: bill.amountNanoUsd,
      billDigest: bill.digest,
      closedAtMs: nowMs,
      closedBy: by,
    });
    if (why === undefined) return undefined;
  }
  return why;
}

/** What the day's estimates have to be corrected by, less what bills have corrected already: spread over the answers
 *  whose usage nobody stated, by what each was estimated at. What an earlier bill corrected and this one does not is
 *  taken back. */
async function adjustmentsOf(
  books: CollectorBooks,
  provider: string,
  day: string,
  stated: Stated,
): Promise<Adjustment[]> {
  const comparisons = await readComparisons(books.billing, day, addDays(day, 1), provider);
  const own = (await readMeteredCredentials(books.usage)).filter((one) => one.provider === provider);
  const keyOf = keyNames(own, matchKeys(own, await readProviderKeys(books.billing, provider), stated));
  type Group = {
    wanted: NanoUsd;
    readonly key: string | undefined;
    readonly model: string | undefined;
    events: UnsureEvent[];
  };
  const groups: Group[] = [];
  for (const { key, model, variances } of comparisons)
    for (const { cause, amountNanoUsd } of variances) {
      if (cause !== "estimate corrected") continue;
      const known = groups.find((group) => group.key === key && group.model === model);
      if (known) known.wanted += amountNanoUsd;
      else groups.push({ wanted: amountNanoUsd, key, model, events: [] });
    }
  for (const event of await readUnsureEvents(books.usage, provider, day)) {
    const key = keyOf(event.credential);
    const of = groups.find((group) => (group.key ?? key) === key && (group.model ?? event.model) === event.model);
    if (of) of.events.push(event);
    else groups.push({ wanted: 0n, key, model: event.model, events: [event] });
  }
  return groups.flatMap(({ wanted, events: of }) => {
    const done = of.reduce((sum, event) => sum + event.fromBillsNanoUsd, 0n);
    const parts = allocate(
      wanted - done,
      of.map(({ costNanoUsd }) => costNanoUsd),
    );
    return of.flatMap((event, i): Adjustment[] => {
      const amountNanoUsd = parts[i] ?? 0n;
      if (amountNanoUsd === 0n) return [];
      return [
        {
          source: "bill",
          // The nth correction of this answer: the same run again is one, a later one another.
          sourceId: `${provider}:${day}:${formatAttemptId(event.attemptId)}:${event.adjustments}`,
          attemptId: event.attemptId,
          amountNanoUsd,
          unpriced: 0,
          inferred: 0,
          detail: `bill of ${provider} for ${day}`,
        },
      ];
    });
  });
}
