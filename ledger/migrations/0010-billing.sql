-- What was exported to telemetry: how far each destination has got in the order of commits (or of the audit), and the sums that metrics
-- are, as of the same commit.
CREATE TABLE telemetry (
  name TEXT PRIMARY KEY,
  number INTEGER NOT NULL,
  position INTEGER NOT NULL,
  since_ms INTEGER NOT NULL,
  -- JSON; what it is, each destination knows.
  state TEXT
) STRICT, WITHOUT ROWID;
