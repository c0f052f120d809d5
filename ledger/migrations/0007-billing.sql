-- Forecasts by user, and what is planned of one: which scopes there are is the program's to know.
DROP TRIGGER forecasts_fixed;
ALTER TABLE forecasts RENAME TO old_forecasts;
DROP INDEX forecasts_end;
CREATE TABLE forecasts (
  scope TEXT NOT NULL CHECK (length(scope) > 0),
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
INSERT INTO forecasts SELECT * FROM old_forecasts;
DROP TABLE old_forecasts;
CREATE INDEX forecasts_end ON forecasts (end_ms);
CREATE TRIGGER forecasts_fixed BEFORE UPDATE ON forecasts BEGIN SELECT RAISE(ABORT, 'a forecast is frozen'); END;

ALTER TABLE planned_events RENAME TO old_planned_events;
CREATE TABLE planned_events (
  id TEXT PRIMARY KEY,
  scope TEXT NOT NULL CHECK (length(scope) > 0),
  scope_id TEXT NOT NULL,
  from_ms INTEGER NOT NULL,
  to_ms INTEGER NOT NULL CHECK (to_ms > from_ms),
  factor REAL NOT NULL CHECK (factor > 0),
  why TEXT NOT NULL,
  made_by TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  removed_at_ms INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO planned_events SELECT * FROM old_planned_events;
DROP TABLE old_planned_events;
