// Google's Gemini API, in its own format and in OpenAI's. The aliases are what users of other gateways have in their settings.
import { DIALECTS } from "../dialects/index.ts";
import { basePath, versioned } from "./provider.ts";
import type { Place, Provider, ProviderSettings } from "./provider.ts";

export function google(settings: ProviderSettings): Provider {
  const frame = versioned(DIALECTS.google, settings);
  const base = basePath(settings.url);
  return {
    name: "gcp.gemini",
    prefixes: ["google", "gemini", "genai"],
    priceList: "google",
    ...frame,
    locate(segments): Place | undefined {
      // The version of a WebSocket stands in its service's name.
      if (segments[0] === "ws") {
        const rest = `/${segments.join("/")}`;
        return { dialect: DIALECTS.google, rest, upstreamPath: base + rest };
      }
      // Files are downloaded under a path of their own.
      if (segments[0] === "download") {
        const place = frame.locate(segments.slice(1));
        return place && { ...place, upstreamPath: `${base}/download${place.upstreamPath.slice(base.length)}` };
      }
      const place = frame.locate(segments);
      return place?.rest.startsWith("/openai/")
        ? {
            ...place,
            dialect: DIALECTS.openai,
            rest: place.rest.slice("/openai".length),
            credentialHeader: "authorization",
          }
        : place;
    },
  };
}
