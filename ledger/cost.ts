// cost(usage, price) -> a line per unit. The only place where units meet money: everything else adds up lines.
import { multiply } from "./money.ts";
import type { NanoUsd, PicoUsdPerUnit, Ratio } from "./money.ts";
import type { Price, UnitPrice } from "./prices/price-book.ts";
import { contextTokens, INPUT_CLASSES, isFee, OUTPUT_CLASSES, UNITS } from "./usage.ts";
import type { LineUnit, TokenClass, Unit, Usage } from "./usage.ts";

export type CostLine = {
  readonly unit: LineUnit;
  readonly quantity: number;
  readonly price: PicoUsdPerUnit;
  /** Tiers, discounts and what the price is per: one exact fraction; undefined for 1. */
  readonly multiplier?: Ratio | undefined;
  readonly costNanoUsd: NanoUsd;
};

/** The cost of an event. `costNanoUsd` is undefined when a used unit has no price: unpriced, not zero. */
export type Cost = {
  readonly costNanoUsd: NanoUsd | undefined;
  readonly lines: readonly CostLine[];
  readonly unpricedUnits: readonly Unit[];
};

/** Prices each used unit: quantity x price x tier multipliers, rounded half up to nano-USD once a line; the cost is the
 *  sum of the lines. A long-context step goes by all input tokens and applies to the whole request; `context` says how
 *  many they were where `usage` sums up many requests. Multipliers apply to tokens, not to fees per use. */
export function cost(usage: Usage, price: Price, context = contextTokens(usage)): Cost {
  const lines: CostLine[] = [];
  const unpricedUnits: Unit[] = [];
  let sum = 0n;
  for (const unit of UNITS) {
    const quantity = usage[unit];
    if (!quantity) continue;
    const unitPrice = price.units[unit];
    if (!unitPrice) {
      unpricedUnits.push(unit);
      continue;
    }
    const pico = atContext(unitPrice, context);
    const multiplier = product(multipliersOf(unit, unitPrice, price));
    const costNanoUsd = multiplier ? multiply(quantity, pico, [multiplier]) : multiply(quantity, pico);
    lines.push({ unit, quantity, price: pico, multiplier, costNanoUsd });
    sum += costNanoUsd;
  }
  return { costNanoUsd: unpricedUnits.length > 0 ? undefined : sum, lines, unpricedUnits };
}

/** One nano-USD, in pico-USD. */
const NANO_USD = 1_000n;

/** The line that makes of a sum what the provider says that all of it cost; undefined where both agree. */
export function statedLine(statedNanoUsd: NanoUsd, sumNanoUsd: NanoUsd): CostLine | undefined {
  const costNanoUsd = statedNanoUsd - sumNanoUsd;
  if (costNanoUsd === 0n) return undefined;
  const isMore = costNanoUsd > 0n;
  return {
    unit: "stated",
    quantity: Number(isMore ? costNanoUsd : -costNanoUsd),
    price: isMore ? NANO_USD : -NANO_USD,
    costNanoUsd,
  };
}

/** The most that `inputTokens` in and `outputTokens` out can cost, if they are of these classes: each at the dearest
 *  price of one of them that a context of so many tokens reaches. */
export function boundCost(
  inputTokens: number,
  outputTokens: number,
  price: Price,
  inputClasses: readonly TokenClass[] = INPUT_CLASSES,
  outputClasses: readonly TokenClass[] = OUTPUT_CLASSES,
): NanoUsd {
  // What excepts a class makes the rest cheaper; the bound does not believe it.
  const ratios = price.multipliers.flatMap(({ ratio, except }) => (except ? [] : [ratio]));
  return (
    multiply(inputTokens, dearest(price, inputClasses, inputTokens), ratios) +
    multiply(outputTokens, dearest(price, outputClasses, inputTokens), ratios)
  );
}

/** The dearest price of one of these classes that a context of so many tokens reaches. */
function dearest({ units }: Price, classes: readonly TokenClass[], context: number): PicoUsdPerUnit {
  let most = 0n;
  for (const unit of classes) {
    const listed = units[unit];
    if (!listed) continue;
    if (listed.base > most) most = listed.base;
    for (const { above, price } of listed.steps) if (above < context && price > most) most = price;
  }
  return most;
}

/** What a unit's price is multiplied by: tiers, discounts, and what the price is per. */
export function multipliersOf(
  unit: Unit,
  { per }: UnitPrice,
  { multipliers, feeMultipliers }: Price,
): readonly Ratio[] {
  if (!isFee(unit) && multipliers.length === 0) return NO_RATIOS;
  if (!isFee(unit))
    return multipliers.flatMap(({ ratio, except }) => (except?.includes(unit as TokenClass) ? [] : [ratio]));
  return per ? [...feeMultipliers, ...per] : feeMultipliers;
}

const NO_RATIOS: readonly Ratio[] = [];

function product(ratios: readonly Ratio[]): Ratio | undefined {
  if (ratios.length === 0) return undefined;
  const [first, ...others] = ratios;
  return (
    first &&
    others.reduce(
      (a, b) => ({ numerator: a.numerator * b.numerator, denominator: a.denominator * b.denominator }),
      first,
    )
  );
}

function atContext(price: UnitPrice, context: number): PicoUsdPerUnit {
  return price.steps.find((step) => context > step.above)?.price ?? price.base;
}
