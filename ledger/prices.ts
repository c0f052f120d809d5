// The price book: price list + served model + time -> unit prices, with a version and how sure we are of the match.
// The base is the data of @pydantic/genai-prices, which also matches by prefix; a match that is not exact is `inferred`
// and stays visible as such. Our own rows go first. All prices are pico-USD per unit.
import { createRequire } from "node:module";
import { findProvider } from "@pydantic/genai-prices";
import type { MatchLogic, ModelInfo, ModelPrice, TieredPrices } from "@pydantic/genai-prices";
import { parseRatio, parseUsdPerMillion, parseUsdPerThousand } from "./money.ts";
import type { PicoUsdPerUnit, Ratio } from "./money.ts";
import { LIMIT_ROWS, OWN_PRICE_ROWS, TIER_ROWS } from "./prices/rows.ts";
import type { PriceRow } from "./prices/rows.ts";
import type { Unit } from "./usage.ts";

/** `exact`: the list names this model. `inferred`: it only names a family that the model's id starts with, or a tier
 *  of the request has no price of its own. */
export type PriceConfidence = "exact" | "inferred";

/** A unit's price, and the price of the whole request once its context is larger than `above` tokens. */
export type UnitPrice = {
  readonly base: PicoUsdPerUnit;
  readonly steps: readonly { readonly above: number; readonly price: PicoUsdPerUnit }[];
};

export type Price = {
  readonly version: string;
  readonly confidence: PriceConfidence;
  readonly units: { readonly [unit in Unit]?: UnitPrice };
  /** The dearest token in and out, cache writes and long context included: what a bound goes by. */
  readonly dearest: { readonly input: PicoUsdPerUnit; readonly output: PicoUsdPerUnit };
  /** Multipliers of every token price, one for each tier asked for. */
  readonly multipliers: readonly Ratio[];
  /** Tiers asked for that have no row: what they cost is not known. */
  readonly unknownTiers: readonly string[];
  /** Units priced like another one for want of a price of their own, where that is a guess. */
  readonly guessedUnits: ReadonlySet<Unit>;
  /** The most tokens a request can hold, and the most it can answer; undefined when no source says so. */
  readonly contextWindow: number | undefined;
  readonly maxOutputTokens: number | undefined;
};

export type PriceBook = {
  /** The price of a model at an instant, or undefined: then the event is unpriced, never zero and never a guess.
   *  `tiers` as the answer names them ("flex", "geo:us"); "default", "standard" and "auto" change nothing. */
  find(list: string, model: string, atMs: number, tiers?: readonly string[]): Price | undefined;
};

/** USD per million or per thousand above this are taken for a mistaken unit, and refused. */
const MOST_USD_PER_MILLION = 100_000n * 1_000_000n;
const PLAIN_TIERS = new Set(["default", "standard", "auto", "on_demand", "not_available", "geo:global"]);
const MOST_CACHED_MODELS = 5_000;

const LIBRARY_VERSION = `genai-prices@${readLibraryVersion()}`;

/** A price of the list, which holds floats, to whole pico-USD: six decimals per million, nine per thousand. Lists that
 *  hold thirds (0.083333333333) lose less than a pico-USD per unit here. */
const million = (value: number): bigint => parseUsdPerMillion(value.toFixed(6));
const thousand = (value: number): bigint => parseUsdPerThousand(value.toFixed(9));

/** The library's price keys that we take over, and the unit each is the price of. */
const LIBRARY_UNITS: { readonly [priceKey: string]: { unit: Unit; parse: (value: number) => bigint } } = {
  input_mtok: { unit: "input", parse: million },
  cache_read_mtok: { unit: "cache_read", parse: million },
  cache_write_mtok: { unit: "cache_write_5m", parse: million },
  cache_write_1h_mtok: { unit: "cache_write_1h", parse: million },
  output_mtok: { unit: "output", parse: million },
  input_audio_mtok: { unit: "input_audio", parse: million },
  input_image_mtok: { unit: "input_image", parse: million },
  input_video_mtok: { unit: "input_video", parse: million },
  cache_audio_read_mtok: { unit: "cache_read_audio", parse: million },
  cache_image_read_mtok: { unit: "cache_read_image", parse: million },
  output_audio_mtok: { unit: "output_audio", parse: million },
  output_image_mtok: { unit: "output_image", parse: million },
  output_video_mtok: { unit: "output_video", parse: million },
  web_searches_kcount: { unit: "web_search", parse: thousand },
  storage_searches_kcount: { unit: "file_search", parse: thousand },
};

/** A unit that a list does not price apart is billed like this one: pictures and video as text, a cached token of a
 *  model without a cache price as a plain one. */
const BILLED_LIKE: readonly (readonly [Unit, Unit])[] = [
  ["cache_read", "input"],
  ["input_image", "input"],
  ["input_video", "input"],
  ["input_audio", "input"],
  ["cache_read_image", "cache_read"],
  ["cache_read_audio", "cache_read"],
  ["output_image", "output"],
  ["output_video", "output"],
  ["output_audio", "output"],
];

/** Builds the book. `userRows` (keymeter.yaml) win over our rows, ours over the library's. Throws a RangeError that
 *  names the row when a price is no decimal or out of range. */
export function createPriceBook(userRows: readonly PriceRow[] = []): PriceBook {
  const rows = [...userRows, ...OWN_PRICE_ROWS].map(datedFromRow);
  /** By model, then by list. */
  const cache = new Map<string, Map<string, readonly DatedPrice[]>>();

  return {
    find(list, model, atMs, tiers = []) {
      let byList = cache.get(model);
      if (!byList) {
        if (cache.size >= MOST_CACHED_MODELS) cache.clear();
        cache.set(model, (byList = new Map()));
      }
      let dated = byList.get(list);
      if (!dated) byList.set(list, (dated = datedPrices(rows, list, model)));
      const current = dated.find((price) => price.fromMs <= atMs);
      return current && withTiers(current.price, list, model, tiers);
    },
  };
}

type DatedPrice = { readonly fromMs: number; readonly price: Price };

/** The prices of one model, newest first. */
function datedPrices(
  rows: readonly { row: PriceRow; dated: DatedPrice }[],
  list: string,
  model: string,
): readonly DatedPrice[] {
  const own = rows.filter(({ row }) => row.list === list && row.model === model).map(({ dated }) => dated);
  return [...own, ...libraryPrices(list, model)].toSorted((a, b) => b.fromMs - a.fromMs);
}

function datedFromRow(row: PriceRow): { row: PriceRow; dated: DatedPrice } {
  const units: { [unit in Unit]?: UnitPrice } = {};
  for (const [unit, text] of Object.entries(row.usdPerMillion)) {
    const price = parseUsdPerMillion(text);
    if (price < 0n || price > MOST_USD_PER_MILLION) {
      throw new RangeError(
        `prices: ${row.list}/${row.model} ${unit}: ${text} is out of range; the unit is USD per million tokens`,
      );
    }
    units[unit as Unit] = { base: price, steps: [] };
  }
  const price: Price = {
    version: `own:${row.from ?? "always"}:${row.list}/${row.model}`,
    confidence: "exact",
    ...withLikes(units),
    multipliers: [],
    unknownTiers: [],
    contextWindow: row.contextWindow,
    maxOutputTokens: row.maxOutputTokens,
  };
  return { row, dated: { fromMs: row.from ? Date.parse(`${row.from}T00:00:00Z`) : 0, price } };
}

function libraryPrices(list: string, model: string): DatedPrice[] {
  const models = findProvider({ providerId: list })?.models ?? [];
  const name = model.toLowerCase();
  const info =
    models.find((candidate) => matches(candidate.match, name) === "exact") ??
    models.find((candidate) => matches(candidate.match, name));
  if (!info) return [];
  const confidence = matches(info.match, name) === "exact" || isDatedName(info, name) ? "exact" : "inferred";
  const limits = LIMIT_ROWS.find((row) => row.list === list && row.model.test(name));
  const conditional = Array.isArray(info.prices) ? info.prices : [{ prices: info.prices }];
  return conditional.flatMap(({ constraint, prices }) => {
    if (constraint && !("start_date" in constraint)) return [];
    const from = constraint?.start_date;
    const price: Price = {
      version: `${LIBRARY_VERSION}:${list}/${info.id}${from ? `@${from}` : ""}`,
      confidence,
      ...withLikes(libraryUnits(prices)),
      multipliers: [],
      unknownTiers: [],
      contextWindow: info.context_window ?? limits?.contextWindow,
      maxOutputTokens: limits?.maxOutputTokens,
    };
    return [{ fromMs: from ? Date.parse(`${from}T00:00:00Z`) : 0, price }];
  });
}

function libraryUnits(prices: ModelPrice): { [unit in Unit]?: UnitPrice } {
  const units: { [unit in Unit]?: UnitPrice } = {};
  for (const [key, value] of Object.entries(prices)) {
    const known = LIBRARY_UNITS[key];
    if (!known || value === undefined) continue;
    const tiered: Pick<TieredPrices, "base" | "tiers"> = typeof value === "number" ? { base: value, tiers: [] } : value;
    units[known.unit] = {
      base: known.parse(tiered.base),
      steps: tiered.tiers
        .map((tier) => ({ above: tier.start, price: known.parse(tier.price) }))
        .toSorted((a, b) => b.above - a.above),
    };
  }
  return units;
}

/** Sound at the price of text is a guess, and so is a picture that is made; one that is read is how most lists mean it. */
const GUESSED_WHEN_ABSENT = [
  "input_audio",
  "cache_read_audio",
  "output_audio",
  "output_image",
  "output_video",
] as const;
const TOKENS_IN = [
  "input",
  "cache_read",
  "cache_write_5m",
  "cache_write_1h",
  "input_audio",
  "input_image",
  "input_video",
] as const;
const TOKENS_OUT = ["output", "output_audio", "output_image", "output_video"] as const;

/** Fills in the units that a list does not price apart, says which of them are guesses, and what is dearest. */
function withLikes(listed: { readonly [unit in Unit]?: UnitPrice }): Pick<Price, "units" | "guessedUnits" | "dearest"> {
  const units = { ...listed };
  for (const [unit, like] of BILLED_LIKE) {
    const price = units[unit] ?? units[like];
    if (price) units[unit] = price;
  }
  const dearest = (ofUnits: readonly Unit[]): bigint =>
    ofUnits
      .flatMap((unit) => units[unit] ?? [])
      .flatMap(({ base, steps }) => [base, ...steps.map(({ price }) => price)])
      .reduce((most, price) => (price > most ? price : most), 0n);
  return {
    units,
    guessedUnits: new Set(GUESSED_WHEN_ABSENT.filter((unit) => !listed[unit])),
    dearest: { input: dearest(TOKENS_IN), output: dearest(TOKENS_OUT) },
  };
}

function withTiers(price: Price, list: string, model: string, tiers: readonly string[]): Price {
  const special = tiers.filter((tier) => !PLAIN_TIERS.has(tier));
  if (special.length === 0) return price;
  const rows = special.map((tier) =>
    TIER_ROWS.find((row) => row.list === list && row.tier === tier && (!row.model || row.model.test(model))),
  );
  return {
    ...price,
    confidence: rows.includes(undefined) ? "inferred" : price.confidence,
    unknownTiers: special.filter((_tier, i) => rows[i] === undefined),
    multipliers: rows.flatMap((row) => (row ? [parseRatio(row.multiplier)] : [])),
    version: `${price.version}+${special.join("+")}`,
  };
}

/** Whether a clause matches, and whether it names the model itself (`exact`) or only a part of its id (`prefix`). */
function matches(clause: MatchLogic, name: string): "exact" | "prefix" | undefined {
  if ("equals" in clause) return name === clause.equals ? "exact" : undefined;
  if ("regex" in clause)
    return new RegExp(clause.regex).test(name)
      ? clause.regex.startsWith("^") && clause.regex.endsWith("$")
        ? "exact"
        : "prefix"
      : undefined;
  if ("starts_with" in clause) return name.startsWith(clause.starts_with) ? "prefix" : undefined;
  if ("ends_with" in clause) return name.endsWith(clause.ends_with) ? "prefix" : undefined;
  if ("contains" in clause) return name.includes(clause.contains) ? "prefix" : undefined;
  if ("or" in clause) {
    const found = clause.or.map((one) => matches(one, name));
    return found.includes("exact") ? "exact" : found.find((one) => one !== undefined);
  }
  const found = clause.and.map((one) => matches(one, name));
  return found.includes(undefined) ? undefined : "prefix";
}

/** The model's own id, or that id with a snapshot date, `-latest` or `-preview-MM-DD` behind it: the same price. */
function isDatedName(info: ModelInfo, name: string): boolean {
  const rest = name.startsWith(info.id) ? name.slice(info.id.length) : undefined;
  return rest !== undefined && /^(|-latest|-\d{3}|[-@]\d{4}-?\d{2}-?\d{2}|-preview-\d{2}-\d{2,4})$/.test(rest);
}

function readLibraryVersion(): string {
  const require = createRequire(import.meta.url);
  const entry = require.resolve("@pydantic/genai-prices");
  const manifest: { version: string } = require(`${entry.slice(0, entry.indexOf("dist"))}package.json`);
  return manifest.version;
}
