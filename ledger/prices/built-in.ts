// The price list that comes with @pydantic/genai-prices. It takes 10 MB and is loaded when it is first asked for: a
// supervisor that only checks prices of settings never does.
import { createRequire } from "node:module";
import type { ModelInfo } from "@pydantic/genai-prices";

const require = createRequire(import.meta.url);
const entry = require.resolve("@pydantic/genai-prices");
const manifest = require(`${entry.slice(0, entry.indexOf("dist"))}package.json`) as { readonly version: string };

export const LIBRARY_VERSION = `genai-prices@${manifest.version}`;

/** The models of a list; none where the library does not have it. */
export function builtInModels(list: string): readonly ModelInfo[] {
  const { findProvider } = require(entry) as typeof import("@pydantic/genai-prices");
  return findProvider({ providerId: list })?.models ?? [];
}
