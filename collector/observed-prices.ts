// Observed prices: what a unit costs by the bill, against what it was metered at. Pure. A difference is told before it
// is a variance that somebody has to look for.
import type { Comparison } from "../ledger/billing/closed-days.ts";

export type ObservedPrice = {
  readonly provider: string;
  readonly day: string;
  readonly model: string;
  readonly unit: string;
  /** USD a million units; figures for people and gauges. */
  readonly billedUsd: number;
  readonly meteredUsd: number;
  readonly ratio: number;
};

/** Fewer units than this cost too little to tell a price by. */
const LEAST_UNITS = 1_000;

/** The newest day's price of each provider, model and unit that both sides have. */
export function observedPrices(comparisons: readonly Comparison[]): ObservedPrice[] {
  const sums = new Map<
    string,
    { at: Comparison; billed: bigint; billedUnits: number; metered: bigint; meteredUnits: number }
  >();
  for (const one of comparisons) {
    const { provider, day, model, tier, unit, billedQuantity, meteredQuantity } = one;
    // A bill that is not whole yet has no price.
    if (one.billedNanoUsd <= 0n || one.variances.some(({ cause }) => cause === "late")) continue;
    if (model === undefined || unit === undefined || !billedQuantity || !meteredQuantity || one.meteredNanoUsd <= 0n)
      continue;
    const name = `${provider}\n${model}\n${unit}\n${tier ?? ""}`;
    const known = sums.get(name);
    if (known && known.at.day > day) continue;
    const sum =
      known && known.at.day === day ? known : { at: one, billed: 0n, billedUnits: 0, metered: 0n, meteredUnits: 0 };
    sum.billed += one.billedNanoUsd;
    sum.billedUnits += billedQuantity;
    sum.metered += one.meteredNanoUsd;
    sum.meteredUnits += meteredQuantity;
    sums.set(name, sum);
  }
  return [...sums.values()].flatMap(({ at, billed, billedUnits, metered, meteredUnits }) => {
    if (billedUnits < LEAST_UNITS || meteredUnits < LEAST_UNITS) return [];
    const billedUsd = Number(billed) / billedUnits / 1e3;
    const meteredUsd = Number(metered) / meteredUnits / 1e3;
    const tier = at.tier === undefined || at.tier === "" ? "" : ` (${at.tier})`;
    return [
      {
        provider: at.provider,
        day: at.day,
        model: `${at.model ?? ""}${tier}`,
        unit: at.unit ?? "",
        billedUsd,
        meteredUsd,
        ratio: billedUsd / meteredUsd,
      },
    ];
  });
}
