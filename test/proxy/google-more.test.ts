// Google's other endpoints: Interactions, explicit caches, films. Through the official SDK where it has them.
import { GoogleGenAI } from "@google/genai";
import { describe, expect, it } from "vitest";
import { json } from "../fake/provider.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" }, { each: true });

const google = (apiKey: string): GoogleGenAI =>
  new GoogleGenAI({ apiKey, httpOptions: { baseUrl: `${bench.running.url}/google`, apiVersion: "v1beta" } });
const KEY = "AIzaTestGoogleMoreClientKey";

describe("Interactions", () => {
  const USAGE = {
    total_tokens: 1_330,
    total_input_tokens: 1_000,
    input_tokens_by_modality: [{ modality: "text", tokens: 1_000 }],
    total_cached_tokens: 400,
    total_output_tokens: 100,
    total_tool_use_tokens: 30,
    total_thought_tokens: 200,
  };
  /** 600 and 30 at 0.30, 400 at 0.03, 300 at 2.50 USD a million. */
  const COST = String(630 * 300 + 400 * 30 + 300 * 2_500);
  const interaction = (status: string, usage?: object): object => ({
    id: "v1_abc",
    object: "interaction",
    model: "gemini-2.5-flash",
    status,
    service_tier: "standard",
    ...(usage ? { usage, outputs: [] } : {}),
  });

  it("are booked by their own counts: cached inside the input, thoughts and tools outside", async () => {
    bench.provider.script = json(interaction("completed", USAGE));
    await google(KEY).interactions.create({ model: "gemini-2.5-flash", input: "hi" });
    expect((await bench.running.events())[0]).toMatchObject({
      endpoint: "interactions",
      usage: { input: 600, input_tool: 30, cache_read: 400, output: 300 },
      reasoning: 200,
      costNanoUsd: COST,
      priceConfidence: "exact",
    });
  });

  it("in events: the last one counts", async () => {
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const event = (type: string, rest: object): string =>
        `event: ${type}\ndata: ${JSON.stringify({ event_type: type, ...rest })}\n\n`;
      response.write(event("interaction.created", { interaction: interaction("in_progress") }));
      response.write(event("step.delta", { index: 0, delta: { type: "text", text: "hello" } }));
      response.end(
        event("interaction.completed", { interaction: interaction("completed", USAGE) }) + "data: [DONE]\n\n",
      );
    };
    const stream = await google(KEY).interactions.create({ model: "gemini-2.5-flash", input: "hi", stream: true });
    const kinds: (string | undefined)[] = [];
    for await (const event of stream) kinds.push(event.event_type);
    expect(kinds).toContain("interaction.completed");
    await expect.poll(async () => (await bench.running.events()).length).toBe(1);
    expect((await bench.running.events())[0]).toMatchObject({ costNanoUsd: COST, outcome: "complete" });
  });

  it("in the background are pending until their result passes, once", async () => {
    const { secret, id } = await bench.running.createKey();
    bench.provider.script = json(interaction("in_progress"));
    await google(secret).interactions.create({ model: "gemini-2.5-flash", input: "hi", background: true });
    expect(await bench.running.events()).toEqual([]);
    bench.provider.script = json(interaction("completed", USAGE));
    for (let i = 0; i < 3; i++) await google(secret).interactions.get("v1_abc");
    expect((await bench.running.events()).map(({ keyId, costNanoUsd }) => [keyId, costNanoUsd])).toEqual([[id, COST]]);
    const { secret: other } = await bench.running.createKey();
    await expect(google(other).interactions.get("v1_abc")).rejects.toMatchObject({ status: 404 });
  });
});

describe("explicit caches", () => {
  const cache = (expireTime: string, updateTime = "2026-11-23T10:00:00Z"): object => ({
    name: "cachedContents/c1",
    model: "models/gemini-2.5-pro",
    createTime: "2026-11-23T10:00:00Z",
    updateTime,
    expireTime,
    usageMetadata: { totalTokenCount: 100_000 },
  });

  it("cost what is put in, and its storage until the expiry; a later expiry costs what lies beyond the first", async () => {
    const { secret } = await bench.running.createKey();
    bench.provider.script = json(cache("2026-11-23T12:00:00Z"));
    await google(secret).caches.create({ model: "gemini-2.5-pro", config: { contents: "x", ttl: "7200s" } });
    bench.provider.script = json(cache("2026-11-23T14:00:00Z", "2026-11-23T11:00:00Z"));
    await google(secret).caches.update({ name: "cachedContents/c1", config: { ttl: "10800s" } });
    // 100,000 at 1.25 USD a million; 200,000 token hours, and as many beyond the first expiry, at 4.50 USD a million.
    expect((await bench.running.events()).map((event) => [event.costNanoUsd, event.usage, event.usageReason])).toEqual([
      [String(125_000_000 + 900_000_000), { input: 100_000, cache_token_hour: 200_000 }, "not_stated"],
      [String(900_000_000), { cache_token_hour: 200_000 }, "not_stated"],
    ]);
  });

  it("are open to the key that made them, and to no other", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    bench.provider.script = json(cache("2026-11-23T12:00:00Z"));
    await google(mine.secret).caches.create({ model: "gemini-2.5-pro", config: { contents: "x" } });
    expect((await google(mine.secret).caches.get({ name: "cachedContents/c1" })).name).toBe("cachedContents/c1");
    await expect(google(other.secret).caches.get({ name: "cachedContents/c1" })).rejects.toMatchObject({ status: 404 });
    await expect(google(other.secret).caches.delete({ name: "cachedContents/c1" })).rejects.toMatchObject({
      status: 404,
    });
    expect((await bench.running.events()).length).toBe(1);
  });
});

describe("films of Veo", () => {
  it("are booked at their start by what was asked for, as an estimate; their operation is open to their key", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    const operation = { name: "models/veo-3.0-generate-001/operations/op1" };
    bench.provider.script = json(operation);
    await fetch(`${bench.running.url}/google/v1beta/models/veo-3.0-generate-001:predictLongRunning`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-goog-api-key": mine.secret },
      body: JSON.stringify({
        instances: [{ prompt: "a cat" }],
        parameters: { sampleCount: 2, durationSeconds: 6, resolution: "720p" },
      }),
    });
    expect((await bench.running.events())[0]).toMatchObject({
      usage: { video_second: 12 },
      costNanoUsd: "4800000000",
      usageState: "estimated",
      usageReason: "not_stated",
    });
    const poll = (secret: string): Promise<number> =>
      fetch(`${bench.running.url}/google/v1beta/${operation.name}`, { headers: { "x-goog-api-key": secret } }).then(
        ({ status }) => status,
      );
    expect([await poll(mine.secret), await poll(other.secret)]).toEqual([200, 404]);
    expect((await bench.running.events()).length).toBe(1);
  });
});
