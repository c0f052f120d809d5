// Vertex AI: Gemini and Claude under a project and a location, each in its own wire format; the path names the model. The client's
// own token is passed on. Source: cloud.google.com, Vertex AI REST reference.
import { DIALECTS } from "../dialects/index.ts";
import { basePath, common } from "./provider.ts";
import type { Place, Provider, ProviderSettings } from "./provider.ts";

const VERSION = /^v1(beta1)?$/;
const RAW = /^(.+):(?:rawPredict|streamRawPredict)$/;

/** Takes `/{version}/projects/{p}/locations/{l}/publishers/{google|anthropic}/models/{model}:{verb}`. */
export function vertex(name: string, priceList: string, settings: ProviderSettings): Provider {
  const base = basePath(settings.url);
  return {
    name,
    prefixes: [name],
    priceList,
    dialect: DIALECTS.google,
    ...common(settings),
    credentialHeader: "authorization",
    locate(segments): Place | undefined {
      if (segments[0] === "ws") {
        const rest = `/${segments.join("/")}`;
        return { dialect: DIALECTS.google, upstreamPath: base + rest, rest };
      }
      const [version = "", projects, , locations, , publishers, publisher, models, target = "", ...more] = segments;
      const isKnown =
        VERSION.test(version) &&
        projects === "projects" &&
        locations === "locations" &&
        publishers === "publishers" &&
        models === "models" &&
        more.length === 0;
      if (!isKnown) return undefined;
      const upstreamPath = `${base}/${segments.join("/")}`;
      if (publisher === "google") return { dialect: DIALECTS.google, upstreamPath, rest: `/models/${target}` };
      const model = RAW.exec(target)?.[1];
      if (publisher !== "anthropic" || model === undefined) return undefined;
      // Counting tokens is a model of its own here.
      return model === "count-tokens"
        ? { dialect: DIALECTS.anthropic, upstreamPath, rest: "/messages/count_tokens" }
        : { dialect: DIALECTS.anthropic, upstreamPath, rest: "/messages", model, priceList: "anthropic" };
    },
  };
}
