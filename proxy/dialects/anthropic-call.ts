// What a request in Anthropic's format asks for, in what matters to its price.
// Source: platform.claude.com API reference.
import type { IncomingHttpHeaders } from "node:http";
import { otherModels, unknownBeta, unknownCost, unknownName } from "./anthropic-fields.ts";
import { PLAIN_CALL } from "./call.ts";
import type { Call } from "./call.ts";
import type { KnownBy } from "./fields.ts";
import { findDeep, listOf, objectAt, objectsIn, printed, readLimit, textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";
import type { RouteMatch } from "./routes.ts";
import { far, media, unproven } from "./why.ts";
import type { Why } from "./why.ts";

/** What a request of any endpoint asks for. */
export function describeAnthropic(
  { route, parameters }: RouteMatch,
  body: JsonObject,
  headers: IncomingHttpHeaders,
  knownBy: KnownBy,
): Call {
  if (route.endpoint === "message_batches") return describeBatch(body, headers, knownBy);
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
    person: personIn(body),
    bodyTags: {},
  };
}

/** Who is meant by a `user_id`. Claude Code writes account, device and session into it: a session is nobody. */
function personIn(body: JsonObject): string | undefined {
  const userId = textAt(objectAt(body, "metadata"), "user_id");
  if (userId === undefined) return undefined;
  const [, device, account] = /^user_([0-9a-f]+)_account_([^_]*)_session_/.exec(userId) ?? [];
  if (device !== undefined) return account || device;
  if (!userId.startsWith("{")) return userId;
  try {
    const said = JSON.parse(userId) as JsonObject;
    return textAt(said, "account_uuid") || textAt(said, "device_id") || undefined;
  } catch {
    return userId;
  }
}

/** A batch is its requests together, at half the price. What of it is written to a cache twice, and which of several
 *  models takes what, is not in sight: only a batch of one request has a bound. */
function describeBatch(body: JsonObject, headers: IncomingHttpHeaders, knownBy: KnownBy): Call {
  const items = objectsIn(body["requests"]);
  const requests = items.map((item) => objectAt(item, "params") ?? {});
  const models = [...new Set(requests.map((request) => textAt(request, "model") ?? ""))];
  const others = requests.map(otherModels);
  const people = [...new Set(requests.map(personIn))];
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
    person: people.length === 1 ? people[0] : undefined,
    otherModels: {
      instead: [...new Set([...models.slice(1), ...others.flatMap(({ instead }) => instead)])],
      beside: [...new Set(others.flatMap(({ beside }) => beside))],
    },
  };
}

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

/** What Anthropic puts before tools, and before those of its own kind: its pricing page lists the tokens; a schema for
 *  the answer has a preamble too. */
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
