// What a request in Gemini's format asks for, in what matters to its price.
// Source: ai.google.dev API reference.
import { readCount } from "../../ledger/usage.ts";
import type { Call } from "./call.ts";
import type { KnownBy } from "./fields.ts";
import { describeCache } from "./google-cache.ts";
import { otherModels, unknownName } from "./google-fields.ts";
import { describeInteraction } from "./google-interactions.ts";
import { describeFilm, describePrediction } from "./google-media.ts";
import { findDeep, listOf, objectAt, objectsIn, textAt, textsOf } from "./json.ts";
import type { JsonObject } from "./json.ts";
import type { RouteMatch } from "./routes.ts";
import { allowable, far, media, unproven, BATCH_FILE } from "./why.ts";
import type { Why } from "./why.ts";
import { EMBEDDINGS } from "./google-generate.ts";

/** What a request of any endpoint asks for. */
export function describeGoogle(
  { route, parameters }: RouteMatch,
  body: JsonObject,
  _headers: unknown,
  knownBy: KnownBy,
): Call {
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
    person: textAt(objectAt(body, "labels"), "user"),
    bodyTags: textsOf(objectAt(body, "labels")),
  };
}

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
