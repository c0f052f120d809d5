// FOCUS and chargeback out of real books: rules, round trips, a Parquet reader that is not ours, sums to the
// nano-dollar.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { tableFromIPC } from "apache-arrow";
import { parse } from "csv-parse/sync";
import * as fc from "fast-check";
import { readParquet } from "parquet-wasm";
import { beforeEach, describe, expect, it } from "vitest";
import { chargeback } from "../../collector/chargeback.ts";
import { closeBilledDay, compareDays } from "../../collector/compare.ts";
import { checkFocus } from "../../collector/focus-checker.ts";
import type { FileRow } from "../../collector/focus-checker.ts";
import { describeUnit } from "../../collector/focus-units.ts";
import { readBillFile } from "../../collector/importers/file.ts";
import { NOTHING_STATED } from "../../collector/match.ts";
import { exportFocus, reportChargeback } from "../../collector/reports.ts";
import type { FocusOptions, FocusSummary } from "../../collector/reports.ts";
import { readBillDays, replaceBills } from "../../ledger/billing/bills.ts";
import type { BilledLine } from "../../ledger/billing/bills.ts";
import { readComparisons } from "../../ledger/billing/closed-days.ts";
import { cost } from "../../ledger/cost.ts";
import { readMarks } from "../../ledger/billing/metered.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openForWriting } from "../../ledger/sqlite.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { UNITS } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const DAY = "2026-10-10";
const NEXT = "2026-10-11";
const START = Date.parse(`${DAY}T00:00:00Z`);
const NOW = Date.parse("2026-10-20T00:00:00Z");

let folder: string;
let usage: UsageBooks;
let billing: BillingBooks;
let writer: Writer;

/** Two teams at two providers, every token class, tiers, a discount, estimates, something without a price. */
beforeEach(async () => {
  folder = temporaryFolder();
  let clock = START;
  writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: () => clock,
  });
  // The meter began before this day.
  await writer.noteMeterRan(START - 86_400_000, START);
  await writer.noteSeen({ credentials: [{ provider: "openai", credential: "fp_openai", hint: "aaaa", atMs: START }] });
  const book = createPriceBook([], [{ list: "anthropic", percent: "12.5" }]);
  const use = async (more: {
    readonly model: string;
    readonly list: string;
    readonly usage: Usage;
    readonly tier?: string;
    readonly team?: string;
    readonly state?: "reported" | "estimated";
    readonly feature?: string;
  }): Promise<void> => {
    clock += 60_000;
    const price = book.find(more.list, more.model, clock, more.tier === undefined ? [] : [more.tier]);
    const priced = price && cost(more.usage, price);
    await writer.settle(
      event(
        writer.nextAttemptId(),
        priced?.lines.reduce((sum, line) => sum + line.costNanoUsd, 0n),
        {
          keyId: `key_${more.team ?? "search"}`,
          team: more.team ?? "search",
          provider: more.list === "google" ? "gcp.gemini" : more.list,
          requestedModel: more.model,
          servedModel: more.model,
          tier: more.tier,
          usage: more.usage,
          usageState: more.state ?? "reported",
          costLines: priced?.lines ?? [],
          priceVersion: price?.version,
          priceConfidence: price?.confidence ?? "unpriced",
          tags: more.feature === undefined ? undefined : JSON.stringify({ feature: more.feature }),
        },
      ),
    );
  };
  // The specification's worked example, in a hundred answers that are short enough for the plain price.
  for (let i = 0; i < 100; i++)
    await use({
      list: "anthropic",
      model: "claude-sonnet-4-5",
      usage: { input: 5_000, cache_write_5m: 20_000, cache_read: 80_000, output: 15_000 },
    });
  await use({
    list: "anthropic",
    model: "claude-sonnet-4-5",
    usage: { input: 7, cache_write_1h: 11, web_search: 2, output: 1 },
    tier: "batch",
    feature: 'say "hi", then go',
  });
  await use({
    list: "openai",
    model: "gpt-5.2",
    usage: { input: 1_234_567, output: 89 },
    team: "ads",
    feature: "chat",
  });
  await use({ list: "openai", model: "gpt-5.2", usage: { input: 3, output: 100 }, team: "ads", state: "estimated" });
  await use({ list: "openai", model: "no-such-model", usage: { input: 50 }, team: "ads" });
  const read = await openUsage(folder);
  if (!read) throw new Error("no books");
  usage = read;
  billing = await openToWrite(folder, "billing", "process");
  return async () => {
    await writer.close();
    await usage.close();
    await billing.close();
  };
});

async function exported(
  more: Partial<FocusOptions> = {},
): Promise<{ readonly file: string; readonly done: FocusSummary }> {
  const format = more.format ?? "csv";
  const file = join(folder, `focus-${more.version ?? "1.2"}.${format}`);
  const options: FocusOptions = { sinceDay: DAY, untilDay: NEXT, version: "1.2", format, file, ...more };
  const done = await exportFocus({ usage, billing }, options, NOTHING_STATED, () => undefined);
  return { file, done };
}

function readRows(file: string): { readonly header: string[]; readonly rows: FileRow[] } {
  const [header = [], ...lines]: string[][] = parse(readFileSync(file));
  return {
    header,
    rows: lines.map((line) =>
      Object.fromEntries(header.map((name, i) => [name, line[i] === "" ? undefined : line[i]])),
    ),
  };
}

function sumOf(rows: readonly FileRow[], column: string): bigint {
  return rows.reduce((sum, row) => {
    const [whole = "0", fraction = ""] = (row[column] ?? "0").split(".");
    const sign = whole.startsWith("-") ? -1n : 1n;
    return sum + sign * (BigInt(whole.replace("-", "")) * 1_000_000_000n + BigInt(fraction.padEnd(9, "0")));
  }, 0n);
}

describe("a FOCUS export", () => {
  it.each(["1.2", "1.4"] as const)(
    "of version %s keeps every rule, and adds up to what was metered",
    async (version) => {
      const { file, done } = await exported({ version });
      const { header, rows } = readRows(file);
      expect(checkFocus(header, rows, version)).toEqual([]);
      expect(rows.length).toBe(done.rows);
      const metered = (await readMarks(usage, DAY, NEXT)).reduce((sum, one) => sum + one.costNanoUsd, 0n);
      expect(sumOf(rows, "BilledCost")).toBe(metered);
      expect(done.billedNanoUsd).toBe(metered);
      expect(JSON.parse(readFileSync(`${file}.metadata.json`, "utf8"))).toMatchObject({ FocusVersion: version });
    },
  );

  it("has a row a token class, with its own meter and price: the specification's worked example", async () => {
    const { rows } = readRows((await exported()).file);
    const example = rows
      .filter((row) => row["x_ServedModel"] === "claude-sonnet-4-5" && row["x_Tier"] === undefined)
      .map((row) => [
        row["SkuMeter"],
        row["ConsumedQuantity"],
        row["ListUnitPrice"],
        row["ListCost"],
        row["x_TokenCacheAction"],
      ]);
    expect(example).toEqual([
      ["Input Tokens", "500000", "3", "1.5", "Uncached"],
      ["Cache Read Input Tokens", "8000000", "0.3", "2.4", "Read"],
      ["Cache Write 5m Input Tokens", "2000000", "3.75", "7.5", "Write"],
      ["Output Tokens", "1500000", "15", "22.5", undefined],
    ]);
    const [input] = rows.filter((row) => row["ConsumedQuantity"] === "500000");
    // 12.5 % were negotiated.
    expect([input?.["ContractedUnitPrice"], input?.["BilledCost"]]).toEqual(["2.625", "1.3125"]);
  });

  it("breaks no rule unseen: the checker finds each of these", async () => {
    const { header, rows } = readRows((await exported()).file);
    const [first = {}] = rows;
    const broken: [string, FileRow, string[]?][] = [
      ["BilledCost", { ...first, BilledCost: undefined }],
      ["BilledCost", { ...first, BilledCost: "1,5" }],
      ["ChargeCategory", { ...first, ChargeCategory: "Use" }],
      ["ChargePeriodStart", { ...first, ChargePeriodStart: "2026-10-10" }],
      ["ChargePeriodEnd", { ...first, ChargePeriodEnd: first["ChargePeriodStart"] }],
      ["ConsumedUnit", { ...first, ConsumedUnit: "tokens" }],
      ["ConsumedUnit", { ...first, ConsumedUnit: undefined }],
      ["ConsumedQuantity", { ...first, ChargeCategory: "Adjustment", PricingCategory: undefined }],
      ["ListCost", { ...first, ListCost: "1.500001" }],
      [
        "SkuMeter",
        { ...first, SkuId: undefined, SkuPriceDetails: undefined, SkuPriceId: undefined, ChargeCategory: "Adjustment" },
      ],
      ["Tags", { ...first, Tags: '{"a":{"b":1}}' }],
      ["Tags", { ...first, Tags: "a=b" }],
      ["InvoiceId", { ...first, InvoiceId: "N/A" }],
      ["ProviderName", first, header.filter((name) => name !== "ProviderName")],
      ["Tags", first, [...header.filter((name) => name !== "Tags"), "Tags"]],
    ];
    for (const [column, row, columns] of broken)
      expect(
        checkFocus(columns ?? header, [row], "1.2").map((problem) => problem.column),
        column,
      ).toContain(column);
  });

  it.each(["csv", "parquet"] as const)("as %s, imported again and compared, leaves no variance", async (format) => {
    const { file } = await exported({ format });
    const bills = await readBillFile(`focus.${format}`, readFileSync(file));
    await replaceBills(billing, bills, NOW);
    expect(await compareDays({ usage, billing }, DAY, NEXT, NOTHING_STATED, NOW)).toEqual([]);
    const comparisons = await readComparisons(billing, DAY, NEXT);
    expect(comparisons.flatMap((one) => one.variances)).toEqual([]);
    expect(comparisons.length).toBeGreaterThan(6);
    const [metered, billed] = [await readMarks(usage, DAY, NEXT), await readBillDays(billing, DAY, NEXT)];
    expect(billed.map(({ provider, amountNanoUsd }) => [provider, amountNanoUsd])).toEqual(
      metered.map(({ provider, costNanoUsd }) => [provider, costNanoUsd]),
    );
  });

  it("as Parquet can be read by a reader that is not ours, with decimals as decimals", async () => {
    const { file, done } = await exported({ format: "parquet" });
    const table = tableFromIPC(readParquet(readFileSync(file)).intoIPCStream());
    expect(table.numRows).toBe(done.rows);
    const costs = table.getChild("BilledCost");
    const type = costs?.type as { scale?: number; precision?: number } | undefined;
    expect([type?.scale, type?.precision]).toEqual([9, 18]);
    let sum = 0n;
    for (const cell of costs ?? []) sum += low64(cell as Uint32Array);
    expect(sum).toBe(done.billedNanoUsd);
    expect(new Date(Number(table.getChild("ChargePeriodStart")?.get(0))).toISOString()).toBe(`${DAY}T00:00:00.000Z`);
    expect(table.getChild("x_Team")?.get(0)).toBe("search");
  });
});

/** The low half of a decimal of 128 bits: enough for what we write. */
function low64(words: Uint32Array): bigint {
  return BigInt.asIntN(64, (BigInt(words[1] ?? 0) << 32n) | BigInt(words[0] ?? 0));
}

describe("a closed day", () => {
  const line = (more: Partial<BilledLine>): BilledLine => ({
    kind: "usage",
    billedKey: "fp_openai",
    model: "gpt-5.2",
    tier: "",
    unit: "input",
    quantity: 1_234_570,
    amountNanoUsd: 2_160_497_500n,
    resolutionNanoUsd: 1n,
    raw: "{}",
    ...more,
  });
  const bill = (lines: readonly BilledLine[], asOfMs = NOW): ReturnType<typeof replaceBills> =>
    replaceBills(billing, [{ provider: "openai", day: DAY, source: "api", asOfMs, lines }], NOW);

  it("is exported at what it was billed, whatever comes later; that is a correction", async () => {
    const lines = [
      line({}),
      line({ unit: "output", quantity: 240, amountNanoUsd: 3_360_000n }),
      line({ billedKey: "key_gone", quantity: 1_000, amountNanoUsd: 1_750_000n }),
      line({ kind: "tax", unit: undefined, quantity: undefined, amountNanoUsd: 400_000_000n, lineItem: "VAT" }),
      line({ kind: "credit", unit: undefined, quantity: undefined, amountNanoUsd: -5_000_000n, lineItem: "grant" }),
    ];
    await bill(lines);
    const [day] = await readBillDays(billing, DAY, NEXT, "openai");
    if (!day) throw new Error("no day");
    const stated = { ...NOTHING_STATED };
    const adjust = async (adjustments: Parameters<Parameters<typeof closeBilledDay>[4]>[0]): Promise<void> =>
      writer.change({ type: "adjust", adjustments }, "test");
    expect(await closeBilledDay({ usage, billing }, day, "test", stated, adjust, NOW)).toBeUndefined();
    const first = readRows((await exported()).file);
    expect(checkFocus(first.header, first.rows, "1.2")).toEqual([]);
    const ofOpenai = first.rows.filter((row) => row["x_Provider"] === "openai");
    expect(sumOf(ofOpenai, "BilledCost")).toBe(lines.reduce((sum, one) => sum + one.amountNanoUsd, 0n));
    expect(ofOpenai.filter((row) => row["ChargeCategory"] === "Tax").length).toBe(1);
    expect(ofOpenai.filter((row) => row["ChargeCategory"] === "Credit").length).toBe(1);

    // The bill changes two weeks later, and something is priced anew: the signed figure stays.
    await bill(
      [...lines, line({ billedKey: "key_gone", unit: "output", quantity: 10, amountNanoUsd: 140_000n })],
      NOW + 1,
    );
    expect(await closeBilledDay({ usage, billing }, day, "test", stated, adjust, NOW)).toBe("it is closed already");
    const second = readRows((await exported()).file);
    expect(checkFocus(second.header, second.rows, "1.2")).toEqual([]);
    const corrections = second.rows.filter((row) => row["ChargeClass"] === "Correction");
    expect(corrections.map((row) => row["BilledCost"])).toEqual(["0.00014"]);
    expect(second.rows.length).toBe(first.rows.length + 1);
    const raw = openForWriting(join(folder, "billing.db"), "billing", "process");
    expect(() => raw.exec("UPDATE closed_days SET billed_nano_usd = 0")).toThrow("stays as it was signed");
    expect(() => raw.exec("DELETE FROM variances")).toThrow("closed");
    expect(() => raw.exec("DELETE FROM corrections")).toThrow("stays");
    raw.close();
  });

  it("corrects estimates in the books that own them, once, however often it is tried", async () => {
    await bill([line({ quantity: 1_234_570 }), line({ unit: "output", quantity: 289, amountNanoUsd: 4_046_000n })]);
    const [day] = await readBillDays(billing, DAY, NEXT, "openai");
    if (!day) throw new Error("no day");
    const sent: bigint[] = [];
    const before = (await readMarks(usage, DAY, NEXT)).find((one) => one.provider === "openai")?.costNanoUsd ?? 0n;
    // The first time the proxy takes the correction, and its answer is lost.
    const failing = closeBilledDay(
      { usage, billing },
      day,
      "test",
      NOTHING_STATED,
      async (adjustments) => {
        await writer.change({ type: "adjust", adjustments }, "test");
        sent.push(...adjustments.map((one) => one.amountNanoUsd));
        throw new Error("the line is dead");
      },
      NOW,
    );
    await expect(failing).rejects.toThrow("the line is dead");
    const again = async (adjustments: Parameters<Parameters<typeof closeBilledDay>[4]>[0]): Promise<void> => {
      sent.push(...adjustments.map((one) => one.amountNanoUsd));
      await writer.change({ type: "adjust", adjustments }, "test");
    };
    expect(await closeBilledDay({ usage, billing }, day, "test", NOTHING_STATED, again, NOW)).toBeUndefined();
    // 100 more tokens of output than were estimated, at 14 USD a million.
    expect(sent).toEqual([1_400_000n]);
    const after = (await readMarks(usage, DAY, NEXT)).find((one) => one.provider === "openai")?.costNanoUsd ?? 0n;
    expect(after - before).toBe(1_400_000n);
  });
});

describe("chargeback", () => {
  it("gives each owner its metered cost and a share of the rest, to the nano-dollar", async () => {
    const report = await reportChargeback({ usage, billing }, "2026-10", ["team"], () => undefined);
    const metered = (await readMarks(usage, DAY, NEXT)).reduce((sum, one) => sum + one.costNanoUsd, 0n);
    expect(report.charges.reduce((sum, one) => sum + one.totalNanoUsd, 0n)).toBe(metered);
    expect(report.charges.map(({ owner }) => owner)).toEqual([["search"], ["ads"]]);
    expect(report).toMatchObject({ closedDays: 0, openDays: 2 });
    const fine = await reportChargeback({ usage, billing }, "2026-10", ["feature", "key"], () => undefined);
    expect(fine.charges.map(({ owner }) => owner)).toContainEqual(["chat", "key_ads"]);
  });

  it(`adds up, whoever metered what (seed ${SEED})`, () => {
    const owned = fc.record({
      owner: fc.tuple(fc.constantFrom("a", "b", "")),
      provider: fc.constantFrom("openai", "anthropic"),
      meteredNanoUsd: fc.bigInt({ min: -1_000n, max: 10n ** 15n }),
    });
    const differences = fc.dictionary(
      fc.constantFrom("openai", "anthropic", "elsewhere"),
      fc.bigInt({ min: -(10n ** 14n), max: 10n ** 14n }),
    );
    fc.assert(
      fc.property(fc.array(owned, { maxLength: 9 }), differences, (costs, more) => {
        const sum = (values: readonly bigint[]): bigint => values.reduce((total, value) => total + value, 0n);
        const charges = chargeback(costs, new Map(Object.entries(more)), 1);
        expect(sum(charges.map((one) => one.totalNanoUsd))).toBe(
          sum(costs.map((one) => one.meteredNanoUsd)) + sum(Object.values(more)),
        );
      }),
      { seed: SEED },
    );
  });
});

describe("units", () => {
  it("all have a meter, and a unit that FOCUS knows", () => {
    for (const unit of UNITS) {
      const { meter, consumed, pricing, per } = describeUnit(unit);
      expect(meter).toMatch(/^[A-Z]/);
      expect(pricing).toBe(per === 1 ? consumed : `${per} ${consumed}`);
    }
  });
});
