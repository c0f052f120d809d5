// Limits: what is not money. Requests and tokens a minute, requests at once, the size of a body, tokens of subscriptions,
// by key, by user, by team or for all.
import { tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { limits } from "./schema.ts";

/** `key:key_...`, `team:search`, `user:user_...` or `org`. */
type LimitScope = string;

export type Limits = {
  readonly scope: LimitScope;
  readonly requestsPerMinute: number | undefined;
  readonly tokensPerMinute: number | undefined;
  readonly concurrent: number | undefined;
  readonly bodyBytes: number | undefined;
  /** Of what subscriptions pay for: in five hours, which begin with the first request after the last ended; in a week. */
  readonly seatTokensPer5Hours?: number | undefined;
  readonly seatTokensPerWeek?: number | undefined;
};

/** What passed in the scope of a limit, by the second of the clock; and how many requests are under way. */
export type Passed = {
  readonly scope: LimitScope;
  /** Of the last minute; what came in less tokens than was expected takes some back. */
  readonly seconds: readonly (readonly [second: number, requests: number, tokens: number])[];
  readonly open: number;
};

/** All of them. */
export async function readLimits(books: UsageBooks): Promise<Limits[]> {
  const rows = await tablesOf(books).select().from(limits).orderBy(limits.scope).all();
  return rows.map((row) => ({
    scope: row.scope,
    requestsPerMinute: row.requestsPerMinute ?? undefined,
    tokensPerMinute: row.tokensPerMinute ?? undefined,
    concurrent: row.concurrent ?? undefined,
    bodyBytes: row.bodyBytes ?? undefined,
    seatTokensPer5Hours: row.seatTokensPer5Hours ?? undefined,
    seatTokensPerWeek: row.seatTokensPerWeek ?? undefined,
  }));
}
