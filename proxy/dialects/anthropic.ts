// The Anthropic wire format: its routes, how it says no, and where the rest of it is: what a request asks for
// (anthropic-call.ts), how answers end (anthropic-answers.ts), counts (anthropic-usage.ts). Source: platform.claude.com
// API reference.
import { createBatchReader, createReader } from "./anthropic-answers.ts";
import { describeAnthropic } from "./anthropic-call.ts";
import { referencesOf } from "./anthropic-fields.ts";
import type { Dialect } from "./dialect.ts";
import { textAt } from "./json.ts";
import type { Refusal } from "./refusal.ts";
import type { Route } from "./routes.ts";

const ROUTES: readonly Route[] = [
  { method: "POST", path: "/messages", endpoint: "messages", kind: "metered" },
  { method: "POST", path: "/messages/batches", endpoint: "message_batches", kind: "metered" },
  {
    method: "GET",
    path: "/messages/batches",
    endpoint: "message_batches_list",
    kind: "free",
    scope: "account",
    namesPlaces: true,
  },
  {
    method: "GET",
    path: "/messages/batches/{id}",
    endpoint: "message_batches_state",
    kind: "free",
    scope: "work",
    namesPlaces: true,
  },
  {
    method: "POST",
    path: "/messages/batches/{id}/cancel",
    endpoint: "message_batches_state",
    kind: "free",
    scope: "work",
  },
  {
    method: "DELETE",
    path: "/messages/batches/{id}",
    endpoint: "message_batches_state",
    kind: "free",
    scope: "work",
    namesPlaces: true,
  },
  { method: "GET", path: "/messages/batches/{id}/results", endpoint: "message_batches", kind: "result" },
  { method: "POST", path: "/messages/count_tokens", endpoint: "count_tokens", kind: "free" },
  { method: "POST", path: "/files", endpoint: "files", kind: "free", makes: true },
  { method: "GET", path: "/files", endpoint: "files", kind: "free", scope: "account" },
  { method: "GET", path: "/files/{id}", endpoint: "files", kind: "free", scope: "work" },
  { method: "GET", path: "/files/{id}/content", endpoint: "files", kind: "free", scope: "work" },
  { method: "DELETE", path: "/files/{id}", endpoint: "files", kind: "free", scope: "work" },
  { method: "POST", path: "/skills", endpoint: "skills", kind: "free", makes: true },
  { method: "GET", path: "/skills", endpoint: "skills", kind: "free", scope: "account" },
  { method: "GET", path: "/skills/{id}", endpoint: "skills", kind: "free", scope: "work" },
  { method: "DELETE", path: "/skills/{id}", endpoint: "skills", kind: "free", scope: "work" },
  { method: "GET", path: "/models", endpoint: "models", kind: "free" },
  { method: "GET", path: "/models/{model}", endpoint: "model", kind: "free" },
];

export const anthropic: Dialect = {
  name: "anthropic",
  version: { pattern: /^v1$/, default: "v1" },
  routes: ROUTES,
  likelyPath: /^\/v1\/messages/,
  limits: { switches: ["stream"], counts: ["max_tokens", "max_tokens_to_sample"], textCounts: [] },
  seat: {
    // `claude login` gives it, for Pro, Max, Team and Enterprise seats; but so does a workload's federation, and that is
    // billed by use.
    mayPay: (credential) => credential.startsWith("sk-ant-oat"),
    hasPaid,
  },
  credentialHeader: "x-api-key",
  bodyFields: ["usage", "model", "id", "type", "error"],

  made: (answer) => textAt(answer, "id"),

  refuses: () => undefined,
  workId: ({ parameters }) => parameters["id"] ?? "",

  describingHeaders: ["anthropic-beta"],
  describe: describeAnthropic,

  references: referencesOf,
  rewrite: () => undefined,
  placeUrls: (text, base) => text.replace(RESULTS_URL, `$1${base}$2`),
  reader: (call) => (call.endpoint === "message_batches" ? createBatchReader() : createReader()),

  refusal(refusal, requestId) {
    const error = {
      type: "error",
      error: { type: REFUSAL_TYPES[refusal.kind], message: refusal.message },
      request_id: requestId,
    };
    return { status: refusal.status, body: JSON.stringify(error), headers: ["request-id", requestId] };
  },

  errorEvent(kind, message, requestId) {
    const type = kind === "money" ? REFUSAL_TYPES.money : "api_error";
    return `event: error\ndata: ${JSON.stringify({ type: "error", error: { type, message }, request_id: requestId })}\n\n`;
  },
};

const SEAT_LIMITS = "anthropic-ratelimit-unified-";

/** The limits of a subscription are said as one; an API's by kind. What is used beyond them is billed by use. */
function hasPaid(headers: readonly string[]): boolean {
  const said = (name: string): string | undefined => {
    const at = headers.findIndex((one, i) => i % 2 === 0 && one === `${SEAT_LIMITS}${name}`);
    return at < 0 ? undefined : headers[at + 1]?.toLowerCase();
  };
  return (
    said("status") !== undefined && said("overage-in-use") !== "true" && said("representative-claim") !== "overage"
  );
}

/** Where the results of a batch lie: the SDK goes there with the key that it has. */
const RESULTS_URL = /("results_url"\s*:\s*")https?:\/\/[^"/]+(\/v1\/messages\/batches\/)/g;

const REFUSAL_TYPES: { readonly [kind in Refusal["kind"]]: string } = {
  invalid: "invalid_request_error",
  unauthorized: "authentication_error",
  forbidden: "permission_error",
  not_found: "not_found_error",
  too_large: "request_too_large",
  unsupported_media: "invalid_request_error",
  money: "billing_error",
  unpriced: "invalid_request_error",
  rate: "rate_limit_error",
  upstream: "api_error",
  timeout: "timeout_error",
  unavailable: "overloaded_error",
  upgrade: "invalid_request_error",
};
