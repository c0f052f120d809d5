// The key with which Keymeter signs who it is, for providers that trade such a signature for a token of minutes: ES256, as a
// JWK. Its private half is a secret; the public half is registered once.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import type { JsonWebKey } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { keepSecret, Secret } from "./secret.ts";

/** What is registered. */
export type PublicJwk = {
  readonly kty: "EC";
  readonly crv: "P-256";
  readonly x: string;
  readonly y: string;
  readonly kid: string;
  readonly alg: "ES256";
  readonly use: "sig";
};

export type SigningKey = {
  readonly jwk: PublicJwk;
  /** A JWT of these claims, good for so many seconds from now. */
  sign(claims: { readonly iss: string; readonly sub: string; readonly aud: string }, seconds: number): string;
};

/** What a JWT is for, as it is registered. */
export const AUDIENCES = { anthropic: "https://api.anthropic.com", openai: "https://api.openai.com/v1" } as const;

/** In the data folder. */
export const SIGNING_KEY_FILE = "signing-key.json";

/** The one in a data folder; undefined: none was made. */
export function keptSigningKey(dataDir: string): Secret | undefined {
  const path = join(dataDir, SIGNING_KEY_FILE);
  return existsSync(path) ? new Secret(readFileSync(path, "utf8").trim()) : undefined;
}

/** Makes one in a data folder, where none is. */
export function makeSigningKey(dataDir: string): Secret {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const made = new Secret(JSON.stringify(privateKey.export({ format: "jwk" })));
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  keepSecret(dataDir, SIGNING_KEY_FILE, made);
  return made;
}

/** Reads one. Throws an Error that says what is wrong, without a piece of it. */
export function signingKeyOf(text: string): SigningKey {
  let key: ReturnType<typeof createPrivateKey>;
  let jwk: JsonWebKey;
  try {
    key = createPrivateKey({ key: JSON.parse(text) as JsonWebKey, format: "jwk" });
    jwk = createPublicKey(key).export({ format: "jwk" });
  } catch {
    throw new Error("it is no private key as a JWK (JSON)");
  }
  const { kty, crv, x, y } = jwk;
  if (kty !== "EC" || crv !== "P-256" || x === undefined || y === undefined)
    throw new Error("it is no key for ES256 (EC, P-256)");
  // RFC 7638.
  const kid = createHash("sha256").update(JSON.stringify({ crv, kty, x, y })).digest("base64url");
  const head = encode({ alg: "ES256", typ: "JWT", kid });
  return {
    jwk: { kty, crv, x, y, kid, alg: "ES256", use: "sig" },
    sign(claims, seconds) {
      const now = Math.floor(Date.now() / 1000);
      const body = encode({ ...claims, iat: now, nbf: now - CLOCK_S, exp: now + seconds, jti: randomUUID() });
      const signature = sign("sha256", Buffer.from(`${head}.${body}`), { key, dsaEncoding: "ieee-p1363" });
      return `${head}.${body}.${signature.toString("base64url")}`;
    },
  };
}

/** Two clocks may differ. */
const CLOCK_S = 30;

function encode(part: object): string {
  return Buffer.from(JSON.stringify(part)).toString("base64url");
}
