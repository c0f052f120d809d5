// WebSockets: OpenAI Realtime and Responses, Gemini Live. Each turn is held, metered and booked; the official SDKs
// speak them through the proxy, Realtime over TLS, for its client insists on it.
import { writeFileSync } from "node:fs";
import { connect as connectTcp, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { GoogleGenAI, Modality } from "@google/genai";
import type { LiveServerMessage } from "@google/genai";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { ResponsesWS } from "openai/resources/beta/responses/ws";
import { generate } from "selfsigned";
import { describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { valueOf } from "../../ledger/engine.ts";
import { openUsage } from "../../ledger/open.ts";
import { startFakeSocketProvider } from "../fake/socket-provider.ts";
import type { FakeSocketProvider } from "../fake/socket-provider.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { withProxyBefore } from "../with-proxy.ts";

const OWN_KEY = "sk-test-socket-client-key";
const bench = withProxyBefore(startFakeSocketProvider, { KEYMETER_DURABILITY: "process" }, { each: true });

/** 100 in: 60 text (20 cached), 40 heard (10 cached); 30 out: 10 text, 20 spoken. */
const REALTIME_USAGE = {
  total_tokens: 130,
  input_tokens: 100,
  output_tokens: 30,
  input_token_details: {
    text_tokens: 60,
    audio_tokens: 40,
    image_tokens: 0,
    cached_tokens: 30,
    cached_tokens_details: { text_tokens: 20, audio_tokens: 10, image_tokens: 0 },
  },
  output_token_details: { text_tokens: 10, audio_tokens: 20 },
};
/** gpt-realtime: text 4 / 0.40 / 16, sound 32 / 0.40 / 64 USD per million. */
const REALTIME_NANO_USD = 40 * 4_000 + 20 * 400 + 30 * 32_000 + 10 * 400 + 10 * 16_000 + 20 * 64_000;

let responses = 0;
/** Answers every response.create, and every committed piece of sound, with a response. */
const speaks: FakeSocketProvider["script"] = {
  onOpen: (say) => say({ type: "session.created", session: { type: "realtime", model: "gpt-realtime" } }),
  onMessage(message, say) {
    if (message["type"] !== "response.create" && message["type"] !== "input_audio_buffer.commit") return;
    const id = `resp_${(responses += 1)}`;
    say({ type: "response.created", response: { id, status: "in_progress", usage: null } });
    say({ type: "response.output_audio.delta", response_id: id, delta: "AAAA" });
    say({ type: "response.done", response: { id, status: "completed", usage: REALTIME_USAGE } });
  },
};

type Client = {
  readonly socket: WebSocket;
  readonly heard: { [name: string]: unknown }[];
  readonly closed: Promise<{ code: number; reason: string }>;
};

async function connect(path: string, secret = OWN_KEY, protocols: string[] = []): Promise<Client> {
  const socket = new WebSocket(bench.running.url.replace("http", "ws") + path, protocols, {
    headers: protocols.length > 0 ? {} : { authorization: `Bearer ${secret}` },
  });
  const heard: { [name: string]: unknown }[] = [];
  socket.on("message", (data: Buffer) => heard.push(JSON.parse(data.toString("utf8")) as { [name: string]: unknown }));
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() })),
  );
  await new Promise<void>((resolve, reject) => {
    socket.once("open", () => resolve());
    socket.once("error", reject);
    socket.once("unexpected-response", (_request, response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () =>
        reject(Object.assign(new Error(Buffer.concat(chunks).toString()), { status: response.statusCode })),
      );
    });
  });
  return { socket, heard, closed };
}

function say(client: Client, message: object): void {
  client.socket.send(JSON.stringify(message));
}

/** Events that used something, and those that did not. */
async function booked(
  count: number,
): Promise<{ cost: string | null; state: string; outcome: string; usage: object }[]> {
  await expect.poll(async () => (await bench.running.events()).length, { timeout: 10_000 }).toBe(count);
  expect(await heldAttempts(), "attempts that still hold money").toBe(0);
  return (await bench.running.events()).map((event) => ({
    cost: event.costNanoUsd,
    state: event.usageState,
    outcome: event.outcome,
    usage: event.usage,
  }));
}

/** Reservations that are open in the books, with a budget or without. */
async function heldAttempts(): Promise<number> {
  const books = await openUsage(bench.running.place);
  if (!books) throw new Error("no books");
  const count = await valueOf(books, "SELECT COUNT(*) FROM reservations");
  await books.close();
  return Number(count);
}

async function rejection(promise: Promise<unknown>): Promise<{ status: number; message: string }> {
  return promise.then(
    () => ({ status: 0, message: "no refusal" }),
    (error: unknown) => error as { status: number; message: string },
  );
}

describe("OpenAI Realtime", () => {
  it("books every response by its own usage, by modality, cached or not", async () => {
    bench.provider.script = speaks;
    const client = await connect("/openai/v1/realtime?model=gpt-realtime");
    say(client, { type: "response.create" });
    await expect.poll(() => client.heard.length).toBe(4);
    say(client, { type: "input_audio_buffer.append", audio: "AAAA" });
    say(client, { type: "input_audio_buffer.commit" });
    await expect.poll(() => client.heard.length).toBe(7);
    client.socket.close();
    const used = {
      cost: String(REALTIME_NANO_USD),
      state: "reported",
      outcome: "complete",
      usage: {
        input: 40,
        cache_read: 20,
        input_audio: 30,
        cache_read_audio: 10,
        output: 10,
        output_audio: 20,
      },
    };
    expect((await booked(2)).slice(0, 2)).toEqual([used, used]);
    expect(bench.provider.messages.map(({ type }) => type)).toEqual([
      "response.create",
      "input_audio_buffer.append",
      "input_audio_buffer.commit",
    ]);
    expect(bench.provider.handshakes[0]?.url).toBe("/v1/realtime?model=gpt-realtime");
  });

  it("books a response before the client learns that it is done", async () => {
    bench.provider.script = speaks;
    const client = await connect("/openai/v1/realtime?model=gpt-realtime");
    const counts: Promise<number>[] = [];
    client.socket.on("message", (data: Buffer) => {
      if (data.includes("response.done")) counts.push(bench.running.events().then((events) => events.length));
    });
    for (let i = 0; i < 3; i++) say(client, { type: "response.create" });
    await expect.poll(() => counts.length).toBe(3);
    expect((await Promise.all(counts)).every((count, i) => count > i)).toBe(true);
    client.socket.close();
  });

  it("books what was heard at the transcriber's price", async () => {
    bench.provider.script = {
      onMessage(message, answer) {
        if (message["type"] !== "input_audio_buffer.commit") return;
        answer({
          type: "conversation.item.input_audio_transcription.completed",
          item_id: "item_1",
          transcript: "hello",
          usage: {
            type: "tokens",
            total_tokens: 26,
            input_tokens: 17,
            input_token_details: { text_tokens: 0, audio_tokens: 17 },
            output_tokens: 9,
          },
        });
      },
    };
    const client = await connect("/openai/v1/realtime?intent=transcription");
    say(client, {
      type: "session.update",
      session: { type: "transcription", audio: { input: { transcription: { model: "gpt-4o-transcribe" } } } },
    });
    say(client, { type: "input_audio_buffer.commit" });
    await expect.poll(() => client.heard.length).toBe(1);
    client.socket.close();
    // What stood ready for the session used nothing.
    const first = (await booked(2)).find(({ usage }) => Object.keys(usage).length > 0);
    // gpt-4o-transcribe: sound in 6, text out 10 USD per million (the price book's own figures).
    expect(first).toMatchObject({ state: "reported", usage: { input_audio: 17, output: 9 } });
    expect((await bench.running.events())[1]).toMatchObject({
      servedModel: "gpt-4o-transcribe",
      priceConfidence: "exact",
    });
  });

  it("asks the provider to stop when the client leaves, and books what it then says", async () => {
    bench.provider.script = {
      onMessage(message, answer) {
        if (message["type"] === "response.create")
          answer({ type: "response.created", response: { id: "resp_left", status: "in_progress" } });
        if (message["type"] === "response.cancel")
          answer({
            type: "response.done",
            response: { id: message["response_id"], status: "cancelled", usage: REALTIME_USAGE },
          });
      },
    };
    const client = await connect("/openai/v1/realtime?model=gpt-realtime");
    say(client, { type: "response.create" });
    await expect.poll(() => client.heard.length).toBe(1);
    client.socket.terminate();
    expect(await booked(1)).toMatchObject([{ cost: String(REALTIME_NANO_USD), state: "reported" }]);
  });

  it("a provider that breaks off in a response: what is held stands, as estimated, and the client sees an error", async () => {
    bench.provider.script = {
      onMessage(_message, answer, socket) {
        answer({ type: "response.created", response: { id: "resp_cut", status: "in_progress" } });
        setTimeout(() => socket.terminate(), 20);
      },
    };
    const client = await connect("/openai/v1/realtime?model=gpt-realtime");
    say(client, { type: "response.create" });
    expect((await client.closed).code).toBe(1011);
    const [event] = await booked(1);
    expect(event).toMatchObject({ state: "estimated", outcome: "upstream_failed" });
    expect(BigInt(event?.cost ?? 0)).toBeGreaterThan(0n);
  });

  it("a session in which nothing was asked costs nothing and holds nothing", async () => {
    bench.provider.script = speaks;
    const client = await connect("/openai/v1/realtime?model=gpt-realtime");
    expect(await heldAttempts()).toBe(1);
    client.socket.close();
    expect(await booked(1)).toEqual([{ cost: "0", state: "reported", outcome: "complete", usage: {} }]);
  });

  it("refuses the handshake of a key at its cap, and nothing reaches the provider", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1_000n });
    const refused = await rejection(connect("/openai/v1/realtime?model=gpt-realtime", secret));
    expect(refused.status).toBe(402);
    expect(JSON.parse(refused.message)).toMatchObject({ error: { code: "insufficient_quota" } });
    expect(bench.provider.handshakes).toHaveLength(0);
  });

  it("ends a session whose budget is used up: the response in hand is finished, the next message goes nowhere", async () => {
    bench.provider.script = speaks;
    const { id, secret } = await bench.running.createKey();
    // Fits what is held for the first turn, and not a second one behind it.
    const held = 300n * 32_000n + 600n * 64_000n + 4_096n * 16_000n;
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: held + 1_000_000n });
    const client = await connect("/openai/v1/realtime?model=gpt-realtime", secret);
    say(client, { type: "response.create" });
    await expect.poll(() => client.heard.some(({ type }) => type === "response.done")).toBe(true);
    say(client, { type: "response.create" });
    const { code, reason } = await client.closed;
    expect(code).toBe(1008);
    expect(reason).toContain("budget");
    expect(client.heard.at(-1)).toMatchObject({ type: "error", error: { code: "insufficient_quota" } });
    expect(bench.provider.messages).toHaveLength(1);
    expect(await booked(1)).toMatchObject([{ cost: String(REALTIME_NANO_USD) }]);
  });

  it.each([
    ["the session's", { type: "session.update", session: { type: "realtime", model: "gpt-realtime-2" } }],
    [
      "that of what is heard",
      { type: "session.update", session: { audio: { input: { transcription: { model: "gpt-4o-transcribe" } } } } },
    ],
  ])("does not take a model that its key may not use: %s", async (_whose, message) => {
    bench.provider.script = speaks;
    const { secret } = await bench.running.createKey({ policy: { models: ["gpt-realtime"] } });
    const client = await connect("/openai/v1/realtime?model=gpt-realtime", secret);
    say(client, message);
    const { reason } = await client.closed;
    expect(reason).toContain("may not use the model");
    expect(bench.provider.messages).toHaveLength(0);
  });

  it("asks for no answer that another key made", async () => {
    const owner = await bench.running.createKey();
    const other = await bench.running.createKey();
    await bench.running.proxy.context.things.own("openai", owner.id, ["resp_of_another"]);
    const client = await connect("/openai/v1/responses", other.secret);
    say(client, { type: "response.create", model: "gpt-4o-mini", previous_response_id: "resp_of_another", input: "x" });
    const { reason } = await client.closed;
    expect(reason).toContain("another Keymeter key");
    expect(bench.provider.messages).toHaveLength(0);
  });

  it("is refused under a strict budget, for a session may speak at any time", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1_000_000_000_000n, mode: "strict" });
    const refused = await rejection(connect("/openai/v1/realtime?model=gpt-realtime", secret));
    expect(refused.status).toBe(402);
    expect(refused.message).toContain("cannot be proven");
  });

  it("a key that is paused starts nothing more in a session that is open", async () => {
    bench.provider.script = speaks;
    const { id, secret } = await bench.running.createKey();
    const client = await connect("/openai/v1/realtime?model=gpt-realtime", secret);
    say(client, { type: "response.create" });
    await expect.poll(() => client.heard.some(({ type }) => type === "response.done")).toBe(true);
    await bench.running.proxy.writer.change({ type: "setKeyState", keyId: id, state: "paused" }, "test");
    await bench.running.proxy.context.register.reload();
    say(client, { type: "response.create" });
    expect((await client.closed).code).toBe(1008);
    expect(bench.provider.messages).toHaveLength(1);
  });

  it("swaps the key wherever it stands: header or subprotocol", async () => {
    bench.provider.script = speaks;
    const { secret } = await bench.running.createKey();
    await connect("/openai/v1/realtime?model=gpt-realtime", secret);
    const browser = await connect("/v1/realtime?model=gpt-realtime", secret, [
      "realtime",
      `openai-insecure-api-key.${secret}`,
    ]);
    expect(browser.socket.protocol).toBe("realtime");
    for (const { headers } of bench.provider.handshakes) {
      expect(headers.authorization).toBe("Bearer sk-proj-provider-credential-openai");
      expect(JSON.stringify(headers)).not.toContain(secret);
    }
    expect(bench.provider.handshakes[1]?.headers["sec-websocket-protocol"]).toBe("realtime");
  });

  it("asked for by an escaped name, or many at once, has a reservation each: the budget holds", async () => {
    let open = 0;
    bench.provider.script = {
      onMessage(message, answer) {
        if (message["type"] !== "response.create") return;
        open += 1;
        answer({ type: "response.created", response: { id: `resp_many_${open}`, status: "in_progress" } });
      },
    };
    const { id, secret } = await bench.running.createKey();
    const each = 300n * 32_000n + 600n * 64_000n + 4_096n * 16_000n;
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: each * 3n + 1_000_000n });
    const client = await connect("/openai/v1/realtime?model=gpt-realtime", secret);
    for (let i = 0; i < 20; i++)
      client.socket.send(String.raw`{"type":"response\u002ecreate","response":{"conversation":"none"}}`);
    await expect.poll(() => open).toBe(3);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(open).toBe(3);
    client.socket.terminate();
    await booked(3);
  });

  it("an error that declines nothing leaves what was asked for held: a client that leaves then is not booked as nothing", async () => {
    bench.provider.script = {
      onMessage: (_message, answer) =>
        answer({ type: "error", error: { type: "invalid_request_error", code: "response_cancel_not_active" } }),
    };
    const client = await connect("/openai/v1/realtime?model=gpt-realtime");
    say(client, { type: "response.create" });
    await expect.poll(() => client.heard.length).toBe(1);
    client.socket.terminate();
    const [event] = await booked(1);
    expect(event).toMatchObject({ state: "estimated" });
    expect(BigInt(event?.cost ?? 0)).toBeGreaterThan(0n);
  });

  it("whose answer comes when the session is being ended is booked once", async () => {
    bench.provider.script = {
      onMessage(message, answer) {
        if (message["type"] === "response.create")
          answer({ type: "response.created", response: { id: "resp_late", status: "in_progress" } });
        // The provider takes longer to cancel than anybody waits.
        if (message["type"] === "response.cancel")
          setTimeout(
            () =>
              answer({
                type: "response.done",
                response: { id: "resp_late", status: "cancelled", usage: REALTIME_USAGE },
              }),
            3_200,
          );
      },
    };
    const client = await connect("/openai/v1/realtime?model=gpt-realtime");
    say(client, { type: "response.create" });
    await expect.poll(() => client.heard.length).toBe(1);
    client.socket.terminate();
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    expect(await booked(1)).toMatchObject([{ state: "estimated" }]);
  });

  it("is not refused because it hears by the second", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1_000_000_000n });
    const client = await connect("/openai/v1/realtime?intent=transcription", secret);
    say(client, { type: "session.update", session: { audio: { input: { transcription: { model: "whisper-1" } } } } });
    await expect.poll(() => bench.provider.messages.length).toBe(1);
    client.socket.close();
  });

  it.each([
    ["a key that is none", ["sec-websocket-key: abc"]],
    [
      "the same subprotocol twice",
      ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-protocol: realtime, realtime"],
    ],
    [
      "a header named like a member of objects",
      ["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "constructor: x", "__proto__: y"],
    ],
  ])("with %s in the handshake holds nothing afterwards", async (_name, lines) => {
    const handshake = [
      "GET /openai/v1/realtime?model=gpt-realtime HTTP/1.1",
      "host: k",
      `authorization: Bearer ${OWN_KEY}`,
      "connection: upgrade",
      "upgrade: websocket",
      "sec-websocket-version: 13",
      ...lines,
    ];
    const { port } = new URL(bench.running.url);
    const socket = connectTcp(Number(port), "127.0.0.1");
    socket.on("error", () => {});
    socket.write(`${handshake.join("\r\n")}\r\n\r\n`);
    await new Promise((resolve) => socket.once("data", resolve));
    socket.destroy();
    await expect.poll(() => heldAttempts(), { timeout: 8_000 }).toBe(0);
  });

  it("a client that never hangs up does not hold up a stop", async () => {
    const { port } = new URL(bench.running.url);
    const socket = connectTcp({ port: Number(port), host: "127.0.0.1", allowHalfOpen: true });
    socket.on("error", () => {});
    socket.write(
      `GET /openai/v1/live HTTP/1.1\r\nhost: k\r\nauthorization: Bearer ${OWN_KEY}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`,
    );
    await new Promise((resolve) => socket.once("data", resolve));
    const started = Date.now();
    await bench.running.stop();
    expect(Date.now() - started).toBeLessThan(15_000);
    socket.destroy();
    await bench.startAgain({ KEYMETER_DURABILITY: "process" });
  });

  it("passes the provider's own no to the client, and books nothing for it", async () => {
    bench.provider.refusesWith = 401;
    const refused = await rejection(connect("/openai/v1/realtime?model=gpt-realtime"));
    expect(refused.status).toBe(401);
    expect(JSON.parse(refused.message)).toMatchObject({ error: { code: "invalid_api_key" } });
    expect(await booked(1)).toMatchObject([{ cost: "0", outcome: "upstream_rejected" }]);
  });

  it("answers 502 when there is no provider, and holds nothing", async () => {
    await bench.running.stop();
    const gone = createTcpServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => gone.listen(0, "127.0.0.1", resolve));
    const { port } = gone.address() as { port: number };
    await bench.startAgain({ KEYMETER_DURABILITY: "process" }, `http://127.0.0.1:${port}`);
    expect((await rejection(connect("/openai/v1/realtime?model=gpt-realtime"))).status).toBe(502);
    expect(await booked(1)).toMatchObject([{ cost: "0" }]);
    gone.close();
  });

  it("a stop of the proxy ends idle sessions at once, and books what a busy one holds", async () => {
    bench.provider.script = {
      onMessage: (_message, answer) =>
        answer({ type: "response.created", response: { id: "resp_long", status: "in_progress" } }),
    };
    const idle = await connect("/openai/v1/realtime?model=gpt-realtime");
    const busy = await connect("/openai/v1/realtime?model=gpt-realtime");
    say(busy, { type: "response.create" });
    await expect.poll(() => busy.heard.length).toBe(1);
    const stopping = bench.running.stop();
    expect((await idle.closed).code).toBe(1001);
    await stopping;
    await busy.closed;
    const outcomes = (await bench.running.events()).map(({ outcome, usageState }) => [outcome, usageState]);
    expect(outcomes.toSorted()).toEqual([
      ["complete", "reported"],
      ["shutdown", "estimated"],
    ]);
    await bench.startAgain({ KEYMETER_DURABILITY: "process" });
  });

  it("a call that goes on elsewhere names no model: 426, as for every WebSocket that cannot be metered", async () => {
    for (const path of [
      "/openai/v1/realtime?call_id=rtc_1",
      "/openai/v1/live",
      "/anthropic/v1/messages",
      "/google/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateMusic",
    ])
      expect([path, (await rejection(connect(path))).status]).toEqual([path, 426]);
    expect(bench.provider.handshakes).toHaveLength(0);
  });

  it("is spoken by the official SDK, over TLS of our own", async () => {
    const folder = temporaryFolder();
    const pair = await generate([{ name: "commonName", value: "127.0.0.1" }], { keySize: 2048 });
    writeFileSync(join(folder, "cert.pem"), pair.cert);
    writeFileSync(join(folder, "key.pem"), pair.private);
    await bench.running.stop();
    await bench.startAgain({
      KEYMETER_DURABILITY: "process",
      KEYMETER_TLS_CERT: join(folder, "cert.pem"),
      KEYMETER_TLS_KEY: join(folder, "key.pem"),
    });
    bench.provider.script = speaks;
    const { secret } = await bench.running.createKey();
    const baseURL = `${bench.running.url.replace("http:", "https:")}/openai/v1`;
    const realtime = new OpenAIRealtimeWS(
      { model: "gpt-realtime", options: { rejectUnauthorized: false } },
      new OpenAI({ baseURL, apiKey: secret }),
    );
    const done = new Promise<unknown>((resolve, reject) => {
      realtime.on("response.done", (event) => resolve(event.response.usage));
      realtime.on("error", reject);
    });
    realtime.socket.on("open", () => realtime.send({ type: "response.create" }));
    expect(await done).toEqual(REALTIME_USAGE);
    realtime.close();
    expect(await booked(1)).toMatchObject([{ cost: String(REALTIME_NANO_USD) }]);
  });
});

describe("OpenAI Responses over a WebSocket", () => {
  const USAGE = {
    input_tokens: 1_200,
    input_tokens_details: { cached_tokens: 200 },
    output_tokens: 90,
    output_tokens_details: { reasoning_tokens: 64 },
    total_tokens: 1_290,
  };
  const answersEach: FakeSocketProvider["script"] = {
    onMessage(message, answer) {
      if (message["type"] !== "response.create") return;
      const id = `resp_${(responses += 1)}`;
      const response = { id, object: "response", model: message["model"], output: [] };
      answer({ type: "response.created", sequence_number: 0, response: { ...response, status: "in_progress" } });
      answer({ type: "response.output_text.delta", sequence_number: 1, delta: "a" });
      answer({
        type: "response.completed",
        sequence_number: 2,
        response: { ...response, status: "completed", service_tier: "default", usage: USAGE },
      });
    },
  };

  it("is spoken by the official SDK; each response.create is an attempt with its own model", async () => {
    bench.provider.script = answersEach;
    const { secret } = await bench.running.createKey();
    const socket = new ResponsesWS(new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: secret }));
    let done = 0;
    const both = new Promise<void>((resolve, reject) => {
      socket.on("response.completed", () => {
        done += 1;
        if (done === 2) resolve();
      });
      socket.on("error", reject);
    });
    socket.send({ type: "response.create", model: "gpt-4o", input: "hi" });
    socket.send({ type: "response.create", model: "gpt-4o-mini", input: "hi" });
    await both;
    socket.close();
    await booked(2);
    // gpt-4o 2.5 / 1.25 / 10, gpt-4o-mini 0.15 / 0.075 / 0.6 USD per million.
    expect((await bench.running.events()).map((event) => [event.servedModel, event.costNanoUsd])).toEqual([
      ["gpt-4o", String(1_000 * 2_500 + 200 * 1_250 + 90 * 10_000)],
      ["gpt-4o-mini", String(1_000 * 150 + 200 * 75 + 90 * 600)],
    ]);
  });

  it("holds a strict budget: what does not fit is refused before it is sent", async () => {
    bench.provider.script = answersEach;
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 10_000_000n, mode: "strict" });
    const client = await connect("/openai/v1/responses", secret);
    say(client, { type: "response.create", model: "gpt-4o", input: "hi", max_output_tokens: 100_000 });
    expect((await client.closed).code).toBe(1008);
    expect(client.heard).toMatchObject([{ type: "error", error: { code: "insufficient_quota" } }]);
    expect(bench.provider.messages).toHaveLength(0);
    expect(await bench.running.events()).toHaveLength(0);
  });

  it.each(['{"type":"response.create"', '{"type":"response.create","type":"other"}', "[]", '"response.create"'])(
    "a message that two parsers could read differently goes nowhere: %s",
    async (message) => {
      const client = await connect("/openai/v1/responses");
      client.socket.send(message);
      expect((await client.closed).code).toBe(1008);
      expect(bench.provider.messages).toHaveLength(0);
    },
  );

  it("what was turned down serves nothing dearer: each request is held at its own bound", async () => {
    bench.provider.script = {
      onMessage(message, answer) {
        if (message["model"] === "gpt-4o-mini") answer({ type: "error", code: "bad", message: "no" });
        else answersEach.onMessage(message, answer, undefined as never);
      },
    };
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 100_000_000n, mode: "strict" });
    const client = await connect("/openai/v1/responses", secret);
    say(client, { type: "response.create", model: "gpt-4o-mini", input: "hi", max_output_tokens: 16 });
    await expect.poll(() => client.heard.length).toBe(1);
    say(client, { type: "response.create", model: "gpt-5-pro", input: "hi", max_output_tokens: 100_000 });
    expect((await client.closed).code).toBe(1008);
    expect(bench.provider.messages).toHaveLength(1);
    expect(await booked(1)).toMatchObject([{ cost: "0", usage: {} }]);
  });

  it("answers on lanes are told apart by them, whichever comes first", async () => {
    const waiting: (() => void)[] = [];
    bench.provider.script = {
      onMessage(message, answer) {
        const lane = { stream_id: message["stream_id"] };
        const response = { id: `resp_lane_${String(message["stream_id"])}`, model: message["model"], output: [] };
        waiting.push(() => {
          answer({ type: "response.created", ...lane, response: { ...response, status: "in_progress" } });
          answer({ type: "response.completed", ...lane, response: { ...response, status: "completed", usage: USAGE } });
        });
        if (waiting.length === 2) for (const go of waiting.toReversed()) go();
      },
    };
    const client = await connect("/openai/v1/responses");
    say(client, { type: "response.create", stream_id: "a", model: "gpt-4o", input: "hi" });
    say(client, { type: "response.create", stream_id: "b", model: "gpt-4o-mini", input: "hi" });
    await expect.poll(() => client.heard.length).toBe(4);
    client.socket.close();
    await booked(2);
    const events = await bench.running.events();
    expect(events.map((event) => [event.requestedModel, event.servedModel])).toEqual([
      ["gpt-4o", "gpt-4o"],
      ["gpt-4o-mini", "gpt-4o-mini"],
    ]);
  });

  it("an error in the middle of an answer ends it, as failed, without what is held of it", async () => {
    bench.provider.script = {
      onMessage(message, answer) {
        answer({
          type: "response.created",
          response: { id: "resp_e", model: message["model"], status: "in_progress" },
        });
        answer({ type: "error", code: "server_error", message: "x".repeat(2_000) });
      },
    };
    const client = await connect("/openai/v1/responses");
    say(client, { type: "response.create", model: "gpt-4o", input: "hi" });
    await expect.poll(() => client.heard.length).toBe(2);
    await expect.poll(async () => (await bench.running.events()).length).toBe(1);
    const [event] = await bench.running.events();
    expect(event).toMatchObject({ outcome: "upstream_failed", usageState: "estimated", usageReason: "failed" });
    expect(BigInt(event?.costNanoUsd ?? 0)).toBeLessThan(1_000_000n);
    client.socket.close();
  });

  it.each(["response.steer", "response.inject", "response.append"])(
    "%s could start what no bound knows: it goes nowhere",
    async (type) => {
      const client = await connect("/openai/v1/responses");
      say(client, { type, input: "more" });
      expect((await client.closed).code).toBe(1008);
      expect(bench.provider.messages).toHaveLength(0);
    },
  );

  it("a request that the provider turns down leaves nothing held", async () => {
    bench.provider.script = {
      onMessage: (_message, answer) => answer({ type: "error", code: "model_not_found", message: "no such model" }),
    };
    const client = await connect("/openai/v1/responses");
    say(client, { type: "response.create", model: "gpt-4o", input: "hi" });
    await expect.poll(() => client.heard.length).toBe(1);
    client.socket.close();
    expect(await booked(1)).toMatchObject([{ cost: "0", usage: {} }]);
  });
});

describe("Gemini Live", () => {
  it("a count that comes behind the end of a turn is the turn's", async () => {
    bench.provider.script = {
      onMessage(message, answer) {
        if (message["setup"]) return answer({ setupComplete: {} });
        answer({
          serverContent: { modelTurn: { parts: [] } },
          usageMetadata: { promptTokenCount: 9, responseTokenCount: 1 },
        });
        answer({ serverContent: { turnComplete: true } });
        answer({ usageMetadata: USAGE });
      },
    };
    const client = await connect(
      "/google/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
      "AIzaTestSocketClientKey",
    );
    say(client, { setup: { model: `models/${MODEL}` } });
    say(client, { clientContent: { turnComplete: true } });
    await expect.poll(() => client.heard.length).toBe(4);
    client.socket.close();
    expect(await booked(1)).toMatchObject([{ cost: String(TURN_NANO_USD), state: "reported" }]);
  });

  const USAGE = {
    promptTokenCount: 120,
    responseTokenCount: 50,
    totalTokenCount: 170,
    promptTokensDetails: [
      { modality: "TEXT", tokenCount: 20 },
      { modality: "AUDIO", tokenCount: 100 },
    ],
    responseTokensDetails: [{ modality: "AUDIO", tokenCount: 50 }],
  };
  const MODEL = "gemini-2.5-flash-native-audio-preview-09-2025";
  // 0.50 text in, 3 sound in, 12 sound out USD per million.
  const TURN_NANO_USD = 20 * 500 + 100 * 3_000 + 50 * 12_000;
  const speaksLive: FakeSocketProvider["script"] = {
    onMessage(message, answer) {
      if (message["setup"]) return answer({ setupComplete: {} });
      answer({ serverContent: { modelTurn: { parts: [{ inlineData: { mimeType: "audio/pcm", data: "AAAA" } }] } } });
      // A first count of the turn, which the last one replaces.
      answer({
        serverContent: { modelTurn: { parts: [] } },
        usageMetadata: { promptTokenCount: 100, responseTokenCount: 1, totalTokenCount: 101 },
      });
      answer({ serverContent: { turnComplete: true }, usageMetadata: USAGE });
    },
  };

  it("is spoken by the official SDK; each turn is booked by its last count", async () => {
    bench.provider.script = speaksLive;
    const { secret } = await bench.running.createKey();
    const google = new GoogleGenAI({ apiKey: secret, httpOptions: { baseUrl: `${bench.running.url}/google` } });
    const heard: LiveServerMessage[] = [];
    const session = await google.live.connect({
      model: MODEL,
      config: { responseModalities: [Modality.AUDIO] },
      callbacks: { onmessage: (message) => void heard.push(message) },
    });
    for (let turn = 1; turn <= 2; turn++) {
      session.sendClientContent({ turns: "hello", turnComplete: true });
      await expect.poll(() => heard.filter((message) => message.serverContent?.turnComplete).length).toBe(turn);
    }
    session.close();
    const used = { cost: String(TURN_NANO_USD), state: "reported", outcome: "complete" };
    expect(await booked(2)).toMatchObject([used, used]);
    expect(bench.provider.handshakes[0]?.url).not.toContain(secret);
    expect(bench.provider.handshakes[0]?.headers["x-goog-api-key"]).toBe("AIzaProviderCredentialGoogle");
  });

  it("a turn that is cut is booked by the count that came, as estimated", async () => {
    bench.provider.script = {
      onMessage(message, answer) {
        if (message["setup"]) return answer({ setupComplete: {} });
        answer({ serverContent: { modelTurn: { parts: [] } }, usageMetadata: USAGE });
      },
    };
    const client = await connect(
      "/google/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
      "AIzaTestSocketClientKey",
    );
    say(client, { setup: { model: `models/${MODEL}` } });
    say(client, { clientContent: { turnComplete: true } });
    await expect.poll(() => client.heard.length).toBe(2);
    client.socket.terminate();
    const [event] = await booked(1);
    expect(event).toMatchObject({ state: "estimated", outcome: "client_left" });
    expect(BigInt(event?.cost ?? 0)).toBeGreaterThanOrEqual(BigInt(TURN_NANO_USD));
  });

  it("whose first message names no model goes nowhere", async () => {
    const client = await connect(
      "/google/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
      "AIzaTestSocketClientKey",
    );
    say(client, { clientContent: { turnComplete: true } });
    expect((await client.closed).code).toBe(1008);
    expect(bench.provider.messages).toHaveLength(0);
  });
});
