// A fingerprint becomes a key when its provider has accepted the secret.
import { attemptAtMs } from "../../ids.ts";
import type { AttemptId } from "../../ids.ts";
import type { ProvenKey } from "../wire.ts";
import type { Ledger } from "./ledger.ts";

type Prover = {
  /** Notes a key that was seen; one that is known stays as it is. */
  readonly note: (keyId: string, provider: string | null, name: string, hint: string, atMs: number) => void;
  /** The secret of an attempt was accepted. */
  readonly prove: (
    by: { readonly attemptId: AttemptId; readonly keyId: string; readonly provider: string },
    key: ProvenKey,
  ) => void;
};

export function createProver({ database }: Ledger): Prover {
  const insertKey = database.prepare(
    "INSERT OR IGNORE INTO keys (id, kind, provider, name, state, hint, created_at_ms) VALUES (?, 'fingerprint', ?, ?, 'active', ?, ?)",
  );
  const insertSecret = database.prepare(
    "INSERT OR IGNORE INTO key_secrets (digest, key_id, created_at_ms) VALUES (?, ?, ?)",
  );
  const note: Prover["note"] = (...key) => insertKey.run(...key);
  return {
    note,
    prove({ attemptId, keyId, provider }, { name, hint, digest }) {
      note(keyId, provider, name, hint, attemptAtMs(attemptId));
      insertSecret.run(digest, keyId, attemptAtMs(attemptId));
    },
  };
}
