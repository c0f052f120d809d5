// Notices: what sources said of each alert group, what waits for Slack, and what was said there, so that an outage loses nothing and a
// restart repeats nothing. notices.db; the alerts program is its only writer.
import { randomUUID } from "node:crypto";
import { and, asc, desc, drizzle, eq, gt, gte, lt, or, sql } from "../drizzle.ts";
import type { NanoUsd } from "../money.ts";
import type { Sqlite } from "../open.ts";
import { deliveries, mutes, notices, outbox } from "./schema.ts";

/** The latest word of one source about a group, as it was delivered. */
export type Delivery = typeof deliveries.$inferSelect;
/** Something to be said. */
export type Outgoing = typeof outbox.$inferSelect;
export type Notice = typeof notices.$inferSelect;
export type Mute = typeof mutes.$inferSelect;

/** Keeps what a source delivered, and that its group has to be said. A newer word of the same source takes the place of the older
 *  one, and what waits is said once: only the latest state is worth saying. */
export async function keepDelivery(
  database: Sqlite,
  groupKey: string,
  source: string,
  payload: string,
  atMs: number,
): Promise<void> {
  const books = drizzle(database);
  const word = { payload, receivedAtMs: atMs };
  database
    .transaction(() => {
      books
        .insert(deliveries)
        .values({ groupKey, source, ...word })
        .onConflictDoUpdate({ target: [deliveries.groupKey, deliveries.source], set: word })
        .run();
      enqueue(database, { kind: "group", groupKey, payload: "{}" }, atMs);
    })
    .immediate();
}

/** What each source last said of a group, the latest first. */
export async function readDeliveries(database: Sqlite, groupKey: string): Promise<Delivery[]> {
  return drizzle(database)
    .select()
    .from(deliveries)
    .where(eq(deliveries.groupKey, groupKey))
    .orderBy(desc(deliveries.receivedAtMs))
    .all();
}

/** Has a group said again: its figures have moved, or somebody acknowledged it. One that waits already waits once. */
export async function sayAgain(database: Sqlite, groupKey: string, atMs: number): Promise<void> {
  enqueue(database, { kind: "group", groupKey, payload: "{}" }, atMs);
}

/** Has something said in the thread of a group's message. */
export async function keepReply(database: Sqlite, groupKey: string, payload: string, atMs: number): Promise<void> {
  enqueue(database, { kind: "reply", groupKey, payload }, atMs);
}

/** Has a message sent that is not about a group. `nonce` says which: the same one is sent once. */
export async function keepDigest(database: Sqlite, nonce: string, atMs: number): Promise<boolean> {
  const known = drizzle(database).select().from(notices).where(eq(notices.groupKey, nonce)).get();
  if (known) return false;
  drizzle(database)
    .insert(outbox)
    .values({ kind: "digest", groupKey: nonce, nonce, payload: "{}", receivedAtMs: atMs })
    .onConflictDoNothing()
    .run();
  return true;
}

/** All that waits, oldest first. */
export async function readOutbox(database: Sqlite): Promise<Outgoing[]> {
  return drizzle(database).select().from(outbox).orderBy(asc(outbox.id)).all();
}

/** Notes that a row is being sent: from now on it may be in Slack. Committed before the first byte goes out. */
export async function noteSending(database: Sqlite, id: number, atMs: number): Promise<void> {
  drizzle(database).update(outbox).set({ sendingSinceMs: atMs }).where(eq(outbox.id, id)).run();
}

/** Notes that a row was not taken. `isKnown`: Slack said so; else it may have been taken all the same. */
export async function noteFailure(
  database: Sqlite,
  { id, attempts }: Outgoing,
  error: string,
  nextAtMs: number,
  isKnown: boolean,
): Promise<void> {
  drizzle(database)
    .update(outbox)
    .set({ attempts: attempts + 1, lastError: error, nextAtMs, ...(isKnown ? { sendingSinceMs: null } : {}) })
    .where(eq(outbox.id, id))
    .run();
}

/** The message that stands in Slack for a group that fires, or undefined. */
export async function findOpenNotice(database: Sqlite, groupKey: string): Promise<Notice | undefined> {
  return drizzle(database)
    .select()
    .from(notices)
    .where(and(eq(notices.groupKey, groupKey), eq(notices.state, "firing")))
    .get();
}

/** The latest message of a group, open or not. */
export async function findLastNotice(database: Sqlite, groupKey: string): Promise<Notice | undefined> {
  return drizzle(database)
    .select()
    .from(notices)
    .where(eq(notices.groupKey, groupKey))
    .orderBy(desc(notices.updatedAtMs))
    .get();
}

/** Messages of one key that are read at most. */
const MOST_ABOUT = 50;

/** Messages since an instant that name any of these words as a whole, the newest first: "ci" is not named by "social". */
export function readNoticesAbout(database: Sqlite, words: readonly string[], sinceMs: number): Notice[] {
  const named = words.map((word) => sql`(instr(${notices.text}, ${word}) > 0 OR instr(${notices.body}, ${word}) > 0)`);
  const patterns = words.map(
    (word) => new RegExp(`(?<![\\p{L}\\p{N}_-])${escapePattern(word)}(?![\\p{L}\\p{N}_-])`, "u"),
  );
  return drizzle(database)
    .select()
    .from(notices)
    .where(and(gte(notices.postedAtMs, sinceMs), or(...named)))
    .orderBy(desc(notices.postedAtMs))
    .all()
    .filter((one) => patterns.some((pattern) => pattern.test(one.text) || pattern.test(one.body)))
    .slice(0, MOST_ABOUT);
}

function escapePattern(word: string): string {
  return word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

export async function readOpenNotices(database: Sqlite): Promise<Notice[]> {
  return drizzle(database).select().from(notices).where(eq(notices.state, "firing")).all();
}

export type Said = Pick<Notice, "channel" | "ts" | "state" | "text" | "severity" | "body"> & {
  readonly figureNanoUsd: NanoUsd | undefined;
};

/** Books that a row was said: the message is noted, what follows it in its thread is queued and the row leaves the outbox, all or
 *  nothing. `notice`: the message that was updated; undefined for a new one. `composedAtMs`: as of when it speaks. */
export async function noteSaid(
  database: Sqlite,
  row: Outgoing,
  notice: Notice | undefined,
  { figureNanoUsd, ...said }: Said,
  follow: readonly { readonly kind: "reply" | "picture"; readonly payload: string }[],
  composedAtMs: number,
  atMs: number,
): Promise<void> {
  const books = drizzle(database);
  const values = { ...said, figureNanoUsd: figureNanoUsd ?? null, updatedAtMs: atMs };
  database
    .transaction(() => {
      if (notice) books.update(notices).set(values).where(eq(notices.id, notice.id)).run();
      else
        books
          .insert(notices)
          .values({ groupKey: row.groupKey, ...values, postedAtMs: atMs })
          .run();
      for (const one of follow) enqueue(database, { ...one, groupKey: row.groupKey }, atMs);
      if (said.state === "resolved") {
        books
          .delete(deliveries)
          .where(and(eq(deliveries.groupKey, row.groupKey), lt(deliveries.receivedAtMs, composedAtMs)))
          .run();
        books.delete(mutes).where(eq(mutes.groupKey, row.groupKey)).run();
      }
      books.delete(outbox).where(eq(outbox.id, row.id)).run();
      // What came while this was on its way has not been said.
      const newer = and(eq(deliveries.groupKey, row.groupKey), gte(deliveries.receivedAtMs, composedAtMs));
      if (row.kind === "group" && books.select().from(deliveries).where(newer).get())
        enqueue(database, { kind: "group", groupKey: row.groupKey, payload: "{}" }, atMs);
    })
    .immediate();
}

/** Books a message that stands in Slack and was not known: it was sent, and its answer got lost. */
export async function noteFound(
  database: Sqlite,
  { id, groupKey }: Outgoing,
  where: Pick<Notice, "channel" | "ts">,
  picture: string,
  atMs: number,
): Promise<Notice> {
  const books = drizzle(database);
  const found = { groupKey, ...where, state: "firing", text: "", postedAtMs: atMs, updatedAtMs: atMs } as const;
  return database
    .transaction(() => {
      const notice = books.insert(notices).values(found).returning().get();
      enqueue(database, { kind: "picture", groupKey, payload: picture }, atMs);
      books.update(outbox).set({ sendingSinceMs: null }).where(eq(outbox.id, id)).run();
      return notice;
    })
    .immediate();
}

/** Lets go of a row that needs no message, or whose message stands already. `overAtMs`: its group was over by then, and what was said of
 *  it before goes too; what came since has not been said yet. */
export async function dropOutgoing(database: Sqlite, { id, groupKey }: Outgoing, overAtMs?: number): Promise<void> {
  const books = drizzle(database);
  const own = eq(deliveries.groupKey, groupKey);
  database
    .transaction(() => {
      books.delete(outbox).where(eq(outbox.id, id)).run();
      if (overAtMs === undefined) return;
      books
        .delete(deliveries)
        .where(and(own, lt(deliveries.receivedAtMs, overAtMs)))
        .run();
      if (books.select().from(deliveries).where(own).get())
        enqueue(database, { kind: "group", groupKey, payload: "{}" }, overAtMs);
    })
    .immediate();
}

/** Takes back what a source said of one group. */
export async function dropWord(database: Sqlite, groupKey: string, source: string, atMs: number): Promise<void> {
  const books = drizzle(database);
  database
    .transaction(() => {
      books
        .delete(deliveries)
        .where(and(eq(deliveries.groupKey, groupKey), eq(deliveries.source, source)))
        .run();
      enqueue(database, { kind: "group", groupKey, payload: "{}" }, atMs);
    })
    .immediate();
}

/** All that a source says now. */
export async function readWords(database: Sqlite, source: string): Promise<Delivery[]> {
  return drizzle(database).select().from(deliveries).where(eq(deliveries.source, source)).all();
}

/** Takes back what a source said of every group: it speaks no more. */
export async function dropSource(database: Sqlite, source: string, atMs: number): Promise<void> {
  for (const { groupKey } of await readWords(database, source)) await dropWord(database, groupKey, source, atMs);
}

export async function keepMute(database: Sqlite, mute: Mute): Promise<void> {
  drizzle(database).insert(mutes).values(mute).onConflictDoUpdate({ target: mutes.groupKey, set: mute }).run();
}

/** Who has acknowledged a group, while that lasts. */
export async function findMute(database: Sqlite, groupKey: string, atMs: number): Promise<Mute | undefined> {
  return drizzle(database)
    .select()
    .from(mutes)
    .where(and(eq(mutes.groupKey, groupKey), gt(mutes.untilMs, atMs)))
    .get();
}

/** A group that waits keeps its place, its nonce, and what is known of its sending; it is tried at once. */
function enqueue(database: Sqlite, row: Pick<Outgoing, "kind" | "groupKey" | "payload">, atMs: number): void {
  const books = drizzle(database);
  if (row.kind === "group") {
    const waiting = and(eq(outbox.groupKey, row.groupKey), eq(outbox.kind, "group"));
    if (books.select().from(outbox).where(waiting).get()) return;
  }
  books
    .insert(outbox)
    .values({ ...row, nonce: randomUUID(), receivedAtMs: atMs })
    .run();
}
