// Google's Gemini API. The aliases are what users of other gateways have in their settings.
import { DIALECTS } from "../dialects/index.ts";
import { originAndPath } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

export function google({ url, credential }: ProviderSettings): Provider {
  return {
    name: "gcp.gemini",
    prefixes: ["google", "gemini", "genai"],
    dialect: DIALECTS.google,
    ...originAndPath(url),
    priceList: "google",
    credential,
  };
}
