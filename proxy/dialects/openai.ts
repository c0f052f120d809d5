// The OpenAI wire format: chat completions, completions, responses, embeddings. Prompt counts include cached tokens and
// cache writes, completion counts include reasoning: both are taken apart here, and nowhere else.
// Source: platform.openai.com API reference; the odd fields of compatible vendors are named where they are read.
import { parseUsd } from "../../ledger/money.ts";
import { contextTokens, readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import {
  BATCH_FILE,
  compactUsage,
  findDeep,
  objectAt,
  parseObject,
  PLAIN_CALL,
  readLimit,
  STORED_PROMPT,
  textAt,
  unknownNumbers,
} from "./dialect.ts";
import { createMediaReader, describeMedia, MEDIA_ROUTES } from "./openai-media.ts";
import type { Call, Dialect, JsonObject, KnownFields, Reading, Refusal, Route, UsageReader } from "./dialect.ts";

const ROUTES: readonly Route[] = [
  { method: "POST", path: "/chat/completions", endpoint: "chat_completions", kind: "metered" },
  { method: "POST", path: "/completions", endpoint: "completions", kind: "metered" },
  { method: "POST", path: "/responses", endpoint: "responses", kind: "metered" },
  { method: "POST", path: "/responses/compact", endpoint: "responses_compact", kind: "metered" },
  { method: "GET", path: "/responses/{id}", endpoint: "responses", kind: "result" },
  { method: "POST", path: "/responses/{id}/cancel", endpoint: "responses", kind: "result" },
  { method: "DELETE", path: "/responses/{id}", endpoint: "responses_delete", kind: "free", scope: "work" },
  {
    method: "GET",
    path: "/responses/{id}/input_items",
    endpoint: "responses_input_items",
    kind: "free",
    scope: "work",
  },
  { method: "POST", path: "/batches", endpoint: "batches", kind: "metered" },
  { method: "GET", path: "/batches", endpoint: "batches_list", kind: "free", scope: "account" },
  { method: "GET", path: "/batches/{id}", endpoint: "batches", kind: "result" },
  { method: "POST", path: "/batches/{id}/cancel", endpoint: "batches", kind: "result" },
  { method: "POST", path: "/files", endpoint: "files", kind: "free", scope: "account" },
  { method: "GET", path: "/files", endpoint: "files", kind: "free", scope: "account" },
  { method: "GET", path: "/files/{id}", endpoint: "files", kind: "free", scope: "account" },
  { method: "DELETE", path: "/files/{id}", endpoint: "files", kind: "free", scope: "account" },
  { method: "GET", path: "/files/{id}/content", endpoint: "files", kind: "free", scope: "account" },
  { method: "POST", path: "/embeddings", endpoint: "embeddings", kind: "metered" },
  ...MEDIA_ROUTES,
  { method: "POST", path: "/moderations", endpoint: "moderations", kind: "free" },
  { method: "POST", path: "/responses/input_tokens", endpoint: "responses_input_tokens", kind: "free" },
  { method: "GET", path: "/models", endpoint: "models", kind: "free" },
  { method: "GET", path: "/models/{model}", endpoint: "model", kind: "free" },
];

/** A service tier that the provider chooses by itself is not asked for. */
const OWN_CHOICE = new Set(["auto", "default"]);
/** Tools that run at the provider and bring tokens or fees that the body does not show. */
const CLIENT_TOOLS = new Set(["function", "custom"]);

export const openai: Dialect = {
  name: "openai",
  version: { pattern: /^v1$/, default: "v1" },
  routes: ROUTES,
  credentialHeader: "authorization",
  bodyFields: ["usage", "model", "object", "data", "service_tier", "id", "status", "tool_usage", "error", "x_groq"],

  refuses: () => undefined,

  workId: ({ parameters }) => parameters["id"] ?? "",

  describe({ route, parameters }, body) {
    if (route.endpoint === "batches") return BATCH;
    // A deployment in the path decides, whatever the body says.
    const deployment = parameters["model"];
    const media = describeMedia(route.endpoint, deployment === undefined ? body : { ...body, model: deployment });
    if (media) return media;
    const tier = textAt(body, "service_tier");
    return {
      endpoint: route.endpoint,
      model: deployment ?? textAt(body, "model") ?? "",
      stream: body["stream"] === true,
      tiers: tier === undefined || OWN_CHOICE.has(tier) ? [] : [tier === "fast" ? "priority" : tier],
      maxOutputTokens: maxOutput(route.endpoint, body),
      answers: answers(body),
      openInput: openInput(body),
      unbounded: unbounded(body),
      bodyTags: bodyTags(body),
    };
  },

  rewrite(call, body, parsed) {
    const asks = call.stream && (call.endpoint === "chat_completions" || call.endpoint === "completions");
    if (!asks || objectAt(parsed, "stream_options")?.["include_usage"] === true) return undefined;
    if (parsed["stream_options"] !== undefined && parsed["stream_options"] !== null) {
      const options = { ...objectAt(parsed, "stream_options"), include_usage: true };
      return { body: Buffer.from(JSON.stringify({ ...parsed, stream_options: options })), hides: true };
    }
    // Without the field of its own, the rest of the body keeps its bytes: one member is put before the closing brace.
    if ("stream_options" in parsed)
      return { body: Buffer.from(JSON.stringify({ ...parsed, stream_options: { include_usage: true } })), hides: true };
    const end = body.lastIndexOf(0x7d);
    return {
      body: Buffer.concat([
        body.subarray(0, end),
        Buffer.from(',"stream_options":{"include_usage":true}'),
        body.subarray(end),
      ]),
      hides: true,
    };
  },

  reader: (call, hides) => createMediaReader(call) ?? createReader(call, hides),

  refusal(refusal, requestId) {
    const [type, code] = REFUSAL_TYPES[refusal.kind];
    return {
      status: refusal.status,
      body: JSON.stringify({ error: { message: refusal.message, type, param: null, code } }),
      headers: ["x-request-id", requestId],
    };
  },

  errorEvent(message) {
    return `event: error\ndata: ${JSON.stringify({ type: "error", code: "server_error", message, param: null, error: { message, type: "server_error", param: null, code: "server_error" } })}\n\n`;
  },
};

/** A batch runs what stands in a file at the provider: its model and its size show when it is done. */
const BATCH: Call = {
  ...PLAIN_CALL,
  endpoint: "batches",
  model: "",
  tiers: ["batch"],
  openInput: BATCH_FILE,
  unbounded: BATCH_FILE,
};

const REFUSAL_TYPES: { readonly [kind in Refusal["kind"]]: readonly [type: string, code: string | null] } = {
  invalid: ["invalid_request_error", "invalid_request"],
  unauthorized: ["invalid_request_error", "invalid_api_key"],
  forbidden: ["invalid_request_error", "permission_denied"],
  not_found: ["invalid_request_error", "not_metered"],
  too_large: ["invalid_request_error", "request_too_large"],
  unsupported_media: ["invalid_request_error", "unsupported_media_type"],
  money: ["insufficient_quota", "insufficient_quota"],
  rate: ["requests", "rate_limit_exceeded"],
  upstream: ["server_error", "upstream_unreachable"],
  timeout: ["server_error", "upstream_timeout"],
  unavailable: ["server_error", "ledger_unavailable"],
  upgrade: ["invalid_request_error", "upgrade_not_metered"],
};

function maxOutput(endpoint: string, body: JsonObject): number | undefined {
  switch (endpoint) {
    case "embeddings":
      return 0;
    case "responses":
    case "responses_compact":
      return readLimit(body["max_output_tokens"]);
    default: {
      const limits = [readLimit(body["max_completion_tokens"]), readLimit(body["max_tokens"])].filter(
        (limit) => limit !== undefined,
      );
      // Without a limit a completion has 16 tokens; a chat as many as the model can.
      return limits.length > 0 ? Math.max(...limits) : endpoint === "completions" ? 16 : undefined;
    }
  }
}

function answers(body: JsonObject): number {
  const prompts = Array.isArray(body["prompt"]) ? body["prompt"].length : 1;
  return Math.max(readLimit(body["n"]) ?? 1, readLimit(body["best_of"]) ?? 1, 1) * Math.max(prompts, 1);
}

function openInput(body: JsonObject): string | undefined {
  const stored = ["previous_response_id", "conversation"].find(
    (field) => body[field] !== undefined && body[field] !== null,
  );
  if (stored !== undefined) return stored;
  if (objectAt(body, "prompt")) return STORED_PROMPT;
  return findDeep(body["messages"] ?? body["input"], isRemotePart) ? "a picture or file" : undefined;
}

function unbounded(body: JsonObject): string | undefined {
  if (body["background"] === true) return "background";
  if (objectAt(body, "web_search_options")) return "web_search_options";
  const tools = body["tools"] ?? [];
  if (!Array.isArray(tools)) return "tools";
  const hosted = tools
    .map((tool) => textAt(tool as JsonObject, "type"))
    .find((type) => type !== undefined && !CLIENT_TOOLS.has(type));
  return hosted === undefined ? undefined : `tool ${hosted}`;
}

/** Pictures, sound and files cost tokens by rules of their own, wherever their bytes are; references stand for what lies at
 *  the provider. */
const REMOTE_PARTS = new Set(["image_url", "input_audio", "file_id", "file_url", "file_data", "audio"]);

function isRemotePart(name: string, value: unknown): boolean {
  return (
    (REMOTE_PARTS.has(name) && value !== null && value !== undefined) || (name === "type" && value === "item_reference")
  );
}

function bodyTags(body: JsonObject): { [name: string]: string } {
  const user = textAt(body, "user") ?? textAt(body, "safety_identifier");
  return user === undefined ? {} : { user };
}

function createReader(call: Call, hides: boolean): UsageReader {
  let usage: Usage | undefined;
  let extra: Reading["extra"] = [];
  let reasoning: number | undefined;
  let servedModel: string | undefined;
  let tier: string | undefined;
  let responseId: string | undefined;
  let raw: string | undefined;
  let statedCostNanoUsd: bigint | undefined;
  let unknownFields: readonly string[] = [];
  let ended = false;
  let failed = false;
  let pending = false;
  let sawFirst = false;
  let context: number | undefined;

  const take = (answer: JsonObject): void => {
    servedModel = textAt(answer, "model") ?? servedModel;
    responseId = textAt(answer, "id") ?? responseId;
    tier = textAt(answer, "service_tier") ?? tier;
    const stated = objectAt(answer, "usage") ?? objectAt(objectAt(answer, "x_groq"), "usage");
    if (stated) {
      const read = readUsage(stated, answer);
      if (read) ({ usage, reasoning } = read);
      extra = imageToolUse(answer);
      raw = JSON.stringify(answer["tool_usage"] ? { ...stated, tool_usage: answer["tool_usage"] } : stated);
      statedCostNanoUsd = statedCost(stated);
      unknownFields = unknownNumbers(stated, KNOWN);
    }
  };

  return {
    needsWholeBody: call.endpoint !== "embeddings",

    body(body) {
      ended = true;
      failed = objectAt(body, "error") !== undefined;
      const status = textAt(body, "status")?.toLowerCase();
      pending = HAS_STATES.has(call.endpoint) && status !== undefined && !DONE.has(status);
      take(body);
      // What failed before it began used nothing, and says nothing.
      if (call.endpoint === "batches" && status === "failed" && !usage) usage = {};
      if (call.endpoint !== "batches") return;
      tier = "batch";
      // The sum of all its answers: how long each was is not said.
      const { completed } = objectAt(body, "request_counts") ?? {};
      context = usage && Math.ceil(contextTokens(usage) / Math.max(readCount(completed) ?? 1, 1));
    },

    event(data) {
      if (data.startsWith("[DONE]")) {
        ended = true;
        return "last";
      }
      if (call.endpoint.startsWith("responses")) {
        const kind =
          /^\s*\{\s*"type"\s*:\s*"(response\.(?:created|completed|incomplete|failed)|error)"/.exec(data)?.[1] ??
          lateType(data);
        if (kind === undefined) return "pass";
        const event = parseObject(data);
        if (!event) return "pass";
        const response = objectAt(event, "response");
        if (response) take(response);
        failed ||= kind === "error" || kind === "response.failed";
        ended ||= kind !== "response.created";
        return ended ? "last" : "pass";
      }
      const hasUsage = hasObject(data, '"usage"');
      if (sawFirst && !hasUsage && !data.includes('"error"')) return "pass";
      const event = parseObject(data);
      if (!event) return "pass";
      sawFirst ||= textAt(event, "model") !== undefined;
      if (event["error"] !== undefined && event["error"] !== null) {
        failed = true;
        return "last";
      }
      take(event);
      const choices = event["choices"];
      if (hides && hasUsage && Array.isArray(choices) && choices.length === 0) return "hide";
      // Vendors that put usage into every chunk: only the one after the last word ends the stream.
      return hasUsage && Array.isArray(choices) && choices.length === 0 ? "last" : "pass";
    },

    reading: (): Reading => ({
      usage,
      context,
      extra,
      reasoning,
      servedModel,
      tiers: tier === undefined ? [] : [tier],
      responseId,
      raw,
      statedCostNanoUsd,
      unknownFields,
      final: usage !== undefined,
      ended,
      failed,
      // A stream of background work may end, or be left, before the work does.
      pending: pending || (call.unbounded === "background" && !ended && responseId !== undefined),
    }),
  };
}

/** What goes on unless it says that it is done. */
const HAS_STATES = new Set(["responses", "batches"]);
const DONE = new Set(["completed", "incomplete", "failed", "cancelled", "expired"]);

/** The type of a Responses event whose first member is another one. */
function lateType(data: string): string | undefined {
  return /"type"\s*:\s*"(response\.(?:completed|incomplete|failed))"/.exec(data)?.[1];
}

/** Whether `name` is followed by an object (OpenAI writes "usage":null into every other chunk). */
function hasObject(data: string, name: string): boolean {
  for (let at = data.indexOf(name); at >= 0; at = data.indexOf(name, at + name.length)) {
    const next = /\s*:\s*(.)/y;
    next.lastIndex = at + name.length;
    if (next.exec(data)?.[1] === "{") return true;
  }
  return false;
}

/** Takes a usage object apart into disjoint classes. Undefined when it holds no counts that make sense. */
function readUsage(
  stated: JsonObject,
  answer: JsonObject,
): { usage: Usage; reasoning: number | undefined } | undefined {
  const isResponses = stated["input_tokens"] !== undefined;
  const prompt = readCount(isResponses ? stated["input_tokens"] : stated["prompt_tokens"]);
  const total = readCount(stated["total_tokens"]);
  // Embeddings, and completions that wrote nothing, name the prompt and the total only.
  const completion =
    readCount(isResponses ? stated["output_tokens"] : stated["completion_tokens"]) ??
    (prompt !== undefined && total !== undefined && total >= prompt ? total - prompt : undefined);
  if (prompt === undefined || completion === undefined) return undefined;
  const inputDetails =
    objectAt(stated, isResponses ? "input_tokens_details" : "prompt_tokens_details") ??
    objectAt(stated, "prompt_token_details");
  const outputDetails = objectAt(stated, isResponses ? "output_tokens_details" : "completion_tokens_details");

  // Cached tokens: OpenAI in the details; DeepSeek, Moonshot, Together and older Mistral at the top level.
  const cached =
    readCount(inputDetails?.["cached_tokens"]) ??
    readCount(stated["cached_tokens"]) ??
    readCount(stated["prompt_cache_hit_tokens"]) ??
    readCount(stated["num_cached_tokens"]) ??
    0;
  const written = readCount(inputDetails?.["cache_write_tokens"]) ?? 0;
  const writtenLong = Math.min(
    readCount(objectAt(inputDetails, "cache_write_tokens_details")?.["ttl_12h_tokens"]) ?? 0,
    written,
  );
  // More cached than prompted (Grok on Azure) has no known meaning: the prompt is billed as plain input.
  const cacheRead = cached > prompt ? 0 : cached;
  // OpenRouter names the same tokens as read and as written when one call did both: they are not subtracted twice.
  const uncached = prompt - cacheRead - written >= 0 ? prompt - cacheRead - written : prompt - cacheRead;
  const inputAudio = Math.min(readCount(inputDetails?.["audio_tokens"]) ?? 0, uncached);

  const reasoning = readCount(outputDetails?.["reasoning_tokens"]);
  // xAI's chat counts reasoning beside the completion; the total tells.
  const output =
    !isResponses && reasoning !== undefined && reasoning > 0 && total === prompt + completion + reasoning
      ? completion + reasoning
      : completion;
  const outputAudio = Math.min(readCount(outputDetails?.["audio_tokens"]) ?? 0, output);

  return {
    reasoning,
    usage: compactUsage({
      input: uncached - inputAudio,
      input_audio: inputAudio,
      cache_read: cacheRead,
      cache_write_30m: written - writtenLong,
      cache_write_12h: writtenLong,
      output: output - outputAudio,
      output_audio: outputAudio,
      web_search: webSearches(answer),
      file_search: countItems(answer, "file_search_call"),
      container: containers(answer),
    }),
  };
}

/** Billable searches: stated, or counted from the answer's items (an upper bound). */
function webSearches(answer: JsonObject): number {
  return (
    readCount(objectAt(objectAt(answer, "tool_usage"), "web_search")?.["num_requests"]) ??
    countItems(answer, "web_search_call", (item) => (objectAt(item, "action")?.["type"] ?? "search") === "search")
  );
}

/** Containers that the code interpreter worked in. */
function containers(answer: JsonObject): number {
  return new Set(outputItems(answer, "code_interpreter_call").map((item) => textAt(item, "container_id") ?? "")).size;
}

function outputItems(answer: JsonObject, type: string): JsonObject[] {
  const output = Array.isArray(answer["output"]) ? (answer["output"] as JsonObject[]) : [];
  return output.filter((item) => textAt(item, "type") === type);
}

function countItems(answer: JsonObject, type: string, test: (item: JsonObject) => boolean = () => true): number {
  return outputItems(answer, type).filter(test).length;
}

/** Pictures made by a tool are a second model's use, on top of the answer's own. */
function imageToolUse(answer: JsonObject): Reading["extra"] {
  const stated = objectAt(objectAt(answer, "tool_usage"), "image_gen");
  const [input, output] = [readCount(stated?.["input_tokens"]), readCount(stated?.["output_tokens"])];
  if (!stated || input === undefined || output === undefined) return [];
  const images = Math.min(readCount(objectAt(stated, "input_tokens_details")?.["image_tokens"]) ?? 0, input);
  const tools = Array.isArray(answer["tools"]) ? (answer["tools"] as JsonObject[]) : [];
  const model =
    textAt(
      tools.find((tool) => textAt(tool, "type") === "image_generation"),
      "model",
    ) ?? IMAGE_TOOL_MODEL;
  return [{ model, usage: compactUsage({ input: input - images, input_image: images, output_image: output }) }];
}

/** What vendors say that it cost: xAI in ticks of 1e-10 USD, OpenRouter and Perplexity in USD. No cost at all is not believed:
 *  some say 0 where they do not know. */
function statedCost(stated: JsonObject): bigint | undefined {
  const ticks = readCount(stated["cost_in_usd_ticks"]);
  if (ticks) return (BigInt(ticks) + 5n) / 10n;
  const amount = objectAt(stated, "cost")?.["total_cost"] ?? stated["cost"];
  return typeof amount === "number" && amount > 0 && amount < MOST_STATED_USD
    ? parseUsd(amount.toFixed(NANO_DIGITS))
    : undefined;
}

const MOST_STATED_USD = 1_000_000;
const NANO_DIGITS = 9;

/** What draws when the tool names no model. */
const IMAGE_TOOL_MODEL = "gpt-image-1";

/** What OpenAI and the vendors that speak its format put into usage: counts that are read above, parts and sums of them, and
 *  times and prices for information. */
const PROMPT_DETAILS: KnownFields = {
  cached_tokens: true,
  cache_write_tokens: true,
  cache_write_tokens_details: { ttl_30m_tokens: true, ttl_12h_tokens: true },
  audio_tokens: true,
  text_tokens: true,
  image_tokens: true,
  video_tokens: true,
  cached_tokens_internal: true,
};
const COMPLETION_DETAILS: KnownFields = {
  reasoning_tokens: true,
  audio_tokens: true,
  text_tokens: true,
  image_tokens: true,
  accepted_prediction_tokens: true,
  rejected_prediction_tokens: true,
};
const KNOWN: KnownFields = {
  prompt_tokens: true,
  completion_tokens: true,
  input_tokens: true,
  output_tokens: true,
  total_tokens: true,
  reasoning_tokens: true,
  prompt_tokens_details: PROMPT_DETAILS,
  prompt_token_details: PROMPT_DETAILS,
  input_tokens_details: PROMPT_DETAILS,
  completion_tokens_details: COMPLETION_DETAILS,
  output_tokens_details: COMPLETION_DETAILS,
  cached_tokens: true,
  prompt_cache_hit_tokens: true,
  prompt_cache_miss_tokens: true,
  num_cached_tokens: true,
  // Groq's times, and the stated costs of xAI, OpenRouter and Perplexity.
  queue_time: true,
  prompt_time: true,
  completion_time: true,
  total_time: true,
  cost_in_usd_ticks: true,
  cost: true,
  cost_details: {
    upstream_inference_cost: true,
    upstream_inference_prompt_cost: true,
    upstream_inference_completions_cost: true,
  },
};
