// A fingerprint becomes a key when its provider has accepted the secret.
import { attemptAtMs } from "../../ids.ts";
import type { AttemptId } from "../../ids.ts";
import { fingerprintId } from "../keys.ts";
import type { ProvenKey } from "../wire.ts";
import type { Fingerprint } from "./entries.ts";
import type { Ledger } from "./ledger.ts";

/** Notes a key that was seen; one that is known stays as it is. */
export function noteKey(ledger: Ledger, key: Fingerprint): void {
  ledger.keyIds.add(key.keyId);
  ledger.entries.fingerprint(key);
}

/** The secret of an attempt was accepted: the asker's, or the one that pays beside its key. */
export function prove(
  ledger: Ledger,
  { attemptId, provider }: { readonly attemptId: AttemptId; readonly provider: string },
  { name, hint, digest }: ProvenKey,
): void {
  const atMs = attemptAtMs(attemptId);
  const keyId = fingerprintId(digest);
  noteKey(ledger, { keyId, provider, name, hint, atMs });
  ledger.entries.secret(digest, keyId, atMs);
}
