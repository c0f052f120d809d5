// OpenAI.
import { DIALECTS } from "../dialects/index.ts";
import { versioned } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

/** Hosts that keep data where it is; newer models cost more there. */
const REGIONAL_HOST = /^(us|eu|ae|au|in|jp)\.api\.openai\.com$/;

export function openai(settings: ProviderSettings): Provider {
  const frame = versioned(DIALECTS.openai, settings);
  const tiers = REGIONAL_HOST.test(settings.url.hostname) ? ["region"] : [];
  return {
    name: "openai",
    prefixes: ["openai"],
    priceList: "openai",
    ...frame,
    takesBare: ({ first }) => first === "v1",
    locate(segments) {
      const place = frame.locate(segments);
      return place && { ...place, tiers };
    },
  };
}
