// Answers of chats and completions, whole and streamed, and of all that answers as they do.
import type { Call } from "./call.ts";
import { objectAt, objectsIn, parseObject, textAt } from "./json.ts";
import { saidBy } from "./openai-usage.ts";
import { NO_READING } from "./reading.ts";
import type { Reading, UsageReader } from "./reading.ts";
import { countWords, marksOf } from "./words.ts";

export function createChatReader(call: Call, hides: boolean): UsageReader {
  let said: Reading = NO_READING;
  let ended = false;
  let failed = false;
  let sawFirst = false;
  let isLastUsage = false;
  /** Of several answers, those that have ended. */
  const endedChoices = new Set<unknown>();
  const haveEnded = (): boolean => endedChoices.size >= Math.max(call.answers, 1);

  return {
    needsWholeBody: true,

    body(body) {
      ended = true;
      failed = objectAt(body, "error") !== undefined;
      said = saidBy(said, body);
    },

    event(data) {
      if (data.startsWith("[DONE]")) {
        ended = true;
        return "last";
      }
      const hasUsage = hasObject(data, '"usage"');
      if (sawFirst && !hasUsage && !FINISHED.test(data) && !data.includes('"error"')) return "pass";
      const event = parseObject(data);
      if (!event) return "pass";
      sawFirst ||= textAt(event, "model") !== undefined;
      if (event["error"] !== undefined && event["error"] !== null) {
        failed = true;
        return "last";
      }
      said = saidBy(said, event);
      const choices = event["choices"];
      // Vendors that put usage into every chunk: only the one with the last word is whole, and of several answers that
      // of the last.
      for (const choice of objectsIn(choices))
        if (textAt(choice, "finish_reason") !== undefined) endedChoices.add(choice["index"] ?? 0);
      isLastUsage ||= hasUsage && (!Array.isArray(choices) || choices.length === 0 || haveEnded());
      const isCountsAlone = hasUsage && Array.isArray(choices) && choices.length === 0;
      return isCountsAlone ? (hides ? "hide" : "last") : "pass";
    },

    isFinishing: haveEnded,
    goesOn: (data) => CHOICE.test(data),
    words: (data) => countWords(data, WORDS),

    reading: (): Reading => ({
      ...said,
      makes: call.isStored && said.responseId !== undefined ? [said.responseId] : [],
      final: said.usage !== undefined && (ended || isLastUsage),
      ended,
      failed,
    }),
  };
}

/** A choice with something in it. */
const CHOICE = /"choices"\s*:\s*\[\s*\{/;
const FINISHED = /"finish_reason"\s*:\s*"/;
const WORDS = marksOf("content", "reasoning_content", "reasoning", "refusal", "arguments", "input", "text");

/** Whether `name` is followed by an object (OpenAI writes "usage":null into every other chunk). */
function hasObject(data: string, name: string): boolean {
  for (let at = data.indexOf(name); at >= 0; at = data.indexOf(name, at + name.length)) {
    OBJECT.lastIndex = at + name.length;
    if (OBJECT.test(data)) return true;
  }
  return false;
}

const OBJECT = /\s*:\s*\{/y;
