-- Caps over all nodes: the money of a budget's window is handed out in grants. A node admits against what it was granted,
-- in its memory; only here is it granted more. What it decided by has a version: a batch that was decided by an older
-- register is refused whole.
-- Errors that a node tells apart: KM004 the register has changed, KM005 the day of a new attempt is sealed.

CREATE TABLE usage.register (
  one bigint PRIMARY KEY CHECK (one = 1),
  -- Of keys, budgets, freezes, owners, corrections: moves with each change, which waits for all batches and lets none begin.
  version bigint NOT NULL,
  -- Of the names that models answered under: only told.
  names bigint NOT NULL
);
INSERT INTO usage.register VALUES (1, 1, 1);
-- Changes whose answer may have got lost.
CREATE TABLE usage.changes_made (nonce usage.words PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp());

-- A budget's window, node by node. Node 0 has what is nobody's: what was settled before nodes kept it, corrections, and work
-- that goes on at a provider.
CREATE TABLE usage.escrow (
  budget_id usage.words NOT NULL,
  window_id usage.words NOT NULL,
  node bigint NOT NULL,
  settled_nano_usd bigint NOT NULL,
  held_nano_usd bigint NOT NULL CHECK (held_nano_usd >= 0),
  -- What all that is held can come to.
  most_nano_usd bigint NOT NULL CHECK (most_nano_usd >= 0),
  -- What the node may settle and hold. Where a cost was above its hold it has taken more than it was given: a debt.
  granted_nano_usd bigint NOT NULL,
  -- Until then it waits for what others do not need.
  wanted_until timestamptz,
  PRIMARY KEY (budget_id, window_id, node),
  CHECK (granted_nano_usd >= settled_nano_usd + held_nano_usd)
);
CREATE INDEX escrow_window ON usage.escrow (window_id);
CREATE INDEX escrow_spare ON usage.escrow (node) WHERE granted_nano_usd > settled_nano_usd + held_nano_usd;
CREATE INDEX escrow_wanted ON usage.escrow (wanted_until) WHERE wanted_until IS NOT NULL;
-- From when on a budget's windows are kept there; those that were over by then are not.
CREATE TABLE usage.budgets_opened (budget_id usage.words PRIMARY KEY, since_ms bigint NOT NULL);

-- Of a node that its own holder took again: what became of its last batch, for as long as the answer to that may have got lost.
ALTER TABLE usage.nodes ADD COLUMN doubt json;

-- What a reservation holds: [budget, window, amount, most], each.
ALTER TABLE usage.reservations ADD COLUMN holds usage.words NOT NULL DEFAULT '[]';
-- Events of sealed days that the audit has no record of yet.
CREATE TABLE usage.late (attempt_id bigint PRIMARY KEY);

-- Sums from which everything was moved away stand for nothing any more.
CREATE OR REPLACE VIEW usage.rollup_hour AS
  SELECT hour_ms, key_id, provider, model, requested_model, team, project, env,
    SUM(requests)::bigint AS requests, SUM(cost_nano_usd)::bigint AS cost_nano_usd, SUM(input)::bigint AS input,
    SUM(cache_read)::bigint AS cache_read, SUM(cache_write)::bigint AS cache_write, SUM(output)::bigint AS output,
    SUM(estimated)::bigint AS estimated, SUM(unknown)::bigint AS unknown, SUM(unpriced)::bigint AS unpriced,
    SUM(inferred)::bigint AS inferred
  FROM usage.rollup_hour_of_node GROUP BY hour_ms, key_id, provider, model, requested_model, team, project, env
  HAVING SUM(requests) <> 0;
CREATE OR REPLACE VIEW usage.rollup_day AS
  SELECT day, key_id, provider, model, requested_model, team, project, env,
    SUM(requests)::bigint AS requests, SUM(cost_nano_usd)::bigint AS cost_nano_usd, SUM(input)::bigint AS input,
    SUM(cache_read)::bigint AS cache_read, SUM(cache_write)::bigint AS cache_write, SUM(output)::bigint AS output,
    SUM(estimated)::bigint AS estimated, SUM(unknown)::bigint AS unknown, SUM(unpriced)::bigint AS unpriced,
    SUM(inferred)::bigint AS inferred
  FROM usage.rollup_day_of_node GROUP BY day, key_id, provider, model, requested_model, team, project, env
  HAVING SUM(requests) <> 0;

-- What a node may hold beyond its own needs goes back: it is given up, or ends.
CREATE FUNCTION usage.free_surplus(its_node bigint) RETURNS void LANGUAGE sql AS $$
  UPDATE usage.escrow SET granted_nano_usd = settled_nano_usd + held_nano_usd
  WHERE node = its_node AND granted_nano_usd > settled_nano_usd + held_nano_usd
$$;

-- Asks of a node for more of windows. Those that wait are looked at in their order: each is given all that it needs, or
-- nothing, so that none holds a part of what another one needs while it waits itself. Beyond that a second's need is given
-- ahead, or a share of what is left, but not while others wait. Returns of each ask what was given, until when it may be used
-- and what all others have; and of each that waits in which ask it does not fit, whatever others gave back.
CREATE FUNCTION usage.grant_v1(its_node bigint, asks json, waiters json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  ask record;
  waiter json;
  sums record;
  amount bigint;
  until bigint;
  live bigint;
  lacks int;
  cannot int;
  is_met boolean;
  -- By ask: what is free, what is free or the node's own, what is not used by anybody, what was given to those that wait.
  free bigint[] := '{}';
  there bigint[] := '{}';
  unused bigint[] := '{}';
  own bigint[] := '{}';
  met bigint[] := '{}';
  given bigint;
  wanting int[] := '{}';
  is_wanted boolean[] := '{}';
  answers json[] := '{}';
  vain json[] := '{}';
BEGIN
  -- One node after the other; what is summed up then is read in later statements, when the last one's grants are there.
  PERFORM 1 FROM usage.budgets WHERE id IN (SELECT budget_id FROM json_to_recordset(asks) AS one (budget_id text))
  ORDER BY id FOR NO KEY UPDATE;
  SELECT COUNT(*) INTO live FROM usage.nodes WHERE state = 'live';
  FOR ask IN SELECT * FROM json_to_recordset(asks) AS one (budget_id text, window_id text, at_ms bigint, rate bigint) LOOP
    SELECT amount_nano_usd + COALESCE((SELECT SUM(amount_nano_usd) FROM usage.raises
        WHERE budget_id = budgets.id AND ended_at_ms IS NULL AND created_at_ms <= ask.at_ms AND ask.at_ms < until_ms), 0),
      (SELECT MIN(until_ms) FROM usage.raises
        WHERE budget_id = budgets.id AND ended_at_ms IS NULL AND created_at_ms <= ask.at_ms AND ask.at_ms < until_ms)
    INTO amount, until FROM usage.budgets WHERE id = ask.budget_id AND removed_at_ms IS NULL;
    SELECT COALESCE(SUM(granted_nano_usd), 0)::bigint AS granted,
      COALESCE(SUM(granted_nano_usd - settled_nano_usd - held_nano_usd) FILTER (WHERE node = its_node), 0)::bigint AS own,
      COALESCE(SUM(settled_nano_usd + held_nano_usd), 0)::bigint AS used,
      COALESCE(SUM(settled_nano_usd) FILTER (WHERE node <> its_node), 0) AS settled,
      COALESCE(SUM(held_nano_usd) FILTER (WHERE node <> its_node), 0) AS held,
      COALESCE(SUM(most_nano_usd) FILTER (WHERE node <> its_node), 0) AS most,
      COALESCE(bool_or(wanted_until > clock_timestamp()) FILTER (WHERE node <> its_node), false) AS is_wanted
    INTO sums FROM usage.escrow WHERE budget_id = ask.budget_id AND window_id = ask.window_id;
    free := free || (COALESCE(amount, 0) - sums.granted);
    there := there || (GREATEST(COALESCE(amount, 0) - sums.granted, 0) + sums.own);
    unused := unused || (COALESCE(amount, 0) - sums.used);
    own := own || sums.own;
    met := met || 0::bigint;
    is_wanted := is_wanted || sums.is_wanted;
    answers := answers || CASE WHEN amount IS NOT NULL THEN json_build_object('budgetId', ask.budget_id, 'windowId', ask.window_id,
      'untilMs', until, 'settled', sums.settled::text, 'held', sums.held::text, 'most', sums.most::text) END;
  END LOOP;
  FOR waiter IN SELECT * FROM json_array_elements(waiters) LOOP
    -- What the node was granted is its own, also where others have taken more than there was.
    SELECT MIN(at), MIN(at) FILTER (WHERE need > unused[at + 1]) INTO lacks, cannot
    FROM (SELECT (one ->> 0)::int AS at, (one ->> 1)::bigint AS need FROM json_array_elements(waiter) AS one) AS needs
    WHERE need > there[at + 1] - met[at + 1];
    IF lacks IS NULL THEN
      FOR ask IN SELECT (one ->> 0)::int + 1 AS at, (one ->> 1)::bigint AS need FROM json_array_elements(waiter) AS one LOOP
        met[ask.at] := met[ask.at] + ask.need;
      END LOOP;
    ELSIF cannot IS NULL THEN
      -- It fits when others give back what they do not need.
      wanting := wanting || ARRAY(SELECT (one ->> 0)::int FROM json_array_elements(waiter) AS one
        WHERE (one ->> 1)::bigint > there[(one ->> 0)::int + 1] - met[(one ->> 0)::int + 1]);
    END IF;
    vain := vain || to_json(cannot);
  END LOOP;
  FOR ask IN SELECT ROW_NUMBER() OVER ()::int AS at, * FROM
    json_to_recordset(asks) AS one (budget_id text, window_id text, at_ms bigint, rate bigint) LOOP
    CONTINUE WHEN answers[ask.at] IS NULL;
    given := GREATEST(0, LEAST(free[ask.at], GREATEST(met[ask.at] - own[ask.at], 0)
      + CASE WHEN is_wanted[ask.at] OR ask.at - 1 = ANY(wanting) THEN 0 ELSE LEAST(ask.rate, free[ask.at] / (2 * GREATEST(live, 1))) END));
    INSERT INTO usage.escrow AS kept VALUES (ask.budget_id, ask.window_id, its_node, 0, 0, 0, given,
      CASE WHEN ask.at - 1 = ANY(wanting) THEN clock_timestamp() + interval '600 milliseconds' END)
    ON CONFLICT (budget_id, window_id, node) DO UPDATE SET granted_nano_usd = kept.granted_nano_usd + excluded.granted_nano_usd,
      wanted_until = excluded.wanted_until;
    answers[ask.at] := (answers[ask.at]::jsonb || jsonb_build_object('given', given::text))::json;
  END LOOP;
  RETURN json_build_object('grants', array_to_json(answers), 'vain', array_to_json(vain));
END $$;

DROP FUNCTION usage.book_v1(bigint, bigint, bigint, json);

-- A batch: all of it or nothing, once. The same number again is answered what it was answered. What `requires` names has
-- to be open still: where another node was first, nothing is written, and the answer names what is gone. Locks are taken in
-- one order: the register, the node, what is nobody's by its key, budgets by id.
CREATE FUNCTION usage.book_v1(its_node bigint, its_epoch bigint, batch bigint, its_version bigint, work json)
RETURNS json LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
  held usage.nodes;
  known usage.register;
  missing json;
  firsts bigint[] := '{}';
  given json := '{"grants": [], "vain": []}';
  saw json;
  sealed_end bigint;
  its_digest text := md5(work::text);
BEGIN
  PERFORM pg_advisory_xact_lock_shared(hashtext('keymeter register'));
  -- Before anything else is written, so that a node that was given up writes nothing.
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
  SELECT * INTO known FROM usage.register;
  IF batch = held.last_batch AND its_digest = held.work_digest THEN
    RETURN held.answer::jsonb || jsonb_build_object('atMs', usage.now_ms(), 'names', known.names);
  END IF;
  IF batch <> held.last_batch + 1 THEN
    RAISE EXCEPTION 'batch % of node % comes after what was acknowledged, and the last one here is another %', batch, its_node, held.last_batch
      USING ERRCODE = 'KM002';
  END IF;
  IF its_version <> known.version THEN
    RAISE EXCEPTION 'the register has version %, this was decided by %', known.version, its_version USING ERRCODE = 'KM004';
  END IF;
  sealed_end := COALESCE((SELECT MAX(first_attempt_id) + 353894400000 FROM usage.sealed_days), 0);

  IF work -> 'reservations' IS NOT NULL THEN
    IF EXISTS (SELECT 1 FROM json_populate_recordset(NULL::usage.reservations, work -> 'reservations') WHERE attempt_id < sealed_end) THEN
      RAISE EXCEPTION 'an attempt is dated into a day that is sealed' USING ERRCODE = 'KM005';
    END IF;
    INSERT INTO usage.reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd,
      expected_nano_usd, most_nano_usd, work_id, tiers, node, holds)
    SELECT attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd, expected_nano_usd,
      most_nano_usd, work_id, tiers, its_node, COALESCE(holds, '[]')
    FROM json_populate_recordset(NULL::usage.reservations, work -> 'reservations');
  END IF;
  IF work -> 'extended' IS NOT NULL THEN
    UPDATE usage.reservations AS kept SET expected_nano_usd = more.expected_nano_usd, holds = COALESCE(more.holds, kept.holds)
    FROM json_populate_recordset(NULL::usage.reservations, work -> 'extended') AS more
    WHERE kept.attempt_id = more.attempt_id AND kept.node = its_node;
  END IF;

  IF work -> 'requires' IS NOT NULL THEN
    -- What several nodes could settle: whoever deletes it first has. The rows are locked in their order, and looked at in the
    -- next statement, as they are then.
    PERFORM 1 FROM usage.reservations WHERE attempt_id IN (SELECT value::bigint FROM json_array_elements_text(work -> 'requires'))
    ORDER BY attempt_id FOR UPDATE;
    SELECT json_agg(wanted.id ORDER BY wanted.id) INTO missing
    FROM (SELECT value::bigint AS id, (work -> 'owners' ->> (ordinality - 1)::int)::bigint AS owner
      FROM json_array_elements_text(work -> 'requires') WITH ORDINALITY) AS wanted
    -- Still whose it was when the batch was decided: what it holds is in its owner's part.
    WHERE NOT EXISTS (SELECT 1 FROM usage.reservations AS there
      WHERE there.attempt_id = wanted.id AND usage.may_settle(there.node, its_node)
        AND COALESCE(there.node, 0) = COALESCE(wanted.owner, there.node, 0));
    IF missing IS NOT NULL THEN
      RAISE EXCEPTION 'gone' USING ERRCODE = 'KM003', DETAIL = missing::text;
    END IF;
  END IF;

  -- The node's own parts first: what it gives back is free for what it asks.
  IF work -> 'escrow' IS NOT NULL THEN
    UPDATE usage.escrow AS kept SET settled_nano_usd = kept.settled_nano_usd + more.settled_nano_usd,
      held_nano_usd = kept.held_nano_usd + more.held_nano_usd, most_nano_usd = kept.most_nano_usd + more.most_nano_usd,
      granted_nano_usd = kept.granted_nano_usd + more.granted_nano_usd, wanted_until = NULL
    FROM json_populate_recordset(NULL::usage.escrow, work -> 'escrow') AS more
    WHERE kept.budget_id = more.budget_id AND kept.window_id = more.window_id AND kept.node = its_node;
    INSERT INTO usage.escrow SELECT budget_id, window_id, its_node, settled_nano_usd, held_nano_usd, most_nano_usd, granted_nano_usd
    FROM json_populate_recordset(NULL::usage.escrow, work -> 'escrow') AS more
    WHERE NOT EXISTS (SELECT 1 FROM usage.escrow AS kept
      WHERE kept.budget_id = more.budget_id AND kept.window_id = more.window_id AND kept.node = its_node);
  END IF;
  IF work -> 'shared' IS NOT NULL THEN
    PERFORM usage.move_shared(work -> 'shared');
  END IF;
  IF work -> 'suspended' IS NOT NULL THEN
    -- One charge for one id of the provider, for ever: who brought the name first stands for the work.
    WITH asked AS (
      SELECT attempt_id, provider, work_id, tiers, key_id FROM json_populate_recordset(NULL::usage.reservations, work -> 'suspended')),
    named AS (
      INSERT INTO usage.things (provider, name, key_id, attempt_id) SELECT provider, work_id, key_id, attempt_id FROM asked
      WHERE EXISTS (SELECT 1 FROM usage.reservations AS mine WHERE mine.attempt_id = asked.attempt_id AND mine.node = its_node)
      ORDER BY provider, work_id ON CONFLICT DO NOTHING RETURNING attempt_id)
    SELECT COALESCE(array_agg(attempt_id ORDER BY attempt_id), '{}') INTO firsts FROM named;
    UPDATE usage.reservations AS kept SET work_id = asked.work_id, tiers = asked.tiers, node = NULL
    FROM json_populate_recordset(NULL::usage.reservations, work -> 'suspended') AS asked
    WHERE kept.attempt_id = asked.attempt_id AND asked.attempt_id = ANY(firsts);
    PERFORM usage.hand_over(its_node, firsts);
  END IF;
  -- What is taken without asking, and what goes back, is there when more is given.
  IF work -> 'asks' IS NOT NULL THEN
    given := usage.grant_v1(its_node, work -> 'asks', work -> 'waiters');
  END IF;

  IF work -> 'keys' IS NOT NULL THEN
    INSERT INTO usage.keys (id, kind, provider, name, state, hint, created_at_ms)
    SELECT id, 'fingerprint', provider, name, 'active', hint, created_at_ms
    FROM json_populate_recordset(NULL::usage.keys, work -> 'keys') ORDER BY id ON CONFLICT DO NOTHING;
  END IF;
  IF work -> 'secrets' IS NOT NULL THEN
    INSERT INTO usage.key_secrets (digest, key_id, created_at_ms)
    SELECT digest, key_id, created_at_ms FROM json_populate_recordset(NULL::usage.key_secrets, work -> 'secrets')
    ORDER BY digest ON CONFLICT DO NOTHING;
  END IF;
  IF work -> 'things' IS NOT NULL THEN
    INSERT INTO usage.things (provider, name, key_id, attempt_id)
    SELECT provider, name, key_id, attempt_id FROM json_populate_recordset(NULL::usage.things, work -> 'things')
    ORDER BY provider, name ON CONFLICT DO NOTHING;
  END IF;
  IF work -> 'events' IS NOT NULL THEN
    INSERT INTO usage.late SELECT attempt_id FROM json_populate_recordset(NULL::usage.events, work -> 'events')
    WHERE attempt_id < sealed_end ORDER BY 1 ON CONFLICT DO NOTHING;
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
  END IF;
  IF work -> 'hours' IS NOT NULL THEN
    PERFORM usage.add_sums(its_node, work);
  END IF;

  -- What several nodes write: in the order of its key, so that two never wait for each other in a ring.
  IF work -> 'meterHours' IS NOT NULL THEN
    INSERT INTO usage.meter_hours SELECT value::bigint FROM json_array_elements_text(work -> 'meterHours') ORDER BY 1 ON CONFLICT DO NOTHING;
  END IF;
  IF work -> 'refused' IS NOT NULL THEN
    INSERT INTO usage.refused AS kept
    SELECT minute_ms, key_id, model, reason, budget_id, observed, count
    FROM json_populate_recordset(NULL::usage.refused, work -> 'refused') ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (minute_ms, key_id, model, reason, budget_id, observed) DO UPDATE SET count = kept.count + excluded.count;
  END IF;
  IF work -> 'servedNames' IS NOT NULL THEN
    INSERT INTO usage.served_names AS kept
    SELECT provider, requested_model, served_model FROM json_populate_recordset(NULL::usage.served_names, work -> 'servedNames')
    ORDER BY 1, 2 ON CONFLICT (provider, requested_model) DO UPDATE SET served_model = excluded.served_model;
  END IF;
  IF work -> 'addresses' IS NOT NULL THEN
    INSERT INTO usage.key_addresses AS kept
    SELECT key_id, address, first_seen_ms, last_seen_ms FROM json_populate_recordset(NULL::usage.key_addresses, work -> 'addresses')
    ORDER BY 1, 2 ON CONFLICT (key_id, address) DO UPDATE SET last_seen_ms = GREATEST(kept.last_seen_ms, excluded.last_seen_ms);
  END IF;
  IF work -> 'credentials' IS NOT NULL THEN
    INSERT INTO usage.credentials
    SELECT provider, since_ms, credential, hint FROM json_populate_recordset(NULL::usage.credentials, work -> 'credentials') AS seen
    WHERE credential IS DISTINCT FROM (SELECT credential FROM usage.credentials AS last WHERE last.provider = seen.provider
      ORDER BY since_ms DESC LIMIT 1)
    ORDER BY 1, 2 ON CONFLICT (provider, since_ms) DO UPDATE SET credential = excluded.credential, hint = excluded.hint;
  END IF;
  IF work -> 'look' IS NOT NULL THEN
    saw := usage.look_v1(its_node, work -> 'look');
  END IF;
  IF work -> 'servedNames' IS NOT NULL THEN
    -- Last of all: nobody who has this row waits for another.
    UPDATE usage.register SET names = names + 1 RETURNING * INTO known;
  END IF;

  -- However long it waited for others: it is seen now.
  UPDATE usage.nodes SET seen_at = clock_timestamp(), last_batch = batch, work_digest = its_digest,
    answer = json_build_object('firsts', firsts, 'grants', given -> 'grants', 'vain', given -> 'vain'),
    last_id = GREATEST(last_id, (work ->> 'lastId')::bigint) WHERE node = its_node;
  RETURN json_build_object('firsts', firsts, 'grants', given -> 'grants', 'vain', given -> 'vain', 'saw', saw, 'atMs', usage.now_ms(), 'names', known.names);
END $$;

-- What a node hears now and then: which windows others wait for, who is silent, and what all others have in the windows
-- that it names.
CREATE FUNCTION usage.look_v1(its_node bigint, its_windows json) RETURNS json LANGUAGE sql AS $$
  SELECT json_build_object(
    'wanted', COALESCE((SELECT json_agg(json_build_array(budget_id, window_id)) FROM usage.escrow
      WHERE wanted_until > clock_timestamp() AND node <> its_node), '[]'),
    'silent', COALESCE((SELECT json_agg(node ORDER BY node) FROM usage.nodes
      WHERE state = 'live' AND node <> its_node AND clock_timestamp() - seen_at > interval '15 seconds'), '[]'),
    'others', COALESCE((SELECT json_agg(json_build_array(budget_id, window_id, settled::text, held::text, most::text)) FROM (
      SELECT budget_id, window_id, SUM(settled_nano_usd) AS settled, SUM(held_nano_usd) AS held, SUM(most_nano_usd) AS most
      FROM usage.escrow WHERE window_id IN (SELECT json_array_elements_text(its_windows)) AND node <> its_node
      GROUP BY budget_id, window_id) AS summed), '[]'))
$$;

-- Parts that are nobody's, or of a node that was given up: in the order of their key.
CREATE FUNCTION usage.move_shared(rows json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.escrow
  SELECT DISTINCT budget_id, window_id, node, 0, 0, 0, 0 FROM json_populate_recordset(NULL::usage.escrow, rows) ORDER BY 1, 2, 3
  ON CONFLICT DO NOTHING;
  PERFORM 1 FROM usage.escrow AS kept
  WHERE (budget_id, window_id, node) IN (SELECT budget_id, window_id, node FROM json_populate_recordset(NULL::usage.escrow, rows))
  ORDER BY budget_id, window_id, node FOR UPDATE;
  UPDATE usage.escrow AS kept SET settled_nano_usd = kept.settled_nano_usd + more.settled_nano_usd,
    held_nano_usd = kept.held_nano_usd + more.held_nano_usd, most_nano_usd = kept.most_nano_usd + more.most_nano_usd,
    granted_nano_usd = kept.granted_nano_usd + more.granted_nano_usd
  FROM (SELECT budget_id, window_id, node, SUM(settled_nano_usd)::bigint AS settled_nano_usd, SUM(held_nano_usd)::bigint AS held_nano_usd,
      SUM(most_nano_usd)::bigint AS most_nano_usd, SUM(granted_nano_usd)::bigint AS granted_nano_usd
    FROM json_populate_recordset(NULL::usage.escrow, rows) GROUP BY 1, 2, 3) AS more
  WHERE kept.budget_id = more.budget_id AND kept.window_id = more.window_id AND kept.node = more.node;
END $$;

-- What attempts hold goes from a node to nobody: their work goes on at the provider.
CREATE FUNCTION usage.hand_over(its_node bigint, attempts bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  parts json;
BEGIN
  SELECT json_agg(json_build_object('budget_id', part ->> 0, 'window_id', part ->> 1, 'node', 0, 'settled_nano_usd', 0,
    'held_nano_usd', part ->> 2, 'most_nano_usd', part ->> 3, 'granted_nano_usd', part ->> 2))
  INTO parts FROM usage.reservations, json_array_elements(holds::json) AS part WHERE attempt_id = ANY(attempts);
  IF parts IS NULL THEN
    RETURN;
  END IF;
  UPDATE usage.escrow AS kept SET held_nano_usd = kept.held_nano_usd - more.held, most_nano_usd = kept.most_nano_usd - more.most,
    granted_nano_usd = kept.granted_nano_usd - more.held
  FROM (SELECT budget_id, window_id, SUM(held_nano_usd)::bigint AS held, SUM(most_nano_usd)::bigint AS most
    FROM json_populate_recordset(NULL::usage.escrow, parts) GROUP BY 1, 2) AS more
  WHERE kept.budget_id = more.budget_id AND kept.window_id = more.window_id AND kept.node = its_node;
  PERFORM usage.move_shared(parts);
END $$;

CREATE FUNCTION usage.add_sums(its_node bigint, work json) RETURNS void LANGUAGE sql AS $$
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
$$;

-- As before; and what a node was granted beyond its needs is free when it begins, ends, or is given up.
CREATE OR REPLACE FUNCTION usage.lease_node_v1(its_name text, agreed json, wanted bigint, my_node bigint, my_epoch bigint)
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
      doubt := json_build_object('batch', held.last_batch, 'firsts', held.answer -> 'firsts');
    ELSIF held.state = 'live' AND held.epoch_before = my_epoch AND held.last_batch = 0 THEN
      -- It was taken again, and the answer got lost.
      chosen := my_node;
      doubt := held.doubt;
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
    -- A number in which something is open waits for whoever left it, or for its end. Who was given up and is only late makes ids
    -- of its number until it hears of that: for an hour nobody else has it.
    SELECT MIN(n) INTO chosen FROM generate_series(1, 255) AS n
    WHERE NOT EXISTS (SELECT 1 FROM usage.nodes WHERE node = n
        AND (state = 'live' OR (state = 'fenced' AND clock_timestamp() - seen_at < interval '1 hour')))
      AND NOT EXISTS (SELECT 1 FROM usage.reservations WHERE node = n);
    IF chosen IS NULL THEN
      RETURN json_build_object('full', true);
    END IF;
  END IF;
  INSERT INTO usage.agreed SELECT key, value FROM json_each_text(agreed) ORDER BY key ON CONFLICT DO NOTHING;
  INSERT INTO usage.nodes AS known (node, epoch, name, state, seen_at, since, last_id, last_batch, work_digest, answer, epoch_before, doubt)
  VALUES (chosen, usage.now_ms(), its_name, 'live', clock_timestamp(), clock_timestamp(),
    COALESCE((SELECT value::bigint FROM usage.meta WHERE name = 'moved_end'), 0), 0, '', '{"firsts": []}',
    CASE WHEN chosen = my_node THEN my_epoch END, doubt)
  ON CONFLICT (node) DO UPDATE SET epoch = GREATEST(known.epoch + 1, excluded.epoch), epoch_before = excluded.epoch_before,
    doubt = excluded.doubt, name = excluded.name,
    state = 'live', seen_at = excluded.seen_at, since = excluded.since, last_id = GREATEST(known.last_id, excluded.last_id),
    last_batch = 0, work_digest = '', answer = excluded.answer
  RETURNING * INTO held;
  PERFORM usage.free_surplus(chosen);
  RETURN json_build_object('node', held.node, 'epoch', held.epoch, 'lastId', held.last_id, 'doubt', doubt);
END $$;

CREATE OR REPLACE FUNCTION usage.fence_node_v1(its_node bigint, its_epoch bigint, other bigint) RETURNS boolean LANGUAGE plpgsql AS $$
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
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  -- What it left open keeps its money.
  PERFORM usage.free_surplus(other);
  RETURN true;
END $$;

CREATE OR REPLACE FUNCTION usage.release_node_v1(its_node bigint, its_epoch bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  -- A batch that is still booked is waited for, and what it left is seen in the next statement.
  PERFORM 1 FROM usage.nodes WHERE node = its_node FOR UPDATE;
  UPDATE usage.nodes SET state = 'released' WHERE node = its_node AND epoch = its_epoch AND state = 'live'
    AND NOT EXISTS (SELECT 1 FROM usage.reservations WHERE node = its_node);
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM usage.free_surplus(its_node);
  RETURN true;
END $$;

-- One of several programs of a kind does its work; the others stand by. Who has not been heard of for 15 s, by this server's
-- clock, is followed by another, under a higher epoch.
CREATE TABLE usage.leaders (
  role usage.words PRIMARY KEY,
  holder usage.words NOT NULL,
  -- Of whom, for people.
  name usage.words NOT NULL,
  epoch bigint NOT NULL,
  seen_at timestamptz NOT NULL
);
-- Leads, goes on leading, or says who does. Returns the epoch of the holder; null: another one leads.
CREATE FUNCTION usage.lead_v1(its_role text, its_holder text, its_name text) RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO usage.leaders AS kept VALUES (its_role, its_holder, its_name, usage.now_ms(), clock_timestamp())
  ON CONFLICT (role) DO UPDATE SET seen_at = clock_timestamp(), holder = excluded.holder, name = excluded.name,
    epoch = CASE WHEN kept.holder = excluded.holder THEN kept.epoch ELSE GREATEST(kept.epoch + 1, excluded.epoch) END
  WHERE kept.holder = excluded.holder OR clock_timestamp() - kept.seen_at > interval '15 seconds'
  RETURNING epoch
$$;
