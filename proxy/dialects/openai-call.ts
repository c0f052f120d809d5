// What a request in OpenAI's format asks for, in what matters to its price.
import { PLAIN_CALL } from "./call.ts";
import type { Call } from "./call.ts";
import type { KnownBy } from "./fields.ts";
import { findDeep, listOf, objectAt, objectsIn, readLimit, textAt, textsOf } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { otherModels, predictedBytes, unknownCost, unknownName } from "./openai-fields.ts";
import { describeMedia } from "./openai-media-call.ts";
import { alwaysSearched, searchTier } from "./openai-usage.ts";
import type { RouteMatch } from "./routes.ts";
import { far, media, unproven, BATCH_FILE, STORED_PROMPT, UNNAMED_MODEL } from "./why.ts";
import type { Why } from "./why.ts";

/** A service tier that the provider chooses by itself is not asked for. */
const OWN_CHOICE = new Set(["auto", "default"]);

/** What a request of any endpoint asks for. */
export function describeOpenAi(
  { route, parameters }: RouteMatch,
  body: JsonObject,
  _headers: unknown,
  knownBy: KnownBy,
): Call {
  if (route.endpoint === "batches") return BATCH;
  // A deployment in the path decides, whatever the body says.
  const deployment = parameters["model"];
  const media = describeMedia(route, deployment === undefined ? body : { ...body, model: deployment }, knownBy);
  if (media) return media;
  const tier = textAt(body, "service_tier");
  const model = deployment ?? textAt(body, "model") ?? "";
  const most = maxOutput(route.endpoint, body, knownBy);
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
    continues: continues(body),
    fees: alwaysSearched(model),
    otherModels: otherModels(body),
    hidden: makesSound(body) ? "sound" : undefined,
    mayThink: mayThink(model, body),
    isText: !makesPictures(model, body),
    hiddenTokens: hiddenTokens(body),
    isStored: route.endpoint === "chat_completions" && body["store"] === true,
    person: textAt(body, "user") ?? textAt(body, "safety_identifier"),
    bodyTags: textsOf(objectAt(body, "metadata")),
  };
}

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

function openInput(body: JsonObject): Why | undefined {
  const stored = ["previous_response_id", "conversation"].find(
    (field) => body[field] !== undefined && body[field] !== null,
  );
  if (stored === "previous_response_id") return { kind: "answer", field: stored };
  if (stored !== undefined) return far(stored);
  if (objectAt(body, "prompt")) return STORED_PROMPT;
  if (objectsIn(body["input"]).some(liesElsewhere)) return far("an item that lies at the provider");
  // Which of them counts is the provider's to say.
  return findDeep([body["messages"], body["input"], body["instructions"]], isRemotePart)
    ? media("a picture or file")
    : undefined;
}

/** The answer that it goes on from, where all else of its input is in the body. */
function continues(body: JsonObject): string | undefined {
  const before = textAt(body, "previous_response_id");
  return before !== undefined && openInput({ ...body, previous_response_id: undefined }) === undefined
    ? before
    : undefined;
}

function unbounded(endpoint: string, body: JsonObject): Why | undefined {
  // Elsewhere nothing goes on: what is said there changes nothing that is known.
  if (isBackground(body))
    return unproven(endpoint === "responses" ? "background" : "background where nothing is known of it");
  if (objectAt(body, "web_search_options")) return unproven("web_search_options");
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
  const tools = listOf(body["tools"]).length + listOf(body["functions"]).length;
  const isFramed = tools > 0 || body["response_format"] !== undefined || body["text"] !== undefined;
  return (isFramed ? PREAMBLE_TOKENS : 0) + 8 * tools + 4 * listOf(body["messages"]).length;
}

const PREAMBLE_TOKENS = 128;

/** Pictures, sound and files cost tokens by rules of their own, wherever their bytes are; references stand for what
 *  lies at the provider. */
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

function askedSearchTier(body: JsonObject, { vendor }: KnownBy): string[] {
  if (vendor !== "perplexity") return [];
  const tier = searchTier(objectAt(body, "web_search_options") ?? {});
  return tier === undefined ? [] : [tier];
}
