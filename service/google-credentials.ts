// Google's credentials, as their tools leave them in a JSON file, or in a store of secrets. A service account signs its own
// tokens, which Google's APIs take as they are (AIP-4111), so that no token endpoint stands in the request path; other kinds
// ask Google for one an hour.
import { createPrivateKey } from "node:crypto";
import { resolve } from "node:path";
import { readFileSync } from "node:fs";
import type { AuthClient, GoogleAuth, JWTInput } from "google-auth-library";
import { clientOf } from "./secrets/client.ts";
import type { HeldSecret } from "./secrets/held.ts";
import { MalformedReference, readReference } from "./secrets/reference.ts";
import type { Reference } from "./secrets/reference.ts";
import type { Reading } from "./settings.ts";

const SCOPES = ["https://www.googleapis.com/auth/cloud-platform"];

/** What makes tokens that last an hour. */
export type GoogleCredentials = {
  /** Rejects with SecretUnavailable where a store has them, and they were not read yet. */
  reveal(): Promise<string>;
};

/** Credentials that are somewhere, and may be others by now. */
export type KeptGoogleCredentials = GoogleCredentials & {
  readonly secret: HeldSecret;
  refreshSoon(): Promise<void>;
  /** Of a service account's token, or of what is kept now: which of its keys signs. Undefined: another kind, or not read yet. */
  identityOf(token?: string): { readonly text: string; readonly hint: string } | undefined;
};

/** Where settings say that they are: a path, or a reference to what such a file holds. What is wrong with it now goes into
 *  the problems; a store that is away is none. */
export function googleCredentialsAt(
  { place, env }: { readonly place: string; readonly env: string },
  given: string,
  { room, problems }: Pick<Reading, "room" | "problems">,
): KeptGoogleCredentials | undefined {
  const reference = referenceOf(`${place} (${env})`, given, problems);
  if (!reference) return undefined;
  const secret = room.hold(place, reference, googleFaultOf);
  const signIn = clientOf(secret, (text) => credentialsIn(text));
  let known: { readonly text: string; readonly identity: Identity } | undefined;
  return {
    secret,
    // oxlint-disable-next-line require-await -- what it throws is a rejection
    async reveal() {
      return signIn().reveal();
    },
    refreshSoon: () => secret.refreshSoon(),
    identityOf(token) {
      if (token !== undefined) return signedBy(token);
      if (secret.state.readAtMs === undefined) return undefined;
      const text = secret.reveal();
      if (known?.text !== text) known = { text, identity: identityIn(text) };
      return known.identity;
    },
  };
}

type Identity = { readonly text: string; readonly hint: string } | undefined;

function referenceOf(label: string, given: string, problems: string[]): Reference | undefined {
  try {
    const reference = readReference(given);
    if (reference) return reference;
    // What stands in a file of this machine can be told at once.
    const fault = googleFaultOf(readFileSync(given, "utf8"));
    if (fault !== undefined) throw new Error(fault);
    return { text: `file:${given}`, scheme: "file", path: resolve(given) };
  } catch (error) {
    problems.push(
      error instanceof MalformedReference
        ? `${label}: ${error.message}`
        : `${label}: ${given} cannot be used (${error instanceof Error ? error.message : String(error)}); name a service account's key file, a reference to one, or unset it`,
    );
    return undefined;
  }
}

/** Credentials of a text that is at hand. Throws, saying what is wrong, when it is no credential. */
export function credentialsIn(text: string): GoogleCredentials {
  const credentials = readJson(text);
  const signer = signerOf(credentials);
  let source: ReturnType<typeof openSource> | undefined;
  return {
    async reveal() {
      source ??= openSource(credentials, signer);
      const headers = await (await source).getRequestHeaders();
      return (headers.get("authorization") ?? "").replace(/^Bearer /, "");
    },
  };
}

/** The key of a service account that a text is: whose, and as Google calls it. Undefined: it is another kind. Throws an Error
 *  where the text is no credential. */
export function serviceAccountKey(text: string): ServiceAccountKey | undefined {
  const { client_email: email, private_key_id: id, project_id: project = "" } = readJson(text);
  return typeof email === "string" && typeof id === "string" ? { email, id, project } : undefined;
}
export type ServiceAccountKey = { readonly email: string; readonly id: string; readonly project: string };

/** The last characters of what a key is called, for its text ends in a bracket: eight, for they are hexadecimal. */
export function hintOfServiceAccountKey({ id }: Pick<ServiceAccountKey, "id">): string {
  return id.slice(-8);
}

function identityIn(text: string): Identity {
  const key = serviceAccountKey(text);
  return key && identityOf(key.email, key.id);
}

/** Its signer stands in the token itself: a token of before the last change is known too. */
function signedBy(token: string): Identity {
  const [head = "", body = ""] = token.split(".");
  try {
    const { kid } = parsePart(head);
    const { iss } = parsePart(body);
    return typeof kid === "string" && typeof iss === "string" ? identityOf(iss, kid) : undefined;
  } catch {
    // Another kind's token is no JWT.
    return undefined;
  }
}

function parsePart(part: string): { readonly [name: string]: unknown } {
  return JSON.parse(Buffer.from(part, "base64url").toString("utf8")) as { readonly [name: string]: unknown };
}

function identityOf(email: string, keyId: string): Identity {
  return { text: `service account ${email} ${keyId}`, hint: hintOfServiceAccountKey({ id: keyId }) };
}

/** What is wrong with a text as a credential of Google's; undefined: nothing. */
export function googleFaultOf(text: string): string | undefined {
  try {
    signerOf(readJson(text));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Never with a piece of it: it may be another secret. */
function readJson(text: string): JWTInput {
  let read: JWTInput;
  try {
    read = JSON.parse(text) as JWTInput;
  } catch {
    throw new Error("it is no JSON");
  }
  if (typeof read?.type !== "string") throw new Error('it names no "type" of credential');
  return read;
}

type Signer = { readonly email: string; readonly key: string; readonly keyId?: string };

/** Undefined: another kind than a service account. */
function signerOf({
  type,
  client_email: email,
  private_key: key,
  private_key_id: keyId,
}: JWTInput): Signer | undefined {
  if (type !== "service_account") return undefined;
  if (typeof email !== "string" || typeof key !== "string")
    throw new Error('a service account has a "client_email" and a "private_key"');
  // Fails now instead of at the first request.
  try {
    createPrivateKey(key);
  } catch {
    throw new Error('its "private_key" is no private key');
  }
  return { email, key, ...(keyId === undefined ? {} : { keyId }) };
}

/** Google's library is loaded with the first token that is asked for: most installations never ask. */
async function openSource(credentials: JWTInput, signer: Signer | undefined): Promise<AuthClient | GoogleAuth> {
  const { GoogleAuth, JWT } = await import("google-auth-library");
  if (!signer) return new GoogleAuth({ credentials, scopes: SCOPES });
  const jwt = new JWT({ ...signer, scopes: SCOPES });
  jwt.useJWTAccessWithScope = true;
  return jwt;
}

/** What this machine is to Google: a workload's identity, or what its tools were signed in with. */
export function machineCredentials(): GoogleCredentials {
  let source: Promise<GoogleAuth> | undefined;
  return {
    async reveal() {
      source ??= openMachine();
      try {
        return (await (await source).getAccessToken()) ?? "";
      } catch (error) {
        source = undefined;
        throw error;
      }
    },
  };
}

const PATH_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS";

/** Google's library takes that variable for a path. Where it is a reference of ours, it is none of the machine's. */
async function openMachine(): Promise<GoogleAuth> {
  const { GoogleAuth } = await import("google-auth-library");
  const auth = new GoogleAuth({ scopes: SCOPES });
  // oxlint-disable-next-line node/no-process-env -- where Google's library looks
  const { env } = process;
  const given = env[PATH_VARIABLE];
  if (given === undefined || !isReference(given)) return auth;
  delete env[PATH_VARIABLE];
  try {
    await auth.getClient();
  } finally {
    env[PATH_VARIABLE] = given;
  }
  return auth;
}

function isReference(text: string): boolean {
  try {
    return readReference(text) !== undefined;
  } catch {
    return false;
  }
}
