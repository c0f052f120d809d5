// All providers, from settings.
import type { ProxyConfig } from "../config.ts";
import { anthropic } from "./anthropic.ts";
import { azure } from "./azure.ts";
import { compatible } from "./compatible.ts";
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

/** Kinds of upstreams that settings can name. */
const KINDS = { openai: compatible, azure, vertex };

export function createProviders({ own, upstreams }: Pick<ProxyConfig, "own" | "upstreams">): Providers {
  // The first that says so has a path without prefix: OpenAI's are the plainest, so it is asked last.
  const bare = [google(own["gcp.gemini"]), anthropic(own.anthropic), openai(own.openai)];
  const all = [
    ...bare.toReversed(),
    vertex("gcp.vertex_ai", "google", own["gcp.vertex_ai"], "vertex"),
    ...upstreams.map(({ kind, name, priceList, settings }) => KINDS[kind](name, priceList, settings)),
  ];
  const byPrefix = new Map(all.flatMap((provider) => provider.prefixes.map((prefix) => [prefix, provider] as const)));
  return {
    all,
    byPrefix: (prefix) => byPrefix.get(prefix),
    byBarePath: (asked) => bare.find((provider) => provider.takesBare?.(asked)),
  };
}
