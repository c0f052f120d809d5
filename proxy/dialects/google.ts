// The Gemini wire format: generateContent, its stream (server-sent events or one JSON array), embeddings. Usage in a stream
// is cumulative: the last one counts.
// Source: ai.google.dev API reference.
import { readCount } from "../../ledger/usage.ts";

import { countWords } from "./words.ts";
import { findDeep, listOf, objectAt, objectsIn, parseObject, textAt, textsOf } from "./json.ts";
import { NO_READING } from "./reading.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { Reading, UsageReader } from "./reading.ts";
import type { Refusal } from "./refusal.ts";
import type { Route } from "./routes.ts";
import { createBatchReader } from "./google-batch.ts";
import { CACHE_ROUTES, createCacheReader, describeCache } from "./google-cache.ts";
import { createInteractionReader, describeInteraction, INTERACTION_ROUTES } from "./google-interactions.ts";
import { createFilmReader, createPredictionReader, describeFilm, describePrediction } from "./google-media.ts";
import { converseLive } from "./google-live.ts";
import { otherModels, referencesOf, unknownName } from "./google-fields.ts";
import { readingOf, searchQueries } from "./google-usage.ts";
import type { KnownBy } from "./fields.ts";
import type { Dialect } from "./dialect.ts";
import { allowable, far, media, unproven, BATCH_FILE } from "./why.ts";
import type { Why } from "./why.ts";

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
  // Begun, and then its bytes brought: the answer to the last ones names the file.
  { method: "POST", path: "/upload/files", endpoint: "files", kind: "free", makes: true, namesPlaces: true },
  { method: "GET", path: "/files", endpoint: "files", kind: "free", scope: "account" },
  { method: "GET", path: "/files/{id}", endpoint: "files", kind: "free", scope: "work" },
  { method: "GET", path: "/files/{id}:download", endpoint: "batches", kind: "result" },
  { method: "DELETE", path: "/files/{id}", endpoint: "files", kind: "free", scope: "work" },
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
  likelyPath: /^\/v1(beta|alpha)/,
  // Its counts lie deeper, and may be text: what describes a call reads them.
  limits: { switches: ["stream"], counts: [], textCounts: [] },
  credentialHeader: "x-goog-api-key",
  bodyFields: ["predictions", "usageMetadata", "modelVersion", "responseId", "error"],

  elementFields: ["candidates", "promptFeedback"],
  // An upload answers `{"file": {"name": ...}}`.
  made: (answer) => textAt(objectAt(answer, "file") ?? answer, "name"),

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

  describe({ route, parameters }, body, _headers, knownBy): Call {
    const model = parameters["model"] ?? "";
    const beyond = unknownName(route.endpoint, body, knownBy);
    const config = objectAt(body, "generationConfig") ?? objectAt(body, "generation_config");
    const tier = textAt(body, "serviceTier") ?? textAt(body, "service_tier");
    if (route.endpoint === "interactions") return { ...describeInteraction(body), unknown: beyond };
    if (route.endpoint === "cached_contents") return describeCache(body, parameters["id"]);
    if (route.endpoint === "predict") return { ...describePrediction(model, body), unknown: beyond };
    if (route.endpoint === "predict_long_running") return { ...describeFilm(model, body), unknown: beyond };
    const isBatch = route.endpoint === "batches";
    // Protobuf JSON takes whole numbers as text too.
    const each = readCount(config?.["maxOutputTokens"] ?? config?.["max_output_tokens"]);
    return {
      endpoint: route.endpoint,
      model: parameters["model"] ?? "",
      stream: route.endpoint === "stream_generate_content",
      tiers: isBatch ? ["batch"] : tier === undefined ? [] : [tier.toLowerCase()],
      maxOutputTokens: EMBEDDINGS.has(route.endpoint) ? 0 : each || undefined,
      answers: isBatch ? Math.max(inlineRequests(body) ?? 1, 1) : Math.max(readCount(candidatesOf(config)) ?? 1, 1),
      openInput: isBatch && inlineRequests(body) === undefined ? BATCH_FILE : openInput(body),
      unbounded: isBatch
        ? unproven("a batch")
        : (spelledTwice(body, config) ?? oddCount(config) ?? unbounded(body, knownBy)),
      unknown: beyond,
      inputs: Math.max(1, inlineRequests(body) ?? objectsIn(body["requests"]).length),
      otherModels: otherModels(body, model),
      mayThink: mayThink(parameters["model"] ?? "", config),
      isText: isText(parameters["model"] ?? "", config),
      // Only explicit caches are written for money, by a path of their own.
      writesCache: false,
      hiddenTokens: Array.isArray(body["tools"]) ? TOOL_TOKENS : 0,
      bodyTags: textsOf(objectAt(body, "labels")),
    };
  },

  references: referencesOf,
  rewrite: () => undefined,
  // Where the bytes of a file go: a header of the answer that begins an upload.
  placeUrls: (text, base) => text.replace(/^https?:\/\/[^/]+(\/upload\/)/, `${base.replaceAll("$", "$$$$")}$1`),
  reader: (call) => (READERS[call.endpoint] ?? createReader)(call),

  converse: ({ parameters }) => (LIVE_SERVICE.test(parameters["service"] ?? "") ? converseLive() : undefined),

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

  errorEvent(kind, message) {
    const [code, status] = kind === "money" ? [402, REFUSAL_STATUS.money[0]] : [503, "UNAVAILABLE"];
    return `data: ${JSON.stringify({ error: { code, message, status } })}\n\n`;
  },
};

function candidatesOf(config: JsonObject | undefined): unknown {
  return config?.["candidateCount"] ?? config?.["candidate_count"];
}

/** A count that is read here as none, and there as one ("8e0"). */
function oddCount(config: JsonObject | undefined): Why | undefined {
  const given = candidatesOf(config);
  return given !== undefined && given !== null && readCount(given) === undefined
    ? unproven("a candidateCount that is no whole number")
    : undefined;
}

/** Whether it answers in words alone. */
function isText(model: string, config: JsonObject | undefined): boolean {
  const modalities = config?.["responseModalities"] ?? config?.["response_modalities"];
  return modalities === undefined && !/image|tts|audio|live/.test(model);
}

/** What function calling is framed with. */
const TOOL_TOKENS = 256;

/** Models before 2.5 do not; a budget of nothing switches it off in the small ones of 2.5, and in no others. */
function mayThink(model: string, config: JsonObject | undefined): boolean {
  if (/^(models\/)?gemini-(1|2\.0)|embedding/.test(model)) return false;
  const thinking = [objectAt(config, "thinkingConfig"), objectAt(config, "thinking_config")].filter((one) => one);
  const budgets = thinking.map((one) => one?.["thinkingBudget"] ?? one?.["thinking_budget"]);
  const isOff = budgets.length > 0 && budgets.every((budget) => budget === 0 || budget === "0");
  return !isOff || !/gemini-2\.5-flash/.test(model);
}

const LIVE_SERVICE =
  /^google\.(ai\.generativelanguage\.v1(?:beta|alpha)?\.GenerativeService\.|cloud\.aiplatform\.v1(?:beta1)?\.LlmBidiService\/)BidiGenerateContent$/;

const REFUSAL_STATUS: { readonly [kind in Refusal["kind"]]: readonly [status: string, reason: string] } = {
  invalid: ["INVALID_ARGUMENT", "INVALID_REQUEST"],
  unauthorized: ["UNAUTHENTICATED", "API_KEY_INVALID"],
  forbidden: ["PERMISSION_DENIED", "PERMISSION_DENIED"],
  not_found: ["NOT_FOUND", "NOT_METERED"],
  too_large: ["INVALID_ARGUMENT", "REQUEST_TOO_LARGE"],
  unsupported_media: ["INVALID_ARGUMENT", "UNSUPPORTED_MEDIA_TYPE"],
  // Agents take RESOURCE_EXHAUSTED for a rate limit, whatever the status: they wait, and try again.
  money: ["FAILED_PRECONDITION", "BUDGET_EXCEEDED"],
  unpriced: ["FAILED_PRECONDITION", "MODEL_NOT_PRICED"],
  rate: ["RESOURCE_EXHAUSTED", "RATE_LIMIT_EXCEEDED"],
  upstream: ["UNAVAILABLE", "UPSTREAM_UNREACHABLE"],
  timeout: ["DEADLINE_EXCEEDED", "UPSTREAM_TIMEOUT"],
  unavailable: ["UNAVAILABLE", "LEDGER_UNAVAILABLE"],
  upgrade: ["INVALID_ARGUMENT", "UPGRADE_NOT_METERED"],
};

function openInput(body: JsonObject): Why | undefined {
  if (body["cachedContent"] ?? body["cached_content"]) return far("cachedContent");
  return findDeep(body, isMediaPart) ? media("a picture or file") : undefined;
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
function spelledTwice(body: JsonObject, config: JsonObject | undefined): Why | undefined {
  const pairs: readonly (readonly [JsonObject | undefined, string, string])[] = [
    [body, "generationConfig", "generation_config"],
    [body, "cachedContent", "cached_content"],
    [body, "serviceTier", "service_tier"],
    [config, "maxOutputTokens", "max_output_tokens"],
    [config, "candidateCount", "candidate_count"],
    [config, "thinkingConfig", "thinking_config"],
  ];
  const twice = pairs.find(
    ([holder, camel, snake]) =>
      (holder?.[camel] ?? undefined) !== undefined && (holder?.[snake] ?? undefined) !== undefined,
  );
  return twice && unproven(`${twice[1]} and ${twice[2]}`);
}

/** Whether what was stated so far counts what is answered, thoughts among it. */
function isCounted(stated: JsonObject | undefined): boolean {
  return [stated?.["candidatesTokenCount"], stated?.["thoughtsTokenCount"]].some(
    (count) => readCount(count) !== undefined,
  );
}

/** Any tool but functions of the client runs at the provider (search, code, maps). */
function unbounded(body: JsonObject, { allowed }: KnownBy): Why | undefined {
  const tools = body["tools"] ?? [];
  if (!Array.isArray(tools)) return unproven("tools");
  const names = listOf(tools).flatMap((tool) => (typeof tool === "object" && tool !== null ? Object.keys(tool) : []));
  const hosted = names.find(
    (name) => name !== "functionDeclarations" && name !== "function_declarations" && !allowed.includes(`tool ${name}`),
  );
  return hosted === undefined ? undefined : allowable(`tool ${hosted}`);
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
  /** Of several candidates, those that have ended. */
  const endedCandidates = new Set<unknown>();
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
      const candidates = objectsIn(answer["candidates"]);
      for (const candidate of candidates) if (candidate["finishReason"]) endedCandidates.add(candidate["index"] ?? 0);
      const finished =
        failed ||
        objectAt(answer, "promptFeedback")?.["blockReason"] !== undefined ||
        endedCandidates.size >= Math.max(call.answers, 1);
      ended ||= finished && !failed;
      return ended || failed ? "last" : "pass";
    },

    goesOn: (data) => CANDIDATE.test(data),

    words: (data) => countWords(data, ["text"]),

    reading(): Reading {
      return {
        ...(stated ? readingOf(stated, servedModel ?? call.model, queries.size) : NO_READING),
        servedModel,
        responseId,
        // Some chunks say only how the traffic is paid for.
        countsThoughts: isCounted(stated),
        final: ended,
        ended,
        failed,
      };
    },
  };
}

/** A candidate with something in it. */
const CANDIDATE = /"candidates"\s*:\s*\[\s*\{/;

const READERS: { readonly [endpoint: string]: (call: Call) => UsageReader } = {
  batches: createBatchReader,
  cached_contents: createCacheReader,
  interactions: createInteractionReader,
  predict: createPredictionReader,
  predict_long_running: createFilmReader,
};
