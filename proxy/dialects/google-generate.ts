// Answers of generateContent, whole and streamed (server-sent events or one JSON array), and of embeddings. Usage in a
// stream is cumulative: the last one counts. Source: ai.google.dev API reference.
import { readCount } from "../../ledger/usage.ts";
import type { Call } from "./call.ts";
import { readingOf, searchQueries } from "./google-usage.ts";
import { objectAt, objectsIn, parseObject, textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { NO_READING } from "./reading.ts";
import type { Reading, UsageReader } from "./reading.ts";
import { countWords, marksOf } from "./words.ts";

/** Endpoints that answer no words. */
export const EMBEDDINGS = new Set(["embed_content", "batch_embed_contents"]);

export function createReader(call: Call): UsageReader {
  let stated: JsonObject | undefined;
  let servedModel: string | undefined;
  let responseId: string | undefined;
  let ended = false;
  let failed = false;
  /** Of several candidates, those that have ended. */
  const endedCandidates = new Set<unknown>();
  const queries = new Set<string>();

  const take = (answer: JsonObject): void => {
    stated = objectAt(answer, "usageMetadata") ?? stated;
    servedModel = textAt(answer, "modelVersion") ?? servedModel;
    responseId = textAt(answer, "responseId") ?? responseId;
    failed ||= answer["error"] !== undefined;
    for (const query of searchQueries(answer)) queries.add(query);
  };

  return {
    needsWholeBody: !EMBEDDINGS.has(call.endpoint),

    body(body) {
      ended = true;
      take(body);
    },

    event(data) {
      const answer = parseObject(data);
      if (!answer) return "pass";
      take(answer);
      const candidates = objectsIn(answer["candidates"]);
      for (const candidate of candidates) if (candidate["finishReason"]) endedCandidates.add(candidate["index"] ?? 0);
      const finished =
        failed ||
        objectAt(answer, "promptFeedback")?.["blockReason"] !== undefined ||
        endedCandidates.size >= Math.max(call.answers, 1);
      ended ||= finished && !failed;
      return ended || failed ? "last" : "pass";
    },

    goesOn: (data) => CANDIDATE.test(data),

    words: (data) => countWords(data, WORDS),

    reading(): Reading {
      return {
        ...(stated ? readingOf(stated, servedModel ?? call.model, queries.size) : NO_READING),
        servedModel,
        responseId,
        // Some chunks say only how the traffic is paid for.
        countsThoughts: isCounted(stated),
        final: ended,
        ended,
        failed,
      };
    },
  };
}

/** A candidate with something in it. */
const CANDIDATE = /"candidates"\s*:\s*\[\s*\{/;

/** Whether what was stated so far counts what is answered, thoughts among it. */
function isCounted(stated: JsonObject | undefined): boolean {
  return [stated?.["candidatesTokenCount"], stated?.["thoughtsTokenCount"]].some(
    (count) => readCount(count) !== undefined,
  );
}

const WORDS = marksOf("text");
