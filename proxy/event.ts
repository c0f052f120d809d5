// From an ending to a usage event: what was used, by the provider's word or else by an honest estimate, and what it costs.
// Pure. Usage that is not known is never booked as zero.
import { cost, statedLine } from "../ledger/cost.ts";
import type { CostLine } from "../ledger/cost.ts";
import type { Outcome, UsageEvent } from "../ledger/usage/events.ts";
import { attemptAtMs } from "../ledger/ids.ts";
import { UNPROVEN_KEY_ID } from "../ledger/usage/keys.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Price, PriceBook } from "../ledger/prices/price-book.ts";
import { addUsage, contextTokens, NO_USAGE } from "../ledger/usage.ts";
import type { Usage, UsageReason, UsageState } from "../ledger/usage.ts";
import type { Admission } from "./admit.ts";
import type { Reading } from "./dialects/reading.ts";
import type { Ending } from "./forward.ts";
import type { Seen } from "./meter.ts";
import { OTHER } from "./names.ts";

/** The event of an attempt. `reading` and `seen` are undefined when no answer came. */
export function toEvent(
  admission: Admission,
  ending: Ending,
  reading: Reading | undefined,
  seen: Seen | undefined,
  prices: PriceBook,
  nowMs: number,
): UsageEvent {
  const { attemptId, principal, provider, call } = admission;
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
  const priced = used.state === "estimated" ? atMost(found, admission.boundNanoUsd) : found;

  // What no provider has accepted makes no names of its own.
  const isStranger = principal.proven !== undefined && !isAccepted;
  const names = isStranger ? NOBODY : admission;
  return {
    attemptId,
    // A provider key is a key once its provider accepted it; until then its attempts share one.
    keyId: isStranger ? UNPROVEN_KEY_ID : principal.keyId,
    provider: provider.name,
    endpoint: call.endpoint,
    requestedModel: isAccepted
      ? call.model
      : isStranger && admission.price === undefined
        ? OTHER
        : admission.shortModel,
    servedModel: isBilled ? nameOf(reading) : undefined,
    tier: tiers.length === 0 ? undefined : tiers.join(","),
    team: names.team,
    project: names.project,
    env: names.env,
    tags: names.tags,
    usage: priced.usage ?? used.usage,
    reasoning: isBilled ? reading?.reasoning : undefined,
    usageReason: used.reason,
    usageState:
      used.reserved && (admission.reservedNanoUsd ?? admission.mostNanoUsd) === undefined ? "unknown" : used.state,
    // Nothing was seen of the answer: the amount reserved stands until a bill says better.
    costNanoUsd: costOf(used, priced, admission, seen, reading, tiers, prices),
    costLines: used.reserved || isShort(priced, admission) ? [] : priced.lines,
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
}

/** Of what was not stated: the amount reserved, but not less than the words that went by and what the provider had stated of it. Of what has no price: under a hard budget not
 *  less than what was held. */
function costOf(
  used: Used,
  priced: Priced,
  admission: Admission,
  seen: Seen | undefined,
  reading: Reading | undefined,
  tiers: readonly string[],
  prices: PriceBook,
): NanoUsd | undefined {
  const { reservedNanoUsd } = admission;
  if (!used.reserved) return isShort(priced, admission) ? reservedNanoUsd : priced.costNanoUsd;
  const stated = reading?.usage;
  // Work that is gone without a word may have come to the most that it can.
  if (used.reason === "not_fetched" || (admission.call.isResult && !stated)) return mostOf(admission);
  // So may an input that lies at the provider: a conversation or a file, of which only the name was here.
  if (!stated && isFarInput(admission)) return mostOf(admission);
  if (!seen?.tokens && !stated) return reservedNanoUsd;
  const wentBy = {
    ...(stated ?? { input: admission.inputTokens }),
    output: Math.max(stated?.output ?? 0, seen?.tokens ?? 0),
  };
  const least = atMost(priceUsage(wentBy, reading, admission, tiers, prices), admission.boundNanoUsd).costNanoUsd;
  return least !== undefined && (reservedNanoUsd === undefined || least > reservedNanoUsd) ? least : reservedNanoUsd;
}

function mostOf({ mostNanoUsd, reservedNanoUsd }: Admission): NanoUsd | undefined {
  return mostNanoUsd !== undefined && (reservedNanoUsd === undefined || mostNanoUsd > reservedNanoUsd)
    ? mostNanoUsd
    : reservedNanoUsd;
}

/** Whether the input may be as long as a whole context. Pictures are not, nor is what a connection was asked for by itself. */
function isFarInput({ call: { openInput } }: Admission): boolean {
  return openInput !== undefined && openInput.kind !== "connection" && openInput.kind !== "media";
}

function isShort({ confidence, costNanoUsd }: Priced, { leftNanoUsd, reservedNanoUsd }: Admission): boolean {
  return (
    confidence === "unpriced" &&
    leftNanoUsd !== undefined &&
    reservedNanoUsd !== undefined &&
    (costNanoUsd ?? 0n) < reservedNanoUsd
  );
}

const NOBODY = { team: "", project: "", env: "", tags: undefined };

type Used = {
  readonly usage: Usage;
  readonly state: UsageState;
  readonly reason: UsageReason | undefined;
  /** Nothing is known of it: the amount reserved stands. */
  readonly reserved: boolean;
};

function usedBy(admission: Admission, reading: Reading | undefined, seen: Seen | undefined): Used {
  const { call, isStrict, inputTokens } = admission;
  const asReserved = (reason: UsageReason): Used => ({ usage: NO_USAGE, state: "estimated", reason, reserved: true });
  if (!reading || !seen || reading.pending)
    return asReserved(call.isResult || reading?.pending ? "not_fetched" : "cut");
  if (reading.usage && reading.final) {
    const reason = reading.isEstimate ? "not_stated" : reading.isContradictory ? "contradictory" : undefined;
    return { usage: reading.usage, state: reason ? "estimated" : "reported", reason, reserved: false };
  }
  const reason = reasonOf(reading, seen);
  // Cut short, or failed: the provider's error is no word of the model. Under a strict budget, or where what matters cannot be seen
  // (no output yet, for a model may have thought; an input that lies at the provider; an answer that could not be read), the
  // amount reserved is the honest figure.
  if (
    isStrict ||
    call.isResult ||
    seen.isPartial ||
    (seen.tokens === 0 && !reading.usage?.output && !reading.failed) ||
    (call.openInput !== undefined && !reading.usage && !reading.failed) ||
    // What was thought unseen is not among the words; some providers count it as they answer.
    (call.mayThink === true && !reading.failed && !reading.countsThoughts)
  )
    return asReserved(reason);
  // Else the input is the provider's word where it came early, the output what went by.
  const input = reading.usage ?? { input: inputTokens };
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

type Priced = {
  readonly usage?: Usage;
  readonly costNanoUsd: NanoUsd | undefined;
  readonly lines: readonly CostLine[];
  readonly price: Price | undefined;
  readonly confidence: UsageEvent["priceConfidence"];
};

function atMost(priced: Priced, boundNanoUsd: NanoUsd | undefined): Priced {
  const { costNanoUsd } = priced;
  if (boundNanoUsd === undefined || costNanoUsd === undefined || costNanoUsd <= boundNanoUsd) return priced;
  return { ...priced, costNanoUsd: boundNanoUsd, lines: [] };
}

const NOTHING_OWED: Priced = { costNanoUsd: 0n, lines: [], price: undefined, confidence: undefined };

/** The provider's own figure is what is owed, and our lines stand beside it. Nothing at all for something that was used, or less than half
 *  of ours, is not believed: then ours is booked, and what was stated is kept beside it. */
function asStated(ours: Priced, statedNanoUsd: NanoUsd, isUsed: boolean): Priced {
  const sum = ours.lines.reduce((total, line) => total + line.costNanoUsd, 0n);
  if ((statedNanoUsd === 0n && isUsed) || statedNanoUsd * 2n < sum) return ours;
  const line = statedLine(statedNanoUsd, sum);
  return { ...ours, costNanoUsd: statedNanoUsd, lines: line ? [...ours.lines, line] : ours.lines, confidence: "exact" };
}

type Found = {
  readonly find: (model: string, more?: readonly string[]) => Price | undefined;
  readonly served: Price | undefined;
  readonly price: Price | undefined;
};

function findPrice(
  reading: Reading | undefined,
  { provider, priceList, call, attemptId, ceiling }: Admission,
  tiers: readonly string[],
  prices: PriceBook,
): Found {
  const find = (model: string, more: readonly string[] = []): Price | undefined =>
    prices.find(priceList, model, attemptAtMs(attemptId), more.length > 0 ? [...tiers, ...more] : tiers);
  // A deployment's name stands for its model where it was asked for; what answered names itself.
  const requested = provider.modelOf(call.model);
  const served = find(nameOf(reading) ?? requested);
  return { find, served, price: served ?? find(requested) ?? ceiling };
}

/** What an answer is priced at, as far as it has said under which name and tier it comes. */
export function priceSoFar(admission: Admission, reading: Reading, prices: PriceBook): Price | undefined {
  return findPrice(reading, admission, tiersOf(admission, reading), prices).price;
}

/** The tiers that the answer names, else those that were asked for; and those of the place. */
function tiersOf({ call }: Admission, reading: Reading | undefined): readonly string[] {
  return [...(reading && reading.tiers.length > 0 ? reading.tiers : call.tiers), ...(call.placeTiers ?? [])];
}

/** Prices by the served model and the served tier, at the instant of the reservation; the requested model's price, as
 *  inferred, when the served one is in no list. Passes of other models are priced as theirs. */
function priceUsage(
  usage: Usage,
  reading: Reading | undefined,
  admission: Admission,
  tiers: readonly string[],
  prices: PriceBook,
): Priced {
  const { find, served, price } = findPrice(reading, admission, tiers, prices);
  if (!price) return { costNanoUsd: undefined, lines: [], price: undefined, confidence: "unpriced" };

  const extra = reading?.extra ?? [];
  const used = price.units.request && !admission.call.isResult ? { ...usage, request: 1 } : usage;
  const context = reading?.context ?? contextOf(used, reading, admission, price);
  const parts = [
    { price, usage: used, context },
    ...extra.map((pass) => ({ ...pass, price: pass.model === undefined ? price : find(pass.model, pass.tiers) })),
  ].map((part) => ({ price: part.price, cost: part.price && cost(part.usage, part.price, part.context) }));
  const isUnpriced = parts.some((part) => part.cost === undefined || part.cost.unpricedUnits.length > 0);
  const isLong =
    (reading?.isContextGuess === true || (reading?.passes ?? 1) > 1) &&
    Object.values(price.units).some(({ steps }) =>
      steps.some(({ above }) => longestPass(used, admission, price) > above),
    );
  const isInferred = parts.some(
    (part) =>
      part.price?.confidence === "inferred" || part.cost?.lines.some(({ unit }) => part.price?.guessedUnits.has(unit)),
  );
  const lines = parts.flatMap((part) => part.cost?.lines ?? []);
  return {
    usage: extra.reduce((sum, pass) => addUsage(sum, pass.usage), used),
    // With a part that has no price the rest is still a sum that is owed: a lower bound, marked as unpriced.
    costNanoUsd: lines.reduce((sum, line) => sum + line.costNanoUsd, 0n),
    lines,
    price,
    confidence: isUnpriced ? "unpriced" : served === undefined || isInferred || isLong ? "inferred" : "exact",
  };
}

/** How long the context was that long-context prices go by. Of several passes of which only the sum is known, their average; and never
 *  longer than one pass can be. */
function contextOf(usage: Usage, reading: Reading | undefined, admission: Admission, price: Price): number {
  return Math.min(Math.ceil(contextTokens(usage) / (reading?.passes ?? 1)), longestPass(usage, admission, price));
}

function longestPass(usage: Usage, { call }: Admission, price: Price): number {
  return Math.min(contextTokens(usage), call.longestContext ?? price.contextWindow ?? Number.MAX_SAFE_INTEGER);
}

/** The model that answered, as it can stand in tables and labels. */
function nameOf(reading: Reading | undefined): string | undefined {
  return reading?.servedModel?.replace(/[^\x21-\x7e]/g, "?").slice(0, MOST_NAME);
}

const MOST_NAME = 200;

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
