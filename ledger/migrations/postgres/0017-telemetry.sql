-- additive
-- The trace that a request belongs to: its client's traceparent, as "TRACE-SPAN-FLAGS".
ALTER TABLE usage.events ADD COLUMN trace usage.words;
CREATE TRIGGER events_trace_fixed BEFORE UPDATE OF trace ON usage.events
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('usage events are append-only');

-- In which order events and corrections were committed: by transaction, and only transactions before the oldest that is open are shown.
-- A sequence would not do: what takes the lower number may commit later.
CREATE SEQUENCE usage.commit_positions;
CREATE TABLE usage.commits (
  number bigint NOT NULL,
  position bigint NOT NULL DEFAULT nextval('usage.commit_positions'),
  attempt_id bigint NOT NULL,
  adjusted_nano_usd bigint,
  PRIMARY KEY (number, position)
);
-- What is added to the server's number of a transaction: of another server, or of one that was restored, numbers begin anew.
CREATE FUNCTION usage.commit_base() RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT COALESCE((SELECT value::bigint FROM usage.meta WHERE name = 'commit_base'), 0) $$;
CREATE FUNCTION usage.note_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.commits (number, attempt_id)
    SELECT pg_current_xact_id()::text::bigint + usage.commit_base(), attempt_id FROM added;
  RETURN NULL;
END $$;
CREATE TRIGGER events_committed AFTER INSERT ON usage.events REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION usage.note_events();
CREATE FUNCTION usage.note_adjustments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.commits (number, attempt_id, adjusted_nano_usd)
    SELECT pg_current_xact_id()::text::bigint + usage.commit_base(), attempt_id, amount_nano_usd FROM added;
  RETURN NULL;
END $$;
CREATE TRIGGER adjustments_committed AFTER INSERT ON usage.adjustments REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION usage.note_adjustments();
CREATE VIEW usage.committed AS SELECT number, position, attempt_id, adjusted_nano_usd FROM usage.commits
  WHERE number < pg_snapshot_xmin(pg_current_snapshot())::text::bigint + usage.commit_base();

-- A node that begins: no number is given that was given before.
CREATE FUNCTION usage.order_commits_v1() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  ahead bigint := (SELECT MAX(number) FROM usage.commits) - (pg_current_xact_id()::text::bigint + usage.commit_base());
BEGIN
  IF ahead > 0 THEN
    INSERT INTO usage.meta (name, value) VALUES ('commit_base', (usage.commit_base() + ahead + 1)::text)
      ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value;
  END IF;
END $$;

CREATE OR REPLACE FUNCTION usage.write_events(rows jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO usage.events (attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, person, payer,
    seat_nano_usd, tags, input,
    cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version,
    price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage,
    stated_cost_nano_usd, usage_reason, price_list, trace)
  SELECT attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, COALESCE(person, ''), COALESCE(payer, ''),
    seat_nano_usd, tags, input,
    cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version,
    price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage,
    stated_cost_nano_usd, usage_reason, price_list, trace
  FROM jsonb_populate_recordset(NULL::usage.events, rows);
END $$;

-- What was exported to telemetry: how far each destination has got in the order of commits (or of the audit), and the sums that metrics
-- are, as of the same commit.
CREATE TABLE billing.telemetry (
  name usage.words PRIMARY KEY,
  number bigint NOT NULL,
  position bigint NOT NULL,
  since_ms bigint NOT NULL,
  state usage.words
);
