// Clients and providers that mean harm: bodies that nobody asked for, bodies that take long to read, answers without an
// end. Others are served meanwhile, and the proxy's memory stays bounded.
import { connect } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { createServer, request as httpRequest } from "node:http";
import type { Server, ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chatAnswer, json } from "../fake/provider.ts";
import { IS_CI } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { ask, CHAT, EMBEDDINGS, GEMINI_STREAM, heldAttempts, MESSAGES, RESPONSES, SSE } from "./asking.ts";
import { startMeasuredProxy } from "./measured-proxy.ts";
import type { MeasuredProxy } from "./measured-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const MEGABYTE = 1024 * 1024;

describe("a body", () => {
  const SAID_BYTES = 59 * MEGABYTE;
  const SENT_BYTES = MEGABYTE;
  const MOST_ONE = 4 * MEGABYTE;
  const MOST_ALL = 16 * MEGABYTE;
  const bench = withProxy(json(chatAnswer()), {
    KEYMETER_DURABILITY: "process",
    KEYMETER_PASS_THROUGH: "off",
    KEYMETER_MAX_BODY_MB: "64",
  });
  const sockets: Socket[] = [];
  afterAll(() => {
    for (const socket of sockets) socket.destroy();
  });

  /** Says that it sends much, sends some of it, and waits for an answer. */
  function begin(
    url: string,
    path: string,
    headers: readonly string[],
    sent: Buffer,
  ): { answer: Promise<string>; socket: Socket } {
    const { port } = new URL(url);
    const socket = connect(Number(port), "127.0.0.1");
    sockets.push(socket);
    socket.write(
      `POST ${path} HTTP/1.1\r\nhost: k\r\ncontent-type: application/json\r\n${headers.join("\r\n")}\r\n\r\n`,
    );
    socket.write(sent);
    const answer = new Promise<string>((resolve) => {
      let text = "";
      socket.on("data", (piece: Buffer) => {
        text += piece.toString("latin1");
        if (text.includes("}")) resolve(text);
      });
      socket.on("error", () => resolve(text));
      socket.on("close", () => resolve(text));
    });
    return { answer, socket };
  }

  const STRANGERS: readonly (readonly [string, number, string, () => Promise<string[]>])[] = [
    ["without a credential", 401, CHAT, async () => []],
    [
      "with a Keymeter key that nobody made",
      401,
      CHAT,
      async () => [`authorization: Bearer km_test_${"a".repeat(40)}`],
    ],
    [
      "with a provider key, where those are not taken",
      401,
      CHAT,
      async () => ["authorization: Bearer sk-test-somebody"],
    ],
    [
      "with a key that is paused",
      403,
      CHAT,
      async () => {
        const { id, secret } = await bench.running.createKey();
        await bench.running.change({ type: "setKeyState", keyId: id, state: "paused" });
        return [`authorization: Bearer ${secret}`];
      },
    ],
    [
      "with a key that is revoked",
      401,
      CHAT,
      async () => {
        const { id, secret } = await bench.running.createKey();
        await bench.running.change({ type: "setKeyState", keyId: id, state: "revoked" });
        return [`authorization: Bearer ${secret}`];
      },
    ],
    [
      "with a key for other addresses",
      403,
      CHAT,
      async () => [
        `authorization: Bearer ${(await bench.running.createKey({ policy: { addresses: ["10.0.0.0/8"] } })).secret}`,
      ],
    ],
    [
      "with a key for other providers",
      403,
      CHAT,
      async () => [
        `authorization: Bearer ${(await bench.running.createKey({ policy: { providers: ["anthropic"] } })).secret}`,
      ],
    ],
    [
      "of a stranger, on a path that leads nowhere",
      404,
      "/nowhere",
      async () => ["authorization: Bearer sk-test-somebody"],
    ],
    [
      "of a stranger who asks what his key is",
      401,
      "/keymeter/me",
      async () => [`authorization: Bearer km_test_${"a".repeat(40)}`],
    ],
  ];
  it.each(
    STRANGERS.flatMap(([name, status, path, headersOf]) =>
      ["content-length", "chunked"].map((framing) => ({ name, status, path, headersOf, framing })),
    ),
  )("$name is refused before it is uploaded ($framing)", async ({ status, path, headersOf, framing }) => {
    const piece = Buffer.alloc(SENT_BYTES, " ");
    const sent = framing === "chunked" ? Buffer.concat([Buffer.from(`${SENT_BYTES.toString(16)}\r\n`), piece]) : piece;
    const { answer, socket } = begin(
      bench.running.url,
      path,
      [...(await headersOf()), framing === "chunked" ? "transfer-encoding: chunked" : `content-length: ${SAID_BYTES}`],
      sent,
    );
    const text = await Promise.race([
      answer,
      new Promise<string>((resolve) => setTimeout(() => resolve("no answer while it is sent"), 700)),
    ]);
    socket.destroy();
    expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(bench.running.proxy.context.bodies.bytes()).toBe(0);
  });

  it("that 40 strangers send at once takes no memory of the others", async () => {
    const piece = Buffer.alloc(SENT_BYTES, " ");
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => begin(bench.running.url, CHAT, [`content-length: ${SAID_BYTES}`], piece).answer),
    );
    expect(answers.map((text) => text.slice(9, 12))).toEqual(answers.map(() => "401"));
    expect(bench.running.proxy.context.bodies.bytes()).toBe(0);
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  describe("beyond what is taken in at once", () => {
    let small: RunningProxy;
    let secret = "";
    beforeAll(async () => {
      small = await startProxy(bench.provider.url, {
        KEYMETER_DURABILITY: "process",
        KEYMETER_MAX_BODY_MB: String(MOST_ONE / MEGABYTE),
        KEYMETER_MAX_BODIES_MB: String(MOST_ALL / MEGABYTE),
        KEYMETER_TRUSTED_PROXIES: "127.0.0.1",
      });
      ({ secret } = await small.createKey());
    });
    afterAll(() => small.stop());

    const PART = Math.floor(3.9 * MEGABYTE);
    const from = (address: string): ReturnType<typeof begin> =>
      begin(
        small.url,
        CHAT,
        [`authorization: Bearer ${secret}`, `x-forwarded-for: ${address}`, `content-length: ${MOST_ONE}`],
        Buffer.alloc(PART, " "),
      );
    const settled = (parts: number): Promise<void> =>
      expect.poll(() => small.proxy.context.bodies.bytes(), { timeout: 5_000 }).toBe(parts * PART);

    it("is refused as busy: of one address, and in all; small ones pass, and so does the next when there is room", async () => {
      const { bodies } = small.proxy.context;
      let most = 0;
      const watching = setInterval(() => (most = Math.max(most, bodies.bytes())), 1);
      const held = [from("192.0.2.1"), from("192.0.2.1")];
      await settled(2);
      const third = await from("192.0.2.1").answer;
      expect(third).toMatch(/^HTTP\/1.1 503 /);
      expect(third).toContain("max_bodies_mb");
      expect(third.toLowerCase()).toContain("retry-after: 1");
      for (const socket of sockets) if (!held.some((one) => one.socket === socket)) socket.destroy();
      await settled(2);

      // Another address has room of its own, until all of it is taken.
      held.push(from("192.0.2.2"), from("192.0.2.2"));
      await settled(4);
      expect(await from("192.0.2.3").answer).toMatch(/^HTTP\/1.1 503 /);
      const metrics = await (await fetch(`${small.opsUrl}/metrics`)).text();
      expect(metrics).toMatch(/^keymeter_refused_total\{reason="busy"\} 2$/m);
      // A read of a socket is 64 KB at most: each of two may be one beyond.
      expect(most).toBeLessThanOrEqual(MOST_ALL + 2 * 64 * 1024);
      expect(most).toBeGreaterThanOrEqual(4 * PART);
      const chat = { model: "gpt-4o-mini", max_tokens: 9, messages: [] };
      const xff = { "x-forwarded-for": "192.0.2.3" };
      expect((await ask(small.url, secret, CHAT, chat, xff)).status).toBe(200);

      for (const socket of sockets.splice(0)) socket.destroy();
      await settled(0);
      const large = { ...chat, messages: [{ role: "user", content: "a".repeat(3 * MEGABYTE) }] };
      expect((await ask(small.url, secret, CHAT, large, xff)).status).toBe(200);
      await settled(0);
      clearInterval(watching);
    });
  });
});

describe("one request, or one answer,", () => {
  const RUNS = IS_CI ? 5 : 3;
  const MOST_TURN_MS = 20;
  /** What a provider sends beyond all measure. */
  const POURED = (IS_CI ? 416 : 144) * MEGABYTE;
  /** What a stream may hold, however long it is: a line, or an event, of 16 MB as text, as it is joined, and on its way
   *  to the client. */
  const MOST_HELD = 80 * MEGABYTE;
  /** And with it what Node has not let go of. */
  const MOST_RESIDENT = 450 * MEGABYTE;
  /** A pattern that matchers with backtracking take for ever for. */
  const STARS = `${"a*".repeat(12)}b`;
  const LETTERS = "a".repeat(60);
  let server: Server;
  let measured: MeasuredProxy;
  let answer: (response: ServerResponse) => void;
  const plain = (response: ServerResponse): void =>
    void response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(chatAnswer()));
  let [secret, starred] = ["", ""];
  beforeAll(async () => {
    answer = plain;
    server = createServer((request, response) => {
      request.resume().once("end", () => answer(response));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    measured = await startMeasuredProxy(
      `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      async (running) => {
        ({ secret } = await running.createKey());
        ({ secret: starred } = await running.createKey({ policy: { models: [STARS, "gpt-*"] } }));
        await running.setBudget({ scope: { model: STARS }, amountNanoUsd: 10n ** 15n });
      },
      { KEYMETER_DURABILITY: "process" },
    );
  });
  afterAll(async () => {
    await measured.stop();
    server.closeAllConnections();
    server.close();
  });

  /** Sends it, or asks for the path without a body, and reads the answer without keeping it. */
  function post(
    path: string,
    body: Buffer | undefined,
    more: { type?: string; key?: string } = {},
  ): Promise<{ status: number; bytes: number }> {
    return new Promise((resolve, reject) => {
      const headers = {
        "content-type": more.type ?? "application/json",
        authorization: `Bearer ${more.key ?? secret}`,
        ...(body ? { "content-length": body.length } : {}),
      };
      const request = httpRequest(measured.url + path, { method: body ? "POST" : "GET", headers }, (response) => {
        let bytes = 0;
        response.on("data", (piece: Buffer) => (bytes += piece.length));
        response.on("close", () => resolve({ status: response.statusCode ?? 0, bytes }));
        response.on("error", () => {});
      });
      request.on("error", reject);
      request.end(body);
    });
  }
  const around = (start: string, middle: string, count: number, end: string): Buffer =>
    Buffer.concat([Buffer.from(start), Buffer.alloc(middle.length * count, middle), Buffer.from(end)]);

  it("is measured: a turn that is blocked is seen, and no more than it", async () => {
    const longestMs = await measured.longestTurn(async () => {
      measured.block(50);
      await post(CHAT, Buffer.from("{}"));
    });
    expect(longestMs).toBeGreaterThanOrEqual(50);
    expect(longestMs).toBeLessThan(90);
  });

  it("is measured: memory that is held is seen", async () => {
    const { residentBytes, usedBytes } = await measured.memory(async () => {
      measured.hold(POURED);
      await post(CHAT, Buffer.from("{}"));
    });
    measured.hold(0);
    expect(usedBytes).toBeGreaterThanOrEqual(POURED * 0.9);
    expect(residentBytes).toBeGreaterThanOrEqual(POURED * 0.9);
  });

  const word = { choices: [{ index: 0, delta: { content: "word ".repeat(200) } }] };
  const STREAMS = {
    "chat completions": {
      path: CHAT,
      body: { model: "gpt-4o-mini", stream: true, max_tokens: 50, messages: [] },
      begin: [{ id: "c", model: "gpt-4o-mini", ...word }],
      end: [{ choices: [], usage: { prompt_tokens: 1, completion_tokens: 9, total_tokens: 10 } }, "[DONE]"],
      word,
    },
    responses: {
      path: RESPONSES,
      body: { model: "gpt-4o-mini", stream: true, max_output_tokens: 50, input: "x" },
      begin: [{ type: "response.created", response: { id: "r", model: "gpt-4o-mini" } }],
      end: [
        {
          type: "response.completed",
          response: { id: "r", model: "gpt-4o-mini", usage: { input_tokens: 1, output_tokens: 9, total_tokens: 10 } },
        },
      ],
      word: { type: "response.output_text.delta", delta: "word ".repeat(200) },
    },
    messages: {
      path: MESSAGES,
      body: { model: "claude-haiku-4-5", stream: true, max_tokens: 50, messages: [] },
      begin: [
        {
          type: "message_start",
          message: { id: "m", model: "claude-haiku-4-5", usage: { input_tokens: 1, output_tokens: 1 } },
        },
      ],
      end: [{ type: "message_delta", delta: {}, usage: { output_tokens: 9 } }, { type: "message_stop" }],
      word: { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "word ".repeat(200) } },
    },
    Gemini: {
      path: GEMINI_STREAM,
      body: { contents: [], generationConfig: { maxOutputTokens: 50 } },
      begin: [{ candidates: [{ index: 0, content: { parts: [{ text: "word" }] } }], modelVersion: "gemini-2.5-flash" }],
      end: [
        {
          candidates: [{ index: 0, finishReason: "STOP" }],
          usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 9, totalTokenCount: 10 },
          modelVersion: "gemini-2.5-flash",
        },
      ],
      word: { candidates: [{ index: 0, content: { parts: [{ text: "word ".repeat(200) }] } }] },
    },
  } as const;
  const dataOf = (event: object | string): string =>
    `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`;

  /** Writes so many bytes of what repeats, as fast as they are taken; stops when nobody listens. */
  async function pour(response: ServerResponse, repeated: string, bytes: number): Promise<void> {
    const piece = Buffer.from(repeated.repeat(Math.ceil((256 * 1024) / repeated.length)));
    const closed = new Promise<void>((resolve) => response.once("close", () => resolve()));
    for (let sent = 0; sent < bytes && !response.destroyed; sent += piece.length)
      if (!response.write(piece))
        await Promise.race([new Promise<void>((resolve) => response.once("drain", () => resolve())), closed]);
  }

  const KINDS = [
    ["goes on behind its end", (one) => [[...one.begin, ...one.end].map(dataOf).join(""), dataOf(one.word), ""]],
    [
      "sends an event that never ends",
      (one) => [one.begin.map(dataOf).join(""), `data: ${"x".repeat(1_000)}\n`, `\n${one.end.map(dataOf).join("")}`],
    ],
    [
      "sends one line that never ends",
      (one) => [`${one.begin.map(dataOf).join("")}data: `, "x".repeat(1_000), `\n\n${one.end.map(dataOf).join("")}`],
    ],
  ] as const satisfies readonly (readonly [
    string,
    (one: (typeof STREAMS)[keyof typeof STREAMS]) => readonly [start: string, repeated: string, end: string],
  ])[];
  // Half a second each: without full counts each dialect meets one of the two that never end.
  const CASES = Object.entries(STREAMS).flatMap(([dialect, one], i) =>
    KINDS.map(([kind, make]) => ({ dialect, kind, one, make })).filter(
      (_one, k) => IS_CI || k === 0 || (i + k) % 2 === 0,
    ),
  );
  it.each(CASES)("$dialect: a provider that $kind takes no more memory for it", async ({ one, make }) => {
    const [start, repeated, end] = make(one);
    answer = (response) => {
      response.writeHead(200, { "content-type": SSE });
      response.write(start);
      void pour(response, repeated, POURED).then(() => response.end(end));
    };
    let got = { status: 0, bytes: 0 };
    const { residentBytes, usedBytes } = await measured.memory(
      async () => (got = await post(one.path, Buffer.from(JSON.stringify(one.body)))),
    );
    answer = plain;
    expect(got.status).toBe(200);
    // What stands before the end, or the whole of it, has come.
    expect(got.bytes).toBeGreaterThanOrEqual(end === "" ? start.length : POURED);
    expect(usedBytes).toBeLessThan(MOST_HELD);
    expect(residentBytes).toBeLessThan(MOST_RESIDENT);
  });

  type Sent = { readonly path: string; readonly body: Buffer; readonly type?: string; readonly key?: string };
  const BODIES: readonly (readonly [name: string, status: number, runs: number, make: () => Sent])[] = [
    [
      "60 MB of empty lists",
      400,
      RUNS,
      () => ({ path: CHAT, body: around('{"model":"gpt-4o-mini","messages":[', "[],", 20 * MEGABYTE, "[]]}") }),
    ],
    [
      "2 MB with 90,000 files by name",
      400,
      RUNS,
      () => ({
        path: RESPONSES,
        body: Buffer.from(
          `{"model":"gpt-5.2","input":[${Array.from({ length: 90_000 }, (_, i) => `{"file_id":"file-${i}"}`).join(",")}]}`,
        ),
      }),
    ],
    [
      "a form of 400,000 parts",
      400,
      RUNS,
      () => ({
        path: "/openai/v1/images/edits",
        type: "multipart/form-data; boundary=b",
        body: Buffer.from(
          `${Array.from({ length: 400_000 }, (_, i) => `--b\r\ncontent-disposition: form-data; name="f${i}"\r\n\r\n1\r\n`).join("")}--b--\r\n`,
        ),
      }),
    ],
    [
      "a model of 60 letters against a pattern of 12 stars",
      403,
      RUNS,
      () => ({ path: CHAT, key: starred, body: Buffer.from(JSON.stringify({ model: LETTERS, messages: [] })) }),
    ],
    [
      "a model of 60 letters against a budget of 12 stars",
      200,
      RUNS,
      () => ({ path: CHAT, body: Buffer.from(JSON.stringify({ model: LETTERS, messages: [] })) }),
    ],
    // Those that are read whole and forwarded take a second each.
    [
      "60 MB of text to be spoken",
      200,
      IS_CI ? RUNS : 1,
      () => ({
        path: "/openai/v1/audio/speech",
        body: around('{"model":"tts-1","voice":"alloy","input":"', "a", 60 * MEGABYTE, '"}'),
      }),
    ],
    [
      "60 MB of numbers",
      400,
      IS_CI ? RUNS : 1,
      () => ({
        path: EMBEDDINGS,
        body: around(
          '{"model":"text-embedding-3-small","input":[',
          "0.12345678901234567890123456789,",
          1_900_000,
          "1]}",
        ),
      }),
    ],
    [
      "60 MB of escaped quotes",
      200,
      IS_CI ? RUNS : 1,
      () => ({
        path: CHAT,
        body: around('{"model":"gpt-4o-mini","messages":[{"role":"user","content":"', '\\"', 30 * MEGABYTE, '"}]}'),
      }),
    ],
  ];
  it.each(BODIES)("%s: no turn of the event loop takes more than 20 ms of CPU", async (name, status, runs, make) => {
    const { path, body, ...more } = make();
    const turns: number[] = [];
    const statuses = new Set<number>();
    const medianOf = (): number => turns.toSorted((a, b) => a - b)[Math.floor(turns.length / 2)] ?? Infinity;
    // One that is too long may be the machine's: then it is one of several.
    while (turns.length < runs || (turns.length < RUNS && medianOf() > MOST_TURN_MS)) {
      const longestMs = await measured.longestTurn(async () => statuses.add((await post(path, body, more)).status));
      turns.push(longestMs);
    }
    expect([...statuses]).toEqual([status]);
    const median = medianOf();
    expect(median, `${name}: ${turns.map((turn) => turn.toFixed(1)).join(", ")} ms`).toBeLessThanOrEqual(MOST_TURN_MS);
  });

  it("60 MB of results that are read whole: no turn of the event loop takes more than 20 ms of CPU", async () => {
    const line = JSON.stringify({
      response: {
        candidates: [{ content: { parts: [{ text: "word ".repeat(2_000) }] } }],
        usageMetadata: { promptTokenCount: 1, candidatesTokenCount: 9, totalTokenCount: 10 },
        modelVersion: "gemini-2.5-flash",
      },
    });
    const start = '{"name":"batches/1","done":true,"response":{"inlinedResponses":{"inlinedResponses":[';
    const results = around(start, `${line},`, Math.floor((60 * MEGABYTE) / line.length), `${line}]}}}`);
    answer = (response) => void response.writeHead(200, { "content-type": "application/json" }).end(results);
    const turns: number[] = [];
    for (let run = 0; run < (IS_CI ? RUNS : 1); run++) {
      let got = { status: 0, bytes: 0 };
      const longestMs = await measured.longestTurn(
        async () => (got = await post("/google/v1beta/batches/1", undefined, { key: "AIzaSomebodysOwnKey000" })),
      );
      expect(got).toEqual({ status: 200, bytes: results.length });
      turns.push(longestMs);
    }
    answer = plain;
    const median = turns.toSorted((a, b) => a - b)[Math.floor(turns.length / 2)] ?? Infinity;
    expect(median, `${turns.map((turn) => turn.toFixed(1)).join(", ")} ms`).toBeLessThanOrEqual(MOST_TURN_MS);
  });

  it("and after all that the proxy lives, with nothing held", async () => {
    expect((await post(CHAT, Buffer.from(JSON.stringify({ model: "gpt-4o-mini", messages: [] })))).status).toBe(200);
    await expect.poll(() => heldAttempts(measured.dataDir)).toBe(0);
  });
});
