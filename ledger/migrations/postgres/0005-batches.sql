-- Batches again, in fewer looks: JSON is read once, who asks for money in vain locks nobody out, and money is given last, for
-- whoever waits for a budget waits until the commit. Rows of a batch are written by functions of their own.

-- Whether programs of the release before go on with a migration (its first line says so): then they may run, and start, beside
-- those of the next one.
ALTER TABLE usage.migrations ADD COLUMN is_additive boolean NOT NULL DEFAULT false;

DROP FUNCTION usage.grant_v1(bigint, json, json);
DROP FUNCTION usage.book_v1(bigint, bigint, bigint, bigint, json);
DROP FUNCTION usage.look_v1(bigint, json);
DROP FUNCTION usage.move_shared(json);
DROP FUNCTION usage.add_sums(bigint, json);

-- Whether there is nothing to give: nothing is free of what is asked for, and none that waits would fit whatever others gave
-- back. Read without a lock: whoever is refused by it would have been refused at that moment.
CREATE FUNCTION usage.asks_in_vain(its_node bigint, asks jsonb, waiters jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  RETURN (
    WITH asked AS (
      SELECT ROW_NUMBER() OVER () - 1 AS at, budget_id, window_id, at_ms
      FROM jsonb_to_recordset(asks) AS one (budget_id text, window_id text, at_ms bigint)),
    summed AS (
      SELECT asked.at, COALESCE(amount, 0) - granted AS free, COALESCE(amount, 0) - used AS unused, own
      FROM asked,
        LATERAL (SELECT COALESCE(SUM(granted_nano_usd), 0) AS granted, COALESCE(SUM(settled_nano_usd + held_nano_usd), 0) AS used,
            COALESCE(SUM(granted_nano_usd - settled_nano_usd - held_nano_usd) FILTER (WHERE node = its_node), 0) AS own
          FROM usage.escrow WHERE budget_id = asked.budget_id AND window_id = asked.window_id) AS sums
        LEFT JOIN LATERAL (SELECT amount_nano_usd + COALESCE((SELECT SUM(raises.amount_nano_usd) FROM usage.raises
            WHERE budget_id = budgets.id AND ended_at_ms IS NULL AND created_at_ms <= asked.at_ms AND asked.at_ms < until_ms), 0) AS amount
          FROM usage.budgets WHERE id = asked.budget_id AND removed_at_ms IS NULL) AS budget ON true)
    SELECT NOT EXISTS (SELECT 1 FROM summed WHERE free > 0) AND NOT EXISTS (
      SELECT 1 FROM jsonb_array_elements(waiters) AS waiter WHERE NOT EXISTS (
        SELECT 1 FROM jsonb_array_elements(waiter) AS one JOIN summed ON summed.at = (one ->> 0)::int
        WHERE (one ->> 1)::bigint > GREATEST(free, 0) + own AND (one ->> 1)::bigint > unused)));
END $$;

-- Asks of a node for more of windows. Those that wait are looked at in their order: each is given all that it needs, or
-- nothing, so that none holds a part of what another one needs while it waits itself. Beyond that a second's need is given
-- ahead, or a share of what is left, but not while others wait. Returns of each ask what was given, until when it may be used
-- and what all others have; and of each that waits in which ask it does not fit, whatever others gave back.
CREATE FUNCTION usage.grant_v1(its_node bigint, asks jsonb, waiters jsonb) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  ask record;
  waiter jsonb;
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
  is_vain boolean := usage.asks_in_vain(its_node, asks, waiters);
  answers json[] := '{}';
  vain json[] := '{}';
BEGIN
  -- Who asks in vain locks nobody out: where nothing is free, and none that waits would fit whatever others gave back, there is
  -- nothing to give.
  IF NOT is_vain THEN
    -- One node after the other; what is summed up then is read in later statements, when the last one's grants are there.
    PERFORM 1 FROM usage.budgets WHERE id IN (SELECT budget_id FROM jsonb_to_recordset(asks) AS one (budget_id text))
    ORDER BY id FOR NO KEY UPDATE;
  END IF;
  SELECT COUNT(*) INTO live FROM usage.nodes WHERE state = 'live';
  FOR ask IN SELECT * FROM jsonb_to_recordset(asks) AS one (budget_id text, window_id text, at_ms bigint, rate bigint) LOOP
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
  FOR waiter IN SELECT * FROM jsonb_array_elements(waiters) LOOP
    -- What the node was granted is its own, also where others have taken more than there was.
    SELECT MIN(at), MIN(at) FILTER (WHERE need > unused[at + 1]) INTO lacks, cannot
    FROM (SELECT (one ->> 0)::int AS at, (one ->> 1)::bigint AS need FROM jsonb_array_elements(waiter) AS one) AS needs
    WHERE need > there[at + 1] - met[at + 1];
    IF lacks IS NULL THEN
      FOR ask IN SELECT (one ->> 0)::int + 1 AS at, (one ->> 1)::bigint AS need FROM jsonb_array_elements(waiter) AS one LOOP
        met[ask.at] := met[ask.at] + ask.need;
      END LOOP;
    ELSIF cannot IS NULL THEN
      -- It fits when others give back what they do not need.
      wanting := wanting || ARRAY(SELECT (one ->> 0)::int FROM jsonb_array_elements(waiter) AS one
        WHERE (one ->> 1)::bigint > there[(one ->> 0)::int + 1] - met[(one ->> 0)::int + 1]);
    END IF;
    vain := vain || to_json(cannot);
  END LOOP;
  FOR ask IN SELECT ROW_NUMBER() OVER ()::int AS at, * FROM
    jsonb_to_recordset(asks) AS one (budget_id text, window_id text, at_ms bigint, rate bigint) LOOP
    CONTINUE WHEN answers[ask.at] IS NULL;
    -- Without the lock nothing is given, whatever has become free since.
    given := CASE WHEN is_vain THEN 0 ELSE 1 END * GREATEST(0, LEAST(free[ask.at], GREATEST(met[ask.at] - own[ask.at], 0)
      + CASE WHEN is_wanted[ask.at] OR ask.at - 1 = ANY(wanting) THEN 0 ELSE LEAST(ask.rate, free[ask.at] / (2 * GREATEST(live, 1))) END));
    INSERT INTO usage.escrow AS kept VALUES (ask.budget_id, ask.window_id, its_node, 0, 0, 0, given,
      CASE WHEN ask.at - 1 = ANY(wanting) THEN clock_timestamp() + interval '600 milliseconds' END)
    ON CONFLICT (budget_id, window_id, node) DO UPDATE SET granted_nano_usd = kept.granted_nano_usd + excluded.granted_nano_usd,
      wanted_until = excluded.wanted_until;
    answers[ask.at] := (answers[ask.at]::jsonb || jsonb_build_object('given', given::text))::json;
  END LOOP;
  RETURN json_build_object('grants', array_to_json(answers), 'vain', array_to_json(vain));
END $$;

-- A batch: all of it or nothing, once. The same number again is answered what it was answered. What `requires` names has
-- to be open still: where another node was first, nothing is written, and the answer names what is gone. Locks are taken in
-- one order: the register, the node, what is nobody's by its key, budgets by id.
CREATE FUNCTION usage.book_v1(its_node bigint, its_epoch bigint, batch bigint, its_version bigint, its_work text)
RETURNS json LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
  held usage.nodes;
  known usage.register;
  missing json;
  firsts bigint[] := '{}';
  given json := '{"grants": [], "vain": []}';
  saw json;
  sealed_end bigint;
  -- Read once: each look into a text of JSON would read all of it.
  work jsonb := its_work;
  its_digest text := md5(its_work);
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
    IF EXISTS (SELECT 1 FROM jsonb_populate_recordset(NULL::usage.reservations, work -> 'reservations') WHERE attempt_id < sealed_end) THEN
      RAISE EXCEPTION 'an attempt is dated into a day that is sealed' USING ERRCODE = 'KM005';
    END IF;
    PERFORM usage.hold(its_node, work -> 'reservations');
  END IF;
  IF work -> 'extended' IS NOT NULL THEN
    UPDATE usage.reservations AS kept SET expected_nano_usd = more.expected_nano_usd, holds = COALESCE(more.holds, kept.holds)
    FROM jsonb_populate_recordset(NULL::usage.reservations, work -> 'extended') AS more
    WHERE kept.attempt_id = more.attempt_id AND kept.node = its_node;
  END IF;

  IF work -> 'requires' IS NOT NULL THEN
    -- What several nodes could settle: whoever deletes it first has. The rows are locked in their order, and looked at in the
    -- next statement, as they are then.
    PERFORM 1 FROM usage.reservations WHERE attempt_id IN (SELECT value::bigint FROM jsonb_array_elements_text(work -> 'requires'))
    ORDER BY attempt_id FOR UPDATE;
    SELECT json_agg(wanted.id ORDER BY wanted.id) INTO missing
    FROM (SELECT value::bigint AS id, (work -> 'owners' ->> (ordinality - 1)::int)::bigint AS owner
      FROM jsonb_array_elements_text(work -> 'requires') WITH ORDINALITY) AS wanted
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
    FROM jsonb_populate_recordset(NULL::usage.escrow, work -> 'escrow') AS more
    WHERE kept.budget_id = more.budget_id AND kept.window_id = more.window_id AND kept.node = its_node;
    INSERT INTO usage.escrow SELECT budget_id, window_id, its_node, settled_nano_usd, held_nano_usd, most_nano_usd, granted_nano_usd
    FROM jsonb_populate_recordset(NULL::usage.escrow, work -> 'escrow') AS more
    WHERE NOT EXISTS (SELECT 1 FROM usage.escrow AS kept
      WHERE kept.budget_id = more.budget_id AND kept.window_id = more.window_id AND kept.node = its_node);
  END IF;
  IF work -> 'shared' IS NOT NULL THEN
    PERFORM usage.move_shared(work -> 'shared');
  END IF;
  IF work -> 'suspended' IS NOT NULL THEN
    -- One charge for one id of the provider, for ever: who brought the name first stands for the work.
    WITH asked AS (
      SELECT attempt_id, provider, work_id, tiers, key_id FROM jsonb_populate_recordset(NULL::usage.reservations, work -> 'suspended')),
    named AS (
      INSERT INTO usage.things (provider, name, key_id, attempt_id) SELECT provider, work_id, key_id, attempt_id FROM asked
      WHERE EXISTS (SELECT 1 FROM usage.reservations AS mine WHERE mine.attempt_id = asked.attempt_id AND mine.node = its_node)
      ORDER BY provider, work_id ON CONFLICT DO NOTHING RETURNING attempt_id)
    SELECT COALESCE(array_agg(attempt_id ORDER BY attempt_id), '{}') INTO firsts FROM named;
    UPDATE usage.reservations AS kept SET work_id = asked.work_id, tiers = asked.tiers, node = NULL
    FROM jsonb_populate_recordset(NULL::usage.reservations, work -> 'suspended') AS asked
    WHERE kept.attempt_id = asked.attempt_id AND asked.attempt_id = ANY(firsts);
    PERFORM usage.hand_over(its_node, firsts);
  END IF;
  IF work -> 'keys' IS NOT NULL THEN
    INSERT INTO usage.keys (id, kind, provider, name, state, hint, created_at_ms)
    SELECT id, 'fingerprint', provider, name, 'active', hint, created_at_ms
    FROM jsonb_populate_recordset(NULL::usage.keys, work -> 'keys') ORDER BY id ON CONFLICT DO NOTHING;
  END IF;
  IF work -> 'secrets' IS NOT NULL THEN
    INSERT INTO usage.key_secrets (digest, key_id, created_at_ms)
    SELECT digest, key_id, created_at_ms FROM jsonb_populate_recordset(NULL::usage.key_secrets, work -> 'secrets')
    ORDER BY digest ON CONFLICT DO NOTHING;
  END IF;
  IF work -> 'things' IS NOT NULL THEN
    INSERT INTO usage.things (provider, name, key_id, attempt_id)
    SELECT provider, name, key_id, attempt_id FROM jsonb_populate_recordset(NULL::usage.things, work -> 'things')
    ORDER BY provider, name ON CONFLICT DO NOTHING;
  END IF;
  IF work -> 'events' IS NOT NULL THEN
    INSERT INTO usage.late SELECT attempt_id FROM jsonb_populate_recordset(NULL::usage.events, work -> 'events')
    WHERE attempt_id < sealed_end ORDER BY 1 ON CONFLICT DO NOTHING;
    PERFORM usage.write_events(work -> 'events');
    -- What was required is locked, and was looked at: whose it is by now is no matter.
    DELETE FROM usage.reservations AS there USING jsonb_populate_recordset(NULL::usage.events, work -> 'events') AS settled
    WHERE there.attempt_id = settled.attempt_id AND (there.node = its_node
      OR there.attempt_id IN (SELECT value::bigint FROM jsonb_array_elements_text(COALESCE(work -> 'requires', '[]'))));
  END IF;
  IF work -> 'hours' IS NOT NULL THEN
    PERFORM usage.add_sums(its_node, work);
  END IF;

  -- What several nodes write: in the order of its key, so that two never wait for each other in a ring.
  IF work -> 'meterHours' IS NOT NULL THEN
    INSERT INTO usage.meter_hours SELECT value::bigint FROM jsonb_array_elements_text(work -> 'meterHours') ORDER BY 1 ON CONFLICT DO NOTHING;
  END IF;
  IF work -> 'refused' IS NOT NULL THEN
    INSERT INTO usage.refused AS kept
    SELECT minute_ms, key_id, model, reason, budget_id, observed, count
    FROM jsonb_populate_recordset(NULL::usage.refused, work -> 'refused') ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (minute_ms, key_id, model, reason, budget_id, observed) DO UPDATE SET count = kept.count + excluded.count;
  END IF;
  IF work -> 'servedNames' IS NOT NULL THEN
    INSERT INTO usage.served_names AS kept
    SELECT provider, requested_model, served_model FROM jsonb_populate_recordset(NULL::usage.served_names, work -> 'servedNames')
    ORDER BY 1, 2 ON CONFLICT (provider, requested_model) DO UPDATE SET served_model = excluded.served_model;
  END IF;
  IF work -> 'addresses' IS NOT NULL THEN
    INSERT INTO usage.key_addresses AS kept
    SELECT key_id, address, first_seen_ms, last_seen_ms FROM jsonb_populate_recordset(NULL::usage.key_addresses, work -> 'addresses')
    ORDER BY 1, 2 ON CONFLICT (key_id, address) DO UPDATE SET last_seen_ms = GREATEST(kept.last_seen_ms, excluded.last_seen_ms);
  END IF;
  IF work -> 'credentials' IS NOT NULL THEN
    INSERT INTO usage.credentials
    SELECT provider, since_ms, credential, hint FROM jsonb_populate_recordset(NULL::usage.credentials, work -> 'credentials') AS seen
    WHERE credential IS DISTINCT FROM (SELECT credential FROM usage.credentials AS last WHERE last.provider = seen.provider
      ORDER BY since_ms DESC LIMIT 1)
    ORDER BY 1, 2 ON CONFLICT (provider, since_ms) DO UPDATE SET credential = excluded.credential, hint = excluded.hint;
  END IF;
  -- What is taken without asking, and what goes back, is there when more is given. Late, for budgets stay locked until the
  -- commit, and other nodes wait for them.
  IF work -> 'asks' IS NOT NULL THEN
    given := usage.grant_v1(its_node, work -> 'asks', work -> 'waiters');
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
CREATE FUNCTION usage.look_v1(its_node bigint, its_windows jsonb) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
  RETURN json_build_object(
    'wanted', COALESCE((SELECT json_agg(json_build_array(budget_id, window_id)) FROM usage.escrow
      WHERE wanted_until > clock_timestamp() AND node <> its_node), '[]'),
    'silent', COALESCE((SELECT json_agg(node ORDER BY node) FROM usage.nodes
      WHERE state = 'live' AND node <> its_node AND clock_timestamp() - seen_at > interval '15 seconds'), '[]'),
    'others', COALESCE((SELECT json_agg(json_build_array(budget_id, window_id, settled::text, held::text, most::text)) FROM (
      SELECT budget_id, window_id, SUM(settled_nano_usd) AS settled, SUM(held_nano_usd) AS held, SUM(most_nano_usd) AS most
      FROM usage.escrow WHERE window_id IN (SELECT jsonb_array_elements_text(its_windows)) AND node <> its_node
      GROUP BY budget_id, window_id) AS summed), '[]'));
END $$;

-- Parts that are nobody's, or of a node that was given up: in the order of their key.
CREATE FUNCTION usage.move_shared(rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.escrow
  SELECT DISTINCT budget_id, window_id, node, 0, 0, 0, 0 FROM jsonb_populate_recordset(NULL::usage.escrow, rows) ORDER BY 1, 2, 3
  ON CONFLICT DO NOTHING;
  PERFORM 1 FROM usage.escrow AS kept
  WHERE (budget_id, window_id, node) IN (SELECT budget_id, window_id, node FROM jsonb_populate_recordset(NULL::usage.escrow, rows))
  ORDER BY budget_id, window_id, node FOR UPDATE;
  UPDATE usage.escrow AS kept SET settled_nano_usd = kept.settled_nano_usd + more.settled_nano_usd,
    held_nano_usd = kept.held_nano_usd + more.held_nano_usd, most_nano_usd = kept.most_nano_usd + more.most_nano_usd,
    granted_nano_usd = kept.granted_nano_usd + more.granted_nano_usd
  FROM (SELECT budget_id, window_id, node, SUM(settled_nano_usd)::bigint AS settled_nano_usd, SUM(held_nano_usd)::bigint AS held_nano_usd,
      SUM(most_nano_usd)::bigint AS most_nano_usd, SUM(granted_nano_usd)::bigint AS granted_nano_usd
    FROM jsonb_populate_recordset(NULL::usage.escrow, rows) GROUP BY 1, 2, 3) AS more
  WHERE kept.budget_id = more.budget_id AND kept.window_id = more.window_id AND kept.node = more.node;
END $$;

-- What attempts hold goes from a node to nobody: their work goes on at the provider.
CREATE OR REPLACE FUNCTION usage.hand_over(its_node bigint, attempts bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  parts jsonb;
BEGIN
  SELECT jsonb_agg(jsonb_build_object('budget_id', part ->> 0, 'window_id', part ->> 1, 'node', 0, 'settled_nano_usd', 0,
    'held_nano_usd', part ->> 2, 'most_nano_usd', part ->> 3, 'granted_nano_usd', part ->> 2))
  INTO parts FROM usage.reservations, json_array_elements(holds::json) AS part WHERE attempt_id = ANY(attempts);
  IF parts IS NULL THEN
    RETURN;
  END IF;
  UPDATE usage.escrow AS kept SET held_nano_usd = kept.held_nano_usd - more.held, most_nano_usd = kept.most_nano_usd - more.most,
    granted_nano_usd = kept.granted_nano_usd - more.held
  FROM (SELECT budget_id, window_id, SUM(held_nano_usd)::bigint AS held, SUM(most_nano_usd)::bigint AS most
    FROM jsonb_populate_recordset(NULL::usage.escrow, parts) GROUP BY 1, 2) AS more
  WHERE kept.budget_id = more.budget_id AND kept.window_id = more.window_id AND kept.node = its_node;
  PERFORM usage.move_shared(parts);
END $$;

-- Rows of what a batch brings. In the language that keeps its plans: they are called with each batch.
CREATE FUNCTION usage.hold(its_node bigint, rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd,
    expected_nano_usd, most_nano_usd, work_id, tiers, node, holds)
  SELECT attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd, expected_nano_usd,
    most_nano_usd, work_id, tiers, its_node, COALESCE(holds, '[]')
  FROM jsonb_populate_recordset(NULL::usage.reservations, rows);
END $$;

CREATE FUNCTION usage.write_events(rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.events (attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, tags, input,
    cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version,
    price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage,
    stated_cost_nano_usd, usage_reason, price_list)
  SELECT attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, tags, input,
    cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version,
    price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage,
    stated_cost_nano_usd, usage_reason, price_list
  FROM jsonb_populate_recordset(NULL::usage.events, rows);
END $$;

CREATE FUNCTION usage.add_sums(its_node bigint, work jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.rollup_hour_of_node AS kept (hour_ms, key_id, provider, model, requested_model, team, project, env, requests,
    cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred, node)
  SELECT hour_ms, key_id, provider, model, requested_model, team, project, env, requests, cost_nano_usd, input, cache_read,
    cache_write, output, estimated, unknown, unpriced, inferred, its_node
  FROM jsonb_populate_recordset(NULL::usage.rollup_hour_of_node, work -> 'hours')
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
  FROM jsonb_populate_recordset(NULL::usage.rollup_day_of_node, work -> 'days')
  ON CONFLICT (day, key_id, provider, model, requested_model, team, project, env, node) DO UPDATE SET
    requests = kept.requests + excluded.requests, cost_nano_usd = kept.cost_nano_usd + excluded.cost_nano_usd,
    input = kept.input + excluded.input, cache_read = kept.cache_read + excluded.cache_read,
    cache_write = kept.cache_write + excluded.cache_write, output = kept.output + excluded.output,
    estimated = kept.estimated + excluded.estimated, unknown = kept.unknown + excluded.unknown,
    unpriced = kept.unpriced + excluded.unpriced, inferred = kept.inferred + excluded.inferred;
END $$;
