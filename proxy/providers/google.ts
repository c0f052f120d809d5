// Google's Gemini API. The aliases are what users of other gateways have in their settings.
import { DIALECTS } from "../dialects/index.ts";
import { basePath, versioned } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

export function google(settings: ProviderSettings): Provider {
  const frame = versioned(DIALECTS.google, settings);
  const base = basePath(settings.url);
  return {
    name: "gcp.gemini",
    prefixes: ["google", "gemini", "genai"],
    priceList: "google",
    ...frame,
    // The version of a WebSocket stands in its service's name.
    locate: (segments) =>
      segments[0] === "ws"
        ? { dialect: DIALECTS.google, rest: `/${segments.join("/")}`, upstreamPath: `${base}/${segments.join("/")}` }
        : frame.locate(segments),
  };
}
