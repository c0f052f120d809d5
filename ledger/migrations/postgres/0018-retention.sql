-- additive
-- Deletes a slice of what is kept no longer: events before `events_kept_from`, raw usage, refusals and addresses before an instant (null:
-- for ever). True: there may be more. It runs as its owner, for the programs may change and delete no event.
CREATE FUNCTION usage.sweep_v1(raw_before bigint, refusals_before_ms bigint, addresses_before_ms bigint, slice bigint) RETURNS boolean
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = usage, pg_catalog, pg_temp AS $$
DECLARE
  kept bigint := COALESCE((SELECT value::bigint FROM usage.meta WHERE name = 'events_kept_from'), 0);
  swept bigint := COALESCE((SELECT value::bigint FROM usage.meta WHERE name = 'raw_usage_emptied_until'), 0);
  last bigint;
  oldest bigint;
BEGIN
  SELECT MAX(attempt_id) INTO last FROM (SELECT attempt_id FROM usage.events WHERE attempt_id < kept ORDER BY 1 LIMIT slice) AS gone;
  IF last IS NOT NULL THEN
    DELETE FROM usage.events WHERE attempt_id <= last;
    RETURN true;
  END IF;
  IF kept > 0 THEN
    -- The last number stays: what comes has to come after it (order_commits_v1).
    WITH first AS (SELECT number, position, attempt_id FROM usage.commits ORDER BY number, position LIMIT slice)
      DELETE FROM usage.commits AS old USING first WHERE old.number = first.number AND old.position = first.position
        AND first.attempt_id < kept AND old.number < (SELECT MAX(number) FROM usage.commits);
    IF FOUND THEN
      RETURN true;
    END IF;
  END IF;
  SELECT MAX(attempt_id) INTO last
    FROM (SELECT attempt_id FROM usage.events WHERE attempt_id >= swept AND attempt_id < raw_before ORDER BY 1 LIMIT slice) AS old;
  IF last IS NOT NULL THEN
    UPDATE usage.events SET raw_usage = NULL WHERE attempt_id >= swept AND attempt_id <= last AND raw_usage IS NOT NULL;
    INSERT INTO usage.meta (name, value) VALUES ('raw_usage_emptied_until', (last + 1)::text)
      ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value;
    RETURN true;
  END IF;
  SELECT MIN(minute_ms) INTO oldest FROM usage.refused;
  IF oldest < refusals_before_ms THEN
    DELETE FROM usage.refused WHERE minute_ms < LEAST(refusals_before_ms, oldest + 21600000);
    RETURN true;
  END IF;
  DELETE FROM usage.key_addresses WHERE last_seen_ms < addresses_before_ms;
  RETURN false;
END $$;
