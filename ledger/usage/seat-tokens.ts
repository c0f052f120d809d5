// Tokens that subscriptions paid for: read models over single events, for caps that are no money.
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

/** Of all attempts since an instant, oldest first. */
export async function readSeatTokens(books: UsageBooks, sinceMs: number): Promise<SeatTokens[]> {
  const { attemptId, keyId, team, user, input, cacheRead, cacheWrite, output, otherUsage, payer } = booked;
  const rows = await tablesOf(books)
    .select({ attemptId, keyId, team, user, input, cacheRead, cacheWrite, output, otherUsage })
    .from(booked)
    .where(and(eq(payer, SEAT), gte(attemptId, firstAttemptId(sinceMs))))
    .orderBy(attemptId)
    .all();
  return rows.map((row) => ({
    attemptId: row.attemptId,
    keyId: row.keyId,
    team: row.team,
    user: row.user,
    tokens: row.input + row.cacheRead + row.cacheWrite + row.output + otherTokens(row.otherUsage),
  }));
}

/** Classes without a column of their own; all that was written to caches is in one already. */
function otherTokens(otherUsage: string | null): number {
  if (otherUsage === null) return 0;
  const { cache_write_30m: _half, cache_write_12h: _long, ...rest } = JSON.parse(otherUsage) as Record<string, number>;
  return countTokens(rest);
}
