// The three providers in one place on loopback, for clients that nobody here wrote: chat completions, Responses (over
// HTTP and a WebSocket), embeddings, messages, generateContent, with the answers that their documents describe. No two
// answers count the same, and the journal has what each one counted: whoever meters has to come to these figures.
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";

type Json = { readonly [name: string]: unknown };

/** Disjoint counts, as Keymeter books them; reasoning lies inside `output`. */
export type Counts = {
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly output: number;
  readonly reasoning: number;
};

/** `call`: an answer with usage. `free`: a list of models, a count of tokens. `socket`: a WebSocket was opened.
 *  `unknown`: no such path. */
export type Entry = {
  readonly kind: "call" | "free" | "socket" | "unknown";
  readonly what: string;
  readonly model: string;
  readonly counts: Counts;
};

/** What is said to every question. */
export type Speech = {
  readonly text: string;
  /** A tool that is called first, where a question offers it. */
  readonly tool?: { readonly name: string; readonly input: object };
};

export type FakeProviders = {
  readonly url: string;
  readonly journal: readonly Entry[];
  speech: Speech;
  close(): Promise<void>;
};

const PLAIN: Speech = { text: "hello" };
const NOTHING: Counts = { input: 0, cacheRead: 0, cacheWrite: 0, output: 0, reasoning: 0 };
/** What a question that forces a tool gets for it. */
const FORCED_INPUT = { answer: "hello" };

export async function startFakeProviders(): Promise<FakeProviders> {
  const journal: Entry[] = [];
  let answered = 0;
  const note = (kind: Entry["kind"], what: string, model = "", counts = NOTHING): void => {
    journal.push({ kind, what, model, counts });
  };
  /** Steps without a common factor, so that no sum is the sum of others by chance. */
  const count = (writesCache: boolean): Counts => {
    const n = (answered += 1);
    const reasoning = 3 + (n % 11);
    return {
      input: 1_000 + 7 * n,
      cacheRead: 2_000 + 13 * n,
      cacheWrite: writesCache ? 300 + 5 * n : 0,
      output: reasoning + 20 + 3 * n,
      reasoning,
    };
  };
  const call = (what: string, model: string, counts: Counts): Counts => {
    note("call", what, model, counts);
    return counts;
  };

  const answer = (path: string, query: URLSearchParams, body: Json, response: ServerResponse): void => {
    const { speech } = fake;
    const json = (value: object, status = 200): void => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    };
    const stream = (pieces: readonly string[]): void => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const piece of pieces) response.write(piece);
      response.end();
    };
    const model = text(body["model"]);
    const gemini = /^\/v1(?:alpha|beta)?\/models\/([^:/]+):(\w+)$/.exec(path);
    if (path === "/v1/chat/completions") {
      const counts = call("chat", model, count(true));
      if (body["stream"] === true) return stream(chatStream(body, counts, speech));
      return json(chat(body, counts, speech));
    }
    if (path === "/v1/responses") {
      const whole = responsesAnswer(body, call("responses", model, count(true)), speech);
      if (body["stream"] !== true) return json(whole);
      return stream(responsesEvents(whole).map((one) => `event: ${one.type}\ndata: ${JSON.stringify(one)}\n\n`));
    }
    if (path === "/v1/embeddings") {
      const { input } = call("embeddings", model, { ...NOTHING, input: count(false).input });
      const inputs = Array.isArray(body["input"]) ? body["input"] : [body["input"]];
      const isText = body["encoding_format"] === "base64";
      const vector = isText ? Buffer.from(new Float32Array(8).fill(0.5).buffer).toString("base64") : Array(8).fill(0.5);
      const data = inputs.map((_input, index) => ({ object: "embedding", index, embedding: vector }));
      return json({ object: "list", model, data, usage: { prompt_tokens: input, total_tokens: input } });
    }
    if (path === "/v1/messages") {
      const counts = call("messages", model, { ...count(true), reasoning: 0 });
      if (body["stream"] === true) return stream(messageStream(model, counts, speech));
      return json(message(model, counts, speech));
    }
    if (gemini?.[2] === "generateContent" || gemini?.[2] === "streamGenerateContent") {
      const counts = call(gemini[2], gemini[1] ?? "", count(false));
      const whole = generated(gemini[1] ?? "", counts, speech);
      if (gemini[2] === "generateContent") return json(whole);
      return query.get("alt") === "sse" ? stream([`data: ${JSON.stringify(whole)}\r\n\r\n`]) : json([whole]);
    }
    if (path === "/v1/messages/count_tokens") {
      note("free", "count_tokens");
      return json({ input_tokens: 12 });
    }
    if (gemini?.[2] === "countTokens") {
      note("free", "countTokens");
      return json({ totalTokens: 12 });
    }
    if (path === "/v1/models") {
      note("free", "models");
      return json({ object: "list", data: [], has_more: false });
    }
    note("unknown", path);
    return json({ error: { message: `there is no ${path} here`, type: "not_found_error", code: null } }, 404);
  };

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { pathname, searchParams } = targetOf(request);
      answer(pathname, searchParams, parse(Buffer.concat(chunks)), response);
    });
  });
  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    note("socket", targetOf(request).pathname);
    sockets.handleUpgrade(request, socket, head, (opened: WebSocket) => {
      opened.on("message", (data: Buffer) => {
        const body = parse(data);
        if (body["type"] !== "response.create") return;
        // A client that only warms the connection up asks for no answer.
        const counts = body["generate"] === false ? NOTHING : count(true);
        const whole = responsesAnswer(body, call("responses, WebSocket", text(body["model"]), counts), fake.speech);
        for (const one of responsesEvents(body["generate"] === false ? { ...whole, output: [] } : whole))
          opened.send(JSON.stringify(one));
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeProviders = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    journal,
    speech: PLAIN,
    close: () =>
      new Promise((resolve) => {
        for (const client of sockets.clients) client.terminate();
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return fake;
}

let made = 0;
const id = (prefix: string): string => `${prefix}_${(made += 1).toString().padStart(12, "0")}`;

// Chat completions.

function chatUsage({ input, cacheRead, cacheWrite, output, reasoning }: Counts): object {
  const prompt = input + cacheRead + cacheWrite;
  return {
    prompt_tokens: prompt,
    completion_tokens: output,
    total_tokens: prompt + output,
    prompt_tokens_details: { cached_tokens: cacheRead, cache_write_tokens: cacheWrite, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: reasoning, audio_tokens: 0 },
  };
}

/** The tool that the answer calls, if it calls one. */
function chosenTool(body: Json, { tool }: Speech): { readonly name: string; readonly input: object } | undefined {
  const names = list(body["tools"]).map((one) => text((one["function"] as Json | undefined)?.["name"]));
  const forced = text(((body["tool_choice"] as Json | undefined)?.["function"] as Json | undefined)?.["name"]);
  if (forced !== "") return { name: forced, input: FORCED_INPUT };
  return tool && names.includes(tool.name) && list(body["messages"]).at(-1)?.["role"] !== "tool" ? tool : undefined;
}

function chatMessage(body: Json, speech: Speech): Json {
  const tool = chosenTool(body, speech);
  if (!tool) return { role: "assistant", content: speech.text };
  const called = { name: tool.name, arguments: JSON.stringify(tool.input) };
  return {
    role: "assistant",
    content: null,
    tool_calls: [{ index: 0, id: id("call"), type: "function", function: called }],
  };
}

function chat(body: Json, counts: Counts, speech: Speech): object {
  const said = chatMessage(body, speech);
  const finish = said["content"] === null ? "tool_calls" : "stop";
  return {
    id: id("chatcmpl"),
    object: "chat.completion",
    created: 1_790_000_000,
    model: body["model"],
    choices: [{ index: 0, message: said, finish_reason: finish, logprobs: null }],
    usage: chatUsage(counts),
  };
}

function chatStream(body: Json, counts: Counts, speech: Speech): string[] {
  const head = { id: id("chatcmpl"), object: "chat.completion.chunk", created: 1_790_000_000, model: body["model"] };
  const said = chatMessage(body, speech);
  const finish = said["content"] === null ? "tool_calls" : "stop";
  const chunks: object[] = [
    { ...head, choices: [{ index: 0, delta: said, finish_reason: null }] },
    { ...head, choices: [{ index: 0, delta: {}, finish_reason: finish }] },
  ];
  const wantsUsage = (body["stream_options"] as Json | undefined)?.["include_usage"] === true;
  if (wantsUsage) chunks.push({ ...head, choices: [], usage: chatUsage(counts) });
  return [...chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`), "data: [DONE]\n\n"];
}

// Responses.

type ResponsesAnswer = { readonly id: string; readonly output: readonly Json[]; readonly [name: string]: unknown };

function responsesAnswer(body: Json, counts: Counts, speech: Speech): ResponsesAnswer {
  const { input, cacheRead, cacheWrite, output, reasoning } = counts;
  const prompt = input + cacheRead + cacheWrite;
  return {
    id: id("resp"),
    object: "response",
    created_at: 1_790_000_000,
    status: "completed",
    model: body["model"],
    error: null,
    incomplete_details: null,
    instructions: null,
    metadata: {},
    parallel_tool_calls: true,
    tool_choice: "auto",
    tools: [],
    output: [
      {
        id: id("msg"),
        type: "message",
        role: "assistant",
        status: "completed",
        content: [{ type: "output_text", text: speech.text, annotations: [] }],
      },
    ],
    usage: {
      input_tokens: prompt,
      input_tokens_details: { cached_tokens: cacheRead, cache_write_tokens: cacheWrite },
      output_tokens: output,
      output_tokens_details: { reasoning_tokens: reasoning },
      total_tokens: prompt + output,
    },
  };
}

/** What a stream says on the way to an answer, the same over HTTP and a WebSocket. */
function responsesEvents(whole: ResponsesAnswer): { readonly type: string; readonly [name: string]: unknown }[] {
  const begun = { ...whole, status: "in_progress", output: [], usage: null };
  const events: { readonly type: string; readonly [name: string]: unknown }[] = [
    { type: "response.created", response: begun },
    { type: "response.in_progress", response: begun },
  ];
  whole.output.forEach((item, output_index) => {
    const [part] = list(item["content"]);
    const place = { item_id: item["id"], output_index, content_index: 0 };
    events.push(
      { type: "response.output_item.added", output_index, item: { ...item, status: "in_progress", content: [] } },
      { type: "response.content_part.added", ...place, part: { ...part, text: "" } },
      { type: "response.output_text.delta", ...place, delta: part?.["text"], logprobs: [] },
      { type: "response.output_text.done", ...place, text: part?.["text"], logprobs: [] },
      { type: "response.content_part.done", ...place, part },
      { type: "response.output_item.done", output_index, item },
    );
  });
  events.push({ type: "response.completed", response: whole });
  return events.map((event, sequence_number) => ({ ...event, sequence_number }));
}

// Messages.

function messageUsage({ input, cacheRead, cacheWrite, output }: Counts): Json {
  // A third of what is written is kept for an hour.
  const long = Math.floor(cacheWrite / 3);
  return {
    input_tokens: input,
    cache_read_input_tokens: cacheRead,
    cache_creation_input_tokens: cacheWrite,
    cache_creation: { ephemeral_5m_input_tokens: cacheWrite - long, ephemeral_1h_input_tokens: long },
    output_tokens: output,
    service_tier: "standard",
  };
}

function message(model: string, counts: Counts, speech: Speech): object {
  return {
    id: id("msg"),
    type: "message",
    role: "assistant",
    model,
    content: [{ type: "text", text: speech.text }],
    stop_reason: "end_turn",
    stop_sequence: null,
    usage: messageUsage(counts),
  };
}

function messageStream(model: string, counts: Counts, speech: Speech): string[] {
  const usage = messageUsage(counts);
  const head = { id: id("msg"), type: "message", role: "assistant", model, content: [] };
  const begun = { ...head, stop_reason: null, stop_sequence: null, usage: { ...usage, output_tokens: 1 } };
  const events = [
    { type: "message_start", message: begun },
    { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: speech.text } },
    { type: "content_block_stop", index: 0 },
    { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage },
    { type: "message_stop" },
  ];
  return events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
}

// generateContent.

function generated(model: string, counts: Counts, speech: Speech): object {
  const { input, cacheRead, output, reasoning } = counts;
  return {
    candidates: [{ index: 0, content: { role: "model", parts: [{ text: speech.text }] }, finishReason: "STOP" }],
    modelVersion: model,
    responseId: id("gen"),
    usageMetadata: {
      promptTokenCount: input + cacheRead,
      cachedContentTokenCount: cacheRead,
      candidatesTokenCount: output - reasoning,
      thoughtsTokenCount: reasoning,
      totalTokenCount: input + cacheRead + output,
    },
  };
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const list = (value: unknown): Json[] => (Array.isArray(value) ? (value as Json[]) : []);
const targetOf = ({ url = "/" }: IncomingMessage): URL => new URL(url, "http://provider");

function parse(data: Buffer): Json {
  try {
    return JSON.parse(data.toString("utf8")) as Json;
  } catch {
    return {};
  }
}
