-- notices.db, schema 2, as commits 04a1eb8 to 7ee2d97 made it.
PRAGMA foreign_keys = OFF;
BEGIN;
CREATE TABLE notices (
  id INTEGER PRIMARY KEY,
  group_key TEXT NOT NULL,
  channel TEXT NOT NULL,
  ts TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('firing', 'resolved')),
  text TEXT NOT NULL,
  posted_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
, severity TEXT NOT NULL DEFAULT '', figure_nano_usd INTEGER, body TEXT NOT NULL DEFAULT '') STRICT;
CREATE TABLE deliveries (
  group_key TEXT NOT NULL,
  source TEXT NOT NULL,
  payload TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL,
  PRIMARY KEY (group_key, source)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('group', 'reply', 'picture', 'digest')),
  group_key TEXT NOT NULL,
  nonce TEXT NOT NULL UNIQUE,
  payload TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL,
  next_at_ms INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  sending_since_ms INTEGER,
  last_error TEXT
) STRICT;
CREATE TABLE mutes (
  group_key TEXT PRIMARY KEY,
  until_ms INTEGER NOT NULL,
  muted_by TEXT NOT NULL,
  muted_at_ms INTEGER NOT NULL,
  -- The silence in Alertmanager, where there is one.
  silence TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO notices (id, group_key, channel, ts, state, text, posted_at_ms, updated_at_ms, severity, figure_nano_usd, body) VALUES
  (1, '{}:{team="search", topic="forecast"}', 'C0TEST', '1747900800.000100', 'firing', 'Team search is heading over its forecast', 1747900800000, 1747900800000, 'warning', 17420000000, '');
INSERT INTO deliveries (group_key, source, payload, received_at_ms) VALUES
  ('{}:{team="ads", topic="forecast"}', 'http://alertmanager:9093', '{"version":"4","receiver":"keymeter","groupKey":"{}:{team=\"ads\", topic=\"forecast\"}","status":"firing","truncatedAlerts":0,"groupLabels":{"team":"ads","topic":"forecast"},"commonLabels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"ads","team":"ads","window":"day","severity":"warning","topic":"forecast"},"commonAnnotations":{},"externalURL":"http://alertmanager:9093","alerts":[{"status":"firing","labels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"ads","team":"ads","window":"day","severity":"warning","topic":"forecast"},"annotations":{},"startsAt":"2025-05-22T07:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus:9090/graph","fingerprint":"0123456789abcdef"}]}', 1747900800000),
  ('{}:{team="search", topic="forecast"}', 'http://alertmanager:9093', '{"version":"4","receiver":"keymeter","groupKey":"{}:{team=\"search\", topic=\"forecast\"}","status":"resolved","truncatedAlerts":0,"groupLabels":{"team":"search","topic":"forecast"},"commonLabels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"search","team":"search","window":"day","severity":"warning","topic":"forecast"},"commonAnnotations":{},"externalURL":"http://alertmanager:9093","alerts":[{"status":"resolved","labels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"search","team":"search","window":"day","severity":"warning","topic":"forecast"},"annotations":{},"startsAt":"2025-05-22T07:00:00Z","endsAt":"2025-05-22T08:00:00Z","generatorURL":"http://prometheus:9090/graph","fingerprint":"0123456789abcdef"}]}', 1747900800000);
INSERT INTO outbox (id, kind, group_key, nonce, payload, received_at_ms, next_at_ms, attempts, sending_since_ms, last_error) VALUES
  (1, 'group', '{}:{team="search", topic="forecast"}', 'nonce-1', '{}', 1747900800000, 0, 0, NULL, NULL),
  (2, 'group', '{}:{team="ads", topic="forecast"}', 'nonce-2', '{}', 1747900800000, 0, 0, NULL, NULL);
INSERT INTO mutes (group_key, until_ms, muted_by, muted_at_ms, silence) VALUES
  ('{}:{team="web", topic="forecast"}', 1747904400000, 'ana', 1747900800000, NULL);
CREATE UNIQUE INDEX notices_open ON notices (group_key) WHERE state = 'firing';
CREATE UNIQUE INDEX outbox_group ON outbox (group_key) WHERE kind = 'group';
CREATE INDEX notices_group ON notices (group_key, updated_at_ms);
PRAGMA user_version = 2;
COMMIT;
