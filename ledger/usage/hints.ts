// Hints that a metered key is in other hands: a new address, use after long silence, an unusual hour. Weak signs each;
// they stand beside a leak, and are no alarm of their own.
import { rowsOf, valueOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";

export type Hint = { readonly keyId: string; readonly what: string };

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const LATELY_MS = 2 * DAY_MS;
const SILENCE_MS = 14 * DAY_MS;
const USUAL_MS = 28 * DAY_MS;
/** Under so many hours of use nobody can say which are usual. */
const LEAST_HOURS = 50;

/** What is odd about the use of keys in the last two days. */
export async function readHints(books: UsageBooks, nowMs: number): Promise<Hint[]> {
  const hints: Hint[] = [];
  const sinceMs = nowMs - LATELY_MS;
  const addresses = await rowsOf<[keyId: string, address: string, firstMs: bigint]>(
    books,
    `SELECT key_id, address, first_seen_ms FROM key_addresses a WHERE first_seen_ms >= ?
      AND EXISTS (SELECT 1 FROM key_addresses b WHERE b.key_id = a.key_id AND b.first_seen_ms < ?) ORDER BY key_id, first_seen_ms, address`,
    sinceMs,
    sinceMs,
  );
  for (const [keyId, address, firstMs] of addresses)
    hints.push({ keyId, what: `used from a new address, ${address}, since ${minute(Number(firstMs))}` });

  const hours = await rowsOf<[keyId: string, hourMs: bigint]>(
    books,
    "SELECT key_id, hour_ms FROM rollup_hour WHERE hour_ms >= ? AND requests > 0 GROUP BY key_id, hour_ms ORDER BY key_id, hour_ms",
    nowMs - USUAL_MS - LATELY_MS,
  );
  const byKey = new Map<string, number[]>();
  for (const [keyId, hour] of hours) byKey.set(keyId, [...(byKey.get(keyId) ?? []), Number(hour)]);
  for (const [keyId, used] of byKey) {
    const lately = used.filter((hour) => hour >= sinceMs);
    const before = used.filter((hour) => hour < sinceMs);
    const [first] = lately;
    if (first === undefined) continue;
    const last = await valueOf<bigint | null>(
      books,
      "SELECT MAX(hour_ms) FROM rollup_hour WHERE key_id = ? AND hour_ms < ? AND requests > 0",
      keyId,
      first,
    );
    if (typeof last === "bigint" && first - Number(last) >= SILENCE_MS)
      hints.push({
        keyId,
        what: `used again on ${minute(first)} after ${Math.round((first - Number(last)) / DAY_MS)} days of silence`,
      });
    const usual = new Set(before.map(hourOfDay));
    const odd = lately.find((hour) => !usual.has(hourOfDay(hour)));
    if (before.length >= LEAST_HOURS && odd !== undefined)
      hints.push({ keyId, what: `used on ${minute(odd)} UTC, an hour of the day in which it never was in four weeks` });
  }
  return hints;
}

function hourOfDay(ms: number): number {
  return Math.floor(ms / HOUR_MS) % 24;
}

function minute(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}
