// cost(usage, price) -> a line per unit. The only place where units meet money: everything else adds up lines.
import { multiply } from "./money.ts";
import type { NanoUsd, PicoUsdPerUnit } from "./money.ts";
import type { Price, UnitPrice } from "./prices.ts";
import { contextTokens, FEE_UNITS, UNITS } from "./usage.ts";
import type { Unit, Usage } from "./usage.ts";

export type CostLine = {
  readonly unit: Unit;
  readonly quantity: number;
  readonly price: PicoUsdPerUnit;
  readonly costNanoUsd: NanoUsd;
};

/** The cost of an event. `costNanoUsd` is undefined when a used unit has no price: unpriced, not zero. */
export type Cost = {
  readonly costNanoUsd: NanoUsd | undefined;
  readonly lines: readonly CostLine[];
  readonly unpricedUnits: readonly Unit[];
};

const FEES: ReadonlySet<Unit> = new Set(FEE_UNITS);

/** Prices each used unit: quantity x price x tier multipliers, rounded half up to nano-USD once a line; the cost is the
 *  sum of the lines. A long-context step goes by all input tokens and applies to the whole request. Multipliers apply
 *  to tokens, not to fees per use. */
export function cost(usage: Usage, price: Price): Cost {
  const context = contextTokens(usage);
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
    const costNanoUsd = multiply(quantity, pico, FEES.has(unit) ? [] : price.multipliers);
    lines.push({ unit, quantity, price: pico, costNanoUsd });
    sum += costNanoUsd;
  }
  return { costNanoUsd: unpricedUnits.length > 0 ? undefined : sum, lines, unpricedUnits };
}

/** The most that `inputTokens` in and `outputTokens` out can cost: every input token at the dearest input price of the
 *  book (cache writes and long context included), every output token at the dearest output price. */
export function boundCost(inputTokens: number, outputTokens: number, { dearest, multipliers }: Price): NanoUsd {
  return multiply(inputTokens, dearest.input, multipliers) + multiply(outputTokens, dearest.output, multipliers);
}

function atContext(price: UnitPrice, context: number): PicoUsdPerUnit {
  return price.steps.find((step) => context > step.above)?.price ?? price.base;
}
