// Answers of the Responses endpoint, whole and streamed; some go on in the background.
import type { Call } from "./call.ts";
import { objectAt, parseObject } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { saidBy } from "./openai-usage.ts";
import { NO_READING } from "./reading.ts";
import type { Reading, UsageReader } from "./reading.ts";
import { goesOnIn } from "./openai-states.ts";
import { countWords, marksOf } from "./words.ts";

export function createResponsesReader(call: Call): UsageReader {
  let said: Reading = NO_READING;
  let ended = false;
  let failed = false;
  let pending = false;

  /** Others may not refer to an answer that the provider keeps. */
  const take = (response: JsonObject, isKept: boolean): void => {
    said = saidBy(said, response);
    const { responseId } = said;
    if (isKept && response["store"] !== false && responseId !== undefined) said = { ...said, makes: [responseId] };
  };

  return {
    needsWholeBody: true,

    body(body) {
      ended = true;
      failed = objectAt(body, "error") !== undefined;
      const isOwn = call.endpoint === "responses";
      take(body, isOwn);
      pending = isOwn && goesOnIn(body, said.usage);
    },

    event(data) {
      if (data.startsWith("[DONE]")) {
        ended = true;
        return "last";
      }
      const kind = EARLY_TYPE.exec(data)?.[1] ?? LATE_TYPE.exec(data)?.[1];
      const event = kind === undefined ? undefined : parseObject(data);
      if (!event) return "pass";
      const response = objectAt(event, "response");
      if (response) take(response, true);
      failed ||= kind === "error" || kind === "response.failed";
      ended ||= kind !== "response.created";
      return ended ? "last" : "pass";
    },

    // What a stream repeats at the end of each part is not counted again.
    words: (data) => countWords(data, WORDS),

    reading: (): Reading => ({
      ...said,
      final: said.usage !== undefined && ended,
      ended,
      failed,
      // A stream of background work may end, or be left, before the work does.
      pending: pending || (call.goesOn === true && !ended && said.responseId !== undefined),
    }),
  };
}

const WORDS = marksOf("delta");
const EARLY_TYPE = /^\s*\{\s*"type"\s*:\s*"(response\.(?:created|completed|incomplete|failed)|error)"/;
/** Of an event whose first member is another one. */
const LATE_TYPE = /"type"\s*:\s*"(response\.(?:completed|incomplete|failed))"/;
