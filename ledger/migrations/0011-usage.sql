-- Whose spend is can be corrected afterwards. An event then names its new owner; what it named before stands here, as the seal of its day has it, with
-- the audit record that first moved it. Nothing else of an event ever changes.
CREATE TABLE reassigned (
  attempt_id INTEGER PRIMARY KEY,
  team TEXT NOT NULL,
  project TEXT NOT NULL,
  env TEXT NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL
) STRICT;
CREATE TRIGGER reassigned_keep BEFORE DELETE ON reassigned BEGIN SELECT RAISE(ABORT, 'what an event named first stays'); END;
CREATE TRIGGER reassigned_fixed BEFORE UPDATE OF attempt_id, team, project, env, first_seq ON reassigned
  BEGIN SELECT RAISE(ABORT, 'what an event named first stays'); END;

DROP TRIGGER events_fixed;
CREATE TRIGGER events_fixed BEFORE UPDATE OF attempt_id, key_id, provider, endpoint, requested_model, served_model, tier,
  tags, input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state,
  cost_nano_usd, cost_lines, price_version, price_confidence, outcome, http_status, duration_ms, first_byte_ms,
  provider_request_id, response_id ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
CREATE TRIGGER events_owner_fixed BEFORE UPDATE OF team, project, env ON events
  WHEN NOT EXISTS (SELECT 1 FROM reassigned WHERE attempt_id = OLD.attempt_id)
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
