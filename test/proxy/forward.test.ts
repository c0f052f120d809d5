// Upstreams and clients that misbehave: every attempt ends with one event, honest about what it knows.
import { request as httpRequest } from "node:http";
import type { ClientRequest, IncomingMessage } from "node:http";
import { createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { startProxy, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const KEY = "sk-test-forward-client-key";
const CHAT = "/openai/v1/chat/completions";
const ASK = { model: "gpt-4o-mini", max_tokens: 50, messages: [{ role: "user", content: "hello" }] };
const STREAM = { ...ASK, stream: true, stream_options: { include_usage: true } };
const USAGE = '{"prompt_tokens":100,"completion_tokens":20,"total_tokens":120}';
const delta = (i: number): string =>
  `data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"word${i} "},"finish_reason":null}],"usage":null}\n\n`;
const USAGE_EVENT = `data: {"id":"c","model":"gpt-4o-mini","choices":[],"usage":${USAGE}}\n\n`;

/** An upstream of bare sockets: answers each request with what the test says. */
let answer: (socket: Socket) => void | Promise<void> = () => {};
let raw: Server;
let rawRequests = 0;
let running: RunningProxy;

beforeAll(async () => {
  raw = createServer((socket) => {
    let text = "";
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      const head = text.indexOf("\r\n\r\n");
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? "0");
      if (head < 0 || text.length < head + 4 + length) return;
      text = "";
      rawRequests += 1;
      void answer(socket);
    });
  });
  await new Promise<void>((resolve) => raw.listen(0, "127.0.0.1", resolve));
  // Short limits, so that silence is soon over.
  const config = writeSettings("proxy: { timeouts: { connect: 1, headers: 1.5, idle: 1.5, total: 4 } }\n");
  running = await startProxy(`http://127.0.0.1:${(raw.address() as AddressInfo).port}`, { KEYMETER_CONFIG: config });
});
afterAll(async () => {
  await running.stop();
  raw.close();
});

async function ask(
  body: object,
  key = KEY,
): Promise<{ status: number; text: string; broken: boolean; headers: Headers }> {
  const got = await fetch(running.url + CHAT, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify(body),
  });
  const pieces: string[] = [];
  try {
    for await (const chunk of got.body ?? []) pieces.push(Buffer.from(chunk as Uint8Array).toString());
    return { status: got.status, text: pieces.join(""), broken: false, headers: got.headers };
  } catch {
    return { status: got.status, text: pieces.join(""), broken: true, headers: got.headers };
  }
}

/** The one event that the books gain by this. */
async function eventOf(work: () => Promise<unknown>): Promise<EventRecord> {
  const before = (await running.events()).length;
  await work();
  await expect.poll(async () => (await running.events()).length, { timeout: 8_000 }).toBe(before + 1);
  const event = (await running.events()).at(-1);
  if (!event) throw new Error("no event");
  expect((await running.proxy.writer.verify()).reservedNanoUsd).toBe(0n);
  return event;
}

const head = (lines: string): string => `HTTP/1.1 200 OK\r\n${lines}\r\n`;
const JSON_HEAD = "content-type: application/json\r\n";
const SSE_HEAD = "content-type: text/event-stream\r\n";
const frame = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;

describe("an upstream that breaks off", () => {
  it("in a chunked stream: the client sees a broken answer, the event is estimated from what went by", async () => {
    answer = (socket) =>
      void socket.write(head(`${SSE_HEAD}transfer-encoding: chunked\r\n`) + frame(delta(1)) + frame(delta(2)), () =>
        setTimeout(() => socket.destroy(), 20),
      );
    let got: Awaited<ReturnType<typeof ask>> | undefined;
    const event = await eventOf(async () => (got = await ask(STREAM)));
    expect(got?.broken).toBe(true);
    expect(got?.text).toBe(delta(1) + delta(2));
    expect(event).toMatchObject({ outcome: "upstream_failed", usageState: "estimated", usage: { output: 3 } });
    expect(BigInt(event.costNanoUsd ?? "0")).toBeGreaterThan(0n);
  });

  it("in a stream that only the close ends: a normal end of the body is no end of the answer", async () => {
    answer = (socket) => void socket.end(head(`${SSE_HEAD}connection: close\r\n`) + delta(1));
    const event = await eventOf(() => ask(STREAM));
    expect(event).toMatchObject({ outcome: "upstream_failed", usageState: "estimated" });
  });

  it("after the usage but before [DONE]: the usage stands", async () => {
    answer = (socket) => void socket.end(head(`${SSE_HEAD}connection: close\r\n`) + delta(1) + USAGE_EVENT);
    expect(await eventOf(() => ask(STREAM))).toMatchObject({
      usageState: "reported",
      usage: { input: 100, output: 20 },
    });
  });

  it("in the middle of a JSON body: 502 in dialect, estimated, never zero", async () => {
    answer = (socket) =>
      void socket.write(`${head(`${JSON_HEAD}content-length: 500\r\n`)}{"id":"c","usage"`, () =>
        setTimeout(() => socket.destroy(), 20),
      );
    let got: Awaited<ReturnType<typeof ask>> | undefined;
    const event = await eventOf(async () => (got = await ask(ASK)));
    expect(got?.status).toBe(502);
    expect(JSON.parse(got?.text ?? "")).toMatchObject({ error: { code: "upstream_unreachable" } });
    expect(event).toMatchObject({ outcome: "upstream_failed", usageState: "estimated" });
    expect(BigInt(event.costNanoUsd ?? "0")).toBeGreaterThan(0n);
  });

  it("before any answer: estimated at what was reserved, for it may have worked", async () => {
    answer = (socket) => void socket.destroy();
    const event = await eventOf(() => ask(ASK));
    expect(event).toMatchObject({ outcome: "upstream_failed", usageState: "estimated", httpStatus: null });
    expect(BigInt(event.costNanoUsd ?? "0")).toBeGreaterThan(0n);
  });

  it("with an error event in the stream: the client gets it, the event is estimated", async () => {
    answer = (socket) =>
      void socket.end(
        head(`${SSE_HEAD}connection: close\r\n`) +
          delta(1) +
          'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n',
      );
    let got: Awaited<ReturnType<typeof ask>> | undefined;
    const event = await eventOf(async () => (got = await ask(STREAM)));
    expect(got?.text).toContain("overloaded");
    expect(event).toMatchObject({ outcome: "upstream_failed", usageState: "estimated" });
  });
});

describe("an upstream that is silent", () => {
  it("and never answers: 504, estimated at what was reserved", async () => {
    answer = () => {};
    let got: Awaited<ReturnType<typeof ask>> | undefined;
    const event = await eventOf(async () => (got = await ask(ASK)));
    expect(got?.status).toBe(504);
    expect(event).toMatchObject({ outcome: "upstream_failed", usageState: "estimated" });
  });

  it("in the middle of a stream: cut, estimated", async () => {
    answer = (socket) => void socket.write(head(`${SSE_HEAD}transfer-encoding: chunked\r\n`) + frame(delta(1)));
    expect(await eventOf(() => ask(STREAM))).toMatchObject({ outcome: "upstream_failed", usageState: "estimated" });
  });

  it("a byte at a time, for ever: the total time ends it", async () => {
    answer = async (socket) => {
      socket.write(head(`${SSE_HEAD}transfer-encoding: chunked\r\n`));
      while (!socket.destroyed) {
        socket.write(frame(": "));
        await sleep(200);
      }
    };
    expect(await eventOf(() => ask(STREAM))).toMatchObject({ outcome: "upstream_failed" });
  });
});

describe("an upstream that answers oddly", () => {
  it.each([
    [401, '{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key"}}'],
    [429, '{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}'],
    [500, '{"error":{"message":"oops"}}'],
    [503, "not even JSON"],
  ])("%i passes unchanged and costs nothing", async (status, body) => {
    answer = (socket) =>
      void socket.write(
        `HTTP/1.1 ${status} X\r\n${JSON_HEAD}retry-after: 7\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    let got: Awaited<ReturnType<typeof ask>> | undefined;
    const event = await eventOf(async () => (got = await ask(ASK)));
    expect(got).toMatchObject({ status, text: body });
    expect(got?.headers.get("retry-after")).toBe("7");
    expect(event).toMatchObject({
      outcome: "upstream_rejected",
      usage: {},
      costNanoUsd: "0",
      httpStatus: status,
    });
  });

  it("to a provider key it does not know: booked under one key for all such, until it accepts it", async () => {
    const unknown = "sk-test-never-accepted-key";
    answer = (socket) => void socket.write(`HTTP/1.1 401 X\r\n${JSON_HEAD}content-length: 2\r\n\r\n{}`);
    expect(await eventOf(() => ask(ASK, unknown))).toMatchObject({ keyId: "unproven", costNanoUsd: "0" });
    const body = JSON.stringify(chatAnswer());
    answer = (socket) => void socket.write(`${head(`${JSON_HEAD}content-length: ${body.length}\r\n`)}${body}`);
    const event = await eventOf(() => ask(ASK, unknown));
    expect(event.keyId).toMatch(/^fp_/);
    expect(running.proxy.context.register.list().find(({ id }) => id === event.keyId)?.name).toBe("openai key …-key");
  });

  it.each([
    ["a redirect", "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"],
    ["garbage", "\x00\x01\x02 this is not HTTP\r\n\r\n"],
    ["two lengths", `HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}`],
    ["headers without end", `HTTP/1.1 200 OK\r\nx: ${"y".repeat(40_000)}\r\n\r\n`],
  ])("with %s: 502, nothing is followed", async (_name, bytes) => {
    answer = (socket) => void socket.write(bytes);
    const before = rawRequests;
    let got: Awaited<ReturnType<typeof ask>> | undefined;
    await eventOf(async () => (got = await ask(ASK)));
    expect(got?.status).toBe(502);
    expect(rawRequests).toBe(before + 1);
  });

  it("with 103 first: the answer counts", async () => {
    const body = JSON.stringify(chatAnswer());
    answer = (socket) =>
      void socket.write(
        `HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n${head(`${JSON_HEAD}content-length: ${body.length}\r\n`)}${body}`,
      );
    expect(await eventOf(() => ask(ASK))).toMatchObject({ outcome: "complete", usageState: "reported" });
  });

  it("with more bytes behind its answer: the next request gets its own", async () => {
    const [first, second] = [JSON.stringify(chatAnswer(1, 1)), JSON.stringify(chatAnswer(2, 2))];
    answer = (socket) =>
      void socket.write(
        `${head(`${JSON_HEAD}content-length: ${first.length}\r\n`)}${first}${head(`${JSON_HEAD}content-length: 4\r\n`)}EVIL`,
      );
    await eventOf(() => ask(ASK));
    answer = (socket) => void socket.write(`${head(`${JSON_HEAD}content-length: ${second.length}\r\n`)}${second}`);
    let got: Awaited<ReturnType<typeof ask>> | undefined;
    await eventOf(async () => (got = await ask(ASK)));
    expect(got?.text).toBe(second);
  });

  it.each([
    ["negative", '{"prompt_tokens":-5,"completion_tokens":20}'],
    ["a fraction", '{"prompt_tokens":1.5,"completion_tokens":20}'],
    ["absurd", '{"prompt_tokens":1e300,"completion_tokens":20}'],
    ["text", '{"prompt_tokens":"many","completion_tokens":20}'],
  ])("with a count that is %s: not booked as it stands", async (_name, usage) => {
    const body = `{"id":"c","model":"gpt-4o-mini","choices":[],"usage":${usage}}`;
    answer = (socket) => void socket.write(`${head(`${JSON_HEAD}content-length: ${body.length}\r\n`)}${body}`);
    expect(await eventOf(() => ask(ASK))).toMatchObject({ usageState: "estimated" });
  });
});

/** A request that its client can drop. */
function post(body: object, onResponse: (response: IncomingMessage) => void): ClientRequest {
  const text = JSON.stringify(body);
  const headers = {
    "content-type": "application/json",
    authorization: `Bearer ${KEY}`,
    "content-length": Buffer.byteLength(text),
  };
  return httpRequest(running.url + CHAT, { method: "POST", headers }, onResponse).end(text);
}

describe("a client that leaves", () => {
  /** Leaves after `bytes` of the answer's body, or before any when 0. */
  const leaveAfter = (body: object, bytes: number): Promise<void> =>
    new Promise((resolve) => {
      const request = post(body, (response) => {
        let got = 0;
        response.on("error", () => {});
        response.on("data", (chunk: Buffer) => {
          got += chunk.length;
          if (got >= bytes) {
            request.destroy();
            resolve();
          }
        });
      });
      request.on("error", () => resolve());
      if (bytes === 0) setTimeout(() => request.destroy(), 150);
    });

  it("mid-stream is settled once, as estimated, and the upstream is cut", async () => {
    let cut = false;
    answer = (socket) => {
      socket.on("close", () => (cut = true));
      socket.write(
        head(`${SSE_HEAD}transfer-encoding: chunked\r\n`) + frame(delta(1)) + frame(delta(2)) + frame(delta(3)),
      );
    };
    const event = await eventOf(() => leaveAfter(STREAM, 10));
    expect(event).toMatchObject({ outcome: "client_left", usageState: "estimated", usage: { output: 5 } });
    await expect.poll(() => cut).toBe(true);
  });

  it("before a JSON answer has come is settled exactly: the answer is read to its end", async () => {
    const body = JSON.stringify(chatAnswer());
    answer = async (socket) => {
      await sleep(500);
      socket.write(`${head(`${JSON_HEAD}content-length: ${body.length}\r\n`)}${body}`);
    };
    expect(await eventOf(() => leaveAfter(ASK, 0))).toMatchObject({
      outcome: "client_left",
      usageState: "reported",
      usage: { input: 100, output: 20 },
    });
  });

  it("and reads slowly holds the upstream back: memory stays bounded", async () => {
    const piece = frame(`data: {"x":"${"y".repeat(60_000)}"}\n\n`);
    let written = 0;
    answer = async (socket) => {
      socket.write(head(`${SSE_HEAD}transfer-encoding: chunked\r\n`));
      while (!socket.destroyed && written < 400) {
        written += 1;
        if (!socket.write(piece))
          await Promise.race([
            new Promise((resolve) => socket.once("drain", resolve)),
            new Promise((resolve) => socket.once("close", resolve)),
            sleep(1_000),
          ]);
      }
    };
    const before = process.memoryUsage().rss;
    await eventOf(
      () =>
        new Promise<void>((resolve) => {
          const request = post(STREAM, (response) => {
            response.pause();
            setTimeout(() => {
              request.destroy();
              resolve();
            }, 1_000);
          });
          request.on("error", () => {});
        }),
    );
    expect((process.memoryUsage().rss - before) / 1e6).toBeLessThan(60);
  });
});

describe("one connection", () => {
  it("carries held answers and streams one after the other, byte for byte", async () => {
    const provider: FakeProvider = await startFakeProvider(json(chatAnswer()));
    const own = await startProxy(provider.url);
    const { Agent } = await import("node:http");
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const text = delta(1) + delta(2) + USAGE_EVENT + "data: [DONE]\n\n";
    for (let i = 0; i < 20; i++) {
      const streams = i % 2 === 0;
      const whole = JSON.stringify(chatAnswer(i, i));
      provider.script = (_arrived, response) => {
        response.writeHead(200, { "content-type": streams ? "text/event-stream" : "application/json" });
        response.end(streams ? text : whole);
      };
      const got = await new Promise<string>((resolve, reject) => {
        const body = JSON.stringify(streams ? STREAM : ASK);
        const request = httpRequest(
          own.url + CHAT,
          {
            agent,
            method: "POST",
            headers: {
              "content-type": "application/json",
              authorization: `Bearer ${KEY}`,
              "content-length": Buffer.byteLength(body),
            },
          },
          (response) => {
            const chunks: Buffer[] = [];
            response.on("data", (chunk: Buffer) => chunks.push(chunk));
            response.on("end", () => resolve(Buffer.concat(chunks).toString()));
          },
        );
        request.on("error", reject);
        request.end(body);
      });
      expect(got).toBe(streams ? text : whole);
    }
    agent.destroy();
    await own.stop();
    await provider.close();
  });
});

describe("a stop", () => {
  it("lets open answers end, then cuts streams with a native error, and books both", async () => {
    const provider = await startFakeProvider(async (arrived, response) => {
      if (arrived.body.includes('"stream":true')) {
        response.writeHead(200, { "content-type": "text/event-stream" }).write(delta(1));
        return;
      }
      await sleep(400);
      await json(chatAnswer())(arrived, response, arrived as never);
    });
    const own = await startProxy(provider.url);
    const post = (body: object): Promise<string> =>
      fetch(own.url + CHAT, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${KEY}` },
        body: JSON.stringify(body),
      }).then((got) => got.text());
    const [whole, streamed] = [post(ASK), post(STREAM)];
    await expect.poll(() => provider.journal.length).toBe(2);
    const started = Date.now();
    await own.stop();
    expect(Date.now() - started).toBeLessThan(6_000);
    expect(await whole).toContain("hello");
    expect(await streamed).toContain("shutting down");
    const outcomes = (await own.events()).map(({ outcome }) => outcome).toSorted();
    expect(outcomes).toEqual(["complete", "shutdown"]);
    await provider.close();
  });

  it("is not held up by clients that send nothing, or half a request", async () => {
    const { connect } = await import("node:net");
    const provider = await startFakeProvider(json(chatAnswer()));
    const own = await startProxy(provider.url);
    const { port } = new URL(own.url);
    const sockets = ["", `POST ${CHAT} HTTP/1.1\r\nhost: k\r\n`].map((text) => {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", () => {});
      socket.write(text);
      return socket;
    });
    await sleep(100);
    const started = Date.now();
    await own.stop();
    expect(Date.now() - started).toBeLessThan(4_000);
    for (const socket of sockets) socket.destroy();
    await provider.close();
  });
});
