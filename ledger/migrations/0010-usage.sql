-- Answers whose cost the provider stated: few of many, and compared with our prices again and again.
CREATE INDEX events_stated ON events (attempt_id) WHERE stated_cost_nano_usd IS NOT NULL;
