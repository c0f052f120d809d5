// The price book: price list + served model + time -> unit prices, with a version and how sure we are of the match.
// The base is the data of @pydantic/genai-prices, which also matches by prefix; a match that is not exact is `inferred`
// and stays visible as such. Our own rows go first. All prices are pico-USD per unit.
import type { MatchLogic, ModelInfo, ModelPrice, TieredPrices } from "@pydantic/genai-prices";
import { createGlob } from "../glob.ts";
import { parseRatio, parseUsdEach, parseUsdPerMillion, parseUsdPerThousand } from "../money.ts";
import type { PicoUsdPerUnit, Ratio } from "../money.ts";
import { builtInModels, LIBRARY_VERSION } from "./built-in.ts";
import { FEE_ROWS, LIMIT_ROWS, MULTIPLE_ROWS, OWN_PRICE_ROWS, PEAK_ROWS, TIER_ROWS } from "./rows.ts";
import type { PriceRow } from "./rows.ts";
import type { LineUnit, TokenClass, Unit } from "../usage.ts";

/** `exact`: the list names this model. `inferred`: it only names a family that the model's id starts with, or a tier
 *  of the request has no price of its own. */
export type PriceConfidence = "exact" | "inferred";

/** A unit's price, and the price of the whole request once its context is larger than `above` tokens. */
export type UnitPrice = {
  readonly base: PicoUsdPerUnit;
  /** What `base` is the price of, where that is no single unit: an hour has 3,600 seconds, `[1/3600]`. */
  readonly per?: readonly Ratio[];
  readonly steps: readonly { readonly above: number; readonly price: PicoUsdPerUnit }[];
};

/** Changes the price of every token, but for the classes that it excepts. */
type Multiplier = { readonly ratio: Ratio; readonly except?: readonly TokenClass[] | undefined };

export type Price = {
  readonly version: string;
  readonly confidence: PriceConfidence;
  readonly units: { readonly [unit in Unit]?: UnitPrice };
  /** Multipliers of token prices: one for each tier asked for, and the discount that was negotiated. */
  readonly multipliers: readonly Multiplier[];
  /** Multipliers of every fee: tiers change none, a discount does. */
  readonly feeMultipliers: readonly Ratio[];
  /** Tiers asked for that have no row: what they cost is not known. */
  readonly unknownTiers: readonly string[];
  /** Units priced like another one for want of a price of their own, where that is a guess. */
  readonly guessedUnits: ReadonlySet<LineUnit>;
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
/** 0.001 USD per million: half of what the cheapest token of any list costs. */
const LEAST_USD_PER_MILLION = 1_000n;
const MOST_USD_EACH = 100n * 1_000_000_000_000n;
const PLAIN_TIERS = new Set(["default", "standard", "auto", "on_demand", "not_available", "geo:global"]);
/** A tier that picks a price of its own in our rows: "variant:hd/1024x1024". */
const VARIANT = "variant:";
const MOST_CACHED_MODELS = 5_000;

/** A price of the list, which holds floats, to whole pico-USD: six decimals per million, nine per thousand. Lists that
 *  hold thirds (0.083333333333) lose less than a pico-USD per unit here. */
const million = (value: number): bigint => parseUsdPerMillion(value.toFixed(6));
const thousand = (value: number): bigint => parseUsdPerThousand(value.toFixed(9));
const each = (value: number): bigint => parseUsdEach(value.toFixed(12));

/** The library's price keys that we take over, and the unit each is the price of. */
const LIBRARY_UNITS: {
  readonly [priceKey: string]: { unit: Unit; parse: (value: number) => bigint; per?: readonly Ratio[] };
} = {
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
  requests_kcount: { unit: "request", parse: thousand },
  // What a list says of an hour of sound holds for what goes in; none of them prices a second.
  audio_hours: { unit: "audio_second", parse: each, per: [{ numerator: 1n, denominator: 3_600n }] },
  input_audio_hours: { unit: "audio_second", parse: each, per: [{ numerator: 1n, denominator: 3_600n }] },
};

/** Steps that the library has one token too low: the provider's page says "above 272,000 tokens". */
const LIST_STEPS: ReadonlyMap<number, number> = new Map([[271_999, 272_000]]);

/** A unit that a list does not price apart is billed like this one: pictures and video as text, a cached token of a
 *  model without a cache price as a plain one. */
const BILLED_LIKE: readonly (readonly [Unit, Unit])[] = [
  ["input_tool", "input"],
  ["cache_read", "input"],
  // A list's plain "cache write" is the short one; a model without a price for it bills what it writes as input.
  ["cache_write_30m", "cache_write_5m"],
  ["cache_write_30m", "input"],
  ["cache_write_12h", "input"],
  ["input_image", "input"],
  ["input_video", "input"],
  ["input_audio", "input"],
  ["cache_read_image", "cache_read"],
  ["cache_read_audio", "cache_read"],
  ["output_image", "output"],
  ["output_video", "output"],
  ["output_audio", "output"],
];

/** What was negotiated: `percent` off the list prices of the models that match, tokens and fees alike. */
export type Discount = {
  readonly list: string;
  /** A glob such as "gpt-5*"; absent: all models. */
  readonly model?: string | undefined;
  /** Decimal, such as "12.5". */
  readonly percent: string;
};

/** Builds the book. `userRows` (keymeter.yaml) win over our rows, ours over the list's: the library's, or a newer one.
 *  Throws a RangeError that names the row when a price is no decimal or out of range. */
export function createPriceBook(
  userRows: readonly PriceRow[] = [],
  discounts: readonly Discount[] = [],
  newer?: PriceList,
): PriceBook {
  const rows = [...userRows, ...OWN_PRICE_ROWS].map(datedFromRow);
  const reductions = discounts.map(readDiscount);
  /** By model, then by list. */
  const cache = new Map<string, Map<string, readonly DatedPrice[]>>();

  return {
    find(list, model, atMs, tiers = []) {
      const variant = tiers.find((tier) => tier.startsWith(VARIANT));
      const name = variant === undefined ? model : `${model}/${variant.slice(VARIANT.length)}`;
      let byList = cache.get(name);
      if (!byList) {
        if (cache.size >= MOST_CACHED_MODELS) cache.clear();
        cache.set(name, (byList = new Map()));
      }
      let dated = byList.get(list);
      if (!dated) byList.set(list, (dated = datedPrices(rows, newer, list, model, name)));
      const current = dated.find((price) => price.fromMs <= atMs);
      const tiered = current && withTiers(current.price, list, model, tiers);
      const price = tiered && atHour(tiered, list, model, atMs);
      const reduction = reductions.find((one) => one.list === list && one.matches(model));
      return price && reduction ? reduced(price, reduction) : price;
    },
  };
}

/** A list that is newer than the library's: models by list id. */
export type PriceList = {
  /** Names the list in the price version of each event. */
  readonly version: string;
  models(list: string): readonly ModelInfo[] | undefined;
};

type DatedPrice = { readonly fromMs: number; readonly price: Price };

/** A price of one's own for a model that has none: held and booked as inferred. */
export function ceilingPrice(usd: {
  readonly inputUsdPerMillion: string;
  readonly outputUsdPerMillion: string;
}): Price {
  const { dated } = datedFromRow({
    list: "policy",
    model: "ceiling",
    usdPerMillion: { input: usd.inputUsdPerMillion, output: usd.outputUsdPerMillion },
    source: "the key's policy",
  });
  return { ...dated.price, confidence: "inferred" };
}

/** The prices of one model, newest first. `name` is the model's, or that of a variant of it, which only our rows
 *  know. */
function datedPrices(
  rows: readonly { row: PriceRow; dated: DatedPrice }[],
  newer: PriceList | undefined,
  list: string,
  model: string,
  name: string,
): readonly DatedPrice[] {
  const named = (wanted: string): DatedPrice[] =>
    rows.filter(({ row }) => row.list === list && row.model === wanted).map(({ dated }) => dated);
  const variants = name === model ? [] : named(name);
  return (variants.length > 0 ? variants : [...named(model), ...listedPrices(newer, list, model)]).toSorted(
    (a, b) => b.fromMs - a.fromMs,
  );
}

function datedFromRow(row: PriceRow): { row: PriceRow; dated: DatedPrice } {
  const units: { [unit in Unit]?: UnitPrice } = {};
  const { longContext } = row;
  const check = (unit: string, text: string, price: PicoUsdPerUnit, most: bigint, what: string): PicoUsdPerUnit => {
    if (price < 0n || price > most)
      throw new RangeError(`prices: ${row.list}/${row.model} ${unit}: ${text} is out of range; the unit is ${what}`);
    return price;
  };
  const perMillion = (unit: string, text: string): PicoUsdPerUnit => {
    const price = check(unit, text, parseUsdPerMillion(text), MOST_USD_PER_MILLION, "USD per million tokens");
    if (price > 0n && price < LEAST_USD_PER_MILLION)
      throw new RangeError(
        `prices: ${row.list}/${row.model} ${unit}: ${text} is below every price that is known; the unit is USD per million tokens, not per token`,
      );
    return price;
  };
  for (const [unit, text] of Object.entries(row.usdPerMillion ?? {})) {
    const dearer = longContext?.usdPerMillion[unit as TokenClass];
    units[unit as Unit] = {
      base: perMillion(unit, text),
      steps: longContext && dearer !== undefined ? [{ above: longContext.above, price: perMillion(unit, dearer) }] : [],
    };
  }
  for (const [unit, text] of Object.entries(row.usdEach ?? {}))
    units[unit as Unit] = { base: check(unit, text, parseUsdEach(text), MOST_USD_EACH, "USD each"), steps: [] };
  const price: Price = {
    version: `own:${row.from ?? "always"}:${row.list}/${row.model}`,
    confidence: row.isGuess ? "inferred" : "exact",
    ...complete(units, row.list, row.model),
    multipliers: [],
    feeMultipliers: [],
    unknownTiers: [],
    contextWindow: row.contextWindow,
    maxOutputTokens: row.maxOutputTokens,
  };
  return { row, dated: { fromMs: row.from ? Date.parse(`${row.from}T00:00:00Z`) : 0, price } };
}

function listedPrices(newer: PriceList | undefined, list: string, model: string): DatedPrice[] {
  const models = newer?.models(list) ?? builtInModels(list);
  const listVersion = newer?.models(list) ? newer.version : LIBRARY_VERSION;
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
      version: `${listVersion}:${list}/${info.id}${from ? `@${from}` : ""}`,
      confidence,
      ...complete(libraryUnits(prices), list, name),
      multipliers: [],
      feeMultipliers: [],
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
      ...(known.per ? { per: known.per } : {}),
      steps: tiered.tiers
        .map((tier) => ({ above: LIST_STEPS.get(tier.start) ?? tier.start, price: known.parse(tier.price) }))
        .toSorted((a, b) => b.above - a.above),
    };
  }
  return units;
}

/** Sound at the price of text is a guess, and so is a picture that is made; one that is read is how most lists mean
 *  it. */
const GUESSED_WHEN_ABSENT = [
  "input_audio",
  "cache_read_audio",
  "output_audio",
  "output_image",
  "output_video",
] as const;
/** Models that write nothing but pictures: what their output costs is what a picture costs. */
const DRAWS = /^(chat)?gpt-image-/;

/** Fills in the units that a list does not price apart, and says which of them are guesses. */
function complete(
  listed: { readonly [unit in Unit]?: UnitPrice },
  list: string,
  model: string,
): Pick<Price, "units" | "guessedUnits"> {
  const units = { ...listed };
  const guessed = new Set<LineUnit>(GUESSED_WHEN_ABSENT.filter((unit) => !listed[unit]));
  if (DRAWS.test(model)) guessed.delete("output_image");
  for (const row of FEE_ROWS) {
    if (row.list !== list || units[row.unit] || !row.model.test(model)) continue;
    units[row.unit] = { base: parseUsdEach(row.usdEach), steps: [] };
    if (row.isMost) guessed.add(row.unit);
  }
  for (const { list: of, unit, of: base, times } of MULTIPLE_ROWS) {
    const price = units[base] ?? units.cache_write_5m;
    if (of !== list || units[unit] || !price) continue;
    units[unit] = multiple(price, times);
    guessed.add(unit);
  }
  for (const [unit, like] of BILLED_LIKE) {
    const price = units[unit] ?? units[like];
    if (price) units[unit] = price;
  }
  return { units, guessedUnits: guessed };
}

function multiple({ base, steps, ...rest }: UnitPrice, times: bigint): UnitPrice {
  return { ...rest, base: base * times, steps: steps.map(({ above, price }) => ({ above, price: price * times })) };
}

function withTiers(price: Price, list: string, model: string, tiers: readonly string[]): Price {
  if (tiers.length === 0) return price;
  const special = tiers.filter((tier) => !PLAIN_TIERS.has(tier) && !tier.startsWith(VARIANT));
  if (special.length === 0) return price;
  const rows = special.map((tier) =>
    TIER_ROWS.find((row) => row.list === list && row.tier === tier && (!row.model || row.model.test(model))),
  );
  return {
    ...price,
    confidence: rows.some((row) => row?.isGuess ?? row === undefined) ? "inferred" : price.confidence,
    unknownTiers: special.filter((_tier, i) => rows[i] === undefined),
    multipliers: rows.flatMap((row) => (row ? [{ ratio: parseRatio(row.multiplier), except: row.except }] : [])),
    version: `${price.version}+${special.join("+")}`,
  };
}

/** The price at an hour in which the list is dearer. */
function atHour(price: Price, list: string, model: string, atMs: number): Price {
  const row = PEAK_ROWS.find((one) => one.list === list && one.model.test(model) && isPeak(one, atMs));
  if (!row) return price;
  return {
    ...price,
    confidence: "inferred",
    multipliers: [...price.multipliers, { ratio: parseRatio(row.multiplier) }],
    version: `${price.version}+peak`,
  };
}

function isPeak({ hours, from }: (typeof PEAK_ROWS)[number], atMs: number): boolean {
  const at = new Date(atMs);
  return (
    at.getUTCDay() % 6 !== 0 &&
    hours.some(([first, end]) => first <= at.getUTCHours() && at.getUTCHours() < end) &&
    Date.parse(`${from}T00:00:00Z`) <= atMs
  );
}

type Reduction = {
  readonly list: string;
  readonly percent: string;
  readonly ratio: Ratio;
  matches(model: string): boolean;
};

function readDiscount({ list, model, percent }: Discount): Reduction {
  const { numerator, denominator } = parseRatio(percent);
  if (numerator < 0n || numerator > 100n * denominator)
    throw new RangeError(`discounts: ${list} ${model ?? "*"}: ${percent} is no percentage from 0 to 100`);
  return {
    list,
    percent,
    ratio: { numerator: 100n * denominator - numerator, denominator: 100n * denominator },
    matches: createGlob(model ?? "*"),
  };
}

function reduced(price: Price, { percent, ratio }: Reduction): Price {
  return {
    ...price,
    multipliers: [...price.multipliers, { ratio }],
    feeMultipliers: [...price.feeMultipliers, ratio],
    version: `${price.version}-${percent}%`,
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
  const id = info.id.replace(/-(latest|0)$/, "");
  const rest = name.startsWith(id) ? name.slice(id.length) : undefined;
  return rest !== undefined && /^(|-latest|-\d{3}|[-@]\d{4}-?\d{2}-?\d{2}|-preview-\d{2}-\d{2,4})$/.test(rest);
}
