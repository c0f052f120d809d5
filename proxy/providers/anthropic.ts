// Anthropic.
import { DIALECTS } from "../dialects/index.ts";
import { originAndPath } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

export function anthropic({ url, credential }: ProviderSettings): Provider {
  return {
    name: "anthropic",
    prefixes: ["anthropic"],
    dialect: DIALECTS.anthropic,
    ...originAndPath(url),
    priceList: "anthropic",
    credential,
  };
}
