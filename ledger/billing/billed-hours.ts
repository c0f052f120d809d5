// Spend before the meter began, as bills say it: billed, not metered. Forecasts, pages and comparisons start from it;
// no leak, variance, alert or cap looks at it. billing.db; the collector is its only writer.
import { and, asc, eq, gte, lt, sql } from "../drizzle.ts";
import type { SQL } from "../drizzle.ts";
import type { NanoUsd } from "../money.ts";
import type { BillingBooks } from "../books.ts";
import { insertRows, tablesOf } from "../engine.ts";
import { billedHours } from "./schema.ts";
import type { HourlySpend } from "../usage/hours.ts";
import type { Calendar } from "../windows.ts";

/** Money of one UTC hour. `billedKey`, `model`: "" where the bill does not tell. */
export type BilledHour = typeof billedHours.$inferSelect;

/** What a bill tells apart as the meter does: teams, projects and environments are ours alone. */
export type BilledDimension = "provider" | "model";

/** Replaces all that is known of a provider's time before the meter. */
export async function replaceBilledHours(
  books: BillingBooks,
  provider: string,
  hours: readonly BilledHour[],
): Promise<void> {
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    await tables.delete(billedHours).where(eq(billedHours.provider, provider)).run();
    await insertRows(own, billedHours, hours);
  });
}

/** The hours `[sinceMs, untilMs)` by provider and, asked so, model; the organisation's is their sum. */
export async function readBilledHours(
  books: BillingBooks,
  sinceMs: number,
  untilMs: number,
  by: "org" | BilledDimension,
): Promise<(HourlySpend & { readonly provider: string })[]> {
  const id: SQL<string> = by === "org" ? sql`CAST('all' AS TEXT)` : sql`${billedHours[by]}`;
  return tablesOf(books)
    .select({
      hourMs: billedHours.hourMs,
      provider: billedHours.provider,
      id,
      costNanoUsd: sql<bigint>`SUM(${billedHours.costNanoUsd})`,
    })
    .from(billedHours)
    .where(and(gte(billedHours.hourMs, sinceMs), lt(billedHours.hourMs, untilMs)))
    .groupBy(billedHours.hourMs, billedHours.provider, id)
    .orderBy(asc(billedHours.hourMs), billedHours.provider, id)
    .all();
}

/** Sums of the local days `[sinceDay, untilDay)`, by day and one dimension. An hour belongs to the day in which it
 *  begins. */
export async function readBilledSpend(
  books: BillingBooks,
  calendar: Calendar,
  by: BilledDimension,
  sinceDay: string,
  untilDay: string,
): Promise<{ readonly day: string; readonly id: string; readonly costNanoUsd: NanoUsd }[]> {
  const sums = new Map<string, { day: string; id: string; costNanoUsd: NanoUsd }>();
  for (const { hourMs, id, costNanoUsd } of await readBilledHours(
    books,
    calendar.dayStart(sinceDay),
    calendar.dayStart(untilDay),
    by,
  )) {
    const day = calendar.day(hourMs);
    const known = sums.get(`${day} ${id}`);
    if (known) known.costNanoUsd += costNanoUsd;
    else sums.set(`${day} ${id}`, { day, id, costNanoUsd });
  }
  return [...sums.values()];
}
