// Gauges of prices: the list's own and its age, models without one, and where somebody else's price differs: the
// bill's, or the cost that a provider states in its answers.
import { priceListAtMs } from "../../ledger/prices/price-list.ts";
import { readUnpriced } from "../../ledger/usage/answers.ts";
import { differenceOf, readStated } from "../../ledger/usage/stated.ts";
import { DAY_MS } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { observedPrices } from "../observed-prices.ts";
import type { GaugeSettings, MakeGauge, Refresh } from "./gauge.ts";

const MINUTE_MS = 60_000;
const UNPRICED_MS = 15 * MINUTE_MS;
/** The unit that each class of tokens is priced as. */
const PRICED = { input: "input", cache_read: "cache_read", cache_write: "cache_write_5m", output: "output" } as const;
/** Prices closer than this to ours are rounding. */
const LEAST_RATIO = 0.002;
const STATED_MS = 5 * MINUTE_MS;
const MOST_STATED = 200;

export function priceGauges(make: MakeGauge, books: CollectorBooks, settings: GaugeSettings): Refresh {
  const parts = [
    listGauges(make, books, settings),
    unpricedGauges(make, books),
    billedPriceGauges(make),
    statedCostGauges(make, books),
  ];
  return async (reading) => {
    for (const refresh of parts) await refresh(reading);
  };
}

function listGauges(make: MakeGauge, _books: CollectorBooks, { prices, providers, dataDir }: GaugeSettings): Refresh {
  const price = make(
    "keymeter_price_usd_per_million_tokens",
    "List price of models that were used this month, by token class; of short contexts, without tiers.",
    ["provider", "model", "class"],
  );
  const fetchedAt = make("keymeter_price_list_timestamp_seconds", "When the price list was fetched or published.", []);
  return async (reading) => {
    price.reset();
    for (const { group } of await reading.spend("month")) {
      const { provider = "", model = "" } = group;
      const found = prices.find(providers.priceListOf(provider, model), model, reading.nowMs);
      for (const [unit, pricedAs] of Object.entries(PRICED)) {
        const base = found?.units[pricedAs]?.base;
        if (base !== undefined) price.set({ provider, model, class: unit }, Number(base) / 1e6);
      }
    }
    fetchedAt.set({}, priceListAtMs(dataDir) / 1000);
  };
}

function unpricedGauges(make: MakeGauge, { usage }: CollectorBooks): Refresh {
  const unpriced = make("keymeter_unpriced_requests", "Attempts of the last 15 minutes that have no price.", [
    "provider",
    "model",
  ]);
  return async ({ nowMs }) => {
    unpriced.reset();
    for (const { provider, model, requests } of await readUnpriced(usage, nowMs - UNPRICED_MS))
      unpriced.set({ provider, model }, requests);
  };
}

function billedPriceGauges(make: MakeGauge): Refresh {
  const observed = make("keymeter_observed_price_ratio", "Billed price over metered price, where they differ.", [
    "provider",
    "model",
    "unit",
  ]);
  let seen = "";
  return async (reading) => {
    const mark = await reading.billsMark();
    if (mark === seen) return;
    observed.reset();
    for (const { provider, model, unit, ratio } of observedPrices(await reading.comparisons()))
      if (Math.abs(ratio - 1) > LEAST_RATIO) observed.set({ provider, model, unit }, ratio);
    seen = mark;
  };
}

/** Stated costs are read from a day of single events: once in five minutes is enough. */
function statedCostGauges(make: MakeGauge, { usage }: CollectorBooks): Refresh {
  const stated = make(
    "keymeter_stated_cost_difference_ratio",
    "How far the costs that a provider stated in its answers of the last day lie from our prices, as a share of ours.",
    ["provider", "model"],
  );
  let readMs = 0;
  return async ({ nowMs }) => {
    if (nowMs - readMs < STATED_MS) return;
    const sums = await readStated(usage, nowMs - DAY_MS);
    stated.reset();
    for (const one of sums.toSorted((a, b) => b.requests - a.requests).slice(0, MOST_STATED)) {
      const difference = differenceOf(one);
      if (difference !== undefined) stated.set({ provider: one.provider, model: one.model }, difference);
    }
    readMs = nowMs;
  };
}
