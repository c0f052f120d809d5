// The Gemini wire format: generateContent, its stream (server-sent events or one JSON array), embeddings. The prompt
// count includes cached tokens and excludes tool-use prompts; candidates exclude thoughts. Usage in a stream is
// cumulative: the last one counts.
// Source: ai.google.dev API reference.
import { readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import {
  BATCH_FILE,
  compactUsage,
  countWords,
  hasOddCounts,
  createPasses,
  findDeep,
  NO_READING,
  objectAt,
  parseObject,
  textAt,
  textsOf,
  unknownNumbers,
} from "./dialect.ts";
import { CACHE_ROUTES, createCacheReader, describeCache } from "./google-cache.ts";
import { createInteractionReader, describeInteraction, INTERACTION_ROUTES } from "./google-interactions.ts";
import { createFilmReader, createPredictionReader, describeFilm, describePrediction } from "./google-media.ts";
import { converseLive } from "./google-live.ts";
import type { Call, Dialect, JsonObject, KnownFields, Reading, Refusal, Route, UsageReader } from "./dialect.ts";

const ROUTES: readonly Route[] = [
  { method: "POST", path: "/models/{model}:generateContent", endpoint: "generate_content", kind: "metered" },
  {
    method: "POST",
    path: "/models/{model}:streamGenerateContent",
    endpoint: "stream_generate_content",
    kind: "metered",
  },
  { method: "POST", path: "/models/{model}:embedContent", endpoint: "embed_content", kind: "metered" },
  { method: "POST", path: "/models/{model}:batchEmbedContents", endpoint: "batch_embed_contents", kind: "metered" },
  { method: "POST", path: "/models/{model}:predict", endpoint: "predict", kind: "metered" },
  { method: "POST", path: "/models/{model}:predictLongRunning", endpoint: "predict_long_running", kind: "metered" },
  ...INTERACTION_ROUTES,
  ...CACHE_ROUTES,
  { method: "GET", path: "/models/{model}/operations/{id}", endpoint: "operations", kind: "free", scope: "work" },
  {
    method: "POST",
    path: "/models/{model}:fetchPredictOperation",
    endpoint: "operations",
    kind: "free",
    scope: "account",
  },
  { method: "GET", path: "/files", endpoint: "files", kind: "free", scope: "account" },
  { method: "GET", path: "/files/{id}", endpoint: "files", kind: "free", scope: "account" },
  { method: "GET", path: "/files/{id}:download", endpoint: "batches", kind: "result" },
  { method: "DELETE", path: "/files/{id}", endpoint: "files", kind: "free", scope: "account" },
  { method: "POST", path: "/models/{model}:batchGenerateContent", endpoint: "batches", kind: "metered" },
  { method: "GET", path: "/batches", endpoint: "batches_list", kind: "free", scope: "account" },
  { method: "GET", path: "/batches/{id}", endpoint: "batches", kind: "result" },
  { method: "POST", path: "/batches/{id}:cancel", endpoint: "batches_state", kind: "free", scope: "work" },
  { method: "DELETE", path: "/batches/{id}", endpoint: "batches_state", kind: "free", scope: "work" },
  { method: "POST", path: "/models/{model}:countTokens", endpoint: "count_tokens", kind: "free" },
  { method: "GET", path: "/ws/{service+}", endpoint: "live", kind: "socket" },
  { method: "GET", path: "/models", endpoint: "models", kind: "free" },
  { method: "GET", path: "/models/{model}", endpoint: "model", kind: "free" },
];

const EMBEDDINGS = new Set(["embed_content", "batch_embed_contents"]);

export const google: Dialect = {
  name: "google",
  version: { pattern: /^v1(beta\d*|alpha\d*)?$/, default: "v1beta" },
  routes: ROUTES,
  credentialHeader: "x-goog-api-key",
  bodyFields: ["predictions", "usageMetadata", "modelVersion", "responseId", "error"],

  workId({ route, parameters: { model = "", id = "" } }) {
    if (route.endpoint === "operations") return `models/${model}/operations/${id}`;
    if (route.path.startsWith("/files/")) return `files/${id}`;
    return route.path.startsWith("/batches/")
      ? `batches/${id}`
      : route.path.startsWith("/cachedContents/")
        ? `cachedContents/${id}`
        : id;
  },

  /** `fields` cuts the usage out of an answer, `alt` can make it another format. */
  refuses(query, { route }) {
    for (const [name, value] of query) {
      const plain = name.replace(/^\$/, "");
      if (
        plain === "alt" &&
        (value === "sse" || (value === "media" && route.path.endsWith(":download")) || JSON_FORMATS.has(value))
      )
        continue;
      if (!HARMLESS_PARAMETERS.has(plain)) return `the query parameter "${name}"`;
    }
    return undefined;
  },

  describe({ route, parameters }, body): Call {
    const config = objectAt(body, "generationConfig") ?? objectAt(body, "generation_config");
    const tier = textAt(body, "serviceTier") ?? textAt(body, "service_tier");
    if (route.endpoint === "interactions") return describeInteraction(body);
    if (route.endpoint === "cached_contents") return describeCache(body, parameters["id"]);
    if (route.endpoint === "predict") return describePrediction(parameters["model"] ?? "", body);
    if (route.endpoint === "predict_long_running") return describeFilm(parameters["model"] ?? "", body);
    const isBatch = route.endpoint === "batches";
    // Protobuf JSON takes whole numbers as text too.
    const each = readCount(config?.["maxOutputTokens"] ?? config?.["max_output_tokens"]);
    return {
      endpoint: route.endpoint,
      model: parameters["model"] ?? "",
      stream: route.endpoint === "stream_generate_content",
      tiers: isBatch ? ["batch"] : tier === undefined ? [] : [tier.toLowerCase()],
      maxOutputTokens: EMBEDDINGS.has(route.endpoint) ? 0 : each,
      answers: isBatch
        ? Math.max(inlineRequests(body) ?? 1, 1)
        : Math.max(readCount(config?.["candidateCount"] ?? config?.["candidate_count"]) ?? 1, 1),
      openInput: isBatch && inlineRequests(body) === undefined ? BATCH_FILE : openInput(body),
      unbounded: isBatch ? "a batch" : (spelledTwice(body, config) ?? unbounded(body)),
      bodyTags: textsOf(objectAt(body, "labels")),
    };
  },

  rewrite: () => undefined,
  reader: (call) => (READERS[call.endpoint] ?? createReader)(call),

  converse: ({ parameters }) =>
    LIVE_SERVICE.test(parameters["service"] ?? "")
      ? converseLive((stated, model) => ({
          ...readingOf(stated, model, 0),
          servedModel: model,
          final: true,
        }))
      : undefined,

  refusal(refusal, requestId) {
    const [status, reason] = REFUSAL_STATUS[refusal.kind];
    const details = [
      { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason, domain: "keymeter", metadata: { requestId } },
    ];
    return {
      status: refusal.status,
      body: JSON.stringify({ error: { code: refusal.status, message: refusal.message, status, details } }),
      headers: ["x-request-id", requestId],
    };
  },

  errorEvent(message) {
    return `data: ${JSON.stringify({ error: { code: 503, message, status: "UNAVAILABLE" } })}\n\n`;
  },
};

const LIVE_SERVICE =
  /^google\.(ai\.generativelanguage\.v1(?:beta|alpha)?\.GenerativeService\.|cloud\.aiplatform\.v1(?:beta1)?\.LlmBidiService\/)BidiGenerateContent$/;

const REFUSAL_STATUS: { readonly [kind in Refusal["kind"]]: readonly [status: string, reason: string] } = {
  invalid: ["INVALID_ARGUMENT", "INVALID_REQUEST"],
  unauthorized: ["UNAUTHENTICATED", "API_KEY_INVALID"],
  forbidden: ["PERMISSION_DENIED", "PERMISSION_DENIED"],
  not_found: ["NOT_FOUND", "NOT_METERED"],
  too_large: ["INVALID_ARGUMENT", "REQUEST_TOO_LARGE"],
  unsupported_media: ["INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE"],
  money: ["RESOURCE_EXHAUSTED", "BUDGET_EXCEEDED"],
  rate: ["RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"],
  upstream: ["UNAVAILABLE", "UPSTREAM_UNREACHABLE"],
  timeout: ["DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT"],
  unavailable: ["UNAVAILABLE", "LEDGER_UNAVAILABLE"],
  upgrade: ["INVALID_ARGUMENT", "UPGRADE_NOT_METERED"],
};

function openInput(body: JsonObject): string | undefined {
  if (body["cachedContent"] ?? body["cached_content"]) return "cachedContent";
  return findDeep(body, isMediaPart) ? "a picture or file" : undefined;
}

/** How many requests a batch holds; undefined when they lie in a file. */
function inlineRequests(body: JsonObject): number | undefined {
  const batch = objectAt(body, "batch");
  const input = objectAt(batch, "inputConfig") ?? objectAt(batch, "input_config");
  const list = objectAt(input, "requests")?.["requests"];
  return Array.isArray(list) ? list.length : undefined;
}

/** The second names enumerations by their numbers. */
const JSON_FORMATS = new Set(["json", "json;enum-encoding=int"]);
/** Parameters that change nothing that is answered. */
const HARMLESS_PARAMETERS = new Set([
  "prettyPrint",
  "quotaUser",
  // Of an interaction that is fetched: as a stream, from an event on, with what was asked.
  "stream",
  "last_event_id",
  "include_input",
  // Of a cache whose expiry is changed.
  "updateMask",
]);

/** Both spellings of one field: which one counts is the provider's secret. */
function spelledTwice(body: JsonObject, config: JsonObject | undefined): string | undefined {
  const pairs: readonly (readonly [JsonObject | undefined, string, string])[] = [
    [body, "generationConfig", "generation_config"],
    [body, "cachedContent", "cached_content"],
    [body, "serviceTier", "service_tier"],
    [config, "maxOutputTokens", "max_output_tokens"],
    [config, "candidateCount", "candidate_count"],
  ];
  const twice = pairs.find(([holder, camel, snake]) => holder?.[camel] !== undefined && holder[snake] !== undefined);
  return twice && `${twice[1]} and ${twice[2]}`;
}

/** Any tool but functions of the client runs at the provider (search, code, maps). */
function unbounded(body: JsonObject): string | undefined {
  const tools = body["tools"] ?? [];
  if (!Array.isArray(tools)) return "tools";
  const names = (tools as unknown[]).flatMap((tool) =>
    typeof tool === "object" && tool !== null ? Object.keys(tool) : [],
  );
  const hosted = names.find((name) => name !== "functionDeclarations" && name !== "function_declarations");
  return hosted === undefined ? undefined : `tool ${hosted}`;
}

function isMediaPart(name: string): boolean {
  return name === "inlineData" || name === "inline_data" || name === "fileData" || name === "file_data";
}

function createReader(call: Call): UsageReader {
  let stated: JsonObject | undefined;
  let servedModel: string | undefined;
  let responseId: string | undefined;
  let ended = false;
  let failed = false;
  const queries = new Set<string>();

  const take = (answer: JsonObject): void => {
    stated = objectAt(answer, "usageMetadata") ?? stated;
    servedModel = textAt(answer, "modelVersion") ?? servedModel;
    responseId = textAt(answer, "responseId") ?? responseId;
    failed ||= answer["error"] !== undefined;
    for (const query of searchQueries(answer)) queries.add(query);
  };

  return {
    needsWholeBody: !EMBEDDINGS.has(call.endpoint),

    body(body) {
      ended = true;
      take(body);
    },

    event(data) {
      const answer = parseObject(data);
      if (!answer) return "pass";
      take(answer);
      const candidates = answer["candidates"];
      const finished =
        failed ||
        objectAt(answer, "promptFeedback")?.["blockReason"] !== undefined ||
        (Array.isArray(candidates) &&
          candidates.some((candidate) => Boolean((candidate as JsonObject)["finishReason"])));
      ended ||= finished && !failed;
      return ended || failed ? "last" : "pass";
    },

    words: (data) => countWords(data, ["text"]),

    reading(): Reading {
      return {
        ...(stated ? readingOf(stated, servedModel ?? call.model, queries.size) : NO_READING),
        servedModel,
        responseId,
        final: ended,
        ended,
        failed,
      };
    },
  };
}

/** What a usageMetadata object says. */
function readingOf(stated: JsonObject, model: string, queries: number): Reading {
  const tier = textAt(stated, "serviceTier") ?? trafficTier(textAt(stated, "trafficType"));
  return {
    ...NO_READING,
    usage: readUsage(stated, groundingOf(model, queries)),
    reasoning: readCount(stated["thoughtsTokenCount"]),
    tiers: tier === undefined ? [] : [tier.toLowerCase()],
    raw: JSON.stringify(stated),
    isContradictory:
      hasOddCounts(stated) || Number(stated["cachedContentTokenCount"] ?? 0) > Number(stated["promptTokenCount"] ?? 0),
    unknownFields: unknownNumbers(stated, KNOWN),
  };
}

const READERS: { readonly [endpoint: string]: (call: Call) => UsageReader } = {
  batches: createBatchReader,
  cached_contents: () => createCacheReader(),
  interactions: createInteractionReader,
  predict: createPredictionReader,
  predict_long_running: createFilmReader,
};

/** A batch: an operation that is done or goes on. Its answers stand inside, or in a file that the operation names, one a line. */
function createBatchReader(call: Call): UsageReader {
  const passes = createPasses();
  let stated: JsonObject | undefined;
  let lines = 0;
  let unread = 0;
  const take = (item: unknown): void => {
    const answer = objectAt(item, "response");
    if (!answer) return;
    const metadata = objectAt(answer, "usageMetadata");
    const model = textAt(answer, "modelVersion") ?? call.model;
    const queries = new Set(searchQueries(answer)).size;
    const usage = metadata && readUsage(metadata, groundingOf(model, queries));
    if (usage) passes.add(textAt(answer, "modelVersion"), usage);
    else unread += 1;
  };
  return {
    needsWholeBody: true,
    body(body) {
      stated = body;
      const outcome = objectAt(stated, "response") ?? objectAt(stated, "output");
      for (const item of inlined(outcome) ?? []) take(item);
    },
    event(line) {
      lines += 1;
      const item = parseObject(line);
      if (item) take(item);
      else unread += 1;
      return "pass";
    },
    reading(): Reading {
      const outcome = objectAt(stated, "response") ?? objectAt(stated, "output");
      const file = textAt(outcome, "responsesFile");
      const hasEnded = stated?.["done"] === true && (stated["error"] !== undefined || inlined(outcome) !== undefined);
      const known = (lines > 0 || hasEnded) && unread === 0;
      const [first, ...others] = passes.list();
      return {
        ...NO_READING,
        usage: known ? (first?.usage ?? {}) : undefined,
        context: first?.context,
        extra: known ? others : [],
        servedModel: first?.model,
        tiers: ["batch"],
        responseId: textAt(stated, "name"),
        makes: file === undefined ? [] : [file],
        resultPlace: file,
        final: known,
        ended: known || hasEnded,
        pending: textAt(stated, "name") !== undefined && !hasEnded,
      };
    },
  };
}

function inlined(outcome: JsonObject | undefined): readonly unknown[] | undefined {
  const list = objectAt(outcome, "inlinedResponses")?.["inlinedResponses"];
  return Array.isArray(list) ? list : undefined;
}

/** Vertex says how the request travelled; only some of it changes the price. */
function trafficTier(type: string | undefined): string | undefined {
  switch (type) {
    case "ON_DEMAND_FLEX":
      return "flex";
    case "ON_DEMAND_PRIORITY":
      return "priority";
    case "PROVISIONED_THROUGHPUT":
      return "provisioned";
    case undefined:
    default:
      return undefined;
  }
}

/** Protobuf JSON leaves zeros out: an absent count in a usage object is 0. Undefined when what matters most is there and no count. */
function readUsage(stated: JsonObject, grounding: Usage): Usage | undefined {
  const main = [stated["promptTokenCount"], stated["candidatesTokenCount"], stated["responseTokenCount"]];
  if (main.some((value) => value !== undefined && readCount(value) === undefined)) return undefined;
  const prompt = readCount(stated["promptTokenCount"]) ?? 0;
  const cached = Math.min(readCount(stated["cachedContentTokenCount"]) ?? 0, prompt);
  const toolUse = readCount(stated["toolUsePromptTokenCount"]) ?? 0;
  // Live says "response" where everything else says "candidates".
  const written = readCount(stated["candidatesTokenCount"] ?? stated["responseTokenCount"]) ?? 0;
  const output = written + (readCount(stated["thoughtsTokenCount"]) ?? 0);
  const promptBy = modalities(stated["promptTokensDetails"]);
  const cachedBy = modalities(stated["cacheTokensDetails"]);
  const outputBy = modalities(stated["candidatesTokensDetails"] ?? stated["responseTokensDetails"]);

  // Modalities of the prompt include what was cached of them.
  const cachedAudio = Math.min(cachedBy("AUDIO"), cached);
  const cachedImage = Math.min(cachedBy("IMAGE"), cached - cachedAudio);
  const uncached = prompt - cached;
  const audio = Math.min(Math.max(promptBy("AUDIO") - cachedAudio, 0), uncached);
  const image = Math.min(Math.max(promptBy("IMAGE") - cachedImage, 0), uncached - audio);
  const video = Math.min(Math.max(promptBy("VIDEO") - cachedBy("VIDEO"), 0), uncached - audio - image);
  const outputAudio = Math.min(outputBy("AUDIO"), output);
  const outputImage = Math.min(outputBy("IMAGE"), output - outputAudio);
  return compactUsage({
    input: uncached - audio - image - video,
    input_tool: toolUse,
    input_audio: audio,
    input_image: image,
    input_video: video,
    cache_read: cached - cachedAudio - cachedImage,
    cache_read_audio: cachedAudio,
    cache_read_image: cachedImage,
    output: output - outputAudio - outputImage,
    output_audio: outputAudio,
    output_image: outputImage,
    ...grounding,
  });
}

/** From version 3 on a fee for each query, before for each grounded prompt. */
function groundingOf(model: string, queries: number): Usage {
  if (queries === 0) return {};
  return /^gemini-[12]/.test(model) ? { grounded_prompt: 1 } : { grounding_query: queries };
}

/** What Google puts into usageMetadata. */
const COUNTED_BY_MODALITY: KnownFields = { tokenCount: true, modality: true };
const KNOWN: KnownFields = {
  promptTokenCount: true,
  cachedContentTokenCount: true,
  candidatesTokenCount: true,
  responseTokenCount: true,
  thoughtsTokenCount: true,
  toolUsePromptTokenCount: true,
  totalTokenCount: true,
  initialPromptTokenCount: true,
  trafficType: true,
  promptTokensDetails: COUNTED_BY_MODALITY,
  cacheTokensDetails: COUNTED_BY_MODALITY,
  candidatesTokensDetails: COUNTED_BY_MODALITY,
  responseTokensDetails: COUNTED_BY_MODALITY,
  promptTokenDetails: COUNTED_BY_MODALITY,
  toolUsePromptTokensDetails: COUNTED_BY_MODALITY,
};

/** By their numbers. */
const MODALITIES = ["", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT"];

function modalities(details: unknown): (modality: string) => number {
  const list = Array.isArray(details) ? (details as JsonObject[]) : [];
  return (modality) =>
    list
      .filter((detail) => detail["modality"] === modality || MODALITIES[Number(detail["modality"])] === modality)
      .reduce((sum, detail) => sum + (readCount(detail["tokenCount"]) ?? 0), 0);
}

function searchQueries(answer: JsonObject): string[] {
  const candidates = answer["candidates"];
  if (!Array.isArray(candidates)) return [];
  return candidates.flatMap((candidate) => {
    const queries = objectAt(candidate, "groundingMetadata")?.["webSearchQueries"];
    return Array.isArray(queries) ? queries.filter((query) => typeof query === "string") : [];
  });
}
