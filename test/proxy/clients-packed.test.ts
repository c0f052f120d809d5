// Bodies as clients write them: packed, without a content-type, with tags as JSON, for models whose names hold more
// than letters. What is read is what is forwarded.
import { brotliCompressSync, constants, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { chatAnswer, json } from "../fake/provider.ts";
import { startFakeSocketProvider } from "../fake/socket-provider.ts";
import type { FakeSocketProvider } from "../fake/socket-provider.ts";
import { sendRaw } from "../raw-http.ts";
import type { RawAnswer } from "../raw-http.ts";
import { startProxy } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const CHAT = "/openai/v1/chat/completions";
const MOST_BYTES = 2 * 1024 * 1024;
const PACKINGS = [
  ["gzip", gzipSync],
  ["zstd", zstdCompressSync],
  ["br", (body: string) => brotliCompressSync(body, { params: { [constants.BROTLI_PARAM_QUALITY]: 5 } })],
  ["deflate", deflateSync],
] as const;

const bench = withProxy(json(chatAnswer()), { KEYMETER_DURABILITY: "process", KEYMETER_MAX_BODY_MB: "2" }, { key: {} });
let sockets: FakeSocketProvider;
let before = 0;

beforeAll(async () => {
  sockets = await startFakeSocketProvider();
});
afterAll(() => sockets.close());
beforeEach(() => {
  before = bench.provider.journal.length;
  bench.provider.script = json(chatAnswer());
});

const CHAT_BODY = { model: "gpt-4o-mini", max_tokens: 50, messages: [{ role: "user", content: "hello ".repeat(50) }] };

/** Exactly these bytes; `headers` beside credential and length. */
function post(
  body: Buffer | string,
  headers: readonly string[],
  { path = CHAT, key = bench.secret } = {},
): Promise<RawAnswer> {
  const bytes = Buffer.from(body);
  const lines = [`authorization: Bearer ${key}`, `content-length: ${bytes.length}`, ...headers];
  return sendRaw(
    bench.running.url,
    Buffer.concat([Buffer.from(`POST ${path} HTTP/1.1\r\nhost: k\r\n${lines.join("\r\n")}\r\n\r\n`), bytes]),
  );
}

function postPacked(encoding: string, body: Buffer | string, key = bench.secret): Promise<RawAnswer> {
  return post(body, ["content-type: application/json", `content-encoding: ${encoding}`], { key });
}

/** The answer of a request that must not have gone anywhere. */
async function isRefused(answer: Promise<RawAnswer>, status: number): Promise<string> {
  const { status: given, text } = await answer;
  expect(given, text.slice(0, 400)).toBe(status);
  expect(bench.provider.journal.length, "something was sent upstream").toBe(before);
  return text;
}

describe.each(PACKINGS)("a body packed as %s", (encoding, pack) => {
  it("is metered by exactly what the answer used", async () => {
    bench.provider.script = json(chatAnswer(1_234, 56));
    expect((await postPacked(encoding, pack(JSON.stringify(CHAT_BODY)))).status).toBe(200);
    expect((await bench.running.events()).at(-1)).toMatchObject({
      requestedModel: "gpt-4o-mini",
      usage: { input: 1_234, output: 56 },
      usageState: "reported",
      costNanoUsd: String(1_234 * 150 + 56 * 600),
    });
  });

  it("goes on byte for byte, with its content-encoding and its own length", async () => {
    const packed = pack(JSON.stringify(CHAT_BODY));
    await postPacked(encoding, packed);
    const arrived = bench.provider.journal.at(-1);
    expect(arrived?.body.equals(packed)).toBe(true);
    expect(arrived?.headers).toMatchObject({ "content-encoding": encoding, "content-length": String(packed.length) });
  });

  it("goes on byte for byte too where it is so large that a thread reads it", async () => {
    // Half of it cannot be packed.
    const noise = Array.from({ length: 60_000 }, (_one, i) => ((i * 7_919) % 65_536).toString(36)).join("");
    const packed = pack(JSON.stringify({ ...CHAT_BODY, messages: [{ role: "user", content: noise }] }));
    expect((await postPacked(encoding, packed)).status).toBe(200);
    expect(bench.provider.journal.at(-1)?.body.equals(packed)).toBe(true);
  });

  it("is refused with 413 when it comes to more than a body may have, however small it came", async () => {
    const bomb = pack(JSON.stringify({ ...CHAT_BODY, user: " ".repeat(8 * 1024 * 1024) }));
    expect(bomb.length).toBeLessThan(10_000);
    const text = await isRefused(postPacked(encoding, bomb), 413);
    expect(text).toContain("when it is unpacked; proxy.max_body_mb");
    expect(text).toContain('"code":"request_too_large"');
  });

  it("passes with as many bytes as a body may have, and not with one more", async () => {
    const frame = JSON.stringify({ ...CHAT_BODY, user: "" }).length;
    const ofSize = (size: number): Buffer => pack(JSON.stringify({ ...CHAT_BODY, user: "x".repeat(size - frame) }));
    expect((await postPacked(encoding, ofSize(MOST_BYTES))).status).toBe(200);
    before = bench.provider.journal.length;
    await isRefused(postPacked(encoding, ofSize(MOST_BYTES + 1)), 413);
  });

  it("holds as much of a strict budget as the same body plain", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1n, mode: "strict" });
    const body = JSON.stringify({ ...CHAT_BODY, messages: [{ role: "user", content: "word ".repeat(200_000) }] });
    expect(body.length).toBeGreaterThan(1_000_000);
    const askedUsd = (text: string): string | undefined => /x-keymeter-budget-asked-usd: (\S+)/.exec(text)?.[1];
    const plain = await isRefused(post(body, ["content-type: application/json"], { key: secret }), 402);
    const packed = await isRefused(postPacked(encoding, pack(body), secret), 402);
    expect(Number(askedUsd(plain))).toBeGreaterThan(0.015);
    expect(askedUsd(packed)).toBe(askedUsd(plain));
  });

  it("with bytes behind its end is refused: another reader could take them for more of it", async () => {
    const packed = pack(JSON.stringify(CHAT_BODY));
    for (const more of [Buffer.from("x"), Buffer.from('{"model":"gpt-5.2"}'), Buffer.alloc(7)])
      await isRefused(postPacked(encoding, Buffer.concat([packed, more])), 400);
  });

  it("that breaks off before its end is refused", async () => {
    await isRefused(postPacked(encoding, pack(JSON.stringify(CHAT_BODY)).subarray(0, -5)), 400);
  });

  it("that holds no JSON is refused as such", async () => {
    expect(await isRefused(postPacked(encoding, pack("{broken")), 400)).toContain("not valid JSON");
  });

  it("of a stream that is asked for its usage goes on plain, without a content-encoding", async () => {
    bench.provider.script = (_arrived, response) => {
      const chunk = (more: object): string => `data: ${JSON.stringify({ id: "c", model: "gpt-4o-mini", ...more })}\n\n`;
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(chunk({ choices: [{ index: 0, delta: { content: "hi" }, finish_reason: "stop" }] }));
      response.write(chunk({ choices: [], usage: { prompt_tokens: 300, completion_tokens: 7, total_tokens: 307 } }));
      response.end("data: [DONE]\n\n");
    };
    const answer = await fetch(bench.running.url + CHAT, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "content-encoding": encoding,
        authorization: `Bearer ${bench.secret}`,
      },
      body: pack(JSON.stringify({ ...CHAT_BODY, stream: true })) as Uint8Array<ArrayBuffer>,
    });
    const text = await answer.text();
    expect(text).toContain('"content":"hi"');
    expect(text).not.toContain("prompt_tokens");
    const arrived = bench.provider.journal.at(-1);
    expect(arrived?.headers["content-encoding"]).toBeUndefined();
    expect(arrived?.headers["content-length"]).toBe(String(arrived?.body.length));
    expect(JSON.parse(arrived?.body.toString() ?? "")).toEqual({
      ...CHAT_BODY,
      stream: true,
      stream_options: { include_usage: true },
    });
    await expect.poll(async () => (await bench.running.events()).at(-1)?.costNanoUsd).toBe(String(300 * 150 + 7 * 600));
  });
});

describe("a packed body", () => {
  it.each(["gzip, br", "gzip,gzip", "identity, gzip"])(
    "with two encodings in one header (%s) is refused with 415",
    async (encoding) => {
      const text = await isRefused(postPacked(encoding, gzipSync(JSON.stringify(CHAT_BODY))), 415);
      expect(text).toContain("packed once as gzip");
    },
  );

  it("with the header twice is refused", async () => {
    const packed = gzipSync(JSON.stringify(CHAT_BODY));
    const headers = ["content-type: application/json", "content-encoding: gzip", "content-encoding: gzip"];
    await isRefused(post(packed, headers), 400);
  });

  it("with its encoding written in capitals, or by its older name, is read", async () => {
    const packed = gzipSync(JSON.stringify(CHAT_BODY));
    expect((await postPacked("GZIP", packed)).status).toBe(200);
    expect((await postPacked("x-gzip", packed)).status).toBe(200);
  });

  it("of another provider is read too", async () => {
    bench.provider.script = json({
      id: "msg_1",
      type: "message",
      model: "claude-haiku-4-5",
      content: [],
      stop_reason: "end_turn",
      usage: { input_tokens: 11, output_tokens: 3 },
    });
    const body = gzipSync(JSON.stringify({ model: "claude-haiku-4-5", max_tokens: 9, messages: [] }));
    const headers = ["content-type: application/json", "content-encoding: gzip", "anthropic-version: 2023-06-01"];
    expect((await post(body, headers, { path: "/anthropic/v1/messages" })).status).toBe(200);
    expect(bench.provider.journal.at(-1)?.body.equals(body)).toBe(true);
    expect((await bench.running.events()).at(-1)?.costNanoUsd).toBe(String(11 * 1_000 + 3 * 5_000));
  });

  it("leaves nothing counted of the bytes in flight when it is answered or refused", async () => {
    await postPacked("gzip", gzipSync(JSON.stringify(CHAT_BODY)));
    await postPacked("gzip", gzipSync("{broken"));
    await expect.poll(() => bench.running.proxy.context.bodies.bytes()).toBe(0);
  });
});

describe("a WebSocket", () => {
  it("whose handshake names an encoding is metered as every other", async () => {
    sockets.script = {
      onMessage(message, say) {
        const response = { id: "resp_ws", model: message["model"], output: [] };
        say({ type: "response.created", response: { ...response, status: "in_progress" } });
        const usage = { input_tokens: 10, output_tokens: 4, total_tokens: 14 };
        say({ type: "response.completed", response: { ...response, status: "completed", usage } });
      },
    };
    const own = await startProxy(sockets.url, { KEYMETER_DURABILITY: "process" });
    const socket = new WebSocket(`${own.url.replace("http", "ws")}/openai/v1/responses`, {
      headers: { authorization: "Bearer sk-test-packed-socket", "content-encoding": "gzip" },
    });
    const heard: string[] = [];
    socket.on("open", () =>
      socket.send(JSON.stringify({ type: "response.create", model: "gpt-4o-mini", input: "hi" })),
    );
    socket.on("message", (data: Buffer) => heard.push(data.toString()));
    await expect.poll(() => heard.length).toBe(2);
    socket.close();
    await expect
      .poll(async () => (await own.events()).map(({ costNanoUsd }) => costNanoUsd))
      .toEqual([String(10 * 150 + 4 * 600)]);
    await own.stop();
  });
});

describe("the content-type of a JSON body", () => {
  it.each([
    ["absent", []],
    ["one with a charset in quotes", ['content-type: application/json; charset="utf-8"']],
    ["one with a charset in capitals", ["content-type: Application/JSON;charset=UTF-8"]],
  ])("may be %s", async (_name, headers) => {
    expect((await post(JSON.stringify(CHAT_BODY), headers)).status).toBe(200);
    expect(bench.provider.journal.length).toBe(before + 1);
    expect(JSON.parse(bench.provider.journal.at(-1)?.body.toString() ?? "")).toEqual(CHAT_BODY);
  });

  it.each(["text/plain", 'application/json; charset="utf-16"', "application/xml"])("may not be %s", async (type) => {
    expect(await isRefused(post(JSON.stringify(CHAT_BODY), [`content-type: ${type}`]), 415)).toContain(
      "send application/json",
    );
  });
});

describe("the name of a model", () => {
  it.each(["my model", "Qwen3 [4bit]", "llama(3), instruct", "team#7/model,v2", "a:b@c+d~e", "m"])(
    "may be %j: it passes and is booked under it",
    async (model) => {
      bench.provider.script = json(chatAnswer(10, 2, model));
      expect((await post(JSON.stringify({ ...CHAT_BODY, model }), ["content-type: application/json"])).status).toBe(
        200,
      );
      expect(JSON.parse(bench.provider.journal.at(-1)?.body.toString() ?? "")).toMatchObject({ model });
      expect((await bench.running.events()).at(-1)).toMatchObject({
        requestedModel: model,
        usage: { input: 10, output: 2 },
      });
    },
  );

  it.each([
    ["begin with a blank", " gpt-4o-mini"],
    ["end with a blank", "gpt-4o-mini "],
    ["be a blank", " "],
    ["hold a tab", "a\tb"],
    ["hold a quote", 'a"b'],
    ["hold other letters", "модель"],
    ["be longer than 200 characters", "x".repeat(201)],
  ])("may not %s", async (_name, model) => {
    await isRefused(post(JSON.stringify({ ...CHAT_BODY, model }), ["content-type: application/json"]), 400);
  });
});

describe("x-keymeter-tags", () => {
  const tagged = (value: string): Promise<RawAnswer> =>
    post(JSON.stringify(CHAT_BODY), ["content-type: application/json", `x-keymeter-tags: ${value}`]);

  it("as a JSON object become tags", async () => {
    expect(
      (await tagged('{"feature": "search", "customer": "acme, inc.", "attempt": 2, "is_trial": true}')).status,
    ).toBe(200);
    expect((await bench.running.events()).at(-1)?.tags).toEqual({
      feature: "search",
      customer: "acme, inc.",
      attempt: "2",
      is_trial: "true",
    });
    expect(bench.provider.journal.at(-1)?.headers["x-keymeter-tags"]).toBeUndefined();
  });

  it("as a list of pairs still do", async () => {
    await tagged("feature=search,customer=acme");
    expect((await bench.running.events()).at(-1)?.tags).toEqual({ feature: "search", customer: "acme" });
  });

  it.each(['{"feature":', "{feature: search}", '{"a":"b"} x'])(
    "that are broken JSON (%s) are refused by name",
    async (value) => {
      const text = await isRefused(tagged(value), 400);
      expect(text).toContain("x-keymeter-tags is neither a list");
      expect(text).toContain('"type":"invalid_request_error"');
    },
  );
});
