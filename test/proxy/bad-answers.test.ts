// Answers that no reader expects: broken events, half a JSON, counts that are none or do not fit together, lines
// without end. The client gets what the provider sent, the row says that it is an estimate and why, a metric counts it,
// memory stays bounded.
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { json } from "../fake/provider.ts";
import type { Script } from "../fake/provider.ts";
import { withProxy } from "../with-proxy.ts";

const KEY = "sk-test-bad-answers-client";
const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });

const CHAT = "/openai/v1/chat/completions";
const MESSAGES = "/anthropic/v1/messages";
const GEMINI = "/google/v1beta/models/gemini-2.5-flash:generateContent";
const BODIES = {
  [CHAT]: { model: "gpt-4o-mini", max_tokens: 50, messages: [{ role: "user", content: "hi" }] },
  [MESSAGES]: { model: "claude-haiku-4-5", max_tokens: 50, messages: [] },
  [GEMINI]: { contents: [], generationConfig: { maxOutputTokens: 50 } },
};

async function ask(path: keyof typeof BODIES, more: object = {}): Promise<{ body: Buffer; event: EventRecord }> {
  const before = (await bench.running.events()).length;
  const answer = await fetch(bench.running.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${KEY}` },
    body: JSON.stringify({ ...BODIES[path], ...more }),
  });
  const body = Buffer.from(await answer.arrayBuffer());
  await expect.poll(async () => (await bench.running.events()).length).toBe(before + 1);
  const event = (await bench.running.events()).at(-1);
  if (!event) throw new Error("no event");
  return { body, event };
}

const bytes =
  (type: string, ...parts: readonly (string | Buffer)[]): Script =>
  async (_arrived, response) => {
    response.writeHead(200, { "content-type": type });
    for (const part of parts)
      if (!response.write(part)) await new Promise((resolve) => response.once("drain", resolve));
    response.end();
  };
const SSE = "text/event-stream";

async function gaps(reason: string): Promise<number> {
  const text = await (await fetch(`${bench.running.opsUrl}/metrics`)).text();
  return [...text.matchAll(/keymeter_usage_gaps_total\{provider="[^"]+",reason="([^"]+)"\} (\d+)/g)]
    .filter(([, found]) => found === reason)
    .reduce((sum, [, , count]) => sum + Number(count), 0);
}

const answerOf = (usage: unknown): object => ({ id: "c", model: "gpt-4o-mini", choices: [], usage });
const messageOf = (usage: unknown): object => ({
  id: "m",
  type: "message",
  model: "claude-haiku-4-5",
  content: [],
  usage,
});
const geminiOf = (usageMetadata: unknown): object => ({
  candidates: [],
  modelVersion: "gemini-2.5-flash",
  usageMetadata,
});
const GOOD = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };

describe("counts that are none", () => {
  const odd = { negative: -5, "a fraction": 1.5, huge: 1e12, "no number": "many", nothing: null };
  const places: readonly (readonly [keyof typeof BODIES, (value: unknown) => object])[] = [
    [CHAT, (value) => answerOf({ ...GOOD, completion_tokens: value, total_tokens: 0 })],
    [CHAT, (value) => answerOf({ ...GOOD, prompt_tokens: value, total_tokens: value })],
    [MESSAGES, (value) => messageOf({ input_tokens: 10, output_tokens: value })],
    [GEMINI, (value) => geminiOf({ promptTokenCount: value ?? "none", totalTokenCount: 10 })],
  ];
  it.each(
    Object.entries(odd).flatMap(([name, value]) =>
      places.map(([path, make]) => ({ name, path, make, value }) as const),
    ),
  )("$name, on $path: estimated, as unreadable, within the bound", async ({ path, make, value }) => {
    const before = await gaps("unreadable");
    const sent = make(value);
    bench.provider.script = json(sent);
    const { body, event } = await ask(path);
    expect(JSON.parse(body.toString())).toEqual(sent);
    expect([event.usageState, event.usageReason]).toEqual(["estimated", "unreadable"]);
    expect(BigInt(event.costNanoUsd ?? 0)).toBeGreaterThan(0n);
    for (const quantity of Object.values(event.usage)) expect(quantity).toBeLessThan(2_000);
    await expect.poll(() => gaps("unreadable")).toBe(before + 1);
  });
});

describe("counts that do not fit together", () => {
  const cases: readonly (readonly [string, keyof typeof BODIES, object])[] = [
    ["more cached than sent", CHAT, answerOf({ ...GOOD, prompt_tokens_details: { cached_tokens: 500 } })],
    ["a total below its part", CHAT, answerOf({ ...GOOD, total_tokens: 50 })],
    ["a part that is negative", CHAT, answerOf({ ...GOOD, completion_tokens_details: { audio_tokens: -3 } })],
    [
      "a cache that is a fraction",
      MESSAGES,
      messageOf({ input_tokens: 9, output_tokens: 3, cache_read_input_tokens: 0.5 }),
    ],
    [
      "more cached than prompted",
      GEMINI,
      geminiOf({ promptTokenCount: 10, cachedContentTokenCount: 90, candidatesTokenCount: 1 }),
    ],
  ];
  it.each(cases)("%s: what can be read is booked, as estimated and contradictory", async (_name, path, sent) => {
    const before = await gaps("contradictory");
    bench.provider.script = json(sent);
    const { body, event } = await ask(path);
    expect(JSON.parse(body.toString())).toEqual(sent);
    expect([event.usageState, event.usageReason]).toEqual(["estimated", "contradictory"]);
    expect(event.usage.input ?? event.usage.cache_read ?? 0).toBeGreaterThan(0);
    await expect.poll(() => gaps("contradictory")).toBe(before + 1);
  });
});

describe("a stream", () => {
  const delta = (content: string): string =>
    `data: ${JSON.stringify({ id: "c", model: "gpt-4o-mini", choices: [{ index: 0, delta: { content } }] })}\n\n`;

  it("of broken events passes whole, and what can be read of it counts", async () => {
    const parts = [
      "data: {not json}\n\n",
      ": a comment\n",
      "data\n\n",
      "id: 7\nretry: 10\n\n",
      "data: [1,2\n\n",
      "\r\r\n\n",
      "data: null\n\n",
      "data: \u0000\u0001\u{1F600}\n\n",
      delta("hello"),
      `data: ${JSON.stringify(answerOf(GOOD))}\r\n\r\n`,
      "data: [DONE]\n\n",
      "data: after the end\n\n",
    ];
    bench.provider.script = bytes(SSE, ...parts);
    const { body, event } = await ask(CHAT, { stream: true, stream_options: { include_usage: true } });
    expect(body.toString()).toBe(parts.join(""));
    expect(event).toMatchObject({ usageState: "reported", usage: { input: 100, output: 20 } });
  });

  it("of nothing but nonsense is booked at what was reserved, and says why", async () => {
    const parts = ["\u0000\u0001\u0002", "<html>busy</html>", "\n\n\n", "}{".repeat(1_000)];
    bench.provider.script = bytes(SSE, ...parts);
    const { body, event } = await ask(CHAT, { stream: true });
    expect(body.toString()).toBe(parts.join(""));
    expect([event.usageState, event.usageReason]).toEqual(["estimated", "cut"]);
    expect(BigInt(event.costNanoUsd ?? 0)).toBeGreaterThan(0n);
  });

  it("whose line has no end passes; memory stays bounded, and the row says that it could not be read", async () => {
    const piece = Buffer.alloc(1024 * 1024, "x");
    const pieces = 96;
    bench.provider.script = bytes(
      SSE,
      "data: ",
      ...Array.from({ length: pieces }, () => piece),
      "\n\ndata: [DONE]\n\n",
    );
    const before = process.memoryUsage().rss;
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, process.memoryUsage().rss - before)), 20);
    const { body, event } = await ask(CHAT, { stream: true });
    clearInterval(timer);
    expect(body.length).toBe(pieces * piece.length + "data: \n\ndata: [DONE]\n\n".length);
    expect([event.usageState, event.usageReason]).toEqual(["estimated", "unreadable"]);
    // The client of this test holds the answer too, twice; the line alone is 96 MiB and is let go at 32.
    expect(most).toBeLessThan(600 * 1024 * 1024);
  });
});

describe("JSON", () => {
  it("of which half came is booked by what went by", async () => {
    const half = JSON.stringify({ ...answerOf(GOOD), choices: [{ message: { content: "word ".repeat(30) } }] }).slice(
      0,
      150,
    );
    bench.provider.script = bytes("application/json", half);
    const { body, event } = await ask(CHAT);
    expect(body.toString()).toBe(half);
    expect([event.usageState, event.usageReason, event.outcome]).toEqual(["estimated", "cut", "upstream_failed"]);
    expect(event.usage.output).toBeGreaterThan(0);
    expect(event.usage.output).toBeLessThanOrEqual(50);
  });

  it.each(["gpt-4o\n-mini", "gpt\u0000", "x".repeat(5_000), "\u202Egpt", ""])(
    "that names the model %j is booked, and the name breaks no label and no table",
    async (model) => {
      const sent = { ...answerOf(GOOD), model };
      bench.provider.script = json(sent);
      const { body, event } = await ask(CHAT);
      expect(JSON.parse(body.toString())).toEqual(sent);
      expect(event.usage).toEqual({ input: 100, output: 20 });
      expect(event.servedModel ?? "").toMatch(/^[\x20-\x7e]{0,200}$/);
      const metrics = await (await fetch(`${bench.running.opsUrl}/metrics`)).text();
      for (const line of metrics.split("\n")) expect(line).toMatch(/^(#.*|[a-z_]+(\{.*\})? \S+|)$/);
    },
  );
});

describe("an upload of 200 megabytes", () => {
  it.each(["content-length: 209715200", "transfer-encoding: chunked"])(
    "with %s is refused; memory stays bounded",
    async (header) => {
      const { port } = new URL(bench.running.url);
      const before = process.memoryUsage().rss;
      const arrived = bench.provider.journal.length;
      const socket = connect(Number(port), "127.0.0.1");
      const answer: string[] = [];
      let most = 0;
      socket.on("data", (chunk) => answer.push(chunk.toString()));
      const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()).on("error", () => resolve()));
      socket.write(
        `POST ${CHAT} HTTP/1.1\r\nhost: k\r\nauthorization: Bearer ${KEY}\r\ncontent-type: application/json\r\n${header}\r\n\r\n`,
      );
      const piece = Buffer.alloc(1024 * 1024, "x");
      const framed = header.startsWith("transfer")
        ? Buffer.concat([Buffer.from("100000\r\n"), piece, Buffer.from("\r\n")])
        : piece;
      for (let sent = 0; sent < 200 && !socket.destroyed && answer.length === 0; sent++) {
        most = Math.max(most, process.memoryUsage().rss - before);
        if (!socket.write(framed))
          await Promise.race([new Promise((resolve) => socket.once("drain", resolve)), closed]);
      }
      await expect.poll(() => answer.join("")).toContain("413");
      socket.destroy();
      await closed;
      expect(answer.join("")).toContain("max_body_mb");
      expect(bench.provider.journal.length).toBe(arrived);
      expect(most).toBeLessThan(300 * 1024 * 1024);
    },
  );
});
