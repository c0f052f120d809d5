// OpenAI's format: which fields are known, which tools are the client's, which models and things a body names.
// Compatible vendors' own sampling fields are among them. Source: platform.openai.com API reference and the references
// of the vendors named below.
import { unknownField } from "./fields.ts";
import type { KnownBy } from "./fields.ts";
import { deepAt, findAll, listOf, memberOf, NONE, objectAt, objectsIn, rawOf, textAt } from "./json.ts";
import { idOf, modelsIn } from "./named.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import { allowable, unproven } from "./why.ts";
import type { Why } from "./why.ts";

const words = (text: string): readonly string[] => text.trim().split(/\s+/);

/** How an answer is chosen and written: of vLLM, Ollama, Together, Fireworks, Groq, Mistral, DeepSeek, xAI, OpenRouter
 *  and others. None of them opens a cost anywhere. */
const SAMPLING = words(`
  temperature top_p top_k top_a min_p typical_p seed random_seed stop stop_token_ids frequency_penalty presence_penalty
  repetition_penalty length_penalty mirostat_target mirostat_lr logit_bias logprobs top_logprobs prompt_logprobs min_tokens ignore_eos
  include_stop_str_in_output skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens prompt_truncate_len bad_words
  allowed_token_ids guided_json guided_regex guided_choice guided_grammar guided_decoding_backend guided_whitespace_pattern
  structural_tag structured_outputs add_generation_prompt continue_final_message add_special_tokens chat_template_kwargs priority
  request_id return_tokens_as_token_ids return_token_ids cache_salt echo safe_prompt prompt_mode thinking thinking_budget
  enable_thinking clear_thinking preserve_thinking thinking_token_budget reasoning_format include_reasoning reasoning_history
  disable_tool_validation citation_options do_sample tool_stream incremental_output context_length_exceeded_behavior raw_output
  perf_metrics_in_response prompt_cache_isolation_key user_id user_security_context keep_alive format think transforms trace debug
  session_id use_encrypted_content bootstrap_host bootstrap_room compliance return_related_questions last_updated_before_filter
  last_updated_after_filter search_after_date_filter search_before_date_filter search_recency_filter search_domain_filter
  search_language_filter vl_high_resolution_images
`);
const SHARED = words(`
  model metadata user safety_identifier stream stream_options store parallel_tool_calls tool_choice tools prompt_cache_key
  prompt_cache_options prompt_cache_retention service_tier client_metadata cache_control usage verbosity
`);
const KNOWN: { readonly [endpoint: string]: ReadonlySet<string> } = {
  chat_completions: new Set([
    ...SHARED,
    ...SAMPLING,
    ...words(`messages n max_tokens max_completion_tokens functions function_call response_format reasoning reasoning_effort modalities audio
      background input instructions text include prediction`),
  ]),
  completions: new Set([
    ...SHARED,
    ...SAMPLING,
    ...words("prompt n best_of max_tokens suffix response_format background"),
  ]),
  responses: new Set([
    ...SHARED,
    ...words(`input instructions max_output_tokens max_tool_calls temperature top_p top_logprobs truncation text reasoning include
      access_programs previous_response_id conversation top_k background type stream_id event_id generate image`),
  ]),
  responses_compact: new Set([
    ...SHARED,
    ...words("input instructions max_output_tokens text reasoning include previous_response_id image"),
  ]),
  embeddings: new Set(
    words(`model input encoding_format dimensions user input_type output_dimension output_dtype truncate truncation task task_type
      embedding_types priority background metadata`),
  ),
  decisions: new Set(words("model input prompt_cache_key prompt_cache_options safety_identifier")),
  images: new Set(
    words(`model prompt n size quality background moderation output_compression output_format response_format style stream user
      partial_images safety_identifier input_fidelity image images mask`),
  ),
  audio_speech: new Set(words("model input voice response_format stream_format speed instructions")),
  audio_transcriptions: new Set(
    words("model file response_format language prompt temperature stream timestamp_granularities include"),
  ),
  videos: new Set(words("model prompt seconds size input_reference")),
};

/** What is known inside of fields that hold more than bytes. */
const INSIDE: readonly (readonly [field: string, known: ReadonlySet<string>])[] = [
  ["reasoning", new Set(words("effort summary generate_summary context enabled exclude max_tokens"))],
  ["stream_options", new Set(words("include_usage include_obfuscation chunk_include_usage continuous_usage_stats"))],
  ["usage", new Set(["include"])],
];

/** Tools that the client runs: they cost what the body shows. */
const CLIENT_TOOLS = new Set([
  "function",
  "custom",
  "apply_patch",
  "local_shell",
  "openrouter:datetime",
  "computer",
  "computer_use_preview",
]);
/** Items of an input that are history or text. */
const INPUT_ITEMS = new Set(
  words(`message reasoning function_call function_call_output custom_tool_call custom_tool_call_output local_shell_call
    local_shell_call_output shell_call shell_call_output apply_patch_call apply_patch_call_output tool_search_call tool_search_output
    additional_tools configuration_update item_reference compaction computer_call computer_call_output image_generation_call
    web_search_call file_search_call code_interpreter_call`),
);
/** Models that search, or run others, by themselves. */
const SELF_ACTING =
  /-search-(preview|api)|deep-research|^(groq\/)?compound|multi-agent|^openrouter\/|^@preset|:online$|model-router/;
/** OpenAI's pictures have published sizes and qualities; others may cost more. */
const PICTURE_SIZE = /^(auto|256x256|512x512|1024x1024|1024x1536|1536x1024|1024x1792|1792x1024)$/;
const PICTURE_QUALITY = /^(auto|low|medium|high|standard|hd)$/;

/** Why nothing bounds what a body asks for, or undefined. */
export function unknownCost(endpoint: string, model: string, body: JsonObject, by: KnownBy): Why | undefined {
  if (!KNOWN[endpoint]) return undefined;
  if (SELF_ACTING.test(model)) return unproven(`the model ${model}, which searches or calls others by itself`);
  if (by.vendor === "perplexity") return unproven("a model that searches before it answers");
  // What it states that an answer costs is booked, and no list says how much that can be.
  if (by.vendor === "openrouter") return unproven("the provider that OpenRouter chooses, and its price");
  return (
    (endpoint === "images" ? unknownPicture(body) : undefined) ??
    hostedTool(body["tools"], by) ??
    unknownItem(body["input"], by) ??
    unknownPart(body["messages"]) ??
    unknownPart(body["input"]) ??
    // Rejected words of it are paid for beside the answer.
    (body["prediction"] !== undefined && body["prediction"] !== null && body["max_completion_tokens"] === undefined
      ? unproven("a prediction without max_completion_tokens")
      : undefined)
  );
}

/** The first field that nobody knows, as a reason. */
export function unknownName(endpoint: string, body: JsonObject, by: KnownBy): Why | undefined {
  const known = KNOWN[endpoint];
  if (!known) return undefined;
  const reason = unknownField(body, known, by);
  if (reason !== undefined) return reason;
  for (const [field, names] of INSIDE) {
    const holder = objectAt(body, field);
    const inside = holder && unknownField(holder, names, by, `${field}.`);
    if (inside !== undefined) return inside;
  }
  return undefined;
}

function unknownPicture(body: JsonObject): Why | undefined {
  const has = (name: string, pattern: RegExp): boolean => {
    const value = body[name];
    return value === undefined || value === null || (typeof value === "string" && pattern.test(value));
  };
  if (!has("size", PICTURE_SIZE)) return unproven('the field "size" with a size that has no published price');
  if (!has("quality", PICTURE_QUALITY))
    return unproven('the field "quality" with a quality that has no published price');
  return has("output_format", /^(png|jpeg|webp)$/)
    ? undefined
    : unproven('the field "output_format" with a second model');
}

/** The first tool that runs at the provider, as a reason. */
function hostedTool(value: unknown, by: KnownBy): Why | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) return unproven("tools");
  for (const tool of listOf(value)) {
    const type = textAt(tool, "type") ?? (objectAt(tool, "function") ? "function" : "without a type");
    if (CLIENT_TOOLS.has(type) || by.allowed.includes(`tool ${type}`)) continue;
    if (type === "namespace") {
      const inner = hostedTool(memberOf(tool, "tools") ?? [], by);
      if (inner !== undefined) return inner;
    } else if (type === "tool_search" && memberOf(tool, "execution") === "client") continue;
    else if (type === "shell" && textAt(objectAt(tool, "environment"), "type") === "local") continue;
    else return allowable(`tool ${type.slice(0, 60)}`);
  }
  return undefined;
}

/** Parts of a message whose cost is that of the text or the files that they hold. */
const PARTS = new Set(
  words(`text input_text output_text summary_text reasoning_text refusal image_url input_image input_audio input_file file thinking
    redacted_thinking tool_use tool_result tool-call tool-result encrypted_content computer_screenshot`),
);

/** Parts that nobody knows may be films or documents, which cost by rules of their own. */
function unknownPart(messages: unknown): Why | undefined {
  for (const message of objectsIn(messages))
    for (const part of objectsIn(message["content"])) {
      const type = textAt(part, "type");
      if (type !== undefined && !PARTS.has(type)) return unproven(`a part of type ${type.slice(0, 60)}`);
    }
  return undefined;
}

/** Items that bring more than text: tools of their own, passes beyond the answer. */
function unknownItem(input: unknown, by: KnownBy): Why | undefined {
  for (const item of objectsIn(input)) {
    const type = textAt(item, "type") ?? "message";
    if (!INPUT_ITEMS.has(type) && !by.allowed.includes(type)) return unproven(`an input of type ${type.slice(0, 60)}`);
    const inner = hostedTool(item["tools"], by);
    if (inner !== undefined) return inner;
  }
  return undefined;
}

/** Bytes of words that are predicted: what is rejected of them is output beside the answer. */
export function predictedBytes(body: JsonObject): number {
  const prediction = objectAt(body, "prediction");
  return prediction ? Buffer.byteLength(rawOf(prediction) ?? "") : 0;
}

/** Members under which other models stand, at any depth. */
const NAMING_MODELS = words("tools input providerOptions plugins compound_custom models fallbacks safety_model svg");
const NO_OTHERS = Object.freeze({ instead: NONE, beside: NONE });

/** Models beside the one that is asked for. */
export function otherModels(body: JsonObject): NonNullable<Call["otherModels"]> {
  if (NAMING_MODELS.every((name) => body[name] === undefined)) return NO_OTHERS;
  const tools = [
    ...objectsIn(body["tools"]),
    ...objectsIn(body["input"]).flatMap(({ tools: inner }) => objectsIn(inner)),
  ];
  const drawing = tools
    .filter((tool) => textAt(tool, "type") === "image_generation")
    .map((tool) => textAt(tool, "model") ?? IMAGE_TOOL_MODEL);
  const gateway = deepAt(body, "providerOptions", "gateway", "models");
  const router = objectsIn(body["plugins"]).flatMap((plugin) => [
    ...modelsIn(plugin["model"]),
    ...modelsIn(plugin["allowed_models"]),
    ...modelsIn(plugin["analysis_models"]),
  ]);
  const compound = objectAt(objectAt(body, "compound_custom"), "models") ?? {};
  return {
    instead: [body["models"], body["fallbacks"], gateway].flatMap(modelsIn),
    beside: [
      ...drawing,
      ...tools
        .filter((tool) => textAt(tool, "type")?.startsWith("openrouter:"))
        .flatMap((tool) => modelsIn(deepAt(tool, "parameters", "model"))),
      ...router,
      ...modelsIn(body["safety_model"]),
      ...modelsIn(deepAt(body, "svg", "model")),
      ...Object.values(compound).flatMap(modelsIn),
    ],
  };
}

/** What draws when the tool names no model. */
export const IMAGE_TOOL_MODEL = "gpt-image-1";

/** Members that name things at the provider. */
const REFERENCES = new Set(
  words(`file_id input_file_id conversation previous_response_id container container_id vector_store_ids skill_id cached_content video
    input_reference characters voice comparison_response_id image_file_id`),
);

/** Names of files, answers, conversations, containers, skills and films in a body. */
export function referencesOf(body: JsonObject): string[] {
  const named: string[] = [];
  const add = (value: unknown): void => void named.push(...idOf(value));
  for (const value of findAll(body, REFERENCES)) for (const one of Array.isArray(value) ? value : [value]) add(one);
  for (const items of [body["input"], body["messages"]])
    for (const item of objectsIn(items)) {
      if (textAt(item, "type") === "item_reference") add(item["id"]);
      add(objectAt(item, "audio"));
    }
  // A form writes a member of a member in its name.
  add(body["video[id]"]);
  add(objectAt(body, "prompt"));
  return named;
}
