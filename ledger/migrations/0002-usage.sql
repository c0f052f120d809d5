-- Work that goes on at the provider after its answer (batches, background responses): its reservation stays open, with the
-- provider's id of the work, until the result passes. A restart carries it; only rows without an id are attempts that died.
ALTER TABLE reservations ADD COLUMN work_id TEXT;
ALTER TABLE reservations ADD COLUMN tiers TEXT;
CREATE UNIQUE INDEX reservations_work ON reservations (provider, work_id) WHERE work_id IS NOT NULL;
