// What seats cost a month, as somebody entered it: of a user or of a key, from a month on. Beside it stands what a seat paid
// for, at the prices of the API.
import { tell, write } from "../asking.ts";
import type { Asking } from "../asking.ts";
import type { UsageBooks } from "../books.ts";
import { lte } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import type { NanoUsd } from "../money.ts";
import type { Calendar } from "../windows.ts";
import { seatPrices } from "./schema.ts";
import { readSpend } from "./spend.ts";
import type { SpendRow } from "./spend-sums.ts";

/** The price of a seat. */
export type SeatPrice = {
  /** `user:user_...` or `key:key_...`. */
  readonly scope: string;
  /** The first month in which it holds, such as `2026-11`. */
  readonly month: string;
  /** Nothing: there is no seat from then on. */
  readonly priceNanoUsd: NanoUsd;
};

/** A seat in a month. */
export type SeatValue = {
  readonly scope: string;
  /** Undefined: nobody has entered one. */
  readonly priceNanoUsd: NanoUsd | undefined;
  /** What the seat paid for, at the prices of the API. */
  readonly valueNanoUsd: NanoUsd;
};

export function* setSeatPrice({ scope, month, priceNanoUsd }: SeatPrice): Asking<void> {
  const insert = write.insert(seatPrices).values({ scope, month, priceNanoUsd });
  yield* tell(insert.onConflictDoUpdate({ target: [seatPrices.scope, seatPrices.month], set: { priceNanoUsd } }));
}

/** Prices that hold in a month, by scope. */
export async function readSeatPrices(books: UsageBooks, month: string): Promise<Map<string, NanoUsd>> {
  const { scope, month: from, priceNanoUsd } = seatPrices;
  const rows = await tablesOf(books)
    .select({ scope, priceNanoUsd })
    .from(seatPrices)
    .where(lte(from, month))
    .orderBy(scope, from)
    .all();
  // The last one of each stands.
  const standing = new Map(rows.map((row) => [row.scope, row.priceNanoUsd]));
  return new Map([...standing].filter(([, price]) => price > 0n));
}

/** Seats of a local month: those with a price, and users whose subscriptions paid for something; dearest value first. A
 *  key's seat stands beside its user's, and is part of it. */
export async function readSeats(books: UsageBooks, calendar: Calendar, month: string): Promise<SeatValue[]> {
  const prices = await readSeatPrices(books, month);
  const { firstDay, endDay } = calendar.window("month", calendar.dayStart(`${month}-01`));
  const [byUser, byKey] = [
    await valuesBy(books, "user", firstDay, endDay),
    await valuesBy(books, "key", firstDay, endDay),
  ];
  const values = new Map([...byUser, ...[...byKey].filter(([scope]) => prices.has(scope))]);
  for (const scope of prices.keys()) if (!values.has(scope)) values.set(scope, 0n);
  return [...values]
    .map(([scope, valueNanoUsd]) => ({ scope, priceNanoUsd: prices.get(scope), valueNanoUsd }))
    .toSorted((a, b) => Number(b.valueNanoUsd - a.valueNanoUsd) || (a.scope < b.scope ? -1 : 1));
}

async function valuesBy(
  books: UsageBooks,
  part: "user" | "key",
  firstDay: string,
  endDay: string,
): Promise<Map<string, NanoUsd>> {
  const nameOf = ({ group }: SpendRow): string => group[part] ?? "";
  const rows = await readSpend(books, [part], firstDay, endDay);
  return new Map(
    rows
      .filter((row) => row.seatNanoUsd > 0n && nameOf(row) !== "")
      .map((row) => [`${part}:${nameOf(row)}`, row.seatNanoUsd]),
  );
}
