// What a leak costs by the price list, as far as usage by the hour tells it. Pure.
import type { BilledUsage } from "../ledger/billing/bills.ts";
import { cost } from "../ledger/cost.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import type { MeteredCells, MeteredHour } from "../ledger/usage/metered-hours.ts";
import type { FoundLeak } from "./leaks.ts";

type Price = ReturnType<PriceBook["find"]>;
type Leaked = {
  /** What the provider counted in the hours of the leak, on the keys that it was found on. */
  readonly rows: readonly BilledUsage[];
  /** What was metered in them on the same. */
  readonly metered: readonly MeteredHour[];
  /** Batches are open: they are metered in other hours than they are counted in. */
  readonly hasBatches: boolean;
  readonly leak: Pick<FoundLeak, "quantity" | "straddling">;
  readonly priceOf: (model: string, hourMs: number, tier: string | undefined) => Price;
};

/** So far the two ways of counting may lie apart before the simpler one is believed: fees and discounts are in what was booked. */
const NEAR = 0.1;
/** So much may be of models that were not counted, by their names, or may belong to the hour before. */
const LOST = 0.02;

/** All that was counted by the list, less what was booked for what was metered: to the cent where prices are the list's. Where
 *  discounts or fees make that another money, tokens beyond those metered, by model and class, at their mean price. Where some
 *  of it has no price, batches are open, or long answers lie over its beginning, all tokens of the leak at the mean price of
 *  those that have one. Undefined: none has. */
export function worthOfLeak({
  rows,
  metered,
  hasBatches,
  leak: { quantity, straddling },
  priceOf,
}: Leaked): NanoUsd | undefined {
  const classes = new Map<string, { amount: bigint; tokens: number; metered: number }>();
  const at = (model: string, cell: string): { amount: bigint; tokens: number; metered: number } => {
    const name = `${model} ${cell}`;
    let found = classes.get(name);
    if (!found) classes.set(name, (found = { amount: 0n, tokens: 0, metered: 0 }));
    return found;
  };
  let [sum, tokens] = [0n, 0];
  let isWhole = !hasBatches;
  for (const { model, unit, tier, quantity: of, hourMs } of rows) {
    const each =
      model === undefined || unit === "requests" ? undefined : priceOfThousand(unit, priceOf(model, hourMs, tier));
    if (model === undefined || each === undefined) {
      isWhole = false;
      continue;
    }
    const amount = (each * BigInt(of)) / 1000n;
    sum += amount;
    tokens += of;
    const one = at(model, unit.startsWith("cache_write") ? "cache_write" : unit);
    one.amount += amount;
    one.tokens += of;
  }
  if (tokens === 0) return undefined;
  const plain = (sum * BigInt(quantity)) / BigInt(tokens);
  if (!isWhole || straddling > LOST * tokens) return plain;
  for (const { model, cells } of metered)
    for (const cell of Object.keys(cells) as (keyof MeteredCells)[]) at(model, cell).metered += cells[cell];
  let [beyond, lost] = [0n, 0];
  for (const { amount, tokens: counted, metered: known } of classes.values())
    if (counted > 0) beyond += (amount * BigInt(counted - known)) / BigInt(counted);
    else lost += known;
  // Bills may call a model otherwise.
  const likely = beyond <= 0n || lost > LOST * tokens ? plain : beyond;
  const booked = sum - metered.reduce((total, { costNanoUsd }) => total + costNanoUsd, 0n);
  return Math.abs(Number(booked - likely)) <= NEAR * Number(likely) ? booked : likely;
}

/** Of so few that no step of a price for long contexts counts: they were many requests. */
function priceOfThousand(unit: BilledUsage["unit"], price: Price): NanoUsd | undefined {
  return price && unit !== "requests" ? (cost({ [unit]: 1000 }, price).costNanoUsd ?? undefined) : undefined;
}
