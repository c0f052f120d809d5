// Chargeback: a month's money by owner. Pure. Each owner has what was metered for it, and its share of what belongs to
// nobody: the difference between a provider's bill and what was metered there (fees, tax, credits, other prices, use
// round the proxy), spread over the provider's metered cost in proportion. Shares add up to the difference exactly.
import { allocate } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";

export const OWNERS = ["team", "project", "env", "feature", "user", "key"] as const;
export type Owner = (typeof OWNERS)[number];

export type OwnedCost = {
  readonly owner: readonly string[];
  readonly provider: string;
  readonly meteredNanoUsd: NanoUsd;
};
export type Charge = {
  readonly owner: readonly string[];
  readonly meteredNanoUsd: NanoUsd;
  readonly sharedNanoUsd: NanoUsd;
  readonly totalNanoUsd: NanoUsd;
};

/** `differences`: billed minus metered of each provider's closed days. What is billed by a provider that metered
 *  nothing has no owner: it stands under empty names. */
export function chargeback(
  costs: readonly OwnedCost[],
  differences: ReadonlyMap<string, NanoUsd>,
  by: number,
): Charge[] {
  const charges = new Map<string, { owner: readonly string[]; metered: NanoUsd; shared: NanoUsd }>();
  const at = (owner: readonly string[]): { owner: readonly string[]; metered: NanoUsd; shared: NanoUsd } => {
    const name = JSON.stringify(owner);
    let charge = charges.get(name);
    if (!charge) charges.set(name, (charge = { owner, metered: 0n, shared: 0n }));
    return charge;
  };
  for (const { owner, meteredNanoUsd } of costs) at(owner).metered += meteredNanoUsd;
  for (const [provider, difference] of differences) {
    const own = costs.filter((one) => one.provider === provider && one.meteredNanoUsd > 0n);
    if (own.length === 0) {
      at(Array<string>(by).fill("")).shared += difference;
      continue;
    }
    const parts = allocate(
      difference,
      own.map((one) => one.meteredNanoUsd),
    );
    own.forEach((one, i) => {
      at(one.owner).shared += parts[i] ?? 0n;
    });
  }
  return [...charges.values()]
    .map(({ owner, metered, shared }) => ({
      owner,
      meteredNanoUsd: metered,
      sharedNanoUsd: shared,
      totalNanoUsd: metered + shared,
    }))
    .toSorted((a, b) => (a.totalNanoUsd === b.totalNanoUsd ? 0 : a.totalNanoUsd > b.totalNanoUsd ? -1 : 1));
}
