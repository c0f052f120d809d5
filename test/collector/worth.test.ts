// What a leak costs, against figures that stand here: with discounts, fees, long contexts, batches, models of other names and without
// prices.
import { describe, expect, it } from "vitest";
import { worthOfLeak } from "../../collector/worth.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import type { MeteredHour } from "../../ledger/usage/metered-hours.ts";

const HOUR = Date.parse("2026-10-02T10:00:00Z");
const MODEL = "gpt-4o-mini";
const prices = createPriceBook();
const priceOf = (model: string, hourMs: number, tier: string | undefined) =>
  prices.find("openai", model, hourMs, tier ? [tier] : []);
/** USD of a million tokens of gpt-4o-mini. */
const [INPUT, OUTPUT] = [0.15, 0.6];

const counted = (unit: "input" | "output", quantity: number, model = MODEL) => ({
  hourMs: HOUR,
  billedKey: "key_1",
  project: undefined,
  model,
  tier: undefined,
  unit,
  quantity,
});
const metered = (input: number, output: number, usd: number, model = MODEL): MeteredHour => ({
  hourMs: HOUR,
  credential: "fp_1",
  model,
  requests: 10,
  tokens: input + output,
  cells: { input, cache_read: 0, cache_write: 0, output },
  costNanoUsd: BigInt(Math.round(usd * 1e9)),
  unsure: 0,
});
/** In USD. */
const worth = (
  rows: readonly ReturnType<typeof counted>[],
  ours: readonly MeteredHour[],
  quantity: number,
  hasBatches = false,
  straddling = 0,
): number => Number(worthOfLeak({ rows, metered: ours, hasBatches, leak: { quantity, straddling }, priceOf })) / 1e9;

// Ten million tokens in, a million out through Keymeter; a million in and two out past it.
const ROWS = [counted("input", 11_000_000), counted("output", 3_000_000)];
const OURS_USD = 10 * INPUT + 1 * OUTPUT;
const LEAK_USD = 1 * INPUT + 2 * OUTPUT;

describe("what a leak costs", () => {
  it.each([
    ["at the list's prices", OURS_USD],
    ["where the meter has a discount of a fifth", 0.8 * OURS_USD],
    ["where fees are booked beside tokens", OURS_USD + 1.4],
    ["where half of it was at half the price, as a batch", 0.75 * OURS_USD],
  ])("%s: what was counted beyond what was metered, by model and class", (_what, bookedUsd) => {
    expect(worth(ROWS, [metered(10_000_000, 1_000_000, bookedUsd)], 3_000_000)).toBeCloseTo(LEAK_USD, 6);
  });

  it("is what was booked less, to the nano-dollar, where both are near: an answer that nobody saw is in it as it was held", () => {
    const ours = [metered(10_000_000, 990_000, OURS_USD)];
    expect(worth(ROWS, ours, 3_010_000)).toBeCloseTo(LEAK_USD, 9);
  });

  it("of a model that bills call otherwise, or while batches are open, is its tokens at the mean price", () => {
    const mean = (11 * INPUT + 3 * OUTPUT) / 14;
    expect(worth(ROWS, [metered(10_000_000, 1_000_000, 9, "my-deployment")], 3_000_000)).toBeCloseTo(3 * mean, 6);
    expect(worth(ROWS, [], 3_000_000, true)).toBeCloseTo(3 * mean, 6);
    expect(worth(ROWS, [], 3_000_000, false, 1_000_000)).toBeCloseTo(3 * mean, 6);
    expect(worth([...ROWS, counted("input", 5_000_000, "nobody-knows")], [], 3_000_000)).toBeCloseTo(3 * mean, 6);
    expect(
      worthOfLeak({ rows: [], metered: [], hasBatches: false, leak: { quantity: 1, straddling: 0 }, priceOf }),
    ).toBeUndefined();
  });

  it("knows no long context: an hour's sum is of many requests", () => {
    // Its list doubles a request's input beyond 272,000 tokens.
    const model = "gpt-5.4";
    const long = prices.find("openai", model, HOUR, []);
    const each = Number(long?.units.input?.base ?? 0n) / 1e9;
    expect(long?.units.input?.steps?.length ?? 0).toBeGreaterThan(0);
    expect(worth([counted("input", 900_000, model)], [], 900_000)).toBeCloseTo(each * 900, 6);
  });
});
