// OpenAI.
import { DIALECTS } from "../dialects/index.ts";
import { versioned } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

export function openai(settings: ProviderSettings): Provider {
  return { name: "openai", prefixes: ["openai"], priceList: "openai", ...versioned(DIALECTS.openai, settings) };
}
