-- additive
-- More money that the holder of a key asked for, and what became of it. `why` is the asker's words.
CREATE TABLE usage.asked_raises (
  id usage.words PRIMARY KEY,
  key_id usage.words NOT NULL,
  -- A budget, or the cap of a rule's member.
  budget_id usage.words NOT NULL,
  amount_nano_usd bigint NOT NULL CHECK (amount_nano_usd > 0),
  why usage.words NOT NULL,
  created_at_ms bigint NOT NULL,
  -- Null: nobody has answered.
  answer usage.words CHECK (answer IN ('approved', 'refused')),
  answered_at_ms bigint,
  answered_by usage.words
);
