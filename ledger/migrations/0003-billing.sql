-- Forecasts for every scope that spend is broken down by and every window up to the month, events that were planned, and how good
-- forecasts were.

DROP TRIGGER forecasts_fixed;
ALTER TABLE forecasts RENAME TO old_forecasts;
CREATE TABLE forecasts (
  scope TEXT NOT NULL CHECK (scope IN ('org', 'team', 'project', 'env', 'key', 'provider', 'model')),
  scope_id TEXT NOT NULL,
  window_id TEXT NOT NULL,
  window TEXT NOT NULL CHECK (window IN ('hour', 'day', 'week', 'month')),
  start_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL,
  made_at_ms INTEGER NOT NULL,
  method TEXT NOT NULL,
  history_hours INTEGER NOT NULL,
  p10_nano_usd INTEGER NOT NULL, p50_nano_usd INTEGER NOT NULL, p90_nano_usd INTEGER NOT NULL,
  -- The largest hour of the seven days before it was made.
  largest_hour_nano_usd INTEGER NOT NULL,
  -- The hours of the window, their shares of p50, as a JSON array of nano-USD.
  hours TEXT NOT NULL,
  PRIMARY KEY (scope, scope_id, window_id)
) STRICT, WITHOUT ROWID;
INSERT INTO forecasts SELECT scope, scope_id, window_id, window, start_ms, end_ms, made_at_ms, method, history_hours,
  p10_nano_usd, p50_nano_usd, p90_nano_usd, p90_nano_usd, hours FROM old_forecasts;
DROP TABLE old_forecasts;
CREATE INDEX forecasts_end ON forecasts (end_ms);
CREATE TRIGGER forecasts_fixed BEFORE UPDATE ON forecasts BEGIN SELECT RAISE(ABORT, 'a forecast is frozen'); END;

-- Spend that somebody expects to differ: what would be spent in it is multiplied by the factor. Removed ones stay as they were.
CREATE TABLE planned_events (
  id TEXT PRIMARY KEY,
  scope TEXT NOT NULL CHECK (scope IN ('org', 'team', 'project', 'env', 'key', 'provider', 'model')),
  scope_id TEXT NOT NULL,
  from_ms INTEGER NOT NULL,
  to_ms INTEGER NOT NULL CHECK (to_ms > from_ms),
  factor REAL NOT NULL CHECK (factor > 0),
  why TEXT NOT NULL,
  made_by TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  removed_at_ms INTEGER
) STRICT, WITHOUT ROWID;

-- What came of a frozen forecast, once its window is over. The quantiles are those that counted, planned events included.
CREATE TABLE forecast_scores (
  scope TEXT NOT NULL,
  scope_id TEXT NOT NULL,
  window_id TEXT NOT NULL,
  window TEXT NOT NULL,
  end_ms INTEGER NOT NULL,
  p10_nano_usd INTEGER NOT NULL, p50_nano_usd INTEGER NOT NULL, p90_nano_usd INTEGER NOT NULL,
  actual_nano_usd INTEGER NOT NULL,
  scored_at_ms INTEGER NOT NULL,
  PRIMARY KEY (scope, scope_id, window_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX forecast_scores_end ON forecast_scores (end_ms);
