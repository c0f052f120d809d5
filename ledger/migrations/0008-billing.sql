-- Rotations of provider credentials: where each stands, and the steps that it took. No secret is among it: `new_print` is a
-- digest by which the next secret is known again, `new_hint` its last characters.
CREATE TABLE rotations (
  id TEXT PRIMARY KEY,
  -- A provider, or PROVIDER/NAME of one of several credentials.
  place TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('planned', 'stored', 'verified', 'switched', 'draining', 'disabled', 'by_hand', 'revoking', 'going_back', 'returning', 'revoked', 'back', 'failed')),
  entered_at_ms INTEGER NOT NULL,
  started_at_ms INTEGER NOT NULL,
  started_by TEXT NOT NULL,
  why TEXT NOT NULL,
  is_leaked INTEGER NOT NULL CHECK (is_leaked IN (0, 1)),
  old_credential TEXT,
  old_key_id TEXT,
  new_credential TEXT,
  new_key_id TEXT,
  new_hint TEXT,
  new_print TEXT,
  -- Why it waits, or why it failed; null: it goes on.
  waits_for TEXT,
  is_trouble INTEGER NOT NULL DEFAULT 0 CHECK (is_trouble IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX rotations_open ON rotations (place) WHERE state NOT IN ('revoked', 'back', 'failed');
CREATE TABLE rotation_steps (
  rotation_id TEXT NOT NULL,
  step INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  state TEXT NOT NULL,
  said TEXT NOT NULL,
  -- Whether the audit has it too.
  is_audited INTEGER NOT NULL DEFAULT 0 CHECK (is_audited IN (0, 1)),
  PRIMARY KEY (rotation_id, step)
) STRICT, WITHOUT ROWID;
