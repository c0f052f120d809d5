-- billing.db, schema 2, as commits 4c900d4 to a0b4e0e made it.
PRAGMA foreign_keys = OFF;
BEGIN;
CREATE TABLE imports (
  provider TEXT PRIMARY KEY,
  last_success_ms INTEGER,
  last_attempt_ms INTEGER NOT NULL,
  last_error TEXT
, note TEXT) STRICT, WITHOUT ROWID;
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
CREATE TABLE bill_days (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  source TEXT NOT NULL,
  -- Up to which instant the source was complete when it was read.
  as_of_ms INTEGER NOT NULL,
  digest TEXT NOT NULL,
  lines INTEGER NOT NULL,
  amount_nano_usd INTEGER NOT NULL,
  read_at_ms INTEGER NOT NULL,
  changed_at_ms INTEGER NOT NULL,
  PRIMARY KEY (provider, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE billed_lines (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  line INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('usage', 'fee', 'credit', 'tax', 'adjustment', 'rounding')),
  billed_key TEXT, project TEXT, model TEXT, tier TEXT, unit TEXT,
  line_item TEXT,
  amount_nano_usd INTEGER NOT NULL,
  list_nano_usd INTEGER,
  quantity INTEGER,
  -- The last digit of the amount as the source writes it: it cannot say more.
  resolution_nano_usd INTEGER NOT NULL,
  raw TEXT NOT NULL,
  PRIMARY KEY (provider, day, line)
) STRICT, WITHOUT ROWID;
CREATE TABLE billed_usage (
  provider TEXT NOT NULL,
  hour_ms INTEGER NOT NULL,
  line INTEGER NOT NULL,
  billed_key TEXT, project TEXT, model TEXT, tier TEXT,
  unit TEXT NOT NULL,
  quantity INTEGER NOT NULL,
  PRIMARY KEY (provider, hour_ms, line)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage_reads (
  provider TEXT PRIMARY KEY,
  as_of_ms INTEGER,
  read_at_ms INTEGER NOT NULL,
  error TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE provider_keys (
  provider TEXT NOT NULL,
  billed_key TEXT NOT NULL,
  name TEXT NOT NULL,
  project TEXT,
  hint TEXT NOT NULL,
  state TEXT NOT NULL,
  seen_at_ms INTEGER NOT NULL,
  PRIMARY KEY (provider, billed_key)
) STRICT, WITHOUT ROWID;
CREATE TABLE metered_days (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  -- The sums of the rollup that it was folded from.
  mark TEXT NOT NULL,
  folded_at_ms INTEGER NOT NULL,
  PRIMARY KEY (provider, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE metered_lines (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  line INTEGER NOT NULL,
  key_id TEXT NOT NULL,
  -- The provider credential that paid: a fingerprint.
  credential TEXT NOT NULL,
  team TEXT NOT NULL, project TEXT NOT NULL, env TEXT NOT NULL, feature TEXT NOT NULL,
  model TEXT NOT NULL, tier TEXT NOT NULL,
  -- '' where the money has no quantity: what was held for an answer that nobody saw.
  unit TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('reported', 'estimated', 'unknown')),
  -- 'reprice' or 'bill': money that an adjustment added; '': as it was metered.
  correction TEXT NOT NULL,
  price_pico_usd INTEGER,
  multiplier TEXT,
  price_version TEXT,
  quantity INTEGER NOT NULL,
  cost_nano_usd INTEGER NOT NULL,
  events INTEGER NOT NULL,
  PRIMARY KEY (provider, day, line)
) STRICT, WITHOUT ROWID;
CREATE TABLE comparisons (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  line INTEGER NOT NULL,
  -- Of a row of the bill that is no use: 'credit', 'tax', 'adjustment', 'fee', 'rounding'. NULL: use.
  kind TEXT,
  key TEXT, model TEXT, tier TEXT, unit TEXT,
  metered_quantity INTEGER, billed_quantity INTEGER,
  metered_nano_usd INTEGER NOT NULL, billed_nano_usd INTEGER NOT NULL,
  PRIMARY KEY (provider, day, line)
) STRICT, WITHOUT ROWID;
CREATE TABLE variances (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  line INTEGER NOT NULL,
  cause TEXT NOT NULL,
  amount_nano_usd INTEGER NOT NULL,
  quantity INTEGER,
  detail TEXT NOT NULL,
  PRIMARY KEY (provider, day, line, cause)
) STRICT, WITHOUT ROWID;
CREATE TABLE closed_days (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  metered_nano_usd INTEGER NOT NULL,
  billed_nano_usd INTEGER NOT NULL,
  bill_digest TEXT NOT NULL,
  closed_at_ms INTEGER NOT NULL,
  closed_by TEXT NOT NULL,
  PRIMARY KEY (provider, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE corrections (
  provider TEXT NOT NULL,
  day TEXT NOT NULL,
  seq INTEGER NOT NULL,
  made_at_ms INTEGER NOT NULL,
  -- What the bill and the meter say now, less what they said before.
  billed_nano_usd INTEGER NOT NULL,
  metered_nano_usd INTEGER NOT NULL,
  bill_digest TEXT NOT NULL,
  PRIMARY KEY (provider, day, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE leaks (
  provider TEXT NOT NULL,
  billed_key TEXT NOT NULL,
  -- 'unknown_key': nothing was ever metered on it. 'beyond_metered': more is billed on it than was metered.
  kind TEXT NOT NULL CHECK (kind IN ('unknown_key', 'beyond_metered')),
  first_hour_ms INTEGER NOT NULL,
  last_hour_ms INTEGER NOT NULL,
  found_at_ms INTEGER NOT NULL,
  seen_at_ms INTEGER NOT NULL,
  quantity INTEGER NOT NULL,
  unit TEXT NOT NULL,
  cost_nano_usd INTEGER,
  models TEXT NOT NULL,
  -- Everything up to this hour was looked at by somebody and is no leak.
  dismissed_until_ms INTEGER,
  dismissed_why TEXT,
  PRIMARY KEY (provider, billed_key)
) STRICT, WITHOUT ROWID;
INSERT INTO imports (provider, last_success_ms, last_attempt_ms, last_error, note) VALUES
  ('openai', 1747900800000, 1747900800000, NULL, NULL);
INSERT INTO forecasts (scope, scope_id, window_id, window, start_ms, end_ms, made_at_ms, method, history_hours, p10_nano_usd, p50_nano_usd, p90_nano_usd, hours) VALUES
  ('org', '', 'day:2025-05-22', 'day', 1747900800000, 1747987200000, 1747900800000, 'seasonal', 48, 1000000, 2000000, 3000000, '[1000000,1000000]');
INSERT INTO bill_days (provider, day, source, as_of_ms, digest, lines, amount_nano_usd, read_at_ms, changed_at_ms) VALUES
  ('openai', '2025-05-20', 'api', 1747900800000, 'dg', 1, 1500000, 1747900800000, 1747900800000);
INSERT INTO billed_lines (provider, day, line, kind, billed_key, project, model, tier, unit, line_item, amount_nano_usd, list_nano_usd, quantity, resolution_nano_usd, raw) VALUES
  ('openai', '2025-05-20', 0, 'usage', 'key_abc', 'proj_1', 'gpt-5', NULL, 'input', 'gpt-5, input', 1500000, NULL, 1000, 1, '{}');
INSERT INTO usage_reads (provider, as_of_ms, read_at_ms, error) VALUES
  ('openai', 1747897200000, 1747900800000, NULL);
INSERT INTO comparisons (provider, day, line, kind, key, model, tier, unit, metered_quantity, billed_quantity, metered_nano_usd, billed_nano_usd) VALUES
  ('openai', '2025-05-20', 0, NULL, 'key_1', 'gpt-5', '', 'input', 900, 1000, 1400000, 1500000);
INSERT INTO variances (provider, day, line, cause, amount_nano_usd, quantity, detail) VALUES
  ('openai', '2025-05-20', 0, 'unmetered', 100000, 100, '');
INSERT INTO closed_days (provider, day, metered_nano_usd, billed_nano_usd, bill_digest, closed_at_ms, closed_by) VALUES
  ('openai', '2025-05-20', 1400000, 1500000, 'dg', 1747900800000, 'ada');
INSERT INTO leaks (provider, billed_key, kind, first_hour_ms, last_hour_ms, found_at_ms, seen_at_ms, quantity, unit, cost_nano_usd, models, dismissed_until_ms, dismissed_why) VALUES
  ('openai', 'key_abc', 'unknown_key', 1747900800000, 1747900800000, 1747900800000, 1747900800000, 100, 'tokens', NULL, '["gpt-5"]', NULL, NULL);
CREATE TRIGGER forecasts_fixed BEFORE UPDATE ON forecasts BEGIN SELECT RAISE(ABORT, 'a forecast is frozen'); END;
CREATE INDEX bill_days_day ON bill_days (day);
CREATE INDEX comparisons_day ON comparisons (day);
CREATE INDEX variances_day ON variances (day, provider, cause, amount_nano_usd);
CREATE TRIGGER closed_days_keep BEFORE DELETE ON closed_days BEGIN SELECT RAISE(ABORT, 'a closed day stays closed'); END;
CREATE TRIGGER closed_days_fixed BEFORE UPDATE ON closed_days BEGIN SELECT RAISE(ABORT, 'a closed day stays as it was signed'); END;
CREATE TRIGGER corrections_keep BEFORE DELETE ON corrections BEGIN SELECT RAISE(ABORT, 'a correction stays'); END;
CREATE TRIGGER corrections_fixed BEFORE UPDATE ON corrections BEGIN SELECT RAISE(ABORT, 'a correction stays'); END;
CREATE TRIGGER metered_lines_fixed BEFORE DELETE ON metered_lines
  WHEN EXISTS (SELECT 1 FROM closed_days WHERE provider = OLD.provider AND day = OLD.day)
  BEGIN SELECT RAISE(ABORT, 'the day is closed'); END;
CREATE TRIGGER variances_fixed BEFORE DELETE ON variances
  WHEN EXISTS (SELECT 1 FROM closed_days WHERE provider = OLD.provider AND day = OLD.day)
  BEGIN SELECT RAISE(ABORT, 'the day is closed'); END;
PRAGMA user_version = 2;
COMMIT;
