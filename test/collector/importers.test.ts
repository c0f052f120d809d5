// Importers against fake billing APIs on loopback, which the official SDKs have to parse: pages, limits, what is
// hidden, what is late, what is wrong; and files.
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadCollectorConfig } from "../../collector/config.ts";
import { anthropicImporter } from "../../collector/importers/anthropic.ts";
import { readBillFile } from "../../collector/importers/file.ts";
import { googleImporter } from "../../collector/importers/google.ts";
import type { GoogleSettings } from "../../collector/importers/google.ts";
import type { Importer } from "../../collector/importers/importer.ts";
import { readLineItem, readSku } from "../../collector/importers/line-items.ts";
import { openaiImporter } from "../../collector/importers/openai.ts";
import { readBills } from "../../collector/jobs.ts";
import { readBilledLines, readImports, readProviderKeys } from "../../ledger/billing/bills.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import { startFakeAnthropic } from "../fake/billing/anthropic.ts";
import type { FakeAnthropic } from "../fake/billing/anthropic.ts";
import { startFakeGoogle, TABLE } from "../fake/billing/google.ts";
import type { FakeGoogle } from "../fake/billing/google.ts";
import { startFakeOpenai } from "../fake/billing/openai.ts";
import { createTruth } from "../fake/billing/truth.ts";
import type { Charge, FakeServer, Truth } from "../fake/billing/truth.ts";
import { temporaryFolder } from "../start-proxy.ts";

const DAY = "2026-11-10";
const NOON = Date.parse(`${DAY}T12:00:00Z`);
const NOW = Date.parse("2026-11-12T09:30:00Z");
const silent = (): void => undefined;

let truth: Truth;
beforeEach(() => {
  truth = createTruth(NOW);
});

function add(provider: string, more: Partial<Charge>): void {
  truth.charges.push({
    provider,
    atMs: NOON,
    billedKey: "key_1",
    project: "proj_1",
    model: "gpt-5.2",
    tier: "",
    unit: "input",
    quantity: 1_000,
    amountNanoUsd: 1_750_000n,
    ...more,
  });
}

describe("OpenAI", () => {
  let fake: FakeServer;
  let importer: Importer;
  beforeEach(async () => {
    fake = await startFakeOpenai(truth);
    importer = openaiImporter({ adminKey: new Secret("sk-admin-test"), baseUrl: `${fake.url}/v1`, now: () => NOW });
  });
  afterEach(() => fake.close());

  it("costs come by key, project and line item, over all pages, each day once, also one without lines", async () => {
    for (let i = 0; i < 5; i++)
      add("openai", { atMs: NOON + i * 86_400_000 - 3 * 86_400_000, amountNanoUsd: 175_000_001n });
    add("openai", { unit: "cache_write_30m", tier: "batch", quantity: 7 });
    add("openai", { billedKey: undefined, lineItem: "vector storage", unit: undefined, model: undefined });
    const bills = await importer.fetchBills("2026-11-06", "2026-11-12", silent);
    expect(bills.map(({ day, lines }) => `${day} ${lines.length}`)).toEqual([
      "2026-11-06 0",
      "2026-11-07 1",
      "2026-11-08 1",
      "2026-11-09 1",
      "2026-11-10 3",
      "2026-11-11 1",
    ]);
    expect(fake.journal.filter((line) => line.includes("/costs")).length).toBe(2);
    const { lines = [] } = bills.find(({ day }) => day === DAY) ?? {};
    expect(lines.map(({ unit, tier, model, quantity, billedKey }) => [unit, tier, model, quantity, billedKey])).toEqual(
      [
        ["input", "", "gpt-5.2", 1_000, "key_1"],
        ["cache_write_30m", "batch", "gpt-5.2", 7, "key_1"],
        [undefined, undefined, "vector storage", undefined, undefined],
      ],
    );
    // A float of dollars to the nano-dollar.
    expect(lines[0]?.amountNanoUsd).toBe(175_000_001n);
    expect(bills[0]?.asOfMs).toBe(NOW - 86_400_000);
  });

  it("usage comes by hour in disjoint classes, and what is minutes late is not there yet", async () => {
    add("openai", { unit: "input", quantity: 100 });
    add("openai", { unit: "cache_read", quantity: 40 });
    add("openai", { unit: "cache_write_30m", quantity: 9 });
    add("openai", { unit: "input_audio", quantity: 5 });
    add("openai", { unit: "output", quantity: 30, tier: "flex" });
    add("openai", { unit: "output", quantity: 3, tier: "batch" });
    add("openai", { unit: "web_search", quantity: 2 });
    add("openai", { unit: "output", quantity: 999, reportedAtMs: NOW + 60_000 });
    const { usage = [], asOfMs } = (await importer.fetchUsage?.(NOON - 3_600_000, NOON + 7_200_000)) ?? {};
    expect(usage.map(({ unit, tier, quantity }) => `${unit} ${tier} ${quantity}`).toSorted()).toEqual([
      "cache_read  40",
      "cache_write_30m  9",
      "input  100",
      "input_audio  5",
      "output batch 3",
      "output flex 30",
      "web_search  2",
    ]);
    expect(usage.every(({ hourMs, billedKey }) => hourMs === NOON && billedKey === "key_1")).toBe(true);
    expect(asOfMs).toBe(NOON + 7_200_000);
  });

  it("keys come from all projects, also those whose owner left", async () => {
    for (let i = 0; i < 4; i++)
      truth.keys.push({
        provider: "openai",
        id: `key_${i}`,
        name: `k${i}`,
        project: `proj_${i % 2}`,
        shown: `sk-...00${i}`,
        isHidden: i === 3,
      });
    expect((await importer.fetchKeys?.())?.map(({ billedKey, hint }) => `${billedKey} ${hint}`).toSorted()).toEqual([
      "key_0 sk-...000",
      "key_1 sk-...001",
      "key_2 sk-...002",
      "key_3 sk-...003",
    ]);
  });

  it("waits out a rate limit and a failing server", async () => {
    add("openai", {});
    fake.failures.push(
      { status: 429, headers: { "retry-after-ms": "5" } },
      { status: 503, headers: { "retry-after-ms": "5" } },
    );
    expect((await importer.fetchBills(DAY, "2026-11-11", silent))[0]?.lines.length).toBe(1);
  });

  it.each([
    [401, "OPENAI_ADMIN_KEY"],
    [403, "api.usage.read"],
    [404, "KEYMETER_OPENAI_BILLING_URL"],
  ])("%i: one sentence that says what to do", async (status, part) => {
    fake.failures.push({ status });
    await expect(importer.fetchBills(DAY, "2026-11-11", silent)).rejects.toThrow(part);
  });

  it("refuses what is not USD, what is no number, and pages that lead nowhere", async () => {
    const bucket = (amount: object): object => ({
      object: "page",
      data: [
        {
          object: "bucket",
          start_time: Date.parse(DAY) / 1000,
          results: [{ object: "organization.costs.result", amount, line_item: "m, input" }],
        },
      ],
      has_more: false,
      next_page: null,
    });
    const ask = (): Promise<unknown> => importer.fetchBills(DAY, "2026-11-11", silent);
    fake.failures.push({ status: 200, body: bucket({ value: 1, currency: "eur" }) });
    await expect(ask()).rejects.toThrow("are in eur; Keymeter books USD only");
    fake.failures.push({ status: 200, body: bucket({ value: "lots", currency: "usd" }) });
    await expect(ask()).rejects.toThrow('the amount "lots" is no number');
    fake.failures.push({ status: 200, body: { ...bucket({ value: "0.5", currency: "usd" }), has_more: true } });
    await expect(ask()).rejects.toThrow("names none");
    fake.failures.push({ status: 200, body: { hello: "world" } });
    await expect(ask()).rejects.toThrow("holds no list of buckets");
  });
});

describe("Anthropic", () => {
  let fake: FakeAnthropic;
  let importer: Importer;
  beforeEach(async () => {
    fake = await startFakeAnthropic(truth);
    importer = anthropicImporter({ adminKey: new Secret("sk-ant-admin01-test"), baseUrl: fake.url, now: () => NOW });
    fake.refreshedAtMs = NOW - 7_200_000;
    add("anthropic", { model: "claude-haiku-4-5", quantity: 10, amountNanoUsd: 9_000_001n, listNanoUsd: 10_000_000n });
    add("anthropic", { model: "claude-haiku-4-5", unit: "cache_write_1h", quantity: 20, tier: "batch" });
    add("anthropic", { model: "claude-haiku-4-5", unit: "output", quantity: 30, billedKey: undefined });
    add("anthropic", { model: "claude-haiku-4-5", unit: "web_search", quantity: 2, amountNanoUsd: 20_000_000n });
  });
  afterEach(() => fake.close());

  it("costs come in cents as decimals, list price beside them, up to the watermark", async () => {
    const [bill] = await importer.fetchBills(DAY, "2026-11-11", silent);
    expect(bill?.asOfMs).toBe(NOW - 7_200_000);
    expect(
      bill?.lines.map(({ kind, unit, tier, amountNanoUsd, listNanoUsd, billedKey }) => [
        kind,
        unit,
        tier,
        amountNanoUsd,
        listNanoUsd,
        billedKey,
      ]),
    ).toEqual([
      ["usage", "input", "", 9_000_001n, 10_000_000n, "key_1"],
      ["usage", "cache_write_1h", "batch", 1_750_000n, 1_750_000n, "key_1"],
      ["usage", "output", "", 1_750_000n, 1_750_000n, undefined],
      ["fee", "web_search", "", 20_000_000n, 20_000_000n, "key_1"],
    ]);
    expect(fake.journal.filter((line) => line.includes("analytics/cost")).length).toBe(2);
  });

  it("usage comes by the hour", async () => {
    const { usage = [] } = (await importer.fetchUsage?.(NOON, NOON + 3_600_000)) ?? {};
    expect(usage.map(({ unit, tier, quantity }) => `${unit} ${tier} ${quantity}`).toSorted()).toEqual([
      "cache_write_1h batch 20",
      "input  10",
      "output  30",
      "web_search  2",
    ]);
  });

  it("usage of more days than one call may ask comes in several", async () => {
    const { usage = [], asOfMs } = (await importer.fetchUsage?.(NOON - 50 * 86_400_000, NOON + 3_600_000)) ?? {};
    expect(usage).toHaveLength(4);
    expect(asOfMs).toBe(NOON + 3_600_000);
    expect(fake.journal.filter((line) => line.includes("analytics/usage")).length).toBe(2);
  });

  it("an organisation without the analytics has the older reports, whose money names no key", async () => {
    fake.hasAnalytics = false;
    const [bill] = await importer.fetchBills(DAY, "2026-11-11", silent);
    expect(
      bill?.lines.map(({ unit, billedKey, amountNanoUsd }) => `${unit} ${billedKey} ${amountNanoUsd}`).toSorted(),
    ).toEqual([
      "cache_write_1h undefined 1750000",
      "input undefined 9000001",
      "output undefined 1750000",
      "web_search undefined 20000000",
    ]);
    const { usage = [] } = (await importer.fetchUsage?.(NOON, NOON + 3_600_000)) ?? {};
    expect(usage.find(({ unit }) => unit === "input")?.billedKey).toBe("key_1");
  });

  it("a quarter is asked for in ranges that are allowed", async () => {
    const bills = await importer.fetchBills("2026-09-01", "2026-11-12", silent);
    expect(bills.length).toBe(72);
    expect(new Set(bills.map(({ day }) => day)).size).toBe(72);
  });

  it("keys come in pages, with what is shown of them", async () => {
    for (let i = 0; i < 7; i++)
      truth.keys.push({
        provider: "anthropic",
        id: `apikey_${i}`,
        name: `k${i}`,
        project: "wrkspc_1",
        shown: `sk-ant-api03-R2D...ig${i}A`,
        state: i === 6 ? "inactive" : "active",
      });
    const keys = (await importer.fetchKeys?.()) ?? [];
    expect(keys.length).toBe(7);
    expect(keys.at(-1)).toMatchObject({ billedKey: "apikey_6", hint: "sk-ant-api03-R2D...ig6A", state: "inactive" });
  });

  it("an expired key and a key without the right are said apart", async () => {
    fake.failures.push({
      status: 401,
      body: { type: "error", error: { type: "authentication_error", message: "expired" } },
    });
    await expect(importer.fetchBills(DAY, "2026-11-11", silent)).rejects.toThrow("ANTHROPIC_ADMIN_KEY");
    const forbidden = { status: 403, body: { type: "error", error: { type: "permission_error", message: "no" } } };
    fake.failures.push(forbidden, forbidden);
    await expect(importer.fetchBills(DAY, "2026-11-11", silent)).rejects.toThrow("must be an admin key");
  });
});

describe("Google", () => {
  let fake: FakeGoogle;
  let settings: GoogleSettings;
  beforeEach(async () => {
    fake = await startFakeGoogle(truth);
    settings = {
      credentials: { reveal: async () => "google-token" },
      table: TABLE,
      projects: ["acme-ads"],
      skus: {},
      bigqueryUrl: fake.url,
      billingUrl: fake.url,
      monitoringUrl: fake.url,
      apiKeysUrl: fake.url,
      now: () => NOW,
    };
    for (const unit of ["input", "output", "cache_read"] as const)
      add("gcp.gemini", { model: "gemini-2.5-flash-lite", unit, project: "acme-ads", billedKey: "uid-1", requests: 3 });
    add("gcp.gemini", {
      model: "gemini-2.5-flash-lite",
      unit: "output",
      kind: "credit",
      amountNanoUsd: -1_000n,
      quantity: 0,
      project: "acme-ads",
    });
    add("gcp.gemini", { lineItem: "Tax", unit: undefined, kind: "tax", amountNanoUsd: 500n, quantity: 0 });
  });
  afterEach(() => fake.close());

  it("bills come out of a slow query in pages, credits and tax apart, SKUs read", async () => {
    fake.slowAnswers = 2;
    const bills = await googleImporter(settings).fetchBills(DAY, "2026-11-11", silent);
    const { lines = [] } = bills.find(({ provider }) => provider === "gcp.gemini") ?? {};
    expect(
      lines.map(({ kind, model, unit, amountNanoUsd }) => `${kind} ${model} ${unit} ${amountNanoUsd}`).toSorted(),
    ).toEqual([
      "credit gemini-2.5-flash-lite undefined -1000",
      "tax Tax (001E) undefined 500",
      "usage gemini-2.5-flash-lite cache_read 1750000",
      "usage gemini-2.5-flash-lite input 1750000",
      "usage gemini-2.5-flash-lite output 1750000",
    ]);
    expect(bills.find(({ provider }) => provider === "gcp.vertex_ai")?.lines).toEqual([]);
  });

  it("requests come by key from Cloud Monitoring, and keys are recognised by the end of their string", async () => {
    truth.keys.push({
      provider: "gcp.gemini",
      id: "uid-1",
      name: "ads",
      project: "acme-ads",
      shown: "AIzaSyFakeFakeFake1234",
    });
    const importer = googleImporter(settings);
    expect((await importer.fetchUsage?.(NOON - 3_600_000, NOON + 3_600_000))?.usage).toEqual([
      { hourMs: NOON, billedKey: "apikey:uid-1", project: "acme-ads", unit: "requests", quantity: 3 },
    ]);
    expect(await importer.fetchKeys?.()).toEqual([
      { billedKey: "apikey:uid-1", name: "ads", project: "acme-ads", hint: "AIza...1234", state: "active" },
    ]);
  });

  it("Cloud Billing says whether billing is on, and where list prices are not ours", async () => {
    fake.listPrices.set("Generate content input token count gemini 2.5 flash text", "0.3");
    fake.listPrices.set("Generate content output token count gemini 2.5 flash text", "2.75");
    const notes = (await googleImporter(settings).inspect?.()) ?? [];
    expect(notes).toEqual([
      "Google lists gemini-2.5-flash output at 2.75 USD a million, our price book has 2.5; give the right price under proxy.prices",
    ]);
    fake.billingEnabled = false;
    expect((await googleImporter(settings).inspect?.())?.[0]).toContain("billing is off for the project");
  });

  it.each([
    [401, "KEYMETER_GOOGLE_BILLING_CREDENTIALS"],
    [403, "BigQuery Data Viewer"],
    [404, "KEYMETER_GOOGLE_BILLING_TABLE"],
  ])("%i: one sentence that says what to do", async (status, part) => {
    fake.failures.push({ status, body: { error: { code: status, message: "no" } } });
    await expect(googleImporter(settings).fetchBills(DAY, "2026-11-11", silent)).rejects.toThrow(part);
  });

  it("refuses a bill that is not in USD, and a table's name that is none", async () => {
    await fake.close();
    fake = await startFakeGoogle(truth, "EUR");
    const urls = { bigqueryUrl: fake.url, billingUrl: fake.url, monitoringUrl: fake.url, apiKeysUrl: fake.url };
    await expect(googleImporter({ ...settings, ...urls }).fetchBills(DAY, "2026-11-11", silent)).rejects.toThrow(
      "are in EUR",
    );
    expect(() => googleImporter({ ...settings, table: "just-a-table" })).toThrow("project.dataset.table");
  });

  it("reads the SKUs that are known and leaves alone what it does not understand", () => {
    expect(readSku("Generate content output token count gemini 2.5 pro batch text")).toEqual({
      model: "gemini-2.5-pro",
      tier: "batch",
      unit: "output",
    });
    expect(readSku("Generate content audio input token count gemini 2.5 flash").unit).toBe("input_audio");
    expect(readSku("Gemini 2.5 Flash cache storage, token hours").unit).toBe("cache_token_hour");
    expect(readSku("Some new product")).toEqual({ model: undefined, tier: "", unit: undefined });
    expect(readLineItem("gpt-5.2, cached input")).toEqual({ model: "gpt-5.2", tier: "", unit: "cache_read" });
    expect(readLineItem("gpt-6-astra, input_tokens")).toEqual({ model: "gpt-6-astra", tier: "", unit: "input" });
  });
});

describe("sources together", () => {
  it("one that fails leaves the others alone, keeps what it had, and is noted", async () => {
    const [openai, anthropic] = [await startFakeOpenai(truth), await startFakeAnthropic(truth)];
    const folder = temporaryFolder();
    await (
      await openWriter({ path: join(folder, "usage.db"), durability: "process", zone: "UTC", capMode: "enforce" })
    ).close();
    const billing = await openToWrite(folder, "billing", "process");
    const usage = await openUsage(folder);
    if (!usage) throw new Error("no books");
    const books = { usage, billing };
    add("openai", {});
    add("anthropic", { model: "claude-haiku-4-5" });
    truth.keys.push({ provider: "openai", id: "key_1", name: "k", project: "proj_1", shown: "sk-...aaaa" });
    const importers = (key: string): Importer[] => [
      openaiImporter({ adminKey: new Secret(key), baseUrl: `${openai.url}/v1`, now: () => NOW }),
      anthropicImporter({ adminKey: new Secret("sk-ant-admin01-test"), baseUrl: anthropic.url, now: () => NOW }),
    ];
    const log = createLog("test", "silent");
    expect((await readBills(books, importers("sk-admin-test"), 3, NOW, log)).failures).toEqual([]);
    const { failures } = await readBills(books, importers("sk-admin-wrong"), 3, NOW + 1_000, log);
    expect(failures.length).toBe(1);
    expect(failures[0]).toContain("OPENAI_ADMIN_KEY");
    expect((await readBilledLines(billing, "openai", DAY, "2026-11-11")).length).toBe(1);
    expect((await readBilledLines(billing, "anthropic", DAY, "2026-11-11")).length).toBe(1);
    expect((await readProviderKeys(billing, "openai")).map(({ hint }) => hint)).toEqual(["sk-...aaaa"]);
    const notes = new Map((await readImports(billing)).map((one) => [one.provider, one]));
    expect(notes.get("openai")).toMatchObject({ lastSuccessMs: NOW, lastAttemptMs: NOW + 1_000 });
    expect(notes.get("openai")?.lastError).toContain("401");
    expect(notes.get("anthropic")).toMatchObject({ lastSuccessMs: NOW + 1_000, lastError: null });
    await billing.close();
    await usage.close();
    await openai.close();
    await anthropic.close();
  });

  it("settings name what is wrong, all at once", () => {
    const folder = temporaryFolder();
    const file = join(folder, "key.json");
    writeFileSync(file, '{"type":"service_account"}');
    const load = (more: object): unknown => loadCollectorConfig({ KEYMETER_DATA_DIR: folder, ...more });
    expect(() => load({ KEYMETER_GOOGLE_BILLING_TABLE: "a", KEYMETER_CLOSE_AFTER_DAYS: "0" })).toThrow(
      /2 settings|3 settings/,
    );
    expect(() => load({ KEYMETER_GOOGLE_BILLING_TABLE: TABLE })).toThrow("needs both");
    expect(() => load({ KEYMETER_GOOGLE_BILLING_TABLE: TABLE, KEYMETER_GOOGLE_BILLING_CREDENTIALS: file })).toThrow(
      "client_email",
    );
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const pem = privateKey.export({ type: "pkcs8", format: "pem" });
    writeFileSync(file, JSON.stringify({ type: "service_account", client_email: "a@b", private_key: pem }));
    const config = loadCollectorConfig({
      KEYMETER_DATA_DIR: folder,
      KEYMETER_GOOGLE_BILLING_TABLE: TABLE,
      KEYMETER_GOOGLE_BILLING_CREDENTIALS: file,
      KEYMETER_GOOGLE_BILLING_PROJECTS: "acme-ads, acme-search",
    });
    expect(config.google?.projects).toEqual(["acme-ads", "acme-search"]);
  });
});

describe("files", () => {
  const openai = (rows: string): Buffer =>
    Buffer.from(`start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id\n${rows}`);

  it("of OpenAI's and Anthropic's own downloads become bills by day", async () => {
    const [bill, ...more] = await readBillFile(
      "cost.csv",
      openai('2026-11-10T00:00:00+00:00,2026-11-11T00:00:00+00:00,0.0625,usd,"gpt-5.2, cached input",proj_1\n'),
    );
    expect(more).toEqual([]);
    expect(bill).toMatchObject({ provider: "openai", day: DAY, asOfMs: Date.parse("2026-11-11T00:00:00Z") });
    expect(bill?.lines[0]).toMatchObject({
      model: "gpt-5.2",
      unit: "cache_read",
      amountNanoUsd: 62_500_000n,
      resolutionNanoUsd: 100_000n,
    });
    const anthropic = Buffer.from(
      "usage_date_utc,model,workspace,api_key,usage_type,token_type,cost_usd,cost_type\n2026-11-10,claude-haiku-4-5,Default,ci,batch,input_cache_read,1.50,token\n",
    );
    expect((await readBillFile("a.csv", anthropic))[0]?.lines[0]).toMatchObject({
      unit: "cache_read",
      tier: "batch",
      amountNanoUsd: 1_500_000_000n,
    });
  });

  it("of other vendors are read by their service; what clouds resell, and what is no model, is left out", async () => {
    const header =
      "BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,ChargeCategory,ChargeDescription,ServiceName,ProviderName,InvoiceIssuerName,ConsumedQuantity,ConsumedUnit";
    const rows = [
      `1,USD,${DAY}T00:00:00Z,2026-11-11T00:00:00Z,Usage,"gpt-5.2, input",OpenAI API,OpenAI,OpenAI,500,Tokens`,
      `2,USD,${DAY}T00:00:00Z,2026-11-11T00:00:00Z,Usage,Tokens,Gemini API,Google Cloud,Google,3,1K Tokens`,
      `1000,USD,${DAY}T00:00:00Z,2026-11-11T00:00:00Z,Usage,N1,Compute Engine,Google Cloud,Google,1,Hours`,
      `88,USD,${DAY}T00:00:00Z,2026-11-11T00:00:00Z,Usage,Claude,Amazon Bedrock Anthropic,AWS,Amazon,1,Units`,
      `9,EUR,${DAY}T00:00:00Z,2026-11-11T00:00:00Z,Usage,Server,Cloud,Hetzner,Hetzner,1,Units`,
    ];
    const bills = await readBillFile("focus.csv", Buffer.from(`\uFEFF${header}\r\n${rows.join("\r\n")}\r\n`));
    expect(
      bills.map(({ provider, lines }) => [provider, lines.map((one) => [one.amountNanoUsd, one.quantity])]),
    ).toEqual([
      ["openai", [[1_000_000_000n, 500]]],
      ["gcp.gemini", [[2_000_000_000n, undefined]]],
    ]);
  });

  it("may be saved with semicolons", async () => {
    const bytes = Buffer.from(
      `start_time_iso;amount_value;amount_currency;line_item\n${DAY};0.5;usd;"gpt-5.2, output"\n`,
    );
    expect((await readBillFile("a.csv", bytes))[0]?.lines[0]).toMatchObject({
      unit: "output",
      amountNanoUsd: 500_000_000n,
    });
  });

  it.each([
    ["a header that was changed", Buffer.from("date,usd\n2026-11-10,1\n"), "its header is none that Keymeter knows"],
    [
      "an amount that is no number",
      openai("2026-11-10,,12;5,usd,m,p\n"),
      'cost.csv, line 2: amount_value "12;5" is no number',
    ],
    ["a currency that is not USD", openai("2026-11-10,,1,eur,m,p\n"), "are in eur"],
    ["a day that is none", openai("soon,,1,usd,m,p\n"), 'line 2: "soon" is no day'],
    ["a day that the calendar has not", openai("2026-02-31,,1,usd,m,p\n"), '"2026-02-31" is no day'],
    ["a day as only some write it", openai("11/10/2026,,1,usd,m,p\n"), '"11/10/2026" is no day'],
    ["no currency", openai("2026-11-10,,1,,m,p\n"), "are in no currency"],
    ["a day in the future", openai("2099-01-01,,1,usd,m,p\n"), "lies in the future"],
    ["a row with too many fields", openai("2026-11-10,,1,usd,m,p,q,r\n"), "is no CSV"],
    ["an empty file", Buffer.from(""), "holds no rows"],
    ["something that only begins like Parquet", Buffer.from("PAR1 and then nothing"), "cannot be read as Parquet"],
  ])("%s: refused whole, with the place and the way out", async (_name, bytes, part) => {
    await expect(readBillFile("cost.csv", bytes)).rejects.toThrow(part);
    await expect(readBillFile("cost.csv", bytes)).rejects.toThrow(/Nothing was imported/);
  });
});
