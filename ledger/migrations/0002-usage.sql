-- Work that goes on at the provider after its answer (batches, background responses): its reservation stays open, with the
-- provider's id of the work, until the result passes. A restart carries it; only rows without an id are attempts that died.
ALTER TABLE reservations ADD COLUMN work_id TEXT;
ALTER TABLE reservations ADD COLUMN tiers TEXT;
-- Which attempt began it, and so which key's it is, after it is settled too: one charge for one id, for ever.
CREATE TABLE work (
  provider TEXT NOT NULL,
  work_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  attempt_id INTEGER NOT NULL,
  PRIMARY KEY (provider, work_id)
) STRICT, WITHOUT ROWID;

-- What the provider itself says that an attempt cost (OpenRouter, xAI), beside our own figure.
ALTER TABLE events ADD COLUMN stated_cost_nano_usd INTEGER CHECK (stated_cost_nano_usd >= 0);
CREATE TRIGGER events_stated_fixed BEFORE UPDATE OF stated_cost_nano_usd ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
