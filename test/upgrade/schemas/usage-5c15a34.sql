-- usage.db, schema 3, as commits 89a7968 to 5c15a34 made it. Written by that code; the process ended with a request
-- open.
PRAGMA foreign_keys = OFF;
BEGIN;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('virtual', 'fingerprint')),
  provider TEXT,
  name TEXT NOT NULL,
  team TEXT NOT NULL DEFAULT '',
  project TEXT NOT NULL DEFAULT '',
  env TEXT NOT NULL DEFAULT '',
  owner TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'revoked')),
  hint TEXT NOT NULL DEFAULT '',
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE key_secrets (
  digest TEXT PRIMARY KEY,
  key_id TEXT NOT NULL REFERENCES keys (id),
  created_at_ms INTEGER NOT NULL,
  valid_until_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE budgets (
  id TEXT PRIMARY KEY,
  team TEXT, project TEXT, env TEXT, key_id TEXT, provider TEXT, model TEXT,
  window TEXT NOT NULL CHECK (window IN ('hour', 'day', 'week', 'month', 'quarter', 'total')),
  amount_nano_usd INTEGER NOT NULL CHECK (amount_nano_usd >= 0),
  kind TEXT NOT NULL CHECK (kind IN ('soft', 'hard')),
  mode TEXT NOT NULL CHECK (mode IN ('strict', 'expected')),
  created_at_ms INTEGER NOT NULL,
  removed_at_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE reservations (
  attempt_id INTEGER PRIMARY KEY,
  key_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  team TEXT NOT NULL,
  project TEXT NOT NULL,
  env TEXT NOT NULL,
  tags TEXT,
  bound_nano_usd INTEGER CHECK (bound_nano_usd >= 0),
  expected_nano_usd INTEGER CHECK (expected_nano_usd >= 0)
, work_id TEXT, tiers TEXT) STRICT;
CREATE TABLE events (
  attempt_id INTEGER PRIMARY KEY,
  key_id TEXT NOT NULL,
  provider TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  served_model TEXT,
  tier TEXT,
  team TEXT NOT NULL,
  project TEXT NOT NULL,
  env TEXT NOT NULL,
  tags TEXT,
  input INTEGER CHECK (input >= 0),
  cache_read INTEGER CHECK (cache_read >= 0),
  cache_write_5m INTEGER CHECK (cache_write_5m >= 0),
  cache_write_1h INTEGER CHECK (cache_write_1h >= 0),
  output INTEGER CHECK (output >= 0),
  other_usage TEXT,
  reasoning INTEGER CHECK (reasoning >= 0),
  usage_state TEXT NOT NULL CHECK (usage_state IN ('reported', 'estimated', 'unknown')),
  cost_nano_usd INTEGER CHECK (cost_nano_usd >= 0),
  cost_lines TEXT,
  price_version TEXT,
  price_confidence TEXT CHECK (price_confidence IN ('exact', 'inferred', 'unpriced')),
  outcome TEXT NOT NULL,
  http_status INTEGER,
  duration_ms INTEGER,
  first_byte_ms INTEGER,
  provider_request_id TEXT,
  response_id TEXT,
  raw_usage TEXT,
  at_ms INTEGER GENERATED ALWAYS AS (attempt_id / 4096 + 1577836800000) VIRTUAL
, stated_cost_nano_usd INTEGER CHECK (stated_cost_nano_usd >= 0)) STRICT;
CREATE TABLE rollup_hour (
  hour_ms INTEGER NOT NULL,
  key_id TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, requested_model TEXT NOT NULL,
  team TEXT NOT NULL, project TEXT NOT NULL, env TEXT NOT NULL,
  requests INTEGER NOT NULL, cost_nano_usd INTEGER NOT NULL,
  input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, output INTEGER NOT NULL,
  estimated INTEGER NOT NULL, unknown INTEGER NOT NULL, unpriced INTEGER NOT NULL, inferred INTEGER NOT NULL,
  PRIMARY KEY (hour_ms, key_id, provider, model, requested_model, team, project, env)
) STRICT, WITHOUT ROWID;
CREATE TABLE rollup_day (
  day TEXT NOT NULL,
  key_id TEXT NOT NULL, provider TEXT NOT NULL, model TEXT NOT NULL, requested_model TEXT NOT NULL,
  team TEXT NOT NULL, project TEXT NOT NULL, env TEXT NOT NULL,
  requests INTEGER NOT NULL, cost_nano_usd INTEGER NOT NULL,
  input INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL, output INTEGER NOT NULL,
  estimated INTEGER NOT NULL, unknown INTEGER NOT NULL, unpriced INTEGER NOT NULL, inferred INTEGER NOT NULL,
  PRIMARY KEY (day, key_id, provider, model, requested_model, team, project, env)
) STRICT, WITHOUT ROWID;
CREATE TABLE meter_hours (hour_ms INTEGER PRIMARY KEY) STRICT;
CREATE TABLE refused (
  minute_ms INTEGER NOT NULL,
  key_id TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, budget_id TEXT NOT NULL,
  observed INTEGER NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (minute_ms, key_id, model, reason, budget_id, observed)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail TEXT NOT NULL,
  previous TEXT NOT NULL,
  hash TEXT NOT NULL
) STRICT;
CREATE TABLE work (
  provider TEXT NOT NULL,
  work_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  attempt_id INTEGER NOT NULL,
  PRIMARY KEY (provider, work_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE adjustments (
  source TEXT NOT NULL CHECK (source IN ('reprice', 'bill')),
  source_id TEXT NOT NULL,
  attempt_id INTEGER NOT NULL REFERENCES events (attempt_id),
  amount_nano_usd INTEGER NOT NULL,
  unpriced INTEGER NOT NULL CHECK (unpriced IN (-1, 0, 1)),
  inferred INTEGER NOT NULL CHECK (inferred IN (-1, 0, 1)),
  detail TEXT NOT NULL,
  made_at_ms INTEGER NOT NULL,
  PRIMARY KEY (source, source_id)
) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES
  ('zone', 'Europe/Berlin');
INSERT INTO keys (id, kind, provider, name, team, project, env, owner, state, hint, created_at_ms, expires_at_ms) VALUES
  ('key_1', 'virtual', NULL, 'search-prod', 'search', 'web', 'prod', 'bob@example.com', 'active', '1tFW', 1747737000000, NULL),
  ('key_2', 'virtual', NULL, 'ads-prod', 'ads', 'web', 'prod', 'ada@example.com', 'paused', '0000', 1747737000000, NULL),
  ('unproven', 'fingerprint', NULL, 'keys no provider has accepted yet', '', '', '', '', 'active', '', 1795916202964, NULL);
INSERT INTO key_secrets (digest, key_id, created_at_ms, valid_until_ms) VALUES
  ('039b85d74d12c1ec5428a3a14da9aa9947a9572d53beb4a1843c8b7eee8e8e82', 'key_1', 1747737000000, 1747740600000),
  ('6fd039cdcf89a12e761f2486c0c4c703de71a6e9633516a5ded7248e8c5f085c', 'key_2', 1747737000000, NULL),
  ('c865ca6e5345b44a758f619a618053280cce69726c5b1e595138b99abbd7bfe0', 'key_1', 1747737000000, NULL);
INSERT INTO budgets (id, team, project, env, key_id, provider, model, window, amount_nano_usd, kind, mode, created_at_ms, removed_at_ms) VALUES
  ('bud_1', NULL, NULL, NULL, 'key_1', NULL, NULL, 'month', 100000000000, 'hard', 'strict', 1747737000000, NULL),
  ('bud_2', 'search', NULL, NULL, NULL, NULL, NULL, 'month', 100000000000, 'hard', 'strict', 1747737000000, NULL),
  ('bud_3', NULL, NULL, NULL, NULL, NULL, 'gpt-5-2025-05-01', 'month', 100000000000, 'hard', 'strict', 1747737000000, NULL);
INSERT INTO reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd, expected_nano_usd, work_id, tiers) VALUES
  (695911464960000, 'key_1', 'openai', 'chat_completions', 'gpt-5', 'search', 'web', 'prod', '{"feature":"find"}', 5000000, 2000000, 'batch_open', 'batch'),
  (696582144000001, 'key_1', 'openai', 'chat_completions', 'gpt-5', 'search', 'web', 'prod', '{"feature":"find"}', 5000000, 2000000, NULL, NULL);
INSERT INTO events (attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, tags, input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version, price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage, stated_cost_nano_usd) VALUES
  (695911219200000, 'key_1', 'openai', 'chat_completions', 'gpt-5', 'gpt-5-2025-05-01', NULL, 'search', 'web', 'prod', '{"feature":"find"}', 1000, 200, NULL, NULL, 50, NULL, 10, 'reported', 1500000, NULL, '2025-05-01', 'exact', 'complete', 200, 900, 200, 'req_1', 'resp_695911219200000', '{"prompt_tokens":1000}', NULL),
  (695911219200001, 'key_1', 'openai', 'chat_completions', 'gpt-5', NULL, NULL, 'search', 'web', 'prod', '{"feature":"find"}', 1000, 200, NULL, NULL, 50, NULL, 10, 'estimated', 2500000, NULL, '2025-05-01', 'exact', 'client_left', 200, 900, 200, 'req_1', 'resp_695911219200001', '{"prompt_tokens":1000}', NULL),
  (695911219200002, 'key_1', 'openai', 'chat_completions', 'gpt-5', 'gpt-5-2025-05-01', NULL, 'search', 'web', 'prod', '{"feature":"find"}', 1000, 200, NULL, NULL, 50, NULL, 10, 'reported', NULL, NULL, '2025-05-01', 'unpriced', 'complete', 200, 900, 200, 'req_1', 'resp_695911219200002', '{"prompt_tokens":1000}', NULL),
  (695911219200003, 'key_1', 'openai', 'chat_completions', 'gpt-5', 'gpt-5-2025-05-01', NULL, 'search', 'web', 'prod', '{"feature":"find"}', 100, 0, 7, 5, 20, '{"cache_write_30m":3}', 10, 'reported', 900000, NULL, '2025-05-01', 'inferred', 'complete', 200, 900, 200, 'req_1', 'resp_695911219200003', '{"prompt_tokens":1000}', NULL),
  (695911219200004, 'key_1', 'openai', 'batches', 'gpt-5', 'gpt-5-2025-05-01', NULL, 'search', 'web', 'prod', '{"feature":"find"}', 1000, 200, NULL, NULL, 50, NULL, 10, 'reported', 700000, NULL, '2025-05-01', 'exact', 'complete', 200, 900, 200, 'req_1', 'batch_done', '{"prompt_tokens":1000}', NULL),
  (696460492800000, 'key_1', 'openai', 'chat_completions', 'gpt-5', 'gpt-5-2025-05-01', NULL, 'search', 'web', 'prod', '{"feature":"find"}', 1000, 200, NULL, NULL, 50, NULL, 10, 'reported', 3000000, NULL, '2025-05-01', 'exact', 'complete', 200, 900, 200, 'req_1', 'resp_696460492800000', '{"prompt_tokens":1000}', NULL),
  (696582144000000, 'key_1', 'openai', 'chat_completions', 'gpt-5', 'gpt-5-2025-05-20', NULL, 'search', 'web', 'prod', '{"feature":"find"}', 1000, 200, NULL, NULL, 50, NULL, 10, 'reported', 4000000, NULL, '2025-05-01', 'exact', 'complete', 200, 900, 200, 'req_1', 'resp_696582144000000', '{"prompt_tokens":1000}', NULL);
INSERT INTO rollup_hour (hour_ms, key_id, provider, model, requested_model, team, project, env, requests, cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred) VALUES
  (1747735200000, 'key_1', 'openai', 'gpt-5', 'gpt-5', 'search', 'web', 'prod', 1, 2500000, 1000, 200, 0, 50, 1, 0, 0, 0),
  (1747735200000, 'key_1', 'openai', 'gpt-5-2025-05-01', 'gpt-5', 'search', 'web', 'prod', 4, 3100000, 3100, 600, 15, 170, 0, 0, 1, 1),
  (1747868400000, 'key_1', 'openai', 'gpt-5-2025-05-01', 'gpt-5', 'search', 'web', 'prod', 1, 3000000, 1000, 200, 0, 50, 0, 0, 0, 0),
  (1747900800000, 'key_1', 'openai', 'gpt-5-2025-05-20', 'gpt-5', 'search', 'web', 'prod', 1, 4000000, 1000, 200, 0, 50, 0, 0, 0, 0);
INSERT INTO rollup_day (day, key_id, provider, model, requested_model, team, project, env, requests, cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred) VALUES
  ('2025-05-20', 'key_1', 'openai', 'gpt-5', 'gpt-5', 'search', 'web', 'prod', 1, 2500000, 1000, 200, 0, 50, 1, 0, 0, 0),
  ('2025-05-20', 'key_1', 'openai', 'gpt-5-2025-05-01', 'gpt-5', 'search', 'web', 'prod', 4, 3100000, 3100, 600, 15, 170, 0, 0, 1, 1),
  ('2025-05-22', 'key_1', 'openai', 'gpt-5-2025-05-01', 'gpt-5', 'search', 'web', 'prod', 1, 3000000, 1000, 200, 0, 50, 0, 0, 0, 0),
  ('2025-05-22', 'key_1', 'openai', 'gpt-5-2025-05-20', 'gpt-5', 'search', 'web', 'prod', 1, 4000000, 1000, 200, 0, 50, 0, 0, 0, 0);
INSERT INTO meter_hours (hour_ms) VALUES
  (1747728000000),
  (1747731600000),
  (1747735200000),
  (1795914000000);
INSERT INTO refused (minute_ms, key_id, model, reason, budget_id, observed, count) VALUES
  (1747737000000, 'key_1', 'gpt-5', 'unknown_model', '', 0, 1);
INSERT INTO audit (seq, at_ms, actor, action, subject, detail, previous, hash) VALUES
  (1, 1747737000000, 'ada', 'createKey', 'key_1', '{"type":"createKey","key":{"id":"key_1","kind":"virtual","name":"search-prod","team":"search","project":"web","env":"prod","owner":"ada@example.com","state":"active","hint":"4VIR","createdAtMs":1747737000000},"budget":{"id":"bud_1","scope":{"keyId":"key_1"},"window":"month","amountNanoUsd":"100000000000","kind":"hard","mode":"strict","createdAtMs":1747737000000}}', '0000000000000000000000000000000000000000000000000000000000000000', '59fd880d09077a9a9ec02c63ee54d96cc5e6921bd37a655aab088daf7a41c76b'),
  (2, 1747737000000, 'ada', 'setBudget', 'bud_2', '{"type":"setBudget","budget":{"id":"bud_2","scope":{"team":"search"},"window":"month","amountNanoUsd":"100000000000","kind":"hard","mode":"strict","createdAtMs":1747737000000}}', '59fd880d09077a9a9ec02c63ee54d96cc5e6921bd37a655aab088daf7a41c76b', '16e2693d078a7caf1b638b5fe1012946153d8fd2b5c0e972f112a54350fd5af1'),
  (3, 1747737000000, 'ada', 'setBudget', 'bud_3', '{"type":"setBudget","budget":{"id":"bud_3","scope":{"model":"gpt-5-2025-05-01"},"window":"month","amountNanoUsd":"100000000000","kind":"hard","mode":"strict","createdAtMs":1747737000000}}', '16e2693d078a7caf1b638b5fe1012946153d8fd2b5c0e972f112a54350fd5af1', '5d31e2bd837fdcc4b9118cb3985667f591325d02b67cab44e7b3fe387461917c'),
  (4, 1747737000000, 'ada', 'rotateKey', 'key_1', '{"type":"rotateKey","keyId":"key_1","hint":"1tFW","graceUntilMs":1747740600000}', '5d31e2bd837fdcc4b9118cb3985667f591325d02b67cab44e7b3fe387461917c', 'f1dda1728a15e0bc72f7793430987110a90602d7f63291e7b5290ca7e813411d'),
  (5, 1747737000000, 'bob', 'describeKey', 'key_1', '{"type":"describeKey","keyId":"key_1","fields":{"owner":"bob@example.com"}}', 'f1dda1728a15e0bc72f7793430987110a90602d7f63291e7b5290ca7e813411d', '6dcc33fe43669ea4e8c0d65d556221ddca8d7f1c5f00e8a3c87bdc691b72c8f8'),
  (6, 1747737000000, 'ada', 'createKey', 'key_2', '{"type":"createKey","key":{"id":"key_2","kind":"virtual","name":"ads-prod","team":"ads","project":"web","env":"prod","owner":"ada@example.com","state":"active","hint":"0000","createdAtMs":1747737000000}}', '6dcc33fe43669ea4e8c0d65d556221ddca8d7f1c5f00e8a3c87bdc691b72c8f8', '57d165675a605ba64a897ae73d0aa9efc7abd0258347737a7bdb70ec2a80e9da'),
  (7, 1747737000000, 'ada', 'setKeyState', 'key_2', '{"type":"setKeyState","keyId":"key_2","state":"paused"}', '57d165675a605ba64a897ae73d0aa9efc7abd0258347737a7bdb70ec2a80e9da', '2a84b81232633bd1d77796e547eb8ebe079782be7a262f02f50f6bd4dce8082f');
INSERT INTO work (provider, work_id, key_id, attempt_id) VALUES
  ('openai', 'batch_done', 'key_1', 695911219200004),
  ('openai', 'batch_open', 'key_1', 695911464960000);
CREATE TRIGGER events_keep BEFORE DELETE ON events
  WHEN OLD.attempt_id >= COALESCE((SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'events_kept_from'), 0)
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
CREATE TRIGGER events_fixed BEFORE UPDATE OF attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team,
  project, env, tags, input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state,
  cost_nano_usd, cost_lines, price_version, price_confidence, outcome, http_status, duration_ms, first_byte_ms,
  provider_request_id, response_id ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
CREATE TRIGGER audit_keep BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER audit_fixed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END;
CREATE TRIGGER events_stated_fixed BEFORE UPDATE OF stated_cost_nano_usd ON events
  BEGIN SELECT RAISE(ABORT, 'usage events are append-only'); END;
CREATE INDEX adjustments_attempt ON adjustments (attempt_id);
CREATE TRIGGER adjustments_keep BEFORE DELETE ON adjustments BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;
CREATE TRIGGER adjustments_fixed BEFORE UPDATE ON adjustments BEGIN SELECT RAISE(ABORT, 'adjustments are append-only'); END;
PRAGMA user_version = 3;
COMMIT;
