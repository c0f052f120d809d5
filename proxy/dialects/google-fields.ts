// Gemini's format: which fields are known, in both spellings, which models and things a body names.
// Source: ai.google.dev and cloud.google.com API references.
import { unknownField } from "./fields.ts";
import type { KnownBy } from "./fields.ts";
import { deepAt, findAll, objectAt, objectsIn, textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { unproven } from "./why.ts";
import type { Why } from "./why.ts";

/** Protobuf JSON takes a name in either spelling. */
function bothSpellings(names: string): ReadonlySet<string> {
  return new Set(
    names
      .trim()
      .split(/\s+/)
      .flatMap((name) => [name, name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)]),
  );
}

const GENERATE =
  bothSpellings(`contents systemInstruction safetySettings toolConfig labels model tools generationConfig serviceTier
  cachedContent store sessionId`);
const CONFIG =
  bothSpellings(`temperature topP topK stopSequences responseMimeType responseSchema responseJsonSchema responseLogprobs logprobs
  presencePenalty frequencyPenalty seed thinkingConfig maxOutputTokens candidateCount mediaResolution responseModalities speechConfig
  imageConfig enableEnhancedCivicAnswers audioTimestamp enableAffectiveDialog translationConfig audioTranscriptionConfig`);
const THINKING = bothSpellings("includeThoughts thinkingLevel thinkingBudget");
const EMBED = bothSpellings(
  "content taskType title outputDimensionality autoTruncate model requests embedContentConfig",
);
const BATCH = bothSpellings("batch model");
const PREDICT = bothSpellings("instances parameters labels");
const PREDICT_PARAMETERS =
  bothSpellings(`aspectRatio seed negativePrompt guidanceScale safetySetting personGeneration includeRaiReason
  includeSafetyAttributes language outputOptions addWatermark storageUri autoTruncate outputDimensionality sampleCount enhancePrompt`);
const FILM_PARAMETERS =
  bothSpellings(`aspectRatio seed negativePrompt personGeneration enhancePrompt compressionQuality resizeMode storageUri
  pubsubTopic fps sampleCount durationSeconds resolution generateAudio`);
const INTERACTION = new Set(
  `model input stream tools response_format response_mime_type safety_settings labels system_instruction generation_config service_tier
  previous_interaction_id store background agent`.split(/\s+/),
);
const INTERACTION_CONFIG = new Set(
  `temperature top_p seed stop_sequences thinking_level thinking_summaries tool_choice max_output_tokens`.split(/\s+/),
);

const TABLES: { readonly [endpoint: string]: ReadonlySet<string> } = {
  generate_content: GENERATE,
  stream_generate_content: GENERATE,
  embed_content: EMBED,
  batch_embed_contents: EMBED,
  batches: BATCH,
  predict: PREDICT,
  predict_long_running: PREDICT,
  interactions: INTERACTION,
};

/** The first field that nobody knows, as a reason. */
export function unknownName(endpoint: string, body: JsonObject, by: KnownBy): Why | undefined {
  const known = TABLES[endpoint];
  if (!known) return undefined;
  const config = objectAt(body, "generationConfig") ?? objectAt(body, "generation_config");
  const thinking = objectAt(config, "thinkingConfig") ?? objectAt(config, "thinking_config");
  const parameters = objectAt(body, "parameters");
  const tier = body["serviceTier"] ?? body["service_tier"];
  return (
    unknownField(body, known, by) ??
    unknownField(
      config,
      endpoint === "interactions" ? INTERACTION_CONFIG : CONFIG,
      by,
      endpoint === "interactions" ? "generation_config." : "generationConfig.",
    ) ??
    unknownField(thinking, THINKING, by, "thinkingConfig.") ??
    unknownField(parameters, endpoint === "predict" ? PREDICT_PARAMETERS : FILM_PARAMETERS, by, "parameters.") ??
    // An enumeration by its number names no tier that is known.
    (tier !== undefined && tier !== null && typeof tier !== "string"
      ? unproven("a service tier by its number")
      : undefined)
  );
}

/** Models beside the one in the path. */
export function otherModels(body: JsonObject, model: string): { instead: string[]; beside: string[] } {
  const short = (name: string): string => name.replace(/^.*\//, "");
  const config = objectAt(body, "generationConfig") ?? objectAt(body, "generation_config");
  const routing = objectAt(config, "routingConfig") ?? objectAt(config, "routing_config");
  const manual = objectAt(routing, "manualMode") ?? objectAt(routing, "manual_mode");
  const routed = routing ? [textAt(manual, "modelName") ?? textAt(manual, "model_name") ?? ""] : [];
  const batch = objectAt(body, "batch");
  const inputs = objectAt(batch, "inputConfig") ?? objectAt(batch, "input_config");
  const inner = objectsIn(objectAt(inputs, "requests")?.["requests"]).map((one) =>
    textAt(objectAt(one, "request"), "model"),
  );
  const named = [
    textAt(body, "model"),
    textAt(batch, "model"),
    ...inner,
    ...objectsIn(body["requests"]).map((one) => textAt(one, "model")),
  ];
  const others = named.filter((name) => name !== undefined).map(short);
  return { instead: [...new Set([...others, ...routed])].filter((name) => name !== model), beside: [] };
}

const REFERENCES = new Set([
  "cachedContent",
  "cached_content",
  "previous_interaction_id",
  "previousInteractionId",
  "fileName",
  "file_name",
]);
const URIS = new Set(["fileUri", "file_uri", "uri"]);

/** Names of caches, interactions and files in a body. */
export function referencesOf(body: JsonObject): string[] {
  const texts = (names: ReadonlySet<string>): string[] =>
    findAll(body, names).filter((value): value is string => typeof value === "string" && value !== "");
  // Under Vertex a cache has a long name; a file is named by a place that ends in its name.
  const caches = texts(REFERENCES).flatMap((name) => [name, ...(/cachedContents\/[^/]+$/.exec(name) ?? [])]);
  const files = texts(URIS).flatMap((uri) => /files\/[^/?#]+$/.exec(uri)?.[0] ?? []);
  const openAi = deepAt(body, "extra_body", "google", "cached_content");
  return [...new Set([...caches, ...files, ...(typeof openAi === "string" ? [openAi] : [])])];
}
