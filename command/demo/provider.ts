// A provider for the demo: speaks the three dialects on loopback, makes up answers, and keeps its own journal with its
// own prices. The demo compares the ledger with this journal, so nothing here may come from the ledger.
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { answerBilling } from "./billing.ts";
import { nano } from "./journal.ts";
import type { BilledKey, JournalEntry, Price, PriceOf } from "./journal.ts";

/** What the demo's proxy holds as its key of OpenAI. */
export const DEMO_CREDENTIAL = "sk-demo-openai-credential";

const PRICES: { readonly [model: string]: Price } = {
  "gpt-4o-mini": [0.15, 0.075, 0, 0.6],
  "gpt-5.2": [1.75, 0.175, 0, 14],
  "claude-haiku-4-5": [1, 0.1, 1.25, 5],
  "claude-opus-4-6": [5, 0.5, 6.25, 25],
  "gemini-2.5-flash": [0.3, 0.03, 0, 2.5],
  "text-embedding-3-small": [0.02, 0, 0, 0],
};
/** What a model cost in the story before its price went down. */
export const OLD_PRICE = { model: "gpt-5.2", input: 2, output: 16 };
const OLD_PRICES: { readonly [model: string]: Price } = {
  [OLD_PRICE.model]: [OLD_PRICE.input, 0.2, 0, OLD_PRICE.output],
};

export type DemoProvider = {
  readonly server: Server;
  readonly journal: readonly JournalEntry[];
  /** Books use of past days, which the demo writes into the ledger as well; returns what it will bill. */
  recordPast(at: Date, path: string, model: string, input: number, output: number, billedTo?: BilledKey): JournalEntry;
  /** The price went down at this instant; before it the old one counts. */
  cheaperFrom(at: Date): void;
  /** The sum of all that it will bill to the key behind Keymeter. */
  totalNanoUsd(): bigint;
  listen(port?: number): Promise<number>;
  close(): Promise<void>;
};

/** `paceMs` is the pause between two events of a stream. */
export function createDemoProvider({ paceMs = 0 }: { readonly paceMs?: number } = {}): DemoProvider {
  const journal: JournalEntry[] = [];
  let cheaperFrom = "";
  const priceOf: PriceOf = (model, at) => (at < cheaperFrom ? OLD_PRICES[model] : undefined) ?? PRICES[model];
  const server = createServer((request, response) => {
    answer(request, response, journal, priceOf, paceMs).catch(() => response.destroy());
  });
  return {
    server,
    journal,
    cheaperFrom(at) {
      cheaperFrom = at.toISOString();
    },
    recordPast(at, path, model, input, output, billedTo = "key_demo") {
      const [inputPrice, , , outputPrice] = priceOf(model, at.toISOString()) ?? [0, 0, 0, 0];
      const entry: JournalEntry = {
        at: at.toISOString(),
        id: `demo_${journal.length + 1}`,
        path,
        model,
        credential: "",
        input,
        cached: 0,
        written: 0,
        output,
        costNanoUsd: nano(input, inputPrice) + nano(output, outputPrice),
        billedTo,
      };
      journal.push(entry);
      return entry;
    },
    totalNanoUsd: () =>
      journal.reduce((sum, entry) => sum + (entry.billedTo === "key_demo" ? entry.costNanoUsd : 0n), 0n),
    listen: (port = 0) =>
      new Promise((resolve, reject) =>
        server.once("error", reject).listen(port, "127.0.0.1", () => resolve((server.address() as AddressInfo).port)),
      ),
    close: () => new Promise((resolve) => (server.closeAllConnections(), server.close(() => resolve()))),
  };
}

type Body = {
  model?: string;
  stream?: boolean;
  stream_options?: { include_usage?: boolean };
  max_tokens?: number;
  max_completion_tokens?: number;
  max_output_tokens?: number;
  input?: unknown;
  generationConfig?: { maxOutputTokens?: number };
};
type Used = { input: number; cached: number; written: number; output: number };

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  journal: JournalEntry[],
  priceOf: PriceOf,
  paceMs: number,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const raw = Buffer.concat(chunks);
  const url = new URL(request.url ?? "/", "http://demo");
  const path = url.pathname;
  const billing = answerBilling(url, journal, priceOf, DEMO_CREDENTIAL);
  if (billing) return reply(response, 200, billing);
  const body = (raw.length > 0 ? JSON.parse(raw.toString("utf8")) : {}) as Body;
  const model = /models\/([^:]+):/.exec(path)?.[1] ?? body.model ?? "";
  const id = `demo_${journal.length + 1}`;
  const price = PRICES[model];
  if (!price)
    return reply(response, 404, {
      error: { message: `no model ${model}`, type: "invalid_request_error", code: "model_not_found" },
    });

  const written = path.endsWith("/messages") && raw.includes("cache_control") && journal.length % 5 === 0;
  const total = Math.ceil(raw.length / 4);
  const isEmbedding = path.endsWith("/embeddings");
  const cached = !written && !isEmbedding && total > 1_024 ? Math.floor(total / 2) : 0;
  const most =
    body.max_completion_tokens ??
    body.max_tokens ??
    body.max_output_tokens ??
    body.generationConfig?.maxOutputTokens ??
    400;
  const used: Used = {
    input: total - cached - (written ? Math.floor(total / 2) : 0),
    cached,
    written: written ? Math.floor(total / 2) : 0,
    output: isEmbedding ? 0 : Math.max(1, Math.floor(most * (0.4 + 0.5 * (((journal.length * 7) % 10) / 10)))),
  };
  journal.push({
    at: new Date().toISOString(),
    id,
    path,
    model,
    credential: credentialOf(request),
    ...used,
    costNanoUsd: [used.input, used.cached, used.written, used.output].reduce(
      (sum, quantity, i) => sum + nano(quantity, price[i] ?? 0),
      0n,
    ),
    billedTo: "key_demo",
  });

  const words = Array.from(
    { length: Math.min(used.output, 40) },
    (_, i) => ["spend", "is", "a", "number", "you", "can", "trust"][i % 7] ?? "",
  );
  const answer: Answer = { body, id, model, used, words, paceMs };
  if (path.endsWith("/chat/completions")) return chat(response, answer);
  if (path.endsWith("/responses")) return responses(response, answer);
  if (isEmbedding)
    return reply(response, 200, {
      object: "list",
      data: [{ object: "embedding", index: 0, embedding: Array.from({ length: 8 }, (_, i) => i / 8) }],
      model,
      usage: { prompt_tokens: total, total_tokens: total },
    });
  if (path.endsWith("/messages")) return messages(response, answer);
  return generate(response, path, answer);
}

/** What an answer is made of. */
type Answer = {
  readonly body: Body;
  readonly id: string;
  readonly model: string;
  readonly used: Used;
  readonly words: readonly string[];
  readonly paceMs: number;
};

async function chat(response: ServerResponse, { body, id, model, used, words, paceMs }: Answer): Promise<void> {
  const prompt = used.input + used.cached;
  const usage = {
    prompt_tokens: prompt,
    completion_tokens: used.output,
    total_tokens: prompt + used.output,
    prompt_tokens_details: { cached_tokens: used.cached },
  };
  const base = { id: `chatcmpl-${id}`, created: 1, model, service_tier: "default" };
  if (!body.stream)
    return reply(response, 200, {
      ...base,
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content: words.join(" ") }, finish_reason: "stop" }],
      usage,
    });
  const asked = body.stream_options?.include_usage === true;
  const chunk = (choices: unknown[], more: object = asked ? { usage: null } : {}): string =>
    `data: ${JSON.stringify({ ...base, object: "chat.completion.chunk", choices, ...more })}\n\n`;
  const events = [
    chunk([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }]),
    ...words.map((word) => chunk([{ index: 0, delta: { content: `${word} ` }, finish_reason: null }])),
    chunk([{ index: 0, delta: {}, finish_reason: "stop" }]),
    ...(asked ? [chunk([], { usage })] : []),
    "data: [DONE]\n\n",
  ];
  await stream(response, events, paceMs);
}

async function responses(response: ServerResponse, { body, id, model, used, words, paceMs }: Answer): Promise<void> {
  const input = used.input + used.cached;
  const usage = {
    input_tokens: input,
    input_tokens_details: { cached_tokens: used.cached },
    output_tokens: used.output,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: input + used.output,
  };
  const output = [
    {
      type: "message",
      id: `msg_${id}`,
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text: words.join(" "), annotations: [] }],
    },
  ];
  const whole = {
    id: `resp_${id}`,
    object: "response",
    created_at: 1,
    status: "completed",
    model,
    service_tier: "default",
    output,
    usage,
    error: null,
    incomplete_details: null,
  };
  if (!body.stream) return reply(response, 200, whole);
  let sequence = 0;
  const event = (type: string, more: object): string =>
    `event: ${type}\ndata: ${JSON.stringify({ type, sequence_number: sequence++, ...more })}\n\n`;
  const started = { ...whole, status: "in_progress", output: [], usage: null };
  const place = { item_id: `msg_${id}`, output_index: 0, content_index: 0 };
  await stream(
    response,
    [
      event("response.created", { response: started }),
      event("response.output_item.added", {
        output_index: 0,
        item: { ...output[0], status: "in_progress", content: [] },
      }),
      event("response.content_part.added", { ...place, part: { type: "output_text", text: "", annotations: [] } }),
      ...words.map((word) => event("response.output_text.delta", { ...place, delta: `${word} ` })),
      event("response.output_text.done", { ...place, text: words.join(" ") }),
      event("response.content_part.done", {
        ...place,
        part: { type: "output_text", text: words.join(" "), annotations: [] },
      }),
      event("response.output_item.done", { output_index: 0, item: output[0] }),
      event("response.completed", { response: whole }),
    ],
    paceMs,
  );
}

async function messages(response: ServerResponse, { body, id, model, used, words, paceMs }: Answer): Promise<void> {
  const counts = {
    input_tokens: used.input,
    cache_creation_input_tokens: used.written,
    cache_read_input_tokens: used.cached,
    cache_creation: { ephemeral_5m_input_tokens: used.written, ephemeral_1h_input_tokens: 0 },
    service_tier: "standard",
  };
  const base = { id: `msg_${id}`, type: "message", role: "assistant", model, stop_sequence: null };
  if (!body.stream)
    return reply(response, 200, {
      ...base,
      content: [{ type: "text", text: words.join(" ") }],
      stop_reason: "end_turn",
      usage: { ...counts, output_tokens: used.output },
    });
  const event = (type: string, more: object): string =>
    `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;
  await stream(
    response,
    [
      event("message_start", {
        message: { ...base, content: [], stop_reason: null, usage: { ...counts, output_tokens: 1 } },
      }),
      event("content_block_start", { index: 0, content_block: { type: "text", text: "" } }),
      ...words.map((word) =>
        event("content_block_delta", { index: 0, delta: { type: "text_delta", text: `${word} ` } }),
      ),
      event("content_block_stop", { index: 0 }),
      event("message_delta", {
        delta: { stop_reason: "end_turn", stop_sequence: null },
        usage: { output_tokens: used.output },
      }),
      event("message_stop", {}),
    ],
    paceMs,
  );
}

async function generate(
  response: ServerResponse,
  path: string,
  { id, model, used, words, paceMs }: Answer,
): Promise<void> {
  const prompt = used.input + used.cached;
  const usageMetadata = (output: number): object => ({
    promptTokenCount: prompt,
    ...(used.cached > 0 ? { cachedContentTokenCount: used.cached } : {}),
    candidatesTokenCount: output,
    totalTokenCount: prompt + output,
  });
  const piece = (text: string, output: number, finishReason?: string): object => ({
    candidates: [
      {
        content: { parts: [{ text }], role: "model" },
        index: 0,
        ...(finishReason === undefined ? {} : { finishReason }),
      },
    ],
    usageMetadata: usageMetadata(output),
    modelVersion: model,
    responseId: id,
  });
  if (!path.endsWith(":streamGenerateContent"))
    return reply(response, 200, piece(words.join(" "), used.output, "STOP"));
  await stream(
    response,
    words.map(
      (word, i) =>
        `data: ${JSON.stringify(piece(`${word} `, i + 1 === words.length ? used.output : i + 1, i + 1 === words.length ? "STOP" : undefined))}\r\n\r\n`,
    ),
    paceMs,
  );
}

function reply(response: ServerResponse, status: number, body: object): void {
  response
    .writeHead(status, { "content-type": "application/json", "x-request-id": `demo-${Date.now()}` })
    .end(JSON.stringify(body));
}

async function stream(response: ServerResponse, events: readonly string[], paceMs: number): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  for (const event of events) {
    if (response.destroyed) return;
    response.write(event);
    if (paceMs > 0) await sleep(paceMs);
  }
  response.end();
}

function credentialOf(request: IncomingMessage): string {
  const { authorization, "x-api-key": xApiKey, "x-goog-api-key": googKey } = request.headers;
  return authorization?.replace(/^Bearer /, "") ?? String(xApiKey ?? googKey ?? "");
}
