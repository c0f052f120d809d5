-- People: who is behind a request. Books know each by a random id; what names one stands here alone, and can be emptied: then name and folded are null.
CREATE TABLE people (
  id TEXT PRIMARY KEY,
  name TEXT,
  -- The name as it is compared.
  folded TEXT UNIQUE,
  created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Whoever owned a key is its user.
ALTER TABLE keys ADD COLUMN person TEXT NOT NULL DEFAULT '';
INSERT INTO people (id, name, folded, created_at_ms)
  SELECT 'user_' || lower(hex(randomblob(8))), MIN(trim(owner)), lower(trim(owner)), MIN(created_at_ms) FROM keys WHERE trim(owner) <> '' GROUP BY 3;
UPDATE keys SET person = COALESCE((SELECT id FROM people WHERE folded = lower(trim(owner))), ''), owner = '';

ALTER TABLE budgets ADD COLUMN person TEXT;
ALTER TABLE freezes ADD COLUMN person TEXT;
ALTER TABLE reservations ADD COLUMN person TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN person TEXT NOT NULL DEFAULT '';
-- Who pays. Empty: whom its key stands for (the provider key itself, or the credential that Keymeter keys are swapped for). `seat`: a subscription, which
-- is billed by the month; then `cost_nano_usd` is nothing, and `seat_nano_usd` what it would have cost. Else a client's own credential beside its key.
ALTER TABLE reservations ADD COLUMN payer TEXT NOT NULL DEFAULT '';
ALTER TABLE reservations ADD COLUMN seat_nano_usd INTEGER CHECK (seat_nano_usd >= 0);
ALTER TABLE events ADD COLUMN payer TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN seat_nano_usd INTEGER CHECK (seat_nano_usd >= 0);
CREATE TRIGGER events_person_fixed BEFORE UPDATE OF person, payer, seat_nano_usd ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;

-- `*`: the key's requests may name anybody, and that counts in budgets.
CREATE TABLE key_owners_new (
  key_id TEXT NOT NULL,
  part TEXT NOT NULL CHECK (part IN ('team', 'project', 'env', 'user')),
  value TEXT NOT NULL CHECK (length(value) > 0),
  PRIMARY KEY (key_id, part, value)
) STRICT, WITHOUT ROWID;
INSERT INTO key_owners_new SELECT key_id, part, value FROM key_owners;
INSERT INTO key_owners_new SELECT id, 'user', person FROM keys WHERE person <> '';
DROP TABLE key_owners;
ALTER TABLE key_owners_new RENAME TO key_owners;

CREATE TABLE rollup_hour_new (
  hour_ms INTEGER NOT NULL,
  key_id TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, requested_model TEXT NOT NULL,
  team TEXT NOT NULL, project TEXT NOT NULL, env TEXT NOT NULL,
  requests INTEGER NOT NULL, cost_nano_usd INTEGER NOT NULL,
  input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, output INTEGER NOT NULL,
  estimated INTEGER NOT NULL, unknown INTEGER NOT NULL, unpriced INTEGER NOT NULL, inferred INTEGER NOT NULL, person TEXT NOT NULL, payer TEXT NOT NULL, seat_nano_usd INTEGER NOT NULL,
  PRIMARY KEY (hour_ms, key_id, provider, model, requested_model, team, project, env, person, payer)
) STRICT, WITHOUT ROWID;
INSERT INTO rollup_hour_new SELECT hour_ms, key_id, provider, model, requested_model, team, project, env, requests, cost_nano_usd, input, cache_read,
  cache_write, output, estimated, unknown, unpriced, inferred, '', '', 0 FROM rollup_hour;
DROP TABLE rollup_hour;
ALTER TABLE rollup_hour_new RENAME TO rollup_hour;
CREATE INDEX rollup_hour_of_key ON rollup_hour (key_id, hour_ms);

CREATE TABLE rollup_day_new (
  day TEXT NOT NULL,
  key_id TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, requested_model TEXT NOT NULL,
  team TEXT NOT NULL, project TEXT NOT NULL, env TEXT NOT NULL,
  requests INTEGER NOT NULL, cost_nano_usd INTEGER NOT NULL,
  input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, output INTEGER NOT NULL,
  estimated INTEGER NOT NULL, unknown INTEGER NOT NULL, unpriced INTEGER NOT NULL, inferred INTEGER NOT NULL, person TEXT NOT NULL, payer TEXT NOT NULL, seat_nano_usd INTEGER NOT NULL,
  PRIMARY KEY (day, key_id, provider, model, requested_model, team, project, env, person, payer)
) STRICT, WITHOUT ROWID;
INSERT INTO rollup_day_new SELECT day, key_id, provider, model, requested_model, team, project, env, requests, cost_nano_usd, input, cache_read,
  cache_write, output, estimated, unknown, unpriced, inferred, '', '', 0 FROM rollup_day;
DROP TABLE rollup_day;
ALTER TABLE rollup_day_new RENAME TO rollup_day;

DROP VIEW booked;
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
