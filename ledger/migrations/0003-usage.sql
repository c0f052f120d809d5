-- Corrections of metered money, made later: a price that was not known, a bill that says better. Events stay as they are; what an
-- adjustment adds counts in the sums and windows of its event. Unique by its source's id: the same correction twice is one.
CREATE TABLE adjustments (
  source TEXT NOT NULL CHECK (source IN ('reprice', 'bill')),
  source_id TEXT NOT NULL,
  attempt_id INTEGER NOT NULL REFERENCES events (attempt_id),
  amount_nano_usd INTEGER NOT NULL,
  unpriced INTEGER NOT NULL CHECK (unpriced IN (-1, 0, 1)),
  inferred INTEGER NOT NULL CHECK (inferred IN (-1, 0, 1)),
  detail TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  PRIMARY KEY (source, source_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX adjustments_attempt ON adjustments (attempt_id);
CREATE TRIGGER adjustments_keep BEFORE DELETE ON adjustments BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;
CREATE TRIGGER adjustments_fixed BEFORE UPDATE ON adjustments BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;
