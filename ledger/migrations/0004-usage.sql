-- Why the quantities of an event are not the provider's word: a closed set, see ledger/usage.ts.
ALTER TABLE events ADD COLUMN usage_reason TEXT;
CREATE TRIGGER events_reason_fixed BEFORE UPDATE OF usage_reason ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
