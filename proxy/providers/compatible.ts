// Any upstream that speaks the OpenAI wire format, named in keymeter.yaml: Groq, Mistral, DeepSeek, xAI, OpenRouter,
// Together, a local vLLM or Ollama.
import { DIALECTS } from "../dialects/index.ts";
import { versioned } from "./provider.ts";
import type { Provider, ProviderSettings } from "./provider.ts";

/** `name` is the path prefix and the booked name; `priceList` the id of its list in the price book. */
export function compatible(name: string, priceList: string, settings: ProviderSettings): Provider {
  return { name, prefixes: [name], priceList, ...versioned(DIALECTS.openai, settings) };
}

/** One that speaks Anthropic's: Claude on another platform, a gateway. */
export function compatibleToAnthropic(name: string, priceList: string, settings: ProviderSettings): Provider {
  return { name, prefixes: [name], priceList, ...versioned(DIALECTS.anthropic, settings) };
}
