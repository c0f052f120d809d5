// The gate: one reading of what a client sent, before anything is decided. A target that is canonical, a route that is
// known, exactly one credential, a body that every parser reads alike. What is odd is refused, never repaired.
import { isUtf8 } from "node:buffer";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { DIALECTS } from "./dialects/index.ts";
import { isNameless, matchRoute } from "./dialects/dialect.ts";
import type { Call, Dialect, JsonObject, RouteMatch } from "./dialects/dialect.ts";
import type { CredentialHeader, Provider } from "./providers/provider.ts";
import type { Providers } from "./providers/index.ts";
import { isPacked } from "./packed.ts";
import { Refused } from "./refusals.ts";

/** Where a credential stood: it goes back to the same place. */
type Carrier = "authorization" | "x-api-key" | "api-key" | "x-goog-api-key" | "query";
export type Credential = { readonly text: string; readonly carrier: Carrier };

export type Target = {
  readonly provider: Provider;
  /** The wire format of this path. */
  readonly dialect: Dialect;
  /** The price list that this path goes by. */
  readonly priceList: string;
  readonly match: RouteMatch | undefined;
  /** What the place does to prices. */
  readonly tiers: readonly string[];
  /** The header that takes a credential of ours. */
  readonly credentialHeader: CredentialHeader;
  /** The provider's path, rebuilt from the checked one: base, version, rest. */
  readonly upstreamPath: string;
  /** The query without credentials, with its "?", or "". */
  readonly query: string;
  /** Whether the client named the provider by an explicit prefix. */
  readonly explicit: boolean;
};

const LONGEST_TARGET = 8_192;
const MOST_DEPTH = 64;
const MOST_NAMES = 100_000;
const MOST_VALUES = 500_000;
const MOST_FIELDS = 1_000;
const MOST_LIMIT = 100_000_000;

/** Headers that decide who asks and what is read: one of each at most. */
const SINGLE = new Set([
  "host",
  "authorization",
  "x-api-key",
  "api-key",
  "x-goog-api-key",
  "content-type",
  "content-length",
  "content-encoding",
]);
/** Path bytes that are themselves: no escape, no second meaning at any parser. Escapes are checked apart. */
const CANONICAL_PATH = /^(\/[A-Za-z0-9._~:@!$&'()*+,=%-]+)+$/;
const BAD_ESCAPE = /%(?![0-9A-Fa-f]{2})|%(?:23|25|2e|2f|3a|3f|5c|00|[01][0-9a-f]|7f)/i;
const QUERY = /^[A-Za-z0-9._~:@!$&'()*+,=%/?[\]-]*$/;
const CREDENTIAL = /^[\x21-\x7e]{8,4096}$/;
const PRINTABLE = /^[\x20-\x7e]{1,4096}$/;
/** Local servers and deployments have names with blanks, brackets and commas. */
const MODEL = /^[!#-~]([ !#-~]{0,198}[!#-~])?$/;
const CREDENTIAL_PARAMETERS = new Set(["key", "access_token", "api_key"]);

/** Splits a raw target into checked path and query. Refuses absolute forms, climbing, double slashes and every spelling
 *  that two parsers could read differently. */
export function readTarget(raw: string): { readonly path: string; readonly query: URLSearchParams } {
  if (checkedPaths.has(raw)) return { path: raw, query: new URLSearchParams() };
  const mark = raw.indexOf("?");
  const path = mark < 0 ? raw : raw.slice(0, mark);
  const query = mark < 0 ? "" : raw.slice(mark + 1);
  if (raw.length > LONGEST_TARGET)
    throw new Refused("bad_target", `the target is longer than ${LONGEST_TARGET} characters`);
  if (path.length > 1 && path.endsWith("/"))
    throw new Refused("bad_target", `the path ends in a slash: write ${path.slice(0, 200).replace(/\/+$/, "")}`);
  if (
    !CANONICAL_PATH.test(path) ||
    BAD_ESCAPE.test(path) ||
    path.split("/").some((segment) => segment === "." || segment === "..")
  ) {
    throw new Refused(
      "bad_target",
      "the path is not canonical: write it without //, dots that climb, escapes of / \\ . % or control bytes, and without a host",
    );
  }
  if (!QUERY.test(query)) throw new Refused("bad_target", "the query holds bytes that have to be escaped");
  if (mark < 0) {
    if (checkedPaths.size >= MOST_CHECKED_PATHS) checkedPaths.clear();
    checkedPaths.add(raw);
  }
  return { path, query: new URLSearchParams(query) };
}

/** Paths that were found canonical: clients send the same few. */
const checkedPaths = new Set<string>();
const MOST_CHECKED_PATHS = 1_000;

/** Refuses a query that would make another method of the request (Google's `$httpMethod`). */
export function checkMethod(query: URLSearchParams): void {
  for (const name of query.keys())
    if (/^\$?httpmethod$/i.test(name))
      throw new Refused("bad_target", `the query parameter "${name}" is not accepted: send the method itself`);
}

/** Refuses a header that must stand once and stands twice. */
export function checkHeaders(request: IncomingMessage): void {
  const seen = new Set<string>();
  const raw = request.rawHeaders;
  for (let i = 0; i < raw.length; i += 2) {
    const name = (raw[i] ?? "").toLowerCase();
    if (!SINGLE.has(name)) continue;
    if (seen.has(name)) throw new Refused("bad_headers", `the header ${name} stands twice; send it once`);
    seen.add(name);
  }
  const transfer = request.headers["transfer-encoding"]?.toLowerCase();
  if (transfer !== undefined && (transfer !== "chunked" || request.httpVersion !== "1.1"))
    throw new Refused(
      "bad_headers",
      `transfer-encoding "${transfer}" is not accepted; send chunked over HTTP/1.1, or a content-length`,
    );
  isPacked(request.headers["content-encoding"]);
}

/** The one credential of a request, wherever an SDK put it; undefined: there is none. The same one twice is one; two different ones are
 *  refused. */
export function findCredential(request: IncomingMessage, query: URLSearchParams): Credential | undefined {
  const found: Credential[] = [];
  const add = (carrier: Carrier, text: string | undefined): void => {
    if (text !== undefined && text !== "") found.push({ carrier, text: text.trim() });
  };
  const { authorization, "x-api-key": xApiKey, "api-key": apiKey, "x-goog-api-key": googKey } = request.headers;
  if (authorization !== undefined) {
    const bearer = /^Bearer\b *(.*)$/i.exec(authorization)?.[1];
    if (bearer === undefined)
      throw new Refused("no_credential", "the Authorization header is not of the form: Bearer <key>");
    add("authorization", bearer);
  }
  add("x-api-key", single(xApiKey));
  add("api-key", single(apiKey));
  add("x-goog-api-key", single(googKey));
  for (const name of CREDENTIAL_PARAMETERS) for (const value of query.getAll(name)) add("query", value);
  for (const protocol of readProtocols(request)) add("authorization", KEY_PROTOCOL.exec(protocol)?.[1]);
  const [first] = found;
  if (first && found.some((other) => other.text !== first.text))
    throw new Refused("bad_headers", "two different API keys stand in one request; send one");
  return first;
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

/** A browser cannot set headers on a WebSocket: there the key stands among the subprotocols. */
export const KEY_PROTOCOL = /^openai-insecure-api-key\.(.+)$/;

/** The subprotocols that a WebSocket's client offers. */
export function readProtocols(request: IncomingMessage): string[] {
  const offered = request.headers["sec-websocket-protocol"] ?? "";
  return offered.split(",").flatMap((protocol) => (protocol.trim() === "" ? [] : [protocol.trim()]));
}

/** Finds the provider and the route of a path. A host alone is a base URL too: then path and headers tell whose it is. */
export function resolveTarget(
  providers: Providers,
  request: IncomingMessage,
  path: string,
  query: URLSearchParams,
): Target | undefined {
  const [first = "", ...others] = path.slice(1).split("/");
  const prefixed = providers.byPrefix(first);
  const provider = prefixed ?? bareProvider(providers, request, path, query, first);
  if (!provider) return undefined;
  const segments = prefixed ? others : [first, ...others];
  for (const name of CREDENTIAL_PARAMETERS) query.delete(name);
  const text = query.toString();
  const place = provider.locate(segments);
  const match = place && matchRoute(place.dialect.routes, request.method ?? "", place.rest);
  return {
    provider,
    dialect: place?.dialect ?? provider.dialect,
    priceList: place?.priceList ?? provider.priceList,
    match:
      match && place.model !== undefined
        ? { ...match, parameters: { ...match.parameters, model: place.model } }
        : match,
    tiers: place?.tiers ?? [],
    credentialHeader: place?.credentialHeader ?? provider.credentialHeader,
    upstreamPath: place?.upstreamPath ?? `/${segments.join("/")}`,
    query: text === "" ? "" : `?${text}`,
    explicit: prefixed !== undefined && place !== undefined,
  };
}

/** The dialect to refuse in when the target is unknown: the likeliest by its path. */
export function guessDialect(providers: Providers, rawUrl: string): Dialect {
  const first = /^\/([a-z0-9-]+)/.exec(rawUrl)?.[1] ?? "";
  const prefixed = providers.byPrefix(first);
  if (prefixed) return prefixed.dialect;
  if (first.startsWith("v1beta") || first.startsWith("v1alpha")) return DIALECTS.google;
  return rawUrl.startsWith("/v1/messages") ? DIALECTS.anthropic : DIALECTS.openai;
}

function bareProvider(
  providers: Providers,
  request: IncomingMessage,
  path: string,
  query: URLSearchParams,
  first: string,
): Provider | undefined {
  if (/^v1(beta|alpha)\d*$/.test(first) || first === "upload") return providers.bare.google;
  if (first !== "v1") return undefined;
  if (/:[A-Za-z]+$/.test(path) || request.headers["x-goog-api-key"] !== undefined || query.has("key"))
    return providers.bare.google;
  if (request.headers["anthropic-version"] !== undefined || path.startsWith("/v1/messages"))
    return providers.bare.anthropic;
  return providers.bare.openai;
}

type ContentHeaders = Pick<IncomingHttpHeaders, "content-type">;

/** Reads a JSON body that every parser understands alike: an object, UTF-8 without a mark, no name twice in an object,
 *  bounded depth, finite numbers. The bytes that are checked are the bytes that are forwarded. */
export function readBody(headers: ContentHeaders, body: Buffer): JsonObject {
  const type = headers["content-type"] ?? "";
  // Who states no type sends JSON: providers take it so.
  if (type !== "" && !/^application\/json( *; *charset="?utf-?8"?)?$/i.test(type))
    throw new Refused(
      "unsupported_media",
      `content-type "${type.slice(0, 80)}" cannot be metered here; send application/json`,
    );
  return readJson(body);
}

/** Reads a JSON object as `readBody` does, wherever it came from. */
export function readJson(body: Buffer): JsonObject {
  if (body.length === 0) throw new Refused("bad_body", "the body is empty; send a JSON object");
  if (body[0] === 0xef && body[1] === 0xbb)
    throw new Refused("bad_body", "the body starts with a byte order mark; send plain UTF-8");
  if (!isUtf8(body)) throw new Refused("bad_body", "the body is not valid UTF-8");
  const names = countNames(body);
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString("utf8"));
  } catch (error) {
    throw new Refused(
      "bad_body",
      `the body is not valid JSON: ${error instanceof Error ? error.message.slice(0, 120) : "unreadable"}`,
    );
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new Refused("bad_body", "the body is not a JSON object");
  const counted = { names: 0 };
  checkValue(parsed, counted);
  // A name that stands twice is one in the parsed object and two in the text.
  if (counted.names !== names)
    throw new Refused("bad_body", "a name stands twice in one object of the body; which one counts would be a guess");
  return parsed as JsonObject;
}

/** The boundary among the parameters of a form's type. */
const BOUNDARY = /; *boundary=(?:"([\w'()+,./:=? -]{1,70})"|([\w'()+,./:=?-]{1,70})) *(?=;|$)/gi;

/** Reads the fields of a form, which is what routes of sound and pictures take: text as text, of a file its size, of a list (`image[]`)
 *  its items. A field that stands twice is refused, and so is a form whose parts two readers could cut differently. */
export async function readForm(headers: ContentHeaders, body: Buffer): Promise<JsonObject> {
  const type = headers["content-type"] ?? "";
  const boundaries = [...type.matchAll(BOUNDARY)];
  const [boundary] = boundaries;
  if (
    !/^multipart\/form-data *;/i.test(type) ||
    !boundary ||
    boundaries.length > 1 ||
    type.match(/boundary/gi)?.length !== 1
  )
    throw new Refused("bad_body", "the content-type of a form is multipart/form-data with one boundary");
  countParts(body, `--${boundary[1] ?? boundary[2] ?? ""}`);
  let form: FormData;
  try {
    form = await new Response(body as Uint8Array<ArrayBuffer>, { headers: { "content-type": type } }).formData();
  } catch {
    throw new Refused("bad_body", "the body is not the form that its content-type says; send multipart/form-data");
  }
  const fields: { [name: string]: unknown } = Object.create(null) as { [name: string]: unknown };
  for (const [name, value] of form) {
    const read = typeof value === "string" ? value : { bytes: value.size };
    if (name.endsWith("[]")) {
      const list = name.slice(0, -2);
      const known = fields[list];
      if (Array.isArray(known)) known.push(read);
      else if (known === undefined) fields[list] = [read];
      else throw twice(list);
      continue;
    }
    if (name in fields) throw twice(name);
    fields[name] = read;
  }
  return fields;
}

function twice(name: string): Refused {
  return new Refused("bad_body", `the field "${name.slice(0, 80)}" stands twice; which one counts would be a guess`);
}

/** Refuses a form of too many parts before it is cut into them. */
function countParts(body: Buffer, delimiter: string): void {
  let parts = 0;
  for (let at = body.indexOf(delimiter); at >= 0; at = body.indexOf(delimiter, at + delimiter.length))
    if (++parts > MOST_FIELDS + 1) throw new Refused("bad_body", `the form has more than ${MOST_FIELDS} fields`);
}

/** Whether a body is a form. */
export function isForm(headers: ContentHeaders): boolean {
  return /^multipart\/form-data *;/i.test(headers["content-type"] ?? "");
}

/** Refuses a model's name that cannot be booked or labelled. */
export function checkModel(call: Call): void {
  const { model } = call;
  if (model === "" && isNameless(call)) return;
  if (!MODEL.test(model))
    throw new Refused(
      "bad_body",
      model === "" ? 'the body names no "model"' : "the model's name has characters that no model has",
    );
}

/** Numbers that decide what a request costs must be whole numbers, written as such: what one parser rounds, trims or takes for none,
 *  another refuses. */
export function checkLimits(body: JsonObject, isForm: boolean): void {
  const { stream } = body;
  if (
    stream !== undefined &&
    stream !== null &&
    typeof stream !== "boolean" &&
    !(isForm && (stream === "true" || stream === "false"))
  )
    throw new Refused("bad_body", '"stream" must be true or false');
  for (const name of NUMBERS) {
    const given = body[name];
    // In a form every number is text; the seconds of a film are text in JSON too.
    const isText = typeof given === "string" && (isForm || name === "seconds") && /^(0|[1-9]\d{0,8})$/.test(given);
    const value = isText ? Number(given) : given;
    if (
      value !== undefined &&
      value !== null &&
      !(typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= MOST_LIMIT)
    ) {
      throw new Refused("bad_body", `"${name}" must be a whole number from 0 to ${MOST_LIMIT}`);
    }
  }
}

/** The top-level numbers of a body that multiply or limit what is answered. */
const NUMBERS = [
  "max_tokens",
  "max_completion_tokens",
  "max_output_tokens",
  "max_tokens_to_sample",
  "n",
  "best_of",
  "partial_images",
  "seconds",
];

/** Counts the names in the text: colons outside strings. Checks the depth before any recursive reader sees it. */
function countNames(body: Buffer): number {
  let names = 0;
  let values = 0;
  let depth = 0;
  for (let i = 0; i < body.length; i++) {
    switch (body[i]) {
      case 0x22: {
        // To the closing quote: the next one that is not escaped.
        for (;;) {
          i = body.indexOf(0x22, i + 1);
          if (i < 0) return names;
          let slashes = 0;
          while (body[i - 1 - slashes] === 0x5c) slashes++;
          if (slashes % 2 === 0) break;
        }
        break;
      }
      case 0x3a:
        if (++names > MOST_NAMES) throw new Refused("bad_body", `the body has more than ${MOST_NAMES} names`);
        break;
      case 0x2c:
        if (++values > MOST_VALUES) throw new Refused("bad_body", `the body has more than ${MOST_VALUES} values`);
        break;
      case 0x5b:
      case 0x7b:
        if (++depth > MOST_DEPTH) throw new Refused("bad_body", `the body is nested deeper than ${MOST_DEPTH} levels`);
        break;
      case 0x5d:
      case 0x7d:
        depth--;
        break;
      default:
        break;
    }
  }
  return names;
}

function checkValue(value: unknown, counted: { names: number }): void {
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new Refused("bad_body", "a number in the body is too large for any reader");
    return;
  }
  if (typeof value !== "object" || value === null) return;
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item !== "string") checkValue(item, counted);
    return;
  }
  for (const name of Object.keys(value)) {
    counted.names++;
    if (name === "__proto__") throw new Refused("bad_body", `the name "${name}" is not accepted in a body`);
    const member = (value as Record<string, unknown>)[name];
    if (typeof member !== "string") checkValue(member, counted);
  }
}

function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(",") : value;
}
