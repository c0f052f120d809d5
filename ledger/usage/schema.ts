// The tables of usage.db as drizzle sees them, for reading. The SQL in migrations/ is what makes them (STRICT,
// triggers, generated columns: more than drizzle can say); a test holds the two together, column by column.
import { sqliteTable, sqliteView, text } from "../drizzle.ts";
import { count, nanoUsd } from "../columns.ts";

export const keys = sqliteTable("keys", {
  id: text().primaryKey(),
  kind: text({ enum: ["virtual", "fingerprint"] }).notNull(),
  provider: text(),
  name: text().notNull(),
  team: text().notNull(),
  project: text().notNull(),
  env: text().notNull(),
  user: text("person").notNull().default(""),
  /** Of before users: empty since. */
  owner: text().notNull().default(""),
  state: text({ enum: ["active", "paused", "revoked"] }).notNull(),
  hint: text().notNull(),
  createdAtMs: count("created_at_ms").notNull(),
  expiresAtMs: count("expires_at_ms"),
  purpose: text().notNull().default(""),
  policy: text(),
});

/** Who is behind requests. What names a person stands nowhere else. */
export const people = sqliteTable("people", {
  id: text().primaryKey(),
  /** Null: emptied. */
  name: text(),
  /** As it is compared. */
  folded: text(),
  createdAtMs: count("created_at_ms").notNull(),
});

export const keySecrets = sqliteTable("key_secrets", {
  digest: text().primaryKey(),
  keyId: text("key_id").notNull(),
  createdAtMs: count("created_at_ms").notNull(),
  validUntilMs: count("valid_until_ms"),
});

/** What a budget or a freeze is about: each null column means any. */
const scope = () => ({
  team: text(),
  project: text(),
  env: text(),
  user: text("person"),
  keyId: text("key_id"),
  provider: text(),
  model: text(),
  tag: text(),
});

export const budgets = sqliteTable("budgets", {
  id: text().primaryKey(),
  ...scope(),
  window: text({ enum: ["hour", "day", "week", "month", "quarter", "total"] }).notNull(),
  amountNanoUsd: nanoUsd("amount_nano_usd").notNull(),
  kind: text({ enum: ["soft", "hard"] }).notNull(),
  mode: text({ enum: ["strict", "expected"] }).notNull(),
  createdAtMs: count("created_at_ms").notNull(),
  removedAtMs: count("removed_at_ms"),
  observe: count().notNull().default(0),
  thresholds: text(),
  /** Of whom each has the amount: `user`, `key`, `tag:NAME`. Null: the scope has it. */
  each: text("each_of"),
});

export const raises = sqliteTable("raises", {
  id: text().primaryKey(),
  budgetId: text("budget_id").notNull(),
  amountNanoUsd: nanoUsd("amount_nano_usd").notNull(),
  reason: text().notNull(),
  createdAtMs: count("created_at_ms").notNull(),
  untilMs: count("until_ms").notNull(),
  endedAtMs: count("ended_at_ms"),
  /** Of a rule: the one member whom it is for, as it stands in the id of the cap; empty: all of them. */
  member: text().notNull().default(""),
});

export const limits = sqliteTable("limits", {
  scope: text().primaryKey(),
  requestsPerMinute: count("requests_per_minute"),
  tokensPerMinute: count("tokens_per_minute"),
  concurrent: count(),
  bodyBytes: count("body_bytes"),
  seatTokensPer5Hours: count("seat_tokens_per_5_hours"),
  seatTokensPerWeek: count("seat_tokens_per_week"),
});

/** A seat's price by month, from a month on. */
export const seatPrices = sqliteTable("seat_prices", {
  scope: text().notNull(),
  month: text().notNull(),
  priceNanoUsd: nanoUsd("price_nano_usd").notNull(),
});

export const tokens = sqliteTable("tokens", {
  id: text().primaryKey(),
  name: text().notNull(),
  role: text({ enum: ["read", "lead", "finance", "admin"] }).notNull(),
  /** Of a lead; else empty. */
  team: text().notNull().default(""),
  digest: text().notNull(),
  createdAtMs: count("created_at_ms").notNull(),
  expiresAtMs: count("expires_at_ms"),
  revokedAtMs: count("revoked_at_ms"),
});

export const freezes = sqliteTable("freezes", {
  id: text().primaryKey(),
  ...scope(),
  reason: text().notNull(),
  createdAtMs: count("created_at_ms").notNull(),
  liftedAtMs: count("lifted_at_ms"),
});

export const reservations = sqliteTable("reservations", {
  attemptId: count("attempt_id").primaryKey(),
  keyId: text("key_id").notNull(),
  provider: text().notNull(),
  endpoint: text().notNull(),
  requestedModel: text("requested_model").notNull(),
  team: text().notNull(),
  project: text().notNull(),
  env: text().notNull(),
  user: text("person").notNull().default(""),
  payer: text().notNull().default(""),
  seatNanoUsd: nanoUsd("seat_nano_usd"),
  tags: text(),
  boundNanoUsd: nanoUsd("bound_nano_usd"),
  expectedNanoUsd: nanoUsd("expected_nano_usd"),
  mostNanoUsd: nanoUsd("most_nano_usd"),
  workId: text("work_id"),
  tiers: text(),
});

export const things = sqliteTable("things", {
  provider: text().notNull(),
  name: text().notNull(),
  keyId: text("key_id").notNull(),
  attemptId: count("attempt_id").notNull(),
});

export { events } from "./event-columns.ts";

/** Events as readers sum them up: a view. */
export const booked = sqliteView("booked", {
  attemptId: count("attempt_id").notNull(),
  atMs: count("at_ms").notNull(),
  keyId: text("key_id").notNull(),
  provider: text().notNull(),
  endpoint: text().notNull(),
  requestedModel: text("requested_model").notNull(),
  /** The one that answered, as far as the answer says. */
  model: text().notNull(),
  tier: text(),
  team: text().notNull(),
  project: text().notNull(),
  env: text().notNull(),
  user: text("person").notNull(),
  payer: text().notNull(),
  tags: text(),
  input: count().notNull(),
  cacheRead: count("cache_read").notNull(),
  cacheWrite5m: count("cache_write_5m"),
  cacheWrite1h: count("cache_write_1h"),
  /** All of them. */
  cacheWrite: count("cache_write").notNull(),
  output: count().notNull(),
  otherUsage: text("other_usage"),
  usageState: text("usage_state", { enum: ["reported", "estimated", "unknown"] }).notNull(),
  /** As it was metered. */
  costNanoUsd: nanoUsd("cost_nano_usd"),
  costLines: text("cost_lines"),
  priceVersion: text("price_version"),
  priceConfidence: text("price_confidence", { enum: ["exact", "inferred", "unpriced"] }),
  /** With all that adjustments have added; nothing where it is not known. */
  bookedNanoUsd: nanoUsd("booked_nano_usd").notNull(),
  estimated: count().notNull(),
  unknown: count().notNull(),
  unpriced: count().notNull(),
  inferred: count().notNull(),
  outcome: text().notNull(),
  httpStatus: count("http_status"),
  durationMs: count("duration_ms"),
  firstByteMs: count("first_byte_ms"),
  seatNanoUsd: nanoUsd("seat_nano_usd"),
}).existing();

const sums = {
  keyId: text("key_id").notNull(),
  provider: text().notNull(),
  model: text().notNull(),
  requestedModel: text("requested_model").notNull(),
  team: text().notNull(),
  project: text().notNull(),
  env: text().notNull(),
  user: text("person").notNull(),
  payer: text().notNull(),
  requests: count().notNull(),
  costNanoUsd: nanoUsd("cost_nano_usd").notNull(),
  input: count().notNull(),
  cacheRead: count("cache_read").notNull(),
  cacheWrite: count("cache_write").notNull(),
  output: count().notNull(),
  estimated: count().notNull(),
  unknown: count().notNull(),
  unpriced: count().notNull(),
  inferred: count().notNull(),
  seatNanoUsd: nanoUsd("seat_nano_usd").notNull(),
};
export const adjustments = sqliteTable("adjustments", {
  source: text().notNull(),
  sourceId: text("source_id").notNull(),
  attemptId: count("attempt_id").notNull(),
  amountNanoUsd: nanoUsd("amount_nano_usd").notNull(),
  unpriced: count().notNull(),
  inferred: count().notNull(),
  detail: text().notNull(),
  madeAtMs: count("made_at_ms").notNull(),
  auditSeq: count("audit_seq"),
});

export const sealedDays = sqliteTable("sealed_days", {
  firstAttemptId: count("first_attempt_id").primaryKey(),
  auditSeq: count("audit_seq").notNull(),
});

export const servedNames = sqliteTable("served_names", {
  provider: text().notNull(),
  requestedModel: text("requested_model").notNull(),
  servedModel: text("served_model").notNull(),
});

export const credentials = sqliteTable("credentials", {
  provider: text().notNull(),
  sinceMs: count("since_ms").notNull(),
  credential: text().notNull(),
  hint: text().notNull(),
});

export const keyAddresses = sqliteTable("key_addresses", {
  keyId: text("key_id").notNull(),
  address: text().notNull(),
  firstSeenMs: count("first_seen_ms").notNull(),
  lastSeenMs: count("last_seen_ms").notNull(),
});

export const rollupHour = sqliteTable("rollup_hour", { hourMs: count("hour_ms").notNull(), ...sums });
export const rollupDay = sqliteTable("rollup_day", { day: text().notNull(), ...sums });

export const refused = sqliteTable("refused", {
  minuteMs: count("minute_ms").notNull(),
  keyId: text("key_id").notNull(),
  model: text().notNull(),
  reason: text().notNull(),
  budgetId: text("budget_id").notNull(),
  observed: count().notNull(),
  count: count().notNull(),
});

/** In which order events and corrections were committed. */
export const commits = sqliteTable("commits", {
  number: count().notNull(),
  position: count().notNull(),
  attemptId: count("attempt_id").notNull(),
  /** Of a correction; null: the event itself. */
  adjustedNanoUsd: nanoUsd("adjusted_nano_usd"),
});

/** A view of those that no commit to come can go before. */
export const committed = sqliteView("committed", {
  number: count().notNull(),
  position: count().notNull(),
  attemptId: count("attempt_id").notNull(),
  adjustedNanoUsd: nanoUsd("adjusted_nano_usd"),
}).existing();

/** Hours in which the meter ran: in these, no row means no spend. */
export const meterHours = sqliteTable("meter_hours", { hourMs: count("hour_ms").primaryKey() });

export const audit = sqliteTable("audit", {
  seq: count().primaryKey(),
  atMs: count("at_ms").notNull(),
  actor: text().notNull(),
  action: text().notNull(),
  subject: text().notNull(),
  detail: text().notNull(),
  previous: text().notNull(),
  hash: text().notNull(),
});
