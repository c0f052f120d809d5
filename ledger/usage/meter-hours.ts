// When the meter ran. An hour in which it ran and nothing was spent is zero; one in which it did not is missing. Reads
// only.
import { and, gte, lt } from "../drizzle.ts";
import { meterHours } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf, valueOf } from "../engine.ts";

/** The hours of `[sinceMs, untilMs)` in which the meter ran, by the start of each UTC hour. */
export async function readMeterHours(books: UsageBooks, sinceMs: number, untilMs: number): Promise<Set<number>> {
  const rows = await tablesOf(books)
    .select()
    .from(meterHours)
    .where(and(gte(meterHours.hourMs, sinceMs), lt(meterHours.hourMs, untilMs)))
    .all();
  return new Set(rows.map((row) => row.hourMs));
}

/** The start of the first UTC hour in which the meter ran, in part at least; undefined: it never did. */
export async function findMeterBegan(books: UsageBooks): Promise<number | undefined> {
  const first = await valueOf<bigint | null>(
    books,
    "SELECT MIN(hour_ms) FROM (SELECT MIN(hour_ms) AS hour_ms FROM meter_hours UNION ALL SELECT MIN(hour_ms) FROM rollup_hour) AS firsts",
  );
  return typeof first === "bigint" ? Number(first) : undefined;
}

/** The UTC day on which the meter began: today, if it never ran. Days before it are billed and not metered: they are
 *  compared with nothing. */
export async function firstMeteredDay(books: UsageBooks, nowMs: number): Promise<string> {
  return new Date((await findMeterBegan(books)) ?? nowMs).toISOString().slice(0, 10);
}
