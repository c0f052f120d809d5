-- Tokens that people and programs are known by at the admin API, the pages and the remote command: each with a name and a role. Of a
-- token only its SHA-256 stands here; it has 256 bits of its own.
CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL CHECK (name <> ''),
  role TEXT NOT NULL CHECK (role IN ('read', 'lead', 'finance', 'admin')),
  -- Of a lead.
  team TEXT NOT NULL DEFAULT '',
  digest TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
  created_at_ms INTEGER NOT NULL,
  expires_at_ms INTEGER,
  revoked_at_ms INTEGER,
  CHECK ((role = 'lead') = (team <> ''))
) STRICT, WITHOUT ROWID;
