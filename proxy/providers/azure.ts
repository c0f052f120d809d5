// Azure OpenAI: OpenAI's wire format, under deployments whose names are the user's own. The deployment in the path
// decides which model answers, whatever the body says; the answer names the model. Source: learn.microsoft.com, Azure
// OpenAI REST reference.
import { DIALECTS } from "../dialects/index.ts";
import { basePath, common } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

/** Takes what the SDKs send: `/openai/deployments/{name}/...`, `/openai/responses` and others with `api-version`, and
 *  the newer `/openai/v1/...`. */
export function azure(name: string, priceList: string, settings: ProviderSettings): Provider {
  const base = basePath(settings.url);
  const dialect = DIALECTS.openai;
  return {
    name,
    prefixes: [name],
    priceList,
    dialect,
    ...common(settings),
    credentialHeader: "api-key",
    locate(segments) {
      const [first, kind, deployment, ...rest] = segments;
      const upstreamPath = `${base}/${segments.join("/")}`;
      // Models of others that Azure serves.
      if (first === "models") return { dialect, upstreamPath, rest: `/${segments.slice(1).join("/")}` };
      if (first !== "openai") return undefined;
      if (kind === "deployments" && deployment !== undefined)
        return { dialect, upstreamPath, rest: `/${rest.join("/")}`, model: deployment };
      // With the version in the query, everything that names no deployment stands right behind "openai".
      return { dialect, upstreamPath, rest: `/${segments.slice(kind === "v1" ? 2 : 1).join("/")}` };
    },
  };
}
