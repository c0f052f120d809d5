// Notices: what was delivered to us and what was said in Slack, so that an outage loses nothing and a restart repeats
// nothing. notices.db; the alerts program is its only writer.
import { and, asc, drizzle, eq } from "./drizzle.ts";
import type { Sqlite } from "./open.ts";
import { notices, outbox } from "./schema.ts";

export type Delivery = {
  readonly id: number;
  readonly groupKey: string;
  readonly receivedAtMs: number;
  readonly payload: string;
  readonly attempts: number;
};
export type Notice = typeof notices.$inferSelect;

/** Keeps what Alertmanager delivered. A newer delivery of a group takes the place of one that waits: only the latest
 *  state is worth saying. */
export async function keepDelivery(database: Sqlite, groupKey: string, payload: string, atMs: number): Promise<void> {
  const books = drizzle(database);
  database
    .transaction(() => {
      books.delete(outbox).where(eq(outbox.groupKey, groupKey)).run();
      books.insert(outbox).values({ groupKey, payload, receivedAtMs: atMs, attempts: 0 }).run();
    })
    .immediate();
}

/** Deliveries that wait, oldest first. */
export async function readDeliveries(database: Sqlite): Promise<Delivery[]> {
  return drizzle(database).select().from(outbox).orderBy(asc(outbox.id)).all();
}

export async function noteFailure(database: Sqlite, id: number, error: string): Promise<void> {
  database.prepare("UPDATE outbox SET attempts = attempts + 1, last_error = ? WHERE id = ?").run(error, id);
}

/** The message that stands in Slack for a group that fires, or undefined. */
export async function findOpenNotice(database: Sqlite, groupKey: string): Promise<Notice | undefined> {
  return drizzle(database)
    .select()
    .from(notices)
    .where(and(eq(notices.groupKey, groupKey), eq(notices.state, "firing")))
    .get();
}

/** Books that a delivery was said: the message is noted and the delivery leaves the outbox, both or neither. */
export async function noteSaid(
  database: Sqlite,
  delivery: Delivery,
  said: { readonly channel: string; readonly ts: string; readonly state: Notice["state"]; readonly text: string },
  atMs: number,
): Promise<void> {
  const books = drizzle(database);
  database
    .transaction(() => {
      const open = books
        .select()
        .from(notices)
        .where(and(eq(notices.groupKey, delivery.groupKey), eq(notices.state, "firing")))
        .get();
      if (open)
        books
          .update(notices)
          .set({ state: said.state, text: said.text, updatedAtMs: atMs })
          .where(eq(notices.id, open.id))
          .run();
      else
        books
          .insert(notices)
          .values({ groupKey: delivery.groupKey, ...said, postedAtMs: atMs, updatedAtMs: atMs })
          .run();
      books.delete(outbox).where(eq(outbox.id, delivery.id)).run();
    })
    .immediate();
}

/** Lets go of a delivery that needs no message: a group that resolved before it was ever said. */
export async function dropDelivery(database: Sqlite, id: number): Promise<void> {
  drizzle(database).delete(outbox).where(eq(outbox.id, id)).run();
}
