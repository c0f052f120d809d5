-- Which provider credential virtual keys were swapped for, and from when: what bills them. The id is that of a fingerprint.
CREATE TABLE credentials (
  provider TEXT NOT NULL,
  since_ms INTEGER NOT NULL,
  credential TEXT NOT NULL,
  hint TEXT NOT NULL,
  PRIMARY KEY (provider, since_ms)
) STRICT, WITHOUT ROWID;

-- From where each key was used, by the day it was first and last seen there.
CREATE TABLE key_addresses (
  key_id TEXT NOT NULL,
  address TEXT NOT NULL,
  first_seen_ms INTEGER NOT NULL,
  last_seen_ms INTEGER NOT NULL,
  PRIMARY KEY (key_id, address)
) STRICT, WITHOUT ROWID;
