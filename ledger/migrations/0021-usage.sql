-- Corrections stay when the events that they are of have left the books: their sums stay too, and the audit has their digests. So they
-- name an attempt, and no row.
DROP VIEW booked;
CREATE TABLE adjustments_new (
  source TEXT NOT NULL CHECK (source IN ('reprice', 'bill')),
  source_id TEXT NOT NULL,
  attempt_id INTEGER NOT NULL,
  amount_nano_usd INTEGER NOT NULL,
  unpriced INTEGER NOT NULL CHECK (unpriced IN (-1, 0, 1)),
  inferred INTEGER NOT NULL CHECK (inferred IN (-1, 0, 1)),
  detail TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  audit_seq INTEGER REFERENCES audit (seq) DEFERRABLE INITIALLY DEFERRED,
  PRIMARY KEY (source, source_id)
) STRICT, WITHOUT ROWID;
INSERT INTO adjustments_new SELECT source, source_id, attempt_id, amount_nano_usd, unpriced, inferred, detail, made_at_ms, audit_seq FROM adjustments;
DROP TABLE adjustments;
ALTER TABLE adjustments_new RENAME TO adjustments;
CREATE INDEX adjustments_attempt ON adjustments (attempt_id);
CREATE TRIGGER adjustments_keep BEFORE DELETE ON adjustments BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;
CREATE TRIGGER adjustments_fixed BEFORE UPDATE ON adjustments BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;
CREATE TRIGGER adjustments_committed AFTER INSERT ON adjustments
  BEGIN INSERT INTO commits (attempt_id, adjusted_nano_usd) VALUES (NEW.attempt_id, NEW.amount_nano_usd); END;

CREATE VIEW booked AS
  SELECT attempt_id, at_ms, key_id, provider, endpoint, requested_model, COALESCE(served_model, requested_model) AS model, tier,
    team, project, env, person, payer, tags,
    COALESCE(input, 0) AS input, COALESCE(cache_read, 0) AS cache_read, cache_write_5m, cache_write_1h,
    COALESCE(cache_write_5m, 0) + COALESCE(cache_write_1h, 0) + COALESCE(json_extract(other_usage, '$.cache_write_30m'), 0)
      + COALESCE(json_extract(other_usage, '$.cache_write_12h'), 0) AS cache_write,
    COALESCE(output, 0) AS output, other_usage, usage_state, cost_nano_usd, cost_lines, price_version, price_confidence,
    COALESCE(cost_nano_usd, 0)
      + COALESCE((SELECT SUM(amount_nano_usd) FROM adjustments WHERE adjustments.attempt_id = events.attempt_id), 0) AS booked_nano_usd,
    usage_state = 'estimated' AS estimated, usage_state = 'unknown' AS unknown,
    COALESCE(price_confidence = 'unpriced', 0)
      + COALESCE((SELECT SUM(unpriced) FROM adjustments WHERE adjustments.attempt_id = events.attempt_id), 0) AS unpriced,
    COALESCE(price_confidence = 'inferred', 0)
      + COALESCE((SELECT SUM(inferred) FROM adjustments WHERE adjustments.attempt_id = events.attempt_id), 0) AS inferred,
    outcome, http_status, duration_ms, first_byte_ms, seat_nano_usd
  FROM events;
