// Money under attack: what a provider bills by its own rules is what is booked, or less than what is booked where it
// says nothing.
import { WebSocket } from "ws";
import { beforeEach, describe, expect, it } from "vitest";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { startFakeSocketProvider } from "../fake/socket-provider.ts";
import { IS_CI } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";
import { form, usdOf, withBench } from "./bench.ts";
import type { Held } from "./bench.ts";

const bench = withBench();
beforeEach(() => {
  bench.provider.behaviour = {};
  bench.provider.forget();
});

const messages = [{ role: "user", content: "hi" }];
const contents = [{ role: "user", parts: [{ text: "hi" }] }];
const OPENAI = "/openai/v1/chat/completions";
const RESPONSES = "/openai/v1/responses";
const ROUTER = "/openrouter/v1/chat/completions";
const XAI = "/xai/v1/chat/completions";
const GEMINI = "/google/v1beta/models/gemini-2.5-flash:generateContent";

async function eventsOf({ id }: { readonly id: string }): Promise<EventRecord[]> {
  return (await bench.running.events()).filter(({ keyId }) => keyId === id);
}

/** Asks as often as a cap lets it, at most `most` times. Returns how many passed. */
async function askAll(held: Held, most: number, send: () => Promise<Response>): Promise<number> {
  let passed = 0;
  for (let i = 0; i < most; i++) {
    const answer = await send();
    const said = await answer.text();
    if (answer.status === 200) passed += 1;
    else expect([answer.status, said]).toEqual([402, expect.stringContaining("budget of key")]);
    await bench.counted(held.id);
  }
  expect(bench.provider.bills.length).toBe(passed);
  expect(passed).toBeGreaterThan(0);
  return passed;
}

describe("fault 6: booked too little again and again", () => {
  const SOUND = "/openai/v1/audio/transcriptions";
  /** Ten minutes of speech at 8 kbit/s: 600,000 bytes, 0.06 USD. */
  const BYTES = 600_000;
  const SECONDS = 600;
  const speech = "fifteen letters ".repeat(SECONDS);
  const subtitles = (mark: string): string =>
    `1\n00:00:00${mark}000 --> 00:00:04${mark}000\nhi\n\n2\n00:09:56${mark}000 --> 00:10:00${mark}000\nbye\n`;

  it.each([
    ["text", speech],
    ["srt", subtitles(",")],
    ["vtt", `WEBVTT\n\n${subtitles(".")}`],
  ])(
    "D1: a transcript as %s of sound that was packed small is booked at no less than its bill",
    async (format, said) => {
      bench.provider.behaviour = { said, bytesPerSecond: 1_000 };
      const held = await bench.keyUnder("0.50");
      const passed = await askAll(held, 12, () =>
        bench.post(held.secret, SOUND, form({ model: "whisper-1", response_format: format, file: BYTES })),
      );
      expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(bench.provider.billed());
      // One more than fits can pass, for its length shows in its answer alone.
      expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd + 60_000_000n);
      expect(passed).toBeLessThan(12);
    },
  );

  it("D1: a transcript that states its seconds is booked exactly", async () => {
    bench.provider.behaviour = { said: speech, bytesPerSecond: 1_000 };
    const held = await bench.keyUnder("0.50");
    const body = (): FormData => form({ model: "whisper-1", response_format: "json", file: BYTES });
    expect((await bench.post(held.secret, SOUND, body())).status).toBe(200);
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
  });

  it("D2: a background response that is deleted, and then not found, is settled at no less than its bill", async () => {
    bench.provider.behaviour = { promptTokens: 10, hidden: 9_000, words: 50 };
    const held = await bench.keyUnder("1.00");
    const send = (method: string, path: string): Promise<Response> =>
      fetch(bench.running.url + path, { method, headers: { authorization: `Bearer ${held.secret}` } });
    const body = { model: "gpt-5.2", input: "hi", background: true, max_output_tokens: 10_000 };
    let passed = 0;
    for (let i = 0; i < 12; i++) {
      const answer = await bench.post(held.secret, RESPONSES, body);
      if (answer.status === 402) continue;
      expect(answer.status).toBe(200);
      passed += 1;
      const { id } = (await answer.json()) as { id: string };
      expect((await send("DELETE", `${RESPONSES}/${id}`)).status).toBe(200);
      expect((await send("GET", `${RESPONSES}/${id}`)).status).toBe(404);
      await bench.settled(held.id);
    }
    expect(passed).toBeGreaterThan(1);
    expect(passed).toBeLessThan(12);
    expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(bench.provider.billed());
    expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd + 141_000_000n);
    for (const event of await eventsOf(held))
      expect(event).toMatchObject({ usageState: "estimated", usageReason: "not_fetched" });
  });

  it("E1: a response over a WebSocket, left at the first word, is booked at no less than its bill", async () => {
    const provider = await startFakeSocketProvider();
    const running = await startProxy(provider.url, { KEYMETER_DURABILITY: "process" });
    try {
      let billed = 0n;
      provider.script = {
        onMessage(message, say) {
          if (message["type"] !== "response.create") return;
          // 10,000 tokens thought before the first word, at 14 USD a million.
          billed += 10_000n * 14_000n;
          const id = `resp_${billed}`;
          say({ type: "response.created", response: { id, model: "gpt-5.2", status: "in_progress", usage: null } });
          say({ type: "response.output_text.delta", response_id: id, delta: "word" });
        },
      };
      const { id, secret } = await running.createKey({ team: "" });
      const budget = await running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1_000_000_000n });
      let passed = 0;
      for (let i = 0; i < 10; i++) {
        const socket = new WebSocket(`${running.url.replace("http", "ws")}${RESPONSES}`, {
          headers: { authorization: `Bearer ${secret}` },
        });
        const first = new Promise<string>((resolve) => {
          socket.on("message", (data: Buffer) => {
            const said = data.toString("utf8");
            if (said.includes("output_text.delta") || said.includes("error")) resolve(said);
          });
          socket.on("error", () => resolve("error"));
          socket.on("close", () => resolve("closed"));
        });
        socket.on("open", () =>
          socket.send(JSON.stringify({ type: "response.create", model: "gpt-5.2", input: "hi" })),
        );
        if ((await first).includes("delta")) passed += 1;
        socket.terminate();
        await expect
          .poll(async () => (await running.proxy.writer.verify()).reservedNanoUsd, { timeout: 10_000, interval: 5 })
          .toBe(0n);
      }
      const [state] = (await running.proxy.writer.states()).filter((one) => one.budget.id === budget.id);
      expect(passed).toBeGreaterThan(1);
      expect(passed).toBeLessThan(10);
      expect(state?.settledNanoUsd).toBeGreaterThanOrEqual(billed);
      expect(billed).toBeLessThanOrEqual(1_000_000_000n);
    } finally {
      await running.stop();
      await provider.close();
    }
  });

  it("S1: a whole answer that comes long after its client left is booked at its bill", async () => {
    // Beyond what a client that left was waited for once: two minutes.
    const waitMs = IS_CI ? 125_000 : 800;
    bench.provider.behaviour = {
      promptTokens: 10,
      hidden: 10_000,
      words: 50,
      until: new Promise((resolve) => setTimeout(resolve, waitMs)),
    };
    const held = await bench.keyUnder("1.00");
    const controller = new AbortController();
    const answer = fetch(bench.running.url + OPENAI, {
      method: "POST",
      signal: controller.signal,
      headers: { "content-type": "application/json", authorization: `Bearer ${held.secret}` },
      body: JSON.stringify({ model: "gpt-5.2", messages }),
    });
    await expect.poll(() => bench.provider.journal.length, { interval: 5 }).toBe(1);
    controller.abort();
    await expect(answer).rejects.toThrow("abort");
    await expect.poll(() => bench.running.proxy.context.forwarder.open(), { timeout: waitMs + 20_000 }).toBe(0);
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    expect(await eventsOf(held)).toMatchObject([{ usageState: "reported" }]);
  });

  it.each([
    ["with the cost that is stated", undefined],
    ["without", { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 }],
  ])("C6: the fee of each request of a price list is booked, %s", async (_name, usage) => {
    bench.provider.behaviour = { promptTokens: 10, words: 5, ...(usage ? { usage } : {}) };
    const held = await bench.keyUnder("0.05");
    const body = { model: "sonar", max_tokens: 50, messages };
    const passed = await askAll(held, 14, () => bench.post(held.secret, "/perplexity/chat/completions", body));
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd);
    expect(passed).toBe(9);
  });
});

describe("fault 5: what a provider states of its price is booked", () => {
  it.each([
    ["C4: OpenRouter's web plugin", ROUTER, { model: "openai/gpt-4o-mini", plugins: [{ id: "web" }] }],
    [
      "C3: OpenRouter, answered by a dearer model",
      ROUTER,
      { model: "openai/gpt-4o-mini", models: ["anthropic/claude-opus-4.6"] },
    ],
    ["C5: xAI's sources", XAI, { model: "grok-4", search_parameters: { mode: "on", max_search_results: 30 } }],
    ["C1: a model that searches", OPENAI, { model: "gpt-4o-search-preview" }],
    [
      "C7: Azure's data sources",
      "/azure/openai/deployments/data/chat/completions?api-version=2024-10-21",
      { data_sources: [{}] },
    ],
  ])("%s: settled is what was billed, and an expected cap stops it", async (_name, path, more) => {
    bench.provider.behaviour = {
      promptTokens: 10,
      words: 8_000,
      ...("models" in more ? { serves: "anthropic/claude-opus-4.6" } : {}),
    };
    const body = { max_tokens: 8_000, messages, ...more };
    const one = await bench.quote(path, body);
    const held = await bench.keyUnder(usdOf(one * 5n));
    const passed = await askAll(held, 10, () => bench.post(held.secret, path, body));
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    expect(passed).toBeLessThan(10);
    // What is not known before it is answered: one answer beyond the amount.
    expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd + one);
  });

  it("pictures are booked by the piece that came", async () => {
    const held = await bench.keyUnder("1.00");
    const body = { model: "dall-e-2", prompt: "x", n: 3, size: "1024x1024" };
    expect((await bench.post(held.secret, "/openai/v1/images/generations", body)).status).toBe(200);
    const instances = [{ prompt: "x" }, { prompt: "y" }];
    const path = "/google/v1beta/models/imagen-4.0-generate-001:predict";
    expect((await bench.post(held.secret, path, { instances, parameters: { sampleCount: 2 } })).status).toBe(200);
    expect(bench.provider.billed()).toBe(3n * 20_000_000n + 4n * 40_000_000n);
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
  });
});

describe("fault 7: Google's usage without the names that are expected", () => {
  const WORDS = 4_000;
  it.each([
    ["empty", {}],
    ["renamed", { inputTokenCount: 10, outputTokenCount: WORDS }],
    ["a total alone", { totalTokenCount: 10_000 }],
    ["no prompt", { candidatesTokenCount: WORDS, totalTokenCount: WORDS }],
    ["counts that are texts of no number", { promptTokenCount: "ten", candidatesTokenCount: "many" }],
  ])("D5: %s beside 4,000 words is never zero and never reported", async (_name, usage) => {
    bench.provider.behaviour = { promptTokens: 10, words: WORDS, usage };
    for (const path of [GEMINI, GEMINI.replace(":generateContent", ":streamGenerateContent?alt=sse")]) {
      bench.provider.forget();
      const held = await bench.keyUnder("1.00");
      expect((await bench.post(held.secret, path, { contents })).status).toBe(200);
      expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(bench.provider.billed());
      expect(await eventsOf(held)).toMatchObject([{ usageState: "estimated" }]);
    }
  });

  it("D5: a total above its parts is booked, as no word of the provider's", async () => {
    const usage = { promptTokenCount: 10, candidatesTokenCount: 5, totalTokenCount: 10_015 };
    bench.provider.behaviour = { words: 5, usage };
    const held = await bench.keyUnder("1.00");
    expect((await bench.post(held.secret, GEMINI, { contents })).status).toBe(200);
    expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(10_005n * 2_500n);
    expect(await eventsOf(held)).toMatchObject([{ usageState: "estimated" }]);
  });

  it.each([
    ["empty", {}],
    ["renamed", { inputTokens: 10, outputTokens: WORDS }],
    ["a total alone", { total_tokens: 10_000 }],
  ])("D5's class: an interaction's usage that is %s is never zero and never reported", async (_name, usage) => {
    bench.provider.behaviour = { promptTokens: 10, words: WORDS, usage };
    const held = await bench.keyUnder("1.00");
    const body = { model: "gemini-2.5-flash", input: "hi" };
    expect((await bench.post(held.secret, "/google/v1beta/interactions", body)).status).toBe(200);
    expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(bench.provider.billed());
    expect(await eventsOf(held)).toMatchObject([{ usageState: "estimated" }]);
  });

  it.each([
    ["OpenAI", OPENAI, { model: "gpt-4o", messages }],
    ["Anthropic", "/anthropic/v1/messages", { model: "claude-haiku-4-5", max_tokens: 50, messages }],
  ])("D5's class: %s's empty usage is never zero and never reported", async (_name, path, body) => {
    bench.provider.behaviour = { words: 40, usage: {} };
    const held = await bench.keyUnder("1.00");
    expect((await bench.post(held.secret, path, body)).status).toBe(200);
    expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(bench.provider.billed());
    expect(await eventsOf(held)).toMatchObject([{ usageState: "estimated" }]);
  });
});

describe("fault 1's class: whole answers that thought and state no usage", () => {
  it.each([
    ["Gemini's empty usage", GEMINI, { contents }, {}],
    ["xAI's empty usage", XAI, { model: "grok-4", messages }, {}],
    ["OpenRouter's usage of null", ROUTER, { model: "openai/gpt-5.2", messages }, null],
    [
      "Anthropic's empty usage",
      "/anthropic/v1/messages",
      { model: "claude-opus-4-6", max_tokens: 16_000, thinking: { type: "adaptive", display: "omitted" }, messages },
      {},
    ],
  ])("%s: booked at no less than what was held", async (_name, path, body, usage) => {
    bench.provider.behaviour = { promptTokens: 10, words: 5, hidden: 3_500, usage };
    const held = await bench.keyUnder("1.00");
    expect((await bench.post(held.secret, path, body)).status).toBe(200);
    expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(bench.provider.billed());
    expect(await eventsOf(held)).toMatchObject([{ usageState: "estimated" }]);
  });
});

describe("fault 9: background where nothing goes on", () => {
  const COUNT = IS_CI ? 30 : 10;
  it.each([
    [
      "a chat stream",
      ROUTER,
      { model: "openai/gpt-4o-mini", stream: true, background: true, max_tokens: 50, messages },
      "left",
    ],
    [
      "a chat stream that is read",
      ROUTER,
      { model: "openai/gpt-4o-mini", stream: true, background: true, max_tokens: 50, messages },
      "read",
    ],
    ["a chat", OPENAI, { model: "gpt-4o-mini", background: true, max_tokens: 50, messages }, "read"],
    ["embeddings", "/openai/v1/embeddings", { model: "text-embedding-3-small", input: "hi", background: true }, "read"],
  ])("D6: %s is booked each time, though ids repeat", async (_name, path, body, how) => {
    bench.provider.behaviour = {
      promptTokens: 10,
      words: 40,
      id: "same",
      ...(how === "left" ? { silentAfter: "text" } : {}),
    };
    const held = await bench.keyUnder("1.00");
    for (let i = 0; i < COUNT; i++) {
      const answer = await bench.post(held.secret, path, body);
      expect(answer.status).toBe(200);
      if (how === "left") {
        const reader = answer.body?.getReader();
        for (let heard = ""; heard.split("word").length <= 40;)
          heard += Buffer.from((await reader?.read())?.value ?? []).toString();
        await reader?.cancel();
      } else await answer.text();
      await bench.settled(held.id);
    }
    const events = await eventsOf(held);
    expect(events.length).toBe(COUNT);
    for (const event of events) expect(BigInt(event.costNanoUsd ?? 0)).toBeGreaterThan(0n);
    expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(bench.provider.billed());
  });
});
