// Batches of OpenAI: what is said of one while it goes on, and the sum of its answers when it is done.
import { contextTokens, readCount } from "../../ledger/usage.ts";
import { objectAt, textAt } from "./json.ts";
import { goesOnIn } from "./openai-states.ts";
import { saidBy } from "./openai-usage.ts";
import { NO_READING } from "./reading.ts";
import type { Reading, UsageReader } from "./reading.ts";

export function createBatchReader(): UsageReader {
  let reading: Reading = NO_READING;
  return {
    needsWholeBody: true,

    body(body) {
      const said = saidBy(NO_READING, body);
      // What failed before it began used nothing, and says nothing.
      const isVoid = textAt(body, "status")?.toLowerCase() === "failed" && !said.usage;
      const usage = isVoid ? {} : said.usage;
      // The sum of all its answers: how long each was is not said.
      const { completed } = objectAt(body, "request_counts") ?? {};
      const context = usage && Math.ceil(contextTokens(usage) / Math.max(readCount(completed) ?? 1, 1));
      reading = {
        ...said,
        usage,
        context,
        isContextGuess: context !== undefined,
        tiers: ["batch"],
        makes: [textAt(body, "output_file_id"), textAt(body, "error_file_id")].filter((id) => id !== undefined),
        final: usage !== undefined,
        ended: true,
        failed: objectAt(body, "error") !== undefined,
        pending: goesOnIn(body, said.usage),
      };
    },

    event: () => "pass",
    reading: () => reading,
  };
}
