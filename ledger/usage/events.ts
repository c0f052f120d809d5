// Usage events in the books: the row that is booked, the part of it that sums are made of, and how readers get records
// of them back.
import { and, asc, desc, eq, getTableColumns, gte, lt } from "../drizzle.ts";
import type { Subject } from "../budgets.ts";
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { AT, events, otherWrites, recordOf } from "./event-columns.ts";
import type { EventRow, ShownLine, StoredEvent } from "./event-columns.ts";
import type { Usage, UsageReason, UsageState } from "../usage.ts";
import { booked } from "./schema.ts";
import { BOOKED_COLUMNS, lies } from "./within.ts";
import { tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import type { Within } from "./within.ts";

/** When an attempt was over, as far as its row says. */
export function endedAtMs(row: EventRow): number {
  return attemptAtMs(Number(row[AT.attemptId])) + Number(row[AT.durationMs] ?? 0);
}

function readNanoUsd(value: EventRow[number] | undefined): NanoUsd | null {
  return value === null || value === undefined ? null : BigInt(value);
}

/** What sums are made of: the part of a row that budgets and rollups add up. */
export type Booked = Subject & {
  /** The model that answered, or the requested one where the answer names none. */
  readonly servedModel: string;
  readonly attemptId: AttemptId;
  readonly costNanoUsd: NanoUsd;
  readonly payer: string;
  readonly seatNanoUsd: NanoUsd;
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly output: number;
  readonly usageState: string;
  readonly priceConfidence: string | null;
};

/** Reads that part; an unknown cost adds nothing to any sum. */
export function readBooked(row: EventRow): Booked {
  return bookedOf({
    attemptId: row[AT.attemptId] as number,
    keyId: row[AT.keyId] as string,
    provider: row[AT.provider] as string,
    requestedModel: row[AT.requestedModel] as string,
    servedModel: row[AT.servedModel] as string | null,
    team: row[AT.team] as string,
    project: row[AT.project] as string,
    env: row[AT.env] as string,
    user: row[AT.user] as string,
    tags: row[AT.tags] as string | null,
    payer: row[AT.payer] as string,
    seatNanoUsd: readNanoUsd(row[AT.seatNanoUsd]),
    costNanoUsd: readNanoUsd(row[AT.costNanoUsd]),
    input: row[AT.input] as number | null,
    cacheRead: row[AT.cacheRead] as number | null,
    cacheWrite5m: row[AT.cacheWrite5m] as number | null,
    cacheWrite1h: row[AT.cacheWrite1h] as number | null,
    otherUsage: row[AT.otherUsage] as string | null,
    output: row[AT.output] as number | null,
    usageState: row[AT.usageState] as StoredEvent["usageState"],
    priceConfidence: row[AT.priceConfidence] as StoredEvent["priceConfidence"],
  });
}

type Summed = Pick<
  StoredEvent,
  | "attemptId"
  | "keyId"
  | "provider"
  | "requestedModel"
  | "servedModel"
  | "team"
  | "project"
  | "env"
  | "user"
  | "tags"
  | "payer"
  | "seatNanoUsd"
  | "costNanoUsd"
  | "input"
  | "cacheRead"
  | "cacheWrite5m"
  | "cacheWrite1h"
  | "otherUsage"
  | "output"
  | "usageState"
  | "priceConfidence"
>;

/** The same part of an event that was read back. */
export function bookedOf(row: Summed): Booked {
  return {
    attemptId: row.attemptId,
    keyId: row.keyId,
    provider: row.provider,
    model: row.requestedModel,
    servedModel: row.servedModel ?? row.requestedModel,
    team: row.team,
    project: row.project,
    env: row.env,
    user: row.user,
    tags: row.tags,
    costNanoUsd: row.costNanoUsd ?? 0n,
    payer: row.payer,
    seatNanoUsd: row.seatNanoUsd ?? 0n,
    input: row.input ?? 0,
    cacheRead: row.cacheRead ?? 0,
    cacheWrite: (row.cacheWrite5m ?? 0) + (row.cacheWrite1h ?? 0) + otherWrites(row.otherUsage),
    output: row.output ?? 0,
    usageState: row.usageState,
    priceConfidence: row.priceConfidence,
  };
}

/** The row under the name of another owner. */
export function withOwner(
  row: EventRow,
  { team, project, env }: { readonly team: string; readonly project: string; readonly env: string },
): EventRow {
  if (row[AT.team] === team && row[AT.project] === project && row[AT.env] === env) return row;
  return row.with(AT.team, team).with(AT.project, project).with(AT.env, env);
}

/** An event as `keymeter events --json` prints it: one object a line, money as decimal strings of nano-USD. */
export type EventRecord = {
  readonly requestId: string;
  readonly attemptId: string;
  readonly at: string;
  readonly provider: string;
  readonly endpoint: string;
  readonly keyId: string;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** A person, by id. */
  readonly user: string;
  readonly payer: string;
  readonly requestedModel: string;
  readonly servedModel: string | null;
  readonly tier: string | null;
  readonly usage: Usage;
  readonly reasoning: number | null;
  readonly usageState: UsageState;
  readonly usageReason: UsageReason | null;
  readonly costNanoUsd: string | null;
  /** Of a subscription: what it would have cost. */
  readonly seatNanoUsd: string | null;
  /** The provider's own figure, where it states one. */
  readonly statedCostNanoUsd: string | null;
  readonly costLines: readonly ShownLine[];
  /** Null: booked before lists were, or by nobody that knew one. */
  readonly priceList: string | null;
  readonly priceVersion: string | null;
  readonly priceConfidence: string | null;
  readonly outcome: string;
  readonly httpStatus: number | null;
  readonly durationMs: number | null;
  readonly tags: { readonly [name: string]: string };
};

/** Which events: a time range `[sinceMs, untilMs)` and a key; the newest `limit` of them, oldest first. */
export type EventFilter = {
  readonly sinceMs?: number | undefined;
  readonly untilMs?: number | undefined;
  readonly keyId?: string | undefined;
  readonly within?: Within;
  /** Only attempts before this one. */
  readonly before?: AttemptId | undefined;
  readonly limit: number;
};

/** Reads events in a bounded read. */
export async function readEvents(books: UsageBooks, filter: EventFilter): Promise<EventRecord[]> {
  const newest = await tablesOf(books)
    .select(getTableColumns(events))
    .from(events)
    .innerJoin(booked, eq(booked.attemptId, events.attemptId))
    .where(
      and(
        filter.sinceMs === undefined ? undefined : gte(events.attemptId, firstAttemptId(filter.sinceMs)),
        filter.untilMs === undefined ? undefined : lt(events.attemptId, firstAttemptId(filter.untilMs)),
        filter.keyId === undefined ? undefined : eq(events.keyId, filter.keyId),
        ...lies(filter.within ?? {}, BOOKED_COLUMNS),
        filter.before === undefined ? undefined : lt(events.attemptId, filter.before),
      ),
    )
    .orderBy(desc(events.attemptId))
    .limit(filter.limit)
    .all();
  return newest.toReversed().map(recordOf);
}

/** Walks every event from `sinceMs` on once, oldest first, in pages: for readers that must not hold a read open for
 *  minutes. */
export async function* walkEvents(
  books: UsageBooks,
  { sinceMs = 0, pageSize = 2_000 }: { readonly sinceMs?: number; readonly pageSize?: number } = {},
): AsyncGenerator<EventRecord> {
  let after = firstAttemptId(sinceMs) - 1;
  for (;;) {
    const page = await tablesOf(books)
      .select()
      .from(events)
      .where(gte(events.attemptId, after + 1))
      .orderBy(asc(events.attemptId))
      .limit(pageSize)
      .all();
    for (const row of page) yield recordOf(row);
    const last = page.at(-1);
    if (!last) return;
    after = last.attemptId;
  }
}
