// Caps under attack: what is refused never reaches the provider, what passes is held at what a provider bills by its
// own rules.
import { beforeEach, describe, expect, it } from "vitest";
import { IS_CI } from "../seed.ts";
import { form, leaveAfter, usdOf, withBench } from "./bench.ts";
import type { Headers, Held } from "./bench.ts";

const bench = withBench();
beforeEach(() => {
  bench.provider.behaviour = {};
  bench.provider.forget();
});

const USD = 1_000_000_000n;
const messages = [{ role: "user", content: "hi" }];
const contents = [{ role: "user", parts: [{ text: "hi" }] }];
const OPENAI = "/openai/v1/chat/completions";
const RESPONSES = "/openai/v1/responses";
const ANTHROPIC = "/anthropic/v1/messages";
const ROUTER = "/openrouter/v1/chat/completions";
const GATEWAY = "/gateway/v1/chat/completions";
const XAI = "/xai/v1/chat/completions";
const GEMINI_OPENAI = "/google/v1beta/openai/chat/completions";
const CLAUDE_OPENAI = "/anthropic/v1/chat/completions";
const AZURE_CHAT = "chat/completions?api-version=2024-10-21";
const FLASH_STREAM = "/google/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
const ASKED = IS_CI ? 60 : 20;

describe("fault 1: hidden reasoning of a stream that is left", () => {
  /** Asks again and again, leaves each stream that passes, and looks at the books each time. */
  async function leaveAll(held: Held, path: string, body: object, words: number): Promise<number> {
    let passed = 0;
    for (let i = 0; i < ASKED; i++) {
      const answer = await bench.post(held.secret, path, body);
      if (answer.status === 200) {
        passed += 1;
        await leaveAfter(answer, "word", words);
        await bench.settled(held.id);
      } else expect([answer.status, await answer.text()]).toEqual([402, expect.stringContaining("budget of key")]);
    }
    expect(bench.provider.journal.length).toBe(passed);
    return passed;
  }
  /** Each is booked at no less than its bill, and so the cap holds. */
  async function booked(held: Held, passed: number): Promise<void> {
    expect(passed).toBeGreaterThan(1);
    expect(await bench.settled(held.id)).toBeGreaterThanOrEqual(bench.provider.billed());
    expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd);
    expect(passed).toBeLessThan(ASKED);
  }

  const shown = { thinking: { type: "adaptive", display: "omitted" } };
  const thinkingConfig = { includeThoughts: false };
  const limited = { stream: true, max_tokens: 64_000, messages };
  const STREAMS: readonly (readonly [name: string, path: string, body: object, hidden: number, usd: string])[] = [
    ["gpt-5.2", OPENAI, { model: "gpt-5.2", stream: true, messages }, 10_000, "1.00"],
    ["gpt-5.2 by Responses", RESPONSES, { model: "gpt-5.2", stream: true, input: "hi" }, 10_000, "1.00"],
    ["Anthropic, unshown", ANTHROPIC, { model: "claude-opus-4-6", ...limited, ...shown }, 7_000, "1.00"],
    [
      "Gemini without counts on the way",
      FLASH_STREAM,
      { contents, generationConfig: { thinkingConfig } },
      8_000,
      "0.10",
    ],
    ["Gemini in OpenAI's format", GEMINI_OPENAI, { model: "gemini-2.5-pro", stream: true, messages }, 8_000, "0.50"],
    ["Anthropic in OpenAI's format", CLAUDE_OPENAI, { model: "claude-sonnet-4-5", ...limited }, 7_000, "0.50"],
    ["xAI", XAI, { model: "grok-4", ...limited }, 7_000, "0.50"],
    ["OpenRouter", ROUTER, { model: "openai/gpt-5.2", ...limited, reasoning: { exclude: true } }, 7_000, "0.50"],
    ["Azure", `/azure/openai/deployments/think/${AZURE_CHAT}`, { stream: true, messages }, 10_000, "1.00"],
  ];
  it.each(STREAMS)("B1: %s, left at the first word", async (_name, path, body, hidden, usd) => {
    bench.provider.behaviour = { promptTokens: 10, words: 50, hidden, silentAfter: "word" };
    const held = await bench.keyUnder(usd);
    await booked(held, await leaveAll(held, path, body, 1));
  });

  it.each(STREAMS)("B2: %s, left behind its whole text", async (_name, path, body, hidden, usd) => {
    bench.provider.behaviour = { promptTokens: 10, words: 40, hidden, silentAfter: "text" };
    const held = await bench.keyUnder(usd);
    await booked(held, await leaveAll(held, path, body, 40));
  });

  it("B2: a model that does not think, left behind its whole text", async () => {
    bench.provider.behaviour = { promptTokens: 10, words: 8_000, silentAfter: "text" };
    const held = await bench.keyUnder("0.03");
    const body = { model: "gpt-4o-mini", stream: true, max_tokens: 16_000, messages };
    await booked(held, await leaveAll(held, OPENAI, body, 8_000));
  });

  it("Gemini, left after counts came on the way: booked as stated", async () => {
    bench.provider.behaviour = { promptTokens: 10, words: 50, hidden: 30_000, statesEach: true, silentAfter: "word" };
    const held = await bench.keyUnder("0.40");
    const passed = await leaveAll(held, FLASH_STREAM, { contents }, 1);
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    // The counts of the last one come when it has thought.
    expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd + bench.provider.billed() / BigInt(passed));
    expect(passed).toBeLessThan(ASKED);
  });

  it.each([
    [
      "B3: Anthropic's thinking far above what is usual",
      ANTHROPIC,
      {
        model: "claude-opus-4-6",
        max_tokens: 16_000,
        stream: true,
        thinking: { type: "enabled", budget_tokens: 15_500 },
        messages,
      },
      15_900,
    ],
    ["B1: gpt-5.2 that thinks to its very limit", OPENAI, { model: "gpt-5.2", stream: true, messages }, 127_000],
  ])("%s stays within the stated bound", async (_name, path, body, hidden) => {
    bench.provider.behaviour = { promptTokens: 10, words: 50, hidden, silentAfter: "word" };
    const held = await bench.keyUnder("0.50");
    const passed = await leaveAll(held, path, body, 1);
    expect(passed).toBeGreaterThan(0);
    expect(passed).toBeLessThan(ASKED);
    expect(bench.provider.billed()).toBeLessThanOrEqual(8n * held.amountNanoUsd);
  });

  it("B1: a deployment that is named like an older model thinks as the model behind it", async () => {
    bench.provider.behaviour = { promptTokens: 10, words: 50, hidden: 10_000, silentAfter: "word" };
    const held = await bench.keyUnder("1.00");
    const path = `/azure/openai/deployments/gpt-4-next/${AZURE_CHAT}`;
    await booked(held, await leaveAll(held, path, { stream: true, messages }, 1));
  });

  it.each([
    [
      "Anthropic ignores in OpenAI's format",
      CLAUDE_OPENAI,
      { model: "claude-sonnet-4-5", thinking: { type: "enabled", budget_tokens: 16_000 } },
    ],
    ["another effort contradicts", ROUTER, { model: "openai/gpt-5.2", reasoning: { effort: "high" } }],
  ])("B3: an effort of none that %s does not hide what is thought", async (_name, path, more) => {
    bench.provider.behaviour = { promptTokens: 10, words: 50, hidden: 7_000, silentAfter: "word" };
    const held = await bench.keyUnder("0.50");
    await booked(held, await leaveAll(held, path, { ...limited, reasoning_effort: "none", ...more }, 1));
  });

  it("B1, strict: five fit, each is booked in full, and the cap is not passed", async () => {
    bench.provider.behaviour = { promptTokens: 10, words: 50, hidden: 11_950, silentAfter: "word" };
    const held = await bench.keyUnder("0.86", "strict");
    const body = { model: "gpt-5.2", stream: true, max_completion_tokens: 12_000, messages };
    const passed = await leaveAll(held, OPENAI, body, 1);
    expect(passed).toBe(5);
    await booked(held, passed);
  });
});

describe("fault 2: a taught expectation", () => {
  const COUNT = IS_CI ? 300 : 100;

  /** Teaches that answers are short, asks for long ones at once, and lets them be answered when no more are decided. */
  async function teachAndFlood(amount: string, maxTokens: number, model = "claude-opus-4-6"): Promise<Held> {
    bench.provider.behaviour = { promptTokens: 10, words: 1 };
    const held = await bench.keyUnder(amount);
    const body = { model, max_tokens: maxTokens, messages };
    for (let i = 0; i < 60; i++) {
      const { status } = await bench.post(held.secret, ANTHROPIC, body);
      expect(status).toBe(200);
    }
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    let answerAll = (): void => {};
    const until = new Promise<void>((resolve) => (answerAll = resolve));
    bench.provider.behaviour = { promptTokens: 10, words: maxTokens, until };
    const before = bench.provider.journal.length;
    const refusedBefore = await bench.refused("in_flight");
    let refused = 0;
    const answers = Array.from({ length: COUNT }, async () => {
      const answer = await bench.post(held.secret, ANTHROPIC, body);
      if (answer.status === 402) {
        refused += 1;
        expect(await answer.text()).toContain("answers under way");
      }
      return answer.status;
    });
    await expect.poll(() => refused + bench.provider.journal.length - before, { timeout: 20_000 }).toBe(COUNT);
    answerAll();
    const passed = (await Promise.all(answers)).filter((status) => status === 200).length;
    expect(passed).toBeGreaterThan(1);
    expect(passed + refused).toBe(COUNT);
    expect(refused).toBeGreaterThan(0);
    expect((await bench.refused("in_flight")) - refusedBefore).toBe(refused);
    expect(bench.provider.journal.length - before).toBe(passed);
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    return held;
  }

  it("B5: 60 short answers, then long ones at once: the bills stay within eight times the amount", async () => {
    const held = await teachAndFlood("1.00", 16_000);
    expect(bench.provider.billed()).toBeLessThanOrEqual(8n * held.amountNanoUsd);
  });

  it("B5: of answers that cost little against the amount, within the amount and forty of them", async () => {
    const held = await teachAndFlood("0.60", 2_000);
    // 2,000 tokens at 25 USD a million, and no more than 200 tokens of prompt at the dearest price of a cache.
    const one = 2_000n * 25_000n + 200n * 10_000n;
    expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd + 40n * one);
  });

  it("B5: where forty of them are less than the amount, within twice the amount", async () => {
    const held = await teachAndFlood("0.27", 200);
    expect(bench.provider.billed()).toBeLessThanOrEqual(2n * held.amountNanoUsd);
  });

  it("B4: a stream that may think far beyond a cap of 0.10 is refused, one that is limited fits", async () => {
    const held = await bench.keyUnder("0.10");
    bench.provider.behaviour = { promptTokens: 10, hidden: 60_000, words: 5 };
    const open = await bench.post(held.secret, OPENAI, { model: "gpt-5.2", stream: true, messages });
    expect(open.status).toBe(402);
    expect(bench.provider.journal.length).toBe(0);
    const limited = { model: "gpt-5.2", stream: true, max_completion_tokens: 5_000, messages };
    expect(await (await bench.post(held.secret, OPENAI, limited)).text()).toContain("[DONE]");
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd);
  });

  it("B4: streams that think hidden at once stay within the stated bound", async () => {
    const held = await bench.keyUnder("0.30");
    bench.provider.behaviour = { promptTokens: 10, hidden: 60_000, words: 5 };
    const statuses = await Promise.all(
      Array.from({ length: 20 }, async () => {
        const answer = await bench.post(held.secret, OPENAI, { model: "gpt-5.2", stream: true, messages });
        await answer.text();
        return answer.status;
      }),
    );
    expect(statuses).toContain(200);
    expect(statuses).toContain(402);
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    expect(bench.provider.billed()).toBeLessThanOrEqual(8n * held.amountNanoUsd);
  });
});

describe("fault 3: batches whose items name models of their own", () => {
  const item = (model: string, i: number): object => ({
    custom_id: `c${i}`,
    params: { model, max_tokens: 64_000, messages },
  });
  const mixed = {
    requests: [item("claude-haiku-4-5", 0), ...Array.from({ length: 5 }, (_n, i) => item("claude-opus-4-6", i + 1))],
  };
  const opusAlone = { requests: mixed.requests.slice(1) };
  const geminiItem = (model: string | undefined): object => ({
    request: { ...(model ? { model } : {}), contents, generationConfig: { maxOutputTokens: 60_000 } },
  });
  const geminiMixed = {
    batch: {
      display_name: "b",
      input_config: {
        requests: {
          requests: [geminiItem(undefined), geminiItem("models/gemini-2.5-pro"), geminiItem("models/gemini-2.5-pro")],
        },
      },
    },
  };
  const GEMINI_BATCH = "/google/v1beta/models/gemini-2.5-flash-lite:batchGenerateContent";

  it.each([
    ["A1: Anthropic", `${ANTHROPIC}/batches`, mixed, "claude-haiku*", { requests: [item("claude-haiku-4-5", 0)] }],
    [
      "A1's class: Gemini",
      GEMINI_BATCH,
      geminiMixed,
      "gemini-2.5-flash-lite",
      { batch: { input_config: { requests: { requests: [geminiItem(undefined)] } } } },
    ],
  ])("%s: a key for the cheap model gets no batch with a dear item", async (_name, path, body, models, allowed) => {
    const { secret } = await bench.running.createKey({ policy: { models: [models] } });
    const answer = await bench.post(secret, path, body);
    expect(answer.status).toBe(403);
    expect(bench.provider.journal.length).toBe(0);
    const plain = await bench.post(secret, path, allowed);
    expect(plain.status).toBe(200);
  });

  it.each([
    ["A2: Anthropic", `${ANTHROPIC}/batches`, mixed, opusAlone],
    ["A2's class: Gemini", GEMINI_BATCH, geminiMixed, undefined],
  ])("%s: under an expected cap the dear items are held as dear", async (_name, path, body, dearAlone) => {
    const one = await bench.quote(path, body);
    let dearPassed = 0;
    if (dearAlone) {
      const other = await bench.keyUnder("2.00");
      for (let i = 0; i < 8; i++) if ((await bench.post(other.secret, path, dearAlone)).status === 200) dearPassed += 1;
    }
    bench.provider.forget();
    const held = await bench.keyUnder("2.00");
    let passed = 0;
    for (let i = 0; i < 8; i++) {
      const answer = await bench.post(held.secret, path, body);
      if (answer.status === 200) passed += 1;
      else expect(answer.status).toBe(402);
    }
    expect(bench.provider.billed()).toBe(BigInt(passed) * one);
    // What the batches under way may come to, by the stated bound.
    expect(bench.provider.billed()).toBeLessThanOrEqual(8n * held.amountNanoUsd);
    if (dearAlone) expect(passed).toBeLessThanOrEqual(dearPassed);
  });

  it("A2, strict: a batch of several models is refused by name", async () => {
    const held = await bench.keyUnder("1000", "strict");
    const answer = await bench.post(held.secret, `${ANTHROPIC}/batches`, mixed);
    expect(answer.status).toBe(402);
    expect(await answer.text()).toContain("several models in one batch");
    expect(bench.provider.journal.length).toBe(0);
  });
});

describe("fault 4: an allow list of models, and fields that name others", () => {
  const cheap = { model: "openai/gpt-4o-mini", max_tokens: 50, messages };
  const dear = "anthropic/claude-opus-4.6";
  it.each([
    ["A4: OpenRouter's models", ROUTER, { ...cheap, models: [dear] }],
    ["A4: OpenRouter's models beside a route", ROUTER, { ...cheap, route: "fallback", models: [dear] }],
    ["fallbacks of gateways", ROUTER, { ...cheap, fallbacks: [{ model: dear }] }],
    ["fallbacks that are names", ROUTER, { ...cheap, fallbacks: [dear] }],
    ["a router's plugin with its own model", ROUTER, { ...cheap, plugins: [{ id: "fusion", model: dear }] }],
    ["a router's allowed models", ROUTER, { ...cheap, plugins: [{ id: "auto-router", allowed_models: [dear] }] }],
    [
      "A3: a picture drawn by a tool",
      RESPONSES,
      { model: "gpt-4o-mini", input: "draw", tools: [{ type: "image_generation", model: "gpt-image-1" }] },
    ],
    [
      "A3: a picture drawn by a tool that names no model",
      RESPONSES,
      { model: "gpt-4o-mini", input: "draw", tools: [{ type: "image_generation" }] },
    ],
    [
      "Anthropic's fallbacks",
      ANTHROPIC,
      { model: "claude-haiku-4-5", max_tokens: 50, messages, fallbacks: [{ model: "claude-opus-4-6" }] },
    ],
    [
      "Anthropic's own choice",
      ANTHROPIC,
      { model: "claude-haiku-4-5", max_tokens: 50, messages, fallbacks: "default" },
    ],
    [
      "Anthropic's advisor",
      ANTHROPIC,
      {
        model: "claude-haiku-4-5",
        max_tokens: 50,
        messages,
        tools: [{ type: "advisor_20260301", name: "advisor", model: "claude-opus-4-6" }],
      },
    ],
    [
      "Gemini: another model in the body",
      "/google/v1beta/models/gemini-2.5-flash-lite:generateContent",
      { contents, model: "models/gemini-2.5-pro" },
    ],
  ])("%s is refused, and nothing reaches the provider", async (_name, path, body) => {
    const models = ["openai/gpt-4o-mini", "gpt-4o-mini*", "claude-haiku*", "gemini-2.5-flash-lite"];
    const { secret } = await bench.running.createKey({ policy: { models } });
    const answer = await bench.post(secret, path, body);
    expect([answer.status, await answer.text()]).toEqual([403, expect.stringContaining("may not use")]);
    expect(bench.provider.journal.length).toBe(0);
    const {
      tools: _tools,
      models: _models,
      fallbacks: _f,
      plugins: _p,
      route: _r,
      ...plain
    } = body as { [name: string]: unknown };
    const usual = await bench.post(secret, path, {
      ...plain,
      ...(path.startsWith("/google") ? { model: undefined } : {}),
    });
    expect(usual.status).toBe(200);
  });

  const part = (boundary: string, model: string): string =>
    `--${boundary}\r\ncontent-disposition: form-data; name="model"\r\n\r\n${model}\r\n` +
    `--${boundary}\r\ncontent-disposition: form-data; name="prompt"\r\n\r\nx\r\n` +
    `--${boundary}\r\ncontent-disposition: form-data; name="image"; filename="i"\r\n\r\nAAAA\r\n--${boundary}--\r\n`;
  it.each([
    ["twice", "multipart/form-data; boundary=one; boundary=two"],
    ["with and without quotes", 'multipart/form-data; boundary=one; boundary="two"'],
    ["in capitals", "multipart/form-data; boundary=one; BOUNDARY=two"],
    ["extended", "multipart/form-data; boundary=one; boundary*=utf-8''two"],
    ["behind another parameter", "multipart/form-data; boundary=one; charset=utf-8; boundary=two"],
    ["in front", "multipart/form-data; charset=utf-8; boundary=two; boundary=one"],
  ])("C12: a form with two boundaries, %s, is refused", async (_name, type) => {
    const { secret } = await bench.running.createKey({ policy: { models: ["dall-e-2"] } });
    const send = (contentType: string): Promise<Response> =>
      fetch(`${bench.running.url}/openai/v1/images/edits`, {
        method: "POST",
        headers: { "content-type": contentType, authorization: `Bearer ${secret}` },
        body: part("one", "dall-e-2") + part("two", "gpt-image-1"),
      });
    expect((await send(type)).status).toBe(400);
    expect(bench.provider.journal.length).toBe(0);
    expect((await send("multipart/form-data; boundary=one")).status).toBe(200);
  });
});

describe("fault 5: strict bounds", () => {
  /** One nano-USD less than its bill is too little for it; whatever was given, what cannot be bounded is refused by
   *  name. */
  async function isRefused(path: string, body: object | FormData, names: RegExp, headers: Headers = {}): Promise<void> {
    for (const usd of ["0.000001", "1000"]) {
      const held = await bench.keyUnder(usd, "strict");
      const answer = await bench.post(held.secret, path, body, headers);
      const said = await answer.text();
      expect([400, 402], said).toContain(answer.status);
      expect(said).toMatch(names);
      expect(await bench.settled(held.id)).toBe(0n);
    }
    expect(bench.provider.journal.length).toBe(0);
  }
  /** Passes under a strict cap, so that it is the field that is refused and nothing else. */
  async function passes(path: string, body: object | FormData): Promise<void> {
    const held = await bench.keyUnder("1000", "strict");
    const answer = await bench.post(held.secret, path, body);
    expect(answer.status, await answer.text()).toBe(200);
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
    bench.provider.forget();
  }

  const chat = { model: "gpt-4o-mini", max_tokens: 50, messages };
  const routed = { ...chat, model: "openai/gpt-4o-mini" };
  const grok = { ...chat, model: "grok-4" };
  const AZURE = `/azure/openai/deployments/data/${AZURE_CHAT}`;
  const cache = { google: { cached_content: "cachedContents/elsewhere" } };
  it.each([
    ["C1: a model that searches", OPENAI, { model: "gpt-4o-search-preview" }, chat, /searches/],
    ["C1: search options", OPENAI, { web_search_options: {} }, chat, /web_search_options/],
    [
      "C2: a cache in Gemini's extra body",
      GEMINI_OPENAI,
      { extra_body: cache },
      { ...chat, model: "gemini-2.5-pro" },
      /extra_body/,
    ],
    ["C3: a list of models", GATEWAY, { models: ["gpt-5.2"] }, chat, /models/],
    ["C3: fallbacks", GATEWAY, { fallbacks: [{ model: "gpt-5.2" }] }, chat, /fallbacks/],
    ["C4: a web plugin", GATEWAY, { plugins: [{ id: "web" }] }, chat, /plugins/],
    ["C4: a search by the model's name", GATEWAY, { model: "gpt-4o-mini:online" }, chat, /online|no price/],
    [
      "C4: a router's hosted tool",
      GATEWAY,
      { tools: [{ type: "openrouter:web_search" }] },
      chat,
      /openrouter:web_search/,
    ],
    [
      "C5: xAI's search parameters",
      XAI,
      { search_parameters: { mode: "on", max_search_results: 30 } },
      grok,
      /search_parameters/,
    ],
    ["C5: xAI's hosted search", XAI, { tools: [{ type: "web_search" }] }, grok, /tool web_search/],
    ["C7: Azure's data sources", AZURE, { data_sources: [{ type: "azure_search" }] }, chat, /data_sources/],
    [
      "C8: a prediction without a limit that counts it",
      OPENAI,
      { prediction: { type: "content", content: "x".repeat(8_000) } },
      chat,
      /prediction/,
    ],
    [
      "C1's class: a picture drawn by a tool",
      RESPONSES,
      { tools: [{ type: "image_generation" }] },
      undefined,
      /image_generation/,
    ],
    [
      "C1's class: code at the provider",
      RESPONSES,
      { tools: [{ type: "code_interpreter" }] },
      undefined,
      /code_interpreter/,
    ],
    ["a field that nobody knows", OPENAI, { turbo_mode: true }, chat, /turbo_mode/],
  ] as const)("%s is refused by its name", async (_name, path, more, plain, names) => {
    const usual = plain ?? { model: "gpt-4o-mini", input: "hi", max_output_tokens: 50 };
    const cheap = await bench.quote(path, usual);
    bench.provider.behaviour = { cachedTokens: 900_000 };
    const dear = await bench.quote(path, { ...usual, ...more });
    // The provider bills more for it, or serves what costs more.
    expect(dear >= cheap).toBe(true);
    bench.provider.behaviour = {};
    await passes(path, usual);
    await isRefused(path, { ...usual, ...more }, names);
  });

  const gemini = { contents, generationConfig: { maxOutputTokens: 50 } };
  const claude = { model: "claude-haiku-4-5", max_tokens: 50, messages };
  const GENERATE = "/google/v1beta/models/gemini-2.5-flash:generateContent";
  it.each([
    ["Gemini's search", GENERATE, { ...gemini, tools: [{ googleSearch: {} }] }, /tool googleSearch/],
    [
      "Gemini's search in the other spelling",
      GENERATE,
      { ...gemini, tools: [{ google_search: {} }] },
      /tool google_search/,
    ],
    [
      "Gemini's search beside functions",
      GENERATE,
      { ...gemini, tools: [{ functionDeclarations: [], urlContext: {} }] },
      /urlContext/,
    ],
    ["Gemini's code", GENERATE, { ...gemini, tools: [{ codeExecution: {} }] }, /codeExecution/],
    [
      "Gemini's search in OpenAI's format",
      GEMINI_OPENAI,
      { ...chat, model: "gemini-2.5-flash", tools: [{ google_search: {} }] },
      /tool without a type/,
    ],
    [
      "Gemini's extra body of settings",
      GEMINI_OPENAI,
      { ...chat, model: "gemini-2.5-flash", google: { tools: [] } },
      /google/,
    ],
    [
      "Anthropic's search",
      ANTHROPIC,
      { ...claude, tools: [{ type: "web_search_20250305", name: "web_search" }] },
      /web_search_20250305/,
    ],
    [
      "Anthropic's code",
      ANTHROPIC,
      { ...claude, tools: [{ type: "code_execution_20250825", name: "c" }] },
      /code_execution/,
    ],
    [
      "Anthropic's servers",
      ANTHROPIC,
      { ...claude, mcp_servers: [{ type: "url", url: "https://m.example", name: "m" }] },
      /mcp_servers/,
    ],
    ["Anthropic's fallbacks", ANTHROPIC, { ...claude, fallbacks: [{ model: "claude-opus-4-6" }] }, /fallbacks/],
    [
      "OpenAI's servers",
      RESPONSES,
      { model: "gpt-4o", input: "hi", tools: [{ type: "mcp", server_label: "m" }] },
      /tool mcp/,
    ],
    [
      "OpenAI's search in a namespace",
      RESPONSES,
      { model: "gpt-4o", input: "hi", tools: [{ type: "namespace", tools: [{ type: "web_search" }] }] },
      /tool web_search/,
    ],
    [
      "OpenAI's search in an item",
      RESPONSES,
      { model: "gpt-4o", input: [{ type: "additional_tools", tools: [{ type: "web_search" }] }] },
      /tool web_search/,
    ],
    ["OpenAI's stored prompt", RESPONSES, { model: "gpt-4o", input: "hi", prompt: { id: "pmpt_1" } }, /prompt/],
    ["OpenAI's background", RESPONSES, { model: "gpt-4o", input: "hi", background: true }, /background/],
    ["a vendor's own search flag", GATEWAY, { ...chat, enable_search: true }, /enable_search/],
    [
      "a vendor's function that it runs itself",
      GATEWAY,
      { ...chat, tools: [{ type: "builtin_function", function: { name: "$web_search" } }] },
      /builtin_function/,
    ],
    ["a router's preset", GATEWAY, { ...chat, preset: "mine" }, /preset/],
    ["a router's way of choosing", GATEWAY, { ...chat, provider: { sort: "price" } }, /provider/],
    ["OpenRouter, whose providers have prices of their own", ROUTER, routed, /OpenRouter chooses/],
    ["xAI's deferred answer", XAI, { ...grok, deferred: true }, /deferred/],
    [
      "Azure's data sources by the newer path",
      "/azure/openai/v1/chat/completions",
      { ...chat, data_sources: [] },
      /data_sources/,
    ],
  ])("the class of C1 to C7: %s: refused by its name", (_name, path, body, names) => isRefused(path, body, names));

  it("C1's class: Perplexity's models search by themselves", () =>
    isRefused("/perplexity/chat/completions", { model: "sonar", max_tokens: 50, messages }, /searches/));

  it("C2: the cache of another key is not found, in every format", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    await bench.running.proxy.context.things.own("gcp.gemini", mine.id, ["cachedContents/mine"]);
    const send = async (secret: string, path: string, body: object): Promise<number> =>
      (await bench.post(secret, path, body)).status;
    const named = "cachedContents/mine";
    const byOpenAi = { model: "gemini-2.5-flash", messages, extra_body: { google: { cached_content: named } } };
    expect(await send(other.secret, GEMINI_OPENAI, byOpenAi)).toBe(404);
    expect(await send(other.secret, GENERATE, { contents, cachedContent: named })).toBe(404);
    expect(await send(other.secret, GENERATE, { contents, cached_content: named })).toBe(404);
    expect(bench.provider.journal.length).toBe(0);
    expect(await send(mine.secret, GEMINI_OPENAI, byOpenAi)).toBe(200);
  });

  /** What comes of a request under a strict cap just below its bill, and under one of plenty. */
  async function tryBoth(path: string, body: object | (() => FormData)): Promise<object> {
    const make = (): object | FormData => (typeof body === "function" ? body() : body);
    const bill = await bench.quote(path, make());
    const short = await bench.keyUnder(usdOf(bill - 1n), "strict");
    const below = (await bench.post(short.secret, path, make())).status;
    const sent = bench.provider.journal.length;
    const enough = await bench.keyUnder("1000", "strict");
    const plenty = await bench.post(enough.secret, path, make());
    const isCovered = (await bench.counted(enough.id)) >= bench.provider.billed();
    return { below, sent, plenty: plenty.status, isCovered };
  }
  /** Just below it nothing passes; with plenty it passes, and no less than its bill counts. */
  const HELD = { below: 402, sent: 0, plenty: 200, isCovered: true };

  const shows = (part: object): object[] => [{ role: "user", content: [{ type: "text", text: "hi" }, part] }];
  const url = "https://files.example/one";
  const VEO = "/google/v1beta/models/veo-3.0-fast-generate-001:predictLongRunning";
  const IMAGEN = "/google/v1beta/models/imagen-4.0-generate-001:predict";
  it.each([
    [
      "C9's class: a film behind an address",
      ROUTER,
      { ...chat, model: "google/gemini-2.5-flash", messages: shows({ type: "video_url", video_url: { url } }) },
    ],
    [
      "C9's class: a film behind an address, at another vendor",
      GATEWAY,
      { ...chat, messages: shows({ type: "video_url", video_url: { url } }) },
    ],
    [
      "C9's class: a document behind an address",
      "/mistral/v1/chat/completions",
      { ...chat, model: "mistral-small-latest", messages: shows({ type: "document_url", document_url: url }) },
    ],
    [
      "C4's class: a file that a router reads by the page",
      ROUTER,
      { ...routed, messages: shows({ type: "file", file: { filename: "a.pdf", file_data: url } }) },
    ],
    ["C4's class: a model behind a router that searches", ROUTER, { ...chat, model: "perplexity/sonar" }],
    [
      "C9's class: thoughts that are named and lie at the provider",
      RESPONSES,
      {
        model: "gpt-5.2",
        max_output_tokens: 50,
        input: [
          { type: "reasoning", id: "rs_elsewhere", summary: [] },
          { type: "function_call", call_id: "c", name: "f", arguments: "{}" },
          { type: "function_call_output", call_id: "c", output: "1" },
        ],
      },
    ],
    [
      "C13's class: a vendor's completion without a limit",
      "/gateway/v1/completions",
      { model: "gpt-4o-mini", prompt: "hi" },
    ],
    ["C14's class: Veo's samples", VEO, { instances: [{ prompt: "x" }], parameters: { sampleCount: 4 } }],
    ["C14's class: Veo's instances", VEO, { instances: [{ prompt: "x" }, { prompt: "y" }] }],
    [
      "C14's class: Veo's samples, spelled otherwise",
      VEO,
      { instances: [{ prompt: "x" }], parameters: { sample_count: 4 } },
    ],
    [
      "C14's class: Veo's seconds, spelled otherwise",
      VEO,
      { instances: [{ prompt: "x" }], parameters: { duration_seconds: 60 } },
    ],
    [
      "C14's class: Imagen's samples, spelled otherwise",
      IMAGEN,
      { instances: [{ prompt: "x" }], parameters: { sample_count: 8 } },
    ],
  ])("%s: held at no less than its bill, or refused", async (_name, path, body) => {
    bench.provider.behaviour = { words: 4_000 };
    const tried = await tryBoth(path, body);
    expect([HELD, { ...HELD, plenty: 402 }, { ...HELD, below: 400, plenty: 400 }]).toContainEqual(tried);
  });

  it("the class of betas: one that nobody knows is refused by its name in a body too", async () => {
    const path = "/vertex-eu/v1/projects/p/locations/global/publishers/anthropic/models/claude-haiku-4-5:rawPredict";
    const body = { anthropic_version: "vertex-2023-10-16", max_tokens: 50, messages };
    await passes(path, { ...body, anthropic_beta: ["context-management-2025-06-27"] });
    await isRefused(path, { ...body, anthropic_beta: ["next-thing-2099-01-01"] }, /next-thing-2099-01-01/);
    await isRefused(path, body, /next-thing-2099-01-01/, { "anthropic-beta": "next-thing-2099-01-01" });
  });

  it("the class of free paths: what another vendor bills for is not free under a cap of nothing", async () => {
    const body = { model: "mistral-moderation-2411", input: ["x".repeat(4_000)] };
    expect(await bench.quote("/mistral/v1/moderations", body)).toBeGreaterThan(0n);
    const held = await bench.keyUnder("0.000000001", "strict");
    await bench.post(held.secret, "/mistral/v1/moderations", body);
    expect(bench.provider.billed()).toBe(0n);
    const free = await bench.running.createKey();
    expect((await bench.post(free.secret, "/openai/v1/moderations", body)).status).toBe(200);
  });

  it("the class of tiers: Vertex's header for a dearer one is held at its price, or not sent on", async () => {
    bench.provider.behaviour = { words: 2_000 };
    const path = "/vertex-eu/v1/projects/p/locations/global/publishers/google/models/gemini-2.5-flash:generateContent";
    const body = { contents, generationConfig: { maxOutputTokens: 2_000 } };
    const headers = { "x-vertex-ai-llm-shared-request-type": "priority" };
    const [usual, dear] = [await bench.quote(path, body), await bench.quote(path, body, headers)];
    expect(dear).toBe((usual * 18n) / 10n);
    const held = await bench.keyUnder(usdOf(dear - 1n), "strict");
    expect([200, 400, 402]).toContain((await bench.post(held.secret, path, body, headers)).status);
    expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd);
  });

  it("C8: a prediction is held with all that can be rejected of it", async () => {
    bench.provider.behaviour = { words: 500 };
    const prediction = { type: "content", content: "y".repeat(16_000) };
    const body = { model: "gpt-4o", max_completion_tokens: 500, messages, prediction };
    expect(await tryBoth(OPENAI, body)).toEqual(HELD);
  });

  it("C9: pictures in a form are held at what they are seen as", async () => {
    expect(
      await tryBoth("/openai/v1/images/edits", () =>
        form({
          model: "gpt-image-1",
          prompt: "x",
          input_fidelity: "high",
          quality: "high",
          size: "1024x1536",
          "image[]": Array.from({ length: 16 }, () => 70),
        }),
      ),
    ).toEqual(HELD);
  });

  it("C11: n of a form is held as it is written", async () => {
    expect(
      await tryBoth("/openai/v1/images/edits", () => form({ model: "dall-e-2", prompt: "x", n: "10", image: 70 })),
    ).toEqual(HELD);
  });

  it.each(["+10", "1_0", " 10", "10 ", "10.0", "1e1", "0x0a", "010", "１０", "10,0", "", "-1", "Infinity"])(
    "C11: n of a form written as %j is refused",
    async (n) => {
      const held = await bench.keyUnder("1000", "strict");
      const answer = await bench.post(
        held.secret,
        "/openai/v1/images/edits",
        form({ model: "dall-e-2", prompt: "x", n, image: 70 }),
      );
      expect(answer.status).toBe(400);
      expect(await answer.text()).toContain(String.raw`\"n\" must be a whole number`);
      expect(bench.provider.journal.length).toBe(0);
    },
  );

  it.each(["12", 12])("C13: seconds of a film as %j are held as they are", async (seconds) => {
    expect(await tryBoth("/openai/v1/videos", { model: "sora-2", prompt: "x", seconds })).toEqual(HELD);
  });

  it("C13: seconds in a form are held as they are", async () => {
    expect(await tryBoth("/openai/v1/videos", () => form({ model: "sora-2", prompt: "x", seconds: "12" }))).toEqual(
      HELD,
    );
  });

  it.each(["12.0", " 12", "12 ", "+12", "1_2", "012", "1.2e1", ["12"], [12], { value: 12 }, 12.5, true])(
    "C13: seconds written as %j are refused, in JSON and in a form",
    async (seconds) => {
      const held = await bench.keyUnder("1000", "strict");
      const answer = await bench.post(held.secret, "/openai/v1/videos", { model: "sora-2", prompt: "x", seconds });
      expect(answer.status).toBe(400);
      if (typeof seconds === "string") {
        const inForm = await bench.post(
          held.secret,
          "/openai/v1/videos",
          form({ model: "sora-2", prompt: "x", seconds }),
        );
        expect(inForm.status).toBe(400);
      }
      expect(bench.provider.journal.length).toBe(0);
    },
  );

  it.each([
    ["instances", Array.from({ length: 8 }, () => ({ prompt: "x" })), 1],
    ["samples", [{ prompt: "x" }], 4],
    ["both", Array.from({ length: 3 }, () => ({ prompt: "x" })), 3],
  ])("C14: Imagen's %s are held each", async (_name, instances, sampleCount) => {
    expect(
      await tryBoth("/google/v1beta/models/imagen-4.0-generate-001:predict", {
        instances,
        parameters: { sampleCount },
      }),
    ).toEqual(HELD);
  });

  it.each([
    ["OpenAI's answers", OPENAI, { model: "gpt-4o-mini", n: 8, max_tokens: 2_000, messages }],
    [
      "limits under two names",
      OPENAI,
      { model: "gpt-4o-mini", max_tokens: 20, max_completion_tokens: 2_000, messages },
    ],
    [
      "Gemini's candidates",
      "/google/v1beta/models/gemini-2.5-flash:generateContent",
      { contents, generationConfig: { maxOutputTokens: 2_000, candidateCount: 8 } },
    ],
  ])("C14's class: %s are held each", async (_name, path, body) => {
    bench.provider.behaviour = { words: 2_000 };
    expect(await tryBoth(path, body)).toEqual(HELD);
  });
});

describe("fault 5: strict is not strict beyond need", () => {
  it.each([
    ["OpenAI", OPENAI, { model: "gpt-4o-mini", max_tokens: 2_000, messages }],
    ["OpenAI's Responses", RESPONSES, { model: "gpt-5.2", max_output_tokens: 2_000, input: "hi" }],
    ["Anthropic", ANTHROPIC, { model: "claude-sonnet-4-5", max_tokens: 2_000, messages }],
    [
      "Gemini",
      "/google/v1beta/models/gemini-2.5-flash:generateContent",
      { contents, generationConfig: { maxOutputTokens: 2_000 } },
    ],
    ["a compatible vendor", GATEWAY, { model: "gpt-4o-mini", max_tokens: 2_000, messages }],
    ["xAI", XAI, { model: "grok-4", max_tokens: 2_000, messages }],
    ["Azure", `/azure/openai/deployments/chat/${AZURE_CHAT}`, { max_tokens: 2_000, messages }],
  ])(
    "%s: of ten requests' true maximum at once at least seven fit, and never more than ten",
    async (_name, path, body) => {
      bench.provider.behaviour = { words: 2_000 };
      const one = await bench.quote(path, body);
      const held = await bench.keyUnder(usdOf(10n * one), "strict");
      let answerAll = (): void => {};
      bench.provider.behaviour = { words: 2_000, until: new Promise<void>((resolve) => (answerAll = resolve)) };
      let refused = 0;
      const answers = Array.from({ length: 30 }, async () => {
        const answer = await bench.post(held.secret, path, body);
        if (answer.status === 402) refused += 1;
        return answer.status;
      });
      await expect.poll(() => refused + bench.provider.journal.length, { timeout: 20_000 }).toBe(30);
      answerAll();
      const passed = (await Promise.all(answers)).filter((status) => status === 200).length;
      expect(passed).toBeGreaterThanOrEqual(7);
      expect(passed).toBeLessThanOrEqual(10);
      expect(await bench.settled(held.id)).toBe(bench.provider.billed());
      expect(bench.provider.billed()).toBeLessThanOrEqual(held.amountNanoUsd);
    },
  );
});

describe("fault 8: a team that a tag names", () => {
  const body = { model: "gpt-4o-mini", max_tokens: 50, messages };
  const WAYS: readonly (readonly [name: string, headers: Headers, more: object])[] = [
    ["our own header", { "x-keymeter-team": "victims" }, {}],
    ["our list of tags", { "x-keymeter-tags": "team=victims" }, {}],
    ["LiteLLM's list", { "x-litellm-tags": "team=victims" }, {}],
    ["Helicone's header", { "helicone-property-team": "victims" }, {}],
    ["Portkey's metadata", { "x-portkey-metadata": '{"team":"victims"}' }, {}],
    ["Cloudflare's metadata", { "cf-aig-metadata": '{"team":"victims"}' }, {}],
    ["the body's metadata", {}, { metadata: { team: "victims" } }],
  ];
  it.each(WAYS)(
    "F1: by %s, spends no team's budget, now or when the sums are read again",
    async (_name, headers, more) => {
      const stranger = await bench.running.createKey({ team: "" });
      const own = await bench.running.createKey({ team: "victims" });
      // Two answers' worth.
      const budget = await bench.running.setBudget({ scope: { team: "victims" }, amountNanoUsd: USD / 10_000n });
      const spent = async (): Promise<bigint | undefined> =>
        (await bench.running.proxy.writer.states()).find((state) => state.budget.id === budget.id)?.settledNanoUsd;
      const before = await spent();
      for (let i = 0; i < 12; i++)
        expect((await bench.post(stranger.secret, OPENAI, { ...body, ...more }, headers)).status).toBe(200);
      expect((await bench.post("sk-test-strangers-own-key", OPENAI, { ...body, ...more }, headers)).status).toBe(200);
      expect(await spent()).toBe(before);
      // Any new budget makes the sums be read anew from the books.
      await bench.running.setBudget({ scope: { keyId: own.id }, amountNanoUsd: USD });
      expect(await spent()).toBe(before);
      expect((await bench.post(own.secret, OPENAI, body)).status).toBe(200);
      expect(await spent()).not.toBe(before);
      expect((await bench.running.proxy.writer.verify()).differences).toEqual([]);
      expect(await bench.running.change({ type: "removeBudget", budgetId: budget.id })).toBe(200);
    },
  );
});

describe("fault 21: things of another key", () => {
  const claude = { model: "claude-haiku-4-5", max_tokens: 50, messages };
  const inFile = (id: string): object => ({ role: "user", content: [{ type: "input_file", file_id: id }] });
  const skillsOf = (id: string): object => ({ skills: [{ type: "custom", skill_id: id }] });
  it.each<[name: string, path: string, provider: string, make: (id: string) => object]>([
    ["F4: a skill", ANTHROPIC, "anthropic", (id) => ({ ...claude, container: skillsOf(id) })],
    ["F4: a film", "/openai/v1/videos/edits", "openai", (id) => ({ prompt: "x", video: { id } })],
    ["F4's class: a container", ANTHROPIC, "anthropic", (id) => ({ ...claude, container: id })],
    [
      "F4's class: a stored answer",
      RESPONSES,
      "openai",
      (id) => ({ model: "gpt-4o", input: "hi", previous_response_id: id }),
    ],
    [
      "F4's class: a conversation",
      RESPONSES,
      "openai",
      (id) => ({ model: "gpt-4o", input: "hi", conversation: { id } }),
    ],
    ["F4's class: a file", RESPONSES, "openai", (id) => ({ model: "gpt-4o", input: [inFile(id)] })],
  ])("%s of key A is not found for key B", async (_name, path, provider, make) => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    const thing = `thing_${mine.id}`;
    const body = make(thing);
    await bench.running.proxy.context.things.own(provider, mine.id, [thing]);
    expect((await bench.post(other.secret, path, body)).status).toBe(404);
    expect(bench.provider.journal.length).toBe(0);
    expect((await bench.post(mine.secret, path, body)).status).toBe(200);
  });

  it("F4: a skill that key A made through the proxy belongs to it", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    expect((await bench.post(mine.secret, "/anthropic/v1/skills", { name: "s" })).status).toBe(200);
    const container = { skills: [{ type: "custom", skill_id: "skill_of_a" }] };
    const body = { model: "claude-haiku-4-5", max_tokens: 50, messages, container };
    expect((await bench.post(other.secret, ANTHROPIC, body)).status).toBe(404);
    expect((await bench.post(mine.secret, ANTHROPIC, body)).status).toBe(200);
  });
});

describe("fault 23: limits on free paths", () => {
  it("F3: of 50 count_tokens under five requests a minute five pass", async () => {
    const { id, secret } = await bench.running.createKey();
    const limits = {
      scope: `key:${id}`,
      requestsPerMinute: 5,
      tokensPerMinute: undefined,
      concurrent: undefined,
      bodyBytes: undefined,
    };
    expect(await bench.running.change({ type: "setLimits", limits })).toBe(200);
    const answers = await Promise.all(
      Array.from({ length: 50 }, () =>
        bench.post(secret, `${ANTHROPIC}/count_tokens`, { model: "claude-haiku-4-5", messages }),
      ),
    );
    expect(answers.filter(({ status }) => status === 200).length).toBe(5);
    expect(answers.filter(({ status }) => status === 429).length).toBe(45);
    expect(bench.provider.journal.length).toBe(5);
  });
});
