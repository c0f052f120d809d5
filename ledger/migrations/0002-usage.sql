-- Work that goes on at the provider after its answer (batches, background responses): its reservation stays open, with the
-- provider's id of the work, until the result passes. A restart carries it; only rows without an id are attempts that died.
ALTER TABLE reservations ADD COLUMN work_id TEXT;
ALTER TABLE reservations ADD COLUMN tiers TEXT;
CREATE UNIQUE INDEX reservations_work ON reservations (provider, work_id) WHERE work_id IS NOT NULL;

-- What the provider itself says that an attempt cost (OpenRouter, xAI), beside our own figure.
ALTER TABLE events ADD COLUMN stated_cost_nano_usd INTEGER CHECK (stated_cost_nano_usd >= 0);
CREATE TRIGGER events_stated_fixed BEFORE UPDATE OF stated_cost_nano_usd ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
