// The tables of billing.db as drizzle sees them, for reading. The SQL in migrations/ is what makes them (STRICT,
// triggers, generated columns: more than drizzle can say); a test holds the two together, column by column.
import { real, sqliteTable, text } from "../drizzle.ts";
import { count, flag, nanoUsd } from "../columns.ts";

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
  user: text("person").notNull().default(""),
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
export const FORECAST_SCOPES = ["org", "team", "project", "env", "user", "key", "provider", "model"] as const;
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

export const ROTATION_STATES = [
  "planned",
  "stored",
  "verified",
  "switched",
  "draining",
  "disabled",
  "by_hand",
  "revoking",
  "going_back",
  "returning",
  "revoked",
  "back",
  "failed",
] as const;

export const rotations = sqliteTable("rotations", {
  id: text().primaryKey(),
  place: text().notNull(),
  state: text({ enum: ROTATION_STATES }).notNull(),
  enteredAtMs: count("entered_at_ms").notNull(),
  startedAtMs: count("started_at_ms").notNull(),
  startedBy: text("started_by").notNull(),
  why: text().notNull(),
  isLeaked: flag("is_leaked").notNull(),
  oldCredential: text("old_credential"),
  oldKeyId: text("old_key_id"),
  newCredential: text("new_credential"),
  newKeyId: text("new_key_id"),
  newHint: text("new_hint"),
  newPrint: text("new_print"),
  keysBefore: text("keys_before"),
  waitsFor: text("waits_for"),
  isTrouble: flag("is_trouble").notNull(),
});

export const rotationSteps = sqliteTable("rotation_steps", {
  rotationId: text("rotation_id").notNull(),
  step: count().notNull(),
  atMs: count("at_ms").notNull(),
  state: text({ enum: ROTATION_STATES }).notNull(),
  said: text().notNull(),
  isAudited: flag("is_audited").notNull(),
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

export const telemetry = sqliteTable("telemetry", {
  name: text().primaryKey(),
  number: count().notNull(),
  position: count().notNull(),
  sinceMs: count("since_ms").notNull(),
  state: text(),
});
