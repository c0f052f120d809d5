// Tokens that subscriptions paid for: read models over single events, for caps that are no money.
import { setImmediate as breathe } from "node:timers/promises";
import type { UsageBooks } from "../books.ts";
import { and, eq, gte } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import { firstAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import { countTokens } from "../usage.ts";
import { booked } from "./schema.ts";
import { SEAT } from "./usage-event.ts";

/** What one attempt used of a subscription. */
export type SeatTokens = {
  readonly attemptId: AttemptId;
  readonly keyId: string;
  readonly team: string;
  /** By id; empty: nobody is named. */
  readonly user: string;
  readonly tokens: number;
};

/** So many at a time: whoever reads them does other work between. */
const CHUNK = 2_000;

/** Of all attempts since an instant, oldest first. */
export async function* readSeatTokens(books: UsageBooks, sinceMs: number): AsyncGenerator<SeatTokens> {
  const { attemptId, keyId, team, user, input, cacheRead, cacheWrite, output, otherUsage, payer } = booked;
  for (let from = firstAttemptId(sinceMs); ; await breathe()) {
    const rows = await tablesOf(books)
      .select({ attemptId, keyId, team, user, input, cacheRead, cacheWrite, output, otherUsage })
      .from(booked)
      .where(and(eq(payer, SEAT), gte(attemptId, from)))
      .orderBy(attemptId)
      .limit(CHUNK)
      .all();
    for (const row of rows)
      yield {
        attemptId: row.attemptId,
        keyId: row.keyId,
        team: row.team,
        user: row.user,
        tokens: row.input + row.cacheRead + row.cacheWrite + row.output + otherTokens(row.otherUsage),
      };
    const last = rows.at(-1);
    if (!last || rows.length < CHUNK) return;
    from = last.attemptId + 1;
  }
}

/** Classes without a column of their own; all that was written to caches is in one already. */
function otherTokens(otherUsage: string | null): number {
  if (otherUsage === null) return 0;
  const { cache_write_30m: _half, cache_write_12h: _long, ...rest } = JSON.parse(otherUsage) as Record<string, number>;
  return countTokens(rest);
}
