// The upstreams that keymeter.yaml names: their form there, and the table of providers with them in it.
import { z } from "zod";
import { BUILT_IN, COMPATIBLE, createProviders, UPSTREAM_KINDS } from "../ledger/providers.ts";
import type { Providers, Upstream } from "../ledger/providers.ts";
import type { Reading } from "./settings.ts";

/** First segments of paths that lead to something else. */
const OWN_PATHS: readonly string[] = ["keymeter"];

const name = z.string().regex(/^[a-z0-9][a-z0-9-]{0,30}$/, "a name of lower-case letters, digits and dashes");
const oneOrMore = z
  .union([z.string().min(1), z.array(z.string().min(1)).min(1)])
  .transform((given): readonly string[] => (typeof given === "string" ? [given] : given));
const credentialRow = z
  .strictObject({
    api_key_env: z.string().optional(),
    /** The key, or better: where it is. */
    api_key: z.string().min(1).optional(),
    /** Whose Keymeter keys are swapped for it. */
    team: oneOrMore.optional(),
    project: oneOrMore.optional(),
    env: oneOrMore.optional(),
  })
  .refine(({ team, project, env }) => team ?? project ?? env, "say for whom it is: team, project, env, or several");

/** More credentials of one provider, by name. */
export const credentialRows = z.record(name, credentialRow);
export type CredentialRows = z.output<typeof credentialRows>;

const row = z
  .strictObject({
    kind: z.enum(UPSTREAM_KINDS).default(COMPATIBLE),
    url: z.url({ protocol: /^https?$/, error: "an http or https URL, such as https://api.example.com" }),
    version: z.enum(["none"]).optional(),
    api_key_env: z.string().optional(),
    /** The key, or better: where it is. */
    api_key: z.string().min(1).optional(),
    credentials: credentialRows.default({}),
    price_list: z.string().optional(),
    ask_usage: z.boolean().default(true),
    needs_key: z.boolean().optional(),
    /** Whoever signs in there pays by the month. */
    subscription: z.boolean().optional(),
    deployments: z.record(z.string().min(1), z.string().min(1)).default({}),
  })
  .refine(({ url, version }) => version === "none" || !/\/v\d+\w*\/?$/.test(url), {
    path: ["url"],
    message: "a URL without the version at its end, for it is added; or say version: none",
  });

/** By name. */
export const upstreamRows = z.record(name, row);
export type UpstreamRows = z.output<typeof upstreamRows>;

/** A row as the provider that it is. */
export function upstreamOf(name: string, row: UpstreamRows[string]): Upstream {
  return { name, kind: row.kind, priceList: row.price_list, keyVariable: row.api_key_env };
}

/** All providers of an installation. */
export function providersOf({ upstreams }: { readonly upstreams: UpstreamRows }, { problems }: Reading): Providers {
  const taken = new Set([...BUILT_IN.names, ...OWN_PATHS]);
  for (const upstream of Object.keys(upstreams))
    if (taken.has(upstream)) problems.push(`proxy.upstreams.${upstream}: this name is taken; choose another`);
  return createProviders(Object.entries(upstreams).map(([upstream, row]) => upstreamOf(upstream, row)));
}
