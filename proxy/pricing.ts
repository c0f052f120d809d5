// What usage costs: at the price of the model and the tier that answered, as it was at the instant of the reservation;
// by the provider's own figure where it stated one. Pure.
import { cost, statedLine } from "../ledger/cost.ts";
import type { CostLine } from "../ledger/cost.ts";
import { attemptAtMs } from "../ledger/ids.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Price, PriceBook } from "../ledger/prices/price-book.ts";
import { addUsage, contextTokens } from "../ledger/usage.ts";
import type { Usage } from "../ledger/usage.ts";
import type { UsageEvent } from "../ledger/usage/usage-event.ts";
import type { Admission } from "./admit.ts";
import type { Reading } from "./dialects/reading.ts";

export type Priced = {
  readonly usage?: Usage;
  readonly costNanoUsd: NanoUsd | undefined;
  readonly lines: readonly CostLine[];
  readonly price: Price | undefined;
  readonly confidence: UsageEvent["priceConfidence"];
};

export const NOTHING_OWED: Priced = { costNanoUsd: 0n, lines: [], price: undefined, confidence: undefined };

/** Prices by the served model and the served tier, at the instant of the reservation; the requested model's price, as
 *  inferred, when the served one is in no list. Passes of other models are priced as theirs. */
export function priceUsage(
  usage: Usage,
  reading: Reading | undefined,
  admission: Admission,
  tiers: readonly string[],
  prices: PriceBook,
): Priced {
  const { find, served, price } = findPrice(reading, admission, tiers, prices);
  if (!price) return { costNanoUsd: undefined, lines: [], price: undefined, confidence: "unpriced" };

  const extra = reading?.extra ?? [];
  const used = price.units.request && !admission.asked.call.isResult ? { ...usage, request: 1 } : usage;
  const context = reading?.context ?? contextOf(used, reading, admission, price);
  let isUnpriced = false;
  let isInferred = served === undefined;
  let lines: readonly CostLine[] = [];
  const add = (part: Usage, at: Price | undefined, ofContext: number | undefined): void => {
    const owed = at && cost(part, at, ofContext);
    if (!owed || owed.unpricedUnits.length > 0) isUnpriced = true;
    if (!owed) return;
    if (at.confidence === "inferred" || owed.lines.some(({ unit }) => at.guessedUnits.has(unit))) isInferred = true;
    lines = lines.length === 0 ? owed.lines : [...lines, ...owed.lines];
  };
  add(used, price, context);
  for (const pass of extra)
    add(pass.usage, pass.model === undefined ? price : find(pass.model, pass.tiers), pass.context);
  const isLong =
    (reading?.isContextGuess === true || (reading?.passes ?? 1) > 1) &&
    Object.values(price.units).some(({ steps }) =>
      steps.some(({ above }) => longestPass(used, admission, price) > above),
    );
  return {
    usage: extra.reduce((sum, pass) => addUsage(sum, pass.usage), used),
    // With a part that has no price the rest is still a sum that is owed: a lower bound, marked as unpriced.
    costNanoUsd: lines.reduce((sum, line) => sum + line.costNanoUsd, 0n),
    lines,
    price,
    confidence: isUnpriced ? "unpriced" : isInferred || isLong ? "inferred" : "exact",
  };
}

/** What an answer is priced at, as far as it has said under which name and tier it comes. */
export function priceSoFar(admission: Admission, reading: Reading, prices: PriceBook): Price | undefined {
  return findPrice(reading, admission, tiersOf(admission, reading), prices).price;
}

/** The provider's own figure is what is owed, and our lines stand beside it. Nothing at all for something that was
 *  used, or less than half of ours, is not believed: then ours is booked, and what was stated is kept beside it. */
export function asStated(ours: Priced, statedNanoUsd: NanoUsd, isUsed: boolean): Priced {
  const sum = ours.lines.reduce((total, line) => total + line.costNanoUsd, 0n);
  if ((statedNanoUsd === 0n && isUsed) || statedNanoUsd * 2n < sum) return ours;
  const line = statedLine(statedNanoUsd, sum);
  return { ...ours, costNanoUsd: statedNanoUsd, lines: line ? [...ours.lines, line] : ours.lines, confidence: "exact" };
}

/** No more than a request can cost. What is cut has no lines that add up to it. */
export function atMost(priced: Priced, boundNanoUsd: NanoUsd | undefined): Priced {
  const { costNanoUsd } = priced;
  if (boundNanoUsd === undefined || costNanoUsd === undefined || costNanoUsd <= boundNanoUsd) return priced;
  return { ...priced, costNanoUsd: boundNanoUsd, lines: [] };
}

/** The tiers that the answer names, else those that were asked for; and those of the place. */
export function tiersOf({ asked: { call } }: Admission, reading: Reading | undefined): readonly string[] {
  return [...(reading && reading.tiers.length > 0 ? reading.tiers : call.tiers), ...(call.placeTiers ?? [])];
}

/** The model that answered, as it can stand in tables and labels. */
export function nameOf(reading: Reading | undefined): string | undefined {
  return reading?.servedModel?.replace(/[^\x21-\x7e]/g, "?").slice(0, MOST_NAME);
}

const MOST_NAME = 200;

type Found = {
  readonly find: (model: string, more?: readonly string[]) => Price | undefined;
  readonly served: Price | undefined;
  readonly price: Price | undefined;
};

function findPrice(
  reading: Reading | undefined,
  { attemptId, asked: { provider, priceList, call }, held: { ceiling } }: Admission,
  tiers: readonly string[],
  prices: PriceBook,
): Found {
  const find = (model: string, more: readonly string[] = []): Price | undefined =>
    prices.find(priceList, model, attemptAtMs(attemptId), more.length > 0 ? [...tiers, ...more] : tiers);
  // A deployment's name stands for its model where it was asked for; what answered names itself.
  const requested = provider.modelOf(call.model);
  const name = nameOf(reading);
  const served = find(name === undefined ? requested : (provider.pricedAs?.(requested, name) ?? name));
  return { find, served, price: served ?? find(requested) ?? ceiling };
}

/** How long the context was that long-context prices go by. Of several passes of which only the sum is known, their
 *  average; and never longer than one pass can be. */
function contextOf(usage: Usage, reading: Reading | undefined, admission: Admission, price: Price): number {
  return Math.min(Math.ceil(contextTokens(usage) / (reading?.passes ?? 1)), longestPass(usage, admission, price));
}

function longestPass(usage: Usage, { asked: { call } }: Admission, price: Price): number {
  return Math.min(contextTokens(usage), call.longestContext ?? price.contextWindow ?? Number.MAX_SAFE_INTEGER);
}
