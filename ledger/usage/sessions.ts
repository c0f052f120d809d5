// Sessions of coding agents, as events are tagged with them: what each cost. Reads events, which hold the tags.
import { answerIn, askSql } from "../asking.ts";
import type { UsageBooks } from "../books.ts";
import { and, gte, sql } from "../drizzle.ts";
import type { SQL } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import { firstAttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { booked } from "./schema.ts";
import { eventTotals, toSpendRow } from "./spend-sums.ts";
import type { SpendSums, Sums } from "./spend-sums.ts";
import { BOOKED_COLUMNS, lies } from "./within.ts";
import type { Within } from "./within.ts";

export type SessionSpend = {
  readonly session: string;
  /** The program, as it names itself. */
  readonly client: string;
  readonly requests: number;
  readonly costNanoUsd: NanoUsd;
  /** What a subscription paid for would have cost. */
  readonly seatNanoUsd: NanoUsd;
  readonly input: number;
  readonly cacheRead: number;
  readonly output: number;
  readonly firstMs: number;
  readonly lastMs: number;
};

/** The last sessions since an instant, the newest first. */
export async function readSessions(
  books: UsageBooks,
  sinceMs: number,
  most: number,
  within: Within = {},
): Promise<SessionSpend[]> {
  const session = sql`json_extract(${booked.tags}, '$."session"')`;
  const conditions = and(
    gte(booked.attemptId, firstAttemptId(sinceMs)),
    sql`${session} IS NOT NULL`,
    ...lies(within, BOOKED_COLUMNS),
  );
  const rows = await answerIn(
    books,
    askSql<[string, string | null, bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint]>(
      sql`SELECT ${session}, MAX(json_extract(${booked.tags}, '$."client"')), COUNT(*), SUM(${booked.bookedNanoUsd}),
        SUM(COALESCE(${booked.seatNanoUsd}, 0)), SUM(${booked.input}), SUM(${booked.cacheRead}), SUM(${booked.output}),
        MIN(${booked.atMs}), MAX(${booked.atMs})
      FROM ${booked} WHERE ${conditions} GROUP BY 1 ORDER BY 10 DESC, 1 LIMIT ${most}`,
    ),
  );
  return rows.map(([id, client, requests, cost, seat, input, cacheRead, output, firstMs, lastMs]) => ({
    session: id,
    client: client ?? "",
    requests: Number(requests),
    costNanoUsd: cost,
    seatNanoUsd: seat,
    input: Number(input),
    cacheRead: Number(cacheRead),
    output: Number(output),
    firstMs: Number(firstMs),
    lastMs: Number(lastMs),
  }));
}

/** A session by whom and what of it: sums as everywhere. */
export type SessionPart = SpendSums & {
  readonly agent: string;
  readonly client: string;
  readonly model: string;
  readonly user: string;
  readonly keyId: string;
  readonly firstMs: number;
  readonly lastMs: number;
};

/** One session since an instant, by agent, model, user and key; the dearest first. */
export async function readSessionParts(books: UsageBooks, session: string, sinceMs: number): Promise<SessionPart[]> {
  const tag = (name: string): SQL => sql`COALESCE(json_extract(${booked.tags}, ${`$."${name}"`}), '')`;
  const rows = (await tablesOf(books)
    .select({
      agent: tag("agent"),
      client: tag("client"),
      model: booked.model,
      user: booked.user,
      keyId: booked.keyId,
      firstMs: sql<bigint>`MIN(${booked.atMs})`,
      lastMs: sql<bigint>`MAX(${booked.atMs})`,
      ...eventTotals,
    })
    .from(booked)
    .where(
      and(
        gte(booked.attemptId, firstAttemptId(sinceMs)),
        sql`json_extract(${booked.tags}, '$."session"') = ${session}`,
      ),
    )
    .groupBy(...[1, 2, 3, 4, 5].map((part) => sql.raw(String(part))))
    .orderBy(...[1, 2, 3, 4, 5].map((part) => sql.raw(String(part))))
    .all()) as (Sums & {
    agent: string;
    client: string;
    model: string;
    user: string;
    keyId: string;
    firstMs: bigint;
    lastMs: bigint;
  })[];
  return rows
    .map(({ agent, client, model, user, keyId, firstMs, lastMs, ...sums }) => {
      const { group: _, ...own } = toSpendRow({}, sums);
      return { ...own, agent, client, model, user, keyId, firstMs: Number(firstMs), lastMs: Number(lastMs) };
    })
    .toSorted((a, b) => (b.costNanoUsd > a.costNanoUsd ? 1 : b.costNanoUsd < a.costNanoUsd ? -1 : 0));
}
