// Arithmetic against an oracle of rational numbers: exact, rounded once, half up, never through a float.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { boundCost, cost } from "../../ledger/cost.ts";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { formatUsd, formatUsdExact, multiply, parseRatio, parseUsd, parseUsdPerMillion } from "../../ledger/money.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { repriced } from "../../ledger/prices/reprice.ts";
import { UNITS } from "../../ledger/usage.ts";

const quantity = fc.integer({ min: 0, max: 2 ** 40 });
const pico = fc.bigInt({ min: 0n, max: 10n ** 12n });

describe("multiply", () => {
  it("is within half a nano-USD of the exact product, for any quantity and price", () => {
    fc.assert(
      fc.property(quantity, pico, (count, price) => {
        const exactTimesTwo = BigInt(count) * price * 2n;
        const error = multiply(count, price) * 2000n - exactTimesTwo;
        expect(error <= 1000n && error > -1000n).toBe(true);
      }),
    );
  });

  it("grows with the quantity and never goes below zero", () => {
    fc.assert(
      fc.property(quantity, quantity, pico, (a, b, price) => {
        const [less, more] = [Math.min(a, b), Math.max(a, b)];
        expect(multiply(less, price) >= 0n && multiply(less, price) <= multiply(more, price)).toBe(true);
      }),
    );
  });

  it("rounds half up, once, after all multipliers", () => {
    expect(multiply(1, 500n)).toBe(1n);
    expect(multiply(1, 499n)).toBe(0n);
    expect(multiply(3, 333n, [parseRatio("0.5")])).toBe(0n);
    expect(multiply(3, 334n, [parseRatio("0.5")])).toBe(1n);
    expect(multiply(1_000_000, parseUsdPerMillion("1.75"), [parseRatio("1.1")])).toBe(parseUsd("1.925"));
  });
});

describe("decimal text", () => {
  it("goes in and out unchanged", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }), (amount) => {
        expect(parseUsd(formatUsdExact(amount))).toBe(amount);
      }),
      { numRuns: 500 },
    );
  });

  it("that is no plain decimal, or finer than a nano-USD, is refused by name", () => {
    for (const text of ["", "1e3", "1,5", "0x1", "--1", "Infinity", "1.0000000001"])
      expect(() => parseUsd(text)).toThrow(text === "" ? "plain decimal" : text);
  });

  it("for people shows cents, and enough digits to tell small from nothing", () => {
    expect([0n, 1n, 21_000n, 9_999_999n, 10_000_000n, 1_234_567_890_000n].map(formatUsd)).toEqual([
      "$0.00",
      "$0.000000001",
      "$0.000021",
      "$0.0100",
      "$0.01",
      "$1,234.57",
    ]);
  });
});

describe("cost", () => {
  const book = createPriceBook();
  const at = Date.parse("2026-11-23T00:00:00Z");
  const of = (list: string, model: string, usage: Parameters<typeof cost>[0], tiers?: string[]): bigint | undefined => {
    const price = book.find(list, model, at, tiers);
    if (!price) throw new Error(`no price for ${model}`);
    return cost(usage, price).costNanoUsd;
  };

  // Worked out by hand from published prices: quantity x USD per million, in nano-USD.
  it.each([
    [
      "gpt-4o-mini: 0.15 in, 0.075 cached, 0.6 out",
      "openai",
      "gpt-4o-mini-2024-07-18",
      { input: 1_000, cache_read: 2_000, output: 300 },
      1_000n * 150n + 2_000n * 75n + 300n * 600n,
    ],
    ["gpt-5.2: 1.75 in, 14 out", "openai", "gpt-5.2", { input: 7, output: 3 }, 7n * 1_750n + 3n * 14_000n],
    [
      "claude-haiku-4-5: 1 in, 1.25 and 2 written, 0.1 read, 5 out",
      "anthropic",
      "claude-haiku-4-5-20251001",
      { input: 10, cache_write_5m: 20, cache_write_1h: 30, cache_read: 40, output: 50 },
      10n * 1_000n + 20n * 1_250n + 30n * 2_000n + 40n * 100n + 50n * 5_000n,
    ],
    ["web search: 10 USD a thousand", "anthropic", "claude-haiku-4-5", { web_search: 3 }, 30_000_000n],
    [
      "gemini-2.5-flash: audio apart from text",
      "google",
      "gemini-2.5-flash",
      { input: 100, input_audio: 10, output: 5 },
      100n * 300n + 10n * 1_000n + 5n * 2_500n,
    ],
  ] as const)("%s", (_name, list, model, usage, expected) => {
    expect(of(list, model, usage)).toBe(expected);
  });

  it("of a long context applies to the whole request, from the first token above the step", () => {
    expect(of("google", "gemini-2.5-pro", { input: 200_000 })).toBe(200_000n * 1_250n);
    expect(of("google", "gemini-2.5-pro", { input: 200_001 })).toBe(200_001n * 2_500n);
    expect(of("google", "gemini-2.5-pro", { input: 100_000, cache_read: 100_001, output: 10 })).toBe(
      100_000n * 2_500n + 100_001n * 250n + 10n * 15_000n,
    );
  });

  it("of a tier multiplies tokens, not fees", () => {
    expect(of("openai", "gpt-5.2", { input: 1_000, web_search: 1 }, ["flex"])).toBe(500n * 1_750n + 10_000_000n);
  });

  it("goes by the price of the day: a cut does not reach back", () => {
    const before = book.find("openai", "gpt-5.6-sol", Date.parse("2026-08-20T00:00:00Z"));
    const after = book.find("openai", "gpt-5.6-sol", Date.parse("2026-08-21T00:00:00Z"));
    expect(before && cost({ output: 1 }, before).costNanoUsd).toBe(30_000n);
    expect(after && cost({ output: 1 }, after).costNanoUsd).toBe(20_000n);
    expect(before?.version).not.toBe(after?.version);
  });

  it("is undefined for a used unit without a price: unpriced, never zero", () => {
    const price = book.find("openai", "text-embedding-3-small", at);
    expect(price && cost({ input: 1, output: 1 }, price)).toMatchObject({
      costNanoUsd: undefined,
      unpricedUnits: ["output"],
    });
    expect(book.find("openai", "unheard-of", at)).toBeUndefined();
  });

  it("never passes its own bound", () => {
    const models = [
      ["openai", "gpt-5.6-sol"],
      ["anthropic", "claude-sonnet-4-5"],
      ["google", "gemini-2.5-pro"],
    ] as const;
    fc.assert(
      fc.property(
        fc.constantFrom(...models),
        fc.array(fc.integer({ min: 0, max: 300_000 }), { minLength: 4, maxLength: 4 }),
        fc.integer({ min: 0, max: 100_000 }),
        ([list, model], parts, output) => {
          const price = book.find(list, model, at);
          if (!price) throw new Error("no price");
          const [input = 0, cache_read = 0, cache_write_5m = 0, cache_write_1h = 0] = parts;
          const usage = {
            input,
            cache_read,
            ...(price.units.cache_write_5m ? { cache_write_5m } : {}),
            ...(price.units.cache_write_1h ? { cache_write_1h } : {}),
            output,
          };
          const made = cost(usage, price).costNanoUsd ?? 0n;
          expect(
            made <=
              boundCost(input + cache_read + cache_write_5m + cache_write_1h, output, price) + BigInt(UNITS.length),
          ).toBe(true);
        },
      ),
    );
  });
});

describe("the price book", () => {
  const book = createPriceBook();

  it("marks a match that only shares a prefix as inferred", () => {
    const at = Date.parse("2026-11-23T00:00:00Z");
    expect(book.find("anthropic", "claude-sonnet-5-9", at)?.confidence).toBe("inferred");
    expect(book.find("google", "gemini-3.8-flash-lite", at)?.confidence).toBe("inferred");
    expect(book.find("anthropic", "claude-haiku-4-5-20251001", at)?.confidence).toBe("exact");
    expect(book.find("openai", "gpt-5.2", at, ["a-tier-nobody-knows"])?.confidence).toBe("inferred");
  });

  it("lets a row of the user win, and refuses one in the wrong unit by name", () => {
    const own = createPriceBook([
      { list: "openai", model: "gpt-5.2", usdPerMillion: { input: "1", output: "2" }, source: "contract" },
    ]);
    expect(own.find("openai", "gpt-5.2", Date.now())?.units.input?.base).toBe(1_000_000n);
    expect(() =>
      createPriceBook([{ list: "openai", model: "m", usdPerMillion: { input: "1750000" }, source: "x" }]),
    ).toThrow("USD per million");
  });
});

describe("repricing", () => {
  const event = (more: Partial<EventRecord>): EventRecord =>
    ({
      attemptId: "att_891259286810624",
      at: "2026-11-23T00:00:00.000Z",
      endpoint: "messages",
      requestedModel: "claude-sonnet-4-5",
      servedModel: null,
      tier: null,
      usage: { input: 300_000 },
      costNanoUsd: null,
      costLines: [],
      priceConfidence: "unpriced",
      ...more,
    }) as EventRecord;
  const again = (more: Partial<EventRecord>, listOf = (): string | undefined => "anthropic"): bigint | undefined =>
    repriced(event(more), undefined, createPriceBook(), listOf)?.amountNanoUsd;

  it("goes by the price list that the event names, and by its provider's only where it names none", () => {
    expect(again({ priceList: "anthropic" }, () => undefined)).toBe(300_000n * 6_000n);
    expect(again({ priceList: "anthropic" }, () => "openai")).toBe(300_000n * 6_000n);
    expect(again({ priceList: null }, () => "anthropic")).toBe(300_000n * 6_000n);
    expect(again({ priceList: null }, () => undefined)).toBeUndefined();
    // An upstream whose settings named no list, or a wrong one, and do now.
    expect(again({ priceList: "fast" }, () => "anthropic")).toBe(300_000n * 6_000n);
    expect(again({ priceList: "fast" }, () => "slow")).toBeUndefined();
  });

  it("leaves alone what it cannot tell: the sum of a batch under a long-context price, and a bounded estimate", () => {
    expect(again({})).toBe(300_000n * 6_000n);
    expect(again({ endpoint: "message_batches", tier: "batch" })).toBeUndefined();
    expect(again({ endpoint: "message_batches", tier: "batch", requestedModel: "claude-haiku-4-5" })).toBe(
      300_000n * 500n,
    );
    expect(again({ costNanoUsd: "5", priceConfidence: "exact" })).toBeUndefined();
  });
});
