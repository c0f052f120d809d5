// Comparisons of bill and meter, and days that are closed: a figure that is signed off stays. What the bill, or the
// meter, says differently later is a correction, a row of its own. billing.db.
import { and, asc, eq, gte, lt, sql } from "../drizzle.ts";
import type { NanoUsd } from "../money.ts";
import type { BillingBooks } from "../books.ts";
import { insertRows, rowsOf, tablesOf, valueOf } from "../engine.ts";
import { closedDays, comparisons, corrections, variances } from "./schema.ts";

/** Why metered and billed differ. A closed list; `unknown` is an honest member. */
export const CAUSES = [
  "unmetered key",
  "unmetered model or endpoint",
  "price",
  "tier or discount",
  "token class",
  "fee",
  "estimate corrected",
  "rounding",
  "late",
  "day boundary",
  "credit or tax",
  "before the meter",
  "unknown",
] as const;
export type VarianceCause = (typeof CAUSES)[number];

/** A piece of a difference. `quantity`: how many units more (or fewer) were billed, where it is about them. */
export type Variance = {
  readonly cause: VarianceCause;
  readonly amountNanoUsd: NanoUsd;
  readonly quantity?: number | undefined;
  /** One sentence for people. */
  readonly detail: string;
};

/** Metered beside billed, as far down as the bill goes: what it does not tell apart is undefined. The variances add up
 *  to billed minus metered. */
export type Comparison = {
  readonly provider: string;
  readonly day: string;
  /** Of a row of the bill that is no use of anything. */
  readonly kind?: "fee" | "credit" | "tax" | "adjustment" | "rounding" | undefined;
  readonly key: string | undefined;
  readonly model: string | undefined;
  readonly tier: string | undefined;
  readonly unit: string | undefined;
  readonly meteredQuantity: number | undefined;
  readonly billedQuantity: number | undefined;
  readonly meteredNanoUsd: NanoUsd;
  readonly billedNanoUsd: NanoUsd;
  readonly variances: readonly Variance[];
};

export type ClosedDay = typeof closedDays.$inferSelect;
export type Correction = typeof corrections.$inferSelect;

/** Replaces the comparison of a provider's day. One that is closed stays as it was signed: nothing happens. */
export async function replaceComparisons(
  books: BillingBooks,
  provider: string,
  day: string,
  list: readonly Comparison[],
): Promise<void> {
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    if (await findClosed(own, provider, day)) return;
    for (const table of [variances, comparisons])
      await tables
        .delete(table)
        .where(and(eq(table.provider, provider), eq(table.day, day)))
        .run();
    await insertRows(
      own,
      comparisons,
      list.map((one, line) => ({ ...one, line })),
    );
    await insertRows(
      own,
      variances,
      list.flatMap(({ variances: pieces }, line) => pieces.map((piece) => ({ provider, day, line, ...piece }))),
    );
  });
}

const ORDER = [variances.day, variances.provider, variances.line, variances.cause] as const;

/** Comparisons of `[sinceDay, untilDay)` with their variances, day by day. */
export async function readComparisons(
  books: BillingBooks,
  sinceDay: string,
  untilDay: string,
  provider?: string,
): Promise<Comparison[]> {
  const tables = tablesOf(books);
  const pieces = new Map<string, Variance[]>();
  const ofVariances = and(
    gte(variances.day, sinceDay),
    lt(variances.day, untilDay),
    provider === undefined ? undefined : eq(variances.provider, provider),
  );
  for (const row of await tables
    .select()
    .from(variances)
    .where(ofVariances)
    .orderBy(...ORDER)
    .all()) {
    const name = `${row.provider} ${row.day} ${row.line}`;
    const list = pieces.get(name) ?? [];
    list.push({
      cause: row.cause as VarianceCause,
      amountNanoUsd: row.amountNanoUsd,
      quantity: row.quantity ?? undefined,
      detail: row.detail,
    });
    pieces.set(name, list);
  }
  const rows = await tables
    .select()
    .from(comparisons)
    .where(
      and(
        gte(comparisons.day, sinceDay),
        lt(comparisons.day, untilDay),
        provider === undefined ? undefined : eq(comparisons.provider, provider),
      ),
    )
    .orderBy(asc(comparisons.day), asc(comparisons.provider), asc(comparisons.line))
    .all();
  return rows.map(({ line, ...row }) => ({
    ...row,
    kind: row.kind ?? undefined,
    key: row.key ?? undefined,
    model: row.model ?? undefined,
    tier: row.tier ?? undefined,
    unit: row.unit ?? undefined,
    meteredQuantity: row.meteredQuantity ?? undefined,
    billedQuantity: row.billedQuantity ?? undefined,
    variances: pieces.get(`${row.provider} ${row.day} ${line}`) ?? [],
  }));
}

/** What bills say of a provider's key that no meter saw, in whole days; undefined: nothing. A leak that usage by the
 *  hour found is of the last hours: this is all that has been billed of it. */
export type Unmetered = { readonly amountNanoUsd: NanoUsd; readonly firstDay: string; readonly lastDay: string };

export async function readUnmetered(
  books: BillingBooks,
  provider: string,
  billedKey: string,
): Promise<Unmetered | undefined> {
  const [row] = await rowsOf<[sum: bigint | null, firstDay: string, lastDay: string]>(
    books,
    `SELECT SUM(variances.amount_nano_usd), MIN(day), MAX(day)
    FROM variances JOIN comparisons USING (provider, day, line)
    WHERE provider = ? AND comparisons.key = ? AND variances.cause = 'unmetered key' AND variances.amount_nano_usd > 0`,
    provider,
    billedKey,
  );
  const [amountNanoUsd = null, firstDay = "", lastDay = ""] = row ?? [];
  return amountNanoUsd === null ? undefined : { amountNanoUsd, firstDay, lastDay };
}

/** Variances of `[sinceDay, untilDay)` summed by provider, day and cause. */
export async function readVarianceSums(
  books: BillingBooks,
  sinceDay: string,
  untilDay: string,
): Promise<
  {
    readonly provider: string;
    readonly day: string;
    readonly cause: VarianceCause;
    readonly amountNanoUsd: NanoUsd;
  }[]
> {
  return tablesOf(books)
    .select({
      provider: variances.provider,
      day: variances.day,
      cause: sql<VarianceCause>`${variances.cause}`,
      amountNanoUsd: sql<bigint>`SUM(${variances.amountNanoUsd})`,
    })
    .from(variances)
    .where(and(gte(variances.day, sinceDay), lt(variances.day, untilDay)))
    .groupBy(variances.provider, variances.day, variances.cause)
    .orderBy(variances.provider, variances.day, variances.cause)
    .all();
}

export async function findClosed(books: BillingBooks, provider: string, day: string): Promise<ClosedDay | undefined> {
  return tablesOf(books)
    .select()
    .from(closedDays)
    .where(and(eq(closedDays.provider, provider), eq(closedDays.day, day)))
    .get();
}

export async function readClosed(books: BillingBooks, sinceDay: string, untilDay: string): Promise<ClosedDay[]> {
  return tablesOf(books)
    .select()
    .from(closedDays)
    .where(and(gte(closedDays.day, sinceDay), lt(closedDays.day, untilDay)))
    .orderBy(asc(closedDays.day), asc(closedDays.provider))
    .all();
}

export async function readCorrections(books: BillingBooks, sinceDay: string, untilDay: string): Promise<Correction[]> {
  return tablesOf(books)
    .select()
    .from(corrections)
    .where(and(gte(corrections.day, sinceDay), lt(corrections.day, untilDay)))
    .orderBy(asc(corrections.day), asc(corrections.seq))
    .all();
}

/** Signs a day off, if its bill and the comparison are still the ones that the figure was made of, and metered money,
 *  adjustments included, and what only the bill knows add up to what is billed. Returns why not, else undefined. */
export async function closeDay(books: BillingBooks, closed: ClosedDay): Promise<string | undefined> {
  const { provider, day } = closed;
  return await books.transaction(async (own) => {
    const tables = tablesOf(own);
    if (await findClosed(own, provider, day)) return "it is closed already";
    const one = <Value>(query: string): Promise<Value | undefined> => valueOf<Value>(own, query, provider, day);
    if ((await one("SELECT digest FROM bill_days WHERE provider = ? AND day = ?")) !== closed.billDigest)
      return "its bill changed meanwhile";
    const sum = async (query: string): Promise<bigint> => (await one<bigint | null>(query)) ?? 0n;
    const metered = await sum("SELECT SUM(cost_nano_usd) FROM metered_lines WHERE provider = ? AND day = ?");
    const onlyBilled = await sum(
      "SELECT SUM(amount_nano_usd) FROM variances WHERE provider = ? AND day = ? AND cause <> 'estimate corrected'",
    );
    if (metered !== closed.meteredNanoUsd || metered + onlyBilled !== closed.billedNanoUsd)
      return "something was metered meanwhile, or its estimates are not corrected yet";
    await tables.insert(closedDays).values(closed).run();
    return undefined;
  });
}

/** Writes down what a closed day's bill or meter says differently now, also when only its lines do; nothing when the
 *  day is open or says the same. */
export async function recordCorrection(
  books: BillingBooks,
  now: {
    readonly provider: string;
    readonly day: string;
    readonly nowMs: number;
    readonly billedNanoUsd?: NanoUsd;
    readonly meteredNanoUsd?: NanoUsd;
    readonly billDigest?: string;
  },
): Promise<void> {
  const { provider, day } = now;
  const closed = await findClosed(books, provider, day);
  if (!closed) return;
  const tables = tablesOf(books);
  const before = await tables
    .select()
    .from(corrections)
    .where(and(eq(corrections.provider, provider), eq(corrections.day, day)))
    .orderBy(asc(corrections.seq))
    .all();
  const billed = before.reduce((sum, one) => sum + one.billedNanoUsd, closed.billedNanoUsd);
  const metered = before.reduce((sum, one) => sum + one.meteredNanoUsd, closed.meteredNanoUsd);
  const more = {
    billedNanoUsd: (now.billedNanoUsd ?? billed) - billed,
    meteredNanoUsd: (now.meteredNanoUsd ?? metered) - metered,
  };
  const digest = before.at(-1)?.billDigest ?? closed.billDigest;
  const isAnother = now.billDigest !== undefined && now.billDigest !== digest;
  if (more.billedNanoUsd === 0n && more.meteredNanoUsd === 0n && !isAnother) return;
  await tables
    .insert(corrections)
    .values({
      provider,
      day,
      seq: before.length,
      madeAtMs: now.nowMs,
      billDigest: now.billDigest ?? digest,
      ...more,
    })
    .run();
}
