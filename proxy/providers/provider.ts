// A provider is who bills: where it is, what of ours opens it, whose price list it goes by, and which dialect its routes
// speak. To add one: a file here and a line in index.ts.
import type { Secret } from "../../service/secret.ts";
import type { Dialect } from "../dialects/dialect.ts";

export type Provider = {
  /** As it is booked and labelled: OpenTelemetry's value. */
  readonly name: string;
  /** First path segments that lead here. */
  readonly prefixes: readonly string[];
  readonly dialect: Dialect;
  /** Scheme, host and port: from settings only, never from a request. */
  readonly origin: string;
  /** What stands before the version in the provider's paths; "" or "/api". */
  readonly basePath: string;
  /** The id of its price list in the price book. */
  readonly priceList: string;
  /** What virtual keys are swapped for; undefined when none is configured. */
  readonly credential: Secret | undefined;
};

/** What settings say of a provider. */
export type ProviderSettings = { readonly url: URL; readonly credential: Secret | undefined };

export function originAndPath(url: URL): Pick<Provider, "origin" | "basePath"> {
  return { origin: url.origin, basePath: url.pathname.replace(/\/+$/, "") };
}
