// Gemini's batches.
// Source: ai.google.dev, Batch API.
import { createPasses } from "./passes.ts";
import { NO_READING } from "./reading.ts";
import { objectAt, parseObject, textAt } from "./json.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { Reading, UsageReader } from "./reading.ts";
import { groundingOf, readUsage, searchQueries } from "./google-usage.ts";

/** A batch: an operation that is done or goes on. Its answers stand inside, or in a file that the operation names, one
 *  a line. */
export function createBatchReader(call: Call): UsageReader {
  const passes = createPasses();
  let stated: JsonObject | undefined;
  let lines = 0;
  let unread = 0;
  const take = (item: unknown): void => {
    const answer = objectAt(item, "response");
    if (!answer) return;
    const metadata = objectAt(answer, "usageMetadata");
    const model = textAt(answer, "modelVersion") ?? call.model;
    const queries = new Set(searchQueries(answer)).size;
    const usage = metadata && readUsage(metadata, groundingOf(model, queries));
    if (usage) passes.add(textAt(answer, "modelVersion"), usage);
    else unread += 1;
  };
  return {
    needsWholeBody: true,
    body(body) {
      stated = body;
      const outcome = objectAt(stated, "response") ?? objectAt(stated, "output");
      for (const item of inlined(outcome) ?? []) take(item);
    },
    event(line) {
      lines += 1;
      const item = parseObject(line);
      if (item) take(item);
      else unread += 1;
      return "pass";
    },
    reading(): Reading {
      const outcome = objectAt(stated, "response") ?? objectAt(stated, "output");
      const file = textAt(outcome, "responsesFile");
      const hasEnded = stated?.["done"] === true && (stated["error"] !== undefined || inlined(outcome) !== undefined);
      const known = (lines > 0 || hasEnded) && unread === 0;
      const [first, ...others] = passes.list();
      return {
        ...NO_READING,
        usage: known ? (first?.usage ?? {}) : undefined,
        context: first?.context,
        extra: known ? others : [],
        servedModel: first?.model,
        tiers: ["batch"],
        responseId: textAt(stated, "name"),
        makes: file === undefined ? [] : [file],
        resultPlace: file,
        final: known,
        ended: known || hasEnded,
        pending: textAt(stated, "name") !== undefined && !hasEnded,
      };
    },
  };
}

function inlined(outcome: JsonObject | undefined): readonly unknown[] | undefined {
  const list = objectAt(outcome, "inlinedResponses")?.["inlinedResponses"];
  return Array.isArray(list) ? list : undefined;
}
