// What went wrong for users of other gateways, each test named after it: streams that cost nothing, errors that are
// charged, polls that are charged again, fees and thoughts that are left out.
import { request as httpRequest } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";
import { describe, expect, it } from "vitest";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { json } from "../fake/provider.ts";
import type { Script } from "../fake/provider.ts";
import { withProxy } from "../with-proxy.ts";

const KEY = "sk-test-went-wrong-client";
const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });

const CHAT = "/openai/v1/chat/completions";
const RESPONSES = "/openai/v1/responses";
const MESSAGES = "/anthropic/v1/messages";
const GEMINI = "/google/v1beta/models/gemini-2.5-flash:streamGenerateContent";
const CHAT_BODY = { model: "gpt-4o-mini", max_tokens: 4_000, messages: [{ role: "user", content: "hi" }] };
const RESPONSES_BODY = { model: "gpt-4o-mini", max_output_tokens: 4_000, input: "hi" };
const MESSAGES_BODY = { model: "claude-haiku-4-5", max_tokens: 4_000, messages: [] };

function post(path: string, body: object): Promise<string> {
  return fetch(bench.running.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${KEY}` },
    body: JSON.stringify(body),
  })
    .then((answer) => answer.text())
    .catch(String);
}

function get(path: string, key = KEY): Promise<number> {
  return fetch(bench.running.url + path, { headers: { authorization: `Bearer ${key}` } }).then(async (answer) => {
    await answer.text();
    return answer.status;
  });
}

/** A client that goes away after some bytes. */
function leave(path: string, body: object, afterBytes: number): Promise<void> {
  return new Promise((resolve) => {
    const text = JSON.stringify(body);
    const headers = {
      "content-type": "application/json",
      authorization: `Bearer ${KEY}`,
      "content-length": Buffer.byteLength(text),
    };
    const request = httpRequest(bench.running.url + path, { method: "POST", headers }, (answer) => {
      let got = 0;
      answer.on("error", () => {});
      answer.on("data", (chunk: Buffer) => {
        got += chunk.length;
        if (got < afterBytes) return;
        request.destroy();
        resolve();
      });
    });
    request.on("error", () => resolve());
    request.end(text);
  });
}

/** The events that something brings: as many as are waited for, and not one more a moment later. */
async function events(work: () => Promise<unknown>, count = 1): Promise<EventRecord[]> {
  const before = (await bench.running.events()).length;
  await work();
  await expect.poll(async () => (await bench.running.events()).length, { timeout: 8_000 }).toBe(before + count);
  await sleep(50);
  const found = (await bench.running.events()).slice(before);
  expect(found.length).toBe(count);
  return found;
}
const event = async (work: () => Promise<unknown>): Promise<EventRecord> =>
  (await events(work))[0] ?? Promise.reject(new Error("no event"));

/** Some events, and then an end of the stream, a cut, or nothing more. */
const stream =
  (parts: readonly string[], then: "ends" | "breaks" | "hangs"): Script =>
  (_arrived, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const part of parts) response.write(part);
    if (then === "ends") response.end();
    if (then === "breaks") setTimeout(() => response.destroy(), 30);
  };
const data = (content: object, name?: string): string =>
  `${name === undefined ? "" : `event: ${name}\n`}data: ${JSON.stringify(content)}\n\n`;
const chatDelta = (content: string): string =>
  data({ id: "c", model: "gpt-4o-mini", choices: [{ index: 0, delta: { content }, finish_reason: null }] });
const CREATED = data(
  { type: "response.created", response: { id: "r", model: "gpt-4o-mini", status: "in_progress", usage: null } },
  "response.created",
);
const responseDelta = (delta: string): string =>
  data({ type: "response.output_text.delta", item_id: "m", delta }, "response.output_text.delta");
const messageStart = (usage: object): string =>
  data(
    { type: "message_start", message: { id: "m", type: "message", model: "claude-haiku-4-5-20251001", usage } },
    "message_start",
  );
const messageDelta = (text: string): string =>
  data({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text } }, "content_block_delta");
const geminiDelta = (text: string): string =>
  data({ candidates: [{ content: { parts: [{ text }] } }], modelVersion: "gemini-2.5-flash" });
const words = (count: number): string[] => Array.from({ length: count }, (_, i) => `word${i} `);
/** 3,000 characters are about 750 tokens. */
const LONG = "abcd ".repeat(600);

/** Where a model may think unseen, what is held for it stands. */
const UNTHINKING = { generationConfig: { thinkingConfig: { thinkingBudget: 0 } } };

describe("a stream that is cut is nearly free (case 15)", () => {
  const streams = {
    "chat, one large piece": [CHAT, CHAT_BODY, [chatDelta(LONG)]],
    "chat, ten equal pieces": [CHAT, CHAT_BODY, Array.from({ length: 10 }, () => chatDelta(LONG.slice(0, 300)))],
    responses: [RESPONSES, RESPONSES_BODY, [CREATED, responseDelta(LONG)]],
    messages: [MESSAGES, MESSAGES_BODY, [messageStart({ input_tokens: 9, output_tokens: 1 }), messageDelta(LONG)]],
    gemini: [`${GEMINI}?alt=sse`, { contents: [], ...UNTHINKING }, [geminiDelta(LONG)]],
  } as const;
  it.each(Object.entries(streams))("%s: not here", async (_name, [path, body, parts]) => {
    bench.provider.script = stream(parts, "breaks");
    const cut = await event(() => post(path, { ...body, stream: true }));
    bench.provider.script = stream(parts, "hangs");
    const left = await event(() => leave(path, { ...body, stream: true }, 200));
    for (const one of [cut, left]) {
      expect(one.usageState).toBe("estimated");
      expect(one.usage.output).toBeGreaterThanOrEqual(700);
      expect(one.usage.output).toBeLessThanOrEqual(1_000);
    }
    expect([cut.outcome, left.outcome]).toEqual(["upstream_failed", "client_left"]);
    expect((await bench.running.proxy.writer.verify()).reservedNanoUsd).toBe(0n);
  });
});

describe("a client that closes a stream leaves no row (case 13)", () => {
  it("one row each, of what went by, and nothing held, on every format", async () => {
    const cases = [
      [CHAT, { ...CHAT_BODY, stream: true }, words(200).map(chatDelta)],
      [RESPONSES, { ...RESPONSES_BODY, stream: true }, [CREATED, ...words(200).map(responseDelta)]],
      [MESSAGES, { ...MESSAGES_BODY, stream: true }, words(200).map(messageDelta)],
      [`${GEMINI}?alt=sse`, { contents: [] }, words(200).map(geminiDelta)],
    ] as const;
    for (const [path, body, parts] of cases) {
      bench.provider.script = stream(parts, "hangs");
      const left = await event(() => leave(path, body, 4_000));
      expect(left).toMatchObject({ outcome: "client_left", usageState: "estimated" });
      expect(BigInt(left.costNanoUsd ?? 0)).toBeGreaterThan(0n);
    }
    expect(await bench.running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  });
});

describe("an error is charged as an answer (case 16)", () => {
  const error = (size: number): object => ({ message: "x".repeat(size), type: "server_error" });
  const failures: { readonly [name: string]: readonly [string, object, (size: number) => Script] } = {
    "in the middle of a chat": [
      CHAT,
      { ...CHAT_BODY, stream: true },
      (size) => stream([chatDelta("hi"), data({ error: error(size) })], "ends"),
    ],
    "at the start of a chat": [
      CHAT,
      { ...CHAT_BODY, stream: true },
      (size) => stream([data({ error: error(size) })], "ends"),
    ],
    "instead of a chat, with status 200": [CHAT, CHAT_BODY, (size) => json({ error: error(size) })],
    "in messages": [
      MESSAGES,
      { ...MESSAGES_BODY, stream: true },
      (size) =>
        stream(
          [messageStart({ input_tokens: 100, output_tokens: 1 }), data({ type: "error", error: error(size) }, "error")],
          "ends",
        ),
    ],
    "instead of a message": [MESSAGES, MESSAGES_BODY, (size) => json({ type: "error", error: error(size) })],
    "in Gemini's events": [
      `${GEMINI}?alt=sse`,
      { contents: [] },
      (size) => stream([data({ error: error(size) })], "ends"),
    ],
    "in Gemini's array": [GEMINI, { contents: [] }, (size) => json([{ error: error(size) }])],
    "as a failed response": [
      RESPONSES,
      { ...RESPONSES_BODY, stream: true },
      (size) =>
        stream(
          [CREATED, data({ type: "response.failed", response: { id: "r", status: "failed", error: error(size) } })],
          "ends",
        ),
    ],
    "as a failed response, in JSON": [
      RESPONSES,
      RESPONSES_BODY,
      (size) => json({ id: "r", status: "failed", model: "gpt-4o-mini", error: error(size), usage: null }),
    ],
  };
  it.each(Object.entries(failures))("%s: not here, however long its text", async (_name, [path, body, fails]) => {
    const booked = [];
    for (const size of [20, 2_000]) {
      bench.provider.script = fails(size);
      booked.push(await event(() => post(path, body)));
    }
    const [short, long] = booked;
    expect(long?.usage).toEqual(short?.usage);
    expect(long?.costNanoUsd).toBe(short?.costNanoUsd);
    expect(long?.usage.output ?? 0).toBeLessThanOrEqual(1);
    expect(long?.outcome).toBe("upstream_failed");
  });
});

describe("zeros that the provider states are replaced by a guess (case 17)", () => {
  it("not here: stated zeros are reported, absent counts are estimated", async () => {
    const zeros = [
      [
        CHAT,
        { ...CHAT_BODY, stream: true },
        stream(
          [
            chatDelta("hi"),
            data({
              id: "c",
              model: "gpt-4o-mini",
              choices: [],
              usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 },
            }),
            "data: [DONE]\n\n",
          ],
          "ends",
        ),
      ],
      [
        MESSAGES,
        MESSAGES_BODY,
        json({
          id: "m",
          type: "message",
          model: "claude-haiku-4-5",
          content: [],
          usage: { input_tokens: 0, output_tokens: 0 },
        }),
      ],
      [
        GEMINI.replace("streamG", "g"),
        { contents: [] },
        json({
          candidates: [],
          modelVersion: "gemini-2.5-flash",
          usageMetadata: { promptTokenCount: 0, totalTokenCount: 0 },
        }),
      ],
    ] as const;
    for (const [path, body, script] of zeros) {
      bench.provider.script = script;
      expect(await event(() => post(path, body))).toMatchObject({
        usageState: "reported",
        costNanoUsd: "0",
        usage: {},
      });
    }
    bench.provider.script = json({ id: "c", model: "gpt-4o-mini", choices: [] });
    expect(await event(() => post(CHAT, CHAT_BODY))).toMatchObject({ usageState: "estimated" });
  });
});

describe("the first count of a stream is booked as the last (case 18)", () => {
  it("not here: a cut Anthropic stream counts what was written after its placeholder, and keeps its cache writes", async () => {
    const usage = {
      input_tokens: 100,
      cache_creation_input_tokens: 1_000,
      cache_read_input_tokens: 0,
      output_tokens: 1,
    };
    bench.provider.script = stream([messageStart(usage), ...words(200).map(messageDelta)], "hangs");
    const left = await event(() => leave(MESSAGES, { ...MESSAGES_BODY, stream: true }, 15_000));
    expect(left.usage).toMatchObject({ input: 100, cache_write_5m: 1_000 });
    expect(left.usage.output).toBeGreaterThan(100);
    const sum = left.costLines.reduce((total, line) => total + BigInt(line.costNanoUsd), 0n);
    expect(BigInt(left.costNanoUsd ?? 0)).toBe(sum);
  });
});

describe("asking for usage changes what the client sees (case 19)", () => {
  it.each([undefined, null, { include_usage: false }, { include_obfuscation: false }])(
    "not here: stream_options %j gets the bytes of a stream that was not asked",
    async (options) => {
      for (const path of [CHAT, "/openai/v1/completions"]) {
        const parts = [chatDelta("héé"), chatDelta("b")];
        bench.provider.script = (arrived, response) => {
          const body = JSON.parse(arrived.body.toString()) as { stream_options?: { include_usage?: boolean } };
          const usage = { prompt_tokens: 9, completion_tokens: 2, total_tokens: 11 };
          const last = body.stream_options?.include_usage
            ? [data({ id: "c", model: "gpt-4o-mini", choices: [], usage })]
            : [];
          response.writeHead(200, { "content-type": "text/event-stream" });
          response.end([...parts, ...last, "data: [DONE]\n\n"].join(""));
        };
        const body = {
          ...CHAT_BODY,
          prompt: "x",
          stream: true,
          ...(options === undefined ? {} : { stream_options: options }),
        };
        let got = "";
        const booked = await event(async () => (got = await post(path, body)));
        expect(got).toBe([...parts, "data: [DONE]\n\n"].join(""));
        expect(booked).toMatchObject({ usageState: "reported", usage: { input: 9, output: 2 } });
      }
    },
  );
});

describe("attempts that the client gave up are not billed (case 20)", () => {
  it("here each is a row of its own, with what the provider said in the end", async () => {
    const usage = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };
    bench.provider.script = async (_arrived, response) => {
      await sleep(400);
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ id: "c", model: "gpt-4o-mini", choices: [], usage }));
    };
    const impatient = new OpenAI({
      baseURL: `${bench.running.url}/openai/v1`,
      apiKey: KEY,
      timeout: 150,
      maxRetries: 2,
    });
    const arrived = bench.provider.journal.length;
    const booked = await events(
      () =>
        expect(impatient.chat.completions.create({ model: "gpt-4o-mini", messages: [] })).rejects.toThrow("timed out"),
      3,
    );
    expect(bench.provider.journal.length - arrived).toBe(3);
    expect(booked.map((one) => [one.outcome, one.usageState, one.costNanoUsd])).toEqual(
      Array.from({ length: 3 }, () => ["client_left", "reported", "27000"]),
    );
  });
});

describe("a batch is priced wrong (case 24)", () => {
  const headers = { "content-type": "application/json", "x-goog-api-key": KEY };
  it("cached tokens of a Gemini batch cost as much as outside one", async () => {
    bench.provider.script = json({ name: "batches/b1" });
    const body = JSON.stringify({ batch: { inputConfig: { requests: { requests: [{ request: {} }] } } } });
    await fetch(`${bench.running.url}/google/v1beta/models/gemini-2.5-pro:batchGenerateContent`, {
      method: "POST",
      headers,
      body,
    });
    const usageMetadata = { promptTokenCount: 1_100, cachedContentTokenCount: 1_000, candidatesTokenCount: 10 };
    const inlinedResponses = { inlinedResponses: [{ response: { modelVersion: "gemini-2.5-pro", usageMetadata } }] };
    bench.provider.script = json({ name: "batches/b1", done: true, response: { inlinedResponses } });
    const booked = await event(async () =>
      (await fetch(`${bench.running.url}/google/v1beta/batches/b1`, { headers })).text(),
    );
    // 100 at half of 1.25, 1,000 at 0.125, 10 at half of 10 USD a million.
    expect(booked.costNanoUsd).toBe(String(100 * 625 + 1_000 * 125 + 10 * 5_000));
  });

  it("a sum of answers of which one may have been long is marked as inferred", async () => {
    const batch = { id: "batch_long", object: "batch", status: "validating" };
    bench.provider.script = json(batch);
    await post("/openai/v1/batches", { input_file_id: "f", endpoint: "/v1/responses", completion_window: "24h" });
    const usage = { input_tokens: 301_000, output_tokens: 90, total_tokens: 301_090 };
    const counts = { total: 2, completed: 2, failed: 0 };
    bench.provider.script = json({ ...batch, status: "completed", model: "gpt-5.4", request_counts: counts, usage });
    expect(await event(() => get("/openai/v1/batches/batch_long"))).toMatchObject({ priceConfidence: "inferred" });
  });
});

describe("thoughts are left out (case 25)", () => {
  it("not here: what a total holds beyond its parts was written", async () => {
    const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 115 };
    bench.provider.script = json({ id: "1", model: "gemini-2.5-flash", choices: [], usage });
    expect((await event(() => post("/google/v1beta/openai/chat/completions", CHAT_BODY))).usage).toEqual({
      input: 10,
      output: 105,
    });
  });
});

describe("a search costs nothing (case 26)", () => {
  it("a model that always searches has one fee an answer", async () => {
    const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 };
    bench.provider.script = json({ id: "1", model: "gpt-4o-search-preview-2025-03-11", choices: [], usage });
    const booked = await event(() =>
      post(CHAT, { ...CHAT_BODY, model: "gpt-4o-search-preview", web_search_options: {} }),
    );
    expect(booked.usage).toMatchObject({ web_search_preview: 1 });
    // 10 at 2.5 and 5 at 10 USD a million, and 0.025 USD.
    expect(booked.costNanoUsd).toBe(String(10 * 2_500 + 5 * 10_000 + 25_000_000));
  });

  it("a search without a rate is unpriced, and the tokens are still owed", async () => {
    const answer = { id: "r", status: "completed", model: "gpt-4.1-nano", output: [{ type: "web_search_call" }] };
    bench.provider.script = json({ ...answer, usage: { input_tokens: 10, output_tokens: 5, total_tokens: 15 } });
    const booked = await event(() => post(RESPONSES, { ...RESPONSES_BODY, model: "gpt-4.1-nano" }));
    expect(booked).toMatchObject({ priceConfidence: "unpriced", costNanoUsd: "3000" });
  });
});

describe("an unknown model is free (case 27)", () => {
  const answer = (model: string): Script =>
    json({ id: "1", model, choices: [], usage: { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 } });
  const unpriced = async (): Promise<number> => {
    const text = await (await fetch(`${bench.running.opsUrl}/metrics`)).text();
    return Number(/keymeter_unpriced_requests_total\{provider="openai",model="other"\} (\d+)/.exec(text)?.[1] ?? 0);
  };
  it("not here: it is unpriced, and counted as such", async () => {
    const before = await unpriced();
    bench.provider.script = answer("mystery-1");
    expect(await event(() => post(CHAT, { ...CHAT_BODY, model: "mystery-1" }))).toMatchObject({
      costNanoUsd: null,
      priceConfidence: "unpriced",
      usage: { input: 10, output: 5 },
    });
    await expect.poll(unpriced).toBe(before + 1);
  });

  it("one that answers under an unknown name has the price of what was asked for, marked as inferred", async () => {
    bench.provider.script = answer("gpt-99-unheard");
    expect(await event(() => post(CHAT, CHAT_BODY))).toMatchObject({
      priceConfidence: "inferred",
      costNanoUsd: "4500",
    });
  });
});

describe("a price in another unit is off by a million (case 28)", () => {
  it.each(["0.000003", "0.00015", "250000"])("%s is refused, with the unit", (input) => {
    const row = { list: "openai", model: "m", usdPerMillion: { input }, source: "x" };
    expect(() => createPriceBook([row])).toThrow(/USD per million tokens/);
  });
});

describe("a batch that nobody may read is settled as nothing (case 29)", () => {
  it("not here: a 403 leaves it pending, and a result without usage is unknown, under the key that began it", async () => {
    const batch = { id: "batch_n", object: "batch", status: "validating" };
    bench.provider.script = json(batch);
    await post("/openai/v1/batches", {
      input_file_id: "f",
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    const before = (await bench.running.events()).length;
    bench.provider.script = json({ error: { message: "no" } }, 403);
    expect(await get("/openai/v1/batches/batch_n")).toBe(403);
    expect((await bench.running.events()).length).toBe(before);
    expect(bench.running.proxy.context.work.list().map(({ workId }) => workId)).toContain("batch_n");
    const creator = bench.running.proxy.context.things.ownerOf("openai", "batch_n");
    bench.provider.script = json({
      ...batch,
      status: "completed",
      request_counts: { total: 1, completed: 1, failed: 0 },
    });
    const booked = await event(() => get("/openai/v1/batches/batch_n", "sk-another-client-key-0000"));
    expect(booked).toMatchObject({
      usageState: "unknown",
      priceConfidence: "unpriced",
      costNanoUsd: null,
      keyId: creator,
    });
  });
});

describe("polls are charged again (case 30)", () => {
  it("not here: 20 retrievals of a response that was answered at once", async () => {
    const usage = { input_tokens: 10, output_tokens: 5, total_tokens: 15 };
    bench.provider.script = json({ id: "resp_f", status: "completed", model: "gpt-4o-mini", output: [], usage });
    const booked = await events(async () => {
      await post(RESPONSES, RESPONSES_BODY);
      for (let i = 0; i < 20; i++) await get("/openai/v1/responses/resp_f");
    });
    expect(booked[0]).toMatchObject({ usageState: "reported", costNanoUsd: "4500" });
  });

  it("nor three resumed streams of a background response", async () => {
    const response = {
      id: "resp_b",
      model: "gpt-4o-mini",
      status: "queued",
      background: true,
      output: [],
      usage: null,
    };
    bench.provider.script = json(response);
    await post(RESPONSES, { ...RESPONSES_BODY, background: true });
    const usage = { input_tokens: 10, output_tokens: 5, total_tokens: 15 };
    const done = { type: "response.completed", response: { ...response, status: "completed", usage } };
    bench.provider.script = stream([responseDelta("a"), data(done, "response.completed")], "ends");
    const booked = await events(async () => {
      for (let i = 0; i < 3; i++) await get("/openai/v1/responses/resp_b?stream=true&starting_after=1");
    });
    expect(booked[0]).toMatchObject({ usageState: "reported", costNanoUsd: "4500" });
  });
});
