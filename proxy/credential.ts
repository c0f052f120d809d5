// The one credential of a request: wherever an SDK puts it, and what can be one.
import type { IncomingMessage } from "node:http";
import { DIALECTS } from "./dialects/index.ts";
import { CREDENTIAL_HEADERS } from "./providers/provider.ts";
import type { CredentialHeader, Provider } from "./providers/provider.ts";
import { Refused } from "./refusals.ts";

/** Where a credential stood: it goes back to the same place. */
type Carrier = CredentialHeader | "query";
export type Credential = { readonly text: string; readonly carrier: Carrier };

/** Where a credential stands in a query. */
export const CREDENTIAL_PARAMETERS: ReadonlySet<string> = new Set(["key", "access_token", "api_key"]);
const CREDENTIAL = /^[\x21-\x7e]{8,4096}$/;
const PRINTABLE = /^[\x20-\x7e]{1,4096}$/;

/** The one credential of a request, wherever an SDK put it; undefined: there is none. The same one twice is one; two
 *  different ones are refused. */
export function findCredential(request: IncomingMessage, query: URLSearchParams): Credential | undefined {
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
