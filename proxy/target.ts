// Where a request goes: a canonical path and query, the provider and the route that they lead to, and the wire format
// to answer in.
import type { IncomingMessage } from "node:http";
import { CREDENTIAL_PARAMETERS } from "./credential.ts";
import type { Dialect } from "./dialects/dialect.ts";
import { likelyDialect } from "./dialects/index.ts";
import { matchRoute } from "./dialects/routes.ts";
import type { RouteMatch } from "./dialects/routes.ts";
import type { Providers } from "./providers/index.ts";
import type { CredentialHeader, Provider } from "./providers/provider.ts";
import { Refused } from "./refusals.ts";

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
/** Path bytes that are themselves: no escape, no second meaning at any parser. Escapes are checked apart. */
const CANONICAL_PATH = /^(\/[A-Za-z0-9._~:@!$&'()*+,=%-]+)+$/;
const BAD_ESCAPE = /%(?![0-9A-Fa-f]{2})|%(?:23|25|2e|2f|3a|3f|5c|00|[01][0-9a-f]|7f)/i;
const QUERY = /^[A-Za-z0-9._~:@!$&'()*+,=%/?[\]-]*$/;

/** Splits a raw target into checked path and query. Refuses absolute forms, climbing, double slashes and every spelling
 *  that two parsers could read differently. */
export function readTarget(raw: string): { readonly path: string; readonly query: URLSearchParams } {
  if (checkedPaths.has(raw)) return { path: raw, query: NO_QUERY };
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

/** One for all requests without any: nothing is ever put into a query. */
const NO_QUERY = new URLSearchParams();
/** Paths that were found canonical: clients send the same few. */
const checkedPaths = new Set<string>();
const MOST_CHECKED_PATHS = 1_000;

/** Refuses a query that would make another method of the request (Google's `$httpMethod`). */
export function checkMethod(query: URLSearchParams): void {
  if (query.size === 0) return;
  for (const name of query.keys())
    if (/^\$?httpmethod$/i.test(name))
      throw new Refused("bad_target", `the query parameter "${name}" is not accepted: send the method itself`);
}

/** Where paths led that name their provider and nothing else: clients send the same few. */
const resolved = new WeakMap<
  Providers,
  Map<string, { readonly method: string | undefined; readonly target: Target }>
>();

/** Finds the provider and the route of a path. A host alone is a base URL too: then path and headers tell whose it
 *  is. */
export function resolveTarget(
  providers: Providers,
  request: IncomingMessage,
  path: string,
  query: URLSearchParams,
): Target | undefined {
  if (query.size > 0) return findTarget(providers, request, path, query);
  const { method } = request;
  let known = resolved.get(providers);
  if (!known) resolved.set(providers, (known = new Map()));
  const before = known.get(path);
  if (before && before.method === method) return before.target;
  const target = findTarget(providers, request, path, query);
  if (target?.explicit) {
    if (known.size >= MOST_CHECKED_PATHS) known.clear();
    known.set(path, { method, target });
  }
  return target;
}

function findTarget(
  providers: Providers,
  request: IncomingMessage,
  path: string,
  query: URLSearchParams,
): Target | undefined {
  const [first = "", ...others] = path.slice(1).split("/");
  const prefixed = providers.byPrefix(first);
  const provider = prefixed ?? providers.byBarePath({ path, first, query, headers: request.headers });
  if (!provider) return undefined;
  const segments = prefixed ? others : [first, ...others];
  const place = provider.locate(segments);
  if (query.size > 0) for (const name of [...CREDENTIAL_PARAMETERS, ...(place?.foreignQuery ?? [])]) query.delete(name);
  const text = query.size > 0 ? query.toString() : "";
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
  return prefixed?.dialect ?? likelyDialect(rawUrl);
}
