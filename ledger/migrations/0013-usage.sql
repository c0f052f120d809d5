-- The list that an event's prices were looked for in: what repricing asks first. Null: booked before this was written down.
ALTER TABLE events ADD COLUMN price_list TEXT;
CREATE TRIGGER events_price_list_fixed BEFORE UPDATE OF price_list ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;

-- Events as readers sum them up: under the model that answered, all cache writes in one, with what adjustments have added since.
-- `cost_nano_usd` is what was metered, `booked_nano_usd` what stands now; what is not known adds nothing to it.
CREATE VIEW booked AS
  SELECT attempt_id, at_ms, key_id, provider, endpoint, requested_model, COALESCE(served_model, requested_model) AS model, tier,
    team, project, env, tags,
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
    outcome, http_status, duration_ms, first_byte_ms
  FROM events;
