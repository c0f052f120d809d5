// Extension: what is held for a stream grows in steps with what went by of it. The stream waits for each step; when a budget has no
// more, it is cut. So in expected mode a stream passes its cap by a piece, not by a whole answer.
import { cost } from "../ledger/cost.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { LedgerUnavailable } from "../ledger/writer.ts";
import type { Usage } from "../ledger/usage.ts";
import type { Writer } from "../ledger/writer.ts";
import type { Admission } from "./admit.ts";
import type { Meter } from "./meter.ts";
import { describeRefusal } from "./refusals.ts";

export type Extension = {
  /** Looks at what went by. Undefined: it may flow on. A promise: it has to wait; what that resolves with is why it is cut, or undefined. */
  look(meter: Meter): Promise<string | undefined> | undefined;
  /** The admission, with what is held now. */
  admission(): Admission;
};

/** A step is worth as many output tokens, or a quarter of what went by. */
const STEP_TOKENS = 1_024;
const STEP_SHARE = 4;
const LOOK_EVERY = 8;

/** Undefined where nothing has to be extended: no hard budget, no stream, no price, or the most it can cost is held already. */
export function createExtension(writer: Writer, admission: Admission): Extension | undefined {
  const { call, price, expectedNanoUsd, boundNanoUsd, leftNanoUsd, attemptId } = admission;
  if (!call.stream || !price || expectedNanoUsd === undefined || leftNanoUsd === undefined) return undefined;
  let heldNanoUsd = expectedNanoUsd;
  /** Below so many output tokens nothing can be due. */
  let nextLook = 0;
  let chunks = 0;
  let isAsking = false;

  /** What went by, its output counted as so many tokens. The input is the provider's word where it came early. */
  const costAt = (stated: Usage | undefined, output: number): NanoUsd =>
    cost({ ...call.fees, input: admission.inputTokens, ...stated, output }, price).lines.reduce(
      (sum, line) => sum + line.costNanoUsd,
      0n,
    );

  const ask = async (spent: NanoUsd, step: NanoUsd): Promise<string | undefined> => {
    try {
      const wanted = boundNanoUsd !== undefined && spent + step > boundNanoUsd ? boundNanoUsd : spent + step;
      const least = spent + 1n;
      const extension = await writer.extend(attemptId, least, wanted > least ? wanted : least);
      if ("refusal" in extension)
        return describeRefusal(extension.refusal, "it has no more for what this answer goes on to cost");
      heldNanoUsd = extension.heldNanoUsd;
      return undefined;
    } catch (error) {
      if (error instanceof LedgerUnavailable)
        return "the ledger cannot be written now, so what this answer goes on to cost could not be held";
      throw error;
    } finally {
      isAsking = false;
    }
  };

  return {
    look(meter) {
      chunks += 1;
      const words = meter.seen().tokens;
      // What is thought unseen shows in the counts alone, where a provider states them on the way.
      if (isAsking || (words < nextLook && chunks % LOOK_EVERY !== 0)) return undefined;
      const { usage, final, ended, failed, pending } = meter.soFar();
      if (final || ended || failed || pending || (boundNanoUsd !== undefined && heldNanoUsd >= boundNanoUsd))
        return undefined;
      const tokens = Math.max(words, usage?.output ?? 0);
      const stepTokens = Math.max(STEP_TOKENS, Math.floor(tokens / STEP_SHARE));
      const spent = costAt(usage, tokens);
      const step = costAt(usage, tokens + stepTokens) - spent;
      if (spent >= heldNanoUsd) {
        isAsking = true;
        return ask(spent, step);
      }
      nextLook = step === 0n ? Infinity : tokens + Number(((heldNanoUsd - spent) * BigInt(stepTokens)) / step);
      return undefined;
    },
    admission: () => (admission.isStrict ? admission : { ...admission, reservedNanoUsd: heldNanoUsd }),
  };
}
