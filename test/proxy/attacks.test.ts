// Ways round the cap or the meter that were found by attacking it. Each stays closed.
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { parseUsd } from "../../ledger/money.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { rawPost, sendRaw } from "../raw-http.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(json(chatAnswer()), {}, { each: true });

const CHAT = "/openai/v1/chat/completions";
const GEMINI = "/google/v1beta/models/gemini-2.5-pro:generateContent";

function ask(secret: string, body: object, path = CHAT, headers: { [name: string]: string } = {}): Promise<Response> {
  return fetch(bench.running.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
    body: JSON.stringify(body),
  });
}
const chat = (more: object = {}): object => ({
  model: "gpt-4o-mini",
  max_tokens: 50,
  messages: [{ role: "user", content: "hi" }],
  ...more,
});

/** What a strict budget of nothing is asked for: the bound, as the refusal states it. */
async function boundOf(
  body: object,
  path = CHAT,
  headers: { [name: string]: string } = {},
): Promise<bigint | "unknown"> {
  const { id, secret } = await bench.running.createKey();
  await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 0n, mode: "strict" });
  const refused = await ask(secret, body, path, headers);
  expect(refused.status, await refused.clone().text()).toBe(402);
  const asked = refused.headers.get("x-keymeter-budget-asked-usd") ?? "";
  return asked === "unknown" ? asked : parseUsd(asked);
}

async function lastEvent(count = 1): Promise<Awaited<ReturnType<RunningProxy["events"]>>[number]> {
  await expect.poll(async () => (await bench.running.events()).length, { timeout: 10_000 }).toBe(count);
  const event = (await bench.running.events()).at(-1);
  if (!event) throw new Error("no event");
  return event;
}

describe("a body that hides what it costs", () => {
  const strict = async (path: string, body: object): Promise<number> => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 50_000_000n, mode: "strict" });
    const { status } = await ask(secret, body, path);
    return status;
  };
  const picture = { fileData: { fileUri: "https://x/1", mimeType: "image/png" } };

  it.each([
    [
      "a file under a field that the endpoint does not read",
      "/openai/v1/responses",
      {
        model: "gpt-5.2",
        messages: [],
        max_output_tokens: 9,
        input: [{ role: "user", content: [{ type: "input_file", file_id: "file-1" }] }],
      },
    ],
    [
      "a file in the system instruction",
      GEMINI,
      { contents: [], generationConfig: { maxOutputTokens: 9 }, systemInstruction: { parts: [picture] } },
    ],
    [
      "a limit in one spelling and its other spelling",
      "/google/v1beta/interactions",
      {
        model: "gemini-2.5-pro",
        input: "x",
        generation_config: { max_output_tokens: 1 },
        generationConfig: { maxOutputTokens: 60_000 },
      },
    ],
    [
      "pictures that lie elsewhere",
      "/openai/v1/images/edits",
      { model: "gpt-image-1", prompt: "x", images: Array.from({ length: 16 }, () => ({ file_id: "file-1" })) },
    ],
    [
      "pictures of a model that nobody names",
      "/openai/v1/images/generations",
      { prompt: "x", output_format: "webp", model: undefined },
    ],
    [
      "no pictures at all",
      "/google/v1beta/models/imagen-4.0-generate-001:predict",
      { instances: [{ prompt: "x" }], parameters: { sampleCount: 0 } },
    ],
    [
      "a text beside the prompt of a picture",
      "/google/v1beta/models/imagen-4.0-generate-001:predict",
      { instances: [{ prompt: "x", content: "x" }] },
    ],
    [
      "a film of no seconds",
      "/google/v1beta/models/veo-3.0-generate-001:predictLongRunning",
      { instances: [{ prompt: "x" }], parameters: { durationSeconds: 0 } },
    ],
  ])("%s: held at what it can cost, so refused", async (_name, path, body) => {
    expect(await strict(path, body)).toBe(402);
    expect(bench.provider.journal).toEqual([]);
  });

  it.each([
    ["a stream that is asked for by a text", CHAT, chat({ stream: "true" })],
    ["a method in the query", "/google/v1beta/cachedContents/c1?$httpMethod=PATCH", {}],
    ["usage cut out of an answer in OpenAI's format", "/google/v1beta/openai/chat/completions?fields=choices", chat()],
    ["a verb behind an escape", "/google/v1beta/models/x%3agenerateContent%3f:countTokens", { contents: [] }],
  ])("%s is refused as it stands", async (_name, path, body) => {
    const { secret } = await bench.running.createKey();
    const { status } = await ask(secret, body, path);
    expect(status).toBe(400);
    expect(bench.provider.journal).toEqual([]);
  });

  it("that refers to what another key made goes nowhere; what was made elsewhere in the account is for all", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    bench.provider.script = json({ id: "conv_1", object: "conversation" });
    await ask(mine.secret, {}, "/openai/v1/conversations");
    bench.provider.script = json({
      id: "r",
      status: "completed",
      model: "gpt-4o",
      usage: { input_tokens: 1, output_tokens: 1, total_tokens: 2 },
    });
    const said = async (secret: string, conversation: string | object): Promise<number> =>
      (await ask(secret, { model: "gpt-4o", input: "x", messages: undefined, conversation }, "/openai/v1/responses"))
        .status;
    expect([await said(mine.secret, "conv_1"), await said(other.secret, "conv_1")]).toEqual([200, 404]);
    expect([await said(other.secret, { id: "conv_1" }), await said(other.secret, "conv_elsewhere")]).toEqual([
      404, 200,
    ]);
  });

  it("and whose answer is left after much of it went by is booked by that, not by what was held", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1_000_000_000n });
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const delta = { id: "c", model: "gpt-4o", choices: [{ index: 0, delta: { content: "word ".repeat(800) } }] };
      for (let i = 0; i < 10; i++) response.write(`data: ${JSON.stringify(delta)}\n\n`);
    };
    const part = { type: "image_url", image_url: { url: "https://x/1.png" } };
    const answer = await ask(secret, {
      model: "gpt-4o",
      stream: true,
      max_tokens: 16_000,
      messages: [{ role: "user", content: [part] }],
    });
    const reader = answer.body?.getReader();
    for (let read = 0; read < 40_000;) read += (await reader?.read())?.value?.length ?? 40_000;
    await reader?.cancel();
    const event = await lastEvent();
    // 40,000 characters are 10,000 tokens at 10 USD a million.
    expect(BigInt(event.costNanoUsd ?? 0)).toBeGreaterThanOrEqual(100_000_000n);
    expect([event.usageState, event.usageReason]).toEqual(["estimated", "cut"]);
  });
});

describe("the process", () => {
  it("survives an upgrade that is reset", async () => {
    const { port } = new URL(bench.running.url);
    for (let i = 0; i < 5; i++) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", () => {});
      socket.write("GET / HTTP/1.1\r\nhost: k\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
      await sleep(5);
      socket.resetAndDestroy();
    }
    await sleep(50);
    expect((await fetch(`${bench.running.opsUrl}/healthz`)).status).toBe(200);
  });

  it("serves a client that offers h2c over HTTP/1.1", async () => {
    const answer = await sendRaw(
      bench.running.url,
      rawPost(CHAT, JSON.stringify(chat()), [
        "authorization: Bearer sk-test-h2c-client",
        "connection: upgrade, http2-settings",
        "upgrade: h2c",
        "http2-settings: AAMAAABkAAQAoAAAAAIAAAAA",
      ]),
    );
    expect(answer.status).toBe(200);
  });

  it("answers a deep tag header and an absurd limit as what they are, not with 500 or 503", async () => {
    expect(
      (
        await ask("sk-test-tags-client", chat(), CHAT, {
          "x-portkey-metadata": `{"a":${"[".repeat(3_000)}${"]".repeat(3_000)},"b":"kept"}`,
        })
      ).status,
    ).toBe(200);
    expect((await lastEvent()).tags).toEqual({ b: "kept" });
    expect((await ask("sk-test-tags-client", chat({ max_tokens: Number.MAX_SAFE_INTEGER }))).status).toBe(400);
  });
});

describe("a client that leaves while it is admitted", () => {
  it("leaves nothing running and nothing held", async () => {
    bench.provider.script = (_arrived, response) =>
      response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    const { port } = new URL(bench.running.url);
    const body = JSON.stringify(chat({ stream: true }));
    await Promise.all(
      Array.from({ length: 40 }, async (_unused, i) => {
        const socket = connect(Number(port), "127.0.0.1");
        socket.on("error", () => {});
        socket.write(rawPost(CHAT, body, ["authorization: Bearer sk-test-race-client"]));
        await sleep(i % 8);
        socket.resetAndDestroy();
      }),
    );
    await expect.poll(() => bench.running.proxy.context.forwarder.open(), { timeout: 5_000 }).toBe(0);
    await expect.poll(async () => (await bench.running.proxy.writer.verify()).reservedNanoUsd).toBe(0n);
    // What was never sent costs nothing.
    const events = await bench.running.events();
    expect(events.filter(({ costNanoUsd }) => costNanoUsd !== "0").length).toBeLessThanOrEqual(
      bench.provider.journal.length,
    );
  });

  it("while the connection is made costs nothing", async () => {
    const full = createServer(() => {}).listen({ host: "127.0.0.1", port: 0, backlog: 0 });
    await new Promise((resolve) => full.once("listening", resolve));
    const { port } = full.address() as AddressInfo;
    // The accept queue of a server that does not accept: later connections hang.
    const blockers = Array.from({ length: 8 }, () => connect(port, "127.0.0.1").on("error", () => {}));
    await bench.running.stop();
    await bench.startAgain({}, `http://127.0.0.1:${port}`);
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 300);
    await fetch(bench.running.url + CHAT, {
      method: "POST",
      signal: controller.signal,
      headers: { "content-type": "application/json", authorization: "Bearer sk-test-connect-client" },
      body: JSON.stringify(chat({ stream: true })),
    }).catch(() => {});
    await bench.running.stop();
    const [event] = await bench.running.events();
    expect(event).toMatchObject({ outcome: expect.stringMatching(/client_left|shutdown|upstream/) as unknown });
    for (const socket of blockers) socket.destroy();
    full.close();
    await bench.startAgain();
  });
});

describe("a budget on a model", () => {
  it("covers what was asked for under an alias", async () => {
    const { secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { model: "gpt-4o-mini" }, amountNanoUsd: 60_000n });
    expect((await ask(secret, chat())).status).toBe(200);
    expect((await bench.running.events())[0]?.servedModel).toBe("gpt-4o-mini-2024-07-18");
    expect((await ask(secret, chat())).status).toBe(402);
    expect((await bench.running.proxy.writer.verify()).differences).toEqual([]);
  });

  it("on the served name covers its alias from the second request on, also after a restart of the sums", async () => {
    const { secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { model: "gpt-4o-mini-2024-07-18" }, amountNanoUsd: 60_000n });
    expect((await ask(secret, chat())).status).toBe(200);
    expect((await ask(secret, chat())).status).toBe(402);
    expect((await bench.running.proxy.writer.verify()).differences).toEqual([]);
  });
});

describe("a strict cap", () => {
  it("books the bound where the usage was not seen to its end", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({
      id: "strict",
      scope: { keyId: id },
      amountNanoUsd: parseUsd("100"),
      mode: "strict",
    });
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write('data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"one"}}]}\n\n');
      setTimeout(() => response.destroy(), 20);
    };
    await ask(secret, chat({ stream: true, max_tokens: 10_000 }))
      .then((answer) => answer.text())
      .catch(() => {});
    const event = await lastEvent();
    expect(event).toMatchObject({ usageState: "estimated", outcome: "upstream_failed" });
    expect(event.costNanoUsd).toBe(((await boundOf(chat({ stream: true, max_tokens: 10_000 }))) as bigint).toString());
  });

  it("counts every answer of n", async () => {
    const one = (await boundOf(chat({ max_tokens: undefined }))) as bigint;
    const many = (await boundOf(chat({ max_tokens: undefined, n: 100 }))) as bigint;
    expect(many > one * 90n).toBe(true);
  });

  it("reads Google's counts in both forms, and refuses both spellings at once", async () => {
    const contents = [{ parts: [{ text: "hi" }] }];
    const number = await boundOf({ contents, generationConfig: { candidateCount: 8 } }, GEMINI);
    const text = await boundOf({ contents, generationConfig: { candidateCount: "8" } }, GEMINI);
    expect((text as bigint) - (number as bigint) < 100_000n).toBe(true);
    expect(
      await boundOf(
        { contents, generationConfig: { maxOutputTokens: 1 }, generation_config: { maxOutputTokens: 65_536 } },
        GEMINI,
      ),
    ).toBe("unknown");
  });

  it.each([
    ["hosted tools that are no list", GEMINI, { contents: [], tools: { googleSearch: {} } }, {}],
    ["a hosted tool", CHAT, chat({ tools: [{ type: "web_search" }] }), {}],
    [
      "a beta nobody knows",
      "/anthropic/v1/messages",
      { model: "claude-haiku-4-5", max_tokens: 5, messages: [] },
      { "anthropic-beta": "next-thing-2099-01-01" },
    ],
    [
      "a tier without a price",
      "/anthropic/v1/messages",
      { model: "claude-opus-4-6", max_tokens: 5, messages: [], speed: "fast" },
      {},
    ],
    [
      "work that goes on at the provider",
      "/openai/v1/responses",
      { model: "gpt-5.2", input: "x", max_output_tokens: 5, background: true },
      {},
    ],
  ] as const)("claims no bound for %s", async (_name, path, body, headers) => {
    expect(await boundOf(body, path, headers)).toBe("unknown");
  });

  it.each([
    ["a stored conversation", { model: "gpt-5.2", input: "x", max_output_tokens: 5, previous_response_id: "resp_1" }],
    [
      "a reference to an item",
      { model: "gpt-5.2", input: [{ type: "item_reference", id: "msg_1" }], max_output_tokens: 5 },
    ],
  ])("takes the whole context for %s", async (_name, body) => {
    const plain = (await boundOf(
      { model: "gpt-5.2", input: "x", max_output_tokens: 5 },
      "/openai/v1/responses",
    )) as bigint;
    expect(((await boundOf(body, "/openai/v1/responses")) as bigint) > plain * 100n).toBe(true);
  });
});

describe("an answer that hides its usage", () => {
  it.each(["fields=responseId", "$fields=responseId", "alt=proto", "$alt=media", "$httpMethod=GET"])(
    "by ?%s is not asked for",
    async (query) => {
      expect((await ask("AIzaTestFieldsClient", { contents: [] }, `${GEMINI}?${query}`)).status).toBe(400);
      expect(bench.provider.journal.length).toBe(0);
    },
  );

  it("by a field mask in a header is not asked for", async () => {
    await ask("AIzaTestFieldsClient", { contents: [] }, GEMINI, {
      "x-goog-fieldmask": "responseId",
      "x-http-method-override": "GET",
    });
    expect(bench.provider.journal[0]?.headers["x-goog-fieldmask"]).toBeUndefined();
    expect(bench.provider.journal[0]?.headers["x-http-method-override"]).toBeUndefined();
  });

  it.each([
    ["gzip", gzipSync],
    ["br", brotliCompressSync],
  ])("in %s though plain was asked for is read all the same, and passes as it came", async (encoding, pack) => {
    const packed = pack(JSON.stringify(chatAnswer(50, 7)));
    bench.provider.script = (_arrived, response) =>
      void response.writeHead(200, { "content-type": "application/json", "content-encoding": encoding }).end(packed);
    expect(await (await ask("sk-test-packed-client", chat())).json()).toEqual(chatAnswer(50, 7));
    expect(await lastEvent()).toMatchObject({ usageState: "reported", usage: { input: 50, output: 7 } });
  });

  it.each([
    ["gzip", gzipSync],
    ["br", brotliCompressSync],
    ["zstd", zstdCompressSync],
  ])("in a stream packed with %s is read as it passes", async (encoding, pack) => {
    const events = `data: {"id":"c","model":"gpt-4o-mini","choices":[{"delta":{"content":"hi"}}]}\n\ndata: ${JSON.stringify({ ...chatAnswer(50, 7), choices: [] })}\n\ndata: [DONE]\n\n`;
    const packed = pack(events);
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream", "content-encoding": encoding });
      response.write(packed.subarray(0, 20));
      setTimeout(() => response.end(packed.subarray(20)), 20);
    };
    expect(await (await ask("sk-test-packed-client", chat({ stream: true }))).text()).toBe(events);
    expect(await lastEvent()).toMatchObject({ usageState: "reported", usage: { input: 50, output: 7 } });
  });

  it("packed, and damaged on the way, is booked at what was reserved", async () => {
    const packed = gzipSync(`data: ${JSON.stringify(chatAnswer())}\n\ndata: [DONE]\n\n`).fill(0xff, 20, 40);
    bench.provider.script = (_arrived, response) =>
      void response.writeHead(200, { "content-type": "text/event-stream", "content-encoding": "gzip" }).end(packed);
    await (await ask("sk-test-packed-client", chat({ stream: true }))).arrayBuffer().catch(() => undefined);
    const event = await lastEvent();
    expect(event.usageState).toBe("estimated");
    expect(BigInt(event.costNanoUsd ?? "0") >= 50n * 600n).toBe(true);
  });

  it("in a line of two megabytes is read", async () => {
    const line = `data: ${JSON.stringify({ candidates: [{ content: { parts: [{ inlineData: { data: "x".repeat(2_000_000) } }] }, finishReason: "STOP" }], usageMetadata: { promptTokenCount: 10, candidatesTokenCount: 5_000, totalTokenCount: 5_010 }, modelVersion: "gemini-2.5-flash" })}\n\n`;
    bench.provider.script = (_arrived, response) =>
      void response.writeHead(200, { "content-type": "text/event-stream" }).end(line);
    const answer = await ask(
      "AIzaTestLongLine",
      { contents: [] },
      "/google/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    );
    expect((await answer.text()).length).toBe(line.length);
    expect(await lastEvent()).toMatchObject({ usageState: "reported", usage: { input: 10, output: 5_000 } });
  });

  it("beside the answer's own (pictures, file searches by a tool) is billed on top", async () => {
    bench.provider.script = json({
      id: "resp_1",
      model: "gpt-5.2",
      status: "completed",
      tools: [{ type: "image_generation", model: "gpt-image-1" }],
      output: [{ type: "file_search_call" }, { type: "image_generation_call" }],
      usage: { input_tokens: 10, output_tokens: 5, total_tokens: 15 },
      tool_usage: { image_gen: { input_tokens: 1_000, output_tokens: 6_000, total_tokens: 7_000 } },
    });
    await ask("sk-test-image-tool", { model: "gpt-5.2", input: "draw" }, "/openai/v1/responses");
    const event = await lastEvent();
    expect(event.usage).toMatchObject({ output: 5, output_image: 6_000, file_search: 1 });
    expect(BigInt(event.costNanoUsd ?? "0") > 6_000n * 10_000n).toBe(true);
  });
});

describe("keys", () => {
  it("are not proven by a redirect", async () => {
    bench.provider.script = (_arrived, response) =>
      void response.writeHead(302, { location: "http://127.0.0.1:1/" }).end();
    await ask("sk-test-redirected", chat());
    expect((await lastEvent()).keyId).toBe("unproven");
  });
});
