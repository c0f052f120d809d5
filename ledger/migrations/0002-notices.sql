-- What several sources say of a group, what waits for Slack in parts, and who has acknowledged what.

-- The latest word of each source (an Alertmanager by its URL, or "keymeter" for the rules evaluated here) about a group.
CREATE TABLE deliveries (
  group_key TEXT NOT NULL,
  source TEXT NOT NULL,
  payload TEXT NOT NULL,
  received_at_ms INTEGER NOT NULL,
  PRIMARY KEY (group_key, source)
) STRICT, WITHOUT ROWID;
INSERT OR REPLACE INTO deliveries SELECT group_key, 'alertmanager', payload, received_at_ms FROM outbox ORDER BY id;

-- What is to be said. 'group': the state of a group as it is when it is said; 'reply' and 'picture' in the thread of its message; 'digest'.
-- A row that is being sent and has no answer yet keeps `sending_since_ms`: what became of it is looked up, by its nonce.
ALTER TABLE outbox RENAME TO old_outbox;
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
INSERT INTO outbox (kind, group_key, nonce, payload, received_at_ms, attempts)
  SELECT 'group', group_key, 'old-' || id, '{}', received_at_ms, attempts FROM old_outbox;
DROP TABLE old_outbox;
CREATE UNIQUE INDEX outbox_group ON outbox (group_key) WHERE kind = 'group';

ALTER TABLE notices ADD COLUMN severity TEXT NOT NULL DEFAULT '';
-- The figure that the message shows, in nano-USD: it is said again when that has moved by a tenth.
ALTER TABLE notices ADD COLUMN figure_nano_usd INTEGER;
ALTER TABLE notices ADD COLUMN body TEXT NOT NULL DEFAULT '';
CREATE INDEX notices_group ON notices (group_key, updated_at_ms);

-- Groups that somebody has acknowledged: nothing is said of them until then, but that they are over.
CREATE TABLE mutes (
  group_key TEXT PRIMARY KEY,
  until_ms INTEGER NOT NULL,
  muted_by TEXT NOT NULL,
  muted_at_ms INTEGER NOT NULL,
  -- The silence in Alertmanager, where there is one.
  silence TEXT
) STRICT, WITHOUT ROWID;
