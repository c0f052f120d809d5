// Who asks: the owner of the credential that came, by its digest.
import type { Key } from "../ledger/usage/keys.ts";
import type { ProvenKey } from "../ledger/usage/wire.ts";

/** Who asked, as far as an attempt has to know. Of work that was begun earlier that is the key alone: it was accepted
 *  then. */
export type Asker = {
  readonly keyId: string;
  /** Undefined: a provider key that no provider has accepted yet. */
  readonly key?: Key | undefined;
  /** What makes an unknown fingerprint a key once its provider accepts it. */
  readonly proven?: ProvenKey | undefined;
  /** Of a sign-in, which changes every hour: the digest of this very one. */
  readonly signIn?: string | undefined;
  /** A credential of the client's own that pays what is money. */
  readonly payer?: { readonly keyId: string; readonly proven?: ProvenKey | undefined } | undefined;
  /** Of a virtual key: the credential of ours that it is swapped for, by its fingerprint. */
  readonly swappedFor?: string | undefined;
  /** Whether a subscription pays, as far as it is known. */
  readonly isSeat?: boolean | undefined;
  /** Of a sign-in that may be a subscription's: its digest. What is answered says whether it is. */
  readonly seatSignIn?: string | undefined;
};

export type Principal = Asker & {
  readonly kind: "virtual" | "fingerprint";
  readonly key: Key | undefined;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** Whose the key is; or, once that is known, whom the request names. */
  readonly user: string;
  readonly proven: ProvenKey | undefined;
};
