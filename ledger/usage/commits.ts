// Events and corrections in the order in which they were committed: for those who read on from where they were. Attempts
// are numbered when they begin and booked when they end, so ids say nothing of what is new.
import { and, asc, desc, eq, getTableColumns, gt, gte, or } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { events } from "./event-columns.ts";
import type { StoredEvent } from "./event-columns.ts";
import { audit, committed } from "./schema.ts";

/** A place in that order: what lies at it or before it was read. On Postgres all of a transaction has one number. */
export type CommitPlace = { readonly number: number; readonly position: number };

/** What was committed: an event, or a correction of one. */
export type Commit = {
  readonly place: CommitPlace;
  readonly event: StoredEvent;
  /** Of a correction: by how much. Null: it is the event. */
  readonly adjustedNanoUsd: bigint | null;
};

export const BEFORE_ALL: CommitPlace = { number: 0, position: 0 };

/** What comes after a place, at most `limit`, in order. An event that retention has taken away is left out. */
export async function readCommits(books: UsageBooks, after: CommitPlace, limit: number): Promise<Commit[]> {
  const rows = await tablesOf(books)
    .select({
      number: committed.number,
      position: committed.position,
      adjustedNanoUsd: committed.adjustedNanoUsd,
      ...getTableColumns(events),
    })
    .from(committed)
    .innerJoin(events, eq(events.attemptId, committed.attemptId))
    .where(
      and(
        gte(committed.number, after.number),
        or(gt(committed.number, after.number), gt(committed.position, after.position)),
      ),
    )
    .orderBy(asc(committed.number), asc(committed.position))
    .limit(limit)
    .all();
  return rows.map(({ number, position, adjustedNanoUsd, ...event }) => ({
    place: { number, position },
    event,
    adjustedNanoUsd,
  }));
}

/** Where that order ends now. */
export async function readLastCommit(books: UsageBooks): Promise<CommitPlace> {
  const [last] = await tablesOf(books)
    .select({ number: committed.number, position: committed.position })
    .from(committed)
    .orderBy(desc(committed.number), desc(committed.position))
    .limit(1)
    .all();
  return last ?? BEFORE_ALL;
}

/** Records of the audit after one, at most `limit`. */
export function readAuditAfter(books: UsageBooks, seq: number, limit: number) {
  return tablesOf(books).select().from(audit).where(gt(audit.seq, seq)).orderBy(asc(audit.seq)).limit(limit).all();
}

/** The number of the last record of the audit; 0: there is none. */
export async function readLastAudit(books: UsageBooks): Promise<number> {
  const [last] = await tablesOf(books).select({ seq: audit.seq }).from(audit).orderBy(desc(audit.seq)).limit(1).all();
  return last?.seq ?? 0;
}
