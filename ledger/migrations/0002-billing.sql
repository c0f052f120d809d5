-- Bills in full: whose, of what, how sure, and what came of the comparison. Days are UTC days, hours UTC hours.

-- What one source said of one provider's day, as last read. What knows less (an earlier export) does not replace what knows more.
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
CREATE INDEX bill_days_day ON bill_days (day);

ALTER TABLE billed_lines RENAME TO old_billed_lines;
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
INSERT INTO billed_lines SELECT provider, day, line, 'usage', billed_key, project,
  CASE WHEN instr(line_item, ',') > 0 THEN trim(substr(line_item, 1, instr(line_item, ',') - 1)) ELSE line_item END,
  NULL, NULL, line_item, amount_nano_usd, NULL, NULL, 1, raw FROM old_billed_lines;
INSERT INTO bill_days SELECT provider, day, 'api', 0, '', COUNT(*), SUM(amount_nano_usd), 0, 0 FROM old_billed_lines GROUP BY provider, day;
DROP TABLE old_billed_lines;

-- Quantities that a provider reports without money, by hour: tokens first. One hour is replaced as a whole.
CREATE TABLE billed_usage (
  provider TEXT NOT NULL,
  hour_ms INTEGER NOT NULL,
  line INTEGER NOT NULL,
  billed_key TEXT, project TEXT, model TEXT, tier TEXT,
  unit TEXT NOT NULL,
  quantity INTEGER NOT NULL,
  PRIMARY KEY (provider, hour_ms, line)
) STRICT, WITHOUT ROWID;
-- How usage was last read, and up to when it was known then. Apart from bills: one may work while the other fails.
CREATE TABLE usage_reads (
  provider TEXT PRIMARY KEY,
  as_of_ms INTEGER,
  read_at_ms INTEGER NOT NULL,
  error TEXT
) STRICT, WITHOUT ROWID;
ALTER TABLE imports ADD COLUMN note TEXT;

-- The keys that a provider says it has, to be recognised by what it shows of them.
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

-- What was metered on a UTC day, by token class and price: folded once from the events of the day, and again when they changed.
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

DROP TABLE variances;
-- Metered beside billed, as far down as the bill goes; NULL where it does not tell.
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
CREATE INDEX comparisons_day ON comparisons (day);
-- Billed minus metered, in pieces that each have one cause. They add up to the difference of their line.
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

CREATE INDEX variances_day ON variances (day, provider, cause, amount_nano_usd);
-- Days whose figure is signed off: for ever. What changes after it is a correction, a row of its own.
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
CREATE TRIGGER closed_days_keep BEFORE DELETE ON closed_days BEGIN SELECT RAISE(ABORT, 'a closed day stays closed'); END;
CREATE TRIGGER closed_days_fixed BEFORE UPDATE ON closed_days BEGIN SELECT RAISE(ABORT, 'a closed day stays as it was signed'); END;
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
CREATE TRIGGER corrections_keep BEFORE DELETE ON corrections BEGIN SELECT RAISE(ABORT, 'a correction stays'); END;
CREATE TRIGGER corrections_fixed BEFORE UPDATE ON corrections BEGIN SELECT RAISE(ABORT, 'a correction stays'); END;
CREATE TRIGGER metered_lines_fixed BEFORE DELETE ON metered_lines
  WHEN EXISTS (SELECT 1 FROM closed_days WHERE provider = OLD.provider AND day = OLD.day)
  BEGIN SELECT RAISE(ABORT, 'the day is closed'); END;
CREATE TRIGGER variances_fixed BEFORE DELETE ON variances
  WHEN EXISTS (SELECT 1 FROM closed_days WHERE provider = OLD.provider AND day = OLD.day)
  BEGIN SELECT RAISE(ABORT, 'the day is closed'); END;

-- Use of a provider key that did not come through the proxy.
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
