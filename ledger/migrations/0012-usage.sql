-- What a key has belonged to, ever: names that count in budgets are a key's own, and not what its requests name by a tag. It also says what a correction
-- of whose spend it is may move.
CREATE TABLE key_owners (
  key_id TEXT NOT NULL,
  part TEXT NOT NULL CHECK (part IN ('team', 'project', 'env')),
  value TEXT NOT NULL CHECK (length(value) > 0),
  PRIMARY KEY (key_id, part, value)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO key_owners
  SELECT id, 'team', team FROM keys WHERE team <> ''
  UNION ALL SELECT id, 'project', project FROM keys WHERE project <> ''
  UNION ALL SELECT id, 'env', env FROM keys WHERE env <> '';
INSERT OR IGNORE INTO key_owners
  SELECT subject, part, value FROM (
    SELECT subject, 'team' AS part, COALESCE(json_extract(detail, '$.key.team'), json_extract(detail, '$.fields.team')) AS value
      FROM audit WHERE action IN ('createKey', 'describeKey') AND json_valid(detail)
    UNION ALL SELECT subject, 'project', COALESCE(json_extract(detail, '$.key.project'), json_extract(detail, '$.fields.project'))
      FROM audit WHERE action IN ('createKey', 'describeKey') AND json_valid(detail)
    UNION ALL SELECT subject, 'env', COALESCE(json_extract(detail, '$.key.env'), json_extract(detail, '$.fields.env'))
      FROM audit WHERE action IN ('createKey', 'describeKey') AND json_valid(detail))
  WHERE value IS NOT NULL AND value <> '';
