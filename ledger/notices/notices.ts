// Notices: what sources said of each alert group, what waits for Slack, and what was said there, so that an outage
// loses nothing and a restart repeats nothing. notices.db; the alerts program is its only writer.
import { randomUUID } from "node:crypto";
import { and, asc, desc, eq, gt, gte, lt, or, sql } from "../drizzle.ts";
import type { NanoUsd } from "../money.ts";
import type { NoticesBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import { deliveries, mutes, notices, outbox } from "./schema.ts";

/** The latest word of one source about a group, as it was delivered. */
export type Delivery = typeof deliveries.$inferSelect;
/** Something to be said. */
export type Outgoing = typeof outbox.$inferSelect;
export type Notice = typeof notices.$inferSelect;
export type Mute = typeof mutes.$inferSelect;

/** Keeps what a source delivered, and that its group has to be said. A newer word of the same source takes the place of
 *  the older one, and what waits is said once: only the latest state is worth saying. */
export async function keepDelivery(
  books: NoticesBooks,
  groupKey: string,
  source: string,
  payload: string,
  atMs: number,
): Promise<void> {
  const word = { payload, receivedAtMs: atMs };
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    await tables
      .insert(deliveries)
      .values({ groupKey, source, ...word })
      .onConflictDoUpdate({ target: [deliveries.groupKey, deliveries.source], set: word })
      .run();
    await enqueue(own, { kind: "group", groupKey, payload: "{}" }, atMs);
  });
}

/** What each source last said of a group, the latest first. */
export async function readDeliveries(books: NoticesBooks, groupKey: string): Promise<Delivery[]> {
  return tablesOf(books)
    .select()
    .from(deliveries)
    .where(eq(deliveries.groupKey, groupKey))
    .orderBy(desc(deliveries.receivedAtMs))
    .all();
}

/** Has a group said again: its figures have moved, or somebody acknowledged it. One that waits already waits once. */
export async function sayAgain(books: NoticesBooks, groupKey: string, atMs: number): Promise<void> {
  await books.transaction((own) => enqueue(own, { kind: "group", groupKey, payload: "{}" }, atMs));
}

/** Has something said in the thread of a group's message. */
export async function keepReply(books: NoticesBooks, groupKey: string, payload: string, atMs: number): Promise<void> {
  await books.transaction((own) => enqueue(own, { kind: "reply", groupKey, payload }, atMs));
}

/** Has a message sent that is not about a group. `nonce` says which: the same one is sent once. */
export async function keepDigest(books: NoticesBooks, nonce: string, atMs: number): Promise<boolean> {
  return books.transaction(async (own) => {
    const tables = tablesOf(own);
    if (await tables.select().from(notices).where(eq(notices.groupKey, nonce)).get()) return false;
    await tables
      .insert(outbox)
      .values({ kind: "digest", groupKey: nonce, nonce, payload: "{}", receivedAtMs: atMs })
      .onConflictDoNothing()
      .run();
    return true;
  });
}

/** All that waits, oldest first. */
export async function readOutbox(books: NoticesBooks): Promise<Outgoing[]> {
  return tablesOf(books).select().from(outbox).orderBy(asc(outbox.id)).all();
}

/** Notes that a row is being sent: from now on it may be in Slack. Committed before the first byte goes out. */
export async function noteSending(books: NoticesBooks, id: number, atMs: number): Promise<void> {
  await books.transaction(async (own) => {
    await tablesOf(own).update(outbox).set({ sendingSinceMs: atMs }).where(eq(outbox.id, id)).run();
  });
}

/** Notes that a row was not taken. `isKnown`: Slack said so; else it may have been taken all the same. */
export async function noteFailure(
  books: NoticesBooks,
  { id, attempts }: Outgoing,
  error: string,
  nextAtMs: number,
  isKnown: boolean,
): Promise<void> {
  await books.transaction(async (own) => {
    await tablesOf(own)
      .update(outbox)
      .set({ attempts: attempts + 1, lastError: error, nextAtMs, ...(isKnown ? { sendingSinceMs: null } : {}) })
      .where(eq(outbox.id, id))
      .run();
  });
}

/** The message that stands in Slack for a group that fires, or undefined. */
export async function findOpenNotice(books: NoticesBooks, groupKey: string): Promise<Notice | undefined> {
  return tablesOf(books)
    .select()
    .from(notices)
    .where(and(eq(notices.groupKey, groupKey), eq(notices.state, "firing")))
    .get();
}

/** The latest message of a group, open or not. */
export async function findLastNotice(books: NoticesBooks, groupKey: string): Promise<Notice | undefined> {
  return tablesOf(books)
    .select()
    .from(notices)
    .where(eq(notices.groupKey, groupKey))
    .orderBy(desc(notices.updatedAtMs))
    .get();
}

/** Messages of one key that are read at most. */
const MOST_ABOUT = 50;

/** Messages since an instant that name any of these words as a whole, the newest first: "ci" is not named by
 *  "social". */
export async function readNoticesAbout(
  books: NoticesBooks,
  words: readonly string[],
  sinceMs: number,
): Promise<Notice[]> {
  const named = words.map((word) => sql`(instr(${notices.text}, ${word}) > 0 OR instr(${notices.body}, ${word}) > 0)`);
  const patterns = words.map(
    (word) => new RegExp(`(?<![\\p{L}\\p{N}_-])${escapePattern(word)}(?![\\p{L}\\p{N}_-])`, "u"),
  );
  const rows = await tablesOf(books)
    .select()
    .from(notices)
    .where(and(gte(notices.postedAtMs, sinceMs), or(...named)))
    .orderBy(desc(notices.postedAtMs))
    .all();
  return rows
    .filter((one) => patterns.some((pattern) => pattern.test(one.text) || pattern.test(one.body)))
    .slice(0, MOST_ABOUT);
}

function escapePattern(word: string): string {
  return word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

export async function readOpenNotices(books: NoticesBooks): Promise<Notice[]> {
  return tablesOf(books).select().from(notices).where(eq(notices.state, "firing")).orderBy(notices.id).all();
}

export type Said = Pick<Notice, "channel" | "ts" | "state" | "text" | "severity" | "body"> & {
  readonly figureNanoUsd: NanoUsd | undefined;
};

/** Books that a row was said: the message is noted, what follows it in its thread is queued and the row leaves the
 *  outbox, all or nothing. `notice`: the message that was updated; undefined for a new one. `composedAtMs`: as of when
 *  it speaks. */
export async function noteSaid(
  books: NoticesBooks,
  row: Outgoing,
  notice: Notice | undefined,
  { figureNanoUsd, ...said }: Said,
  follow: readonly { readonly kind: "reply" | "picture"; readonly payload: string }[],
  composedAtMs: number,
  atMs: number,
): Promise<void> {
  const values = { ...said, figureNanoUsd: figureNanoUsd ?? null, updatedAtMs: atMs };
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    if (notice) await tables.update(notices).set(values).where(eq(notices.id, notice.id)).run();
    else
      await tables
        .insert(notices)
        .values({ groupKey: row.groupKey, ...values, postedAtMs: atMs })
        .run();
    for (const one of follow) await enqueue(own, { ...one, groupKey: row.groupKey }, atMs);
    if (said.state === "resolved") {
      await tables
        .delete(deliveries)
        .where(and(eq(deliveries.groupKey, row.groupKey), lt(deliveries.receivedAtMs, composedAtMs)))
        .run();
      await tables.delete(mutes).where(eq(mutes.groupKey, row.groupKey)).run();
    }
    await tables.delete(outbox).where(eq(outbox.id, row.id)).run();
    // What came while this was on its way has not been said.
    const newer = and(eq(deliveries.groupKey, row.groupKey), gte(deliveries.receivedAtMs, composedAtMs));
    if (row.kind === "group" && (await tables.select().from(deliveries).where(newer).get()))
      await enqueue(own, { kind: "group", groupKey: row.groupKey, payload: "{}" }, atMs);
  });
}

/** Books a message that stands in Slack and was not known: it was sent, and its answer got lost. */
export async function noteFound(
  books: NoticesBooks,
  { id, groupKey }: Outgoing,
  where: Pick<Notice, "channel" | "ts">,
  picture: string,
  atMs: number,
): Promise<Notice> {
  const found = { groupKey, ...where, state: "firing", text: "", postedAtMs: atMs, updatedAtMs: atMs } as const;
  return books.transaction(async (own) => {
    const tables = tablesOf(own);
    const notice = await tables.insert(notices).values(found).returning().get();
    await enqueue(own, { kind: "picture", groupKey, payload: picture }, atMs);
    await tables.update(outbox).set({ sendingSinceMs: null }).where(eq(outbox.id, id)).run();
    return notice;
  });
}

/** Lets go of a row that needs no message, or whose message stands already. `overAtMs`: its group was over by then, and
 *  what was said of it before goes too; what came since has not been said yet. */
export async function dropOutgoing(books: NoticesBooks, { id, groupKey }: Outgoing, overAtMs?: number): Promise<void> {
  const ofGroup = eq(deliveries.groupKey, groupKey);
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    await tables.delete(outbox).where(eq(outbox.id, id)).run();
    if (overAtMs === undefined) return;
    await tables
      .delete(deliveries)
      .where(and(ofGroup, lt(deliveries.receivedAtMs, overAtMs)))
      .run();
    if (await tables.select().from(deliveries).where(ofGroup).get())
      await enqueue(own, { kind: "group", groupKey, payload: "{}" }, overAtMs);
  });
}

/** Takes back what a source said of one group. */
export async function dropWord(books: NoticesBooks, groupKey: string, source: string, atMs: number): Promise<void> {
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    await tables
      .delete(deliveries)
      .where(and(eq(deliveries.groupKey, groupKey), eq(deliveries.source, source)))
      .run();
    await enqueue(own, { kind: "group", groupKey, payload: "{}" }, atMs);
  });
}

/** All that a source says now. */
export async function readWords(books: NoticesBooks, source: string): Promise<Delivery[]> {
  return tablesOf(books)
    .select()
    .from(deliveries)
    .where(eq(deliveries.source, source))
    .orderBy(deliveries.groupKey)
    .all();
}

/** Takes back what a source said of every group: it speaks no more. */
export async function dropSource(books: NoticesBooks, source: string, atMs: number): Promise<void> {
  for (const { groupKey } of await readWords(books, source)) await dropWord(books, groupKey, source, atMs);
}

export async function keepMute(books: NoticesBooks, mute: Mute): Promise<void> {
  await books.transaction(async (own) => {
    await tablesOf(own).insert(mutes).values(mute).onConflictDoUpdate({ target: mutes.groupKey, set: mute }).run();
  });
}

/** Who has acknowledged a group, while that lasts. */
export async function findMute(books: NoticesBooks, groupKey: string, atMs: number): Promise<Mute | undefined> {
  return tablesOf(books)
    .select()
    .from(mutes)
    .where(and(eq(mutes.groupKey, groupKey), gt(mutes.untilMs, atMs)))
    .get();
}

/** A group that waits keeps its place, its nonce, and what is known of its sending; it is tried at once. */
async function enqueue(
  books: NoticesBooks,
  row: Pick<Outgoing, "kind" | "groupKey" | "payload">,
  atMs: number,
): Promise<void> {
  const tables = tablesOf(books);
  if (row.kind === "group") {
    const waiting = and(eq(outbox.groupKey, row.groupKey), eq(outbox.kind, "group"));
    if (await tables.select().from(outbox).where(waiting).get()) return;
  }
  await tables
    .insert(outbox)
    .values({ ...row, nonce: randomUUID(), receivedAtMs: atMs })
    .run();
}
