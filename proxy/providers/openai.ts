// OpenAI.
import { DIALECTS } from "../dialects/index.ts";
import { originAndPath } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

export function openai({ url, credential }: ProviderSettings): Provider {
  return {
    name: "openai",
    prefixes: ["openai"],
    dialect: DIALECTS.openai,
    ...originAndPath(url),
    priceList: "openai",
    credential,
  };
}
