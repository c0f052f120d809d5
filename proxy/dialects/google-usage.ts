// The counts of Gemini's answers: the prompt's includes cached tokens and excludes tool-use prompts; candidates exclude
// thoughts. Source: ai.google.dev API reference, UsageMetadata.
import { readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import { compactUsage, hasOddCounts, unknownNumbers } from "./stated.ts";
import { NO_READING } from "./reading.ts";
import { objectAt, objectsIn, rawOf, textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";
import type { KnownFields } from "./stated.ts";
import type { Reading } from "./reading.ts";

/** What a usageMetadata object says, with the number of searches beside it. */
export function readingOf(stated: JsonObject, model: string, queries: number): Reading {
  const tier = textAt(stated, "serviceTier") ?? trafficTier(textAt(stated, "trafficType"));
  return {
    ...NO_READING,
    usage: readUsage(stated, groundingOf(model, queries)),
    // What tools brought came in passes of its own.
    ...(readCount(stated["toolUsePromptTokenCount"])
      ? { context: readCount(stated["promptTokenCount"]), isContextGuess: true }
      : {}),
    reasoning: readCount(stated["thoughtsTokenCount"]),
    tiers: tier === undefined ? [] : [tier.toLowerCase()],
    raw: rawOf(stated),
    isContradictory:
      hasOddCounts(stated) ||
      beyondParts(stated) > 0 ||
      numberOf(stated["cachedContentTokenCount"]) > numberOf(stated["promptTokenCount"]),
    unknownFields: unknownNumbers(stated, KNOWN),
  };
}

/** A number, or the text of one; what is none is above and below nothing. */
function numberOf(value: unknown): number {
  return typeof value === "object" ? (value === null ? 0 : Number.NaN) : Number(value ?? 0);
}

/** Vertex says how the request travelled; only some of it changes the price. */
function trafficTier(type: string | undefined): string | undefined {
  switch (type) {
    case "ON_DEMAND_FLEX":
      return "flex";
    case "ON_DEMAND_PRIORITY":
      return "priority";
    case "PROVISIONED_THROUGHPUT":
      return "provisioned";
    case undefined:
    default:
      return undefined;
  }
}

/** Protobuf JSON leaves zeros out, so an absent count is 0; but no prompt is empty. Undefined when the prompt's count
 *  is missing or what matters most is no count: then it says nothing. What a total counts beyond its parts was
 *  written. */
export function readUsage(stated: JsonObject, grounding: Usage): Usage | undefined {
  const main = [stated["promptTokenCount"], stated["candidatesTokenCount"], stated["responseTokenCount"]];
  if (main.some((value) => value !== undefined && readCount(value) === undefined)) return undefined;
  const prompt = readCount(stated["promptTokenCount"]);
  if (prompt === undefined) return undefined;
  const cached = Math.min(readCount(stated["cachedContentTokenCount"]) ?? 0, prompt);
  const toolUse = readCount(stated["toolUsePromptTokenCount"]) ?? 0;
  // Live says "response" where everything else says "candidates".
  const written = readCount(stated["candidatesTokenCount"] ?? stated["responseTokenCount"]) ?? 0;
  const output = written + (readCount(stated["thoughtsTokenCount"]) ?? 0) + beyondParts(stated);
  const promptBy = modalities(stated["promptTokensDetails"]);
  const cachedBy = modalities(stated["cacheTokensDetails"]);
  const outputBy = modalities(stated["candidatesTokensDetails"] ?? stated["responseTokensDetails"]);

  // Modalities of the prompt include what was cached of them.
  const cachedAudio = Math.min(cachedBy("AUDIO"), cached);
  const cachedImage = Math.min(cachedBy("IMAGE"), cached - cachedAudio);
  const uncached = prompt - cached;
  const audio = Math.min(Math.max(promptBy("AUDIO") - cachedAudio, 0), uncached);
  const image = Math.min(Math.max(promptBy("IMAGE") - cachedImage, 0), uncached - audio);
  const video = Math.min(Math.max(promptBy("VIDEO") - cachedBy("VIDEO"), 0), uncached - audio - image);
  const outputAudio = Math.min(outputBy("AUDIO"), output);
  const outputImage = Math.min(outputBy("IMAGE"), output - outputAudio);
  return compactUsage({
    input: uncached - audio - image - video,
    input_tool: toolUse,
    input_audio: audio,
    input_image: image,
    input_video: video,
    cache_read: cached - cachedAudio - cachedImage,
    cache_read_audio: cachedAudio,
    cache_read_image: cachedImage,
    output: output - outputAudio - outputImage,
    output_audio: outputAudio,
    output_image: outputImage,
    ...grounding,
  });
}

/** Tokens that the total counts and none of its parts. */
function beyondParts(stated: JsonObject): number {
  const parts = [
    "promptTokenCount",
    "candidatesTokenCount",
    "responseTokenCount",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
  ];
  const known = parts.reduce((sum, name) => sum + (readCount(stated[name]) ?? 0), 0);
  return Math.max((readCount(stated["totalTokenCount"]) ?? 0) - known, 0);
}

/** From version 3 on a fee for each query, before for each grounded prompt. */
export function groundingOf(model: string, queries: number): Usage {
  if (queries === 0) return {};
  return /^gemini-[12]/.test(model) ? { grounded_prompt: 1 } : { grounding_query: queries };
}

/** What Google puts into usageMetadata. */
const COUNTED_BY_MODALITY: KnownFields = { tokenCount: true, modality: true };
const KNOWN: KnownFields = {
  promptTokenCount: true,
  cachedContentTokenCount: true,
  candidatesTokenCount: true,
  responseTokenCount: true,
  thoughtsTokenCount: true,
  toolUsePromptTokenCount: true,
  totalTokenCount: true,
  initialPromptTokenCount: true,
  trafficType: true,
  promptTokensDetails: COUNTED_BY_MODALITY,
  cacheTokensDetails: COUNTED_BY_MODALITY,
  candidatesTokensDetails: COUNTED_BY_MODALITY,
  responseTokensDetails: COUNTED_BY_MODALITY,
  promptTokenDetails: COUNTED_BY_MODALITY,
  toolUsePromptTokensDetails: COUNTED_BY_MODALITY,
};

/** By their numbers. */
const MODALITIES = ["", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT"];

function modalities(details: unknown): (modality: string) => number {
  const list = objectsIn(details);
  return (modality) =>
    list
      .filter(
        (detail) => detail["modality"] === modality || MODALITIES[readCount(detail["modality"]) ?? 0] === modality,
      )
      .reduce((sum, detail) => sum + (readCount(detail["tokenCount"]) ?? 0), 0);
}

/** What the model searched for, of all candidates. */
export function searchQueries(answer: JsonObject): string[] {
  return objectsIn(answer["candidates"]).flatMap((candidate) => {
    const queries = objectAt(candidate, "groundingMetadata")?.["webSearchQueries"];
    // An empty one was no search.
    return Array.isArray(queries) ? queries.filter((query) => typeof query === "string" && query.trim() !== "") : [];
  });
}
