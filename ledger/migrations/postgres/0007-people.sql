-- People: who is behind a request. Books know each by a random id; what names one stands here alone, and can be emptied: then
-- name and folded are null.
CREATE TABLE usage.people (
  id usage.words PRIMARY KEY,
  name usage.words,
  -- The name as it is compared.
  folded usage.words UNIQUE,
  created_at_ms bigint NOT NULL
);
-- Whoever owned a key is its user.
ALTER TABLE usage.keys ADD COLUMN person usage.words NOT NULL DEFAULT '';
INSERT INTO usage.people (id, name, folded, created_at_ms)
  SELECT 'user_' || substr(md5(random()::text || clock_timestamp()::text || lower(trim(owner))), 1, 16), MIN(trim(owner)), lower(trim(owner)), MIN(created_at_ms)
  FROM usage.keys WHERE trim(owner) <> '' GROUP BY lower(trim(owner));
UPDATE usage.keys SET person = COALESCE((SELECT id FROM usage.people WHERE folded = lower(trim(owner))), ''), owner = '';

ALTER TABLE usage.budgets ADD COLUMN person usage.words;
ALTER TABLE usage.freezes ADD COLUMN person usage.words;
ALTER TABLE usage.reservations ADD COLUMN person usage.words NOT NULL DEFAULT '';
ALTER TABLE usage.events ADD COLUMN person usage.words NOT NULL DEFAULT '';
-- Who pays. Empty: whom its key stands for (the provider key itself, or the credential that Keymeter keys are swapped for). `seat`: a
-- subscription, which is billed by the month; then `cost_nano_usd` is nothing, and `seat_nano_usd` what it would have cost. Else a
-- client's own credential beside its key.
ALTER TABLE usage.reservations ADD COLUMN payer usage.words NOT NULL DEFAULT '', ADD COLUMN seat_nano_usd bigint CHECK (seat_nano_usd >= 0);
ALTER TABLE usage.events ADD COLUMN payer usage.words NOT NULL DEFAULT '', ADD COLUMN seat_nano_usd bigint CHECK (seat_nano_usd >= 0);
CREATE TRIGGER events_person_fixed BEFORE UPDATE OF person, payer, seat_nano_usd ON usage.events
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('usage events are append-only');

-- `*`: the key's requests may name anybody, and that counts in budgets.
ALTER TABLE usage.key_owners DROP CONSTRAINT key_owners_part_check, ADD CHECK (part IN ('team', 'project', 'env', 'user'));
INSERT INTO usage.key_owners SELECT id, 'user', person FROM usage.keys WHERE person <> '';

DROP VIEW usage.rollup_hour;
DROP VIEW usage.rollup_day;
ALTER TABLE usage.rollup_hour_of_node ADD COLUMN person usage.words NOT NULL DEFAULT '', ADD COLUMN payer usage.words NOT NULL DEFAULT '',
  ADD COLUMN seat_nano_usd bigint NOT NULL DEFAULT 0, DROP CONSTRAINT rollup_hour_of_node_pkey,
  ADD PRIMARY KEY (hour_ms, key_id, provider, model, requested_model, team, project, env, person, payer, node);
ALTER TABLE usage.rollup_day_of_node ADD COLUMN person usage.words NOT NULL DEFAULT '', ADD COLUMN payer usage.words NOT NULL DEFAULT '',
  ADD COLUMN seat_nano_usd bigint NOT NULL DEFAULT 0, DROP CONSTRAINT rollup_day_of_node_pkey,
  ADD PRIMARY KEY (day, key_id, provider, model, requested_model, team, project, env, person, payer, node);
CREATE VIEW usage.rollup_hour AS
  SELECT hour_ms, key_id, provider, model, requested_model, team, project, env,
    SUM(requests)::bigint AS requests,
    SUM(cost_nano_usd)::bigint AS cost_nano_usd,
    SUM(input)::bigint AS input,
    SUM(cache_read)::bigint AS cache_read,
    SUM(cache_write)::bigint AS cache_write,
    SUM(output)::bigint AS output,
    SUM(estimated)::bigint AS estimated,
    SUM(unknown)::bigint AS unknown,
    SUM(unpriced)::bigint AS unpriced,
    SUM(inferred)::bigint AS inferred, person, payer, SUM(seat_nano_usd)::bigint AS seat_nano_usd
  FROM usage.rollup_hour_of_node GROUP BY hour_ms, key_id, provider, model, requested_model, team, project, env, person, payer;
CREATE VIEW usage.rollup_day AS
  SELECT day, key_id, provider, model, requested_model, team, project, env,
    SUM(requests)::bigint AS requests,
    SUM(cost_nano_usd)::bigint AS cost_nano_usd,
    SUM(input)::bigint AS input,
    SUM(cache_read)::bigint AS cache_read,
    SUM(cache_write)::bigint AS cache_write,
    SUM(output)::bigint AS output,
    SUM(estimated)::bigint AS estimated,
    SUM(unknown)::bigint AS unknown,
    SUM(unpriced)::bigint AS unpriced,
    SUM(inferred)::bigint AS inferred, person, payer, SUM(seat_nano_usd)::bigint AS seat_nano_usd
  FROM usage.rollup_day_of_node GROUP BY day, key_id, provider, model, requested_model, team, project, env, person, payer;

DROP VIEW usage.booked;
CREATE VIEW usage.booked AS
  SELECT attempt_id, at_ms, key_id, provider, endpoint, requested_model, COALESCE(served_model, requested_model) AS model, tier,
    team, project, env, person, payer, tags,
    COALESCE(input, 0) AS input, COALESCE(cache_read, 0) AS cache_read, cache_write_5m, cache_write_1h,
    COALESCE(cache_write_5m, 0) + COALESCE(cache_write_1h, 0) + COALESCE(usage.json_extract(other_usage, '$.cache_write_30m')::bigint, 0)
      + COALESCE(usage.json_extract(other_usage, '$.cache_write_12h')::bigint, 0) AS cache_write,
    COALESCE(output, 0) AS output, other_usage, usage_state, cost_nano_usd, cost_lines, price_version, price_confidence,
    (COALESCE(cost_nano_usd, 0) + COALESCE((SELECT SUM(amount_nano_usd) FROM usage.adjustments
      WHERE adjustments.attempt_id = events.attempt_id), 0))::bigint AS booked_nano_usd,
    CASE WHEN usage_state = 'estimated' THEN 1::bigint ELSE 0 END AS estimated,
    CASE WHEN usage_state = 'unknown' THEN 1::bigint ELSE 0 END AS unknown,
    (CASE WHEN price_confidence = 'unpriced' THEN 1 ELSE 0 END + COALESCE((SELECT SUM(unpriced) FROM usage.adjustments
      WHERE adjustments.attempt_id = events.attempt_id), 0))::bigint AS unpriced,
    (CASE WHEN price_confidence = 'inferred' THEN 1 ELSE 0 END + COALESCE((SELECT SUM(inferred) FROM usage.adjustments
      WHERE adjustments.attempt_id = events.attempt_id), 0))::bigint AS inferred,
    outcome, http_status, duration_ms, first_byte_ms, seat_nano_usd
  FROM usage.events;

CREATE OR REPLACE FUNCTION usage.hold(its_node bigint, rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, person, payer,
    seat_nano_usd, tags, bound_nano_usd, expected_nano_usd, most_nano_usd, work_id, tiers, node, holds)
  SELECT attempt_id, key_id, provider, endpoint, requested_model, team, project, env, COALESCE(person, ''), COALESCE(payer, ''),
    seat_nano_usd, tags, bound_nano_usd, expected_nano_usd,
    most_nano_usd, work_id, tiers, its_node, COALESCE(holds, '[]')
  FROM jsonb_populate_recordset(NULL::usage.reservations, rows);
END $$;

CREATE OR REPLACE FUNCTION usage.write_events(rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.events (attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, person, payer,
    seat_nano_usd, tags, input,
    cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version,
    price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage,
    stated_cost_nano_usd, usage_reason, price_list)
  SELECT attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, COALESCE(person, ''), COALESCE(payer, ''),
    seat_nano_usd, tags, input,
    cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version,
    price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage,
    stated_cost_nano_usd, usage_reason, price_list
  FROM jsonb_populate_recordset(NULL::usage.events, rows);
END $$;

CREATE OR REPLACE FUNCTION usage.add_sums(its_node bigint, work jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.rollup_hour_of_node AS kept (hour_ms, key_id, provider, model, requested_model, team, project, env, person, payer, requests,
    cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred, seat_nano_usd, node)
  SELECT hour_ms, key_id, provider, model, requested_model, team, project, env, COALESCE(person, ''), COALESCE(payer, ''), requests, cost_nano_usd, input, cache_read,
    cache_write, output, estimated, unknown, unpriced, inferred, COALESCE(seat_nano_usd, 0), its_node
  FROM jsonb_populate_recordset(NULL::usage.rollup_hour_of_node, work -> 'hours')
  ON CONFLICT (hour_ms, key_id, provider, model, requested_model, team, project, env, person, payer, node) DO UPDATE SET
    requests = kept.requests + excluded.requests, cost_nano_usd = kept.cost_nano_usd + excluded.cost_nano_usd,
    input = kept.input + excluded.input, cache_read = kept.cache_read + excluded.cache_read,
    cache_write = kept.cache_write + excluded.cache_write, output = kept.output + excluded.output,
    estimated = kept.estimated + excluded.estimated, unknown = kept.unknown + excluded.unknown,
    unpriced = kept.unpriced + excluded.unpriced, inferred = kept.inferred + excluded.inferred, seat_nano_usd = kept.seat_nano_usd + excluded.seat_nano_usd;
  INSERT INTO usage.rollup_day_of_node AS kept (day, key_id, provider, model, requested_model, team, project, env, person, payer, requests,
    cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred, seat_nano_usd, node)
  SELECT day, key_id, provider, model, requested_model, team, project, env, COALESCE(person, ''), COALESCE(payer, ''), requests, cost_nano_usd, input, cache_read,
    cache_write, output, estimated, unknown, unpriced, inferred, COALESCE(seat_nano_usd, 0), its_node
  FROM jsonb_populate_recordset(NULL::usage.rollup_day_of_node, work -> 'days')
  ON CONFLICT (day, key_id, provider, model, requested_model, team, project, env, person, payer, node) DO UPDATE SET
    requests = kept.requests + excluded.requests, cost_nano_usd = kept.cost_nano_usd + excluded.cost_nano_usd,
    input = kept.input + excluded.input, cache_read = kept.cache_read + excluded.cache_read,
    cache_write = kept.cache_write + excluded.cache_write, output = kept.output + excluded.output,
    estimated = kept.estimated + excluded.estimated, unknown = kept.unknown + excluded.unknown,
    unpriced = kept.unpriced + excluded.unpriced, inferred = kept.inferred + excluded.inferred, seat_nano_usd = kept.seat_nano_usd + excluded.seat_nano_usd;
END $$;
