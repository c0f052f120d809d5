-- The trace that a request belongs to: its client's traceparent, as "TRACE-SPAN-FLAGS".
ALTER TABLE events ADD COLUMN trace TEXT;
CREATE TRIGGER events_trace_fixed BEFORE UPDATE OF trace ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;

-- In which order events and corrections were committed. Attempts are numbered when they begin, and booked when they end: who reads on
-- from where it was goes by this order, not by ids.
CREATE TABLE commits (
  number INTEGER PRIMARY KEY,
  position INTEGER NOT NULL DEFAULT 0,
  attempt_id INTEGER NOT NULL,
  -- Of a correction: by how much. Null: the event itself.
  adjusted_nano_usd INTEGER
) STRICT;
CREATE TRIGGER events_committed AFTER INSERT ON events
  BEGIN INSERT INTO commits (attempt_id) VALUES (NEW.attempt_id); END;
CREATE TRIGGER adjustments_committed AFTER INSERT ON adjustments
  BEGIN INSERT INTO commits (attempt_id, adjusted_nano_usd) VALUES (NEW.attempt_id, NEW.amount_nano_usd); END;
-- What of it no commit to come can go before.
CREATE VIEW committed AS SELECT number, position, attempt_id, adjusted_nano_usd FROM commits;
