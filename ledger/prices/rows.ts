// Our own dated rows: what the price library lacks or has wrong, and what no list holds in a machine's form. Data,
// each with its source. Prices are decimal USD per million tokens.
import type { Unit } from "../usage.ts";

/** A price of ours or of the user's: decimal USD per million tokens. `from` is a UTC day, absent means always. */
export type PriceRow = {
  readonly list: string;
  readonly model: string;
  readonly from?: string;
  readonly usdPerMillion: { readonly [unit in Unit]?: string };
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

export const OWN_PRICE_ROWS: readonly PriceRow[] = [];

const OPENAI_TIERS = "https://developers.openai.com/api/docs/pricing";
const ANTHROPIC_PRICING = "https://platform.claude.com/docs/en/about-claude/pricing";
const GEMINI_PRICING = "https://ai.google.dev/gemini-api/docs/pricing";

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
