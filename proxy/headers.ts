// Headers out and in: which of the client's go upstream and under whose credential, which of the provider's come back.
import type { IncomingMessage } from "node:http";
import type { Credential } from "./credential.ts";
import type { Mask } from "./mask.ts";
import type { CredentialHeader, CredentialSource } from "./providers/provider.ts";
import { isTagHeader } from "./tags.ts";

const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "trailers",
  "transfer-encoding",
  "upgrade",
]);
/** Of the client, and not for the provider. Everything else end to end is forwarded: providers' new headers work on day
 *  0. */
const NOT_FORWARDED = new Set([
  ...HOP_BY_HOP,
  "host",
  "content-length",
  "expect",
  "cookie",
  "forwarded",
  "via",
  "authorization",
  "x-api-key",
  "api-key",
  "x-goog-api-key",
  "accept-encoding",
  "x-real-ip",
  // These make an answer leave out its usage, or turn it into another request.
  "x-goog-fieldmask",
  // These choose a tier or another deployment, unseen by the meter.
  "x-vertex-ai-llm-shared-request-type",
  "x-vertex-ai-llm-request-type",
  "x-ms-spillover-deployment",
  "x-http-method-override",
]);
/** These choose who pays at the provider: with a credential of ours they are not the client's to set. */
const BILLING_HEADERS = new Set(["openai-organization", "openai-project", "x-goog-user-project"]);
const NOT_RETURNED = new Set([...HOP_BY_HOP, "content-length", "set-cookie", "alt-svc", "x-keymeter-request-id"]);
const REQUEST_ID_HEADERS = new Set(["x-request-id", "request-id", "apim-request-id"]);

/** These make an answer a part of itself, or none. */
const PARTIAL_HEADERS = new Set(["range", "if-range", "if-none-match", "if-modified-since"]);

/** The upstream headers of a request, built anew. `header` takes a credential of ours; `ours`: the credential is not
 *  the client's. `whole`: the answer has to come whole, for it is read. `isUnpacked`: the body goes on plain, however
 *  it came. `naming`: the header that says who is behind it. */
export function outgoingHeaders(
  request: IncomingMessage,
  header: CredentialHeader,
  credential: Credential,
  /** Undefined: the credential is the client's. */
  ours: { readonly source: CredentialSource | undefined } | undefined,
  {
    whole = true,
    isUnpacked = false,
    naming,
  }: { readonly whole?: boolean; readonly isUnpacked?: boolean; readonly naming?: string | undefined } = {},
): string[] {
  const headers: string[] = [];
  const named = request.headers.connection
    ?.toLowerCase()
    .split(",")
    .map((name) => name.trim());
  const raw = request.rawHeaders;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = (raw[i] as string).toLowerCase();
    if (NOT_FORWARDED.has(name) || isTagHeader(name) || name.startsWith("x-forwarded-") || name.startsWith("proxy-"))
      continue;
    if (ours && BILLING_HEADERS.has(name)) continue;
    if (whole && PARTIAL_HEADERS.has(name)) continue;
    if (name === naming) continue;
    if (isUnpacked && name === "content-encoding") continue;
    if (named?.includes(name)) continue;
    headers.push(name, raw[i + 1] as string);
  }
  // Plain bytes are what the meter reads and what the client gets.
  headers.push("accept-encoding", "identity");
  const sentAs = ours?.source?.sentAs;
  if (sentAs) addBeta(headers, sentAs.beta);
  const { text } = credential;
  // An upstream that asks for no key gets none.
  if (text === "") return headers;
  switch (ours ? (sentAs?.header ?? header) : credential.carrier) {
    case "authorization":
      headers.push("authorization", `Bearer ${text}`);
      break;
    case "x-api-key":
      headers.push("x-api-key", text);
      break;
    case "api-key":
      headers.push("api-key", text);
      break;
    // A key in the query would stand in logs on the way; the header is its equal.
    case "query":
    case "x-goog-api-key":
      headers.push(
        header === "x-goog-api-key" ? "x-goog-api-key" : "authorization",
        header === "x-goog-api-key" ? text : `Bearer ${text}`,
      );
      break;
  }
  return headers;
}

/** To those that the client asks for. */
function addBeta(headers: string[], beta: string): void {
  const at = headers.findIndex((name, i) => i % 2 === 0 && name === "anthropic-beta");
  if (at < 0) headers.push("anthropic-beta", beta);
  else headers[at + 1] = `${headers[at + 1]},${beta}`;
}

/** The head of a provider's answer. */
export type Head = {
  readonly status: number;
  readonly contentType: string;
  readonly contentEncoding: string;
  /** The provider's own id of the request. */
  readonly requestId: string | undefined;
  /** Names and values that are the client's to see. */
  readonly headers: readonly string[];
};

/** Reads it once. `mask` hides a credential of ours; `placeUrl` puts places at the provider here. */
export function readHead(
  status: number,
  raw: readonly (Buffer | string)[],
  mask: Mask | undefined,
  placeUrl: ((value: string) => string) | undefined,
): Head {
  const headers: string[] = [];
  let contentType = "";
  let contentEncoding = "";
  let requestId: string | undefined;
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = String(raw[i]).toLowerCase();
    const value = Buffer.isBuffer(raw[i + 1]) ? (raw[i + 1] as Buffer).toString("latin1") : String(raw[i + 1]);
    if (name === "content-type") contentType = value;
    if (name === "content-encoding") contentEncoding = value.toLowerCase();
    if (REQUEST_ID_HEADERS.has(name)) requestId ??= mask?.text(value) ?? value;
    const placed = placeUrl?.(value) ?? value;
    if (isReturned(name)) headers.push(name, mask?.text(placed) ?? placed);
  }
  return { status, contentType, contentEncoding, requestId, headers };
}

function isReturned(name: string): boolean {
  return !NOT_RETURNED.has(name) && !name.startsWith("access-control-");
}

/** Where a key has limits of its own, those of the provider's account are not for it to see. */
const RATE_HEADER = "x-ratelimit-";

/** The provider's headers for a client that gets `own` ones too. */
export function clientHeaders(headers: readonly string[], own: readonly string[]): readonly string[] {
  if (!own.some((name) => name.startsWith(RATE_HEADER))) return headers;
  return headers.filter((_text, i) => !(headers[i - (i % 2)] as string).startsWith(RATE_HEADER));
}

export function withoutVary(headers: readonly string[]): readonly string[] {
  return headers.filter((_text, i) => headers[i - (i % 2)] !== "vary");
}
