// Our own dated rows: what the price library lacks or has wrong, and what no list holds in a machine's form. Data,
// each with its source. Prices are decimal USD per million tokens.
import type { FeeUnit, TokenClass } from "../usage.ts";

/** A price of ours or of the user's: decimal USD per million tokens, and USD each for fees. `from` is a UTC day, absent means
 *  always. `model` may name a variant: "dall-e-3/hd/1024x1024". */
export type PriceRow = {
  readonly list: string;
  readonly model: string;
  readonly from?: string;
  readonly usdPerMillion?: { readonly [unit in TokenClass]?: string };
  readonly usdEach?: { readonly [unit in FeeUnit]?: string };
  /** The prices of the whole request once its context is larger than `above` tokens. */
  readonly longContext?: { readonly above: number; readonly usdPerMillion: { readonly [unit in TokenClass]?: string } };
  readonly contextWindow?: number;
  readonly maxOutputTokens?: number;
  readonly source: string;
};
export type TierRow = {
  readonly list: string;
  readonly tier: string;
  readonly model?: RegExp;
  readonly multiplier: string;
  readonly source: string;
};
export type LimitRow = {
  readonly list: string;
  readonly model: RegExp;
  readonly contextWindow: number;
  readonly maxOutputTokens: number;
  readonly source: string;
};

/** A fee of many models. `isMost`: a free allowance that no answer shows may take some of it away, so it is inferred. */
export type FeeRow = {
  readonly list: string;
  readonly model: RegExp;
  readonly unit: FeeUnit;
  readonly usdEach: string;
  readonly isMost?: boolean;
  readonly source: string;
};

const OPENAI_TIERS = "https://developers.openai.com/api/docs/pricing";
const ANTHROPIC_PRICING = "https://platform.claude.com/docs/en/about-claude/pricing";
const GEMINI_PRICING = "https://ai.google.dev/gemini-api/docs/pricing";

const SPEECH = "https://developers.openai.com/api/docs/models/tts-1";
const DALL_E = "https://developers.openai.com/api/docs/pricing#image-generation";
const SORA = "https://developers.openai.com/api/docs/pricing#video";

const AUDIO = "https://developers.openai.com/api/docs/models/gpt-4o-audio-preview";

export const OWN_PRICE_ROWS: readonly PriceRow[] = [
  // The library prices the sound of these like their text.
  ...["gpt-4o-audio-preview", "gpt-4o-audio-preview-2025-06-03", "gpt-4o-audio-preview-2024-12-17"].map((model) => ({
    list: "openai",
    model,
    usdPerMillion: { input: "2.5", output: "10", input_audio: "40", output_audio: "80" },
    source: AUDIO,
  })),
  ...["gpt-4o-mini-audio-preview", "gpt-4o-mini-audio-preview-2024-12-17"].map((model) => ({
    list: "openai",
    model,
    usdPerMillion: { input: "0.15", output: "0.6", input_audio: "10", output_audio: "20" },
    source: AUDIO,
  })),
  // The library leaves out the long context that a beta opens.
  {
    list: "anthropic",
    model: "claude-sonnet-4-20250514",
    usdPerMillion: { input: "3", cache_write_5m: "3.75", cache_write_1h: "6", cache_read: "0.3", output: "15" },
    usdEach: { web_search: "0.01" },
    longContext: {
      above: 200_000,
      usdPerMillion: { input: "6", cache_write_5m: "7.5", cache_write_1h: "12", cache_read: "0.6", output: "22.5" },
    },
    contextWindow: 1_000_000,
    maxOutputTokens: 64_000,
    source: ANTHROPIC_PRICING,
  },
  { list: "openai", model: "tts-1", usdEach: { character: "0.000015" }, source: SPEECH },
  { list: "openai", model: "tts-1-hd", usdEach: { character: "0.00003" }, source: SPEECH },
  ...pictures("dall-e-2/standard", { "256x256": "0.016", "512x512": "0.018", "1024x1024": "0.02" }),
  ...pictures("dall-e-3/standard", { "1024x1024": "0.04", "1024x1792": "0.08", "1792x1024": "0.08" }),
  ...pictures("dall-e-3/hd", { "1024x1024": "0.08", "1024x1792": "0.12", "1792x1024": "0.12" }),
  ...films("sora-2", { "720x1280": "0.1", "1280x720": "0.1" }),
  ...films("sora-2-pro", { "720x1280": "0.3", "1280x720": "0.3", "1024x1792": "0.5", "1792x1024": "0.5" }),
  ...["imagen-4.0-generate-001", "imagen-4.0-ultra-generate-001", "imagen-4.0-fast-generate-001"].map((model, i) => ({
    list: "google",
    model,
    usdEach: { image: ["0.04", "0.06", "0.02"][i] ?? "" },
    source: GEMINI_PRICING,
  })),
  { list: "google", model: "veo-3.0-generate-001", usdEach: { video_second: "0.4" }, source: GEMINI_PRICING },
  { list: "google", model: "veo-3.0-fast-generate-001", usdEach: { video_second: "0.15" }, source: GEMINI_PRICING },
];

function pictures(model: string, bySize: { readonly [size: string]: string }): PriceRow[] {
  return Object.entries(bySize).map(([size, image]) => ({
    list: "openai",
    model: `${model}/${size}`,
    usdEach: { image },
    source: DALL_E,
  }));
}

function films(model: string, bySize: { readonly [size: string]: string }): PriceRow[] {
  return Object.entries(bySize).map(([size, second]) => ({
    list: "openai",
    model: `${model}/${size}`,
    usdEach: { video_second: second },
    source: SORA,
  }));
}

export const FEE_ROWS: readonly FeeRow[] = [
  // 1,500 grounded prompts a day are free before version 3, 5,000 queries a month from it on.
  {
    list: "google",
    model: /^gemini-[12]/,
    unit: "grounded_prompt",
    usdEach: "0.035",
    isMost: true,
    source: GEMINI_PRICING,
  },
  {
    list: "google",
    model: /^gemini-3/,
    unit: "grounding_query",
    usdEach: "0.014",
    isMost: true,
    source: GEMINI_PRICING,
  },
  // A container that an earlier request opened is free again for 20 minutes; no answer says which one did.
  { list: "openai", model: /./, unit: "container", usdEach: "0.03", isMost: true, source: OPENAI_TIERS },
];

/** What a service tier or region does to every token price of the event. The tier is the one the answer names. */
export const TIER_ROWS: readonly TierRow[] = [
  { list: "openai", tier: "batch", multiplier: "0.5", source: OPENAI_TIERS },
  { list: "openai", tier: "flex", multiplier: "0.5", source: OPENAI_TIERS },
  { list: "openai", tier: "priority", model: /^gpt-5\.5/, multiplier: "2.5", source: OPENAI_TIERS },
  { list: "openai", tier: "priority", multiplier: "2", source: OPENAI_TIERS },
  { list: "anthropic", tier: "batch", multiplier: "0.5", source: ANTHROPIC_PRICING },
  { list: "anthropic", tier: "geo:us", multiplier: "1.1", source: ANTHROPIC_PRICING },
  { list: "google", tier: "batch", multiplier: "0.5", source: GEMINI_PRICING },
  { list: "google", tier: "flex", multiplier: "0.5", source: GEMINI_PRICING },
];

/** The most a model writes, where the price library does not say and a request may leave it open. */
export const LIMIT_ROWS: readonly LimitRow[] = [
  {
    list: "openai",
    model: /^gpt-4o/,
    contextWindow: 128_000,
    maxOutputTokens: 16_384,
    source: "https://developers.openai.com/api/docs/models/gpt-4o",
  },
  {
    list: "openai",
    model: /^gpt-4\.1/,
    contextWindow: 1_047_576,
    maxOutputTokens: 32_768,
    source: "https://developers.openai.com/api/docs/models/gpt-4.1",
  },
  {
    list: "openai",
    model: /^gpt-5(\.[12])?(-|$)/,
    contextWindow: 400_000,
    maxOutputTokens: 128_000,
    source: "https://developers.openai.com/api/docs/models/gpt-5",
  },
  {
    list: "google",
    model: /^gemini-2\.5-(pro|flash)/,
    contextWindow: 1_048_576,
    maxOutputTokens: 65_536,
    source: "https://ai.google.dev/gemini-api/docs/models",
  },
  {
    list: "google",
    model: /^gemini-3/,
    contextWindow: 1_048_576,
    maxOutputTokens: 65_536,
    source: "https://ai.google.dev/gemini-api/docs/models",
  },
];
