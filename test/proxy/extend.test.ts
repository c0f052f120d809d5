// Expected mode while a stream flows: what is held grows with it, and it is cut when the budget has no more.
import { setTimeout as sleep } from "node:timers/promises";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { GoogleGenAI } from "@google/genai";
import { describe, expect, it } from "vitest";
import { openUsage } from "../../ledger/open.ts";
import { readRefused } from "../../ledger/usage/refused.ts";
import { LedgerUnavailable } from "../../ledger/usage/writer.ts";
import { withProxy } from "../with-proxy.ts";

const WORDS = 40;
const PIECES = 300;

const bench = withProxy(() => {});

const PIECE = "word ".repeat(WORDS);

/** Streams `pieces` pieces, an event each, until the client is gone; tells how many were written. */
function streaming(pieces: number, frame: (text: string) => string, first = "", last = ""): { written: number } {
  const told = { written: 0 };
  bench.provider.script = async (_arrived, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(first);
    for (let i = 0; i < pieces && !response.destroyed; i++) {
      response.write(frame(PIECE));
      told.written += 1;
      await sleep(1);
    }
    response.end(last);
  };
  return told;
}

const chunk = (more: object): string =>
  `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model: "gpt-4o-mini", created: 1, ...more })}\n\n`;
const chatFrame = (text: string): string =>
  chunk({ choices: [{ index: 0, delta: { content: text }, finish_reason: null }] });

/** The whole text of a stream that is asked for. */
async function answerOf(secret: string): Promise<string> {
  const answer = await fetch(`${bench.running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "gpt-4o-mini", stream: true, messages: [{ role: "user", content: "hi" }] }),
  });
  return await answer.text();
}

describe("in expected mode a stream that costs more than was held for it", () => {
  it("goes on while the budget has more; what is held grows, and is given back at the end", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1_000_000_000n });
    const usage = { prompt_tokens: 10, completion_tokens: PIECES * 40, total_tokens: 10 + PIECES * 40 };
    streaming(PIECES, chatFrame, "", `${chunk({ choices: [], usage })}data: [DONE]\n\n`);
    const client = new OpenAI({ apiKey: secret, baseURL: `${bench.running.url}/openai/v1`, maxRetries: 0 });
    const stream = await client.chat.completions.create({
      model: "gpt-4o-mini",
      stream: true,
      messages: [{ role: "user", content: "hi" }],
    });
    let most = 0n;
    let text = "";
    for await (const piece of stream) {
      text += piece.choices[0]?.delta?.content ?? "";
      if (text.length % (PIECE.length * 50) === 0) {
        const reserved = (await bench.running.proxy.writer.states()).find(({ budget }) => budget.scope.keyId === id);
        if (reserved && reserved.reservedNanoUsd > most) most = reserved.reservedNanoUsd;
      }
    }
    expect(text).toBe(PIECE.repeat(PIECES));
    // 4,096 tokens were held at first; 300 pieces are 15,000.
    expect(most).toBeGreaterThan(4_096n * 600n);
    await expect.poll(async () => (await bench.running.events()).filter((one) => one.keyId === id).length).toBe(1);
    const [event] = (await bench.running.events()).filter((one) => one.keyId === id);
    expect(event).toMatchObject({ outcome: "complete", usageState: "reported", usage: { output: PIECES * 40 } });
    expect(await bench.running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  });

  it("is cut by a native error when the budget has no more: each SDK gets one clear error, and no more than a piece is over", async () => {
    // 4,096 tokens, which are held at first, fit each; the whole stream does not.
    const amounts: { readonly [name: string]: bigint } = {
      openai: 3_000_000n,
      anthropic: 6_000_000n,
      google: 2_000_000n,
    };
    const asks: { readonly [name: string]: (secret: string) => Promise<string> } = {
      openai: async (secret) => {
        streaming(PIECES, chatFrame);
        const client = new OpenAI({ apiKey: secret, baseURL: `${bench.running.url}/openai/v1` });
        const stream = await client.chat.completions.create({
          model: "gpt-4o-mini",
          stream: true,
          messages: [{ role: "user", content: "hi" }],
        });
        let text = "";
        for await (const piece of stream) text += piece.choices[0]?.delta?.content ?? "";
        return text;
      },
      anthropic: async (secret) => {
        const message = {
          id: "m",
          type: "message",
          role: "assistant",
          model: "claude-3-haiku-20240307",
          content: [],
          stop_reason: null,
          usage: { input_tokens: 10, output_tokens: 1 },
        };
        const event = (type: string, more: object): string =>
          `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;
        const first =
          event("message_start", { message }) +
          event("content_block_start", { index: 0, content_block: { type: "text", text: "" } });
        streaming(
          PIECES,
          (text) => event("content_block_delta", { index: 0, delta: { type: "text_delta", text } }),
          first,
        );
        const client = new Anthropic({ apiKey: secret, baseURL: `${bench.running.url}/anthropic` });
        const stream = client.messages.stream({
          model: "claude-3-haiku-20240307",
          max_tokens: 64_000,
          messages: [{ role: "user", content: "hi" }],
        });
        return (await stream.finalMessage()).content.map((block) => (block.type === "text" ? block.text : "")).join("");
      },
      google: async (secret) => {
        streaming(
          PIECES,
          (text) =>
            `data: ${JSON.stringify({ candidates: [{ index: 0, content: { role: "model", parts: [{ text }] } }], modelVersion: "gemini-2.0-flash" })}\r\n\r\n`,
        );
        const client = new GoogleGenAI({ apiKey: secret, httpOptions: { baseUrl: `${bench.running.url}/google` } });
        let text = "";
        for await (const piece of await client.models.generateContentStream({
          model: "gemini-2.0-flash",
          contents: "hi",
        }))
          text += piece.text ?? "";
        return text;
      },
    };
    for (const [name, ask] of Object.entries(asks)) {
      const { id, secret } = await bench.running.createKey({ name });
      const amount = amounts[name] ?? 0n;
      await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: amount });
      const before = bench.provider.journal.length;
      const error = await ask(secret).then(
        () => undefined,
        (thrown: unknown) => thrown as Error,
      );
      expect(error?.message, name).toContain("budget of key");
      expect(error?.message, name).toContain("this answer is not complete");
      expect(bench.provider.journal.length, `${name} asked again`).toBe(before + 1);
      await expect.poll(async () => (await bench.running.events()).filter((one) => one.keyId === id).length).toBe(1);
      const [event] = (await bench.running.events()).filter((one) => one.keyId === id);
      expect(event, name).toMatchObject({ outcome: "capped", usageState: "estimated" });
      const cost = BigInt(event?.costNanoUsd ?? "0");
      // The budget is used, and passed by no more than a few pieces that came in one read.
      expect(cost, name).toBeGreaterThan((amount * 9n) / 10n);
      expect(cost, name).toBeLessThan(amount + (amount * 15n) / 100n);
      expect(await bench.running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
    }
  });

  it("flows on where the budget is only tried out, and is counted", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 3_000_000n, observe: true });
    streaming(
      200,
      chatFrame,
      "",
      `${chunk({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 9, total_tokens: 10 } })}data: [DONE]\n\n`,
    );
    expect(await answerOf(secret)).toContain("[DONE]");
    const books = await openUsage(bench.running.place);
    if (!books) throw new Error("no books");
    const refused = await readRefused(books, 0, Date.now() + 60_000);
    await books.close();
    expect(refused.filter((row) => row.keyId === id).map(({ reason, observed }) => [reason, observed])).toEqual([
      ["capped", true],
    ]);
  });
});

describe("while the ledger cannot be written", () => {
  const last = `${chunk({ choices: [], usage: { prompt_tokens: 1, completion_tokens: 9, total_tokens: 10 } })}data: [DONE]\n\n`;

  it("a stream waits for it, and goes on; nobody is told that money is out", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 10n ** 12n });
    const { writer } = bench.running.proxy;
    const { extend } = writer;
    let asked = 0;
    writer.extend = async (...args) => {
      if ((asked += 1) <= 2) throw new LedgerUnavailable("the disk hiccups");
      return await extend(...args);
    };
    streaming(200, chatFrame, "", last);
    expect(await answerOf(secret)).toContain("[DONE]");
    writer.extend = extend;
    expect(asked).toBeGreaterThan(2);
    expect((await bench.running.events()).at(-1)).toMatchObject({ keyId: id, outcome: "complete" });
  });

  it("for long, a stream ends, as what it is: not as money that is out; one under budgets on trial flows on", async () => {
    const [held, tried] = [await bench.running.createKey(), await bench.running.createKey()];
    await bench.running.setBudget({ scope: { keyId: held.id }, amountNanoUsd: 10n ** 12n });
    await bench.running.setBudget({ scope: { keyId: tried.id }, amountNanoUsd: 10n ** 12n, observe: true });
    const { writer } = bench.running.proxy;
    const { extend } = writer;
    writer.extend = () => Promise.reject(new LedgerUnavailable("the disk is gone"));
    streaming(200, chatFrame, "", last);
    const texts = await Promise.all([answerOf(held.secret), answerOf(tried.secret)]);
    writer.extend = extend;
    expect(texts[0]).toContain("the ledger cannot be written now");
    expect(texts[0]).not.toContain("insufficient_quota");
    expect(texts[1]).toContain("[DONE]");
    const outcomes = new Map((await bench.running.events()).map(({ keyId, outcome }) => [keyId, outcome]));
    expect([outcomes.get(held.id), outcomes.get(tried.id)]).toEqual(["shutdown", "complete"]);
  });
});

it("under strict budgets alone nothing is asked for: the most that it can cost is held from the start", async () => {
  const { id, secret } = await bench.running.createKey();
  await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 10n ** 12n, mode: "strict" });
  const { writer } = bench.running.proxy;
  const { extend } = writer;
  let asked = 0;
  writer.extend = (...args) => {
    asked += 1;
    return extend(...args);
  };
  streaming(200, chatFrame, "", "data: [DONE]\n\n");
  expect(await answerOf(secret)).toContain("[DONE]");
  writer.extend = extend;
  expect(asked).toBe(0);
});

describe("a stream of several answers", () => {
  const choice = (index: number, content: string, ended = false): object => ({
    index,
    delta: { content },
    finish_reason: ended ? "stop" : null,
  });
  /** Vendors that state usage in every chunk. */
  const counted = (choices: object[], tokens: number): string =>
    chunk({ choices, usage: { prompt_tokens: 10, completion_tokens: tokens, total_tokens: 10 + tokens } });
  const post = (path: string, secret: string, body: object): Promise<Response> =>
    fetch(`${bench.running.url}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  const messages = [{ role: "user", content: "hi" }];

  it("is held to the cap, though one of them ended long before", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 6_000_000n });
    bench.provider.script = async (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (let i = 1; i <= 600 && !response.destroyed; i++) {
        response.write(counted([choice(i === 3 ? 0 : 1, PIECE, i === 3)], i * 50));
        await sleep(1);
      }
      response.end("data: [DONE]\n\n");
    };
    const text = await (
      await post("/openai/v1/chat/completions", secret, { model: "gpt-4o-mini", n: 2, stream: true, messages })
    ).text();
    expect(text).toContain("insufficient_quota");
    const event = (await bench.running.events()).at(-1);
    expect(event).toMatchObject({ keyId: id, outcome: "capped" });
    expect(Number(event?.costNanoUsd)).toBeLessThan(7_000_000);
  });

  it("that is left is booked by what went by, not by the count at the first one's end", async () => {
    const { id, secret } = await bench.running.createKey();
    const aborter = new AbortController();
    bench.provider.script = async (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(counted([choice(0, "a", true)], 2));
      for (let i = 0; i < 200 && !response.destroyed; i++) {
        response.write(chunk({ choices: [choice(1, PIECE)] }));
        await sleep(1);
      }
      aborter.abort();
    };
    await fetch(`${bench.running.url}/openai/v1/chat/completions`, {
      method: "POST",
      signal: aborter.signal,
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "gpt-4o-mini", n: 2, stream: true, messages }),
    })
      .then((answer) => answer.text())
      .catch(() => {});
    const mine = async () => (await bench.running.events()).filter(({ keyId }) => keyId === id);
    await expect.poll(async () => (await mine()).length).toBe(1);
    const [event] = await mine();
    expect(event?.usageState).toBe("estimated");
    expect(event?.usage.output).toBeGreaterThan(5_000);
  });

  it("of Gemini is held to the cap, and flows on, though one candidate ended long before", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 4_000_000n });
    const frame = (index: number, text: string, finishReason?: string): string =>
      `data: ${JSON.stringify({ candidates: [{ index, content: { role: "model", parts: [{ text }] }, finishReason }], modelVersion: "gemini-2.0-flash" })}\r\n\r\n`;
    bench.provider.script = async (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (let i = 1; i <= 600 && !response.destroyed; i++) {
        response.write(i === 3 ? frame(0, PIECE, "STOP") : frame(1, PIECE));
        await sleep(1);
      }
      response.end();
    };
    const body = { contents: [{ role: "user", parts: [{ text: "hi" }] }], generationConfig: { candidateCount: 2 } };
    const answer = await post("/google/v1beta/models/gemini-2.0-flash:streamGenerateContent?alt=sse", secret, body);
    const text = await answer.text();
    expect(text).toContain("FAILED_PRECONDITION");
    expect(text.split(PIECE).length).toBeGreaterThan(100);
    expect(Number((await bench.running.events()).at(-1)?.costNanoUsd)).toBeLessThan(4_600_000);
  });
});

it("a stream is counted at the tier that it names, not at the one that was asked for", async () => {
  const { id, secret } = await bench.running.createKey();
  const amount = 40_000_000n;
  await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: amount });
  streaming(800, (text) =>
    chunk({
      model: "gpt-5-mini",
      service_tier: "priority",
      choices: [{ index: 0, delta: { content: text }, finish_reason: null }],
    }),
  );
  const answer = await fetch(`${bench.running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "gpt-5-mini", stream: true, messages: [{ role: "user", content: "hi" }] }),
  });
  expect(await answer.text()).toContain("insufficient_quota");
  const event = (await bench.running.events()).at(-1);
  expect(event).toMatchObject({ keyId: id, outcome: "capped", tier: "priority" });
  expect(BigInt(event?.costNanoUsd ?? 0)).toBeLessThan((amount * 115n) / 100n);
});

it("an answer in sound, of which no words go by, is held at the most that it can cost", async () => {
  const { id, secret } = await bench.running.createKey();
  await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 100_000_000n });
  const ask = (more: object): Promise<Response> =>
    fetch(`${bench.running.url}/openai/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({
        model: "gpt-4o-audio-preview",
        stream: true,
        messages: [{ role: "user", content: "hi" }],
        ...more,
      }),
    });
  streaming(3, chatFrame, "", "data: [DONE]\n\n");
  const sound = { modalities: ["text", "audio"], audio: { voice: "alloy", format: "pcm16" } };
  expect((await ask(sound)).status).toBe(402);
  const short = await ask({ ...sound, max_completion_tokens: 100 });
  expect(short.status).toBe(200);
  await short.text();
});

it("a stream that is cut before its first word costs at least what the provider stated of its input", async () => {
  const { id, secret } = await bench.running.createKey();
  await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 500_000_000n });
  const usage = {
    input_tokens: 10,
    cache_creation_input_tokens: 30_000,
    cache_creation: { ephemeral_1h_input_tokens: 30_000, ephemeral_5m_input_tokens: 0 },
    output_tokens: 0,
  };
  const message = {
    id: "m",
    type: "message",
    role: "assistant",
    model: "claude-haiku-4-5",
    content: [],
    stop_reason: null,
    usage,
  };
  bench.provider.script = (_arrived, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(`event: message_start\ndata: ${JSON.stringify({ type: "message_start", message })}\n\n`);
    setTimeout(() => response.destroy(), 50);
  };
  await fetch(`${bench.running.url}/anthropic/v1/messages`, {
    method: "POST",
    headers: { "x-api-key": secret, "content-type": "application/json", "anthropic-version": "2023-06-01" },
    body: JSON.stringify({
      model: "claude-haiku-4-5",
      stream: true,
      max_tokens: 9,
      messages: [{ role: "user", content: "hi" }],
    }),
  })
    .then((answer) => answer.text())
    .catch(() => {});
  const mine = async () => (await bench.running.events()).filter(({ keyId }) => keyId === id);
  await expect.poll(async () => (await mine()).length).toBe(1);
  // 30,000 one-hour cache writes at 2 USD a million.
  expect(Number((await mine())[0]?.costNanoUsd)).toBeGreaterThanOrEqual(60_000_000);
});
