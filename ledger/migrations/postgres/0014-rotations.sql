-- additive
-- Rotations of provider credentials: where each stands, and the steps that it took. No secret is among it: `new_print` is a
-- digest by which the next secret is known again, `new_hint` its last characters.
CREATE TABLE billing.rotations (
  id usage.words PRIMARY KEY,
  -- A provider, or PROVIDER/NAME of one of several credentials.
  place usage.words NOT NULL,
  state usage.words NOT NULL CHECK (state IN ('planned', 'stored', 'verified', 'switched', 'draining', 'disabled', 'by_hand', 'revoking', 'going_back', 'returning', 'revoked', 'back', 'failed')),
  entered_at_ms bigint NOT NULL,
  started_at_ms bigint NOT NULL,
  started_by usage.words NOT NULL,
  why usage.words NOT NULL,
  is_leaked bigint NOT NULL CHECK (is_leaked IN (0, 1)),
  old_credential usage.words,
  old_key_id usage.words,
  new_credential usage.words,
  new_key_id usage.words,
  new_hint usage.words,
  new_print usage.words,
  -- Why it waits, or why it failed; null: it goes on.
  waits_for usage.words,
  is_trouble bigint NOT NULL DEFAULT 0 CHECK (is_trouble IN (0, 1))
);
CREATE UNIQUE INDEX rotations_open ON billing.rotations (place) WHERE state NOT IN ('revoked', 'back', 'failed');
CREATE TABLE billing.rotation_steps (
  rotation_id usage.words NOT NULL,
  step bigint NOT NULL,
  at_ms bigint NOT NULL,
  state usage.words NOT NULL,
  said usage.words NOT NULL,
  -- Whether the audit has it too.
  is_audited bigint NOT NULL DEFAULT 0 CHECK (is_audited IN (0, 1)),
  PRIMARY KEY (rotation_id, step)
);
