// Answers of Anthropic: messages, whole and streamed, and the results of batches. In streams, message_delta is
// cumulative: it overwrites, it is never added. Source: platform.claude.com API reference.
import { readCount } from "../../ledger/usage.ts";
import { KNOWN, passesOf, readIterations, readTiers, readUsage } from "./anthropic-usage.ts";
import { objectAt, parseObject, rawOf, textAt } from "./json.ts";
import { createPasses } from "./passes.ts";
import { NO_READING } from "./reading.ts";
import type { Reading, UsageReader } from "./reading.ts";
import { hasOddCounts, unknownNumbers } from "./stated.ts";
import { countWords, marksOf } from "./words.ts";

export function createReader(): UsageReader {
  let stated: Record<string, unknown> = {};
  let servedModel: string | undefined;
  let responseId: string | undefined;
  let final = false;
  let ended = false;
  let failed = false;

  return {
    needsWholeBody: false,

    body(body) {
      ended = final = true;
      failed = body["type"] === "error";
      servedModel = textAt(body, "model");
      responseId = textAt(body, "id");
      stated = { ...objectAt(body, "usage") };
    },

    event(data) {
      const type = /"type"\s*:\s*"(message_start|message_delta|message_stop|error)"/.exec(data)?.[1];
      if (type === undefined) return "pass";
      const event = parseObject(data);
      switch (event?.["type"]) {
        case "message_start": {
          const message = objectAt(event, "message");
          servedModel = textAt(message, "model") ?? servedModel;
          responseId = textAt(message, "id") ?? responseId;
          stated = { ...objectAt(message, "usage") };
          return "pass";
        }
        case "message_delta": {
          for (const [name, value] of Object.entries(objectAt(event, "usage") ?? {}))
            if (value !== null) stated[name] = value;
          final = true;
          return "last";
        }
        case "message_stop":
          // Streams that resume a paused container sample nothing and send no message_delta: message_start is the last
          // word.
          ended = final = true;
          return "last";
        case "error":
          failed = true;
          return "last";
        default:
          return "pass";
      }
    },

    words: (data) => countWords(data, WORDS),

    reading(): Reading {
      const known = Object.keys(stated).length > 0;
      const whole = known ? readUsage(stated) : undefined;
      const [first, ...others] = whole ? passesOf(whole, stated["iterations"]) : [];
      return {
        usage: first?.usage ?? whole,
        context: first?.context,
        // A search begins another pass.
        passes: 1 + (readCount(objectAt(stated, "server_tool_use")?.["web_search_requests"]) ?? 0),
        extra: [...others, ...readIterations(stated["iterations"])],
        reasoning: readCount(objectAt(stated, "output_tokens_details")?.["thinking_tokens"]),
        servedModel,
        tiers: readTiers(stated),
        responseId,
        raw: known ? rawOf(stated) : undefined,
        isContradictory: hasOddCounts(stated),
        unknownFields: unknownNumbers(stated, KNOWN),
        final,
        ended,
        failed,
        pending: false,
      };
    },
  };
}

/** A batch: what its creation answers, and later its results, a line each. Each result says what it used; those that
 *  erred, expired or were cancelled used nothing. */
const UNBILLED = new Set(["errored", "canceled", "expired"]);

export function createBatchReader(): UsageReader {
  const passes = createPasses();
  let workId: string | undefined;
  let pending = false;
  let results = 0;
  let unread = 0;
  let tiers: readonly string[] = [];
  return {
    needsWholeBody: false,
    body(body) {
      workId = textAt(body, "id");
      pending = body["type"] === "message_batch";
    },
    event(line) {
      const result = objectAt(parseObject(line), "result");
      results += 1;
      const type = textAt(result, "type");
      if (type !== "succeeded") {
        // A line that cannot be read may be of an answer that was paid for.
        if (!UNBILLED.has(type ?? "")) unread += 1;
        return "pass";
      }
      const message = objectAt(result, "message");
      const stated = objectAt(message, "usage") ?? {};
      const usage = readUsage(stated);
      const model = textAt(message, "model");
      if (!usage) unread += 1;
      else passes.add(model, usage);
      for (const pass of readIterations(stated["iterations"])) passes.add(pass.model ?? model, pass.usage);
      tiers = readTiers(stated);
      return "pass";
    },
    reading(): Reading {
      const known = results > 0 && unread === 0;
      const [first, ...others] = passes.list();
      return {
        ...NO_READING,
        usage: known ? (first?.usage ?? {}) : undefined,
        context: first?.context,
        extra: known ? others : [],
        servedModel: first?.model,
        tiers: ["batch", ...tiers.filter((tier) => tier.startsWith("geo:"))],
        responseId: workId,
        final: known,
        ended: results > 0,
        pending,
      };
    },
  };
}

const WORDS = marksOf("text", "thinking", "partial_json");
