// The Gemini wire format: its routes, how it says no, and where the rest of it is: what a request asks for
// (google-call.ts), how answers end (google-generate.ts and the files named after what they read), counts
// (google-usage.ts). Source: ai.google.dev API reference.
import type { Call } from "./call.ts";
import type { Dialect } from "./dialect.ts";
import { createBatchReader } from "./google-batch.ts";
import { CACHE_ROUTES, createCacheReader } from "./google-cache.ts";
import { describeGoogle } from "./google-call.ts";
import { referencesOf } from "./google-fields.ts";
import { createReader } from "./google-generate.ts";
import { INTERACTION_ROUTES, createInteractionReader } from "./google-interactions.ts";
import { converseLive } from "./google-live.ts";
import { createFilmReader, createPredictionReader } from "./google-media.ts";
import { objectAt, textAt } from "./json.ts";
import type { UsageReader } from "./reading.ts";
import type { Refusal } from "./refusal.ts";
import type { Route } from "./routes.ts";

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

  describe: describeGoogle,

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

const READERS: { readonly [endpoint: string]: (call: Call) => UsageReader } = {
  batches: createBatchReader,
  cached_contents: createCacheReader,
  interactions: createInteractionReader,
  predict: createPredictionReader,
  predict_long_running: createFilmReader,
};
