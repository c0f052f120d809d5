// Vertex AI: Gemini, Claude and open models under a project and a location, each in its own wire format; the path names
// the model. A client's own token is passed on; what Keymeter keys are swapped for is a service account's. Source:
// cloud.google.com, Vertex AI REST reference.
import { DIALECTS } from "../dialects/index.ts";
import { basePath, common } from "./provider.ts";
import type { Place, Provider, ProviderSettings } from "./provider.ts";

const VERSION = /^v1(beta1)?$/;
const RAW = /^(.+):(?:rawPredict|streamRawPredict)$/;
/** Hosts of one region, or of a few. */
const REGIONAL_HOST = /^[a-z0-9-]+-aiplatform\.|\.rep\./;

/** Models whose price here is another one than on the Gemini API. */
const DEARER = /\/models\/gemini-2\.0-flash/;

/** Takes `/{version}/projects/{p}/locations/{l}/publishers/{google|anthropic}/models/{model}:{verb}`, the same without
 *  project (express mode), `.../endpoints/openapi/{OpenAI's path}` and `/ws/{service}`. */
export function vertex(name: string, priceList: string, settings: ProviderSettings, prefix = name): Provider {
  const base = basePath(settings.url);
  return {
    name,
    prefixes: [prefix],
    priceList,
    dialect: DIALECTS.google,
    ...common(settings),
    credentialHeader: "authorization",
    locate(segments) {
      const place = placeOf(`${base}/${segments.join("/")}`, segments);
      // The list's prices are the global endpoint's; every region has a premium on newer models.
      const tiers = [
        ...(isRegional(segments, settings.url) ? ["region"] : []),
        ...(DEARER.test(segments.join("/")) ? ["vertex"] : []),
      ];
      return place && tiers.length > 0 ? { ...place, tiers } : place;
    },
  };
}

function placeOf(upstreamPath: string, segments: readonly string[]): Place | undefined {
  const [version = "", ...behind] = segments;
  if (version === "ws") return { dialect: DIALECTS.google, upstreamPath, rest: `/${segments.join("/")}` };
  if (!VERSION.test(version)) return undefined;
  const isExpress = behind[0] !== "projects";
  if (!isExpress && behind[2] !== "locations") return undefined;
  const [kind, publisher, models, target = "", ...more] = isExpress ? behind : behind.slice(4);
  if (kind === "cachedContents")
    return { dialect: DIALECTS.google, upstreamPath, rest: `/${(isExpress ? behind : behind.slice(4)).join("/")}` };
  if (kind === "endpoints" && publisher === "openapi")
    return { dialect: DIALECTS.openai, upstreamPath, rest: `/${[models ?? "", target, ...more].join("/")}` };
  if (kind !== "publishers" || models !== "models" || more.length > 0) return undefined;
  if (publisher === "google") return { dialect: DIALECTS.google, upstreamPath, rest: `/models/${target}` };
  const model = RAW.exec(target)?.[1];
  if (publisher !== "anthropic" || model === undefined) return undefined;
  // Counting tokens is a model of its own here.
  return model === "count-tokens"
    ? { dialect: DIALECTS.anthropic, upstreamPath, rest: "/messages/count_tokens" }
    : { dialect: DIALECTS.anthropic, upstreamPath, rest: "/messages", model, priceList: "anthropic" };
}

function isRegional(segments: readonly string[], { hostname }: URL): boolean {
  const at = segments.indexOf("locations");
  return at >= 0 ? segments[at + 1] !== "global" : REGIONAL_HOST.test(hostname);
}
