// The OpenAI wire format: its routes, and where the rest of it is: what a request asks for (openai-call.ts), how
// answers end (openai-chat.ts, openai-responses.ts, openai-batch.ts), pictures, sound and film (openai-media.ts),
// counts (openai-usage.ts). Source: platform.openai.com API reference.
import type { Call } from "./call.ts";
import type { Dialect } from "./dialect.ts";
import { objectAt, textAt } from "./json.ts";
import { createBatchReader } from "./openai-batch.ts";
import { describeOpenAi } from "./openai-call.ts";
import { createChatReader } from "./openai-chat.ts";
import { referencesOf } from "./openai-fields.ts";
import { MEDIA_READERS, MEDIA_ROUTES } from "./openai-media.ts";
import { converseRealtime, converseResponses } from "./openai-realtime.ts";
import { renderOpenAiErrorEvent, renderOpenAiRefusal } from "./openai-refusals.ts";
import { createResponsesReader } from "./openai-responses.ts";
import type { UsageReader } from "./reading.ts";
import type { Route } from "./routes.ts";

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

  describe: describeOpenAi,

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

  reader: (call, hides) => (READERS[call.endpoint] ?? createChatReader)(call, hides),

  converse(match, query, knownBy) {
    if (match.route.endpoint === "responses")
      return converseResponses((body) => describeOpenAi(match, body, {}, knownBy), createResponsesReader);
    // A call that goes on elsewhere (`call_id`) names no model.
    const [model, ...more] = [...query.getAll("model"), ...query.getAll("deployment")];
    if (more.length > 0) return undefined;
    return model !== undefined || query.get("intent") === "transcription" ? converseRealtime(model) : undefined;
  },

  refusal: renderOpenAiRefusal,
  errorEvent: renderOpenAiErrorEvent,
};

/** Readers by endpoint; all others answer as chats do. */
const READERS: { readonly [endpoint: string]: (call: Call, hides: boolean) => UsageReader } = {
  ...MEDIA_READERS,
  batches: createBatchReader,
  responses: createResponsesReader,
  responses_compact: createResponsesReader,
  // Vectors are long: of them nothing but the usage is read.
  embeddings: (call, hides) => ({ ...createChatReader(call, hides), needsWholeBody: false }),
};
