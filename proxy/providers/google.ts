// Google's Gemini API. The aliases are what users of other gateways have in their settings.
import { DIALECTS } from "../dialects/index.ts";
import { versioned } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

export function google(settings: ProviderSettings): Provider {
  return {
    name: "gcp.gemini",
    prefixes: ["google", "gemini", "genai"],
    priceList: "google",
    ...versioned(DIALECTS.google, settings),
  };
}
