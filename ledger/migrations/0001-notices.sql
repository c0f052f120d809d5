-- notices.db: what was said, and where. Written by the alerts program alone.

-- What Alertmanager delivered and Slack has not taken yet: stored before Alertmanager hears 200.
CREATE TABLE outbox (
  id INTEGER PRIMARY KEY,
  group_key TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL,
  payload TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  last_error TEXT
) STRICT;

-- One message for each alert group, from its first notification until it resolves.
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
CREATE UNIQUE INDEX notices_open ON notices (group_key) WHERE state = 'firing';
