// All providers, from settings.
import type { ProxyConfig } from "../config.ts";
import { anthropic } from "./anthropic.ts";
import { azure } from "./azure.ts";
import { bedrock } from "./bedrock.ts";
import { compatible, compatibleToAnthropic } from "./compatible.ts";
import { google } from "./google.ts";
import { openai } from "./openai.ts";
import type { Bare, Provider } from "./provider.ts";
import { vertex } from "./vertex.ts";

export type Providers = {
  readonly all: readonly Provider[];
  /** By the first segment of a path. */
  byPrefix(prefix: string): Provider | undefined;
  /** Whose a path without prefix is. */
  byBarePath(asked: Bare): Provider | undefined;
};

/** A provider from its settings. */
type ProviderRow = (own: ProxyConfig["own"]) => Provider;

/** Those that need no setting, the plainest first: of a path without prefix the last is asked first whether it is
 *  its. */
export const OWN_PROVIDERS: readonly ProviderRow[] = [
  (own) => openai(own.openai),
  (own) => anthropic(own.anthropic),
  (own) => google(own["gcp.gemini"]),
  (own) => vertex("gcp.vertex_ai", "google", own["gcp.vertex_ai"], "vertex"),
];

/** Kinds of upstreams that settings can name. */
const KINDS = { openai: compatible, anthropic: compatibleToAnthropic, azure, vertex, bedrock };

export function createProviders(
  config: Pick<ProxyConfig, "own" | "upstreams">,
  rows: readonly ProviderRow[] = OWN_PROVIDERS,
): Providers {
  const all = [
    ...rows.map((row) => row(config.own)),
    ...config.upstreams.map(({ kind, name, priceList, settings }) => KINDS[kind](name, priceList, settings)),
  ];
  const byPrefix = new Map(all.flatMap((provider) => provider.prefixes.map((prefix) => [prefix, provider] as const)));
  return {
    all,
    byPrefix: (prefix) => byPrefix.get(prefix),
    byBarePath: (asked) => all.findLast((provider) => provider.takesBare?.(asked)),
  };
}
