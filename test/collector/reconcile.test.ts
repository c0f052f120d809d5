// Reconciliation, on its own: each cause where it belongs, and pieces that always add up.
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { matchKeys, matchModels, NOTHING_STATED } from "../../collector/match.ts";
import { observedPrices } from "../../collector/observed-prices.ts";
import { reconcile } from "../../collector/reconcile.ts";
import type { Context, Day, Metered } from "../../collector/reconcile.ts";
import type { BilledLine } from "../../ledger/billing/bills.ts";
import { CAUSES } from "../../ledger/billing/closed-days.ts";
import { IS_CI, SEED } from "../seed.ts";

const DAY = "2026-11-10";
const CONTEXT: Context = {
  provider: "openai",
  knownKeys: new Set(["key_1", "key_2"]),
  knownModels: new Set(["m", "n"]),
  edge: () => 0,
};

function metered(more: Partial<Metered> = {}): Metered {
  return {
    key: "key_1",
    model: "m",
    tier: "",
    unit: "input",
    state: "reported",
    quantity: 1_000_000,
    costNanoUsd: 2_000_000_000n,
    events: 10,
    ...more,
  };
}

function billed(more: Partial<BilledLine> = {}): BilledLine {
  return {
    kind: "usage",
    billedKey: "key_1",
    model: "m",
    tier: "",
    unit: "input",
    quantity: 1_000_000,
    amountNanoUsd: 2_000_000_000n,
    resolutionNanoUsd: 1n,
    raw: "{}",
    ...more,
  };
}

function day(more: Partial<Day>): Day {
  return { day: DAY, metered: [], billed: [], usage: undefined, isLate: false, ...more };
}

/** "cause amount" of every piece of a day. */
function causes(of: Partial<Day>, context: Partial<Context> = {}): string[] {
  return reconcile({ ...CONTEXT, ...context }, [day(of)])
    .flatMap((one) => one.variances)
    .map(({ cause, amountNanoUsd }) => `${cause} ${amountNanoUsd}`)
    .toSorted();
}

describe("one day", () => {
  it("that agrees has no variance", () => {
    expect(causes({ metered: [metered()], billed: [billed()] })).toEqual([]);
  });

  it.each<[string, Partial<Day>, string[]]>([
    [
      "use of a key that was never metered",
      {
        metered: [metered()],
        billed: [billed(), billed({ billedKey: "key_9", quantity: 500_000, amountNanoUsd: 1_000_000_000n })],
      },
      ["unmetered key 1000000000"],
    ],
    [
      "use of our key beyond what was metered on it",
      { metered: [metered()], billed: [billed({ quantity: 1_500_000, amountNanoUsd: 3_000_000_000n })] },
      ["unmetered key 1000000000"],
    ],
    [
      "a model that nobody meters",
      { metered: [metered()], billed: [billed(), billed({ model: "fine-tuned", amountNanoUsd: 7_000_000_000n })] },
      ["unmetered model or endpoint 7000000000"],
    ],
    [
      "the same tokens at another price",
      { metered: [metered()], billed: [billed({ amountNanoUsd: 2_400_000_000n })] },
      ["price 400000000"],
    ],
    [
      "a bill that is under its own list",
      { metered: [metered()], billed: [billed({ amountNanoUsd: 1_800_000_000n, listNanoUsd: 2_000_000_000n })] },
      ["tier or discount -200000000"],
    ],
    [
      "both a discount and another list price",
      { metered: [metered()], billed: [billed({ amountNanoUsd: 2_160_000_000n, listNanoUsd: 2_400_000_000n })] },
      ["price 400000000", "tier or discount -240000000"],
    ],
    [
      "tokens billed as a batch",
      { metered: [metered()], billed: [billed({ tier: "batch", amountNanoUsd: 1_000_000_000n })] },
      ["tier or discount -2000000000", "tier or discount 1000000000"],
    ],
    [
      "tokens billed as another class",
      {
        metered: [metered(), metered({ unit: "cache_read", quantity: 400_000, costNanoUsd: 80_000_000n })],
        billed: [billed({ quantity: 1_400_000, amountNanoUsd: 2_800_000_000n })],
      },
      ["token class -80000000", "token class 800000000"],
    ],
    [
      "a fee that nobody metered",
      {
        metered: [metered()],
        billed: [billed(), billed({ kind: "fee", unit: "web_search", quantity: 3, amountNanoUsd: 30_000_000n })],
      },
      ["fee 30000000"],
    ],
    [
      "an estimate that was too low",
      {
        metered: [
          metered(),
          metered({ unit: "output", state: "estimated", quantity: 1_000, costNanoUsd: 10_000_000n }),
        ],
        billed: [billed(), billed({ unit: "output", quantity: 1_500, amountNanoUsd: 15_000_000n })],
      },
      ["estimate corrected 5000000"],
    ],
    [
      "money that was held for an answer nobody saw",
      {
        metered: [
          metered(),
          metered({ unit: "", state: "estimated", quantity: 0, costNanoUsd: 20_000_000n, events: 1 }),
        ],
        billed: [billed({ quantity: 1_004_000, amountNanoUsd: 2_008_000_000n })],
      },
      ["estimate corrected -20000000", "estimate corrected 8000000"],
    ],
    [
      "the last digits of a row",
      { metered: [metered()], billed: [billed({ amountNanoUsd: 2_000_000_001n })] },
      ["rounding 1"],
    ],
    [
      "a bill that is not whole yet",
      { metered: [metered()], billed: [billed({ quantity: 250_000, amountNanoUsd: 500_000_000n })], isLate: true },
      ["late -1500000000"],
    ],
    ["no bill yet", { metered: [metered()], billed: [], isLate: true }, ["late -2000000000"]],
    [
      "credit and tax",
      {
        metered: [metered()],
        billed: [
          billed(),
          billed({ kind: "credit", unit: undefined, amountNanoUsd: -5n }),
          billed({ kind: "tax", amountNanoUsd: 7n }),
        ],
      },
      ["credit or tax -5", "credit or tax 7"],
    ],
    [
      "what was metered and never billed",
      { metered: [metered(), metered({ key: "key_2", costNanoUsd: 4n, quantity: 2 })], billed: [billed()] },
      ["unknown -4"],
    ],
    ["a model without a price", { metered: [metered({ costNanoUsd: 0n })], billed: [billed()] }, ["price 2000000000"]],
  ])("%s", (_name, of, expected) => {
    expect(causes(of)).toEqual(expected);
  });

  it("compares only as far down as the bill goes: one without keys is held against all keys together", () => {
    const both = [metered(), metered({ key: "key_2" })];
    const bill = [billed({ billedKey: undefined, quantity: 2_000_000, amountNanoUsd: 4_000_000_000n })];
    expect(causes({ metered: both, billed: bill })).toEqual([]);
    const money = [
      billed({
        billedKey: undefined,
        unit: undefined,
        tier: undefined,
        quantity: undefined,
        amountNanoUsd: 4_000_000_000n,
      }),
    ];
    expect(causes({ metered: both, billed: money })).toEqual([]);
  });

  it("takes tokens from the usage report where the bill has only money", () => {
    const bill = [billed({ quantity: undefined, amountNanoUsd: 3_000_000_000n })];
    const usage = [
      { hourMs: 0, billedKey: "key_1", model: "m", tier: "", unit: "input", quantity: 1_500_000 },
    ] as const;
    expect(causes({ metered: [metered()], billed: bill, usage })).toEqual(["unmetered key 1000000000"]);
    const same = [{ ...usage[0], quantity: 1_000_000 }];
    expect(causes({ metered: [metered()], billed: bill, usage: same })).toEqual(["price 1000000000"]);
  });

  it("knows tokens before their money: that is late, and no price", () => {
    const both = ["m", "n"].map((model) => metered({ model }));
    const usage = both.map(({ model }) => ({
      hourMs: 0,
      billedKey: "key_1",
      model,
      tier: "",
      unit: "input" as const,
      quantity: 1_000_000,
    }));
    expect(causes({ metered: both, billed: [], usage, isLate: true })).toEqual([
      "late -2000000000",
      "late -2000000000",
    ]);
    expect(observedPrices(reconcile(CONTEXT, [day({ metered: both, billed: [], usage, isLate: true })]))).toEqual([]);
  });

  it("compares the money of a fee that no report of usage counts", () => {
    const fee = metered({ unit: "container", quantity: 100, costNanoUsd: 5_000_000_000n });
    const bill = billed({ kind: "fee", unit: "container", quantity: undefined, amountNanoUsd: 5_000_000_000n });
    const usage = [
      { hourMs: 0, billedKey: "key_1", model: "m", tier: "", unit: "input", quantity: 1_000_000 },
    ] as const;
    expect(causes({ metered: [metered(), fee], billed: [billed({ quantity: undefined }), bill], usage })).toEqual([]);
  });

  it("calls one factor over several models a discount, and over one model a price", () => {
    const models = ["m", "n"].flatMap((model) => [metered({ model }), metered({ model, unit: "output" })]);
    const off = models.map((one) =>
      billed({ model: one.model, unit: one.unit || undefined, amountNanoUsd: 1_700_000_000n }),
    );
    expect(new Set(causes({ metered: models, billed: off }))).toEqual(new Set(["tier or discount -300000000"]));
    expect(new Set(causes({ metered: models.slice(0, 2), billed: off.slice(0, 2) }))).toEqual(
      new Set(["price -300000000"]),
    );
  });
});

describe("days together", () => {
  const next = "2026-11-11";
  it("show what ran over midnight, when it was under way there", () => {
    const days = [
      day({ metered: [metered()], billed: [billed({ quantity: 900_000, amountNanoUsd: 1_800_000_000n })] }),
      day({
        day: next,
        metered: [metered()],
        billed: [billed({ quantity: 1_100_000, amountNanoUsd: 2_200_000_000n })],
      }),
    ];
    const edge = (on: string): number => (on === DAY ? 100_000 : 0);
    const found = reconcile({ ...CONTEXT, edge }, days).flatMap((one) => one.variances);
    expect(found.map(({ cause, amountNanoUsd }) => `${cause} ${amountNanoUsd}`)).toEqual([
      "day boundary -200000000",
      "day boundary 200000000",
    ]);
    // Nothing was under way: less on one day and more on the next are two things.
    const apart = reconcile(CONTEXT, days).flatMap((one) => one.variances.map(({ cause }) => cause));
    expect(apart).toEqual(["unknown", "unmetered key"]);
  });
});

describe("pieces", () => {
  const amount = fc.bigInt({ min: -1_000_000_000n, max: 10_000_000_000_000n });
  const unit = fc.constantFrom("input", "cache_read", "output", "web_search");
  const key = fc.constantFrom("key_1", "key_2", "key_9", "");
  const line = fc.record({
    kind: fc.constantFrom("usage", "fee", "credit", "tax", "adjustment", "rounding"),
    billedKey: fc.option(key, { nil: undefined }),
    model: fc.option(fc.constantFrom("m", "n", "other"), { nil: undefined }),
    tier: fc.option(fc.constantFrom("", "batch"), { nil: undefined }),
    unit: fc.option(unit, { nil: undefined }),
    amountNanoUsd: amount,
    listNanoUsd: fc.option(amount, { nil: undefined }),
    quantity: fc.option(fc.integer({ min: 0, max: 1_000_000_000 }), { nil: undefined }),
    resolutionNanoUsd: fc.constantFrom(1n, 10_000_000n),
    raw: fc.constant("{}"),
  });
  const use = fc.record({
    key,
    model: fc.constantFrom("m", "n"),
    tier: fc.constantFrom("", "batch", "geo:us"),
    unit: fc.constantFrom("input", "cache_read", "output", "web_search", ""),
    state: fc.constantFrom("reported", "estimated", "unknown"),
    quantity: fc.integer({ min: 0, max: 1_000_000_000 }),
    costNanoUsd: fc.bigInt({ min: 0n, max: 10_000_000_000_000n }),
    events: fc.integer({ min: 1, max: 1_000 }),
  });
  const aDay = fc.record({
    metered: fc.array(use, { maxLength: 8 }),
    billed: fc.array(line, { maxLength: 8 }),
    isLate: fc.boolean(),
    usage: fc.option(
      fc.array(
        fc.record({
          hourMs: fc.constant(0),
          billedKey: fc.option(key, { nil: undefined }),
          model: fc.constantFrom("m", "n"),
          tier: fc.constantFrom("", "batch"),
          unit,
          quantity: fc.integer({ min: 0, max: 1_000_000 }),
        }),
        { maxLength: 5 },
      ),
      { nil: undefined },
    ),
  });

  it(`add up to billed minus metered, whatever both say, and every cause is of the list (seed ${SEED})`, () => {
    fc.assert(
      fc.property(
        fc.array(aDay, { minLength: 1, maxLength: 3 }),
        fc.integer({ min: 0, max: 1_000_000 }),
        (days, edge) => {
          const dated = days.map((one, i) => ({ ...one, day: `2026-11-1${i}` })) as Day[];
          const found = reconcile({ ...CONTEXT, edge: () => edge }, dated);
          for (const one of dated) {
            const own = found.filter((comparison) => comparison.day === one.day);
            const sum = (list: readonly bigint[]): bigint => list.reduce((total, value) => total + value, 0n);
            const billedSum = sum(one.billed.map((line) => line.amountNanoUsd));
            const meteredSum = sum(one.metered.map((line) => line.costNanoUsd));
            expect(sum(own.map((comparison) => comparison.billedNanoUsd))).toBe(billedSum);
            expect(sum(own.map((comparison) => comparison.meteredNanoUsd))).toBe(meteredSum);
            for (const comparison of own)
              expect(sum(comparison.variances.map((piece) => piece.amountNanoUsd))).toBe(
                comparison.billedNanoUsd - comparison.meteredNanoUsd,
              );
            for (const { variances } of own)
              for (const { cause, detail } of variances) {
                expect(CAUSES).toContain(cause);
                expect(detail).not.toBe("");
              }
          }
        },
      ),
      { numRuns: IS_CI ? 20_000 : 500, seed: SEED },
    );
  });
});

describe("matching", () => {
  const shown = (billedKey: string, hint: string) => ({ billedKey, hint, name: billedKey, state: "active" });
  const seen = (credential: string, hint: string) => ({ provider: "openai", credential, hint, name: credential });

  it("knows a key by the end that its provider shows, in whatever way it is shortened", () => {
    const { byCredential, asked } = matchKeys(
      [seen("fp_1", "a1b2"), seen("fp_2", "zzzz"), seen("fp_3", "igAA")],
      [shown("key_1", "sk-proj-...1b2"), shown("key_2", "sk-…9999"), shown("key_3", "sk-ant-api03-R2D...igAA")],
    );
    expect([...byCredential]).toEqual([
      ["fp_1", "key_1"],
      ["fp_3", "key_3"],
    ]);
    expect(asked).toEqual([]);
  });

  it("asks, with the line to write, where two could be meant, and takes what was said", () => {
    const keys = [shown("key_1", "sk-...a1b2"), shown("key_2", "sk-...a1b2")];
    const { byCredential, asked } = matchKeys([seen("fp_1", "a1b2")], keys);
    expect(byCredential.size).toBe(0);
    expect(asked[0]).toContain('could be key_1 "key_1" or key_2 "key_2"');
    expect(asked[0]).toContain("collector.billing_keys");
    const two = matchKeys([seen("fp_1", "a1b2"), seen("fp_2", "a1b2")], keys.slice(0, 1));
    expect(two.byCredential.size).toBe(0);
    expect(two.asked.length).toBe(2);
    const said = matchKeys([seen("fp_1", "a1b2")], keys, { ...NOTHING_STATED, keys: { fp_1: "key_2" } });
    expect([...said.byCredential]).toEqual([["fp_1", "key_2"]]);
  });

  it("knows a model by its name or its family, and asks between two snapshots", () => {
    const names = ["gpt-4o-mini-2024-07-18", "claude-haiku-4-5-20251001", "gemini-2.5-flash"];
    const { of, asked } = matchModels(["gpt-4o-mini", "claude-haiku-4-5", "models/gemini-2.5-flash", "o3"], names);
    expect(["gpt-4o-mini", "claude-haiku-4-5", "models/gemini-2.5-flash", "o3"].map(of)).toEqual([...names, "o3"]);
    expect(asked).toEqual([]);
    const two = matchModels(["gpt-4o-mini"], ["gpt-4o-mini-2024-07-18", "gpt-4o-mini-2025-01-01"]);
    expect(two.of("gpt-4o-mini")).toBe("gpt-4o-mini");
    expect(two.asked[0]).toContain("collector.billing_models");
  });
});

describe("observed prices", () => {
  it("are the bill's money over its units, against the meter's, of the newest day", () => {
    const comparisons = reconcile(CONTEXT, [
      day({ metered: [metered()], billed: [billed()] }),
      day({ day: "2026-11-11", metered: [metered()], billed: [billed({ amountNanoUsd: 2_500_000_000n })] }),
    ]);
    expect(observedPrices(comparisons)).toEqual([
      { provider: "openai", day: "2026-11-11", model: "m", unit: "input", billedUsd: 2.5, meteredUsd: 2, ratio: 1.25 },
    ]);
  });
});
