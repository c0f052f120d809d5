// Google's Gemini API, in its own format and in OpenAI's. The aliases are what users of other gateways have in their
// settings.
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
    takesBare({ path, first, query, headers }) {
      if (/^v1(beta|alpha)\d*$/.test(first) || first === "upload") return true;
      const isOdd = /:[A-Za-z]+$/.test(path) || headers["x-goog-api-key"] !== undefined || query.has("key");
      return first === "v1" && isOdd;
    },
    locate(segments): Place | undefined {
      // The version of a WebSocket stands in its service's name.
      if (segments[0] === "ws") {
        const rest = `/${segments.join("/")}`;
        return { dialect: DIALECTS.google, rest, upstreamPath: base + rest };
      }
      // Files go up and down under paths of their own, before the version.
      const [way] = segments;
      if (way === "download" || way === "upload") {
        const place = frame.locate(segments.slice(1));
        const rest = way === "upload" ? `/upload${place?.rest}` : place?.rest;
        return (
          place && {
            ...place,
            rest: rest ?? "",
            upstreamPath: `${base}/${way}${place.upstreamPath.slice(base.length)}`,
          }
        );
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
