-- Shares of a budget, in percent, at which somebody is told: ascending, joined by commas. Null: the usual ones.
ALTER TABLE budgets ADD COLUMN thresholds TEXT;

-- More money for a budget, for a while and with a reason.
CREATE TABLE raises (
  id TEXT PRIMARY KEY,
  budget_id TEXT NOT NULL REFERENCES budgets (id),
  amount_nano_usd INTEGER NOT NULL CHECK (amount_nano_usd > 0),
  reason TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  until_ms INTEGER NOT NULL CHECK (until_ms > created_at_ms),
  ended_at_ms INTEGER
) STRICT, WITHOUT ROWID;

-- The audit record that brought a correction: it holds the digest of all that came with it. Null: from before there was one.
ALTER TABLE adjustments ADD COLUMN audit_seq INTEGER REFERENCES audit (seq) DEFERRABLE INITIALLY DEFERRED;

-- UTC days whose events are covered by a digest in the audit. Neither to them nor to a day before them can any more come, but for those of
-- work that went on at a provider: each of these has an audit record of its own. 353894400000 attempt ids are a day.
CREATE TABLE sealed_days (
  first_attempt_id INTEGER PRIMARY KEY CHECK (first_attempt_id % 353894400000 = 0),
  audit_seq INTEGER NOT NULL REFERENCES audit (seq)
) STRICT;
CREATE TRIGGER events_sealed BEFORE INSERT ON events
  WHEN NEW.attempt_id < (SELECT MAX(first_attempt_id) FROM sealed_days) + 353894400000
    AND NOT EXISTS (SELECT 1 FROM reservations WHERE attempt_id = NEW.attempt_id AND work_id IS NOT NULL)
  BEGIN SELECT RAISE(ABORT, 'the day of this event is sealed'); END;
CREATE TRIGGER sealed_days_keep BEFORE DELETE ON sealed_days BEGIN SELECT RAISE(ABORT, 'a seal is for ever'); END;
CREATE TRIGGER sealed_days_fixed BEFORE UPDATE ON sealed_days BEGIN SELECT RAISE(ABORT, 'a seal is for ever'); END;

-- Under which name a model that is asked for answers: a budget on that name covers who asks, also after a restart.
CREATE TABLE served_names (
  provider TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  served_model TEXT NOT NULL,
  PRIMARY KEY (provider, requested_model)
) STRICT, WITHOUT ROWID;
INSERT INTO served_names (provider, requested_model, served_model)
  SELECT provider, requested_model, model FROM (
    SELECT provider, requested_model, model, MAX(hour_ms) FROM rollup_hour WHERE requested_model <> model GROUP BY 1, 2);
