// The tables of notices.db as drizzle sees them, for reading. The SQL in migrations/ is what makes them (STRICT,
// triggers, generated columns: more than drizzle can say); a test holds the two together, column by column.
import { sql, sqliteTable, text } from "../drizzle.ts";
import { count, nanoUsd } from "../columns.ts";

/** SQLite numbers the rows itself. */
const numbered = () =>
  count()
    .primaryKey()
    .default(sql`NULL`);

export const deliveries = sqliteTable("deliveries", {
  groupKey: text("group_key").notNull(),
  source: text().notNull(),
  payload: text().notNull(),
  receivedAtMs: count("received_at_ms").notNull(),
});

export const outbox = sqliteTable("outbox", {
  id: numbered(),
  kind: text({ enum: ["group", "reply", "picture", "digest"] }).notNull(),
  groupKey: text("group_key").notNull(),
  nonce: text().notNull(),
  payload: text().notNull(),
  receivedAtMs: count("received_at_ms").notNull(),
  nextAtMs: count("next_at_ms").notNull().default(0),
  attempts: count().notNull().default(0),
  sendingSinceMs: count("sending_since_ms"),
  lastError: text("last_error"),
});

export const notices = sqliteTable("notices", {
  id: numbered(),
  groupKey: text("group_key").notNull(),
  channel: text().notNull(),
  ts: text().notNull(),
  state: text({ enum: ["firing", "resolved"] }).notNull(),
  text: text().notNull(),
  postedAtMs: count("posted_at_ms").notNull(),
  updatedAtMs: count("updated_at_ms").notNull(),
  severity: text().notNull().default(""),
  figureNanoUsd: nanoUsd("figure_nano_usd"),
  body: text().notNull().default(""),
});

export const mutes = sqliteTable("mutes", {
  groupKey: text("group_key").primaryKey(),
  untilMs: count("until_ms").notNull(),
  mutedBy: text("muted_by").notNull(),
  mutedAtMs: count("muted_at_ms").notNull(),
  silence: text(),
});
