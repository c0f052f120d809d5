-- billing.db: what the providers bill, and what we expected. Written by the collector alone. Days are UTC days.

CREATE TABLE billed_lines (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  line INTEGER NOT NULL,
  billed_key TEXT, project TEXT, line_item TEXT,
  amount_nano_usd INTEGER NOT NULL,
  quantity TEXT, unit TEXT,
  raw TEXT NOT NULL,
  PRIMARY KEY (provider, day, line)
) STRICT, WITHOUT ROWID;

CREATE TABLE imports (
  provider TEXT PRIMARY KEY,
  last_success_ms INTEGER,
  last_attempt_ms INTEGER NOT NULL,
  last_error TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE variances (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  model TEXT NOT NULL,
  metered_nano_usd INTEGER NOT NULL,
  billed_nano_usd INTEGER NOT NULL,
  cause TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  PRIMARY KEY (provider, day, model)
) STRICT, WITHOUT ROWID;

-- Frozen: a forecast that learns from the day it is held against hides what it should show.
CREATE TABLE forecasts (
  scope TEXT NOT NULL CHECK (scope IN ('org', 'team', 'key')),
  scope_id TEXT NOT NULL,
  window_id TEXT NOT NULL,
  window TEXT NOT NULL CHECK (window IN ('day', 'month')),
  start_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL,
  made_at_ms INTEGER NOT NULL,
  method TEXT NOT NULL,
  history_hours INTEGER NOT NULL,
  p10_nano_usd INTEGER NOT NULL, p50_nano_usd INTEGER NOT NULL, p90_nano_usd INTEGER NOT NULL,
  -- The hours of the window, their shares of p50, as a JSON array of nano-USD.
  hours TEXT NOT NULL,
  PRIMARY KEY (scope, scope_id, window_id)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER forecasts_fixed BEFORE UPDATE ON forecasts BEGIN SELECT RAISE(ABORT, 'a forecast is frozen'); END;
