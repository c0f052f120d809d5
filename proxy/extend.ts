// Extension: what is held for a stream grows in steps with what went by of it. The stream waits for each step; when a
// budget has no more, it is cut. So in expected mode a stream passes its cap by a piece, not by a whole answer.
import { setTimeout as sleep } from "node:timers/promises";
import { cost } from "../ledger/cost.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Price, PriceBook } from "../ledger/prices/price-book.ts";
import type { Usage } from "../ledger/usage.ts";
import { LedgerUnavailable } from "../ledger/usage/writer.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import type { Admission, Held } from "./admit.ts";
import type { Meter } from "./meter.ts";
import { priceSoFar } from "./pricing.ts";
import { describeEnd } from "./money-refusals.ts";

export type Extension = {
  /** Looks at what went by. Undefined: it may flow on. A promise: it has to wait; what that resolves with is why it
   *  ends, or undefined. */
  look(meter: Meter): Promise<NoMore | undefined> | undefined;
  /** What is held now. */
  held(): Held;
};

/** Why a stream ends: a budget has no more, or the books cannot be written. */
export type NoMore = { readonly how: "capped" | "stopped"; readonly why: string };

/** A step is worth as many output tokens, or a quarter of what went by. */
const STEP_TOKENS = 1_024;
const STEP_SHARE = 4;
/** The first chunks are looked at, and every so many after them; where a provider states counts as it answers, all. */
const LOOK_EVERY = 8;
/** How long a stream waits for books that cannot be written, and how often it asks again. */
const PATIENCE_MS = 5_000;
const RETRY_MS = 250;

/** Undefined where nothing has to be extended: no stream, no price, or no hard budget that holds what is expected. */
export function createExtension(writer: Writer, prices: PriceBook, admission: Admission): Extension | undefined {
  const { attemptId, asked, held } = admission;
  const { call, asker } = asked;
  const { price: askedPrice, expectedNanoUsd, boundNanoUsd, growth, inputTokens } = held;
  if (!call.stream || !askedPrice || expectedNanoUsd === undefined || growth === "none") return undefined;
  let heldNanoUsd = expectedNanoUsd;
  /** Below so many output tokens nothing can be due. */
  let nextLook = 0;
  let chunks = 0;
  let lastStated = 0;
  /** The provider states growing counts as it answers. */
  let statesCounts = false;
  let isAsking = false;

  /** What went by, its output counted as so many tokens. The input is the provider's word where it came early. */
  const costAt = (price: Price, stated: Usage | undefined, output: number): NanoUsd =>
    cost({ ...call.fees, ...(stated ?? { input: inputTokens }), output }, price).lines.reduce(
      (sum, line) => sum + line.costNanoUsd,
      0n,
    );

  const ask = async (spent: NanoUsd, step: NanoUsd): Promise<NoMore | undefined> => {
    const wanted = boundNanoUsd !== undefined && spent + step > boundNanoUsd ? boundNanoUsd : spent + step;
    const least = spent + 1n;
    try {
      for (const giveUpMs = Date.now() + PATIENCE_MS; ; await sleep(RETRY_MS)) {
        const extension = await writer
          .extend(attemptId, least, wanted > least ? wanted : least)
          .catch((error: unknown) => {
            if (error instanceof LedgerUnavailable) return undefined;
            throw error;
          });
        if (extension && "refusal" in extension)
          return {
            how: "capped",
            why: describeEnd(extension.refusal, asker),
          };
        if (extension) {
          heldNanoUsd = extension.heldNanoUsd;
          return undefined;
        }
        // Where nothing is refused, books that cannot be written end nothing.
        if (growth === "counted") return undefined;
        if (Date.now() > giveUpMs)
          return {
            how: "stopped",
            why: "the ledger cannot be written now, and what this answer goes on to cost could not be held",
          };
      }
    } finally {
      isAsking = false;
    }
  };

  return {
    look(meter) {
      chunks += 1;
      const words = meter.seen().tokens;
      // What is thought unseen shows in the counts alone, where a provider states them on the way.
      const mayBeStated = statesCounts || chunks <= LOOK_EVERY || chunks % LOOK_EVERY === 0;
      if (isAsking || (words < nextLook && !mayBeStated)) return undefined;
      const reading = meter.soFar();
      const { usage, final, ended, failed, pending } = reading;
      statesCounts ||= (usage?.output ?? 0) > Math.max(words, lastStated) && lastStated > 0;
      lastStated = usage?.output ?? 0;
      if (final || ended || failed || pending || (boundNanoUsd !== undefined && heldNanoUsd >= boundNanoUsd))
        return undefined;
      const tokens = Math.max(words, usage?.output ?? 0);
      const stepTokens = Math.max(STEP_TOKENS, Math.floor(tokens / STEP_SHARE));
      const price = priceSoFar(admission, reading, prices) ?? askedPrice;
      const spent = costAt(price, usage, tokens);
      const step = costAt(price, usage, tokens + stepTokens) - spent;
      if (spent >= heldNanoUsd) {
        isAsking = true;
        return ask(spent, step);
      }
      nextLook = step === 0n ? Infinity : tokens + Number(((heldNanoUsd - spent) * BigInt(stepTokens)) / step);
      return undefined;
    },
    held: () => (held.isStrict ? held : { ...held, reservedNanoUsd: heldNanoUsd }),
  };
}
