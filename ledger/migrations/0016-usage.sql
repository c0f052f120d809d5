-- A cap for each: of each user, each key, each value of a tag (`tag:NAME`). Null: the scope has the amount.
ALTER TABLE budgets ADD COLUMN each_of TEXT;
-- What requests are tagged with, `customer=acme`.
ALTER TABLE budgets ADD COLUMN tag TEXT;
ALTER TABLE freezes ADD COLUMN tag TEXT;
-- Of a rule: the one member that has more money; empty: all of them.
ALTER TABLE raises ADD COLUMN member TEXT NOT NULL DEFAULT '';

-- Tags that all requests of a key carry are its own, and count in budgets.
CREATE TABLE key_owners_new (
  key_id TEXT NOT NULL,
  part TEXT NOT NULL CHECK (part IN ('team', 'project', 'env', 'user', 'tag')),
  value TEXT NOT NULL CHECK (length(value) > 0),
  PRIMARY KEY (key_id, part, value)
) STRICT, WITHOUT ROWID;
INSERT INTO key_owners_new SELECT key_id, part, value FROM key_owners;
INSERT OR IGNORE INTO key_owners_new
  SELECT keys.id, 'tag', tags.key || '=' || tags.value FROM keys, json_each(keys.policy, '$.tags') AS tags
  WHERE json_valid(keys.policy);
DROP TABLE key_owners;
ALTER TABLE key_owners_new RENAME TO key_owners;
