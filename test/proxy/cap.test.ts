// Hard budgets under parallel load, and what a refused client is told.
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import OpenAI from "openai";
import { describe, expect, it } from "vitest";
import { parseUsd } from "../../ledger/money.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(json(chatAnswer()), {}, { each: true });

const BODY = JSON.stringify({ model: "gpt-4o-mini", max_tokens: 50, messages: [{ role: "user", content: "hello" }] });

function ask(secret: string, body = BODY): Promise<Response> {
  return fetch(`${bench.running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body,
  });
}

describe("a strict cap", () => {
  it("of exactly seven requests lets exactly seven of 200 parallel ones reach the provider", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ id: "probe", scope: { keyId: id }, amountNanoUsd: 0n, mode: "strict" });
    const asked = (await ask(secret)).headers.get("x-keymeter-budget-asked-usd") ?? "";
    const bound = parseUsd(asked);
    expect(bound).toBeGreaterThan(0n);
    await bench.running.setBudget({ id: "seven", scope: { keyId: id }, amountNanoUsd: 7n * bound, mode: "strict" });

    let letGo = (): void => {};
    const held = new Promise<void>((resolve) => (letGo = resolve));
    bench.provider.script = async (arrived, response, request) => {
      await held;
      await json(chatAnswer())(arrived, response, request);
    };
    const answers = Array.from({ length: 200 }, () => ask(secret));
    const refused: Response[] = [];
    for (const answer of answers) void answer.then((one) => one.status === 402 && refused.push(one));
    while (refused.length < 193) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(bench.provider.journal.length).toBe(7);
    letGo();
    const all = await Promise.all(answers);
    expect(all.filter((one) => one.status === 200).length).toBe(7);
    expect(bench.provider.journal.length).toBe(7);

    // What was reserved beyond the cost is free again, and nothing stays held.
    const [state] = (await bench.running.proxy.writer.states()).filter(({ budget }) => budget.id === "seven");
    expect(state?.reservedNanoUsd).toBe(0n);
    expect(state?.settledNanoUsd).toBe(7n * (100n * 150n + 20n * 600n));
    expect((await bench.running.events()).length).toBe(7);
  });

  it("refuses what has no provable bound, and says so", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: parseUsd("100"), mode: "strict" });
    const answer = await ask(
      secret,
      JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, web_search_options: {}, messages: [] }),
    );
    expect(answer.status).toBe(402);
    expect(await answer.text()).toContain("cannot be proven");
    expect(bench.provider.journal.length).toBe(0);
  });
});

describe("a hard cap", () => {
  it("is the amount in all: several budgets hold all or nothing", async () => {
    const { id, secret } = await bench.running.createKey({ team: "search" });
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: parseUsd("100") });
    await bench.running.setBudget({ scope: { team: "search" }, amountNanoUsd: parseUsd("0.000001") });
    const answer = await ask(secret);
    expect(answer.status).toBe(402);
    expect(answer.headers.get("x-keymeter-budget-amount-usd")).toBe("0.000001000");
    expect((await bench.running.proxy.writer.states()).every(({ reservedNanoUsd }) => reservedNanoUsd === 0n)).toBe(
      true,
    );
  });

  it("on the name that an alias is answered under counts an answer once, also where it is the first of its hour", async () => {
    bench.provider.script = json({ ...chatAnswer(1_000, 0), model: "gpt-4o-mini-2024-07-18" });
    const { secret } = await bench.running.createKey();
    await bench.running.setBudget({
      scope: { model: "gpt-4o-mini-2024-07-18" },
      window: "hour",
      amountNanoUsd: 1_000_000n,
    });
    expect((await ask(secret)).status).toBe(200);
    const [state] = await bench.running.proxy.writer.states();
    expect(state?.settledNanoUsd).toBe(1_000n * 150n);
  });

  it("survives a restart: no refill", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 60_000n });
    expect((await ask(secret)).status).toBe(200);
    expect((await ask(secret)).status).toBe(402);
    await bench.running.stop();
    await bench.startAgain({ KEYMETER_DATA_DIR: bench.running.dataDir });
    expect((await ask(secret)).status).toBe(402);
    expect(bench.provider.journal.length).toBe(1);
  });

  it("refuses a model without a price, and counts it", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: parseUsd("100") });
    const answer = await ask(secret, JSON.stringify({ model: "unheard-of-model", max_tokens: 5, messages: [] }));
    expect(answer.status).toBe(402);
    expect(await answer.text()).toContain("no price");
    expect(bench.provider.journal.length).toBe(0);
    const metrics = await (await fetch(`${bench.running.opsUrl}/metrics`)).text();
    expect(metrics).toContain('keymeter_refused_total{reason="unpriced"} 1');
  });

  it("tells a refused client the numbers that GET /keymeter/me shows in the same second", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 60_000n });
    await ask(secret);
    const refused = await ask(secret);
    const me = (await (
      await fetch(`${bench.running.url}/keymeter/me`, { headers: { authorization: `Bearer ${secret}` } })
    ).json()) as { budgets: { amountUsd: string; spentUsd: string; reservedUsd: string; windowEnd: string }[] };
    expect(me.budgets[0]).toMatchObject({
      amountUsd: refused.headers.get("x-keymeter-budget-amount-usd"),
      spentUsd: refused.headers.get("x-keymeter-budget-spent-usd"),
      reservedUsd: refused.headers.get("x-keymeter-budget-reserved-usd"),
      windowEnd: refused.headers.get("x-keymeter-budget-window-end"),
    });
    expect(refused.headers.get("retry-after")).toBeNull();
    expect(refused.headers.get("x-should-retry")).toBe("false");
  });

  it("only counts what it would refuse when the cap mode is observe", async () => {
    await bench.running.stop();
    await bench.startAgain({ KEYMETER_CAP_MODE: "observe" });
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ id: "b", scope: { keyId: id }, amountNanoUsd: 0n });
    expect((await ask(secret)).status).toBe(200);
    expect((await bench.running.events()).length).toBe(1);
  });
});

describe("a soft cap", () => {
  it("only tells", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1n, kind: "soft" });
    expect((await ask(secret)).status).toBe(200);
  });
});

describe("every SDK, refused for money", () => {
  const messages = [{ role: "user" as const, content: "hi" }];
  const consume = async (stream: AsyncIterable<unknown>): Promise<void> => {
    const parts = stream[Symbol.asyncIterator]();
    while (!(await parts.next()).done);
  };

  /** What each asks for, with a key at its cap, and what it then throws. */
  const CASES: readonly (readonly [
    name: string,
    ask: (url: string, secret: string) => Promise<unknown>,
    error: object,
  ])[] = [
    [
      "openai",
      (url, apiKey) =>
        new OpenAI({ baseURL: `${url}/openai/v1`, apiKey }).chat.completions.create({ model: "gpt-4o-mini", messages }),
      { status: 402, code: "insufficient_quota" },
    ],
    [
      "openai, a stream",
      async (url, apiKey) => {
        const client = new OpenAI({ baseURL: `${url}/openai/v1`, apiKey });
        await consume(await client.responses.create({ model: "gpt-4o-mini", input: "hi", stream: true }));
      },
      { status: 402, code: "insufficient_quota" },
    ],
    [
      "anthropic",
      (url, apiKey) =>
        new Anthropic({ baseURL: `${url}/anthropic`, apiKey }).messages.create({
          model: "claude-haiku-4-5",
          max_tokens: 9,
          messages,
        }),
      { status: 402, type: "billing_error" },
    ],
    [
      "anthropic, a stream",
      async (url, apiKey) => {
        const client = new Anthropic({ baseURL: `${url}/anthropic`, apiKey });
        await client.messages.stream({ model: "claude-haiku-4-5", max_tokens: 9, messages }).finalMessage();
      },
      { status: 402, type: "billing_error" },
    ],
    [
      "google",
      (url, apiKey) =>
        new GoogleGenAI({ apiKey, httpOptions: { baseUrl: `${url}/google` } }).models.generateContent({
          model: "gemini-2.5-flash",
          contents: "hi",
        }),
      { status: 402 },
    ],
    [
      "google, a stream",
      async (url, apiKey) => {
        const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: `${url}/google` } });
        await consume(await client.models.generateContentStream({ model: "gemini-2.5-flash", contents: "hi" }));
      },
      { status: 402 },
    ],
    [
      "AI SDK with openai",
      (url, apiKey) =>
        generateText({ model: createOpenAI({ baseURL: `${url}/openai/v1`, apiKey })("gpt-5.2"), prompt: "hi" }),
      { statusCode: 402, isRetryable: false },
    ],
    [
      "AI SDK with anthropic",
      (url, apiKey) =>
        generateText({
          model: createAnthropic({ baseURL: `${url}/anthropic/v1`, apiKey })("claude-haiku-4-5"),
          prompt: "hi",
        }),
      { statusCode: 402, isRetryable: false },
    ],
    [
      "AI SDK with google",
      (url, apiKey) =>
        generateText({
          model: createGoogleGenerativeAI({ baseURL: `${url}/google/v1beta`, apiKey })("gemini-2.5-flash"),
          prompt: "hi",
        }),
      { statusCode: 402, isRetryable: false },
    ],
    [
      "AI SDK, a stream",
      async (url, apiKey) => {
        let failed: unknown;
        const { textStream } = streamText({
          model: createOpenAI({ baseURL: `${url}/openai/v1`, apiKey }).chat("gpt-4o-mini"),
          prompt: "hi",
          onError: ({ error }) => (failed = error),
        });
        await consume(textStream);
        throw failed;
      },
      { statusCode: 402, isRetryable: false },
    ],
  ];

  it("makes one request and gets one error that says so", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 0n });
    let requests = 0;
    bench.running.proxy.app.server.on("request", () => (requests += 1));
    for (const [name, ask, error] of CASES) {
      requests = 0;
      const thrown = await ask(bench.running.url, secret).then(
        () => undefined,
        (one: unknown) => one,
      );
      expect(thrown, name).toMatchObject(error);
      expect((thrown as Error).message, name).toMatch(/budget of key/);
      expect(requests, name).toBe(1);
    }
    const codex = await fetch(`${bench.running.url}/openai/v1/responses`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${secret}`,
        "user-agent": "codex_cli_rs/0.169.0",
      },
      body: JSON.stringify({ model: "gpt-5.2", input: "hi" }),
    });
    expect(codex.status).toBe(429);
    expect(await codex.json()).toMatchObject({ error: { type: "usage_limit_reached" } });
    expect(bench.provider.journal.length).toBe(0);
  });
});
