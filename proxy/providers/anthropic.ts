// Anthropic, in its own format and in OpenAI's.
import { DIALECTS } from "../dialects/index.ts";
import { versioned } from "./provider.ts";
import type { Place, Provider, ProviderSettings } from "./provider.ts";

export function anthropic(settings: ProviderSettings): Provider {
  const frame = versioned(DIALECTS.anthropic, settings);
  return {
    name: "anthropic",
    prefixes: ["anthropic"],
    priceList: "anthropic",
    ...frame,
    takesBare: ({ path, first, headers }) =>
      first === "v1" && (headers["anthropic-version"] !== undefined || path.startsWith("/v1/messages")),
    locate(segments): Place | undefined {
      const place = frame.locate(segments);
      return place?.rest === "/chat/completions"
        ? { ...place, dialect: DIALECTS.openai, credentialHeader: "authorization" }
        : place;
    },
  };
}
