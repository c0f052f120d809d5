-- additive
-- Tokens that people and programs are known by at the admin API, the pages and the remote command: each with a name and a role. Of a
-- token only its SHA-256 stands here; it has 256 bits of its own.
CREATE TABLE usage.tokens (
  id usage.words PRIMARY KEY,
  name usage.words NOT NULL CHECK (name <> ''),
  role usage.words NOT NULL CHECK (role IN ('read', 'lead', 'finance', 'admin')),
  -- Of a lead.
  team usage.words NOT NULL DEFAULT '',
  digest usage.words NOT NULL UNIQUE CHECK (length(digest) = 64),
  created_at_ms bigint NOT NULL,
  expires_at_ms bigint,
  revoked_at_ms bigint,
  CHECK ((role = 'lead') = (team <> ''))
);
