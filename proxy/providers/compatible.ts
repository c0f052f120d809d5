// Any upstream that speaks the OpenAI wire format, named in keymeter.yaml: Groq, Mistral, DeepSeek, xAI, OpenRouter,
// Together, a local vLLM or Ollama.
import { DIALECTS } from "../dialects/index.ts";
import { originAndPath } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

/** `name` is the path prefix and the booked name; `priceList` the id of its list in the price book. */
export function compatible(name: string, priceList: string, { url, credential }: ProviderSettings): Provider {
  return { name, prefixes: [name], dialect: DIALECTS.openai, ...originAndPath(url), priceList, credential };
}
