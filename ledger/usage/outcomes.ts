// Attempts one by one, and how they ended: what sums do not tell. Read models over the events; reads only.
import { and, desc, eq, gte, inArray, isNotNull, lt, lte, sql } from "../drizzle.ts";
import { readEvents } from "./events.ts";
import type { EventRecord } from "./events.ts";
import type { Outcome } from "./usage-event.ts";
import { attemptAtMs, firstAttemptId, readAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { adjustments, booked, rollupHour } from "./schema.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";

const HOUR_MS = 3_600_000;

/** An event with what is booked for it by now: its cost and all corrections. Undefined: not known. */
export type BookedEvent = EventRecord & { readonly bookedNanoUsd: NanoUsd | undefined };

/** The newest attempts of a key, before one of them if that is given, newest first. Only hours in which the key was
 *  used are looked at: as many as `limit` at most, each with everybody's events of that hour. */
export async function readLastEvents(
  books: UsageBooks,
  keyId: string,
  limit: number,
  before?: AttemptId,
): Promise<BookedEvent[]> {
  const found: EventRecord[] = [];
  const hours = await tablesOf(books)
    .selectDistinct({ hourMs: rollupHour.hourMs })
    .from(rollupHour)
    .where(
      and(eq(rollupHour.keyId, keyId), before === undefined ? undefined : lte(rollupHour.hourMs, attemptAtMs(before))),
    )
    .orderBy(desc(rollupHour.hourMs))
    // The hour of that attempt may hold no other before it.
    .limit(limit + 1)
    .all();
  for (const { hourMs } of hours) {
    const span = { sinceMs: hourMs, untilMs: hourMs + HOUR_MS };
    found.push(...(await readEvents(books, { ...span, keyId, before, limit: limit - found.length })).toReversed());
    if (found.length >= limit) break;
  }
  const corrected = await readCorrections(
    books,
    found.map(({ attemptId }) => readAttemptId(attemptId)),
  );
  return found.map((one) => {
    const correction = corrected.get(readAttemptId(one.attemptId));
    const bookedNanoUsd = one.costNanoUsd === null ? correction : BigInt(one.costNanoUsd) + (correction ?? 0n);
    return { ...one, bookedNanoUsd };
  });
}

async function readCorrections(books: UsageBooks, attempts: readonly AttemptId[]): Promise<Map<AttemptId, NanoUsd>> {
  const rows = await tablesOf(books)
    .select({ attemptId: adjustments.attemptId, amount: sql<bigint>`SUM(${adjustments.amountNanoUsd})` })
    .from(adjustments)
    .where(inArray(adjustments.attemptId, [...attempts]))
    .groupBy(adjustments.attemptId)
    .orderBy(adjustments.attemptId)
    .all();
  return new Map(rows.map(({ attemptId, amount }) => [attemptId, amount]));
}

/** What attempts came to, by how they ended. */
export type OutcomeRow = {
  readonly provider: string;
  readonly model: string;
  readonly outcome: Outcome;
  readonly requests: number;
  readonly costNanoUsd: NanoUsd;
};

/** Attempts of `[sinceMs, untilMs)` by served model and outcome, corrections included. */
export async function readOutcomes(books: UsageBooks, sinceMs: number, untilMs: number): Promise<OutcomeRow[]> {
  const rows = await tablesOf(books)
    .select({
      provider: booked.provider,
      model: booked.model,
      outcome: sql<Outcome>`${booked.outcome}`,
      requests: sql<bigint>`COUNT(*)`,
      costNanoUsd: sql<bigint>`SUM(${booked.bookedNanoUsd})`,
    })
    .from(booked)
    .where(inSpan(sinceMs, untilMs))
    .groupBy(booked.provider, booked.model, booked.outcome)
    .orderBy(booked.provider, booked.model, booked.outcome)
    .all();
  return rows.map((row) => ({ ...row, requests: Number(row.requests) }));
}

/** How fast models answer, in milliseconds to the first byte. */
export type Speed = { readonly provider: string; readonly model: string; readonly p50: number; readonly p95: number };

/** Of the newest `most` complete attempts of `[sinceMs, untilMs)`. */
export async function readSpeeds(books: UsageBooks, sinceMs: number, untilMs: number, most: number): Promise<Speed[]> {
  const rows = await tablesOf(books)
    .select({
      provider: booked.provider,
      model: booked.model,
      firstByteMs: booked.firstByteMs,
    })
    .from(booked)
    .where(and(inSpan(sinceMs, untilMs), eq(booked.outcome, "complete"), isNotNull(booked.firstByteMs)))
    .orderBy(desc(booked.attemptId))
    .limit(most)
    .all();
  return [...Map.groupBy(rows, ({ provider, model }) => `${provider}\n${model}`)].map(([name, group]) => {
    const [provider = "", model = ""] = name.split("\n");
    const sorted = group.map(({ firstByteMs }) => firstByteMs ?? 0).toSorted((a, b) => a - b);
    const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? 0;
    return { provider, model, p50: at(0.5), p95: at(0.95) };
  });
}

function inSpan(sinceMs: number, untilMs: number): ReturnType<typeof and> {
  return and(gte(booked.attemptId, firstAttemptId(sinceMs)), lt(booked.attemptId, firstAttemptId(untilMs)));
}
