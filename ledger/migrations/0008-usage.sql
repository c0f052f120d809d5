-- A key's hours, the newest first, without a walk over everybody's.
CREATE INDEX rollup_hour_of_key ON rollup_hour (key_id, hour_ms);
