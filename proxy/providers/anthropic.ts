// Anthropic.
import { DIALECTS } from "../dialects/index.ts";
import { versioned } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

export function anthropic(settings: ProviderSettings): Provider {
  return {
    name: "anthropic",
    prefixes: ["anthropic"],
    priceList: "anthropic",
    ...versioned(DIALECTS.anthropic, settings),
  };
}
