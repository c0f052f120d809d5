// The answers of a batch, or the passes of one answer: summed up where they are short, each by itself where it is long.
import { addUsage, contextTokens } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import type { Reading } from "./reading.ts";

/** A long context begins above this at no provider: answers below it can be summed up, each larger one is priced by
 *  itself. */
const SHORT_CONTEXT = 100_000;

/** Sums up the answers of a batch, by model, so that each is priced by its own context. */
export function createPasses(): {
  add(model: string | undefined, usage: Usage): void;
  list(): Reading["extra"];
} {
  const short = new Map<string | undefined, { usage: Usage; context: number }>();
  const long: { model: string | undefined; usage: Usage }[] = [];
  return {
    add(model, usage) {
      const context = contextTokens(usage);
      if (context > SHORT_CONTEXT) return void long.push({ model, usage });
      const sum = short.get(model);
      short.set(model, {
        usage: addUsage(sum?.usage ?? {}, usage),
        context: Math.max(sum?.context ?? 0, context),
      });
    },
    list: () => [...[...short].map(([model, sum]) => ({ model, ...sum })), ...long],
  };
}
