// Brings both sides together: what was metered (folded days of usage.db) and what was billed (billing.db), matched, compared, kept. And
// closes days: estimates get their adjustments from the bill, then the figure is signed off.
import type { Adjustment } from "../ledger/adjustments.ts";
import { readBillDays, readBilledLines, readBilledUsage, readImports, readProviderKeys } from "../ledger/bills.ts";
import type { BillDay } from "../ledger/bills.ts";
import { closeDay, findClosed, readComparisons, replaceComparisons } from "../ledger/closing.ts";
import type { Comparison } from "../ledger/closing.ts";
import { formatAttemptId } from "../ledger/ids.ts";
import {
  readUnderWay,
  readMetered,
  readMeteredCredentials,
  readUnsureEvents,
  refreshMetered,
} from "../ledger/metered.ts";
import type { MeteredLine, UnsureEvent } from "../ledger/metered.ts";
import { allocate } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Sqlite } from "../ledger/open.ts";
import { addDays } from "../ledger/windows.ts";
import { matchKeys, matchModels } from "./match.ts";
import type { Stated } from "./match.ts";
import { reconcile, tierOf } from "./reconcile.ts";
import type { Context, Day, Metered } from "./reconcile.ts";

export type Books = { readonly usage: Sqlite; readonly billing: Sqlite };

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const DAYS_AROUND = 3;
/** As many corrections are one change of the proxy's books. */
const MOST_A_CHANGE = 500;
/** A sign-in has no key at the provider: its bills name none. */
const SIGN_IN = / sign-in$/;

export type Asked = { readonly provider: string; readonly questions: readonly string[] };

/** Compares every day of `[sinceDay, untilDay)` that has a bill; closed ones stay. Returns what somebody has to say to tell keys or models
 *  apart. */
export async function compareDays(
  books: Books,
  sinceDay: string,
  untilDay: string,
  stated: Stated,
  nowMs: number,
  onDay: (day: string) => void = () => undefined,
): Promise<Asked[]> {
  // The days around show what ran over midnight, and by which end of an answer the provider counts.
  const [first, end] = [addDays(sinceDay, -DAYS_AROUND), addDays(untilDay, DAYS_AROUND)];
  await refreshMetered(books, first, end, nowMs, onDay);
  const metered = new Map<string, MeteredLine[]>();
  await readMetered(books, first, end, (day, provider, lines) => metered.set(`${provider} ${day}`, lines));
  const billDays = await readBillDays(books.billing, first, end);
  const imports = new Map((await readImports(books.billing)).map((one) => [one.provider, one]));
  const credentials = await readMeteredCredentials(books.usage);
  const asked: Asked[] = [];
  for (const provider of new Set(billDays.map((one) => one.provider))) {
    const days = billDays.filter((one) => one.provider === provider);
    const own = credentials.filter((one) => one.provider === provider);
    const keys = matchKeys(own, await readProviderKeys(books.billing, provider), stated);
    const signIns = new Set(own.filter(({ name }) => SIGN_IN.test(name)).map(({ credential }) => credential));
    const keyOf = (credential: string): string =>
      keys.byCredential.get(credential) ?? (signIns.has(credential) ? "" : credential);
    const linesOf = (day: string): MeteredLine[] => metered.get(`${provider} ${day}`) ?? [];
    const billed = await readBilledLines(books.billing, provider, first, end);
    const models = matchModels(
      billed.flatMap(({ model, unit }) => (model === undefined || unit === undefined ? [] : [model])),
      days.flatMap(({ day }) => linesOf(day).map(({ model }) => model)),
      stated,
    );
    const usageAsOfMs = imports.get(provider)?.usageAsOfMs ?? 0;
    const compared: Day[] = [];
    for (const { day, asOfMs } of days) {
      const startMs = Date.parse(`${day}T00:00:00Z`);
      const usage = await readBilledUsage(books.billing, provider, startMs, startMs + DAY_MS);
      compared.push({
        day,
        isLate: asOfMs < startMs + DAY_MS,
        metered: linesOf(day)
          .filter(({ correction }) => correction !== "bill")
          .map((line): Metered => ({ ...line, key: keyOf(line.credential) })),
        billed: billed
          .filter((line) => line.day === day)
          .map((line) => ({ ...line, model: line.model === undefined ? undefined : models.of(line.model) })),
        usage:
          usageAsOfMs <= startMs || usage.length === 0
            ? undefined
            : usage.map((one) => ({ ...one, model: one.model === undefined ? undefined : models.of(one.model) })),
      });
    }
    const context: Context = {
      provider,
      knownKeys: new Set(own.map(({ credential }) => keyOf(credential))),
      knownModels: new Set(compared.flatMap((day) => day.metered.map(({ model }) => model))),
      edge: await readEdges(books.usage, provider, first, end, keyOf),
    };
    const found = reconcile(context, compared);
    for (const { day } of days)
      if (day >= sinceDay && day < untilDay)
        replaceComparisons(
          books.billing,
          provider,
          day,
          found.filter((one) => one.day === day),
        );
    const questions = [...keys.asked, ...models.asked];
    if (questions.length > 0) asked.push({ provider, questions });
  }
  return asked;
}

/** How many tokens of a model belong to answers that were under way at a midnight. */
async function readEdges(
  usage: Sqlite,
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

/** Why a day cannot be closed yet, as a sentence; undefined: it can. */
export function whyOpen(
  { provider, day, asOfMs, changedAtMs }: BillDay,
  rules: ClosingRules,
  nowMs: number,
): string | undefined {
  const endMs = Date.parse(`${day}T00:00:00Z`) + DAY_MS;
  if (asOfMs < endMs)
    return `the bill of ${provider} for ${day} is not whole yet: it was last complete up to ${new Date(asOfMs).toISOString()}`;
  if (nowMs - endMs < rules.afterDays * DAY_MS)
    return `${day} ended less than ${rules.afterDays} days ago; its bill may still be revised`;
  if (nowMs - changedAtMs < rules.quietMs)
    return `the bill of ${provider} for ${day} last changed on ${new Date(changedAtMs).toISOString()}; it must stand still for ${Math.round(rules.quietMs / HOUR_MS)} hours`;
  return undefined;
}

/** Closes one day: what the bill says of estimates is sent to the books as adjustments, then the figure is signed. Stopped anywhere and
 *  begun again, it comes to the same. False: it was closed already. */
export async function closeBilledDay(
  books: Books,
  { provider, day, digest, amountNanoUsd }: BillDay,
  by: string,
  stated: Stated,
  adjust: (list: Adjustment[]) => Promise<void>,
  nowMs: number,
): Promise<boolean> {
  if (findClosed(books.billing, provider, day)) return false;
  await compareDays(books, day, addDays(day, 1), stated, nowMs);
  const list = await adjustmentsOf(books, provider, day, stated);
  for (let from = 0; from < list.length; from += MOST_A_CHANGE) await adjust(list.slice(from, from + MOST_A_CHANGE));
  await refreshMetered(books, day, addDays(day, 1), nowMs);
  let meteredNanoUsd = 0n;
  await readMetered(books, day, addDays(day, 1), (_day, of, lines) => {
    if (of === provider) meteredNanoUsd += lines.reduce((sum, line) => sum + line.costNanoUsd, 0n);
  });
  return closeDay(books.billing, {
    provider,
    day,
    meteredNanoUsd,
    billedNanoUsd: amountNanoUsd,
    billDigest: digest,
    closedAtMs: nowMs,
    closedBy: by,
  });
}

/** What the day's estimates have to be corrected by, less what bills have corrected already: spread over the answers whose usage nobody
 *  stated, by what each was estimated at. */
async function adjustmentsOf(books: Books, provider: string, day: string, stated: Stated): Promise<Adjustment[]> {
  const comparisons = await readComparisons(books.billing, day, addDays(day, 1), provider);
  const credentials = (await readMeteredCredentials(books.usage)).filter((one) => one.provider === provider);
  const keys = matchKeys(credentials, await readProviderKeys(books.billing, provider), stated);
  const signIns = new Set(credentials.filter(({ name }) => SIGN_IN.test(name)).map(({ credential }) => credential));
  const keyOf = (credential: string): string =>
    keys.byCredential.get(credential) ?? (signIns.has(credential) ? "" : credential);
  const events = await readUnsureEvents(books.usage, provider, day);
  const groups = new Map<string, { wanted: NanoUsd; place: Comparison; events: UnsureEvent[] }>();
  for (const one of comparisons)
    for (const { cause, amountNanoUsd } of one.variances) {
      if (cause !== "estimate corrected") continue;
      const name = `${one.key ?? "*"}\n${one.model ?? "*"}`;
      const group = groups.get(name) ?? { wanted: 0n, place: one, events: [] };
      group.wanted += amountNanoUsd;
      groups.set(name, group);
    }
  for (const event of events) {
    const key = keyOf(event.credential);
    const group = [...groups.values()].find(
      ({ place }) =>
        (place.key === undefined || place.key === key) && (place.model === undefined || place.model === event.model),
    );
    group?.events.push(event);
  }
  return [...groups.values()].flatMap(({ wanted, events: of }) => {
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
