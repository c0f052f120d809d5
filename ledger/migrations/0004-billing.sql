-- Where running windows land: what is still to come in each, as of the start of an hour, made anew every hour. Forecasts, which are frozen at a
-- window's start, stay as they are: alerts and the track record go by them.
CREATE TABLE landings (
  scope TEXT NOT NULL CHECK (length(scope) > 0),
  scope_id TEXT NOT NULL,
  window TEXT NOT NULL CHECK (length(window) > 0),
  window_id TEXT NOT NULL,
  start_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL CHECK (end_ms > start_ms),
  made_at_ms INTEGER NOT NULL,
  method TEXT NOT NULL,
  history_hours INTEGER NOT NULL,
  p10_nano_usd INTEGER NOT NULL,
  p50_nano_usd INTEGER NOT NULL,
  p90_nano_usd INTEGER NOT NULL,
  largest_hour_nano_usd INTEGER NOT NULL,
  hours TEXT NOT NULL,
  PRIMARY KEY (scope, scope_id, window)
) STRICT, WITHOUT ROWID;
