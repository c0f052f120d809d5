// OpenAI.
import { DIALECTS } from "../dialects/index.ts";
import { versioned } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

/** Hosts that keep data where it is; newer models cost more there. */
const REGIONAL_HOST = /^(us|eu|ae|au|in|jp)\.api\.openai\.com$/;

/** Clients that take no other base URL send Azure's paths (`/openai/deployments/{name}/chat/completions`): the body names the
 *  model. */
function behindDeployment(segments: readonly string[]): readonly string[] {
  const at = segments[0] === "openai" ? 1 : 0;
  return segments[at] === "deployments" && segments.length > at + 2 ? segments.slice(at + 2) : segments;
}

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
      const behind = behindDeployment(segments);
      const place = frame.locate(behind);
      return place && { ...place, tiers, ...(behind === segments ? {} : { foreignQuery: ["api-version"] }) };
    },
  };
}
