-- billing.db, schema 1, as commits 4bbb522 to d8cdde3 made it.
PRAGMA foreign_keys = OFF;
BEGIN;
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
INSERT INTO billed_lines (provider, day, line, billed_key, project, line_item, amount_nano_usd, quantity, unit, raw) VALUES
  ('openai', '2025-05-20', 0, 'key_abc', 'proj_1', 'gpt-5, input', 1500000, '1000', 'tokens', '{}'),
  ('openai', '2025-05-21', 0, NULL, NULL, 'gpt-5, output', 3000000, NULL, NULL, '{}');
INSERT INTO imports (provider, last_success_ms, last_attempt_ms, last_error) VALUES
  ('openai', 1747900800000, 1747900800000, NULL);
INSERT INTO variances (provider, day, model, metered_nano_usd, billed_nano_usd, cause, made_at_ms) VALUES
  ('openai', '2025-05-20', 'gpt-5', 1400000, 1500000, 'unmetered', 1747900800000);
INSERT INTO forecasts (scope, scope_id, window_id, window, start_ms, end_ms, made_at_ms, method, history_hours, p10_nano_usd, p50_nano_usd, p90_nano_usd, hours) VALUES
  ('org', '', 'day:2025-05-22', 'day', 1747900800000, 1747987200000, 1747900800000, 'seasonal', 48, 1000000, 2000000, 3000000, '[1000000,1000000]');
CREATE TRIGGER forecasts_fixed BEFORE UPDATE ON forecasts BEGIN SELECT RAISE(ABORT, 'a forecast is frozen'); END;
PRAGMA user_version = 1;
COMMIT;
