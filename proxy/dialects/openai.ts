// The OpenAI wire format: its routes, what a request asks for, how answers and streams end, how it says no. Pictures, sound and
// film are in openai-media.ts, the counts of an answer in openai-usage.ts.
// Source: platform.openai.com API reference.
import { contextTokens, readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import { BATCH_FILE, PLAIN_CALL, STORED_PROMPT, UNNAMED_MODEL } from "./call.ts";
import { countWords } from "./words.ts";
import { findDeep, objectAt, objectsIn, parseObject, rawOf, readLimit, textAt, textsOf } from "./json.ts";
import { unknownNumbers } from "./stated.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { Reading, UsageReader } from "./reading.ts";
import type { Route } from "./routes.ts";
import { createMediaReader, describeMedia, MEDIA_ROUTES } from "./openai-media.ts";
import { converseRealtime, converseResponses } from "./openai-realtime.ts";
import type { KnownBy } from "./fields.ts";
import { otherModels, predictedBytes, referencesOf, unknownCost, unknownName } from "./openai-fields.ts";
import { renderOpenAiErrorEvent, renderOpenAiRefusal } from "./openai-refusals.ts";
import { alwaysSearched, imageToolUse, KNOWN, passesOf, readUsage, statedCost } from "./openai-usage.ts";
import type { Dialect } from "./dialect.ts";

const ROUTES: readonly Route[] = [
  { method: "POST", path: "/chat/completions", endpoint: "chat_completions", kind: "metered" },
  { method: "GET", path: "/chat/completions", endpoint: "stored_chats", kind: "free", scope: "account" },
  { method: "GET", path: "/chat/completions/{id}", endpoint: "stored_chats", kind: "free", scope: "work" },
  { method: "POST", path: "/chat/completions/{id}", endpoint: "stored_chats", kind: "free", scope: "work" },
  { method: "DELETE", path: "/chat/completions/{id}", endpoint: "stored_chats", kind: "free", scope: "work" },
  { method: "GET", path: "/chat/completions/{id}/messages", endpoint: "stored_chats", kind: "free", scope: "work" },
  { method: "POST", path: "/completions", endpoint: "completions", kind: "metered" },
  { method: "POST", path: "/responses", endpoint: "responses", kind: "metered" },
  { method: "GET", path: "/responses", endpoint: "responses", kind: "socket" },
  { method: "GET", path: "/realtime", endpoint: "realtime", kind: "socket" },
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
  { method: "POST", path: "/decisions", endpoint: "decisions", kind: "metered" },
  { method: "POST", path: "/conversations", endpoint: "conversations", kind: "free", makes: true },
  { method: "GET", path: "/conversations/{id}", endpoint: "conversations", kind: "free", scope: "work" },
  { method: "POST", path: "/conversations/{id}", endpoint: "conversations", kind: "free", scope: "work" },
  { method: "DELETE", path: "/conversations/{id}", endpoint: "conversations", kind: "free", scope: "work" },
  { method: "GET", path: "/conversations/{id}/items", endpoint: "conversations", kind: "free", scope: "work" },
  { method: "POST", path: "/conversations/{id}/items", endpoint: "conversations", kind: "free", scope: "work" },
  { method: "GET", path: "/conversations/{id}/items/{item}", endpoint: "conversations", kind: "free", scope: "work" },
  {
    method: "DELETE",
    path: "/conversations/{id}/items/{item}",
    endpoint: "conversations",
    kind: "free",
    scope: "work",
  },
  { method: "POST", path: "/batches", endpoint: "batches", kind: "metered" },
  { method: "GET", path: "/batches", endpoint: "batches_list", kind: "free", scope: "account" },
  { method: "GET", path: "/batches/{id}", endpoint: "batches", kind: "result" },
  { method: "POST", path: "/batches/{id}/cancel", endpoint: "batches", kind: "result" },
  { method: "POST", path: "/files", endpoint: "files", kind: "free", makes: true },
  { method: "GET", path: "/files", endpoint: "files", kind: "free", scope: "account" },
  { method: "GET", path: "/files/{id}", endpoint: "files", kind: "free", scope: "work" },
  { method: "DELETE", path: "/files/{id}", endpoint: "files", kind: "free", scope: "work" },
  { method: "GET", path: "/files/{id}/content", endpoint: "files", kind: "free", scope: "work" },
  // A large file in parts: free, and a file when it is complete.
  { method: "POST", path: "/uploads", endpoint: "uploads", kind: "free", makes: true },
  { method: "POST", path: "/uploads/{id}/parts", endpoint: "uploads", kind: "free", scope: "work" },
  { method: "POST", path: "/uploads/{id}/cancel", endpoint: "uploads", kind: "free", scope: "work" },
  { method: "POST", path: "/uploads/{id}/complete", endpoint: "uploads", kind: "free", scope: "work", makes: true },
  { method: "POST", path: "/embeddings", endpoint: "embeddings", kind: "metered" },
  ...MEDIA_ROUTES,
  { method: "POST", path: "/moderations", endpoint: "moderations", kind: "free", freeAt: "openai" },
  { method: "POST", path: "/responses/input_tokens", endpoint: "responses_input_tokens", kind: "free" },
  { method: "GET", path: "/models", endpoint: "models", kind: "free" },
  { method: "GET", path: "/models/{model}", endpoint: "model", kind: "free" },
];

/** A service tier that the provider chooses by itself is not asked for. */
const OWN_CHOICE = new Set(["auto", "default"]);

export const openai: Dialect = {
  name: "openai",
  version: { pattern: /^v1$/, default: "v1" },
  routes: ROUTES,
  limits: {
    switches: ["stream"],
    counts: ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of", "partial_images", "seconds"],
    textCounts: ["seconds"],
  },
  keyProtocol: /^openai-insecure-api-key\.(.+)$/,
  credentialHeader: "authorization",
  bodyFields: ["usage", "model", "object", "data", "service_tier", "id", "status", "tool_usage", "error", "x_groq"],

  // What was uploaded in parts answers with the file that it became.
  made: (answer) => textAt(objectAt(answer, "file") ?? answer, "id"),

  refuses: () => undefined,

  workId: ({ parameters }) => parameters["id"] ?? "",

  describe({ route, parameters }, body, _headers, knownBy) {
    if (route.endpoint === "batches") return BATCH;
    // A deployment in the path decides, whatever the body says.
    const deployment = parameters["model"];
    const media = describeMedia(route, deployment === undefined ? body : { ...body, model: deployment }, knownBy);
    if (media) return media;
    const tier = textAt(body, "service_tier");
    const model = deployment ?? textAt(body, "model") ?? "";
    const most = maxOutput(route.endpoint, body, knownBy);
    const search = alwaysSearched(model);
    return {
      endpoint: route.endpoint,
      model,
      stream: body["stream"] === true,
      tiers: [
        ...(tier === undefined || OWN_CHOICE.has(tier) ? [] : [tier === "fast" ? "priority" : tier]),
        ...askedSearchTier(body, knownBy),
      ],
      maxOutputTokens: most === undefined ? undefined : most + predictedBytes(body),
      answers: answers(body),
      // An answer that goes on from another one may leave its model to the provider.
      openInput:
        model === "" && route.endpoint === "responses" && !objectAt(body, "prompt") ? UNNAMED_MODEL : openInput(body),
      unbounded: unbounded(route.endpoint, body) ?? unknownCost(route.endpoint, model, body, knownBy),
      unknown: unknownName(route.endpoint, body, knownBy),
      goesOn: route.endpoint === "responses" && isBackground(body),
      inputs: inputs(route.endpoint, body),
      continues:
        openInput({ ...body, previous_response_id: undefined }) === undefined
          ? textAt(body, "previous_response_id")
          : undefined,
      ...(search ? { fees: search } : {}),
      otherModels: otherModels(body),
      ...(makesSound(body) ? { hidden: "sound" } : {}),
      mayThink: mayThink(model, body),
      isText: !makesPictures(model, body),
      hiddenTokens: hiddenTokens(body),
      ...(route.endpoint === "chat_completions" && body["store"] === true ? { isStored: true } : {}),
      bodyTags: bodyTags(body),
    };
  },

  references: referencesOf,

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

  converse(match, query, knownBy) {
    if (match.route.endpoint === "responses")
      return converseResponses(
        (body) => openai.describe(match, body, {}, knownBy),
        (call) => createReader(call, false),
      );
    // A call that goes on elsewhere (`call_id`) names no model.
    const [model, ...more] = [...query.getAll("model"), ...query.getAll("deployment")];
    if (more.length > 0) return undefined;
    return model !== undefined || query.get("intent") === "transcription" ? converseRealtime(model) : undefined;
  },

  refusal: renderOpenAiRefusal,
  errorEvent: renderOpenAiErrorEvent,
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

function maxOutput(endpoint: string, body: JsonObject, { vendor }: KnownBy): number | undefined {
  switch (endpoint) {
    case "embeddings":
      return 0;
    case "responses":
    case "responses_compact":
      return readLimit(body["max_output_tokens"]) || undefined;
    default: {
      const limits = [readLimit(body["max_completion_tokens"]), readLimit(body["max_tokens"])].filter(
        (limit) => limit !== undefined && limit > 0,
      ) as number[];
      // Without a limit a completion of OpenAI has 16 tokens; a chat, and one of others, as many as the model can.
      const isShort =
        endpoint === "completions" && vendor === "openai" && OWN_COMPLETIONS.test(textAt(body, "model") ?? "");
      return limits.length > 0 ? Math.max(...limits) : isShort ? 16 : undefined;
    }
  }
}

const OWN_COMPLETIONS = /^(gpt-3\.5-turbo-instruct|davinci|babbage)/;

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
  if (objectsIn(body["input"]).some(liesElsewhere)) return "an item that lies at the provider";
  // Which of them counts is the provider's to say.
  return findDeep([body["messages"], body["input"], body["instructions"]], isRemotePart)
    ? "a picture or file"
    : undefined;
}

function unbounded(endpoint: string, body: JsonObject): string | undefined {
  // Elsewhere nothing goes on: what is said there changes nothing that is known.
  if (isBackground(body)) return endpoint === "responses" ? BACKGROUND : "background where nothing is known of it";
  if (objectAt(body, "web_search_options")) return "web_search_options";
  // It may bring tools and a model of its own.
  return objectAt(body, "prompt") ? STORED_PROMPT : undefined;
}

function isBackground({ background }: JsonObject): boolean {
  return background !== undefined && background !== false && background !== null;
}

/** Texts of an embedding, prompts of a completion: a list of numbers is one text, in tokens. */
function inputs(endpoint: string, body: JsonObject): number {
  const list = endpoint === "embeddings" ? body["input"] : endpoint === "completions" ? body["prompt"] : undefined;
  return Array.isArray(list) && typeof list[0] !== "number" ? Math.max(list.length, 1) : 1;
}

/** Models that do not reason, and requests that switch it off. Of any other nobody knows. */
const OBEDIENT_MODELS = /^(openai\/)?gpt-5\.\d+(?!.*-pro)/;
const PLAIN_MODELS = /^(openai\/)?(ft:)?(gpt-3\.5|gpt-4|chatgpt-4o|babbage-|davinci-|text-embedding-)/;

function mayThink(model: string, body: JsonObject): boolean {
  if (PLAIN_MODELS.test(model)) return false;
  const efforts = [textAt(body, "reasoning_effort"), textAt(objectAt(body, "reasoning"), "effort")].filter(
    (effort) => effort !== undefined,
  );
  return !OBEDIENT_MODELS.test(model) || efforts.length === 0 || efforts.some((effort) => effort !== "none");
}

/** Whether pictures may be among its answer: their tokens have a price of their own. */
function makesPictures(model: string, { modalities }: JsonObject): boolean {
  const isMore = Array.isArray(modalities) && modalities.some((one) => one !== "text");
  return isMore || /image|-tts|audio/.test(model);
}

/** What tools, schemas and messages are framed with beyond their own bytes: a few tokens each. */
function hiddenTokens(body: JsonObject): number {
  const listed = [body["tools"], body["functions"], body["messages"]].map((list) =>
    Array.isArray(list) ? list.length : 0,
  );
  const [tools = 0, functions = 0, messages = 0] = listed;
  const isFramed = tools + functions > 0 || body["response_format"] !== undefined || body["text"] !== undefined;
  return (isFramed ? PREAMBLE_TOKENS : 0) + 8 * (tools + functions) + 4 * messages;
}

const PREAMBLE_TOKENS = 128;

/** Pictures, sound and files cost tokens by rules of their own, wherever their bytes are; references stand for what lies at
 *  the provider. */
const REMOTE_PARTS = new Set(["image_url", "input_audio", "file_id", "file_url", "file_data", "audio"]);

function isRemotePart(name: string, value: unknown): boolean {
  return (
    (REMOTE_PARTS.has(name) && value !== null && value !== undefined) || (name === "type" && value === "item_reference")
  );
}

/** An item that names what it was, and does not hold it. */
function liesElsewhere(item: JsonObject): boolean {
  switch (item["type"]) {
    case "reasoning":
      return textAt(item, "encrypted_content") === undefined && !Array.isArray(item["content"]);
    case "image_generation_call":
      return textAt(item, "result") === undefined;
    default:
      return false;
  }
}

/** Whether a chat answers in sound: of that no words go by. */
function makesSound(body: JsonObject): boolean {
  const modalities = body["modalities"];
  return objectAt(body, "audio") !== undefined || (Array.isArray(modalities) && modalities.includes("audio"));
}

function bodyTags(body: JsonObject): { [name: string]: string } {
  const user = textAt(body, "user") ?? textAt(body, "safety_identifier");
  return { ...(user === undefined ? {} : { user }), ...textsOf(objectAt(body, "metadata")) };
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
  let isLastUsage = false;
  /** Of several answers, those that have ended. */
  const endedChoices = new Set<unknown>();
  let isContradictory = false;
  let isEstimate = false;
  let passes = 1;
  let makes: readonly string[] = [];
  let context: number | undefined;

  const take = (answer: JsonObject): void => {
    servedModel = textAt(answer, "model") ?? servedModel;
    responseId = textAt(answer, "id") ?? responseId;
    if (call.isStored && responseId !== undefined) makes = [responseId];
    tier = textAt(answer, "service_tier") ?? tier;
    const stated = objectAt(answer, "usage") ?? objectAt(objectAt(answer, "x_groq"), "usage");
    if (stated) {
      tier = textAt(stated, "service_tier") ?? searchTier(stated) ?? tier;
      const read = readUsage(stated, answer);
      if (read) ({ usage, reasoning, isContradictory } = read);
      ({ extra, isEstimate } = imageToolUse(answer));
      passes = passesOf(answer);
      raw = rawOf(answer["tool_usage"] ? { ...stated, tool_usage: answer["tool_usage"] } : stated);
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
      take(body);
      // Others may not refer to an answer that the provider keeps.
      if (call.endpoint === "responses" && body["store"] !== false && responseId !== undefined) makes = [responseId];
      pending = HAS_STATES.has(call.endpoint) && status !== undefined && !DONE.has(status);
      // A state that nobody knows, with its usage: that is its last word.
      if (pending && usage && !GOES_ON.has(status ?? "")) pending = false;
      // What failed before it began used nothing, and says nothing.
      if (call.endpoint === "batches" && status === "failed" && !usage) usage = {};
      if (call.endpoint !== "batches") return;
      makes = [textAt(body, "output_file_id"), textAt(body, "error_file_id")].filter((id) => id !== undefined);
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
        if (response && response["store"] !== false && responseId !== undefined) makes = [responseId];
        failed ||= kind === "error" || kind === "response.failed";
        ended ||= kind !== "response.created";
        return ended ? "last" : "pass";
      }
      const hasUsage = hasObject(data, '"usage"');
      const mayEnd = FINISHED.test(data);
      if (sawFirst && !hasUsage && !mayEnd && !data.includes('"error"')) return "pass";
      const event = parseObject(data);
      if (!event) return "pass";
      sawFirst ||= textAt(event, "model") !== undefined;
      if (event["error"] !== undefined && event["error"] !== null) {
        failed = true;
        return "last";
      }
      take(event);
      const choices = event["choices"];
      // Vendors that put usage into every chunk: only the one with the last word is whole, and of several answers that of the last.
      for (const choice of objectsIn(choices))
        if (textAt(choice, "finish_reason") !== undefined) endedChoices.add(choice["index"] ?? 0);
      isLastUsage ||=
        hasUsage && (!Array.isArray(choices) || choices.length === 0 || endedChoices.size >= Math.max(call.answers, 1));
      if (hides && hasUsage && Array.isArray(choices) && choices.length === 0) return "hide";
      return hasUsage && Array.isArray(choices) && choices.length === 0 ? "last" : "pass";
    },

    isFinishing: () => endedChoices.size >= Math.max(call.answers, 1),

    goesOn: (data) => CHOICE.test(data),

    words: (data) => countWords(data, call.endpoint.startsWith("responses") ? RESPONSE_WORDS : CHAT_WORDS),

    reading: (): Reading => ({
      usage,
      context,
      isContextGuess: context !== undefined,
      extra,
      reasoning,
      servedModel,
      tiers: tier === undefined ? [] : [tier],
      responseId,
      raw,
      statedCostNanoUsd,
      isContradictory,
      isEstimate,
      passes,
      unknownFields,
      makes,
      final: usage !== undefined && (ended || isLastUsage),
      ended,
      failed,
      // A stream of background work may end, or be left, before the work does.
      pending: pending || (call.goesOn === true && !ended && responseId !== undefined),
    }),
  };
}

/** How much Perplexity searched: it picks the fee. */
function searchTier(stated: JsonObject): string | undefined {
  const size = textAt(stated, "search_context_size");
  return size === "medium" || size === "high" ? `variant:${size}` : undefined;
}

function askedSearchTier(body: JsonObject, { vendor }: KnownBy): string[] {
  if (vendor !== "perplexity") return [];
  const tier = searchTier(objectAt(body, "web_search_options") ?? {});
  return tier === undefined ? [] : [tier];
}

/** A choice with something in it. */
const CHOICE = /"choices"\s*:\s*\[\s*\{/;
const FINISHED = /"finish_reason"\s*:\s*"/;
/** Where the model's words stand: what a Responses stream repeats at the end of each part is not counted again. */
const RESPONSE_WORDS = ["delta"];
const CHAT_WORDS = ["content", "reasoning_content", "reasoning", "refusal", "arguments", "input", "text"];

/** What goes on unless it says that it is done. */
const HAS_STATES = new Set(["responses", "batches"]);
const DONE = new Set(["completed", "incomplete", "failed", "cancelled", "expired"]);
const GOES_ON = new Set(["queued", "in_progress", "validating", "finalizing", "cancelling"]);
const BACKGROUND = "background";

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
