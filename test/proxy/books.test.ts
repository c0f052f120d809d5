// What the books keep of a request beside its money, and how people ask for it: tags, stated costs, discounts, unknown
// numbers.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openUsage } from "../../ledger/open.ts";
import { readSpend, readSpendByTag } from "../../ledger/usage/spend.ts";
import type { SpendRow } from "../../ledger/usage/spend-sums.ts";
import { addDays, createCalendar } from "../../ledger/windows.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { startProxy, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const KEY = "sk-test-books-client-key";
let provider: FakeProvider;
let running: RunningProxy;
beforeEach(async () => {
  provider = await startFakeProvider(() => {});
});
afterEach(async () => {
  await running.stop();
  await provider.close();
});

async function ask(usage: object, headers: { [name: string]: string } = {}, prefix = "/openai"): Promise<void> {
  provider.script = json({ id: "c", object: "chat.completion", model: "gpt-4o-mini", choices: [], usage });
  const answer = await fetch(`${running.url}${prefix}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${KEY}`, ...headers },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [] }),
  });
  expect(answer.status).toBe(200);
}
const used = (prompt: number, more: object = {}): object => ({
  prompt_tokens: prompt,
  completion_tokens: 0,
  total_tokens: prompt,
  ...more,
});
const metrics = async (): Promise<string> => (await fetch(`${running.opsUrl}/metrics`)).text();

describe("tags", () => {
  it.each(["UTC", "Asia/Kathmandu"])("break spend down, by day too, and sum to all of it (%s)", async (zone) => {
    running = await startProxy(provider.url, { KEYMETER_TIMEZONE: zone });
    await ask(used(100), { "x-keymeter-feature": "chat" });
    await ask(used(200), { "x-keymeter-feature": "chat", "x-keymeter-team": "ads" });
    await ask(used(400), { "helicone-property-feature": "search" });
    await ask(used(800));
    const books = await openUsage(running.place);
    if (!books) throw new Error("no books");
    const calendar = createCalendar(zone);
    const today = calendar.day(Date.now());
    const by = (...parts: Parameters<typeof readSpendByTag>[1]): Promise<SpendRow[]> =>
      readSpendByTag(books, parts, calendar, today, addDays(today, 1));
    const inputs = (rows: readonly SpendRow[]): [unknown, number, number][] =>
      rows.map(({ group, requests, input }) => [Object.values(group).join("/"), requests, input]);
    expect(inputs(await by("tag:feature"))).toEqual([
      ["", 1, 800],
      ["search", 1, 400],
      ["chat", 2, 300],
    ]);
    expect(inputs(await by("day", "tag:feature", "team"))).toEqual([
      [`${today}//`, 1, 800],
      [`${today}/search/`, 1, 400],
      [`${today}/chat/ads`, 1, 200],
      [`${today}/chat/`, 1, 100],
    ]);
    const [all] = await readSpend(books, [], today, addDays(today, 1));
    const tagged = await by("tag:feature", "model", "key");
    expect(tagged.reduce((sum, row) => sum + row.costNanoUsd, 0n)).toBe(all?.costNanoUsd);
    expect(await readSpendByTag(books, ["tag:feature"], calendar, addDays(today, 1), addDays(today, 2))).toEqual([]);
    await books.close();
  });
});

describe("usage", () => {
  it("with a number that nobody knows is counted and kept; known ones and zeros are not", async () => {
    running = await startProxy(provider.url);
    await ask(used(1, { prompt_tokens_details: { cached_tokens: 0, quantum_tokens: 7 }, flux: 3, nothing: 0 }));
    await ask(used(1, { flux: 3, total_time: 1.5 }));
    const text = await metrics();
    expect(text).toContain(
      'keymeter_unknown_usage_fields_total{provider="openai",field="prompt_tokens_details.quantum_tokens"} 1',
    );
    expect(text).toContain('keymeter_unknown_usage_fields_total{provider="openai",field="flux"} 2');
    expect(text).not.toContain("nothing");
    expect(text).not.toContain("total_time");
  });

  it("with the provider's own cost is booked at that, with ours beside it; 0, and less than half of ours, is not believed", async () => {
    const config = writeSettings(`proxy: { upstreams: { router: { url: "${provider.url}", price_list: openai } } }\n`);
    running = await startProxy(provider.url, { KEYMETER_CONFIG: config });
    await ask(used(1_000, { cost: 0.000_161, cost_details: { upstream_inference_cost: null } }), {}, "/router");
    await ask(used(1_000, { cost_in_usd_ticks: 1_234_567 }), {}, "/router");
    await ask(used(1_000, { cost: 0 }), {}, "/router");
    await ask(used(1_000, { cost: 0.000_07 }), {}, "/router");
    // A gateway's fee for a key of the user's own: the upstream's share is beside it.
    const own = { cost: 0.000_01, is_byok: true, cost_details: { upstream_inference_cost: 0.000_15 } };
    await ask(used(1_000, own), {}, "/router");
    await ask({ ...used(1_000, { cost: 0.000_2 }), model: "a-model-of-no-list" }, {}, "/router");
    const events = await running.events();
    expect(events.map((event) => [event.costNanoUsd, event.statedCostNanoUsd])).toEqual([
      ["161000", "161000"],
      ["123457", "123457"],
      ["150000", "0"],
      ["150000", "70000"],
      ["160000", "160000"],
      ["200000", "200000"],
    ]);
    const [first] = events;
    expect(first?.costLines.map(({ unit, costNanoUsd }) => [unit, costNanoUsd])).toEqual([
      ["input", "150000"],
      ["stated", "11000"],
    ]);
    expect(events.map(({ priceConfidence }) => priceConfidence)).toEqual(Array(6).fill("exact"));
  });
});

describe("a discount", () => {
  it("takes its share of tokens and fees of the models it names, and says so in the price's version", async () => {
    const config = writeSettings(
      `proxy:\n  discounts:\n    - { provider: openai, model: "gpt-4o*", percent: "12.5" }\n    - { provider: anthropic, percent: 50 }\n`,
    );
    running = await startProxy(provider.url, { KEYMETER_CONFIG: config });
    await ask(used(1_000));
    const [event] = await running.events();
    expect(event?.costNanoUsd).toBe(String((150_000 * 7) / 8));
    expect(event?.priceVersion).toContain("-12.5%");
    expect(event?.priceList).toBe("openai");
    expect(event?.costLines[0]?.multiplier).toBe("875/1000");
  });
});
