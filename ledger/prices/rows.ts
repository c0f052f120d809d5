// Our own dated rows: what the price library lacks or has wrong, and what no list holds in a machine's form. Data,
// each with its source. Prices are decimal USD per million tokens.
import type { FeeUnit, TokenClass } from "../usage.ts";

/** A price of ours or of the user's: decimal USD per million tokens, and USD each for fees. `from` is a UTC day, absent
 *  means always. `model` may name a variant: "dall-e-3/hd/1024x1024". */
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
  /** Told by others than the provider, or lists differ and its page could not be read: it is used as inferred. */
  readonly isGuess?: boolean;
  readonly source: string;
};

/** Hours of the week in which a list is dearer: UTC, Monday to Friday. */
export type PeakRow = {
  readonly list: string;
  readonly model: RegExp;
  readonly from: string;
  /** [first, end) in hours of the day. */
  readonly hours: readonly (readonly [number, number])[];
  readonly multiplier: string;
  readonly source: string;
};
export type TierRow = {
  readonly list: string;
  readonly tier: string;
  readonly model?: RegExp;
  readonly multiplier: string;
  /** Classes whose price it leaves alone. */
  readonly except?: readonly TokenClass[];
  /** Told by others, not by the provider's own page: then it is inferred. */
  readonly isGuess?: boolean;
  readonly source: string;
};
export type LimitRow = {
  readonly list: string;
  readonly model: RegExp;
  readonly contextWindow: number;
  readonly maxOutputTokens: number;
  readonly source: string;
};

/** A unit that costs a multiple of another one, where the list prices only that. */
export type MultipleRow = {
  readonly list: string;
  readonly unit: TokenClass;
  readonly of: TokenClass;
  readonly times: bigint;
  readonly source: string;
};

/** A fee of many models. `isMost`: a free allowance that no answer shows may take some of it away, so it is
 *  inferred. */
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

/** Where the provider's own page could not be read: LiteLLM's price map 1.109.1, which agrees with genai-prices
 *  0.2.3. */
const LITELLM = "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json";
const FAST_MODE = "https://code.claude.com/docs/en/fast-mode";

const LIVE_2_5 = [
  "gemini-live-2.5-flash",
  "gemini-live-2.5-flash-preview",
  "gemini-live-2.5-flash-native-audio",
  "gemini-2.5-flash-native-audio-latest",
  "gemini-2.5-flash-native-audio-preview-09-2025",
  "gemini-2.5-flash-native-audio-preview-12-2025",
];

const SPEECH = "https://developers.openai.com/api/docs/models/tts-1";
const DALL_E = "https://developers.openai.com/api/docs/pricing#image-generation";
const SORA = "https://developers.openai.com/api/docs/pricing#video";

const MISTRAL = "https://docs.mistral.ai/getting-started/models";
const XAI = "https://docs.x.ai/developers/pricing";
const DEEPSEEK = "https://api-docs.deepseek.com/quick_start/pricing";
const PERPLEXITY = "https://docs.perplexity.ai/getting-started/pricing";
const IMAGES = "https://developers.openai.com/api/docs/pricing#image-generation";

/** A row of text prices: input, cached, written where it has a price; decimal USD per million. */
function text(
  list: string,
  model: string,
  prices: readonly [input: string, cacheRead: string | undefined, output: string],
  source: string,
  more: Partial<PriceRow> = {},
): PriceRow {
  const [input, cacheRead, output] = prices;
  return {
    list,
    model,
    usdPerMillion: { input, ...(cacheRead === undefined ? {} : { cache_read: cacheRead }), output },
    source,
    ...more,
  };
}

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
  ...["tts-1", "tts-1-1106"].map((model) => ({
    list: "openai",
    model,
    usdEach: { character: "0.000015" },
    source: SPEECH,
  })),
  ...["tts-1-hd", "tts-1-hd-1106"].map((model) => ({
    list: "openai",
    model,
    usdEach: { character: "0.00003" },
    source: SPEECH,
  })),
  // The library prices what these see like what they read.
  ...LIVE_2_5.map((model) => ({
    list: "google",
    model,
    usdPerMillion: {
      input: "0.5",
      input_audio: "3",
      input_image: "3",
      input_video: "3",
      output: "2",
      output_audio: "12",
    },
    source: GEMINI_PRICING,
  })),
  ...["gemini-3.8-live", "gemini-3.8-live-extended-thinking"].map((model) => ({
    list: "google",
    model,
    usdPerMillion: {
      input: "0.75",
      input_audio: "3",
      input_image: "1",
      input_video: "1",
      output: "4.5",
      output_audio: "12",
    },
    source: LITELLM,
  })),
  // Newer than the library.
  ...["gpt-6.1-sol", "gpt-6.2-sol"].map((model) => ({
    list: "openai",
    model,
    usdPerMillion: { input: "2", cache_read: "0.1", cache_write_30m: "2.5", cache_write_12h: "5", output: "10" },
    longContext: {
      above: 272_000,
      usdPerMillion: { input: "4", cache_read: "0.2", cache_write_30m: "5", cache_write_12h: "10", output: "15" },
    },
    contextWindow: 1_050_000,
    maxOutputTokens: 128_000,
    source: `https://developers.openai.com/api/docs/models/${model}`,
  })),
  {
    list: "openai",
    model: "gpt-6.1-terra",
    usdPerMillion: { input: "1", cache_read: "0.05", cache_write_30m: "1.25", output: "5" },
    longContext: {
      above: 272_000,
      usdPerMillion: { input: "2", cache_read: "0.1", cache_write_30m: "2.5", output: "7.5" },
    },
    isGuess: true,
    source: LITELLM,
  },
  text("openai", "gpt-5-search-api", ["1.25", "0.125", "10"], LITELLM, {
    usdEach: { web_search: "0.01" },
    isGuess: true,
  }),
  text("openai", "davinci-002", ["2", undefined, "2"], LITELLM, { isGuess: true }),
  // The library prices the sound that these write down at 2.4 times its price.
  ...["gpt-4o-transcribe", "gpt-4o-transcribe-diarize"].map((model) => ({
    list: "openai",
    model,
    usdPerMillion: { input: "2.5", input_audio: "2.5", output: "10" },
    isGuess: model.endsWith("diarize"),
    source: "https://developers.openai.com/api/docs/models/gpt-4o-transcribe",
  })),
  ...["gpt-4o-mini-transcribe", "gpt-4o-mini-transcribe-2025-03-20", "gpt-4o-mini-transcribe-2025-12-15"].map(
    (model) => ({
      list: "openai",
      model,
      usdPerMillion: { input: "1.25", input_audio: "1.25", output: "5" },
      source: "https://developers.openai.com/api/docs/models/gpt-4o-mini-transcribe",
    }),
  ),
  // Pictures that a tool makes, by the piece, where no tokens are stated.
  ...pieces("gpt-image-1", { low: ["0.011", "0.016"], medium: ["0.042", "0.063"], high: ["0.167", "0.25"] }),
  ...pieces("gpt-image-1.5", { low: ["0.009", "0.013"], medium: ["0.034", "0.05"], high: ["0.133", "0.2"] }),
  ...pieces("gpt-image-1-mini", { low: ["0.005", "0.006"], medium: ["0.011", "0.015"], high: ["0.036", "0.052"] }),
  // The price of what is read from a cache was halved.
  ...["0.2", "0.1"].map((cacheRead, i) => ({
    list: "anthropic",
    model: "claude-sonnet-5-5",
    ...(i === 0 ? {} : { from: "2026-10-07" }),
    usdPerMillion: { input: "2", cache_write_5m: "2.5", cache_write_1h: "4", cache_read: cacheRead, output: "10" },
    usdEach: { web_search: "0.01" },
    source: ANTHROPIC_PRICING,
  })),
  ...[
    ["claude-mythos-5", "1"],
    ["claude-mythos-5-1", "0.25"],
  ].map(([model = "", cacheRead = ""]) => ({
    list: "anthropic",
    model,
    usdPerMillion: { input: "10", cache_write_5m: "12.5", cache_write_1h: "20", cache_read: cacheRead, output: "50" },
    usdEach: { web_search: "0.01" },
    isGuess: model !== "claude-mythos-5",
    source: ANTHROPIC_PRICING,
  })),
  ...[
    ["gemini-3.8-flash-tts", "9"],
    ["gemini-3.8-flash-lite-tts", "6"],
  ].map(([model = "", output = ""]) => text("google", model, ["0.5", undefined, output], LITELLM, { isGuess: true })),
  text("google", "gemini-3.8-flash-cyber", ["1.5", "0.15", "7.5"], LITELLM, { isGuess: true }),
  // Mistral's moving names, by its own pages of the models that hold them.
  text("mistral", "mistral-large-latest", ["0.5", "0.05", "1.5"], MISTRAL, { from: "2025-12-02" }),
  text("mistral", "mistral-large-latest", ["2", undefined, "6"], MISTRAL),
  text("mistral", "mistral-small-latest", ["0.15", "0.015", "0.6"], MISTRAL, { from: "2026-03-16" }),
  text("mistral", "mistral-small-latest", ["0.1", undefined, "0.3"], MISTRAL),
  text("mistral", "mistral-large-4", ["0.7", "0.07", "2.1"], LITELLM, { isGuess: true }),
  text("mistral", "magistral-medium-latest", ["2", undefined, "5"], MISTRAL, { isGuess: true }),
  text("mistral", "magistral-small-latest", ["0.15", "0.015", "0.6"], MISTRAL, { from: "2026-07-31", isGuess: true }),
  text("mistral", "magistral-small-latest", ["0.5", undefined, "1.5"], MISTRAL),
  text("mistral", "mistral-medium", ["0.4", undefined, "2"], LITELLM, { isGuess: true }),
  text("mistral", "ministral-14b-latest", ["0.2", "0.02", "0.2"], MISTRAL),
  text("mistral", "codestral-latest", ["0.3", "0.03", "0.9"], MISTRAL),
  text("mistral", "voxtral-small-latest", ["0.1", undefined, "0.3"], MISTRAL, {
    usdEach: { audio_second: "0.000066666667" },
    isGuess: true,
  }),
  text("mistral", "zai-glm-5-2", ["1.4", "0.26", "4.4"], MISTRAL),
  text("groq", "openai/gpt-oss-safeguard-20b", ["0.075", "0.0375", "0.3"], "https://console.groq.com/docs/models"),
  text("x-ai", "grok-4.20-multi-agent", ["1.25", "0.2", "2.5"], XAI, {
    longContext: { above: 199_999, usdPerMillion: { input: "2.5", cache_read: "0.4", output: "5" } },
  }),
  text("x-ai", "grok-4.7", ["2", "0.5", "6"], LITELLM, {
    longContext: { above: 199_999, usdPerMillion: { input: "4", cache_read: "1", output: "12" } },
    isGuess: true,
  }),
  text("x-ai", "grok-3-mini-high", ["0.3", "0.075", "0.5"], XAI),
  // Off peak; PEAK_ROWS has the dearer hours.
  ...["deepseek-flash", "deepseek-v4-flash"].map((model) =>
    text("deepseek", model, ["0.15", "0.003", "0.6"], DEEPSEEK, { from: "2026-09-10" }),
  ),
  text("deepseek", "deepseek-v4-flash", ["0.22", "0.007", "0.66"], DEEPSEEK),
  ...["deepseek-chat", "deepseek-reasoner"].flatMap((model) => [
    text("deepseek", model, ["0.14", "0.0028", "0.28"], DEEPSEEK, { from: "2026-04-24", isGuess: true }),
    text("deepseek", model, ["0.28", "0.028", "0.42"], DEEPSEEK, { isGuess: true }),
  ]),
  // A fee for each request goes by how much is searched; what the answer says picks the row.
  ...perplexity("sonar", ["1", "1"], { low: "0.005", medium: "0.008", high: "0.012" }),
  ...perplexity("sonar-pro", ["3", "15"], { low: "0.006", medium: "0.01", high: "0.014" }),
  ...perplexity("sonar-reasoning-pro", ["2", "8"], { low: "0.006", medium: "0.01", high: "0.014" }),
  text("perplexity", "sonar-pro-search", ["3", undefined, "15"], LITELLM, {
    usdEach: { request: "0.022" },
    isGuess: true,
  }),
  { list: "perplexity", model: "pplx-embed-v1-0.6b", usdPerMillion: { input: "0.004" }, source: PERPLEXITY },
  {
    list: "anthropic",
    model: "claude-fable-5-2",
    usdPerMillion: { input: "8", cache_write_5m: "10", cache_write_1h: "16", cache_read: "0.2", output: "40" },
    usdEach: { web_search: "0.01" },
    source: LITELLM,
  },
  {
    list: "anthropic",
    model: "claude-haiku-5-5",
    usdPerMillion: { input: "0.1", cache_write_5m: "0.125", cache_write_1h: "0.2", cache_read: "0.01", output: "0.5" },
    usdEach: { web_search: "0.01" },
    longContext: {
      above: 100_000,
      usdPerMillion: { input: "0.5", cache_write_5m: "0.625", cache_write_1h: "1", cache_read: "0.05", output: "2.5" },
    },
    source: LITELLM,
  },
  {
    list: "google",
    model: "gemini-4-argon",
    usdPerMillion: { input: "2", cache_read: "0.1", output: "10" },
    source: LITELLM,
  },
  ...pictures("dall-e-2/standard", { "256x256": "0.016", "512x512": "0.018", "1024x1024": "0.02" }),
  ...pictures("dall-e-3/standard", { "1024x1024": "0.04", "1024x1792": "0.08", "1792x1024": "0.08" }),
  ...pictures("dall-e-3/hd", { "1024x1024": "0.08", "1024x1792": "0.12", "1792x1024": "0.12" }),
  ...films("sora-2", { "720x1280": "0.1", "1280x720": "0.1" }),
  ...films("sora-2-pro", {
    "720x1280": "0.3",
    "1280x720": "0.3",
    "1024x1792": "0.5",
    "1792x1024": "0.5",
    "1080x1920": "0.7",
    "1920x1080": "0.7",
  }),
  ...["imagen-4.0-generate-001", "imagen-4.0-ultra-generate-001", "imagen-4.0-fast-generate-001"].map((model, i) => ({
    list: "google",
    model,
    usdEach: { image: ["0.04", "0.06", "0.02"][i] ?? "" },
    source: GEMINI_PRICING,
  })),
  { list: "google", model: "veo-3.0-generate-001", usdEach: { video_second: "0.4" }, source: GEMINI_PRICING },
  { list: "google", model: "veo-3.0-fast-generate-001", usdEach: { video_second: "0.1" }, source: LITELLM },
  ...[
    ["veo-3.0-fast-generate-001/1080p", "0.12"],
    ["veo-3.1-generate-001", "0.4"],
    ["veo-3.1-generate-001/4k", "0.6"],
    ["veo-3.1-fast-generate-001", "0.1"],
    ["veo-3.1-fast-generate-001/1080p", "0.12"],
    ["veo-3.1-fast-generate-001/4k", "0.3"],
    ["veo-3.1-lite-generate-001", "0.05"],
    ["veo-3.1-lite-generate-001/1080p", "0.08"],
  ].map(([model = "", second = ""]) => ({
    list: "google",
    model,
    usdEach: { video_second: second },
    source: LITELLM,
  })),
];

/** By quality: square, and one and a half times as large. */
function pieces(
  model: string,
  byQuality: { readonly [quality: string]: readonly [square: string, large: string] },
): PriceRow[] {
  return Object.entries(byQuality).flatMap(([quality, [square, large]]) =>
    ["1024x1024", "1024x1536", "1536x1024"].map((size) => ({
      list: "openai",
      model: `${model}/${quality}/${size}`,
      usdEach: { image: size === "1024x1024" ? square : large },
      source: IMAGES,
    })),
  );
}

/** By how much is searched; where nobody says, as little as possible. */
function perplexity(
  model: string,
  [input, output]: readonly [string, string],
  bySize: { readonly low: string; readonly medium: string; readonly high: string },
): PriceRow[] {
  const row = (name: string, request: string): PriceRow =>
    text("perplexity", name, [input, undefined, output], PERPLEXITY, { usdEach: { request } });
  return [row(model, bySize.low), row(`${model}/medium`, bySize.medium), row(`${model}/high`, bySize.high)];
}

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
    model: /^gemini-(live-)?[12]/,
    unit: "grounded_prompt",
    usdEach: "0.035",
    isMost: true,
    source: GEMINI_PRICING,
  },
  {
    list: "google",
    model: /^gemini-([34]|flash-latest)/,
    unit: "grounding_query",
    usdEach: "0.014",
    isMost: true,
    source: GEMINI_PRICING,
  },
  {
    list: "openai",
    model: /^(chatgpt-|gpt-(3|4))/,
    unit: "web_search_preview",
    usdEach: "0.025",
    source: OPENAI_TIERS,
  },
  { list: "openai", model: /./, unit: "web_search_preview", usdEach: "0.01", source: OPENAI_TIERS },
  ...Object.entries({
    "^gemini-(2\\.5-pro|3\\.1-pro)": "0.0000045",
    "^gemini-(2\\.5-flash|3\\.5-flash(-\\d|$)|3-flash)": "0.000001",
  }).map(([model, usdEach]) => ({
    list: "google",
    model: new RegExp(model),
    unit: "cache_token_hour" as const,
    usdEach,
    source: GEMINI_PRICING,
  })),
  // Half of the price until the end of 2026.
  {
    list: "google",
    model: /^gemini-3\.[68]-flash(-\d|$)/,
    unit: "cache_token_hour",
    usdEach: "0.0000005",
    source: GEMINI_PRICING,
  },
  // What a container of 1 GB costs in its first 20 minutes. No answer says its size, its minutes, or which request
  // opened it.
  { list: "openai", model: /./, unit: "container", usdEach: "0.03", isMost: true, source: OPENAI_TIERS },
];

/** What a service tier or region does to every token price of the event. The tier is the one the answer names. */
export const TIER_ROWS: readonly TierRow[] = [
  { list: "openai", tier: "batch", model: /^gpt-3\.5-turbo-1106$/, multiplier: "1", source: OPENAI_TIERS },
  // Models whose cached tokens have no batch price.
  {
    list: "openai",
    tier: "batch",
    model: /^(gpt-4o|gpt-4\.1|o1|o3|o4-mini)(-|$)/,
    multiplier: "0.5",
    except: ["cache_read"],
    source: OPENAI_TIERS,
  },
  { list: "openai", tier: "batch", multiplier: "0.5", source: OPENAI_TIERS },
  { list: "openai", tier: "flex", multiplier: "0.5", source: OPENAI_TIERS },
  ...Object.entries({
    "^gpt-5\\.5": "2.5",
    "^(gpt-4\\.1(-mini)?|gpt-4o-2024-05-13|o3)(-\\d|$)": "1.75",
    "^gpt-4o-mini": "5/3",
    "^gpt-4o": "1.7",
    "^gpt-5-mini": "1.8",
    "^o4-mini": "20/11",
    "^(gpt-4\\.1-nano|gpt-5(\\.[1-46])?|gpt-6(\\.1)?)(-|$)": "2",
  }).map(([model, multiplier]) => ({
    list: "openai",
    tier: "priority",
    model: new RegExp(model),
    multiplier,
    source: OPENAI_TIERS,
  })),
  { list: "openai", tier: "priority", multiplier: "2", isGuess: true, source: OPENAI_TIERS },
  {
    list: "openai",
    tier: "ultrafast",
    model: /^gpt-6(-astra|\.1-sol)/,
    multiplier: "6",
    isGuess: true,
    source: LITELLM,
  },
  // Hosts that keep data in a region.
  {
    list: "openai",
    tier: "region",
    model: /^gpt-(5\.[456]|6|realtime-2\.1)/,
    multiplier: "1.1",
    source: "https://developers.openai.com/api/docs/guides/data-residency",
  },
  { list: "openai", tier: "region", multiplier: "1", source: OPENAI_TIERS },
  { list: "anthropic", tier: "batch", multiplier: "0.5", source: ANTHROPIC_PRICING },
  { list: "anthropic", tier: "geo:us", multiplier: "1.1", source: ANTHROPIC_PRICING },
  {
    list: "anthropic",
    tier: "speed:fast",
    model: /^claude-(opus-(5|5-5|4-8)|fable-5-2)(-\d{8})?$/,
    multiplier: "2",
    source: FAST_MODE,
  },
  // Regional and multi-region endpoints of Vertex; the global one is the list price.
  {
    list: "anthropic",
    tier: "region",
    model: /^claude-(sonnet-4-5|haiku-4-5|opus-4-[5-9]|[a-z]+-[5-9])/,
    multiplier: "1.1",
    source: ANTHROPIC_PRICING,
  },
  { list: "anthropic", tier: "region", multiplier: "1", source: ANTHROPIC_PRICING },
  {
    list: "google",
    tier: "region",
    model: /^gemini-(3\.1-flash-(lite|image)|3\.[5-8]-flash|4-argon)/,
    multiplier: "1.1",
    isGuess: true,
    source: LITELLM,
  },
  { list: "google", tier: "region", multiplier: "1", source: LITELLM },
  // Dearer on Vertex than on the Gemini API, by lists of others: Google's page of it is gone with the model.
  {
    list: "google",
    tier: "vertex",
    model: /^gemini-2\.0-flash(?!-lite)/,
    multiplier: "1.5",
    isGuess: true,
    source: LITELLM,
  },
  { list: "google", tier: "vertex", multiplier: "1", source: LITELLM },
  // What is cached costs as much in a batch as outside one.
  ...["batch", "flex"].map((tier) => ({
    list: "google",
    tier,
    model: /^gemini-(2\.5-(pro|flash)|3-flash|3\.1-pro)/,
    multiplier: "0.5",
    except: ["cache_read", "cache_read_audio", "cache_read_image"] as const,
    source: "https://ai.google.dev/gemini-api/docs/batch-api",
  })),
  { list: "google", tier: "batch", multiplier: "0.5", source: GEMINI_PRICING },
  { list: "google", tier: "flex", multiplier: "0.5", source: GEMINI_PRICING },
  // "75 % to 100 % more", says the provider.
  { list: "google", tier: "priority", multiplier: "1.8", isGuess: true, source: LITELLM },
];

/** Holidays, on which the cheaper price holds, are not known: such a price is inferred. */
export const PEAK_ROWS: readonly PeakRow[] = [
  {
    list: "deepseek",
    model: /^deepseek-/,
    from: "2026-09-10",
    hours: [
      [1, 4],
      [6, 10],
    ],
    multiplier: "2",
    source: DEEPSEEK,
  },
];

/** What the library prices under no key of its own. */
export const MULTIPLE_ROWS: readonly MultipleRow[] = [
  { list: "openai", unit: "cache_write_12h", of: "cache_write_30m", times: 2n, source: LITELLM },
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
    model: /^gpt-5-pro/,
    contextWindow: 400_000,
    maxOutputTokens: 272_000,
    source: "https://developers.openai.com/api/docs/models/gpt-5-pro",
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
