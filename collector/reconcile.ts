// Reconciliation: metered against billed, per UTC day, provider and model. Pure. Billed minus metered is the variance; each
// gets a cause out of a closed list.
import type { Variance, VarianceCause } from "../ledger/bills.ts";
import type { NanoUsd } from "../ledger/money.ts";

export type MeteredAmount = { readonly model: string; readonly costNanoUsd: NanoUsd };
/** `lineItem` as the provider writes it: "<model>, <kind>" or a product's name. */
export type BilledAmount = { readonly lineItem: string; readonly amountNanoUsd: NanoUsd };

/** Differences up to this much of a cent are the providers' own rounding of rows. */
const ROUNDING_NANO_USD = 10_000_000n;
/** Bills of the last days still move. */
const LATE_DAYS = 3;
const DAY_MS = 86_400_000;

/** Compares one day. `nowMs` decides which days are still late. */
export function reconcile(
  provider: string,
  day: string,
  metered: readonly MeteredAmount[],
  billed: readonly BilledAmount[],
  nowMs: number,
): Variance[] {
  const sums = new Map<string, { metered: NanoUsd; billed: NanoUsd }>();
  const at = (model: string): { metered: NanoUsd; billed: NanoUsd } => {
    let sum = sums.get(model);
    if (!sum) sums.set(model, (sum = { metered: 0n, billed: 0n }));
    return sum;
  };
  for (const { model, costNanoUsd } of metered) at(model).metered += costNanoUsd;
  const names = new Set(sums.keys());
  for (const { lineItem, amountNanoUsd } of billed) at(modelOf(lineItem, names)).billed += amountNanoUsd;
  return [...sums].map(([model, sum]) => ({
    provider,
    day,
    model,
    meteredNanoUsd: sum.metered,
    billedNanoUsd: sum.billed,
    cause: causeOf(sum.metered, sum.billed, nowMs - Date.parse(`${day}T00:00:00Z`)),
    madeAtMs: nowMs,
  }));
}

/** The metered model that a line item names: exactly, or with a snapshot date on one side; else the name as billed. */
function modelOf(lineItem: string, metered: ReadonlySet<string>): string {
  const name = lineItem.split(",")[0]?.trim() ?? "";
  if (metered.has(name)) return name;
  const undated = (model: string): string => model.replace(/-\d{4}-\d{2}-\d{2}$/, "");
  const matches = [...metered].filter((model) => undated(model) === undated(name));
  return matches.length === 1 && matches[0] !== undefined ? matches[0] : name;
}

function causeOf(metered: NanoUsd, billed: NanoUsd, ageMs: number): VarianceCause {
  const difference = billed - metered;
  if (difference === 0n) return "none";
  if (difference <= ROUNDING_NANO_USD && difference >= -ROUNDING_NANO_USD) return "rounding";
  if (metered === 0n) return "unmetered";
  if (difference < 0n && ageMs < LATE_DAYS * DAY_MS) return "late";
  return billed === 0n ? "unbilled" : "unknown";
}
