// The tables as drizzle sees them, for reading. The SQL in migrations/ is what makes them (STRICT, triggers, generated
// columns: more than drizzle can say); a test holds the two together, column by column.
import { customType, real, sql, sqliteTable, text } from "./drizzle.ts";
import type { NanoUsd } from "./money.ts";

/** INTEGER <-> bigint. Needs a connection with safe integers. */
const nanoUsd = customType<{ data: NanoUsd; driverData: bigint | number }>({
  dataType: () => "integer",
  fromDriver: (value) => BigInt(value),
  toDriver: (value) => value,
});
/** Counts and instants, which safe integers bring as bigint too. */
const count = customType<{ data: number; driverData: bigint | number }>({
  dataType: () => "integer",
  fromDriver: Number,
  toDriver: (value) => value,
});

export const keys = sqliteTable("keys", {
  id: text().primaryKey(),
  kind: text({ enum: ["virtual", "fingerprint"] }).notNull(),
  provider: text(),
  name: text().notNull(),
  team: text().notNull(),
  project: text().notNull(),
  env: text().notNull(),
  owner: text().notNull(),
  state: text({ enum: ["active", "paused", "revoked"] }).notNull(),
  hint: text().notNull(),
  createdAtMs: count("created_at_ms").notNull(),
  expiresAtMs: count("expires_at_ms"),
  purpose: text().notNull().default(""),
  policy: text(),
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
  keyId: text("key_id"),
  provider: text(),
  model: text(),
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
});

export const raises = sqliteTable("raises", {
  id: text().primaryKey(),
  budgetId: text("budget_id").notNull(),
  amountNanoUsd: nanoUsd("amount_nano_usd").notNull(),
  reason: text().notNull(),
  createdAtMs: count("created_at_ms").notNull(),
  untilMs: count("until_ms").notNull(),
  endedAtMs: count("ended_at_ms"),
});

export const limits = sqliteTable("limits", {
  scope: text().primaryKey(),
  requestsPerMinute: count("requests_per_minute"),
  tokensPerMinute: count("tokens_per_minute"),
  concurrent: count(),
  bodyBytes: count("body_bytes"),
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
  tags: text(),
  boundNanoUsd: nanoUsd("bound_nano_usd"),
  expectedNanoUsd: nanoUsd("expected_nano_usd"),
  mostNanoUsd: nanoUsd("most_nano_usd"),
  workId: text("work_id"),
  tiers: text(),
});

export const work = sqliteTable("work", {
  provider: text().notNull(),
  workId: text("work_id").notNull(),
  keyId: text("key_id").notNull(),
  attemptId: count("attempt_id").notNull(),
});

export const events = sqliteTable("events", {
  attemptId: count("attempt_id").primaryKey(),
  keyId: text("key_id").notNull(),
  provider: text().notNull(),
  endpoint: text().notNull(),
  requestedModel: text("requested_model").notNull(),
  servedModel: text("served_model"),
  tier: text(),
  team: text().notNull(),
  project: text().notNull(),
  env: text().notNull(),
  tags: text(),
  input: count(),
  cacheRead: count("cache_read"),
  cacheWrite5m: count("cache_write_5m"),
  cacheWrite1h: count("cache_write_1h"),
  output: count(),
  otherUsage: text("other_usage"),
  reasoning: count(),
  usageState: text("usage_state", { enum: ["reported", "estimated", "unknown"] }).notNull(),
  costNanoUsd: nanoUsd("cost_nano_usd"),
  costLines: text("cost_lines"),
  priceVersion: text("price_version"),
  priceConfidence: text("price_confidence", { enum: ["exact", "inferred", "unpriced"] }),
  outcome: text().notNull(),
  httpStatus: count("http_status"),
  durationMs: count("duration_ms"),
  firstByteMs: count("first_byte_ms"),
  providerRequestId: text("provider_request_id"),
  responseId: text("response_id"),
  rawUsage: text("raw_usage"),
  statedCostNanoUsd: nanoUsd("stated_cost_nano_usd"),
  usageReason: text("usage_reason"),
  atMs: count("at_ms").notNull(),
});

const sums = {
  keyId: text("key_id").notNull(),
  provider: text().notNull(),
  model: text().notNull(),
  requestedModel: text("requested_model").notNull(),
  team: text().notNull(),
  project: text().notNull(),
  env: text().notNull(),
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

export const billDays = sqliteTable("bill_days", {
  provider: text().notNull(),
  day: text().notNull(),
  source: text().notNull(),
  asOfMs: count("as_of_ms").notNull(),
  digest: text().notNull(),
  lines: count().notNull(),
  amountNanoUsd: nanoUsd("amount_nano_usd").notNull(),
  readAtMs: count("read_at_ms").notNull(),
  changedAtMs: count("changed_at_ms").notNull(),
});

export const billedLines = sqliteTable("billed_lines", {
  provider: text().notNull(),
  day: text().notNull(),
  line: count().notNull(),
  kind: text({ enum: ["usage", "fee", "credit", "tax", "adjustment", "rounding"] }).notNull(),
  billedKey: text("billed_key"),
  project: text(),
  model: text(),
  tier: text(),
  unit: text(),
  lineItem: text("line_item"),
  amountNanoUsd: nanoUsd("amount_nano_usd").notNull(),
  listNanoUsd: nanoUsd("list_nano_usd"),
  quantity: count(),
  resolutionNanoUsd: nanoUsd("resolution_nano_usd").notNull(),
  raw: text().notNull(),
});

export const billedUsage = sqliteTable("billed_usage", {
  provider: text().notNull(),
  hourMs: count("hour_ms").notNull(),
  line: count().notNull(),
  billedKey: text("billed_key"),
  project: text(),
  model: text(),
  tier: text(),
  unit: text().notNull(),
  quantity: count().notNull(),
});

export const imports = sqliteTable("imports", {
  provider: text().primaryKey(),
  lastSuccessMs: count("last_success_ms"),
  lastAttemptMs: count("last_attempt_ms").notNull(),
  lastError: text("last_error"),
  note: text(),
});

export const usageReads = sqliteTable("usage_reads", {
  provider: text().primaryKey(),
  asOfMs: count("as_of_ms"),
  readAtMs: count("read_at_ms").notNull(),
  error: text(),
});

export const providerKeys = sqliteTable("provider_keys", {
  provider: text().notNull(),
  billedKey: text("billed_key").notNull(),
  name: text().notNull(),
  project: text(),
  hint: text().notNull(),
  state: text().notNull(),
  seenAtMs: count("seen_at_ms").notNull(),
});

export const meteredDays = sqliteTable("metered_days", {
  provider: text().notNull(),
  day: text().notNull(),
  mark: text().notNull(),
  foldedAtMs: count("folded_at_ms").notNull(),
});

export const meteredLines = sqliteTable("metered_lines", {
  provider: text().notNull(),
  day: text().notNull(),
  line: count().notNull(),
  keyId: text("key_id").notNull(),
  credential: text().notNull(),
  team: text().notNull(),
  project: text().notNull(),
  env: text().notNull(),
  feature: text().notNull(),
  model: text().notNull(),
  tier: text().notNull(),
  unit: text().notNull(),
  state: text({ enum: ["reported", "estimated", "unknown"] }).notNull(),
  correction: text({ enum: ["", "reprice", "bill"] }).notNull(),
  pricePicoUsd: nanoUsd("price_pico_usd"),
  multiplier: text(),
  priceVersion: text("price_version"),
  quantity: count().notNull(),
  costNanoUsd: nanoUsd("cost_nano_usd").notNull(),
  events: count().notNull(),
});

export const comparisons = sqliteTable("comparisons", {
  provider: text().notNull(),
  day: text().notNull(),
  line: count().notNull(),
  kind: text({ enum: ["fee", "credit", "tax", "adjustment", "rounding"] }),
  key: text(),
  model: text(),
  tier: text(),
  unit: text(),
  meteredQuantity: count("metered_quantity"),
  billedQuantity: count("billed_quantity"),
  meteredNanoUsd: nanoUsd("metered_nano_usd").notNull(),
  billedNanoUsd: nanoUsd("billed_nano_usd").notNull(),
});

export const variances = sqliteTable("variances", {
  provider: text().notNull(),
  day: text().notNull(),
  line: count().notNull(),
  cause: text().notNull(),
  amountNanoUsd: nanoUsd("amount_nano_usd").notNull(),
  quantity: count(),
  detail: text().notNull(),
});

export const closedDays = sqliteTable("closed_days", {
  provider: text().notNull(),
  day: text().notNull(),
  meteredNanoUsd: nanoUsd("metered_nano_usd").notNull(),
  billedNanoUsd: nanoUsd("billed_nano_usd").notNull(),
  billDigest: text("bill_digest").notNull(),
  closedAtMs: count("closed_at_ms").notNull(),
  closedBy: text("closed_by").notNull(),
});

export const corrections = sqliteTable("corrections", {
  provider: text().notNull(),
  day: text().notNull(),
  seq: count().notNull(),
  madeAtMs: count("made_at_ms").notNull(),
  billedNanoUsd: nanoUsd("billed_nano_usd").notNull(),
  meteredNanoUsd: nanoUsd("metered_nano_usd").notNull(),
  billDigest: text("bill_digest").notNull(),
});

export const leaks = sqliteTable("leaks", {
  provider: text().notNull(),
  billedKey: text("billed_key").notNull(),
  kind: text({ enum: ["unknown_key", "beyond_metered"] }).notNull(),
  firstHourMs: count("first_hour_ms").notNull(),
  lastHourMs: count("last_hour_ms").notNull(),
  foundAtMs: count("found_at_ms").notNull(),
  seenAtMs: count("seen_at_ms").notNull(),
  quantity: count().notNull(),
  unit: text().notNull(),
  costNanoUsd: nanoUsd("cost_nano_usd"),
  models: text().notNull(),
  dismissedUntilMs: count("dismissed_until_ms"),
  dismissedWhy: text("dismissed_why"),
});

/** What a forecast is about, from the whole to the part, and for how long. */
export const FORECAST_SCOPES = ["org", "team", "project", "env", "key", "provider", "model"] as const;
export const FORECAST_WINDOWS = ["hour", "day", "week", "month"] as const;

export const forecasts = sqliteTable("forecasts", {
  scope: text({ enum: FORECAST_SCOPES }).notNull(),
  scopeId: text("scope_id").notNull(),
  windowId: text("window_id").notNull(),
  window: text({ enum: FORECAST_WINDOWS }).notNull(),
  startMs: count("start_ms").notNull(),
  endMs: count("end_ms").notNull(),
  madeAtMs: count("made_at_ms").notNull(),
  method: text().notNull(),
  historyHours: count("history_hours").notNull(),
  p10NanoUsd: nanoUsd("p10_nano_usd").notNull(),
  p50NanoUsd: nanoUsd("p50_nano_usd").notNull(),
  p90NanoUsd: nanoUsd("p90_nano_usd").notNull(),
  largestHourNanoUsd: nanoUsd("largest_hour_nano_usd").notNull(),
  hours: text().notNull(),
});

/** What is to come in a running window, from `start_ms` on. */
export const landings = sqliteTable("landings", {
  scope: text({ enum: FORECAST_SCOPES }).notNull(),
  scopeId: text("scope_id").notNull(),
  windowId: text("window_id").notNull(),
  window: text({ enum: FORECAST_WINDOWS }).notNull(),
  startMs: count("start_ms").notNull(),
  endMs: count("end_ms").notNull(),
  madeAtMs: count("made_at_ms").notNull(),
  method: text().notNull(),
  historyHours: count("history_hours").notNull(),
  p10NanoUsd: nanoUsd("p10_nano_usd").notNull(),
  p50NanoUsd: nanoUsd("p50_nano_usd").notNull(),
  p90NanoUsd: nanoUsd("p90_nano_usd").notNull(),
  largestHourNanoUsd: nanoUsd("largest_hour_nano_usd").notNull(),
  hours: text().notNull(),
});

/** What was spent before the meter began, as bills say it. */
export const billedHours = sqliteTable("billed_hours", {
  provider: text().notNull(),
  hourMs: count("hour_ms").notNull(),
  billedKey: text("billed_key").notNull(),
  model: text().notNull(),
  costNanoUsd: nanoUsd("cost_nano_usd").notNull(),
});

export const plannedEvents = sqliteTable("planned_events", {
  id: text().primaryKey(),
  scope: text({ enum: FORECAST_SCOPES }).notNull(),
  scopeId: text("scope_id").notNull(),
  fromMs: count("from_ms").notNull(),
  toMs: count("to_ms").notNull(),
  factor: real().notNull(),
  why: text().notNull(),
  madeBy: text("made_by").notNull(),
  madeAtMs: count("made_at_ms").notNull(),
  removedAtMs: count("removed_at_ms"),
});

export const forecastScores = sqliteTable("forecast_scores", {
  scope: text({ enum: FORECAST_SCOPES }).notNull(),
  scopeId: text("scope_id").notNull(),
  windowId: text("window_id").notNull(),
  window: text({ enum: FORECAST_WINDOWS }).notNull(),
  endMs: count("end_ms").notNull(),
  p10NanoUsd: nanoUsd("p10_nano_usd").notNull(),
  p50NanoUsd: nanoUsd("p50_nano_usd").notNull(),
  p90NanoUsd: nanoUsd("p90_nano_usd").notNull(),
  actualNanoUsd: nanoUsd("actual_nano_usd").notNull(),
  scoredAtMs: count("scored_at_ms").notNull(),
});

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
