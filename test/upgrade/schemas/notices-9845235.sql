-- notices.db, schema 1, as commits 4bbb522 to 9845235 made it.
PRAGMA foreign_keys = OFF;
BEGIN;
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY,
  group_key TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL,
  payload TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  last_error TEXT
) STRICT;
CREATE TABLE notices (
  id INTEGER PRIMARY KEY,
  group_key TEXT NOT NULL,
  channel TEXT NOT NULL,
  ts TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('firing', 'resolved')),
  text TEXT NOT NULL,
  posted_at_ms INTEGER NOT NULL,
  updated_at_ms INTEGER NOT NULL
) STRICT;
INSERT INTO outbox (id, group_key, received_at_ms, payload, attempts, last_error) VALUES
  (1, '{}:{team="search", topic="forecast"}', 1747900800000, '{"version":"4","receiver":"keymeter","groupKey":"{}:{team=\"search\", topic=\"forecast\"}","status":"firing","truncatedAlerts":0,"groupLabels":{"team":"search","topic":"forecast"},"commonLabels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"search","team":"search","window":"day","severity":"warning","topic":"forecast"},"commonAnnotations":{},"externalURL":"http://alertmanager:9093","alerts":[{"status":"firing","labels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"search","team":"search","window":"day","severity":"warning","topic":"forecast"},"annotations":{},"startsAt":"2025-05-22T07:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus:9090/graph","fingerprint":"0123456789abcdef"}]}', 0, NULL),
  (2, '{}:{team="search", topic="forecast"}', 1747900800001, '{"version":"4","receiver":"keymeter","groupKey":"{}:{team=\"search\", topic=\"forecast\"}","status":"resolved","truncatedAlerts":0,"groupLabels":{"team":"search","topic":"forecast"},"commonLabels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"search","team":"search","window":"day","severity":"warning","topic":"forecast"},"commonAnnotations":{},"externalURL":"http://alertmanager:9093","alerts":[{"status":"resolved","labels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"search","team":"search","window":"day","severity":"warning","topic":"forecast"},"annotations":{},"startsAt":"2025-05-22T07:00:00Z","endsAt":"2025-05-22T08:00:00Z","generatorURL":"http://prometheus:9090/graph","fingerprint":"0123456789abcdef"}]}', 0, NULL),
  (3, '{}:{team="ads", topic="forecast"}', 1747900800000, '{"version":"4","receiver":"keymeter","groupKey":"{}:{team=\"ads\", topic=\"forecast\"}","status":"firing","truncatedAlerts":0,"groupLabels":{"team":"ads","topic":"forecast"},"commonLabels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"ads","team":"ads","window":"day","severity":"warning","topic":"forecast"},"commonAnnotations":{},"externalURL":"http://alertmanager:9093","alerts":[{"status":"firing","labels":{"alertname":"KeymeterSpendOverForecast","scope":"team","id":"ads","team":"ads","window":"day","severity":"warning","topic":"forecast"},"annotations":{},"startsAt":"2025-05-22T07:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus:9090/graph","fingerprint":"0123456789abcdef"}]}', 0, NULL);
INSERT INTO notices (id, group_key, channel, ts, state, text, posted_at_ms, updated_at_ms) VALUES
  (1, '{}:{team="search", topic="forecast"}', 'C0TEST', '1747900800.000100', 'firing', 'Team search is heading over its forecast', 1747900800000, 1747900800000);
CREATE UNIQUE INDEX notices_open ON notices (group_key) WHERE state = 'firing';
PRAGMA user_version = 1;
COMMIT;
