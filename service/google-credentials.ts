// Google's credentials, as their tools leave them in a JSON file. A service account signs its own tokens, which
// Google's APIs take as they are (AIP-4111), so that no token endpoint stands in the request path; other kinds ask
// Google for one an hour.
import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import type { AuthClient, GoogleAuth, JWTInput } from "google-auth-library";

const SCOPES = ["https://www.googleapis.com/auth/cloud-platform"];

/** What makes tokens that last an hour. */
export type GoogleCredentials = { reveal(): Promise<string> };

/** Reads the file. Throws, saying what is wrong, when it is no credential. */
export function googleCredentials(file: string): GoogleCredentials {
  const credentials = readJson(readFileSync(file, "utf8"));
  if (typeof credentials.type !== "string") throw new Error('it names no "type" of credential');
  const signer = credentials.type === "service_account" ? signerOf(credentials) : undefined;
  let source: ReturnType<typeof openSource> | undefined;
  return {
    async reveal() {
      source ??= openSource(credentials, signer);
      const headers = await (await source).getRequestHeaders();
      return (headers.get("authorization") ?? "").replace(/^Bearer /, "");
    },
  };
}

/** Never with a piece of it: it may be another secret. */
function readJson(text: string): JWTInput {
  try {
    return JSON.parse(text) as JWTInput;
  } catch {
    throw new Error("it is no JSON");
  }
}

type Signer = { readonly email: string; readonly key: string };

function signerOf({ client_email: email, private_key: key }: JWTInput): Signer {
  if (typeof email !== "string" || typeof key !== "string")
    throw new Error('a service account has a "client_email" and a "private_key"');
  // Fails now, with its reason, instead of at the first request.
  createPrivateKey(key);
  return { email, key };
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
      source ??= import("google-auth-library").then(({ GoogleAuth }) => new GoogleAuth({ scopes: SCOPES }));
      return (await (await source).getAccessToken()) ?? "";
    },
  };
}
