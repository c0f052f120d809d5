// What OpenAI and the vendors that speak its format say was used: counts taken apart into disjoint classes, fees,
// second models and stated costs. Prompt counts include cached tokens and cache writes, completion counts include
// reasoning: both are taken apart here, and nowhere else. The odd fields of compatible vendors are named where they are
// read.
import { parseUsd } from "../../ledger/money.ts";
import { readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import { IMAGE_TOOL_MODEL } from "./openai-fields.ts";
import { ANY, compactUsage, hasOddCounts, unknownNumbers } from "./stated.ts";
import { NONE, objectAt, objectsIn, rawOf, textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";
import type { KnownFields } from "./stated.ts";
import type { Reading } from "./reading.ts";

/** What is known with one more answer, or one more event of it, beside what was known before. */
export function saidBy(before: Reading, answer: JsonObject): Reading {
  const tier = textAt(answer, "service_tier");
  const now: Reading = {
    ...before,
    servedModel: textAt(answer, "model") ?? before.servedModel,
    responseId: textAt(answer, "id") ?? before.responseId,
    tiers: tier === undefined ? before.tiers : [tier],
  };
  const stated = objectAt(answer, "usage") ?? objectAt(objectAt(answer, "x_groq"), "usage");
  if (!stated) return now;
  const statedTier = textAt(stated, "service_tier") ?? searchTier(stated);
  return {
    ...now,
    ...readUsage(stated, answer),
    ...imageToolUse(answer),
    passes: passesOf(answer),
    raw: rawOf(answer["tool_usage"] ? { ...stated, tool_usage: answer["tool_usage"] } : stated),
    statedCostNanoUsd: statedCost(stated),
    unknownFields: unknownNumbers(stated, KNOWN),
    tiers: statedTier === undefined ? now.tiers : [statedTier],
  };
}

/** Takes a usage object apart into disjoint classes. Undefined when it holds no counts that make sense. */
export function readUsage(
  stated: JsonObject,
  answer: JsonObject,
): { usage: Usage; reasoning: number | undefined; isContradictory: boolean } | undefined {
  const isResponses = stated["input_tokens"] !== undefined;
  const total = readCount(stated["total_tokens"]);
  const named = isResponses ? stated["input_tokens"] : stated["prompt_tokens"];
  // Voyage's embeddings name the total only.
  const prompt = readCount(named ?? (stated["completion_tokens"] === undefined ? total : undefined));
  // Embeddings, and completions that wrote nothing, name the prompt and the total only.
  const completion =
    readCount(isResponses ? stated["output_tokens"] : stated["completion_tokens"]) ??
    (prompt !== undefined && total !== undefined && total >= prompt ? total - prompt : undefined);
  if (prompt === undefined || completion === undefined) return undefined;
  const inputDetails =
    objectAt(stated, isResponses ? "input_tokens_details" : "prompt_tokens_details") ??
    objectAt(stated, "prompt_token_details");
  const outputDetails = objectAt(stated, isResponses ? "output_tokens_details" : "completion_tokens_details");
  const details = inputDetails ?? outputDetails;

  // Cached tokens: OpenAI in the details; DeepSeek, Moonshot, Together and older Mistral at the top level.
  const cached =
    readCount(inputDetails?.["cached_tokens"]) ??
    readCount(stated["cached_tokens"]) ??
    readCount(stated["prompt_cache_hit_tokens"]) ??
    readCount(stated["num_cached_tokens"]) ??
    0;
  const written = readCount(inputDetails?.["cache_write_tokens"]) ?? 0;
  const writtenLong = Math.min(
    readCount(objectAt(inputDetails, "cache_write_tokens_details")?.["ttl_12h_tokens"]) ?? 0,
    written,
  );
  // More cached than prompted (Grok on Azure) has no known meaning: the prompt is billed as plain input.
  const cacheRead = cached > prompt ? 0 : cached;
  // OpenRouter names the same tokens as read and as written when one call did both: they are not subtracted twice.
  const uncached = prompt - cacheRead - written >= 0 ? prompt - cacheRead - written : prompt - cacheRead;
  // Mistral's sound lies outside the prompt, and is billed by the second.
  const sound = stated["prompt_audio_seconds"];
  const seconds = readCount(typeof sound === "number" ? Math.ceil(sound) : undefined);
  const inputAudio = seconds === undefined ? Math.min(readCount(inputDetails?.["audio_tokens"]) ?? 0, uncached) : 0;

  const reasoning = readCount(outputDetails?.["reasoning_tokens"]);
  const output =
    isResponses || seconds !== undefined ? completion : outputOf(prompt, completion, reasoning, total, details);
  const outputAudio = Math.min(readCount(outputDetails?.["audio_tokens"]) ?? 0, output);

  return {
    reasoning,
    isContradictory: cached > prompt || (total !== undefined && total > 0 && total < prompt) || hasOddCounts(stated),
    usage: compactUsage({
      input: uncached - inputAudio,
      input_audio: inputAudio,
      audio_second: seconds,
      cache_read: cacheRead,
      cache_write_30m: written - writtenLong,
      cache_write_12h: writtenLong,
      output: output - outputAudio,
      output_audio: outputAudio,
      ...searches(answer, stated),
      file_search: countItems(answer, "file_search_call"),
      container: containers(answer),
    }),
  };
}

/** What was written in all. xAI's chat counts reasoning beside the completion, and Google, in OpenAI's format, hides
 *  it: the total tells. */
function outputOf(
  prompt: number,
  completion: number,
  reasoning: number | undefined,
  total: number | undefined,
  details: JsonObject | undefined,
): number {
  if (total === undefined) return completion;
  if (reasoning && total === prompt + completion + reasoning) return completion + reasoning;
  return !details && total > prompt + completion ? total - prompt : completion;
}

/** How much Perplexity searched: it picks the fee. */
export function searchTier(stated: JsonObject): string | undefined {
  const size = textAt(stated, "search_context_size");
  return size === "medium" || size === "high" ? `variant:${size}` : undefined;
}

/** Billable searches: stated, or counted from the answer's items (an upper bound), or one for each answer of a model
 *  that always searches. The older tool has a price of its own. */
function searches(answer: JsonObject, stated: JsonObject): Usage {
  const model = textAt(answer, "model") ?? "";
  const count =
    readCount(objectAt(stated, "server_tool_use_details")?.["web_search_requests"]) ??
    readCount(objectAt(stated, "server_side_tool_usage_details")?.["web_search_calls"]) ??
    readCount(objectAt(objectAt(answer, "tool_usage"), "web_search")?.["num_requests"]) ??
    (SEARCHES.test(model)
      ? 1
      : countItems(answer, "web_search_call", (item) => (objectAt(item, "action")?.["type"] ?? "search") === "search"));
  const tools = objectsIn(answer["tools"]);
  const isPreview =
    model.includes("-search-preview") || tools.some((tool) => textAt(tool, "type")?.startsWith("web_search_preview"));
  return isPreview ? { web_search_preview: count } : { web_search: count };
}

/** Chat models that search before every answer. */
const SEARCHES = /-search-(preview|api)/;

/** The search that such a model makes for every answer; undefined for all others. */
export function alwaysSearched(model: string): Usage | undefined {
  if (!SEARCHES.test(model)) return undefined;
  return model.includes("-search-preview") ? { web_search_preview: 1 } : { web_search: 1 };
}

/** Containers that the code interpreter or a shell worked in. */
function containers(answer: JsonObject): number {
  if (objectsIn(answer["output"]).length === 0) return 0;
  const inInterpreter = outputItems(answer, "code_interpreter_call").map((item) => textAt(item, "container_id") ?? "");
  const inShell = outputItems(answer, "shell_call").flatMap(
    (item) => textAt(objectAt(item, "environment"), "container_id") ?? [],
  );
  return new Set([...inInterpreter, ...inShell]).size;
}

function outputItems(answer: JsonObject, type: string): readonly JsonObject[] {
  const output = objectsIn(answer["output"]);
  return output.length === 0 ? NONE : output.filter((item) => textAt(item, "type") === type);
}

function countItems(answer: JsonObject, type: string, test: (item: JsonObject) => boolean = () => true): number {
  return outputItems(answer, type).filter(test).length;
}

/** Pictures made by a tool are a second model's use, on top of the answer's own: its tokens where they are stated, else
 *  the pictures by the piece, by the quality and size that each says it has. */
function imageToolUse(answer: JsonObject): { readonly extra: Reading["extra"]; readonly isEstimate: boolean } {
  const stated = objectAt(objectAt(answer, "tool_usage"), "image_gen");
  const [input, output] = [readCount(stated?.["input_tokens"]), readCount(stated?.["output_tokens"])];
  const tool = objectsIn(answer["tools"]).find((one) => textAt(one, "type") === "image_generation");
  const model = textAt(tool, "model") ?? IMAGE_TOOL_MODEL;
  if (input !== undefined && output !== undefined) {
    const images = Math.min(readCount(objectAt(stated, "input_tokens_details")?.["image_tokens"]) ?? 0, input);
    const usage = compactUsage({ input: input - images, input_image: images, output_image: output });
    return { extra: Object.keys(usage).length > 0 ? [{ model, usage }] : [], isEstimate: false };
  }
  const drawn = outputItems(answer, "image_generation_call").filter((item) => textAt(item, "status") !== "failed");
  if (drawn.length === 0) return NOTHING_DRAWN;
  const variants = drawn.map((item) => {
    const [quality, size] = [textAt(item, "quality"), textAt(item, "size")];
    // What does not say what it is may be the dearest.
    return `variant:${quality && PIECES.test(quality) ? quality : "high"}/${size && PIECE_SIZES.test(size) ? size : "1536x1024"}`;
  });
  const extra = [...new Set(variants)].map((variant) => ({
    model,
    tiers: [variant],
    usage: { image: variants.filter((one) => one === variant).length },
  }));
  return { extra, isEstimate: true };
}

const NOTHING_DRAWN = Object.freeze({ extra: NONE, isEstimate: false });

const PIECES = /^(low|medium|high)$/;
const PIECE_SIZES = /^(1024x1024|1024x1536|1536x1024)$/;

/** How many passes of the model an answer took: each tool that ran at the provider began another one. */
function passesOf(answer: JsonObject): number {
  return 1 + objectsIn(answer["output"]).filter((item) => HOSTED_CALLS.test(textAt(item, "type") ?? "")).length;
}

const HOSTED_CALLS = /^(web_search|file_search|code_interpreter|image_generation|mcp|shell)_call$/;

/** What vendors say that it cost. Each has its field, its unit and its meaning:
 *  - xAI `cost_in_usd_ticks`: 1e-10 USD, all of it, tools and discounts among it
 *  - Perplexity `cost.total_cost`: USD, all of it, the request's fee among it
 *  - OpenRouter, and gateways like it, `cost`: USD, all of it; where the key is the user's own (`is_byok`) only the gateway's fee, and the
 *    upstream's share is `cost_details.upstream_inference_cost`
 *  Undefined where none is stated; 0 is kept, for what is to be believed of it depends on what was used. */
export function statedCost(stated: JsonObject): bigint | undefined {
  const ticks = readTicks(stated["cost_in_usd_ticks"]);
  if (ticks !== undefined) return (ticks + 5n) / 10n;
  const all = readAmount(objectAt(stated, "cost")?.["total_cost"] ?? stated["cost"]);
  if (all === undefined || stated["is_byok"] !== true) return all;
  return all + (readAmount(objectAt(stated, "cost_details")?.["upstream_inference_cost"]) ?? 0n);
}

function readTicks(value: unknown): bigint | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined;
}

/** USD as a number, or as the decimal text of one. */
function readAmount(value: unknown): bigint | undefined {
  const amount = typeof value === "string" && /^\d{1,7}(\.\d{1,18})?$/.test(value) ? Number(value) : value;
  return typeof amount === "number" && amount >= 0 && amount < MOST_STATED_USD
    ? parseUsd(amount.toFixed(NANO_DIGITS))
    : undefined;
}

const MOST_STATED_USD = 1_000_000;
const NANO_DIGITS = 9;

/** What OpenAI and the vendors that speak its format put into usage: counts that are read above, parts and sums of
 *  them, and times and prices for information. */
const PROMPT_DETAILS: KnownFields = {
  cached_tokens: true,
  cache_write_tokens: true,
  cache_write_tokens_details: { ttl_30m_tokens: true, ttl_12h_tokens: true },
  audio_tokens: true,
  text_tokens: true,
  image_tokens: true,
  video_tokens: true,
  cached_tokens_internal: true,
};
const COMPLETION_DETAILS: KnownFields = {
  reasoning_tokens: true,
  audio_tokens: true,
  text_tokens: true,
  image_tokens: true,
  accepted_prediction_tokens: true,
  rejected_prediction_tokens: true,
};
const KNOWN: KnownFields = {
  prompt_tokens: true,
  completion_tokens: true,
  input_tokens: true,
  output_tokens: true,
  total_tokens: true,
  reasoning_tokens: true,
  prompt_tokens_details: PROMPT_DETAILS,
  prompt_token_details: PROMPT_DETAILS,
  input_tokens_details: PROMPT_DETAILS,
  completion_tokens_details: COMPLETION_DETAILS,
  output_tokens_details: COMPLETION_DETAILS,
  cached_tokens: true,
  prompt_cache_hit_tokens: true,
  prompt_cache_miss_tokens: true,
  num_cached_tokens: true,
  // Groq's times, and the stated costs of xAI, OpenRouter and Perplexity.
  queue_time: true,
  prompt_time: true,
  completion_time: true,
  total_time: true,
  cost_in_usd_ticks: true,
  cost: true,
  cost_details: {
    upstream_inference_cost: true,
    upstream_inference_prompt_cost: true,
    upstream_inference_completions_cost: true,
    upstream_inference_input_cost: true,
    upstream_inference_output_cost: true,
  },
  market_cost: true,
  // Searches that are read above, and speeds and sums for information.
  server_tool_use_details: { web_search_requests: true, tool_calls_requested: true, tool_calls_executed: true },
  server_side_tool_usage_details: { web_search_calls: true },
  num_server_side_tools_used: true,
  prompt_audio_seconds: true,
  request_count: true,
  tokens_per_second: true,
  prompt_tokens_per_second: true,
  time_to_first_token_ms: true,
  time_per_output_token_ms: true,
  latency_checkpoint: ANY,
  context_details: ANY,
};
