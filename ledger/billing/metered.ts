// What was metered on a UTC day, by key, credential, model, tier, token class and price: the meter's side of
// reconciliation and of exports. Folded from the day's events in pages, kept in billing.db with the mark of the sums it
// was folded from, and folded again when these have moved. A closed day's fold stays as it was signed.
import { SEAT } from "../usage/usage-event.ts";
import { and, asc, eq, gte, lt, sql } from "../drizzle.ts";
import type { Adjustment } from "../usage/adjustments.ts";
import { findClosed, recordCorrection } from "./closed-days.ts";
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import { allocate } from "../money.ts";
import type { NanoUsd, PicoUsdPerUnit } from "../money.ts";
import type { BillingBooks, UsageBooks } from "../books.ts";
import { insertRows, rowsOf, tablesOf } from "../engine.ts";
import { meteredDays, meteredLines } from "./schema.ts";
import { adjustments, rollupHour } from "../usage/schema.ts";
import type { LineUnit, Unit, UsageState } from "../usage.ts";
import { addDays } from "../windows.ts";
import { readCredentials } from "../usage/credentials.ts";
import { readKeptFrom } from "../usage/retention.ts";

export type MeteredLine = {
  readonly keyId: string;
  /** The provider credential that paid, as a fingerprint's id; "" where it is not known. */
  readonly credential: string;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** The tag `feature`. */
  readonly feature: string;
  /** The served model. */
  readonly model: string;
  /** Price-changing tiers, joined by commas; "" for the plain one. */
  readonly tier: string;
  /** "": money without a quantity, such as what was held for an answer that nobody saw. */
  readonly unit: Unit | "";
  readonly state: UsageState;
  /** What added this money later; "": as it was metered. */
  readonly correction: "" | Adjustment["source"];
  /** Undefined: without a price, or an adjustment. */
  readonly pricePicoUsd: PicoUsdPerUnit | undefined;
  /** A fraction such as "1/2". */
  readonly multiplier: string | undefined;
  readonly priceVersion: string | undefined;
  readonly quantity: number;
  readonly costNanoUsd: NanoUsd;
  readonly events: number;
  /** By id; "": nobody was named. */
  readonly user: string;
};

export const HOUR_MS = 3_600_000;

export const DAY_MS = 24 * HOUR_MS;

/** Events that are folded before others get a turn. */
const PAGE = 1_000;

/** Folds every event of a UTC day, by provider. Reads usage.db in pages, never for long at a time. */
async function foldDay(usage: UsageBooks, day: string): Promise<Map<string, MeteredLine[]>> {
  const startMs = Date.parse(`${day}T00:00:00Z`);
  const end = firstAttemptId(startMs + DAY_MS);
  const credentialOf = await readCredentials(usage);
  const corrected = await readCorrected(usage, firstAttemptId(startMs), end);
  const select = `SELECT attempt_id, key_id, payer, provider, model, tier, team, project, env,
    json_extract(tags, '$.feature'), person, input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, usage_state,
    cost_nano_usd, cost_lines, price_version FROM booked WHERE attempt_id >= ? AND attempt_id < ?
    AND payer <> '${SEAT}' ORDER BY attempt_id LIMIT ${PAGE}`;
  const folds = new Map<string, Map<string, Sums>>();
  let after = firstAttemptId(startMs);
  for (;;) {
    const rows = await rowsOf<EventColumns>(usage, select, after, end);
    for (const row of rows) {
      const [attemptId, , , provider] = row;
      let fold = folds.get(provider);
      if (!fold) folds.set(provider, (fold = new Map()));
      addEvent(fold, row, credentialOf, corrected.get(Number(attemptId)) ?? []);
      after = Number(attemptId) + 1;
    }
    if (rows.length < PAGE) break;
    // Others get a turn between two pages.
    await new Promise((resolve) => setImmediate(resolve));
  }
  return new Map([...folds].map(([provider, fold]) => [provider, [...fold.values()].map((sums) => ({ ...sums }))]));
}

type Sums = { -readonly [field in keyof MeteredLine]: MeteredLine[field] };

type EventColumns = readonly [
  attemptId: bigint,
  keyId: string,
  payer: string,
  provider: string,
  model: string,
  tier: string | null,
  team: string,
  project: string,
  env: string,
  feature: string | null,
  user: string,
  input: bigint | null,
  cacheRead: bigint | null,
  cacheWrite5m: bigint | null,
  cacheWrite1h: bigint | null,
  output: bigint | null,
  otherUsage: string | null,
  state: UsageState,
  cost: bigint | null,
  costLines: string | null,
  priceVersion: string | null,
];

function addEvent(
  fold: Map<string, Sums>,
  row: EventColumns,
  credentialOf: Awaited<ReturnType<typeof readCredentials>>,
  corrections: readonly { readonly source: Adjustment["source"]; readonly amount: NanoUsd }[],
): void {
  const [attemptId, keyId, payer, provider, model, tier, team, project, env, feature, user, ...measured] = row;
  const [input, cacheRead, cacheWrite5m, cacheWrite1h, output, ...said] = measured;
  const [otherUsage, state, cost, costLines, priceVersion] = said;
  const credential = credentialOf(keyId, provider, attemptAtMs(Number(attemptId)), payer);
  const owner = [keyId, credential, team, project, env, user, feature ?? "", model, tier ?? "", state];
  const base = [...owner, priceVersion ?? ""].join("\n");
  const add = (
    unit: Unit | "",
    quantity: number,
    costNanoUsd: NanoUsd,
    price: string | undefined,
    multiplier: string | undefined,
    correction: MeteredLine["correction"] = "",
  ): void => {
    const events = correction === "" ? 1 : 0;
    const name = `${base}\n${unit}\n${price ?? ""}\n${multiplier ?? ""}\n${correction}`;
    const known = fold.get(name);
    if (known) {
      known.quantity += quantity;
      known.costNanoUsd += costNanoUsd;
      known.events += events;
      return;
    }
    fold.set(name, {
      keyId,
      credential,
      team,
      project,
      env,
      feature: feature ?? "",
      model,
      tier: tier ?? "",
      unit,
      state,
      correction,
      pricePicoUsd: price === undefined ? undefined : BigInt(price),
      multiplier,
      priceVersion: priceVersion ?? undefined,
      quantity,
      costNanoUsd,
      events,
      user,
    });
  };

  const listed: [LineUnit, number, string, string, string?][] = costLines === null ? [] : JSON.parse(costLines);
  // What a provider says beyond our prices is of no unit.
  const lines = listed.filter((line): line is [Unit, number, string, string, string?] => line[0] !== "stated");
  let priced = 0n;
  const pricedUnits = new Set<string>();
  for (const [unit, quantity, price, amount, multiplier] of lines) {
    add(unit, quantity, BigInt(amount), price, multiplier);
    priced += BigInt(amount);
    pricedUnits.add(unit);
  }
  // What was used and has no price is a quantity all the same.
  const counted = { input, cache_read: cacheRead, cache_write_5m: cacheWrite5m, cache_write_1h: cacheWrite1h, output };
  const used = (Object.entries(counted) as [Unit, bigint | null][]).flatMap(([unit, count]): [Unit, number][] =>
    count === null || count === 0n ? [] : [[unit, Number(count)]],
  );
  if (otherUsage !== null) used.push(...(Object.entries(JSON.parse(otherUsage)) as [Unit, number][]));
  for (const [unit, quantity] of used)
    if (quantity > 0 && !pricedUnits.has(unit)) add(unit, quantity, 0n, undefined, undefined);
  const rest = (cost ?? 0n) - priced;
  if (rest !== 0n || (lines.length === 0 && used.length === 0)) add("", 0, rest, undefined, undefined);
  for (const { source, amount } of corrections) {
    // Another price falls on the classes as their cost does; what a bill corrects is the whole answer.
    if (source === "bill" || lines.length === 0) add("", 0, amount, undefined, undefined, source);
    else {
      const parts = allocate(
        amount,
        lines.map(([, , , of]) => BigInt(of)),
      );
      lines.forEach(([unit], i) => add(unit, 0, parts[i] ?? 0n, undefined, undefined, source));
    }
  }
}

async function readCorrected(
  usage: UsageBooks,
  first: AttemptId,
  end: AttemptId,
): Promise<Map<AttemptId, { source: Adjustment["source"]; amount: NanoUsd }[]>> {
  const rows = await tablesOf(usage)
    .select({
      attemptId: adjustments.attemptId,
      source: sql<Adjustment["source"]>`${adjustments.source}`,
      amount: sql<bigint>`SUM(${adjustments.amountNanoUsd})`,
    })
    .from(adjustments)
    .where(and(gte(adjustments.attemptId, first), lt(adjustments.attemptId, end)))
    .groupBy(adjustments.attemptId, adjustments.source)
    .orderBy(adjustments.attemptId, adjustments.source)
    .all();
  const found = new Map<AttemptId, { source: Adjustment["source"]; amount: NanoUsd }[]>();
  for (const { attemptId, ...one } of rows) found.set(attemptId, [...(found.get(attemptId) ?? []), one]);
  return found;
}

/** Days whose sums are read in one go: others get a turn in between. */
const MARKED_DAYS = 7;

/** What the sums of a day are, by provider and day: when they move, its fold is out of date. */
export async function readMarks(
  usage: UsageBooks,
  sinceDay: string,
  untilDay: string,
): Promise<
  { readonly provider: string; readonly day: string; readonly mark: string; readonly costNanoUsd: NanoUsd }[]
> {
  const number = sql<bigint>`${rollupHour.hourMs} / ${sql.raw(String(DAY_MS))}`;
  const marks = [];
  const moved = await readMoved(usage, sinceDay, untilDay);
  for (let day = sinceDay; day < untilDay; day = addDays(day, MARKED_DAYS)) {
    const next = addDays(day, MARKED_DAYS);
    const rows = await tablesOf(usage)
      .select({
        provider: rollupHour.provider,
        number,
        requests: sql<bigint>`SUM(${rollupHour.requests})`,
        cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})`,
        tokens: sql<bigint>`SUM(${rollupHour.input} + ${rollupHour.cacheRead} + ${rollupHour.cacheWrite} + ${rollupHour.output})`,
        unpriced: sql<bigint>`SUM(${rollupHour.unpriced})`,
      })
      .from(rollupHour)
      .where(
        and(
          gte(rollupHour.hourMs, Date.parse(`${day}T00:00:00Z`)),
          lt(rollupHour.hourMs, Date.parse(`${next < untilDay ? next : untilDay}T00:00:00Z`)),
        ),
      )
      .groupBy(rollupHour.provider, number)
      .orderBy(rollupHour.provider, number)
      .all();
    for (const { provider, number: dayNumber, requests, cost, tokens, unpriced } of rows) {
      const ofDay = new Date(Number(dayNumber) * DAY_MS).toISOString().slice(0, 10);
      const last = moved.get(ofDay);
      marks.push({
        provider,
        day: ofDay,
        // Folds of before users have another mark, and are made anew.
        mark: `by user ${requests} ${cost} ${tokens} ${unpriced}${last === undefined ? "" : ` ${last}`}`,
        costNanoUsd: cost,
      });
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  return marks.toSorted((a, b) => (a.day < b.day ? -1 : a.day > b.day ? 1 : a.provider < b.provider ? -1 : 1));
}

/** The last audit record that moved spend of a day from one owner to another, by day: sums by provider do not show
 *  it. */
async function readMoved(usage: UsageBooks, sinceDay: string, untilDay: string): Promise<Map<string, bigint>> {
  const start = (day: string): AttemptId => firstAttemptId(Date.parse(`${day}T00:00:00Z`));
  const ids = start(addDays("2026-01-01", 1)) - start("2026-01-01");
  const rows = await rowsOf<[number: bigint, last: bigint]>(
    usage,
    `SELECT attempt_id / ${ids}, MAX(last_seq) FROM reassigned WHERE attempt_id >= ? AND attempt_id < ? GROUP BY 1`,
    start(sinceDay),
    start(untilDay),
  );
  return new Map(
    rows.map(([number, last]) => [new Date(attemptAtMs(Number(number) * ids)).toISOString().slice(0, 10), last]),
  );
}

/** Brings the folds of `[sinceDay, untilDay)` up to date in billing.db. Returns how many days were folded. */
export async function refreshMetered(
  { usage, billing }: { readonly usage: UsageBooks; readonly billing: BillingBooks },
  sinceDay: string,
  untilDay: string,
  nowMs: number,
  onDay: (day: string) => void = () => undefined,
): Promise<number> {
  const known = await readKnownMarks(billing, sinceDay, untilDay);
  const keptDay = await firstKeptDay(usage);
  const marks = (await readMarks(usage, sinceDay, untilDay)).filter(({ day }) => day >= keptDay);
  for (const { provider, day, costNanoUsd } of marks)
    await billing.transaction((own) => recordCorrection(own, { provider, day, nowMs, meteredNanoUsd: costNanoUsd }));
  const stale = [];
  for (const one of marks)
    if (known.get(`${one.provider} ${one.day}`) !== one.mark && !(await findClosed(billing, one.provider, one.day)))
      stale.push(one);
  const days = [...new Set(stale.map(({ day }) => day))];
  for (const day of days) {
    onDay(day);
    const folds = await foldDay(usage, day);
    for (const { provider, mark } of stale.filter((one) => one.day === day))
      await storeFold(billing, provider, day, mark, folds.get(provider) ?? [], nowMs);
  }
  return days.length;
}

/** The first UTC day whose events are all in the books. */
async function firstKeptDay(usage: UsageBooks): Promise<string> {
  const keptMs = await readKeptFrom(usage);
  return keptMs === undefined ? "" : new Date(keptMs).toISOString().slice(0, 10);
}

/** What was metered of a provider on a UTC day: the fold that is kept, where it is up to date or closed, else a fresh
 *  one. */
export async function readMetered(
  { usage, billing }: { readonly usage: UsageBooks; readonly billing: BillingBooks | undefined },
  sinceDay: string,
  untilDay: string,
  onDay: (day: string, provider: string, lines: MeteredLine[]) => void,
): Promise<void> {
  const known = billing ? await readKnownMarks(billing, sinceDay, untilDay) : new Map<string, string>();
  const marks = await readMarks(usage, sinceDay, untilDay);
  const keptDay = await firstKeptDay(usage);
  for (let day = sinceDay; day < untilDay; day = addDays(day, 1)) {
    let fresh: Map<string, MeteredLine[]> | undefined;
    for (const { provider, mark } of marks.filter((one) => one.day === day)) {
      const isKept =
        billing !== undefined &&
        // What has left the books was folded before, and cannot be again.
        (day < keptDay ||
          known.get(`${provider} ${day}`) === mark ||
          (await findClosed(billing, provider, day)) !== undefined);
      if (!isKept) fresh ??= await foldDay(usage, day);
      onDay(day, provider, isKept ? await readFold(billing, provider, day) : (fresh?.get(provider) ?? []));
    }
  }
}

async function readKnownMarks(billing: BillingBooks, sinceDay: string, untilDay: string): Promise<Map<string, string>> {
  const rows = await tablesOf(billing)
    .select()
    .from(meteredDays)
    .where(and(gte(meteredDays.day, sinceDay), lt(meteredDays.day, untilDay)))
    .all();
  return new Map(rows.map(({ provider, day, mark }) => [`${provider} ${day}`, mark]));
}

async function storeFold(
  billing: BillingBooks,
  provider: string,
  day: string,
  mark: string,
  lines: readonly MeteredLine[],
  nowMs: number,
): Promise<void> {
  await billing.transaction(async (own) => {
    const tables = tablesOf(own);
    await tables
      .delete(meteredLines)
      .where(and(eq(meteredLines.provider, provider), eq(meteredLines.day, day)))
      .run();
    await insertRows(
      own,
      meteredLines,
      lines.map((one, line) => ({ provider, day, line, ...one })),
    );
    await tables
      .insert(meteredDays)
      .values({ provider, day, mark, foldedAtMs: nowMs })
      .onConflictDoUpdate({ target: [meteredDays.provider, meteredDays.day], set: { mark, foldedAtMs: nowMs } })
      .run();
  });
}

async function readFold(billing: BillingBooks, provider: string, day: string): Promise<MeteredLine[]> {
  const rows = await tablesOf(billing)
    .select()
    .from(meteredLines)
    .where(and(eq(meteredLines.provider, provider), eq(meteredLines.day, day)))
    .orderBy(asc(meteredLines.line))
    .all();
  return rows.map(({ provider: _provider, day: _day, line: _line, ...row }) => ({
    ...row,
    unit: row.unit as MeteredLine["unit"],
    pricePicoUsd: row.pricePicoUsd ?? undefined,
    multiplier: row.multiplier ?? undefined,
    priceVersion: row.priceVersion ?? undefined,
  }));
}
