// Gauges of leaks: use of a provider's key that did not come through the proxy, and what it costs. There is no line:
// any of it is worth a message.
import { isOpen, readLeaks } from "../../ledger/billing/leaks.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import { HOUR_MS } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import type { MakeGauge, Refresh } from "./gauge.ts";

/** A leak that brought nothing for so long has stopped; the list still has it. */
const LEAK_MS = 30 * HOUR_MS;
const MOST_LEAKS = 50;

export function leakGauges(make: MakeGauge, { billing }: CollectorBooks): Refresh {
  const leak = ["provider", "billed_key", "kind"] as const;
  const quantity = make("keymeter_leak_quantity", "Use of a provider key that did not come through the proxy.", [
    ...leak,
    "unit",
  ]);
  const usd = make("keymeter_leak_usd", "What that use costs by the price list.", leak);
  return async ({ nowMs }) => {
    quantity.reset();
    usd.reset();
    const open = (await readLeaks(billing)).filter((one) => isOpen(one) && nowMs - one.lastHourMs < LEAK_MS);
    for (const one of open.slice(0, MOST_LEAKS)) {
      const labels = { provider: one.provider, billed_key: one.billedKey, kind: one.kind };
      quantity.set({ ...labels, unit: one.unit }, one.quantity);
      if (one.costNanoUsd !== undefined) usd.set(labels, toUsdNumber(one.costNanoUsd));
    }
  };
}
