-- usage.db: the books of the proxy, its only writer. Money is nano-USD, instants are UTC milliseconds.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('virtual', 'fingerprint')),
  provider TEXT,
  name TEXT NOT NULL,
  team TEXT NOT NULL DEFAULT '',
  project TEXT NOT NULL DEFAULT '',
  env TEXT NOT NULL DEFAULT '',
  owner TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'revoked')),
  hint TEXT NOT NULL DEFAULT '',
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE key_secrets (
  digest TEXT PRIMARY KEY,
  key_id TEXT NOT NULL REFERENCES keys (id),
  created_at_ms INTEGER NOT NULL,
  valid_until_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE budgets (
  id TEXT PRIMARY KEY,
  team TEXT, project TEXT, env TEXT, key_id TEXT, provider TEXT, model TEXT,
  window TEXT NOT NULL CHECK (window IN ('hour', 'day', 'week', 'month', 'quarter', 'total')),
  amount_nano_usd INTEGER NOT NULL CHECK (amount_nano_usd >= 0),
  kind TEXT NOT NULL CHECK (kind IN ('soft', 'hard')),
  mode TEXT NOT NULL CHECK (mode IN ('strict', 'expected')),
  created_at_ms INTEGER NOT NULL,
  removed_at_ms INTEGER
) STRICT, WITHOUT ROWID;

-- Open reservations only: a row leaves in the transaction that brings its event.
CREATE TABLE reservations (
  attempt_id INTEGER PRIMARY KEY,
  key_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  team TEXT NOT NULL,
  project TEXT NOT NULL,
  env TEXT NOT NULL,
  tags TEXT,
  bound_nano_usd INTEGER CHECK (bound_nano_usd >= 0),
  expected_nano_usd INTEGER CHECK (expected_nano_usd >= 0)
) STRICT;

CREATE TABLE events (
  attempt_id INTEGER PRIMARY KEY,
  key_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  served_model TEXT,
  tier TEXT,
  team TEXT NOT NULL,
  project TEXT NOT NULL,
  env TEXT NOT NULL,
  tags TEXT,
  input INTEGER CHECK (input >= 0),
  cache_read INTEGER CHECK (cache_read >= 0),
  cache_write_5m INTEGER CHECK (cache_write_5m >= 0),
  cache_write_1h INTEGER CHECK (cache_write_1h >= 0),
  output INTEGER CHECK (output >= 0),
  other_usage TEXT,
  reasoning INTEGER CHECK (reasoning >= 0),
  usage_state TEXT NOT NULL CHECK (usage_state IN ('reported', 'estimated', 'unknown')),
  cost_nano_usd INTEGER CHECK (cost_nano_usd >= 0),
  cost_lines TEXT,
  price_version TEXT,
  price_confidence TEXT CHECK (price_confidence IN ('exact', 'inferred', 'unpriced')),
  outcome TEXT NOT NULL,
  http_status INTEGER,
  duration_ms INTEGER,
  first_byte_ms INTEGER,
  provider_request_id TEXT,
  response_id TEXT,
  raw_usage TEXT,
  at_ms INTEGER GENERATED ALWAYS AS (attempt_id / 4096 + 1577836800000) VIRTUAL
) STRICT;

CREATE TRIGGER events_keep BEFORE DELETE ON events
  WHEN OLD.attempt_id >= COALESCE((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'events_kept_from'), 0)
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
-- Everything but the raw usage, which retention empties, is written once.
CREATE TRIGGER events_fixed BEFORE UPDATE OF attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team,
  project, env, tags, input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state,
  cost_nano_usd, cost_lines, price_version, price_confidence, outcome, http_status, duration_ms, first_byte_ms,
  provider_request_id, response_id ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;

-- Sums by served model, with the name that was asked for beside it: a budget may name either. Kept in the transaction of each event: UTC hours for bills, local days of the configured zone for people.
CREATE TABLE rollup_hour (
  hour_ms INTEGER NOT NULL,
  key_id TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, requested_model TEXT NOT NULL,
  team TEXT NOT NULL, project TEXT NOT NULL, env TEXT NOT NULL,
  requests INTEGER NOT NULL, cost_nano_usd INTEGER NOT NULL,
  input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, output INTEGER NOT NULL,
  estimated INTEGER NOT NULL, unknown INTEGER NOT NULL, unpriced INTEGER NOT NULL, inferred INTEGER NOT NULL,
  PRIMARY KEY (hour_ms, key_id, provider, model, requested_model, team, project, env)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_day (
  day TEXT NOT NULL,
  key_id TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, requested_model TEXT NOT NULL,
  team TEXT NOT NULL, project TEXT NOT NULL, env TEXT NOT NULL,
  requests INTEGER NOT NULL, cost_nano_usd INTEGER NOT NULL,
  input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, output INTEGER NOT NULL,
  estimated INTEGER NOT NULL, unknown INTEGER NOT NULL, unpriced INTEGER NOT NULL, inferred INTEGER NOT NULL,
  PRIMARY KEY (day, key_id, provider, model, requested_model, team, project, env)
) STRICT, WITHOUT ROWID;

-- Hours in which the meter ran: an hour without spend is zero if it is here, and missing if it is not.
CREATE TABLE meter_hours (hour_ms INTEGER PRIMARY KEY) STRICT;

-- Refused requests: counts, never a row each.
CREATE TABLE refused (
  minute_ms INTEGER NOT NULL,
  key_id TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, budget_id TEXT NOT NULL,
  observed INTEGER NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (minute_ms, key_id, model, reason, budget_id, observed)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_keep BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_fixed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
