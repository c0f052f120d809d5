// Who asks: the key behind a request, and whose it is.
import type { Key } from "../ledger/usage/keys.ts";
import type { ProvenKey } from "../ledger/usage/wire.ts";

/** Who asks. `key` undefined: a provider key that no provider has accepted yet. */
export type Principal = {
  readonly kind: "virtual" | "fingerprint";
  readonly keyId: string;
  readonly key: Key | undefined;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** What makes an unknown fingerprint a key once its provider accepts it. */
  readonly proven: ProvenKey | undefined;
  /** Of a sign-in, which changes every hour: the digest of this very one. */
  readonly signIn?: string | undefined;
};
