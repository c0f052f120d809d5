// Usage events: the row that an attempt leaves in the books. What was used, by the provider's word or else by an honest
// estimate, what that cost, and how it ended. Pure. Usage that is not known is never booked as zero.
import { SEAT } from "../ledger/usage/usage-event.ts";
import type { Outcome, UsageEvent } from "../ledger/usage/usage-event.ts";
import { attemptAtMs } from "../ledger/ids.ts";
import { UNPROVEN_KEY_ID } from "../ledger/usage/keys.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import { NO_USAGE } from "../ledger/usage.ts";
import type { Usage, UsageReason, UsageState } from "../ledger/usage.ts";
import type { Admission, Asked, Held } from "./admit.ts";
import type { Reading } from "./dialects/reading.ts";
import type { Ending } from "./ending.ts";
import type { Seen } from "./meter.ts";
import { OTHER } from "./names.ts";
import { asStated, atMost, nameOf, NOTHING_OWED, priceUsage, tiersOf } from "./pricing.ts";
import type { Priced } from "./pricing.ts";

/** The event of an attempt. `reading` and `seen` are undefined when no answer came. */
export function toEvent(
  admission: Admission,
  ending: Ending,
  reading: Reading | undefined,
  seen: Seen | undefined,
  prices: PriceBook,
  nowMs: number,
): UsageEvent {
  const { attemptId, asked, held } = admission;
  const { asker, provider, call } = asked;
  const isError = ending.status !== undefined && ending.status >= 400;
  const isAccepted = ending.status !== undefined && ending.status >= 200 && ending.status < 300;
  const isBilled = !isError && ending.sent;
  const used = isBilled
    ? usedBy(admission, reading, seen)
    : { usage: NO_USAGE, state: "reported" as const, reason: undefined, reserved: false };
  const tiers = tiersOf(admission, reading);
  const isNothing = used.state === "reported" && Object.keys(used.usage).length === 0 && !reading?.extra.length;
  const ours = isBilled && !isNothing ? priceUsage(used.usage, reading, admission, tiers, prices) : NOTHING_OWED;
  // The provider's own word on what it cost, where it said its last word on what was used.
  const stated = isBilled && !used.reserved && reading?.final ? reading.statedCostNanoUsd : undefined;
  const found = stated === undefined ? ours : asStated(ours, stated, !isNothing);
  // What went by can be more than the tokens of it; no estimate is above what the request can cost.
  const priced = used.state === "estimated" ? atMost(found, held.boundNanoUsd) : found;

  // What no provider has accepted makes no names of its own.
  const isStranger = asker.proven !== undefined && !isAccepted;
  const names = isStranger ? NOBODY : asked;
  const event: UsageEvent = {
    attemptId,
    // A provider key is a key once its provider accepted it; until then its attempts share one.
    keyId: isStranger ? UNPROVEN_KEY_ID : asker.keyId,
    provider: provider.name,
    endpoint: call.endpoint,
    requestedModel: isAccepted ? call.model : isStranger && held.price === undefined ? OTHER : asked.shortModel,
    servedModel: isBilled ? nameOf(reading) : undefined,
    tier: tiers.length === 0 ? undefined : tiers.join(","),
    team: names.team,
    project: names.project,
    env: names.env,
    user: names.user,
    payer: payerOf(asked, ending, isAccepted, isStranger || isError || !ending.sent),
    tags: names.tags,
    trace: asked.trace,
    usage: priced.usage ?? used.usage,
    reasoning: isBilled ? reading?.reasoning : undefined,
    usageReason: used.reason,
    usageState: used.reserved && (held.reservedNanoUsd ?? held.mostNanoUsd) === undefined ? "unknown" : used.state,
    // Nothing was seen of the answer: the amount reserved stands until a bill says better.
    costNanoUsd: costOf(used, priced, admission, seen, reading, tiers, prices),
    costLines: used.reserved || isShort(priced, held) ? [] : priced.lines,
    priceList: asked.priceList,
    priceVersion: priced.price?.version,
    priceConfidence: priced.confidence,
    outcome: outcomeOf(ending, reading),
    httpStatus: ending.status,
    durationMs: Math.max(0, nowMs - attemptAtMs(attemptId)),
    firstByteMs: ending.firstByteMs,
    providerRequestId: ending.providerRequestId,
    responseId: reading?.responseId,
    rawUsage: reading?.raw,
    statedCostNanoUsd: isBilled ? reading?.statedCostNanoUsd : undefined,
  };
  return event.payer === SEAT ? paidByTheMonth(event) : event;
}

/** Who pays: of a sign-in that may be a subscription's by the provider's word, whatever was held. What a provider refused
 *  makes no row of its own. */
function payerOf({ asker, provider, payer }: Asked, ending: Ending, isAccepted: boolean, isNobodys: boolean): string {
  if (asker.seatSignIn !== undefined && isAccepted)
    return provider.dialect.seat?.hasPaid(ending.headers ?? []) === true
      ? SEAT
      : (asker.payer?.keyId ?? asker.swappedFor ?? "");
  // A credential of ours is no name that anybody could make up; that it is still used, though refused, has to be seen.
  return payer === SEAT || payer === asker.swappedFor || !isNobodys ? payer : "";
}

/** What a subscription pays is worth something, and billed to nobody. */
function paidByTheMonth(event: UsageEvent): UsageEvent {
  return { ...event, costNanoUsd: 0n, seatNanoUsd: event.costNanoUsd };
}

/** Of what was not stated: the amount reserved, but not less than the words that went by and what the provider had
 *  stated of it. Of what has no price: under a hard budget not less than what was held. */
function costOf(
  used: Used,
  priced: Priced,
  admission: Admission,
  seen: Seen | undefined,
  reading: Reading | undefined,
  tiers: readonly string[],
  prices: PriceBook,
): NanoUsd | undefined {
  const { asked, held } = admission;
  const { reservedNanoUsd } = held;
  if (!used.reserved) return isShort(priced, held) ? reservedNanoUsd : priced.costNanoUsd;
  const stated = reading?.usage;
  // Work that is gone without a word may have come to the most that it can.
  if (used.reason === "not_fetched" || (asked.call.isResult && !stated)) return mostOf(held);
  // So may an input that lies at the provider: a conversation or a file, of which only the name was here.
  if (!stated && isFarInput(asked)) return mostOf(held);
  if (!seen?.tokens && !stated) return reservedNanoUsd;
  const wentBy = {
    ...(stated ?? { input: held.inputTokens }),
    output: Math.max(stated?.output ?? 0, seen?.tokens ?? 0),
  };
  const least = atMost(priceUsage(wentBy, reading, admission, tiers, prices), held.boundNanoUsd).costNanoUsd;
  return least !== undefined && (reservedNanoUsd === undefined || least > reservedNanoUsd) ? least : reservedNanoUsd;
}

function mostOf({ mostNanoUsd, reservedNanoUsd }: Held): NanoUsd | undefined {
  return mostNanoUsd !== undefined && (reservedNanoUsd === undefined || mostNanoUsd > reservedNanoUsd)
    ? mostNanoUsd
    : reservedNanoUsd;
}

/** Whether the input may be as long as a whole context. Pictures are not, nor is what a connection was asked for by
 *  itself. */
function isFarInput({ call: { openInput } }: Asked): boolean {
  return openInput !== undefined && openInput.kind !== "connection" && openInput.kind !== "media";
}

function isShort({ confidence, costNanoUsd }: Priced, { leftNanoUsd, reservedNanoUsd }: Held): boolean {
  return (
    confidence === "unpriced" &&
    leftNanoUsd !== undefined &&
    reservedNanoUsd !== undefined &&
    (costNanoUsd ?? 0n) < reservedNanoUsd
  );
}

const NOBODY = { team: "", project: "", env: "", user: "", tags: undefined };

type Used = {
  readonly usage: Usage;
  readonly state: UsageState;
  readonly reason: UsageReason | undefined;
  /** Nothing is known of it: the amount reserved stands. */
  readonly reserved: boolean;
};

function usedBy({ asked: { call }, held }: Admission, reading: Reading | undefined, seen: Seen | undefined): Used {
  const asReserved = (reason: UsageReason): Used => ({ usage: NO_USAGE, state: "estimated", reason, reserved: true });
  if (!reading || !seen || reading.pending)
    return asReserved(call.isResult || reading?.pending ? "not_fetched" : "cut");
  if (reading.usage && reading.final) {
    const reason = reading.isEstimate ? "not_stated" : reading.isContradictory ? "contradictory" : undefined;
    return { usage: reading.usage, state: reason ? "estimated" : "reported", reason, reserved: false };
  }
  const reason = reasonOf(reading, seen);
  // Cut short, or failed: the provider's error is no word of the model. Under a strict budget, or where what matters
  // cannot be seen (no output yet, for a model may have thought; an input that lies at the provider; an answer that
  // could not be read), the amount reserved is the honest figure.
  if (
    held.isStrict ||
    call.isResult ||
    seen.isPartial ||
    (seen.tokens === 0 && !reading.usage?.output && !reading.failed) ||
    (call.openInput !== undefined && !reading.usage && !reading.failed) ||
    // What was thought unseen is not among the words; some providers count it as they answer.
    (call.mayThink === true && !reading.failed && !reading.countsThoughts)
  )
    return asReserved(reason);
  // Else the input is the provider's word where it came early, the output what went by.
  const input = reading.usage ?? { input: held.inputTokens };
  const most = call.maxOutputTokens === undefined ? Number.MAX_SAFE_INTEGER : call.maxOutputTokens * call.answers;
  return {
    usage: { ...input, output: Math.min(Math.max(input.output ?? 0, seen.tokens), most) },
    state: "estimated",
    reason,
    reserved: false,
  };
}

function reasonOf(reading: Reading, seen: Seen): UsageReason {
  if (seen.isPartial || (reading.raw !== undefined && reading.usage === undefined)) return "unreadable";
  if (reading.failed) return "failed";
  return reading.ended ? "not_stated" : "cut";
}

function outcomeOf(ending: Ending, reading: Reading | undefined): Outcome {
  if (ending.status !== undefined && ending.status >= 400) return "upstream_rejected";
  switch (ending.how) {
    case "unreachable":
      return "upstream_unreachable";
    case "client_left":
      return "client_left";
    case "stopped":
      return "shutdown";
    case "cut":
      return "cut";
    case "capped":
      return "capped";
    case "failed":
      return "upstream_failed";
    case "ended":
      return reading && (reading.ended || reading.final) && !reading.failed ? "complete" : "upstream_failed";
  }
}
