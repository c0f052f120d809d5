-- What a key is for, and what it may do: JSON, see ledger/key-policy.ts. Null: everything.
ALTER TABLE keys ADD COLUMN purpose TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN policy TEXT;

-- A budget that is tried out: it refuses nothing, and what it would have refused is counted.
ALTER TABLE budgets ADD COLUMN observe INTEGER NOT NULL DEFAULT 0 CHECK (observe IN (0, 1));

-- What is not money: requests and tokens a minute, requests at once, the size of a body. A scope is key:<id>, team:<name> or org.
CREATE TABLE limits (
  scope TEXT PRIMARY KEY,
  requests_per_minute INTEGER CHECK (requests_per_minute > 0),
  tokens_per_minute INTEGER CHECK (tokens_per_minute > 0),
  concurrent INTEGER CHECK (concurrent > 0),
  body_bytes INTEGER CHECK (body_bytes > 0)
) STRICT, WITHOUT ROWID;

-- Scopes in which nothing is admitted until somebody lifts it.
CREATE TABLE freezes (
  id TEXT PRIMARY KEY,
  team TEXT, project TEXT, env TEXT, key_id TEXT, provider TEXT, model TEXT,
  reason TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  lifted_at_ms INTEGER
) STRICT, WITHOUT ROWID;
