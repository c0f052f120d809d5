// Google's Interactions: one endpoint for models and agents, in JSON, in events, or in the background. The counts are
// total_*; input includes cached tokens and leaves out what tools put into the prompt, output leaves out thoughts.
// Source: ai.google.dev, Interactions API reference.
import { readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import { compactUsage, hasOddCounts, unknownNumbers } from "./stated.ts";
import { countWords, marksOf } from "./words.ts";
import { findDeep, objectAt, objectsIn, parseObject, rawOf, readLimit, textAt, textsOf } from "./json.ts";
import { NO_READING } from "./reading.ts";
import { PLAIN_CALL } from "./call.ts";
import { idOf } from "./named.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { KnownFields } from "./stated.ts";
import type { Reading, UsageReader } from "./reading.ts";
import type { Route } from "./routes.ts";
import { allowable, media, unproven } from "./why.ts";

export const INTERACTION_ROUTES: readonly Route[] = [
  { method: "POST", path: "/interactions", endpoint: "interactions", kind: "metered" },
  { method: "GET", path: "/interactions/{id}", endpoint: "interactions", kind: "result" },
  { method: "POST", path: "/interactions/{id}/cancel", endpoint: "interactions", kind: "result" },
  { method: "DELETE", path: "/interactions/{id}", endpoint: "interactions_state", kind: "free", scope: "work" },
];

export function describeInteraction(body: JsonObject): Call {
  const agent = textAt(body, "agent");
  const tier = textAt(body, "service_tier") ?? textAt(body, "serviceTier");
  const config = objectAt(body, "generation_config");
  const odd = CAMEL.find((name) => isSent(body[name])) ?? CAMEL_CONFIG.find((name) => isSent(config?.[name]));
  const tools = objectsIn(body["tools"]);
  const hosted = tools.map((tool) => textAt(tool, "type")).find((type) => type !== "function");
  const isRemote = findDeep(body["input"], (name) => name === "data" || name === "uri");
  return {
    ...PLAIN_CALL,
    endpoint: "interactions",
    person: textAt(objectAt(body, "labels"), "user"),
    bodyTags: textsOf(objectAt(body, "labels")),
    model: textAt(body, "model") ?? agent ?? "",
    stream: body["stream"] === true,
    tiers: tier === undefined ? [] : [tier],
    maxOutputTokens: readLimit(config?.["max_output_tokens"]),
    mayThink: true,
    writesCache: false,
    goesOn: agent !== undefined || (isSent(body["background"]) && body["background"] !== false),
    continues: isRemote ? undefined : textAt(body, "previous_interaction_id"),
    openInput:
      textAt(body, "previous_interaction_id") === undefined
        ? isRemote
          ? media("a picture or file")
          : undefined
        : { kind: "answer", field: "previous_interaction_id" },
    unbounded:
      // The other spelling of a field may be what the provider reads.
      (odd === undefined ? undefined : unproven(odd)) ??
      (agent === undefined ? undefined : unproven(`agent ${agent}`)) ??
      (isSent(body["background"]) && body["background"] !== false ? unproven("background") : undefined) ??
      (hosted === undefined ? undefined : allowable(`tool ${hosted}`)),
  };
}

const CAMEL = ["generationConfig", "previousInteractionId", "serviceTier"];
const CAMEL_CONFIG = ["maxOutputTokens"];

/** Null is no value: the provider reads it as absent. */
function isSent(value: unknown): boolean {
  return value !== undefined && value !== null;
}

export function createInteractionReader(call: Call): UsageReader {
  let last: JsonObject | undefined;
  let ended = false;
  let failed = false;
  return {
    needsWholeBody: true,
    body(body) {
      last = body;
      ended = true;
      failed = body["error"] !== undefined || textAt(body, "status") === "failed";
    },
    event(data) {
      if (!STATES.test(data)) return "pass";
      const event = parseObject(data);
      const interaction = objectAt(event, "interaction");
      if (interaction) last = { ...last, ...interaction };
      const type = textAt(event, "event_type");
      failed ||= type === "error" || textAt(interaction, "status") === "failed";
      ended ||= type === "interaction.completed";
      return ended || failed ? "last" : "pass";
    },
    words: (data) => countWords(data, WORDS),
    reading(): Reading {
      const stated = objectAt(last, "usage");
      const status = textAt(last, "status");
      const tier = textAt(last, "service_tier");
      // What it ran as an agent names that.
      const servedModel = textAt(last, "model") ?? textAt(last, "agent");
      return {
        ...NO_READING,
        usage: stated && readUsage(stated, servedModel ?? call.model, searchSteps(last)),
        ...(readCount(stated?.["total_tool_use_tokens"])
          ? { context: readCount(stated?.["total_input_tokens"]), isContextGuess: true }
          : {}),
        reasoning: readCount(stated?.["total_thought_tokens"]),
        servedModel,
        tiers: tier === undefined ? [] : [tier],
        // A stream that ends an interaction names no id.
        responseId: textAt(last, "id"),
        makes: last?.["store"] === false ? [] : idOf(last?.["id"]),
        raw: rawOf(stated),
        isContradictory: hasOddCounts(stated) || (stated !== undefined && beyondParts(stated) > 0),
        unknownFields: unknownNumbers(stated, KNOWN),
        final: stated !== undefined && ended && status !== "in_progress",
        ended,
        failed,
        // A stream that is cut ends its work; what runs in the background goes on.
        pending:
          status === "in_progress" &&
          textAt(last, "id") !== undefined &&
          (call.isResult === true || call.goesOn === true),
      };
    },
  };
}

const STATES = /"event_type"\s*:\s*"(?:interaction\.|error)/;

/** Undefined when the input's count is missing: then it says nothing. What a total counts beyond its parts was
 *  written. */
function readUsage(stated: JsonObject, model: string, steps: number): Usage | undefined {
  if (readCount(stated["total_input_tokens"]) === undefined) return undefined;
  const count = (name: string): number => readCount(stated[name]) ?? 0;
  const input = count("total_input_tokens");
  const cached = Math.min(count("total_cached_tokens"), input);
  const output = count("total_output_tokens") + count("total_thought_tokens") + beyondParts(stated);
  const of = (name: string, modality: string): number => byModality(stated[name], modality);
  const cachedAudio = Math.min(of("cached_tokens_by_modality", "audio"), cached);
  const audio = Math.min(Math.max(of("input_tokens_by_modality", "audio") - cachedAudio, 0), input - cached);
  const image = Math.min(of("input_tokens_by_modality", "image"), input - cached - audio);
  const video = Math.min(of("input_tokens_by_modality", "video"), input - cached - audio - image);
  const outputAudio = Math.min(of("output_tokens_by_modality", "audio"), output);
  const outputImage = Math.min(of("output_tokens_by_modality", "image"), output - outputAudio);
  // Stated, else as many as the steps show.
  const searches = stated["grounding_tool_count"] === undefined ? steps : groundings(stated["grounding_tool_count"]);
  return compactUsage({
    input: input - cached - audio - image - video,
    input_tool: count("total_tool_use_tokens"),
    input_audio: audio,
    input_image: image,
    input_video: video,
    cache_read: cached - cachedAudio,
    cache_read_audio: cachedAudio,
    output: output - outputAudio - outputImage,
    output_audio: outputAudio,
    output_image: outputImage,
    ...(/^gemini-[12]/.test(model) ? { grounded_prompt: Math.min(searches, 1) } : { grounding_query: searches }),
  });
}

/** Tokens that the total counts and none of its parts. */
function beyondParts(stated: JsonObject): number {
  const parts = ["total_input_tokens", "total_output_tokens", "total_thought_tokens", "total_tool_use_tokens"];
  const known = parts.reduce((sum, name) => sum + (readCount(stated[name]) ?? 0), 0);
  return Math.max((readCount(stated["total_tokens"]) ?? 0) - known, 0);
}

/** Searches among the steps: a call may have several queries, of which empty ones are none. */
function searchSteps(interaction: JsonObject | undefined): number {
  const steps = [...objectsIn(interaction?.["steps"]), ...objectsIn(interaction?.["outputs"])];
  return steps
    .filter((step) => textAt(step, "type") === "google_search_call")
    .reduce((sum, step) => {
      const queries = objectAt(step, "arguments")?.["queries"];
      return (
        sum +
        (Array.isArray(queries)
          ? queries.filter((query) => typeof query === "string" && query.trim() !== "").length
          : 1)
      );
    }, 0);
}

function byModality(list: unknown, modality: string): number {
  return objectsIn(list)
    .filter((entry) => textAt(entry, "modality") === modality)
    .reduce((sum, entry) => sum + (readCount(entry["tokens"]) ?? 0), 0);
}

function groundings(list: unknown): number {
  return objectsIn(list).reduce((sum, entry) => sum + (readCount(entry["count"]) ?? 0), 0);
}

const BY_MODALITY: KnownFields = { tokens: true };
const KNOWN: KnownFields = {
  total_tokens: true,
  total_input_tokens: true,
  total_cached_tokens: true,
  total_output_tokens: true,
  total_thought_tokens: true,
  total_tool_use_tokens: true,
  initial_input_tokens: true,
  input_tokens_by_modality: BY_MODALITY,
  cached_tokens_by_modality: BY_MODALITY,
  output_tokens_by_modality: BY_MODALITY,
  tool_use_tokens_by_modality: BY_MODALITY,
  grounding_tool_count: { count: true },
};

const WORDS = marksOf("text");
