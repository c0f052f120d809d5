// Who providers are stands in one table: names that nothing else repeats, lists that exist, and what bills call them.
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { readBillFile } from "../../collector/importers/file.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { BUILT_IN, createProviders, PROVIDERS } from "../../ledger/providers.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

it("names and aliases are told apart, and each leads to a row", () => {
  const { names, find, bookedName } = createProviders([{ name: "groq", kind: "openai" }]);
  expect(new Set(names).size).toBe(names.length);
  for (const name of names) expect(find(bookedName(name))).toBeDefined();
  expect(names).toEqual([...BUILT_IN.names.slice(0, 4), "groq", ...BUILT_IN.names.slice(4)]);
  expect(find("groq")).toMatchObject({ displayName: "groq", focus: { service: "groq", publisher: "groq" } });
  expect(bookedName("an upstream of ours")).toBe("an upstream of ours");
  expect(find("google")).toBeUndefined();
});

it("models go by the maker's list where a cloud sells them, and upstreams bring theirs", () => {
  const book = createPriceBook();
  const { priceListOf } = createProviders([
    { name: "vertex-eu", kind: "vertex" },
    { name: "azure", kind: "azure" },
    { name: "my-gateway", kind: "openai", priceList: "anthropic" },
    { name: "ollama", kind: "openai" },
  ]);
  const nowMs = Date.parse("2026-11-29T00:00:00Z");
  for (const [provider, model, list] of [
    ["openai", "gpt-4o-mini", "openai"],
    ["anthropic", "claude-haiku-4-5", "anthropic"],
    ["gcp.gemini", "gemini-2.5-flash", "google"],
    ["gcp.vertex_ai", "gemini-2.5-flash", "google"],
    ["gcp.vertex_ai", "claude-haiku-4-5", "anthropic"],
  ] as const) {
    expect(priceListOf(provider, model), `${provider} ${model}`).toBe(list);
    expect(book.find(list, model, nowMs), `${list} ${model}`).toBeDefined();
  }
  expect(priceListOf("vertex-eu", "claude-haiku-4-5")).toBe("anthropic");
  expect(priceListOf("azure", "gpt-4o")).toBe("openai");
  expect(priceListOf("my-gateway", "claude-haiku-4-5")).toBe("anthropic");
  expect(priceListOf("ollama", "llama")).toBe("ollama");
  expect(priceListOf("an upstream of before", "llama")).toBe("an upstream of before");
});

it("a bill in FOCUS finds each by its service, clouds before the makers whose models they sell", async () => {
  const services = [
    ["OpenAI API", "OpenAI", "openai"],
    ["Claude API", "Anthropic", "anthropic"],
    ["Gemini API", "Google Cloud", "gcp.gemini"],
    ["Vertex AI", "Google Cloud", "gcp.vertex_ai"],
    ["Claude on Vertex AI", "Google Cloud", "gcp.vertex_ai"],
    ["Something new", "OpenAI", "openai"],
    ["Compute Engine", "Google Cloud", undefined],
    ["Azure OpenAI Service", "Microsoft", undefined],
  ] as const;
  const header =
    "BilledCost,BillingCurrency,ChargePeriodStart,ChargePeriodEnd,ChargeCategory,ChargeDescription,ServiceName,InvoiceIssuerName";
  for (const [service, issuer, provider] of services) {
    const row = `1.5,USD,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,Usage,"gpt-5, input",${service},${issuer}`;
    const bills = await readBillFile("focus.csv", Buffer.from(`${header}\n${row}\n`));
    expect(
      bills.map((bill) => bill.provider),
      service,
    ).toEqual(provider === undefined ? [] : [provider]);
  }
});

it("no other room has a table of providers", () => {
  const files = globSync("{alerts,charts,collector,command,ledger,proxy,service}/**/*.ts", { cwd: ROOT });
  const shared = /^(?!proxy\/)/;
  // Rooms that are about one provider, or write its past for the demo; and the settings that name them.
  const own =
    /^(proxy\/(providers|dialects)\/|proxy\/config\.ts|collector\/importers\/|collector\/rotation\/settings\.ts|command\/demo|command\/keyless\.ts|ledger\/(providers|prices\/rows)\.ts)/;
  const quoted = BUILT_IN.names.map((name) => `"${name}"`);
  const booked = PROVIDERS.filter(({ name }) => name.includes(".")).map(({ name }) => `"${name}"`);
  const found = files
    .filter((file) => !own.test(file))
    .filter((file) => {
      const text = readFileSync(`${ROOT}/${file}`, "utf8");
      // The proxy's own words for wire formats are some of these names.
      return (shared.test(file) ? quoted : booked).some((name) => text.includes(name));
    });
  expect(files.length).toBeGreaterThan(200);
  expect(found).toEqual([]);
});
