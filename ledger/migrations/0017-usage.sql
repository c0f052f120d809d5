-- More money that the holder of a key asked for, and what became of it. `why` is the asker's words.
CREATE TABLE asked_raises (
  id TEXT PRIMARY KEY,
  key_id TEXT NOT NULL,
  -- A budget, or the cap of a rule's member.
  budget_id TEXT NOT NULL,
  amount_nano_usd INTEGER NOT NULL CHECK (amount_nano_usd > 0),
  why TEXT NOT NULL,
  created_at_ms INTEGER NOT NULL,
  -- Null: nobody has answered.
  answer TEXT CHECK (answer IN ('approved', 'refused')),
  answered_at_ms INTEGER,
  answered_by TEXT
) STRICT, WITHOUT ROWID;
