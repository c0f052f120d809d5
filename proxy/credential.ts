// The one credential of a request: wherever an SDK puts it, and what can be one.
import type { IncomingMessage } from "node:http";
import { DIALECTS } from "./dialects/index.ts";
import { CREDENTIAL_HEADERS } from "./providers/provider.ts";
import type { CredentialHeader, Provider } from "./providers/provider.ts";
import { Refused } from "./refusals.ts";
import { looksLikeVirtualKey } from "../ledger/usage/keys.ts";

/** Where a credential stood: it goes back to the same place. */
type Carrier = CredentialHeader | "query";
export type Credential = { readonly text: string; readonly carrier: Carrier };

/** What a request brings: by `holder` it is known who asks. `own`: a credential of the client's for the provider, beside a
 *  Keymeter key in a header of its own; it goes there unchanged. */
export type Credentials = { readonly holder: Credential | undefined; readonly own: Credential | undefined };

/** Where a Keymeter key may stand beside a credential for the provider: our header, and those of other gateways, so that a
 *  move is a change of base URL. */
const BESIDE_HEADERS = ["x-keymeter-key", "x-litellm-api-key", "x-portkey-api-key", "cf-aig-authorization"] as const;

/** Where a credential stands in a query. */
export const CREDENTIAL_PARAMETERS: ReadonlySet<string> = new Set(["key", "access_token", "api_key"]);
const CREDENTIAL = /^[\x21-\x7e]{8,4096}$/;
const PRINTABLE = /^[\x20-\x7e]{1,4096}$/;

/** The credentials of a request. A Keymeter key in a header of its own says who asks, whatever stands elsewhere. */
export function findCredentials(request: IncomingMessage, query: URLSearchParams): Credentials {
  const beside = findBeside(request);
  const usual = findCredential(request, query);
  if (beside === undefined || usual?.text === beside) return { holder: usual, own: undefined };
  if (usual && looksLikeVirtualKey(usual.text))
    throw new Refused("bad_headers", "two different Keymeter keys stand in one request; send one");
  return { holder: { text: beside, carrier: usual?.carrier ?? "authorization" }, own: usual };
}

/** What another gateway's header has is a Keymeter key or nothing to us: it may be that gateway's. */
function findBeside({ headers }: IncomingMessage): string | undefined {
  const found = BESIDE_HEADERS.flatMap((name) => {
    const value = headers[name];
    const text = typeof value === "string" ? value.replace(/^Bearer +/i, "").trim() : "";
    return text !== "" && (name === "x-keymeter-key" || looksLikeVirtualKey(text)) ? [text] : [];
  });
  const [first] = found;
  if (found.some((other) => other !== first))
    throw new Refused("bad_headers", "two different Keymeter keys stand in one request; send one");
  if (first !== undefined && !looksLikeVirtualKey(first))
    throw new Refused("unknown_key", "the header x-keymeter-key holds no Keymeter key (km_...)");
  return first;
}

/** The one credential of a request, wherever an SDK put it; undefined: there is none. The same one twice is one; two
 *  different ones are refused. */
function findCredential(request: IncomingMessage, query: URLSearchParams): Credential | undefined {
  const found: Credential[] = [];
  const add = (carrier: Carrier, text: string | undefined): void => {
    if (text !== undefined && text !== "") found.push({ carrier, text: text.trim() });
  };
  for (const name of CREDENTIAL_HEADERS) {
    const value = request.headers[name];
    const text = Array.isArray(value) ? value.join(",") : value;
    add(name, name === "authorization" && text !== undefined ? bearerOf(text) : text);
  }
  if (query.size > 0)
    for (const name of CREDENTIAL_PARAMETERS) for (const value of query.getAll(name)) add("query", value);
  for (const protocol of readProtocols(request)) add("authorization", keyIn(protocol));
  const [first] = found;
  if (first && found.some((other) => other.text !== first.text))
    throw new Refused("bad_headers", "two different API keys stand in one request; send one");
  return first;
}

function bearerOf(authorization: string): string {
  const bearer = /^Bearer\b *(.*)$/i.exec(authorization)?.[1];
  if (bearer !== undefined) return bearer;
  if (/^AWS4-/i.test(authorization))
    throw new Refused(
      "no_credential",
      "the request is signed for AWS, and a signature holds for one host: it cannot be passed on. Send a Keymeter key, or a Bedrock API key, as a bearer (AWS_BEARER_TOKEN_BEDROCK)",
    );
  throw new Refused("no_credential", "the Authorization header is not of the form: Bearer <key>");
}

/** A credential that can be one at this provider; where that asks for none, none is one too. */
export function checkCredential(found: Credential | undefined, provider: Provider | undefined): Credential {
  if (provider?.needsKey === false) {
    if (!found) return NO_CREDENTIAL;
    if (PRINTABLE.test(found.text)) return found;
    throw new Refused("unknown_key", "the API key has characters that no header should have");
  }
  if (!found)
    throw new Refused(
      "no_credential",
      "there is no API key in the request; send a Keymeter key or your provider key where your SDK puts it",
    );
  if (!CREDENTIAL.test(found.text))
    throw new Refused(
      "unknown_key",
      "the API key is shorter than any key (8 characters), or has characters that no key has; an upstream that takes any key, or none, is one with needs_key: false in keymeter.yaml",
    );
  return found;
}

const NO_CREDENTIAL: Credential = { text: "", carrier: "authorization" };

const NO_PROTOCOLS: readonly string[] = [];

/** The subprotocols that a WebSocket's client offers. */
export function readProtocols(request: IncomingMessage): readonly string[] {
  const offered = request.headers["sec-websocket-protocol"];
  if (offered === undefined) return NO_PROTOCOLS;
  return offered.split(",").flatMap((protocol) => (protocol.trim() === "" ? [] : [protocol.trim()]));
}

/** Whether a subprotocol is no protocol, but a key. */
export function isKeyProtocol(protocol: string): boolean {
  return keyIn(protocol) !== undefined;
}

function keyIn(protocol: string): string | undefined {
  for (const { keyProtocol } of Object.values(DIALECTS)) {
    const key = keyProtocol?.exec(protocol)?.[1];
    if (key !== undefined) return key;
  }
  return undefined;
}
