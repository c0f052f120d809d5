// Keys: who may spend. A virtual key is a secret that we issue; a fingerprint stands for a provider key seen in
// passing. Secrets are kept as HMAC-SHA256 with a pepper; the secret itself is shown once and stored nowhere.
import { hash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import type { KeyPolicy } from "./key-policy.ts";

type KeyKind = "virtual" | "fingerprint";
export type KeyState = "active" | "paused" | "revoked";

export type Key = {
  readonly id: string;
  readonly kind: KeyKind;
  /** Of a fingerprint: whose key it is. */
  readonly provider: string | undefined;
  readonly name: string;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** Whose it is, by id; empty: nobody's. */
  readonly user: string;
  readonly state: KeyState;
  /** The last four characters of the secret, to recognise it by. */
  readonly hint: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number | undefined;
  /** What it is for, in its owner's words. */
  readonly purpose: string;
  readonly policy: KeyPolicy;
};

/** A digest and the key it opens; `validUntilMs` ends the grace of a rotated secret. */
export type KeySecret = { readonly digest: string; readonly keyId: string; readonly validUntilMs: number | undefined };

/** Attempts with a provider key that no provider has accepted yet: one key for all, so that guesses make no rows. */
export const UNPROVEN_KEY_ID = "unproven";
export const UNPROVEN_KEY = {
  keyId: UNPROVEN_KEY_ID,
  provider: null,
  name: "keys no provider has accepted yet",
  hint: "",
};

const BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BLOCK_BYTES = 64;
const ID_LENGTH = 10;
const SECRET_LENGTH = 43;
const VIRTUAL_KEY = /^km_[a-z0-9]{1,12}_[0-9A-Za-z]{10}_[0-9A-Za-z]{43}[0-9A-Za-z]{6}$/;

/** Whose a virtual key is, when it is issued; what is left out is empty. */
export type KeyFields = {
  readonly name: string;
  readonly team?: string;
  readonly project?: string;
  readonly env?: string;
  /** By id. */
  readonly user?: string;
  readonly expiresAtMs?: number | undefined;
  readonly purpose?: string;
  readonly policy?: KeyPolicy;
};

/** Issues a virtual key: the record for the books, and the secret, which is shown once. */
export function issueVirtualKey(fields: KeyFields, nowMs: number): { readonly key: Key; readonly secret: string } {
  const { name, team = "", project = "", env = "", user = "", purpose = "", policy = {}, expiresAtMs } = fields;
  const id = randomBase62(ID_LENGTH);
  const secret = virtualSecret(id, env);
  const key: Key = {
    id: `key_${id}`,
    kind: "virtual",
    provider: undefined,
    name,
    team,
    project,
    env,
    user,
    state: "active",
    hint: secret.slice(-4),
    createdAtMs: nowMs,
    expiresAtMs,
    purpose,
    policy,
  };
  return { key, secret };
}

/** Until when an old secret is good that goes on until its end is told (`endOldSecrets`): the last instant of the year 9999. */
export const UNTIL_TOLD_MS = 253_402_300_799_999;

/** A new secret for a key that has one. */
export function reissueSecret(env: string): string {
  return virtualSecret(randomBase62(ID_LENGTH), env);
}

function virtualSecret(id: string, env: string): string {
  const kind = env
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "")
    .slice(0, 12);
  return newSecret(`km_${kind || "key"}`, id).secret;
}

/** `<prefix>_<id>_<secret><checksum>`: 43 random base62 characters, and a CRC32 that tells a mistyped secret from an
 *  unknown one without asking the books. */
export function newSecret(
  prefix: string,
  id = randomBase62(ID_LENGTH),
): { readonly id: string; readonly secret: string } {
  const body = `${prefix}_${id}_${randomBase62(SECRET_LENGTH)}`;
  return { id, secret: body + checksum(body) };
}

/** Whether its checksum is right. */
export function hasChecksum(secret: string): boolean {
  return checksum(secret.slice(0, -6)) === secret.slice(-6);
}

/** Whether text has the form of our keys at all (it may still be unknown). */
export function looksLikeVirtualKey(text: string): boolean {
  return text.startsWith("km_");
}

/** Whether form and checksum are right. */
export function isWellFormedVirtualKey(text: string): boolean {
  return VIRTUAL_KEY.test(text) && hasChecksum(text);
}

/** Makes the function that gives a secret's digest: HMAC-SHA256 with the pepper, in hexadecimal. Written out as its two
 *  hashes, because it stands on every request and a hash in one call costs a fifth of an Hmac object. */
export function createDigest(pepper: string): (secret: string) => string {
  const long = Buffer.from(pepper);
  const key = Buffer.alloc(BLOCK_BYTES);
  (long.length > BLOCK_BYTES ? hash("sha256", long, "buffer") : long).copy(key);
  const inner = key.map((byte) => byte ^ 0x36);
  const outer = key.map((byte) => byte ^ 0x5c);
  return (secret) =>
    hash(
      "sha256",
      Buffer.concat([outer, hash("sha256", Buffer.concat([inner, Buffer.from(secret)]), "buffer")]),
      "hex",
    );
}

/** The id of a provider key seen in passing: the same key of the same provider always has the same id. */
export function fingerprintId(digest: string): string {
  return `fp_${BigInt(`0x${digest.slice(0, 16)}`)
    .toString(36)
    .padStart(13, "0")
    .slice(-12)}`;
}

function checksum(text: string): string {
  let rest = crc32(text);
  let digits = "";
  for (let i = 0; i < 6; i++) {
    digits = BASE62.charAt(rest % 62) + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}

function randomBase62(length: number): string {
  let text = "";
  while (text.length < length) {
    for (const byte of randomBytes(length)) if (byte < 248 && text.length < length) text += BASE62.charAt(byte % 62);
  }
  return text;
}
