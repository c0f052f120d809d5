// A newer price list: fetched when told to, checked, used by the proxy without a restart, refused whole when it is odd.
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findProvider } from "@pydantic/genai-prices";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fetchPriceList } from "../../collector/price-list.ts";
import { openPriceBook, parsePriceList } from "../../ledger/prices/price-list.ts";
import { sharePriceList, takePriceList } from "../../ledger/prices/shared-list.ts";
import { migratePostgres } from "../../ledger/postgres.ts";
import { Secret } from "../../service/secret.ts";
import { hasPostgres, startPostgres } from "../postgres.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { temporaryFolder } from "../start-proxy.ts";

type Model = { id: string; match: object; prices: object };
let web: FakeProvider;
let folder: string;
beforeEach(async () => {
  web = await startFakeProvider(json("gone", 404));
  folder = temporaryFolder();
});
afterEach(() => web.close());

/** The built-in list with changes, in the form in which it is published. */
function listWith(change: (models: Model[]) => Model[]): { id: string; models: Model[] }[] {
  return ["openai", "anthropic", "google"].map((id) => {
    const models = structuredClone(findProvider({ providerId: id })?.models ?? []) as unknown as Model[];
    return { id, models: id === "openai" ? change(models) : models };
  });
}
const at = (dataDir: string, ledgerUrl?: string) => ({
  dataDir,
  ledgerUrl: ledgerUrl === undefined ? undefined : new Secret(ledgerUrl),
});
const NEWCOMER = { id: "gpt-77", match: { equals: "gpt-77" }, prices: { input_mtok: 3, output_mtok: 12 } };
const NOW = Date.parse("2026-11-23T00:00:00Z");

describe("a price list", () => {
  it("that is fetched is used by an open book at its next look, and names itself in the version", async () => {
    const troubles: string[] = [];
    const book = openPriceBook(folder, [], [], (trouble) => troubles.push(trouble));
    expect(book.find("openai", "gpt-77", NOW)).toBeUndefined();
    const before = book.find("openai", "gpt-4o-mini", NOW);
    web.script = json(listWith((models) => [...models, NEWCOMER]));
    expect(await fetchPriceList(at(folder), web.url)).toBeUndefined();
    expect(book.find("openai", "gpt-77", NOW)).toBeUndefined();
    book.refresh();
    expect(book.find("openai", "gpt-77", NOW)?.units.output?.base).toBe(12_000_000n);
    expect(book.find("openai", "gpt-77", NOW)?.version).toMatch(/^genai-prices@[0-9a-f]{12}:openai\/gpt-77$/);
    expect(book.find("openai", "gpt-4o-mini", NOW)?.units).toEqual(before?.units);
    expect(troubles).toEqual([]);
  });

  it("loses to our own rows and to those of the settings", async () => {
    web.script = json(listWith((models) => [...models, NEWCOMER]));
    await fetchPriceList(at(folder), web.url);
    const row = { list: "openai", model: "gpt-77", usdPerMillion: { input: "9" }, source: "settings" };
    expect(openPriceBook(folder, [row], [], () => {}).find("openai", "gpt-77", NOW)?.units.input?.base).toBe(
      9_000_000n,
    );
  });

  const odd: { readonly [name: string]: readonly [unknown, RegExp] } = {
    "is no JSON": ["<html>", /no JSON/],
    "has another form": [{ providers: [] }, /price list/],
    "has a negative price": [
      listWith((models) => [...models, { ...NEWCOMER, prices: { input_mtok: -1 } }]),
      /openai.*gpt-77.*input_mtok/,
    ],
    "has a price in another unit": [
      listWith((models) => [...models, { ...NEWCOMER, prices: { input_mtok: 3_000_000 } }]),
      /openai.*gpt-77.*input_mtok/,
    ],
    "moves a known price too far": [
      listWith((models) =>
        models.map((model) =>
          model.id === "gpt-4o-mini" ? { ...model, prices: { input_mtok: 150, output_mtok: 0.6 } } : model,
        ),
      ),
      /openai\/gpt-4o-mini input: it went to 1000 of what is known/,
    ],
    "makes a known price nothing": [
      listWith((models) =>
        models.map((model) =>
          model.id === "gpt-4o-mini" ? { ...model, prices: { input_mtok: 0, output_mtok: 0.6 } } : model,
        ),
      ),
      /openai\/gpt-4o-mini input: it went to 0/,
    ],
    "has a pattern that is none": [
      listWith((models) => [...models, { ...NEWCOMER, match: { regex: "(" } }]),
      /openai.*gpt-77.*match/,
    ],
    "has a model that answers for others": [
      listWith((models) => [{ ...NEWCOMER, match: { regex: "^.*$" } }, ...models]),
      /answers to the entry gpt-77 of the list/,
    ],
    "shrinks a context": [
      listWith((models) =>
        models.map((model) => (model.id === "gpt-4o-mini" ? { ...model, context_window: 1 } : model)),
      ),
      /gpt-4o-mini context_window/,
    ],
    "has lost most models": [listWith((models) => models.slice(0, 3)), /3 models of openai/],
  };
  it.each(Object.entries(odd))(
    "that %s is refused whole, with the reason, and nothing changes",
    async (_name, [list, why]) => {
      web.script = typeof list === "string" ? json(list) : json(list);
      const failure = await fetchPriceList(at(folder), web.url);
      expect(failure).toMatch(/is refused/);
      expect(failure).toMatch(why);
      expect(existsSync(join(folder, "price-list.json"))).toBe(false);
    },
  );

  it("that cannot be fetched leaves the old one", async () => {
    web.script = json(listWith((models) => [...models, NEWCOMER]));
    await fetchPriceList(at(folder), web.url);
    const written = readFileSync(join(folder, "price-list.json"), "utf8");
    web.script = json({}, 500);
    expect(await fetchPriceList(at(folder), web.url)).toContain("answered 500");
    expect(await fetchPriceList(at(folder), "http://127.0.0.1:9/none")).toContain("could not be fetched");
    expect(readFileSync(join(folder, "price-list.json"), "utf8")).toBe(written);
    expect(
      parsePriceList(written)
        .models("openai")
        ?.some(({ id }) => id === "gpt-77"),
    ).toBe(true);
  });

  it.skipIf(!hasPostgres)("that is fetched on one machine is taken on all others; an odd one on none", async () => {
    const server = await startPostgres();
    const url = await server.database("prices");
    await migratePostgres(url);
    const other = temporaryFolder();
    const book = openPriceBook(other, [], [], () => {});
    await takePriceList(url, other);
    expect(existsSync(join(other, "price-list.json"))).toBe(false);
    web.script = json(listWith((models) => [...models, NEWCOMER]));
    expect(await fetchPriceList(at(folder, url), web.url)).toBeUndefined();
    await takePriceList(url, other);
    book.refresh();
    expect(book.find("openai", "gpt-77", NOW)?.units.output?.base).toBe(12_000_000n);
    expect(book.find("openai", "gpt-77", NOW)?.version).toBe(
      openPriceBook(folder, [], [], () => {}).find("openai", "gpt-77", NOW)?.version,
    );
    // What it has itself is newer, or the same: nothing is written.
    const before = statSync(join(other, "price-list.json")).mtimeMs;
    await takePriceList(url, other);
    expect(statSync(join(other, "price-list.json")).mtimeMs).toBe(before);
    await sharePriceList(url, "<html>", Date.now() + 60_000);
    await expect(takePriceList(url, other)).rejects.toThrow(/no JSON/);
    expect(book.find("openai", "gpt-77", NOW)).toBeDefined();
    await server.stop();
    expect(await fetchPriceList(at(folder, url), web.url)).toMatch(/other proxies do not get it: .*cannot be reached/);
  });

  it("that was damaged by hand is said, and the built-in one counts", () => {
    writeFileSync(join(folder, "price-list.json"), "[]");
    const troubles: string[] = [];
    const book = openPriceBook(folder, [], [], (trouble) => troubles.push(trouble));
    expect(book.find("openai", "gpt-4o-mini", NOW)?.units.input?.base).toBe(150_000n);
    book.refresh();
    expect(troubles.length).toBe(1);
    expect(troubles[0]).toContain("collector --once prices");
  });
});
