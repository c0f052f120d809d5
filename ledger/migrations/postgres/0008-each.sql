-- A cap for each: of each user, each key, each value of a tag (`tag:NAME`). Null: the scope has the amount. A member's cap is
-- `RULE/MEMBER` in what nodes hold and ask for; its amount is the rule's.
ALTER TABLE usage.budgets ADD COLUMN each_of usage.words, ADD COLUMN tag usage.words;
ALTER TABLE usage.freezes ADD COLUMN tag usage.words;
-- Of a rule: the one member that has more money, as it stands in the id; empty: all of them.
ALTER TABLE usage.raises ADD COLUMN member usage.words NOT NULL DEFAULT '';

-- Tags that all requests of a key carry are its own, and count in budgets.
ALTER TABLE usage.key_owners DROP CONSTRAINT key_owners_part_check, ADD CHECK (part IN ('team', 'project', 'env', 'user', 'tag'));
INSERT INTO usage.key_owners
  SELECT keys.id, 'tag', tags.key || '=' || tags.value FROM usage.keys, json_each_text(keys.policy::json -> 'tags') AS tags
  WHERE keys.policy IS NOT NULL ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION usage.asks_in_vain(its_node bigint, asks jsonb, waiters jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
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
            WHERE budget_id = budgets.id AND (member = '' OR budgets.id || '/' || member = asked.budget_id) AND ended_at_ms IS NULL AND created_at_ms <= asked.at_ms AND asked.at_ms < until_ms), 0) AS amount
          FROM usage.budgets WHERE id = split_part(asked.budget_id, '/', 1) AND removed_at_ms IS NULL) AS budget ON true)
    SELECT NOT EXISTS (SELECT 1 FROM summed WHERE free > 0) AND NOT EXISTS (
      SELECT 1 FROM jsonb_array_elements(waiters) AS waiter WHERE NOT EXISTS (
        SELECT 1 FROM jsonb_array_elements(waiter) AS one JOIN summed ON summed.at = (one ->> 0)::int
        WHERE (one ->> 1)::bigint > GREATEST(free, 0) + own AND (one ->> 1)::bigint > unused)));
END $$;

CREATE OR REPLACE FUNCTION usage.grant_v1(its_node bigint, asks jsonb, waiters jsonb) RETURNS json LANGUAGE plpgsql AS $$
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
    PERFORM 1 FROM usage.budgets WHERE id IN (SELECT split_part(budget_id, '/', 1) FROM jsonb_to_recordset(asks) AS one (budget_id text))
    ORDER BY id FOR NO KEY UPDATE;
  END IF;
  SELECT COUNT(*) INTO live FROM usage.nodes WHERE state = 'live';
  FOR ask IN SELECT * FROM jsonb_to_recordset(asks) AS one (budget_id text, window_id text, at_ms bigint, rate bigint) LOOP
    SELECT amount_nano_usd + COALESCE((SELECT SUM(amount_nano_usd) FROM usage.raises
        WHERE budget_id = budgets.id AND (member = '' OR budgets.id || '/' || member = ask.budget_id) AND ended_at_ms IS NULL AND created_at_ms <= ask.at_ms AND ask.at_ms < until_ms), 0),
      (SELECT MIN(until_ms) FROM usage.raises
        WHERE budget_id = budgets.id AND (member = '' OR budgets.id || '/' || member = ask.budget_id) AND ended_at_ms IS NULL AND created_at_ms <= ask.at_ms AND ask.at_ms < until_ms)
    INTO amount, until FROM usage.budgets WHERE id = split_part(ask.budget_id, '/', 1) AND removed_at_ms IS NULL;
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

CREATE OR REPLACE FUNCTION usage.look_v1(its_node bigint, its_windows jsonb) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
  RETURN json_build_object(
    'wanted', COALESCE((SELECT json_agg(json_build_array(budget_id, window_id)) FROM usage.escrow
      WHERE wanted_until > clock_timestamp() AND node <> its_node), '[]'),
    'silent', COALESCE((SELECT json_agg(node ORDER BY node) FROM usage.nodes
      WHERE state = 'live' AND node <> its_node AND clock_timestamp() - seen_at > interval '15 seconds'), '[]'),
    'others', COALESCE((SELECT json_agg(json_build_array(budget_id, window_id, settled::text, held::text, most::text)) FROM (
      SELECT budget_id, window_id, SUM(settled_nano_usd) AS settled, SUM(held_nano_usd) AS held, SUM(most_nano_usd) AS most
      FROM usage.escrow WHERE window_id IN (SELECT jsonb_array_elements_text(its_windows)) AND node <> its_node
        -- Of a rule that is enforced each member is heard of with its grants.
        AND (strpos(budget_id, '/') = 0 OR NOT EXISTS (SELECT 1 FROM usage.budgets
          WHERE id = split_part(budget_id, '/', 1) AND kind = 'hard' AND observe = 0))
      GROUP BY budget_id, window_id) AS summed), '[]'));
END $$;
