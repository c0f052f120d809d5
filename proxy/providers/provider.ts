// A provider is who bills: where it is, what of ours opens it, whose price list it goes by, and which dialect its
// routes speak. To add one: a file here and a row in index.ts.
import type { IncomingHttpHeaders } from "node:http";
import type { HeldSecret } from "../../service/secrets/index.ts";
import type { Dialect } from "../dialects/dialect.ts";

export type Provider = {
  /** As it is booked and labelled: OpenTelemetry's value. */
  readonly name: string;
  /** First path segments that lead here. */
  readonly prefixes: readonly string[];
  /** The wire format of its paths, or of most of them. */
  readonly dialect: Dialect;
  /** Finds where a client's path leads, by its segments behind the prefix; undefined: to nothing that is known here. */
  locate(segments: readonly string[]): Place | undefined;
  /** Whether a path that names no provider leads here; absent: none does. */
  takesBare?(asked: Bare): boolean;
  /** The header that carries a credential of ours. */
  readonly credentialHeader: CredentialHeader;
  /** False where the upstream asks for no key: then any key is taken, and none. */
  readonly needsKey: boolean;
  /** Whether streams are asked for their usage: some vendors refuse the field. */
  readonly asksUsage: boolean;
  /** The model that a name of the client's stands for (a deployment), as far as settings say. */
  modelOf(name: string): string;
  /** By which of both names what answered is priced, where the name that it gives itself says less. */
  pricedAs?(requested: string, served: string): string;
  /** Scheme, host and port: from settings only, never from a request. */
  readonly origin: string;
  /** The id of its price list in the price book. */
  readonly priceList: string;
  /** Whether whoever signs in there pays by the month, whatever is used. */
  readonly isSeat?: boolean;
  /** What virtual keys are swapped for, where nothing of `scoped` is for them; undefined: for nothing. */
  readonly credential: CredentialSource | undefined;
  /** Credentials for some virtual keys only, in the order of the settings. */
  readonly scoped: readonly ScopedCredential[];
};

/** A request whose path names no provider: all that tells whose it is. */
export type Bare = {
  readonly path: string;
  /** Its first segment. */
  readonly first: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
};

/** A secret, or what makes one: tokens that last an hour. */
export type CredentialSource = {
  reveal(): string | Promise<string>;
  /** The provider refused it: there may be another one by now. */
  refreshSoon?(): unknown;
  /** Of tokens of minutes: what stays the same in all of them, and what people know it by; without a token, of what holds now.
   *  Undefined: it cannot be told. */
  identityOf?(token?: string): { readonly text: string; readonly hint: string } | undefined;
  /** What tokens are made with, where that is kept somewhere. */
  readonly secret?: HeldSecret;
  /** Nobody keeps it: Keymeter signs who it is. */
  readonly isKeyless?: true;
  /** How it goes out, where that is not as a key of the provider does. */
  readonly sentAs?: { readonly header: CredentialHeader; readonly beta: string };
};

/** A credential of ours for the virtual keys of some teams, projects or environments. */
export type ScopedCredential = {
  /** As the settings name it; no two of a provider's have the same. */
  readonly name: string;
  readonly source: CredentialSource;
  /** For whose keys: all parts that are named have to fit. */
  readonly scope: { readonly [part in ScopePart]?: readonly string[] | undefined };
};
export type ScopePart = "team" | "project" | "env";

/** Where a path leads. */
export type Place = {
  readonly dialect: Dialect;
  /** The provider's own path, built from the checked one. */
  readonly upstreamPath: string;
  /** The path as the dialect's routes have it: without base, version and model. */
  readonly rest: string;
  /** The model, or what stands for one, where the path names it and the routes do not. */
  readonly model?: string | undefined;
  /** The price list of this path, where it is not the provider's. */
  readonly priceList?: string | undefined;
  /** What the place does to prices (a region that is dearer). */
  readonly tiers?: readonly string[] | undefined;
  /** What a client's query has for another provider, whose paths these look like. */
  readonly foreignQuery?: readonly string[] | undefined;
  /** The header that takes a credential of ours here, where it is not the provider's usual one. */
  readonly credentialHeader?: CredentialHeader | undefined;
};

/** Headers that carry a credential, to some provider or other. */
export const CREDENTIAL_HEADERS = ["authorization", "x-api-key", "api-key", "x-goog-api-key"] as const;
export type CredentialHeader = (typeof CREDENTIAL_HEADERS)[number];

/** What settings say of a provider. */
export type ProviderSettings = {
  readonly url: URL;
  /** `none`: the vendor has no version segment, or it stands in the URL. */
  readonly version?: "none" | undefined;
  readonly credential: CredentialSource | undefined;
  readonly scoped?: readonly ScopedCredential[] | undefined;
  readonly asksUsage?: boolean | undefined;
  readonly needsKey?: boolean | undefined;
  readonly isSeat?: boolean | undefined;
  /** Deployments by name, and the model of each. */
  readonly deployments?: { readonly [name: string]: string } | undefined;
};

type Frame = Pick<
  Provider,
  "origin" | "locate" | "credentialHeader" | "asksUsage" | "needsKey" | "isSeat" | "modelOf" | "credential" | "scoped"
>;

/** A provider with a version in its paths, which clients may leave out or write twice; the last one named counts. */
export function versioned(dialect: Dialect, settings: ProviderSettings): Frame & { readonly dialect: Dialect } {
  const base = basePath(settings.url);
  return {
    dialect,
    ...common(settings),
    credentialHeader: dialect.credentialHeader,
    locate(segments) {
      let at = 0;
      while (dialect.version.pattern.test(segments[at] ?? "")) at += 1;
      const version = segments[at - 1] ?? dialect.version.default;
      const rest = `/${segments.slice(at).join("/")}`;
      const start = settings.version === "none" ? base : `${base}/${version}`;
      return { dialect, rest, upstreamPath: `${start}${rest === "/" ? "" : rest}` };
    },
  };
}

export function common({
  url,
  credential,
  scoped = [],
  asksUsage = true,
  needsKey = true,
  isSeat = false,
  deployments = {},
}: ProviderSettings): Omit<Frame, "locate" | "credentialHeader"> {
  const modelOf = (name: string): string => deployments[name] ?? name;
  return { origin: url.origin, credential, scoped, asksUsage, needsKey, isSeat, modelOf };
}

/** What stands before everything else in the provider's paths: "" or "/api". */
export function basePath(url: URL): string {
  return url.pathname.replace(/\/+$/, "");
}
