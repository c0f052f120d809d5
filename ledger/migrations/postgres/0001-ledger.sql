-- The three books in Postgres: the tables that SQLite's migrations make, column by column, and what only Postgres needs.
-- A test holds the two together. Names are found by the role's search_path (usage, billing, notices).

CREATE SCHEMA usage;
CREATE SCHEMA billing;
CREATE SCHEMA notices;

-- Text in the order of its bytes, as SQLite orders it.
CREATE DOMAIN usage.words AS text COLLATE "C";

-- What SQLite has and Postgres does not, so that one text of a query runs on both.
CREATE FUNCTION usage.json_extract(document text, path text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  RETURN document::json ->> trim(BOTH '"' FROM substr(path, 3));
CREATE FUNCTION usage.instr(haystack text, needle text) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  RETURN strpos(haystack, needle);
-- A star is any number of any characters; a letter in brackets is itself.
CREATE FUNCTION usage.glob(pattern text, name text) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  RETURN name LIKE replace(replace(replace(replace(replace(replace(pattern, '\', '\\'), '%', '\%'), '_', '\_'), '[[]', '['), '[?]', '?'), '*', '%');

CREATE FUNCTION usage.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;

-- usage

CREATE TABLE usage.meta (name usage.words PRIMARY KEY, value usage.words NOT NULL);
CREATE TABLE usage.keys (
  id usage.words PRIMARY KEY,
  kind usage.words NOT NULL CHECK (kind IN ('virtual', 'fingerprint')),
  provider usage.words,
  name usage.words NOT NULL,
  team usage.words NOT NULL DEFAULT '',
  project usage.words NOT NULL DEFAULT '',
  env usage.words NOT NULL DEFAULT '',
  owner usage.words NOT NULL DEFAULT '',
  state usage.words NOT NULL CHECK (state IN ('active', 'paused', 'revoked')),
  hint usage.words NOT NULL DEFAULT '',
  created_at_ms bigint NOT NULL,
  expires_at_ms bigint,
  purpose usage.words NOT NULL DEFAULT '', policy usage.words);
CREATE TABLE usage.key_secrets (
  digest usage.words PRIMARY KEY,
  key_id usage.words NOT NULL REFERENCES usage.keys (id),
  created_at_ms bigint NOT NULL,
  valid_until_ms bigint
);
CREATE TABLE usage.budgets (
  id usage.words PRIMARY KEY,
  team usage.words, project usage.words, env usage.words, key_id usage.words, provider usage.words, model usage.words,
  "window" usage.words NOT NULL CHECK ("window" IN ('hour', 'day', 'week', 'month', 'quarter', 'total')),
  amount_nano_usd bigint NOT NULL CHECK (amount_nano_usd >= 0),
  kind usage.words NOT NULL CHECK (kind IN ('soft', 'hard')),
  mode usage.words NOT NULL CHECK (mode IN ('strict', 'expected')),
  created_at_ms bigint NOT NULL,
  removed_at_ms bigint,
  observe bigint NOT NULL DEFAULT 0 CHECK (observe IN (0, 1)), thresholds usage.words);
CREATE TABLE usage.reservations (
  attempt_id bigint PRIMARY KEY,
  key_id usage.words NOT NULL,
  provider usage.words NOT NULL,
  endpoint usage.words NOT NULL,
  requested_model usage.words NOT NULL,
  team usage.words NOT NULL,
  project usage.words NOT NULL,
  env usage.words NOT NULL,
  tags usage.words,
  bound_nano_usd bigint CHECK (bound_nano_usd >= 0),
  expected_nano_usd bigint CHECK (expected_nano_usd >= 0),
  work_id usage.words, tiers usage.words, most_nano_usd bigint);
CREATE TABLE usage.events (
  attempt_id bigint PRIMARY KEY,
  key_id usage.words NOT NULL,
  provider usage.words NOT NULL,
  endpoint usage.words NOT NULL,
  requested_model usage.words NOT NULL,
  served_model usage.words,
  tier usage.words,
  team usage.words NOT NULL,
  project usage.words NOT NULL,
  env usage.words NOT NULL,
  tags usage.words,
  input bigint CHECK (input >= 0),
  cache_read bigint CHECK (cache_read >= 0),
  cache_write_5m bigint CHECK (cache_write_5m >= 0),
  cache_write_1h bigint CHECK (cache_write_1h >= 0),
  output bigint CHECK (output >= 0),
  other_usage usage.words,
  reasoning bigint CHECK (reasoning >= 0),
  usage_state usage.words NOT NULL CHECK (usage_state IN ('reported', 'estimated', 'unknown')),
  cost_nano_usd bigint CHECK (cost_nano_usd >= 0),
  cost_lines usage.words,
  price_version usage.words,
  price_confidence usage.words CHECK (price_confidence IN ('exact', 'inferred', 'unpriced')),
  outcome usage.words NOT NULL,
  http_status bigint,
  duration_ms bigint,
  first_byte_ms bigint,
  provider_request_id usage.words,
  response_id usage.words,
  raw_usage usage.words,
  at_ms bigint GENERATED ALWAYS AS (attempt_id / 4096 + 1577836800000) STORED,
  stated_cost_nano_usd bigint CHECK (stated_cost_nano_usd >= 0), usage_reason usage.words, price_list usage.words
) PARTITION BY RANGE (attempt_id);
-- What no month has been made for.
CREATE TABLE usage.events_rest PARTITION OF usage.events DEFAULT;
-- Each node keeps sums of its own: two never wait for each other.
CREATE TABLE usage.rollup_hour_of_node (
  node bigint NOT NULL,
  hour_ms bigint NOT NULL,
  key_id usage.words NOT NULL, provider usage.words NOT NULL, model usage.words NOT NULL, requested_model usage.words NOT NULL,
  team usage.words NOT NULL, project usage.words NOT NULL, env usage.words NOT NULL,
  requests bigint NOT NULL, cost_nano_usd bigint NOT NULL,
  input bigint NOT NULL, cache_read bigint NOT NULL, cache_write bigint NOT NULL, output bigint NOT NULL,
  estimated bigint NOT NULL, unknown bigint NOT NULL, unpriced bigint NOT NULL, inferred bigint NOT NULL,
  PRIMARY KEY (hour_ms, key_id, provider, model, requested_model, team, project, env, node)
);
CREATE TABLE usage.rollup_day_of_node (
  node bigint NOT NULL,
  day usage.words NOT NULL,
  key_id usage.words NOT NULL, provider usage.words NOT NULL, model usage.words NOT NULL, requested_model usage.words NOT NULL,
  team usage.words NOT NULL, project usage.words NOT NULL, env usage.words NOT NULL,
  requests bigint NOT NULL, cost_nano_usd bigint NOT NULL,
  input bigint NOT NULL, cache_read bigint NOT NULL, cache_write bigint NOT NULL, output bigint NOT NULL,
  estimated bigint NOT NULL, unknown bigint NOT NULL, unpriced bigint NOT NULL, inferred bigint NOT NULL,
  PRIMARY KEY (day, key_id, provider, model, requested_model, team, project, env, node)
);
CREATE TABLE usage.meter_hours (hour_ms bigint PRIMARY KEY);
CREATE TABLE usage.refused (
  minute_ms bigint NOT NULL,
  key_id usage.words NOT NULL, model usage.words NOT NULL, reason usage.words NOT NULL, budget_id usage.words NOT NULL,
  observed bigint NOT NULL,
  count bigint NOT NULL,
  PRIMARY KEY (minute_ms, key_id, model, reason, budget_id, observed)
);
CREATE TABLE usage.audit (
  seq bigint PRIMARY KEY,
  at_ms bigint NOT NULL,
  actor usage.words NOT NULL,
  action usage.words NOT NULL,
  subject usage.words NOT NULL,
  detail usage.words NOT NULL,
  previous usage.words NOT NULL,
  hash usage.words NOT NULL
);
CREATE TABLE usage.adjustments (
  source usage.words NOT NULL CHECK (source IN ('reprice', 'bill')),
  source_id usage.words NOT NULL,
  attempt_id bigint NOT NULL,
  amount_nano_usd bigint NOT NULL,
  unpriced bigint NOT NULL CHECK (unpriced IN (-1, 0, 1)),
  inferred bigint NOT NULL CHECK (inferred IN (-1, 0, 1)),
  detail usage.words NOT NULL,
  made_at_ms bigint NOT NULL, audit_seq bigint REFERENCES usage.audit (seq) DEFERRABLE INITIALLY DEFERRED,
  PRIMARY KEY (source, source_id)
);
CREATE INDEX adjustments_attempt ON usage.adjustments (attempt_id);
CREATE TABLE usage.limits (
  scope usage.words PRIMARY KEY,
  requests_per_minute bigint CHECK (requests_per_minute > 0),
  tokens_per_minute bigint CHECK (tokens_per_minute > 0),
  concurrent bigint CHECK (concurrent > 0),
  body_bytes bigint CHECK (body_bytes > 0)
);
CREATE TABLE usage.freezes (
  id usage.words PRIMARY KEY,
  team usage.words, project usage.words, env usage.words, key_id usage.words, provider usage.words, model usage.words,
  reason usage.words NOT NULL,
  created_at_ms bigint NOT NULL,
  lifted_at_ms bigint
);
CREATE TABLE usage.raises (
  id usage.words PRIMARY KEY,
  budget_id usage.words NOT NULL REFERENCES usage.budgets (id),
  amount_nano_usd bigint NOT NULL CHECK (amount_nano_usd > 0),
  reason usage.words NOT NULL,
  created_at_ms bigint NOT NULL,
  until_ms bigint NOT NULL CHECK (until_ms > created_at_ms),
  ended_at_ms bigint
);
CREATE TABLE usage.sealed_days (
  first_attempt_id bigint PRIMARY KEY CHECK (first_attempt_id % 353894400000 = 0),
  audit_seq bigint NOT NULL REFERENCES usage.audit (seq)
);
CREATE TABLE usage.served_names (
  provider usage.words NOT NULL,
  requested_model usage.words NOT NULL,
  served_model usage.words NOT NULL,
  PRIMARY KEY (provider, requested_model)
);
CREATE TABLE usage.credentials (
  provider usage.words NOT NULL,
  since_ms bigint NOT NULL,
  credential usage.words NOT NULL,
  hint usage.words NOT NULL,
  PRIMARY KEY (provider, since_ms)
);
CREATE TABLE usage.key_addresses (
  key_id usage.words NOT NULL,
  address usage.words NOT NULL,
  first_seen_ms bigint NOT NULL,
  last_seen_ms bigint NOT NULL,
  PRIMARY KEY (key_id, address)
);
CREATE INDEX rollup_hour_of_key ON usage.rollup_hour_of_node (key_id, hour_ms);
CREATE INDEX events_stated ON usage.events (attempt_id) WHERE stated_cost_nano_usd IS NOT NULL;
CREATE TABLE usage.reassigned (
  attempt_id bigint PRIMARY KEY,
  team usage.words NOT NULL,
  project usage.words NOT NULL,
  env usage.words NOT NULL,
  first_seq bigint NOT NULL,
  last_seq bigint NOT NULL
);
CREATE TABLE usage.key_owners (
  key_id usage.words NOT NULL,
  part usage.words NOT NULL CHECK (part IN ('team', 'project', 'env')),
  value usage.words NOT NULL CHECK (length(value) > 0),
  PRIMARY KEY (key_id, part, value)
);
CREATE TABLE usage.things (
  provider usage.words NOT NULL,
  name usage.words NOT NULL,
  key_id usage.words NOT NULL,
  attempt_id bigint NOT NULL,
  PRIMARY KEY (provider, name)
);
CREATE INDEX things_made ON usage.things (provider, attempt_id);
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
    SUM(inferred)::bigint AS inferred
  FROM usage.rollup_hour_of_node GROUP BY hour_ms, key_id, provider, model, requested_model, team, project, env;
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
    SUM(inferred)::bigint AS inferred
  FROM usage.rollup_day_of_node GROUP BY day, key_id, provider, model, requested_model, team, project, env;
CREATE VIEW usage.booked AS
  SELECT attempt_id, at_ms, key_id, provider, endpoint, requested_model, COALESCE(served_model, requested_model) AS model, tier,
    team, project, env, tags,
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
    outcome, http_status, duration_ms, first_byte_ms
  FROM usage.events;

CREATE FUNCTION usage.keep_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.attempt_id >= COALESCE((SELECT value::bigint FROM usage.meta WHERE name = 'events_kept_from'), 0) THEN
    RAISE EXCEPTION 'usage events are append-only' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER events_keep BEFORE DELETE ON usage.events FOR EACH ROW EXECUTE FUNCTION usage.keep_event();
CREATE FUNCTION usage.keep_sealed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.attempt_id < (SELECT MAX(first_attempt_id) FROM usage.sealed_days) + 353894400000
    AND NOT EXISTS (SELECT 1 FROM usage.reservations WHERE attempt_id = NEW.attempt_id AND work_id IS NOT NULL) THEN
    RAISE EXCEPTION 'the day of this event is sealed' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER events_sealed BEFORE INSERT ON usage.events FOR EACH ROW EXECUTE FUNCTION usage.keep_sealed();
CREATE TRIGGER events_fixed BEFORE UPDATE OF attempt_id, key_id, provider, endpoint, requested_model, served_model, tier,
  tags, input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, stated_cost_nano_usd,
  cost_nano_usd, cost_lines, price_version, price_confidence, price_list, usage_reason, outcome, http_status, duration_ms,
  first_byte_ms, provider_request_id, response_id ON usage.events
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('usage events are append-only');
CREATE FUNCTION usage.keep_owner() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM usage.reassigned WHERE attempt_id = OLD.attempt_id) THEN
    RAISE EXCEPTION 'usage events are append-only' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER events_owner_fixed BEFORE UPDATE OF team, project, env ON usage.events
  FOR EACH ROW EXECUTE FUNCTION usage.keep_owner();
CREATE TRIGGER audit_kept BEFORE DELETE OR UPDATE ON usage.audit
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('the audit is append-only');
CREATE TRIGGER adjustments_kept BEFORE DELETE OR UPDATE ON usage.adjustments
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('adjustments are append-only');
CREATE TRIGGER sealed_days_kept BEFORE DELETE OR UPDATE ON usage.sealed_days
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('a seal is for ever');
CREATE TRIGGER reassigned_keep BEFORE DELETE ON usage.reassigned
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('what an event named first stays');
CREATE TRIGGER reassigned_fixed BEFORE UPDATE OF attempt_id, team, project, env, first_seq ON usage.reassigned
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('what an event named first stays');

-- billing

CREATE TABLE billing.imports (
  provider usage.words PRIMARY KEY,
  last_success_ms bigint,
  last_attempt_ms bigint NOT NULL,
  last_error usage.words,
  note usage.words);
CREATE TABLE billing.bill_days (
  provider usage.words NOT NULL,
  day usage.words NOT NULL,
  source usage.words NOT NULL,
  -- Up to which instant the source was complete when it was read.
  as_of_ms bigint NOT NULL,
  digest usage.words NOT NULL,
  lines bigint NOT NULL,
  amount_nano_usd bigint NOT NULL,
  read_at_ms bigint NOT NULL,
  changed_at_ms bigint NOT NULL,
  PRIMARY KEY (provider, day)
);
CREATE INDEX bill_days_day ON billing.bill_days (day);
CREATE TABLE billing.billed_lines (
  provider usage.words NOT NULL,
  day usage.words NOT NULL,
  line bigint NOT NULL,
  kind usage.words NOT NULL CHECK (kind IN ('usage', 'fee', 'credit', 'tax', 'adjustment', 'rounding')),
  billed_key usage.words, project usage.words, model usage.words, tier usage.words, unit usage.words,
  line_item usage.words,
  amount_nano_usd bigint NOT NULL,
  list_nano_usd bigint,
  quantity bigint,
  -- The last digit of the amount as the source writes it: it cannot say more.
  resolution_nano_usd bigint NOT NULL,
  raw usage.words NOT NULL,
  PRIMARY KEY (provider, day, line)
);
CREATE TABLE billing.billed_usage (
  provider usage.words NOT NULL,
  hour_ms bigint NOT NULL,
  line bigint NOT NULL,
  billed_key usage.words, project usage.words, model usage.words, tier usage.words,
  unit usage.words NOT NULL,
  quantity bigint NOT NULL,
  PRIMARY KEY (provider, hour_ms, line)
);
CREATE TABLE billing.usage_reads (
  provider usage.words PRIMARY KEY,
  as_of_ms bigint,
  read_at_ms bigint NOT NULL,
  error usage.words
);
CREATE TABLE billing.provider_keys (
  provider usage.words NOT NULL,
  billed_key usage.words NOT NULL,
  name usage.words NOT NULL,
  project usage.words,
  hint usage.words NOT NULL,
  state usage.words NOT NULL,
  seen_at_ms bigint NOT NULL,
  PRIMARY KEY (provider, billed_key)
);
CREATE TABLE billing.metered_days (
  provider usage.words NOT NULL,
  day usage.words NOT NULL,
  -- The sums of the rollup that it was folded from.
  mark usage.words NOT NULL,
  folded_at_ms bigint NOT NULL,
  PRIMARY KEY (provider, day)
);
CREATE TABLE billing.metered_lines (
  provider usage.words NOT NULL,
  day usage.words NOT NULL,
  line bigint NOT NULL,
  key_id usage.words NOT NULL,
  -- The provider credential that paid: a fingerprint.
  credential usage.words NOT NULL,
  team usage.words NOT NULL, project usage.words NOT NULL, env usage.words NOT NULL, feature usage.words NOT NULL,
  model usage.words NOT NULL, tier usage.words NOT NULL,
  -- '' where the money has no quantity: what was held for an answer that nobody saw.
  unit usage.words NOT NULL,
  state usage.words NOT NULL CHECK (state IN ('reported', 'estimated', 'unknown')),
  -- 'reprice' or 'bill': money that an adjustment added; '': as it was metered.
  correction usage.words NOT NULL,
  price_pico_usd bigint,
  multiplier usage.words,
  price_version usage.words,
  quantity bigint NOT NULL,
  cost_nano_usd bigint NOT NULL,
  events bigint NOT NULL,
  PRIMARY KEY (provider, day, line)
);
CREATE TABLE billing.comparisons (
  provider usage.words NOT NULL,
  day usage.words NOT NULL,
  line bigint NOT NULL,
  -- Of a row of the bill that is no use: 'credit', 'tax', 'adjustment', 'fee', 'rounding'. NULL: use.
  kind usage.words,
  key usage.words, model usage.words, tier usage.words, unit usage.words,
  metered_quantity bigint, billed_quantity bigint,
  metered_nano_usd bigint NOT NULL, billed_nano_usd bigint NOT NULL,
  PRIMARY KEY (provider, day, line)
);
CREATE INDEX comparisons_day ON billing.comparisons (day);
CREATE TABLE billing.variances (
  provider usage.words NOT NULL,
  day usage.words NOT NULL,
  line bigint NOT NULL,
  cause usage.words NOT NULL,
  amount_nano_usd bigint NOT NULL,
  quantity bigint,
  detail usage.words NOT NULL,
  PRIMARY KEY (provider, day, line, cause)
);
CREATE INDEX variances_day ON billing.variances (day, provider, cause, amount_nano_usd);
CREATE TABLE billing.closed_days (
  provider usage.words NOT NULL,
  day usage.words NOT NULL,
  metered_nano_usd bigint NOT NULL,
  billed_nano_usd bigint NOT NULL,
  bill_digest usage.words NOT NULL,
  closed_at_ms bigint NOT NULL,
  closed_by usage.words NOT NULL,
  PRIMARY KEY (provider, day)
);
CREATE TABLE billing.corrections (
  provider usage.words NOT NULL,
  day usage.words NOT NULL,
  seq bigint NOT NULL,
  made_at_ms bigint NOT NULL,
  -- What the bill and the meter say now, less what they said before.
  billed_nano_usd bigint NOT NULL,
  metered_nano_usd bigint NOT NULL,
  bill_digest usage.words NOT NULL,
  PRIMARY KEY (provider, day, seq)
);
CREATE TABLE billing.leaks (
  provider usage.words NOT NULL,
  billed_key usage.words NOT NULL,
  -- 'unknown_key': nothing was ever metered on it. 'beyond_metered': more is billed on it than was metered.
  kind usage.words NOT NULL CHECK (kind IN ('unknown_key', 'beyond_metered')),
  first_hour_ms bigint NOT NULL,
  last_hour_ms bigint NOT NULL,
  found_at_ms bigint NOT NULL,
  seen_at_ms bigint NOT NULL,
  quantity bigint NOT NULL,
  unit usage.words NOT NULL,
  cost_nano_usd bigint,
  models usage.words NOT NULL,
  -- Everything up to this hour was looked at by somebody and is no leak.
  dismissed_until_ms bigint,
  dismissed_why usage.words,
  PRIMARY KEY (provider, billed_key)
);
CREATE TABLE billing.forecasts (
  scope usage.words NOT NULL CHECK (scope IN ('org', 'team', 'project', 'env', 'key', 'provider', 'model')),
  scope_id usage.words NOT NULL,
  window_id usage.words NOT NULL,
  "window" usage.words NOT NULL CHECK ("window" IN ('hour', 'day', 'week', 'month')),
  start_ms bigint NOT NULL,
  end_ms bigint NOT NULL,
  made_at_ms bigint NOT NULL,
  method usage.words NOT NULL,
  history_hours bigint NOT NULL,
  p10_nano_usd bigint NOT NULL, p50_nano_usd bigint NOT NULL, p90_nano_usd bigint NOT NULL,
  -- The largest hour of the seven days before it was made.
  largest_hour_nano_usd bigint NOT NULL,
  -- The hours of the window, their shares of p50, as a JSON array of nano-USD.
  hours usage.words NOT NULL,
  PRIMARY KEY (scope, scope_id, window_id)
);
CREATE INDEX forecasts_end ON billing.forecasts (end_ms);
CREATE TABLE billing.planned_events (
  id usage.words PRIMARY KEY,
  scope usage.words NOT NULL CHECK (scope IN ('org', 'team', 'project', 'env', 'key', 'provider', 'model')),
  scope_id usage.words NOT NULL,
  from_ms bigint NOT NULL,
  to_ms bigint NOT NULL CHECK (to_ms > from_ms),
  factor double precision NOT NULL CHECK (factor > 0),
  why usage.words NOT NULL,
  made_by usage.words NOT NULL,
  made_at_ms bigint NOT NULL,
  removed_at_ms bigint
);
CREATE TABLE billing.forecast_scores (
  scope usage.words NOT NULL,
  scope_id usage.words NOT NULL,
  window_id usage.words NOT NULL,
  "window" usage.words NOT NULL,
  end_ms bigint NOT NULL,
  p10_nano_usd bigint NOT NULL, p50_nano_usd bigint NOT NULL, p90_nano_usd bigint NOT NULL,
  actual_nano_usd bigint NOT NULL,
  scored_at_ms bigint NOT NULL,
  PRIMARY KEY (scope, scope_id, window_id)
);
CREATE INDEX forecast_scores_end ON billing.forecast_scores (end_ms);
CREATE TABLE billing.landings (
  scope usage.words NOT NULL CHECK (length(scope) > 0),
  scope_id usage.words NOT NULL,
  "window" usage.words NOT NULL CHECK (length("window") > 0),
  window_id usage.words NOT NULL,
  start_ms bigint NOT NULL,
  end_ms bigint NOT NULL CHECK (end_ms > start_ms),
  made_at_ms bigint NOT NULL,
  method usage.words NOT NULL,
  history_hours bigint NOT NULL,
  p10_nano_usd bigint NOT NULL,
  p50_nano_usd bigint NOT NULL,
  p90_nano_usd bigint NOT NULL,
  largest_hour_nano_usd bigint NOT NULL,
  hours usage.words NOT NULL,
  PRIMARY KEY (scope, scope_id, "window")
);
CREATE TABLE billing.billed_hours (
  provider usage.words NOT NULL CHECK (length(provider) > 0),
  hour_ms bigint NOT NULL,
  billed_key usage.words NOT NULL,
  model usage.words NOT NULL,
  cost_nano_usd bigint NOT NULL,
  PRIMARY KEY (provider, hour_ms, billed_key, model)
);
CREATE TRIGGER closed_days_keep BEFORE DELETE ON billing.closed_days
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('a closed day stays closed');
CREATE TRIGGER closed_days_fixed BEFORE UPDATE ON billing.closed_days
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('a closed day stays as it was signed');
CREATE TRIGGER corrections_kept BEFORE DELETE OR UPDATE ON billing.corrections
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('a correction stays');
CREATE TRIGGER forecasts_fixed BEFORE UPDATE ON billing.forecasts
  FOR EACH ROW EXECUTE FUNCTION usage.refuse('a forecast is frozen');
CREATE FUNCTION billing.keep_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT 1 FROM billing.closed_days WHERE provider = OLD.provider AND day = OLD.day) THEN
    RAISE EXCEPTION 'the day is closed' USING ERRCODE = 'integrity_constraint_violation';
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER metered_lines_fixed BEFORE DELETE ON billing.metered_lines FOR EACH ROW EXECUTE FUNCTION billing.keep_closed();
CREATE TRIGGER variances_fixed BEFORE DELETE ON billing.variances FOR EACH ROW EXECUTE FUNCTION billing.keep_closed();

-- notices

CREATE TABLE notices.notices (
  id bigint PRIMARY KEY,
  group_key usage.words NOT NULL,
  channel usage.words NOT NULL,
  ts usage.words NOT NULL,
  state usage.words NOT NULL CHECK (state IN ('firing', 'resolved')),
  text usage.words NOT NULL,
  posted_at_ms bigint NOT NULL,
  updated_at_ms bigint NOT NULL,
  severity usage.words NOT NULL DEFAULT '', figure_nano_usd bigint, body usage.words NOT NULL DEFAULT '');
CREATE UNIQUE INDEX notices_open ON notices.notices (group_key) WHERE state = 'firing';
CREATE TABLE notices.deliveries (
  group_key usage.words NOT NULL,
  source usage.words NOT NULL,
  payload usage.words NOT NULL,
  received_at_ms bigint NOT NULL,
  PRIMARY KEY (group_key, source)
);
CREATE TABLE notices.outbox (
  id bigint PRIMARY KEY,
  kind usage.words NOT NULL CHECK (kind IN ('group', 'reply', 'picture', 'digest')),
  group_key usage.words NOT NULL,
  nonce usage.words NOT NULL UNIQUE,
  payload usage.words NOT NULL,
  received_at_ms bigint NOT NULL,
  next_at_ms bigint NOT NULL DEFAULT 0,
  attempts bigint NOT NULL DEFAULT 0,
  sending_since_ms bigint,
  last_error usage.words
);
CREATE UNIQUE INDEX outbox_group ON notices.outbox (group_key) WHERE kind = 'group';
CREATE INDEX notices_group ON notices.notices (group_key, updated_at_ms);
CREATE TABLE notices.mutes (
  group_key usage.words PRIMARY KEY,
  until_ms bigint NOT NULL,
  muted_by usage.words NOT NULL,
  muted_at_ms bigint NOT NULL,
  -- The silence in Alertmanager, where there is one.
  silence usage.words
);
-- Rows come without a number, as they do to SQLite.
CREATE SEQUENCE notices.numbers;
CREATE FUNCTION notices.number_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.id := COALESCE(NEW.id, nextval('notices.numbers'));
  RETURN NEW;
END $$;
CREATE TRIGGER notices_numbered BEFORE INSERT ON notices.notices FOR EACH ROW EXECUTE FUNCTION notices.number_row();
CREATE TRIGGER outbox_numbered BEFORE INSERT ON notices.outbox FOR EACH ROW EXECUTE FUNCTION notices.number_row();

-- Moves with every change of a book, so that readers know that what they read stands no longer.
CREATE TABLE usage.marks (book usage.words PRIMARY KEY, mark bigint NOT NULL);
INSERT INTO usage.marks VALUES ('usage', 0), ('billing', 0), ('notices', 0);
CREATE TABLE usage.migrations (name usage.words PRIMARY KEY, digest usage.words NOT NULL);
