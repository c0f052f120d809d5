-- Limits that are not money: each node says what passed there, second by second, and hears what passed elsewhere. Nothing of
-- it is a promise of the books: a crash of the server empties it.
CREATE UNLOGGED TABLE usage.passed (
  node bigint NOT NULL,
  scope usage.words NOT NULL,
  -- [second, requests, tokens], each.
  seconds json NOT NULL,
  -- Requests under way.
  open bigint NOT NULL,
  at timestamptz NOT NULL,
  PRIMARY KEY (node, scope)
);

-- What passed at a node, in place of what it said before of these scopes; returns the same of all others, added up. What is
-- under way at a node counts as long as it is heard of.
CREATE FUNCTION usage.tell_passed_v1(its_node bigint, its_epoch bigint, its_passed json) RETURNS json LANGUAGE sql AS $$
  INSERT INTO usage.passed AS kept
  SELECT its_node, scope, seconds, open, clock_timestamp()
  FROM json_to_recordset(its_passed) AS told (scope text, seconds json, open bigint)
  WHERE EXISTS (SELECT 1 FROM usage.nodes WHERE node = its_node AND epoch = its_epoch)
  ORDER BY scope
  ON CONFLICT (node, scope) DO UPDATE SET seconds = excluded.seconds, open = excluded.open, at = excluded.at;
  DELETE FROM usage.passed WHERE at < clock_timestamp() - interval '2 minutes' AND random() < 0.01;
  SELECT COALESCE(json_agg(json_build_object('scope', summed.scope, 'open', summed.open, 'seconds', summed.seconds) ORDER BY summed.scope), '[]')
  FROM (SELECT scope, COALESCE(SUM(open) FILTER (WHERE at > clock_timestamp() - interval '3 seconds'), 0) AS open,
      (SELECT COALESCE(json_agg(json_build_array(second, requests, tokens) ORDER BY second), '[]') FROM (
        SELECT (one ->> 0)::bigint AS second, SUM((one ->> 1)::bigint) AS requests, SUM((one ->> 2)::bigint) AS tokens
        FROM usage.passed AS other, json_array_elements(other.seconds) AS one
        WHERE other.scope = theirs.scope AND other.node <> its_node AND other.at > clock_timestamp() - interval '70 seconds'
        GROUP BY 1) AS by_second) AS seconds
    FROM usage.passed AS theirs
    WHERE node <> its_node AND at > clock_timestamp() - interval '70 seconds' GROUP BY scope) AS summed
$$;
