-- Proxies as nodes: each leases a number, with an epoch that no two holders share, and books in numbered batches, one
-- call each. All time here is this server's: no node's clock decides about another one.
-- Errors that a node tells apart: KM001 another has its number, KM002 the database went back.

CREATE TABLE usage.nodes (
  node bigint PRIMARY KEY CHECK (node BETWEEN 1 AND 255),
  -- Never given twice, also not after this database went back: larger than the one before, and than the time.
  epoch bigint NOT NULL,
  -- Of a node that was given up: the epoch that its holder has.
  epoch_before bigint,
  -- Of whom, for people.
  name usage.words NOT NULL,
  -- live: leased. released: its holder ended and left nothing open. fenced: its holder was given up; what it left open stays.
  state usage.words NOT NULL CHECK (state IN ('live', 'released', 'fenced')),
  -- When it committed last, and since when without a gap.
  seen_at timestamptz NOT NULL,
  since timestamptz NOT NULL,
  last_id bigint NOT NULL,
  last_batch bigint NOT NULL,
  -- Of the last batch: what it was, so that another one under its number is told apart, and what it was answered.
  work_digest usage.words NOT NULL,
  answer json NOT NULL
);

-- Whose an open reservation is. Work that goes on at a provider belongs to no node: any may settle it.
ALTER TABLE usage.reservations ADD COLUMN node bigint;
CREATE INDEX reservations_of_node ON usage.reservations (node);

-- What all nodes have to agree on, by name: one that differs counts money another way.
CREATE TABLE usage.agreed (name usage.words PRIMARY KEY, value usage.words NOT NULL);

CREATE FUNCTION usage.now_ms() RETURNS bigint LANGUAGE sql VOLATILE
  RETURN floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;

-- Whether a node may settle what belongs to another: to itself, to nobody, or to one that was given up.
CREATE FUNCTION usage.may_settle(owner bigint, its_node bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT owner IS NULL OR owner = its_node OR EXISTS (SELECT 1 FROM usage.nodes WHERE node = owner AND state = 'fenced')
$$;

-- A number that nobody holds, or the own one again: `my_node` and `my_epoch` say which it was; it is taken again where only a
-- fence lies between, with all that is open in it, and with its last batch, whose answer may have got lost. Returns node,
-- epoch, the id after which its ids begin, and that batch.
CREATE FUNCTION usage.lease_node_v1(its_name text, agreed json, wanted bigint, my_node bigint, my_epoch bigint)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  one record;
  other usage.words;
  chosen bigint;
  held usage.nodes;
  doubt json;
BEGIN
  -- One lease after the other: they are rare.
  PERFORM pg_advisory_xact_lock(hashtext('keymeter nodes'));
  -- Whoever is refused decides nothing: what is new is written when a number is given.
  FOR one IN SELECT key, value FROM json_each_text(agreed) ORDER BY key LOOP
    SELECT value INTO other FROM usage.agreed WHERE name = one.key;
    IF FOUND AND other <> one.value THEN
      RETURN json_build_object('differs', one.key, 'theirs', other);
    END IF;
  END LOOP;
  IF my_node IS NOT NULL THEN
    SELECT * INTO held FROM usage.nodes WHERE node = my_node FOR UPDATE;
    IF NOT FOUND OR held.epoch < my_epoch THEN
      RETURN json_build_object('wentBack', true);
    END IF;
    IF held.epoch = my_epoch OR (held.state = 'fenced' AND held.epoch_before = my_epoch) THEN
      chosen := my_node;
      doubt := json_build_object('batch', held.last_batch, 'firsts', held.answer);
    END IF;
  END IF;
  IF chosen IS NULL AND wanted IS NOT NULL THEN
    SELECT * INTO held FROM usage.nodes WHERE node = wanted FOR UPDATE;
    IF FOUND AND (held.state = 'live' OR EXISTS (SELECT 1 FROM usage.reservations WHERE node = wanted)) THEN
      RETURN json_build_object('taken', wanted, 'name', held.name);
    END IF;
    chosen := wanted;
  END IF;
  IF chosen IS NULL THEN
    -- A number in which something is open waits for whoever left it, or for its end.
    SELECT MIN(n) INTO chosen FROM generate_series(1, 255) AS n
    WHERE NOT EXISTS (SELECT 1 FROM usage.nodes WHERE node = n AND state = 'live')
      AND NOT EXISTS (SELECT 1 FROM usage.reservations WHERE node = n);
    IF chosen IS NULL THEN
      RETURN json_build_object('full', true);
    END IF;
  END IF;
  INSERT INTO usage.agreed SELECT key, value FROM json_each_text(agreed) ORDER BY key ON CONFLICT DO NOTHING;
  INSERT INTO usage.nodes AS known (node, epoch, name, state, seen_at, since, last_id, last_batch, work_digest, answer)
  VALUES (chosen, usage.now_ms(), its_name, 'live', clock_timestamp(), clock_timestamp(),
    COALESCE((SELECT value::bigint FROM usage.meta WHERE name = 'moved_end'), 0), 0, '', '[]')
  ON CONFLICT (node) DO UPDATE SET epoch = GREATEST(known.epoch + 1, excluded.epoch), epoch_before = NULL, name = excluded.name,
    state = 'live', seen_at = excluded.seen_at, since = excluded.since, last_id = GREATEST(known.last_id, excluded.last_id),
    last_batch = 0, work_digest = '', answer = '[]'
  RETURNING * INTO held;
  RETURN json_build_object('node', held.node, 'epoch', held.epoch, 'lastId', held.last_id, 'doubt', doubt);
END $$;

-- A batch: all of it or nothing, once. The same number again is answered what it was answered. What `requires` names has
-- to be open still: where another node was first, nothing is written, and the answer names what is gone.
CREATE FUNCTION usage.book_v1(its_node bigint, its_epoch bigint, batch bigint, work json)
RETURNS json LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
  held usage.nodes;
  missing json;
  firsts json;
  digest text := md5(work::text);
BEGIN
  -- First of all, so that a node that was given up writes nothing.
  UPDATE usage.nodes SET seen_at = clock_timestamp(),
    since = CASE WHEN clock_timestamp() - seen_at BETWEEN interval '0' AND interval '2 seconds' THEN since ELSE clock_timestamp() END
  WHERE node = its_node AND epoch = its_epoch AND state = 'live' RETURNING * INTO held;
  IF NOT FOUND THEN
    SELECT * INTO held FROM usage.nodes WHERE node = its_node AND epoch >= its_epoch;
    IF FOUND THEN
      RAISE EXCEPTION 'node % has not epoch % any more', its_node, its_epoch USING ERRCODE = 'KM001';
    END IF;
    RAISE EXCEPTION 'node % had epoch %, and has not here', its_node, its_epoch USING ERRCODE = 'KM002';
  END IF;
  IF batch = held.last_batch AND digest = held.work_digest THEN
    RETURN json_build_object('firsts', held.answer, 'atMs', usage.now_ms());
  END IF;
  IF batch <> held.last_batch + 1 THEN
    RAISE EXCEPTION 'batch % of node % comes after what was acknowledged, and the last one here is another %', batch, its_node, held.last_batch
      USING ERRCODE = 'KM002';
  END IF;

  INSERT INTO usage.reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd,
    expected_nano_usd, most_nano_usd, work_id, tiers, node)
  SELECT attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd, expected_nano_usd,
    most_nano_usd, work_id, tiers, its_node
  FROM json_populate_recordset(NULL::usage.reservations, work -> 'reservations');

  UPDATE usage.reservations AS kept SET expected_nano_usd = more.expected_nano_usd
  FROM json_populate_recordset(NULL::usage.reservations, work -> 'extended') AS more
  WHERE kept.attempt_id = more.attempt_id AND kept.node = its_node;

  -- What several nodes could settle: whoever deletes it first has. The rows are locked in their order, and looked at in the
  -- next statement, as they are then.
  PERFORM 1 FROM usage.reservations
  WHERE attempt_id IN (SELECT value::bigint FROM json_array_elements_text(COALESCE(work -> 'requires', '[]')))
  ORDER BY attempt_id FOR UPDATE;
  SELECT json_agg(wanted.id ORDER BY wanted.id) INTO missing
  FROM (SELECT value::bigint AS id FROM json_array_elements_text(COALESCE(work -> 'requires', '[]'))) AS wanted
  WHERE NOT EXISTS (SELECT 1 FROM usage.reservations AS there
    WHERE there.attempt_id = wanted.id AND usage.may_settle(there.node, its_node));
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION 'gone' USING ERRCODE = 'KM003', DETAIL = missing::text;
  END IF;

  INSERT INTO usage.things (provider, name, key_id, attempt_id)
  SELECT provider, name, key_id, attempt_id FROM json_populate_recordset(NULL::usage.things, work -> 'things')
  ORDER BY provider, name ON CONFLICT DO NOTHING;
  -- One charge for one id of the provider, for ever: who brought the name first stands for the work.
  WITH asked AS (
    SELECT attempt_id, provider, work_id, tiers, key_id FROM json_populate_recordset(NULL::usage.reservations, work -> 'suspended')),
  named AS (
    INSERT INTO usage.things (provider, name, key_id, attempt_id) SELECT provider, work_id, key_id, attempt_id FROM asked
    WHERE EXISTS (SELECT 1 FROM usage.reservations AS mine WHERE mine.attempt_id = asked.attempt_id AND mine.node = its_node)
    ORDER BY provider, work_id ON CONFLICT DO NOTHING RETURNING attempt_id),
  suspended AS (
    UPDATE usage.reservations AS kept SET work_id = asked.work_id, tiers = asked.tiers, node = NULL
    FROM asked JOIN named USING (attempt_id) WHERE kept.attempt_id = asked.attempt_id)
  SELECT json_agg(attempt_id ORDER BY attempt_id) INTO firsts FROM named;

  INSERT INTO usage.events (attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, tags, input,
    cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version,
    price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage,
    stated_cost_nano_usd, usage_reason, price_list)
  SELECT attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, tags, input,
    cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version,
    price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage,
    stated_cost_nano_usd, usage_reason, price_list
  FROM json_populate_recordset(NULL::usage.events, work -> 'events');
  -- What was required is locked, and was looked at: whose it is by now is no matter.
  DELETE FROM usage.reservations AS there USING json_populate_recordset(NULL::usage.events, work -> 'events') AS settled
  WHERE there.attempt_id = settled.attempt_id AND (there.node = its_node
    OR there.attempt_id IN (SELECT value::bigint FROM json_array_elements_text(COALESCE(work -> 'requires', '[]'))));

  INSERT INTO usage.rollup_hour_of_node AS kept (hour_ms, key_id, provider, model, requested_model, team, project, env, requests,
    cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred, node)
  SELECT hour_ms, key_id, provider, model, requested_model, team, project, env, requests, cost_nano_usd, input, cache_read,
    cache_write, output, estimated, unknown, unpriced, inferred, its_node
  FROM json_populate_recordset(NULL::usage.rollup_hour_of_node, work -> 'hours')
  ON CONFLICT (hour_ms, key_id, provider, model, requested_model, team, project, env, node) DO UPDATE SET
    requests = kept.requests + excluded.requests, cost_nano_usd = kept.cost_nano_usd + excluded.cost_nano_usd,
    input = kept.input + excluded.input, cache_read = kept.cache_read + excluded.cache_read,
    cache_write = kept.cache_write + excluded.cache_write, output = kept.output + excluded.output,
    estimated = kept.estimated + excluded.estimated, unknown = kept.unknown + excluded.unknown,
    unpriced = kept.unpriced + excluded.unpriced, inferred = kept.inferred + excluded.inferred;
  INSERT INTO usage.rollup_day_of_node AS kept (day, key_id, provider, model, requested_model, team, project, env, requests,
    cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred, node)
  SELECT day, key_id, provider, model, requested_model, team, project, env, requests, cost_nano_usd, input, cache_read,
    cache_write, output, estimated, unknown, unpriced, inferred, its_node
  FROM json_populate_recordset(NULL::usage.rollup_day_of_node, work -> 'days')
  ON CONFLICT (day, key_id, provider, model, requested_model, team, project, env, node) DO UPDATE SET
    requests = kept.requests + excluded.requests, cost_nano_usd = kept.cost_nano_usd + excluded.cost_nano_usd,
    input = kept.input + excluded.input, cache_read = kept.cache_read + excluded.cache_read,
    cache_write = kept.cache_write + excluded.cache_write, output = kept.output + excluded.output,
    estimated = kept.estimated + excluded.estimated, unknown = kept.unknown + excluded.unknown,
    unpriced = kept.unpriced + excluded.unpriced, inferred = kept.inferred + excluded.inferred;

  -- What several nodes write: in the order of its key, so that two never wait for each other in a ring.
  INSERT INTO usage.meter_hours SELECT value::bigint FROM json_array_elements_text(COALESCE(work -> 'meterHours', '[]'))
  ORDER BY 1 ON CONFLICT DO NOTHING;
  INSERT INTO usage.refused AS kept
  SELECT minute_ms, key_id, model, reason, budget_id, observed, count
  FROM json_populate_recordset(NULL::usage.refused, work -> 'refused') ORDER BY 1, 2, 3, 4, 5, 6
  ON CONFLICT (minute_ms, key_id, model, reason, budget_id, observed) DO UPDATE SET count = kept.count + excluded.count;
  INSERT INTO usage.served_names
  SELECT provider, requested_model, served_model FROM json_populate_recordset(NULL::usage.served_names, work -> 'servedNames')
  ORDER BY 1, 2 ON CONFLICT (provider, requested_model) DO UPDATE SET served_model = excluded.served_model;
  INSERT INTO usage.key_addresses AS kept
  SELECT key_id, address, first_seen_ms, last_seen_ms FROM json_populate_recordset(NULL::usage.key_addresses, work -> 'addresses')
  ORDER BY 1, 2 ON CONFLICT (key_id, address) DO UPDATE SET last_seen_ms = GREATEST(kept.last_seen_ms, excluded.last_seen_ms);
  INSERT INTO usage.credentials
  SELECT provider, since_ms, credential, hint FROM json_populate_recordset(NULL::usage.credentials, work -> 'credentials')
  ORDER BY 1, 2 ON CONFLICT (provider, since_ms) DO UPDATE SET credential = excluded.credential, hint = excluded.hint;

  -- However long it waited for others: it is seen now.
  UPDATE usage.nodes SET seen_at = clock_timestamp(), last_batch = batch, work_digest = digest, answer = COALESCE(firsts, '[]'),
    last_id = GREATEST(last_id, (work ->> 'lastId')::bigint) WHERE node = its_node;
  RETURN json_build_object('firsts', COALESCE(firsts, '[]'), 'atMs', usage.now_ms());
END $$;

-- Gives a node up that has not committed for 15 s, while the one that asks has, without a gap: after an outage of this
-- server nobody is given up by the first that comes back. Returns whether it did.
CREATE FUNCTION usage.fence_node_v1(its_node bigint, its_epoch bigint, other bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  mine usage.nodes;
BEGIN
  SELECT * INTO mine FROM usage.nodes WHERE node = its_node AND epoch = its_epoch AND state = 'live';
  IF NOT FOUND OR clock_timestamp() - mine.since < interval '15 seconds' OR clock_timestamp() - mine.seen_at > interval '2 seconds' THEN
    RETURN false;
  END IF;
  -- Whoever commits meanwhile is waited for, and is looked at as it is then.
  PERFORM 1 FROM usage.nodes WHERE node = other FOR UPDATE;
  UPDATE usage.nodes SET epoch_before = epoch, epoch = GREATEST(epoch + 1, usage.now_ms()), state = 'fenced'
  WHERE node = other AND node <> its_node AND state = 'live' AND clock_timestamp() - seen_at > interval '15 seconds';
  RETURN FOUND;
END $$;

-- Ends a lease whose holder has nothing open any more. Returns whether that is so.
CREATE FUNCTION usage.release_node_v1(its_node bigint, its_epoch bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  -- A batch that is still booked is waited for, and what it left is seen in the next statement.
  PERFORM 1 FROM usage.nodes WHERE node = its_node FOR UPDATE;
  UPDATE usage.nodes SET state = 'released' WHERE node = its_node AND epoch = its_epoch AND state = 'live'
    AND NOT EXISTS (SELECT 1 FROM usage.reservations WHERE node = its_node);
  RETURN FOUND;
END $$;
