// The Anthropic wire format: messages. Counts are disjoint as they come: input excludes cache reads and writes, output
// includes thinking. In streams, message_delta is cumulative: it overwrites, it is never added.
// Source: platform.claude.com API reference; `iterations` as recorded traffic shows them.
import type { IncomingHttpHeaders } from "node:http";
import { addUsage, readCount, UNITS } from "../../ledger/usage.ts";
import type { TokenClass, Usage } from "../../ledger/usage.ts";
import { compactUsage, unknownNumbers, hasOddCounts } from "./stated.ts";
import { createPasses } from "./passes.ts";
import { findDeep, listOf, objectAt, objectsIn, parseObject, printed, rawOf, readLimit, textAt } from "./json.ts";
import { NO_READING } from "./reading.ts";
import { PLAIN_CALL } from "./call.ts";
import { countWords } from "./words.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { KnownFields } from "./stated.ts";
import type { Reading, UsageReader } from "./reading.ts";
import type { Refusal } from "./refusal.ts";
import type { Route } from "./routes.ts";
import { otherModels, referencesOf, unknownBeta, unknownCost, unknownName } from "./anthropic-fields.ts";
import type { KnownBy } from "./fields.ts";
import type { Dialect } from "./dialect.ts";
import { far, media, unproven } from "./why.ts";
import type { Why } from "./why.ts";

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
  credentialHeader: "x-api-key",
  bodyFields: ["usage", "model", "id", "type", "error"],

  made: (answer) => textAt(answer, "id"),

  refuses: () => undefined,
  workId: ({ parameters }) => parameters["id"] ?? "",

  describe({ route, parameters }, body, headers, knownBy): Call {
    if (route.endpoint === "message_batches") return describeBatch(body, headers, knownBy);
    const user = textAt(objectAt(body, "metadata"), "user_id");
    return {
      endpoint: route.endpoint,
      model: parameters["model"] ?? textAt(body, "model") ?? "",
      stream: body["stream"] === true,
      tiers: [
        ...(textAt(body, "inference_geo") === "us" ? ["geo:us"] : []),
        ...(textAt(body, "speed") === "fast" ? ["speed:fast"] : []),
      ],
      maxOutputTokens: readLimit(body["max_tokens"]),
      answers: 1,
      openInput: openInput(body),
      unbounded: unknownCost(body, knownBy),
      unknown: unknownName(body, knownBy) ?? unknownBeta(headers["anthropic-beta"], knownBy),
      otherModels: otherModels(body),
      longestContext: hasLongContext(body, headers) ? LONG_CONTEXT : SHORT_CONTEXT,
      mayThink: mayThink(parameters["model"] ?? textAt(body, "model") ?? "", body),
      isText: true,
      writesCache: writesCache(body),
      hiddenTokens: hiddenTokens(body),
      bodyTags: user === undefined ? {} : { user },
    };
  },

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

/** A batch is its requests together, at half the price. What of it is written to a cache twice, and which of several models takes what, is
 *  not in sight: only a batch of one request has a bound. */
function describeBatch(body: JsonObject, headers: IncomingHttpHeaders, knownBy: KnownBy): Call {
  const items = objectsIn(body["requests"]);
  const requests = items.map((item) => objectAt(item, "params") ?? {});
  const models = [...new Set(requests.map((request) => textAt(request, "model") ?? ""))];
  const others = requests.map(otherModels);
  const limits = requests.map((request) => readLimit(request["max_tokens"]));
  return {
    ...PLAIN_CALL,
    endpoint: "message_batches",
    model: models[0] ?? "",
    tiers: ["batch", ...(requests.some((request) => textAt(request, "inference_geo") === "us") ? ["geo:us"] : [])],
    maxOutputTokens: limits.includes(undefined) ? undefined : Math.max(0, ...limits.map((most) => most ?? 0)),
    answers: Math.max(requests.length, 1),
    isText: true,
    writesCache: requests.some(writesCache),
    hiddenTokens: requests.reduce((sum, request) => sum + hiddenTokens(request), 0),
    openInput: requests.map(openInput).find((reason) => reason !== undefined),
    unbounded:
      (models.length > 1 ? unproven("several models in one batch") : undefined) ??
      (requests.length > 1 ? unproven("a batch of many requests") : undefined) ??
      requests.map((request) => unknownCost(request, knownBy)).find((reason) => reason !== undefined),
    unknown:
      requests.map((request) => unknownName(request, knownBy)).find((reason) => reason !== undefined) ??
      unknownBeta(headers["anthropic-beta"], knownBy),
    inputs: Math.max(requests.length, 1),
    otherModels: {
      instead: [...new Set([...models.slice(1), ...others.flatMap(({ instead }) => instead)])],
      beside: [...new Set(others.flatMap(({ beside }) => beside))],
    },
  };
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

function openInput(body: JsonObject): Why | undefined {
  // What was compacted is no longer as long as it was.
  if (
    objectsIn(body["messages"]).some((message) =>
      objectsIn(message["content"]).some((block) => textAt(block, "type") === "compaction"),
    )
  )
    return far("what was compacted");
  return findDeep(body["messages"], isRemotePart) ? media("a picture or document") : undefined;
}

/** Claude thinks when it is asked to; of newer models nobody knows what they do unasked. */
function mayThink(model: string, body: JsonObject): boolean {
  const type = textAt(objectAt(body, "thinking"), "type");
  if (type === "disabled") return false;
  return type !== undefined || !/claude-(instant|[23]|(haiku|sonnet|opus)-[34])(?=\D|$)/.test(model);
}

/** Above this the context of older models is opened by a beta alone. */
const SHORT_CONTEXT = 200_000;
const LONG_CONTEXT = 1_000_000;

/** Whether a pass may be longer: asked for by a header, or, where a cloud stands between, in the body. */
function hasLongContext(body: JsonObject, headers: IncomingHttpHeaders): boolean {
  return [headers["anthropic-beta"], ...listOf(body["anthropic_beta"])].some((beta) =>
    printed(beta).includes("context-1m"),
  );
}

/** Anthropic writes a cache where a request marks a place for it, or asks for it as a whole. */
function writesCache(body: JsonObject): boolean {
  return findDeep(body, (name, value) => name === "cache_control" && value !== null);
}

/** What Anthropic puts before tools, and before those of its own kind: its pricing page lists the tokens; a schema for the answer has a
 *  preamble too. */
function hiddenTokens(body: JsonObject): number {
  const tools = listOf(body["tools"]);
  const own = tools.reduce<number>((sum, tool) => {
    const type = textAt(tool, "type") ?? "custom";
    return sum + (TOOL_TOKENS.find(([name]) => type.startsWith(name))?.[1] ?? 64);
  }, 0);
  const hasSchema = body["output_format"] !== undefined || body["output_config"] !== undefined;
  return (tools.length > 0 ? 600 : 0) + own + (hasSchema ? 1_024 : 0);
}

const TOOL_TOKENS: readonly (readonly [type: string, tokens: number])[] = [
  ["computer", 1_300],
  ["text_editor", 800],
  ["bash", 300],
  ["memory", 1_024],
];

function isRemotePart(name: string, value: unknown): boolean {
  const type = name === "source" ? textAt(value, "type") : undefined;
  return type === "url" || type === "file" || type === "base64";
}

function createReader(): UsageReader {
  let stated: Record<string, unknown> = {};
  let servedModel: string | undefined;
  let responseId: string | undefined;
  let final = false;
  let ended = false;
  let failed = false;

  return {
    needsWholeBody: false,

    body(body) {
      ended = final = true;
      failed = body["type"] === "error";
      servedModel = textAt(body, "model");
      responseId = textAt(body, "id");
      stated = { ...objectAt(body, "usage") };
    },

    event(data) {
      const type = /"type"\s*:\s*"(message_start|message_delta|message_stop|error)"/.exec(data)?.[1];
      if (type === undefined) return "pass";
      const event = parseObject(data);
      switch (event?.["type"]) {
        case "message_start": {
          const message = objectAt(event, "message");
          servedModel = textAt(message, "model") ?? servedModel;
          responseId = textAt(message, "id") ?? responseId;
          stated = { ...objectAt(message, "usage") };
          return "pass";
        }
        case "message_delta": {
          for (const [name, value] of Object.entries(objectAt(event, "usage") ?? {}))
            if (value !== null) stated[name] = value;
          final = true;
          return "last";
        }
        case "message_stop":
          // Streams that resume a paused container sample nothing and send no message_delta: message_start is the last word.
          ended = final = true;
          return "last";
        case "error":
          failed = true;
          return "last";
        default:
          return "pass";
      }
    },

    words: (data) => countWords(data, ["text", "thinking", "partial_json"]),

    reading(): Reading {
      const known = Object.keys(stated).length > 0;
      const whole = known ? readUsage(stated) : undefined;
      const [first, ...others] = whole ? passesOf(whole, stated["iterations"]) : [];
      return {
        usage: first?.usage ?? whole,
        context: first?.context,
        // A search begins another pass.
        passes: 1 + (readCount(objectAt(stated, "server_tool_use")?.["web_search_requests"]) ?? 0),
        extra: [...others, ...readIterations(stated["iterations"])],
        reasoning: readCount(objectAt(stated, "output_tokens_details")?.["thinking_tokens"]),
        servedModel,
        tiers: readTiers(stated),
        responseId,
        raw: known ? rawOf(stated) : undefined,
        isContradictory: hasOddCounts(stated),
        unknownFields: unknownNumbers(stated, KNOWN),
        final,
        ended,
        failed,
        pending: false,
      };
    },
  };
}

/** A batch: what its creation answers, and later its results, a line each. Each result says what it used; those that erred,
 *  expired or were cancelled used nothing. */
const UNBILLED = new Set(["errored", "canceled", "expired"]);

function createBatchReader(): UsageReader {
  const passes = createPasses();
  let workId: string | undefined;
  let pending = false;
  let results = 0;
  let unread = 0;
  let tiers: readonly string[] = [];
  return {
    needsWholeBody: false,
    body(body) {
      workId = textAt(body, "id");
      pending = body["type"] === "message_batch";
    },
    event(line) {
      const result = objectAt(parseObject(line), "result");
      results += 1;
      const type = textAt(result, "type");
      if (type !== "succeeded") {
        // A line that cannot be read may be of an answer that was paid for.
        if (!UNBILLED.has(type ?? "")) unread += 1;
        return "pass";
      }
      const message = objectAt(result, "message");
      const stated = objectAt(message, "usage") ?? {};
      const usage = readUsage(stated);
      const model = textAt(message, "model");
      if (!usage) unread += 1;
      else passes.add(model, usage);
      for (const pass of readIterations(stated["iterations"])) passes.add(pass.model ?? model, pass.usage);
      tiers = readTiers(stated);
      return "pass";
    },
    reading(): Reading {
      const known = results > 0 && unread === 0;
      const [first, ...others] = passes.list();
      return {
        ...NO_READING,
        usage: known ? (first?.usage ?? {}) : undefined,
        context: first?.context,
        extra: known ? others : [],
        servedModel: first?.model,
        tiers: ["batch", ...tiers.filter((tier) => tier.startsWith("geo:"))],
        responseId: workId,
        final: known,
        ended: results > 0,
        pending,
      };
    },
  };
}

function readUsage(stated: JsonObject): Usage | undefined {
  const input = readCount(stated["input_tokens"]);
  const output = readCount(stated["output_tokens"]);
  if (input === undefined || output === undefined) return undefined;
  const split = objectAt(stated, "cache_creation");
  const long = readCount(split?.["ephemeral_1h_input_tokens"]) ?? 0;
  // The split of message_start can be stale: the total of the last event counts, the one-hour part of it is known.
  const written =
    readCount(stated["cache_creation_input_tokens"]) ?? (readCount(split?.["ephemeral_5m_input_tokens"]) ?? 0) + long;
  return compactUsage({
    input,
    cache_read: readCount(stated["cache_read_input_tokens"]),
    cache_write_5m: Math.max(written - long, 0),
    cache_write_1h: Math.min(long, written),
    output,
    web_search: readCount(objectAt(stated, "server_tool_use")?.["web_search_requests"]),
  });
}

/** What Anthropic puts into usage. Web fetches cost only the tokens that they bring. */
const PASS: KnownFields = {
  input_tokens: true,
  cache_creation_input_tokens: true,
  cache_read_input_tokens: true,
  cache_creation: { ephemeral_5m_input_tokens: true, ephemeral_1h_input_tokens: true },
  output_tokens: true,
};
const KNOWN: KnownFields = {
  ...PASS,
  output_tokens_details: { thinking_tokens: true },
  server_tool_use: { web_search_requests: true, web_fetch_requests: true },
  iterations: PASS,
};

/** The passes that the top level sums up, where they are listed and add up to it, so that each is priced by its own context. */
function passesOf(whole: Usage, iterations: unknown): Reading["extra"] {
  const listed = objectsIn(iterations).filter((pass) => textAt(pass, "type") === "message");
  const usages = listed.flatMap((pass) => readUsage(pass) ?? []);
  const sum = usages.reduce(addUsage, {});
  const { web_search: searches, ...tokens } = whole;
  const isSum = UNITS.every((unit) => (sum[unit] ?? 0) === (tokens[unit as TokenClass] ?? 0));
  if (listed.length < 2 || usages.length < listed.length || !isSum) return [];
  const passes = createPasses();
  for (const usage of usages) passes.add(undefined, usage);
  const [first, ...others] = passes.list();
  return first ? [{ ...first, usage: addUsage(first.usage, compactUsage({ web_search: searches })) }, ...others] : [];
}

/** Passes that the top level leaves out: compaction at the served model, advisors at their own. The top level is the sum
 *  of the `message` passes, or the fallback's figures. */
function readIterations(value: unknown): { model: string | undefined; usage: Usage }[] {
  return objectsIn(value).flatMap((pass) => {
    const type = textAt(pass, "type");
    const usage = type === "compaction" || type === "advisor_message" ? readUsage(pass) : undefined;
    return usage ? [{ model: textAt(pass, "model"), usage: addUsage(usage, {}) }] : [];
  });
}

function readTiers(stated: JsonObject): string[] {
  const tiers: string[] = [];
  const tier = textAt(stated, "service_tier");
  if (tier !== undefined) tiers.push(tier);
  if (textAt(stated, "inference_geo") === "us") tiers.push("geo:us");
  if (textAt(stated, "speed") === "fast") tiers.push("speed:fast");
  return tiers;
}
