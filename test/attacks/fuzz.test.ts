// Random requests, answers, cuts and frames, by a seed that stays and by one that changes. Whatever comes: the process
// lives and answers no 500, clients get what the provider sent, how an answer is cut changes nothing of what is read,
// each attempt ends in the books once, and no cap is passed.
import { request as httpRequest } from "node:http";
import type { IncomingHttpHeaders, ServerResponse } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { openForReading } from "../../ledger/sqlite.ts";
import { DIALECTS } from "../../proxy/dialects/index.ts";
import { matchRoute } from "../../proxy/dialects/routes.ts";
import type { Call } from "../../proxy/dialects/call.ts";
import type { JsonObject } from "../../proxy/dialects/json.ts";
import type { Reading } from "../../proxy/dialects/reading.ts";
import type { DialectName } from "../../proxy/dialects/dialect.ts";
import { createMeter } from "../../proxy/meter.ts";
import type { Seen } from "../../proxy/meter.ts";
import { workCall } from "../../proxy/work.ts";
import { startFakeSocketProvider } from "../fake/socket-provider.ts";
import { cut, IS_CI, random, SEED } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";
import { heldAttempts } from "./asking.ts";
import { ENCODINGS, mutate, mutateText, pick, renderEvents } from "./mutations.ts";
import type { Next } from "./mutations.ts";
import { withProxy } from "../with-proxy.ts";

/** The same every time, and another one every time. */
const SEEDS = [20_261_128, SEED];
const READINGS = IS_CI ? 6_000 : 250;
const ANSWERS = IS_CI ? 600 : 40;
const REQUESTS = IS_CI ? 3_000 : 150;
const RESULTS = IS_CI ? 100 : 15;
const SESSIONS = IS_CI ? 200 : 6;

type Frame = "json" | "events" | "array" | "lines";
type Template = {
  readonly name: string;
  readonly dialect: DialectName;
  /** As the dialect's routes name it, and as clients do. */
  readonly route: string;
  readonly path: string;
  readonly query?: string;
  readonly frame: Frame;
  readonly type: string;
  readonly body: object;
  readonly events: () => object[];
  readonly last?: string;
};

const words = "word ".repeat(30);
const CHAT_BODY = { model: "gpt-4o-mini", max_tokens: 200, messages: [{ role: "user", content: "hi" }] };
const CHAT_USAGE = {
  prompt_tokens: 100,
  completion_tokens: 40,
  total_tokens: 140,
  prompt_tokens_details: { cached_tokens: 30, audio_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 10, audio_tokens: 0 },
};
const RESPONSE_BODY = { model: "gpt-4o-mini", max_output_tokens: 200, input: "hi" };
const RESPONSE = {
  id: "resp_1",
  object: "response",
  status: "completed",
  model: "gpt-4o-mini",
  service_tier: "default",
  output: [{ type: "message", content: [{ type: "output_text", text: words }] }],
  usage: {
    input_tokens: 100,
    output_tokens: 40,
    total_tokens: 140,
    input_tokens_details: { cached_tokens: 30 },
    output_tokens_details: { reasoning_tokens: 10 },
  },
};
const CLAUDE_BODY = { model: "claude-haiku-4-5", max_tokens: 200, messages: [{ role: "user", content: "hi" }] };
const CLAUDE_USAGE = {
  input_tokens: 100,
  cache_creation_input_tokens: 20,
  cache_read_input_tokens: 30,
  cache_creation: { ephemeral_5m_input_tokens: 15, ephemeral_1h_input_tokens: 5 },
  output_tokens: 40,
  service_tier: "standard",
  server_tool_use: { web_search_requests: 1 },
};
const CLAUDE = {
  id: "msg_1",
  type: "message",
  model: "claude-haiku-4-5",
  content: [{ type: "text", text: words }],
  stop_reason: "end_turn",
  usage: CLAUDE_USAGE,
};
const GEMINI_BODY = {
  contents: [{ role: "user", parts: [{ text: "hi" }] }],
  generationConfig: { maxOutputTokens: 200, candidateCount: 1 },
};
const GEMINI = {
  candidates: [{ index: 0, content: { parts: [{ text: words }], role: "model" }, finishReason: "STOP" }],
  usageMetadata: {
    promptTokenCount: 100,
    cachedContentTokenCount: 30,
    candidatesTokenCount: 30,
    thoughtsTokenCount: 10,
    totalTokenCount: 140,
    promptTokensDetails: [
      { modality: "TEXT", tokenCount: 90 },
      { modality: "IMAGE", tokenCount: 10 },
    ],
    candidatesTokensDetails: [{ modality: "TEXT", tokenCount: 30 }],
  },
  modelVersion: "gemini-2.5-flash",
  responseId: "g1",
};
const geminiChunks = (): object[] => [
  { ...GEMINI, candidates: [{ index: 0, content: { parts: [{ text: words }] } }] },
  { ...GEMINI, candidates: [{ index: 0, content: { parts: [{ text: "." }] } }] },
  GEMINI,
];
const chatChunk = (delta: object, more: object = {}): object => ({
  id: "chatcmpl-1",
  model: "gpt-4o-mini",
  choices: [{ index: 0, delta, ...more }],
});

const JSON_TYPE = "application/json";
const SSE = "text/event-stream";
const TEMPLATES: readonly Template[] = [
  {
    name: "chat completion",
    dialect: "openai",
    route: "/chat/completions",
    path: "/openai/v1/chat/completions",
    frame: "json",
    type: JSON_TYPE,
    body: CHAT_BODY,
    events: () => [
      {
        id: "chatcmpl-1",
        model: "gpt-4o-mini",
        choices: [{ index: 0, message: { role: "assistant", content: words }, finish_reason: "stop" }],
        usage: CHAT_USAGE,
      },
    ],
  },
  {
    name: "chat completion, streamed",
    dialect: "openai",
    route: "/chat/completions",
    path: "/openai/v1/chat/completions",
    frame: "events",
    type: SSE,
    body: { ...CHAT_BODY, stream: true, stream_options: { include_usage: true } },
    events: () => [
      chatChunk({ role: "assistant", content: "" }),
      chatChunk({ content: words }),
      chatChunk({ reasoning_content: words }),
      chatChunk({}, { finish_reason: "stop" }),
      { id: "chatcmpl-1", model: "gpt-4o-mini", choices: [], usage: CHAT_USAGE },
    ],
    last: "[DONE]",
  },
  {
    name: "response",
    dialect: "openai",
    route: "/responses",
    path: "/openai/v1/responses",
    frame: "json",
    type: JSON_TYPE,
    body: RESPONSE_BODY,
    events: () => [RESPONSE],
  },
  {
    name: "response, streamed",
    dialect: "openai",
    route: "/responses",
    path: "/openai/v1/responses",
    frame: "events",
    type: SSE,
    body: { ...RESPONSE_BODY, stream: true },
    events: () => [
      { type: "response.created", sequence_number: 0, response: { ...RESPONSE, status: "in_progress", usage: null } },
      { type: "response.output_text.delta", sequence_number: 1, delta: words },
      { type: "response.completed", sequence_number: 2, response: RESPONSE },
    ],
  },
  {
    name: "embeddings",
    dialect: "openai",
    route: "/embeddings",
    path: "/openai/v1/embeddings",
    frame: "json",
    type: JSON_TYPE,
    body: { model: "text-embedding-3-small", input: ["hi", "there"] },
    events: () => [
      {
        object: "list",
        data: [{ object: "embedding", index: 0, embedding: Array.from({ length: 200 }, (_, i) => i / 7) }],
        model: "text-embedding-3-small",
        usage: { prompt_tokens: 100, total_tokens: 100 },
      },
    ],
  },
  {
    name: "message",
    dialect: "anthropic",
    route: "/messages",
    path: "/anthropic/v1/messages",
    frame: "json",
    type: JSON_TYPE,
    body: CLAUDE_BODY,
    events: () => [CLAUDE],
  },
  {
    name: "message, streamed",
    dialect: "anthropic",
    route: "/messages",
    path: "/anthropic/v1/messages",
    frame: "events",
    type: SSE,
    body: { ...CLAUDE_BODY, stream: true },
    events: () => [
      { type: "message_start", message: { ...CLAUDE, content: [], usage: { ...CLAUDE_USAGE, output_tokens: 1 } } },
      { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: words } },
      { type: "ping" },
      { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 40 } },
      { type: "message_stop" },
    ],
  },
  {
    name: "Gemini",
    dialect: "google",
    route: "/models/gemini-2.5-flash:generateContent",
    path: "/google/v1beta/models/gemini-2.5-flash:generateContent",
    frame: "json",
    type: JSON_TYPE,
    body: GEMINI_BODY,
    events: () => [GEMINI],
  },
  {
    name: "Gemini, streamed as events",
    dialect: "google",
    route: "/models/gemini-2.5-flash:streamGenerateContent",
    path: "/google/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    query: "?alt=sse",
    frame: "events",
    type: SSE,
    body: GEMINI_BODY,
    events: geminiChunks,
  },
  {
    name: "Gemini, streamed as a list",
    dialect: "google",
    route: "/models/gemini-2.5-flash:streamGenerateContent",
    path: "/google/v1beta/models/gemini-2.5-flash:streamGenerateContent",
    frame: "array",
    type: JSON_TYPE,
    body: GEMINI_BODY,
    events: geminiChunks,
  },
];
/** Words that decide whether work goes on at the provider: other tests change them. */
const FIXED_IN_ANSWERS = new Set(["status"]);

type Made = {
  readonly template: Template;
  readonly bytes: Buffer;
  readonly encoding: keyof typeof ENCODINGS;
  readonly isCut: boolean;
  readonly type: string;
};

/** An answer, changed or not, cut or not, packed or not. */
function makeAnswer(next: Next): Made {
  const template = pick(next, TEMPLATES);
  const events = structuredClone(template.events());
  for (let left = Math.floor(next() * 4); left > 0; left--) mutate(events, next, FIXED_IN_ANSWERS);
  const [first] = events;
  if (next() < 0.05 && typeof first === "object" && first !== null)
    Object.assign(first, { padding: "x".repeat(pick(next, [40_000, 40_000, 40_000, 1_200_000])) });
  const texts = events.map((event) => JSON.stringify(event) ?? "null");
  if (next() < 0.1 && texts.length > 0) {
    const at = Math.floor(next() * texts.length);
    texts[at] = mutateText(texts[at] ?? "", next);
  }
  const text =
    template.frame === "events"
      ? renderEvents([...texts, ...(template.last === undefined ? [] : [template.last])], next)
      : template.frame === "array"
        ? `[${texts.join(pick(next, [",", ",\r\n", " , "]))}]`
        : texts.join("\n");
  const spaced = next() < 0.1 ? pick(next, [" ", "\n", "\r\n\r\n", "\t\n "]) + text : text;
  const encoding = next() < 0.25 ? pick(next, ["gzip", "br", "zstd"] as const) : "";
  const whole = ENCODINGS[encoding](Buffer.from(spaced));
  const isCut = next() < 0.3;
  const bytes = isCut ? whole.subarray(0, Math.floor(next() * whole.length)) : whole;
  // Some vendors call their streams something else.
  const type = template.frame === "events" && next() < 0.1 ? pick(next, ["text/plain", JSON_TYPE]) : template.type;
  return { template, bytes, encoding, isCut, type };
}

function describeCall({ dialect, route, body }: Template): Call {
  const match = matchRoute(DIALECTS[dialect].routes, "POST", route);
  if (!match) throw new Error(`no route for ${route}`);
  return DIALECTS[dialect].describe(match, body as JsonObject, {}, { vendor: "openai", allowed: [] });
}

type Read = { readonly reading: Reading; readonly seen: Seen; readonly passed: Buffer };

async function read({ template, type, encoding }: Made, pieces: readonly Buffer[]): Promise<Read> {
  const meter = createMeter(DIALECTS[template.dialect], describeCall(template), false, type, encoding);
  const passed: Buffer[] = [];
  for (const piece of pieces) {
    const out = meter.push(piece);
    if (out) passed.push(out);
  }
  await meter.flush?.();
  const reading = meter.reading();
  return { reading, seen: meter.seen(), passed: Buffer.concat([...passed, ...meter.takeHeld()]) };
}

/** Where the estimate says nothing its figure means nothing. */
const said = ({ reading, seen }: Read): object => ({ ...reading, ...(seen.isPartial ? { isPartial: true } : seen) });
const show = ({ template, bytes, encoding, isCut }: Made): string =>
  `${template.name}${encoding === "" ? "" : ` in ${encoding}`}${isCut ? ", cut" : ""}: ${bytes.toString(encoding === "" ? "utf8" : "base64").slice(0, 3_000)}`;
/** As text, for money is no number. */
const asText = (value: unknown): string =>
  JSON.stringify(value, (_name, one: unknown) => (typeof one === "bigint" ? `${one}n` : one));

describe("found by it:", () => {
  const made = (name: string, text: string, more: Partial<Made> = {}): Made => {
    const template = TEMPLATES.find((one) => one.name === name);
    if (!template) throw new Error(name);
    return { template, bytes: Buffer.from(text), encoding: "", isCut: false, type: template.type, ...more };
  };
  const events = (list: readonly object[], end: string): string =>
    list.map((event) => `data: ${JSON.stringify(event)}${end}${end}`).join("");
  const stream = events(geminiChunks(), "\n");
  const packed = ENCODINGS.gzip(Buffer.from(stream));
  const CASES: readonly (readonly [string, Made])[] = [
    [
      "a stream under another type, with an empty line before it",
      made("Gemini, streamed as events", `\r\n${stream}`, { type: "text/plain" }),
    ],
    [
      "a stream whose lines end with carriage returns, cut",
      made("Gemini, streamed as events", events(geminiChunks(), "\r").slice(0, -60), { isCut: true }),
    ],
    [
      "a packed stream, cut",
      made("Gemini, streamed as events", "", { bytes: packed.subarray(0, -6), encoding: "gzip", isCut: true }),
    ],
  ];
  it.each(CASES)("%s is read the same in one piece, in two, and byte by byte", async (_name, one) => {
    const whole = asText(said(await read(one, [one.bytes])));
    const bytewise = Array.from(one.bytes, (byte) => Buffer.from([byte]));
    expect(asText(said(await read(one, bytewise)))).toBe(whole);
    for (const at of [1, 2, 3, 20, Math.floor(one.bytes.length / 2), one.bytes.length - 1])
      expect(asText(said(await read(one, [one.bytes.subarray(0, at), one.bytes.subarray(at)]))), `cut at ${at}`).toBe(
        whole,
      );
  });

  it.each([
    ["cut", (line: string): string => line.slice(0, line.length / 2)],
    ["damaged", (line: string): string => line.replace("{", "{\u0000")],
    ["without a type", (line: string): string => line.replace('"type":"succeeded",', "")],
    ["of an unknown type", (line: string): string => line.replace('"succeeded"', '"done"')],
  ])("a line of a batch's results that is %s is not taken for nothing used", (_name, change) => {
    const line = JSON.stringify({ custom_id: "c", result: { type: "succeeded", message: CLAUDE } });
    for (const text of [change(line), `${line}\n${change(line)}`]) {
      const meter = createMeter(DIALECTS.anthropic, workCall("message_batches", "", []), false, "application/binary");
      meter.push(Buffer.from(text));
      expect(meter.reading().final, text).toBe(false);
    }
    const whole = createMeter(DIALECTS.anthropic, workCall("message_batches", "", []), false, "application/binary");
    whole.push(Buffer.from(`${line}\n${line}\n`));
    expect(whole.reading()).toMatchObject({ final: true, usage: { input: 200, output: 80 } });
  });
});

describe.each(SEEDS)("seed %i:", (seed) => {
  it(`${READINGS} answers are read the same however they are cut, and pass as they came`, async () => {
    console.log(`seed ${seed}`);
    const next = random(seed);
    for (let i = 0; i < READINGS; i++) {
      const made = makeAnswer(next);
      const whole = await read(made, made.bytes.length > 0 ? [made.bytes] : []);
      const bytewise = made.bytes.length < 3_000 && next() < 0.2;
      const pieces = bytewise ? Array.from(made.bytes, (byte) => Buffer.from([byte])) : cut(made.bytes, next);
      const again = await read(made, pieces);
      const of = `answer ${i}, ${pieces
        .map(({ length }) => length)
        .slice(0, 40)
        .join("+")}, ${show(made)}`;
      expect(asText(said(again)), of).toBe(asText(said(whole)));
      expect(again.passed.equals(made.bytes), of).toBe(true);
      expect(whole.passed.equals(made.bytes), of).toBe(true);
    }
  });

  describe("through the proxy", () => {
    const next = random(seed + 1);
    const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });
    let [strict, plain] = [
      { id: "", secret: "" },
      { id: "", secret: "" },
    ];
    const CAP_NANO_USD = 20_000_000n;
    beforeAll(async () => {
      strict = await bench.running.createKey();
      plain = await bench.running.createKey();
      await bench.running.setBudget({ scope: { keyId: strict.id }, amountNanoUsd: CAP_NANO_USD, mode: "strict" });
    });

    const allBooked = (): Booked[] => readBooked(bench.running.dataDir);

    it(`${ANSWERS} answers, each twice: the same usage and cost, one event, the bytes of the provider`, async () => {
      for (let i = 0; i < ANSWERS; i++) {
        const made = makeAnswer(next);
        const { template, bytes, encoding, type } = made;
        const breaksOff = made.isCut && next() < 0.5;
        for (const once of ["a", "b"]) {
          const pieces = cut(bytes, next);
          const id = `${template.name.replaceAll(/\W/g, "")}-${i}-${once}`;
          bench.provider.script = async (_arrived, response) => {
            response.writeHead(200, {
              "content-type": type,
              "x-request-id": id,
              "request-id": id,
              ...(encoding === "" ? {} : { "content-encoding": encoding }),
            });
            response.flushHeaders();
            for (const piece of pieces) {
              await new Promise((resolve) => response.write(piece, resolve));
              if (next() < 0.2) await sleep(0);
            }
            // The connection ends after what was sent, and before what was said.
            if (breaksOff) response.socket?.end();
            else response.end();
          };
          // A key of its own each time: what one answer teaches is not expected of the other.
          const key = `sk-test-fuzz-${seed}-${i}-${once}`;
          const got = await post(
            bench.running.url,
            key,
            template.path + (template.query ?? ""),
            JSON.stringify(template.body),
          );
          const of = `answer ${i}, ${show(made)}`;
          expect(got.status, of).not.toBe(500);
          if (got.status === 200)
            expect(
              bytes.equals(got.body) || (breaksOff && isPrefix(got.body, bytes)),
              `${of}, got ${got.body.toString().slice(0, 500)}`,
            ).toBe(true);
          else expect([breaksOff, got.status], of).toEqual([true, 502]);
        }
        await expect.poll(() => heldAttempts(bench.running.dataDir), { interval: 5 }).toBe(0);
        const [first, second, ...more] = allBooked().filter(({ providerId }) => providerId?.includes(`-${i}-`));
        const of = `answer ${i}${breaksOff ? ", broken off" : ""}, ${show(made)}`;
        expect([first?.providerId?.at(-1), second?.providerId?.at(-1), more], of).toEqual(["a", "b", []]);
        expect({ ...second, keyId: "", providerId: "" }, of).toEqual({ ...first, keyId: "", providerId: "" });
        expect(BigInt(first?.costNanoUsd ?? 0), of).toBeGreaterThanOrEqual(0n);
        if (first?.usageState === "reported" && Number(first.costNanoUsd ?? 0) === 0 && encoding === "")
          expect(statesNothing(bytes.toString("utf8")), `reported as nothing: ${of}`).toBe(true);
      }
      expect(allBooked()).toHaveLength(2 * ANSWERS);
    });

    it(`${REQUESTS} requests: one event for each that reached the provider, nothing stays held, no cap is passed`, async () => {
      const before = allBooked().length;
      const arrived = new Map<string, string>();
      bench.provider.script = async (request, response) => {
        const id = `asked-${arrived.size}`;
        arrived.set(id, request.body.toString("utf8"));
        await answerHonestly(request.url, request.body, id, response);
      };
      const counts = new Map<number, number>();
      let left = REQUESTS;
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          while (left-- > 0) {
            const template = pick(next, TEMPLATES);
            const body = structuredClone(template.body);
            for (let changes = Math.floor(next() * 4); changes > 0; changes--) mutate(body, next);
            // Work that goes on stays open, of a response; of anything else there is no such thing.
            if (!template.name.startsWith("response") && next() < 0.2) Object.assign(body, { background: true });
            else delete (body as Record<string, unknown>)["background"];
            const text = next() < 0.1 ? mutateText(JSON.stringify(body), next) : JSON.stringify(body);
            const { secret } = next() < 0.6 ? strict : plain;
            const leaves = next() < 0.15 ? next() * 8 : undefined;
            const got = await post(bench.running.url, secret, template.path + (template.query ?? ""), text, leaves);
            expect(
              got.status,
              `${template.name}: ${text.slice(0, 2_000)} -> ${got.body.toString().slice(0, 300)}`,
            ).not.toBe(500);
            counts.set(got.status, (counts.get(got.status) ?? 0) + 1);
          }
        }),
      );
      // Some of each: served, odd, and beyond the cap.
      for (const status of [200, 400, 402]) expect(counts.get(status) ?? 0, `answers of ${status}`).toBeGreaterThan(0);
      await expect.poll(() => heldAttempts(bench.running.dataDir), { timeout: 10_000 }).toBe(0);
      const events = allBooked().slice(before);
      const ids = events.flatMap(({ providerId }) => (providerId?.startsWith("asked-") ? [providerId] : []));
      expect(new Set(ids).size).toBe(ids.length);
      // Of clients that left, some did before the provider's headers: their events name no id of its.
      expect(events.length).toBeGreaterThanOrEqual(arrived.size);
      const nameless = events.filter(({ providerId }) => providerId === null);
      expect(
        nameless.every(({ outcome }) => outcome === "client_left"),
        asText(nameless),
      ).toBe(true);
      expect(ids.length + nameless.length).toBeGreaterThanOrEqual(arrived.size);
      for (const event of events) expect(BigInt(event.costNanoUsd ?? 0), asText(event)).toBeGreaterThanOrEqual(0n);
      const counted = events.filter(({ keyId }) => keyId === strict.id);
      const spent = counted.reduce((sum, { costNanoUsd }) => sum + BigInt(costNanoUsd ?? 0), 0n);
      const [dearest] = counted.toSorted((a, b) => Number(b.costNanoUsd) - Number(a.costNanoUsd));
      const of = `the dearest: ${asText(dearest)} for ${arrived.get(dearest?.providerId ?? "")}`;
      expect(spent, of).toBeLessThanOrEqual(CAP_NANO_USD);
      expect(spent).toBeGreaterThan(0n);
      expect((await bench.running.proxy.writer.verify()).differences).toEqual([]);
    });

    it(`${RESULTS} results of batches, each twice: the same usage and cost however they are cut`, async () => {
      let pending = 0;
      for (let i = 0; i < RESULTS; i++) {
        const lines = Array.from({ length: 1 + Math.floor(next() * 5) }, (_, n) => {
          const line = { custom_id: `c${n}`, result: { type: "succeeded", message: structuredClone(CLAUDE) } };
          if (next() < 0.4) mutate(line, next);
          return next() < 0.05 ? mutateText(JSON.stringify(line), next) : JSON.stringify(line);
        });
        const whole = Buffer.from(lines.join("\n") + pick(next, ["", "\n"]));
        const isCut = next() < 0.2;
        const bytes = isCut ? whole.subarray(0, Math.floor(next() * whole.length)) : whole;
        const outcomes: unknown[] = [];
        for (const once of ["a", "b"]) {
          const id = `msgbatch_${seed}_${i}_${once}`;
          bench.provider.script = (_arrived, response) =>
            void response
              .writeHead(200, { "content-type": JSON_TYPE, "request-id": `batch-${i}-${once}` })
              .end(JSON.stringify({ id, type: "message_batch", processing_status: "in_progress" }));
          const requests = [{ custom_id: "c0", params: CLAUDE_BODY }];
          const begun = await post(
            bench.running.url,
            plain.secret,
            "/anthropic/v1/messages/batches",
            JSON.stringify({ requests }),
          );
          expect(begun.status).toBe(200);
          await expect.poll(() => heldAttempts(bench.running.dataDir), { interval: 5 }).toBe(pending + 1);

          const count = allBooked().length;
          const pieces = cut(bytes, next);
          bench.provider.script = async (_arrived, response) => {
            response.writeHead(200, { "content-type": "application/binary" });
            for (const piece of pieces) await new Promise((resolve) => response.write(piece, resolve));
            response.end();
          };
          const path = `/anthropic/v1/messages/batches/${id}/results`;
          const got = await post(bench.running.url, plain.secret, path, undefined);
          expect([got.status, got.body.equals(bytes)], `results ${i}: ${bytes.toString()}`).toEqual([200, true]);
          const isOpen = heldAttempts(bench.running.dataDir) > pending;
          if (isOpen) pending += 1;
          const [event] = allBooked().slice(count);
          outcomes.push({ isOpen, ...event, providerId: "" });
          expect(BigInt(event?.costNanoUsd ?? 0)).toBeGreaterThanOrEqual(0n);
          if (event?.usageState === "reported" && Number(event.costNanoUsd) === 0)
            expect(statesNothing(bytes.toString()) || !bytes.toString().includes('"succeeded"'), bytes.toString()).toBe(
              true,
            );
        }
        expect(outcomes[1], `results ${i}: ${bytes.toString()}`).toEqual(outcomes[0]);
      }
      expect(heldAttempts(bench.running.dataDir)).toBe(pending);
    });
  });

  it(`${SESSIONS} sessions over WebSockets: messages pass as they are, each turn is booked, and nothing stays held`, async () => {
    const next = random(seed + 2);
    const provider = await startFakeSocketProvider();
    const running = await startProxy(provider.url, { KEYMETER_DURABILITY: "process" });
    const { id: keyId, secret } = await running.createKey();
    await running.setBudget({ scope: { keyId }, amountNanoUsd: 10n ** 13n });
    let turns = 0;
    for (let i = 0; i < SESSIONS; i++) {
      const kind = pick(next, ["responses", "realtime"] as const);
      // Only half of the providers say odd things.
      const isHonest = next() < 0.5;
      const said: string[] = [];
      let created = 0;
      const before = { messages: provider.messages.length, events: readBooked(running.dataDir).length };
      provider.script = {
        onMessage(message, _say, socket) {
          // What is cancelled is over: a proxy that asks for it is not kept waiting.
          if (message["type"] === "response.cancel") socket.close(1000);
          if (message["type"] !== "response.create") return;
          created += 1;
          for (const event of SAID[kind](`resp_${seed}_${(turns += 1)}`)) {
            if (!isHonest && next() < 0.3) mutate(event, next, FIXED_IN_ANSWERS);
            const text = !isHonest && next() < 0.05 ? mutateText(JSON.stringify(event), next) : JSON.stringify(event);
            said.push(Buffer.from(text).toString("utf8"));
            socket.send(text);
          }
          if (!isHonest && next() < 0.1) socket.close(pick(next, [1000, 1011, 3000]));
        },
      };
      const path = kind === "responses" ? "/openai/v1/responses" : "/openai/v1/realtime?model=gpt-realtime";
      const client = new WebSocket(running.url.replace("http", "ws") + path, {
        headers: { authorization: `Bearer ${secret}` },
      });
      const heard: string[] = [];
      client.on("message", (data: Buffer) => heard.push(data.toString("utf8")));
      const closed = new Promise<number>((resolve) => client.once("close", resolve));
      await new Promise((resolve, reject) => client.once("open", resolve).once("error", reject));
      const sent: string[] = [];
      let isOdd = false;
      for (let left = 1 + Math.floor(next() * 5); left > 0 && client.readyState === WebSocket.OPEN; left--) {
        const message = structuredClone(pick(next, ASKED[kind]));
        let text = JSON.stringify(message);
        if (next() < 0.25) {
          isOdd = true;
          mutate(message, next);
          text = next() < 0.1 ? mutateText(JSON.stringify(message), next) : JSON.stringify(message);
        }
        // Half of a pair of surrogates has no bytes of its own: what goes out is what its bytes say.
        sent.push(Buffer.from(text).toString("utf8"));
        client.send(text);
        if (next() < 0.5) await sleep(1);
      }
      const leaves = next() < 0.3;
      const hears = async (): Promise<void> => {
        const hasAll = (): boolean =>
          provider.messages.length - before.messages === sent.length && heard.length >= said.length;
        for (let waits = 0; waits < 50 && !hasAll() && client.readyState === WebSocket.OPEN; waits++) await sleep(4);
      };
      if (!leaves) await hears();
      const isWhole = client.readyState === WebSocket.OPEN && !leaves;
      if (leaves) client.terminate();
      else client.close();
      await closed;
      await expect.poll(() => provider.sockets.size, { timeout: 10_000, interval: 5 }).toBe(0);
      await expect.poll(() => heldAttempts(running.dataDir), { timeout: 10_000, interval: 5 }).toBe(0);

      const of = `session ${i}, ${kind}, sent ${sent.join(" ").slice(0, 1_500)}, said ${said.join(" ").slice(0, 1_500)}`;
      // In their order, as they are; behind the last one an error of our own may stand.
      const messages = provider.messages.slice(before.messages).filter(({ type }) => type !== "response.cancel");
      expect(messages, of).toEqual(sent.slice(0, messages.length).map((text) => JSON.parse(text) as object));
      const own = heard.findIndex((text) => text.includes("Keymeter: "));
      expect(own === -1 || own === heard.length - 1, of).toBe(true);
      const theirs = own === -1 ? heard : heard.slice(0, own);
      expect(theirs, of).toEqual(said.slice(0, theirs.length));
      const events = readBooked(running.dataDir).slice(before.events);
      for (const event of events) expect(BigInt(event.costNanoUsd ?? 0), of).toBeGreaterThanOrEqual(0n);
      expect(events.length, of).toBeGreaterThanOrEqual(created);
      if (isHonest && isWhole && !isOdd) {
        const used = events.filter(({ costNanoUsd }) => BigInt(costNanoUsd ?? 0) > 0n);
        expect(
          used.map(({ usageState }) => usageState),
          of,
        ).toEqual(Array<string>(created).fill("reported"));
      }
    }
    expect(turns).toBeGreaterThan(0);
    expect((await fetch(`${running.opsUrl}/readyz`)).status).toBe(200);
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
    await running.stop();
    await provider.close();
  });
});

/** What clients send in sessions. */
const ASKED: { readonly [kind in "responses" | "realtime"]: readonly object[] } = {
  responses: [{ type: "response.create", ...RESPONSE_BODY }],
  realtime: [
    { type: "session.update", session: { type: "realtime", output_modalities: ["audio"] } },
    {
      type: "conversation.item.create",
      item: { type: "message", role: "user", content: [{ type: "input_text", text: "hi" }] },
    },
    { type: "input_audio_buffer.append", audio: "AAAA" },
    { type: "response.create", event_id: "event_1" },
    { type: "response.create", response: { instructions: "be short" } },
  ],
};

/** What providers say of a turn. */
const SAID: { readonly [kind in "responses" | "realtime"]: (id: string) => object[] } = {
  responses: (id) => [
    {
      type: "response.created",
      sequence_number: 0,
      response: { ...structuredClone(RESPONSE), id, status: "in_progress", usage: null },
    },
    { type: "response.output_text.delta", sequence_number: 1, delta: words },
    { type: "response.completed", sequence_number: 2, response: { ...structuredClone(RESPONSE), id } },
  ],
  realtime: (id) => [
    { type: "response.created", response: { id, status: "in_progress", usage: null } },
    { type: "response.output_audio.delta", response_id: id, delta: "AAAA" },
    {
      type: "response.done",
      response: {
        id,
        status: "completed",
        usage: {
          total_tokens: 130,
          input_tokens: 100,
          output_tokens: 30,
          input_token_details: { text_tokens: 60, audio_tokens: 40, cached_tokens: 0 },
          output_token_details: { text_tokens: 10, audio_tokens: 20 },
        },
      },
    },
  ],
};

type Got = { readonly status: number; readonly headers: IncomingHttpHeaders; readonly body: Buffer };

/** Sends it, and reads the answer as it comes, packed or not. `leaves`: hangs up after so many milliseconds. */
function post(url: string, secret: string, path: string, text: string | undefined, leaves?: number): Promise<Got> {
  return new Promise((resolve) => {
    const body = Buffer.from(text ?? "");
    const headers = {
      authorization: `Bearer ${secret}`,
      ...(text === undefined ? {} : { "content-type": JSON_TYPE, "content-length": body.length }),
    };
    const chunks: Buffer[] = [];
    let status = 0;
    let answered: IncomingHttpHeaders = {};
    const done = (): void => resolve({ status, headers: answered, body: Buffer.concat(chunks) });
    const request = httpRequest(url + path, { method: text === undefined ? "GET" : "POST", headers }, (response) => {
      status = response.statusCode ?? 0;
      answered = response.headers;
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("error", () => {});
      response.on("close", done);
    });
    request.on("error", done);
    request.end(body);
    if (leaves !== undefined) setTimeout(() => request.destroy(), leaves);
  });
}

function isPrefix(got: Buffer, sent: Buffer): boolean {
  return sent.subarray(0, got.length).equals(got);
}

type Booked = {
  readonly keyId: string;
  readonly providerId: string | null;
  readonly costNanoUsd: string | null;
  readonly usageState: string;
  readonly outcome: string;
};

/** What stands in the books of each event, and has to be the same for the same answer. */
function readBooked(dataDir: string): Booked[] {
  const books = openForReading(join(dataDir, "usage.db"));
  if (!books) throw new Error("no books");
  const rows = books
    .prepare(
      `SELECT key_id AS keyId, provider_request_id AS providerId, CAST(cost_nano_usd AS TEXT) AS costNanoUsd, usage_state AS usageState,
         usage_reason AS usageReason, outcome, input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, served_model, tier, price_confidence
       FROM events ORDER BY attempt_id`,
    )
    .all() as Booked[];
  books.close();
  return rows;
}

/** Whether an answer says by itself that nothing was used: no main count in it is above zero. */
function statesNothing(text: string): boolean {
  const counts = text.matchAll(
    /"(?:prompt_tokens|completion_tokens|input_tokens|output_tokens|total_tokens|promptTokenCount|candidatesTokenCount|totalTokenCount)"\s*:\s*(\d+)/g,
  );
  return [...counts].every(([, count]) => Number(count) === 0);
}

/** A provider that uses as much as it was asked for: a token a byte, and all the output that it may write. */
async function answerHonestly(url: string, body: Buffer, id: string, response: ServerResponse): Promise<void> {
  const asked = JSON.parse(body.toString("utf8")) as Record<string, unknown>;
  const number = (value: unknown, otherwise: number): number => (typeof value === "number" ? value : otherwise);
  const input = body.length;
  const headers = { "x-request-id": id, "request-id": id };
  const model = String(asked["model"]);
  const end = async (type: string, pieces: readonly string[]): Promise<void> => {
    await sleep(1);
    response.writeHead(200, { "content-type": type, ...headers });
    for (const piece of pieces) {
      response.write(piece);
      await sleep(1);
    }
    response.end();
  };
  const lines = (...events: readonly (object | string)[]): string[] =>
    events.map((event) => `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`);
  if (url.includes("/embeddings")) {
    const usage = { prompt_tokens: input, total_tokens: input };
    return await end(JSON_TYPE, [JSON.stringify({ object: "list", data: [], model, usage })]);
  }
  if (url.includes("/models/")) {
    const config = (asked["generationConfig"] ?? {}) as Record<string, unknown>;
    // Google takes a whole number as a text too.
    const read = (value: unknown, otherwise: number): number =>
      typeof value === "string" && /^\d+$/.test(value) ? Number(value) : number(value, otherwise);
    const output = read(config["maxOutputTokens"], 65_536) * Math.max(1, read(config["candidateCount"], 1));
    const usageMetadata = { promptTokenCount: input, candidatesTokenCount: output, totalTokenCount: input + output };
    const answer = { ...GEMINI, usageMetadata };
    if (!url.includes(":stream")) return await end(JSON_TYPE, [JSON.stringify(answer)]);
    const chunks = [{ candidates: [{ index: 0, content: { parts: [{ text: words }] } }] }, answer];
    return url.includes("alt=sse")
      ? await end(SSE, lines(...chunks))
      : await end(JSON_TYPE, ["[", JSON.stringify(chunks[0]), ",", JSON.stringify(chunks[1]), "]"]);
  }
  if (url.includes("/messages")) {
    const usage = { input_tokens: input, output_tokens: number(asked["max_tokens"], 64_000) };
    const message = { ...CLAUDE, model, usage };
    if (asked["stream"] !== true) return await end(JSON_TYPE, [JSON.stringify(message)]);
    return await end(
      SSE,
      lines(
        { type: "message_start", message: { ...message, usage: { ...usage, output_tokens: 1 } } },
        { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: words } },
        { type: "message_delta", delta: {}, usage: { output_tokens: usage.output_tokens } },
        { type: "message_stop" },
      ),
    );
  }
  if (url.includes("/responses")) {
    const output = number(asked["max_output_tokens"], 16_384);
    const usage = { input_tokens: input, output_tokens: output, total_tokens: input + output };
    const answer = { id: `resp_${id}`, object: "response", model, output: [], status: "completed", usage };
    if (asked["stream"] !== true) return await end(JSON_TYPE, [JSON.stringify(answer)]);
    return await end(
      SSE,
      lines(
        { type: "response.created", response: { ...answer, status: "in_progress", usage: null } },
        { type: "response.output_text.delta", delta: words },
        { type: "response.completed", response: answer },
      ),
    );
  }
  const output =
    number(asked["max_completion_tokens"], number(asked["max_tokens"], 16_384)) * Math.max(1, number(asked["n"], 1));
  const usage = { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
  const answer = {
    id: `chatcmpl-${id}`,
    model,
    choices: [{ index: 0, message: { content: words }, finish_reason: "stop" }],
    usage,
  };
  if (asked["stream"] !== true) return await end(JSON_TYPE, [JSON.stringify(answer)]);
  const chunk = { id: answer.id, model, choices: [{ index: 0, delta: { content: words } }] };
  const last = { id: answer.id, model, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] };
  await end(SSE, lines(chunk, last, { id: answer.id, model, choices: [], usage }, "[DONE]"));
}
