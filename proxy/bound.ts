// What a request can cost at the most, and what it probably costs: what strict and expected budgets hold for it. Pure.
import { boundCost, cost } from "../ledger/cost.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Price } from "../ledger/prices/price-book.ts";
import { INPUT_CLASSES, NO_USAGE, OUTPUT_CLASSES } from "../ledger/usage.ts";
import type { TokenClass, Usage } from "../ledger/usage.ts";
import type { Call } from "./dialects/call.ts";

/** What a chat is framed with at the provider, beyond the bytes of its body. */
const FRAME_TOKENS = 32;
const BYTES_PER_INPUT_TOKEN = 3;
const USUAL_OUTPUT = 4_096;
/** Of a model whose own limits are not known. */
const LONGEST_OUTPUT = 16_384;
const LONGEST_INPUT = 131_072;
/** Of a stream in which a model may think unseen, at least this part of its longest answer is held: what is booked when
 *  its client leaves. */
const UNSEEN_SHARE = 8;
/** A million USD: nothing that costs more is one request. Keeps every sum far inside 64 bits. */
const MOST_NANO_USD = 1_000_000_000_000_000n;
/** The shortest prompt that a provider writes to a cache by itself. */
const LEAST_CACHED = 1_024;

const TEXT: readonly TokenClass[] = ["input", "input_tool", "cache_read"];
const WRITTEN_TEXT: readonly TokenClass[] = [
  ...TEXT,
  ...INPUT_CLASSES.filter((unit) => unit.startsWith("cache_write")),
];
const WORDS: readonly TokenClass[] = ["output"];

/** The tokens of a body, as they are reckoned before anybody has counted them. */
export function inputTokensOf(call: Call, bodyBytes: number, price: Price | undefined): number {
  return Math.min(
    Math.ceil(bodyBytes / BYTES_PER_INPUT_TOKEN) + (call.continuedTokens ?? 0),
    contextsOf(call, price?.contextWindow) ?? Infinity,
  );
}

/** The most the request can cost, or undefined where nothing proves one. A token holds at least one byte of the body;
 *  what providers add to it (frames, tools' preambles) is counted by the dialect. */
export function bound(call: Call, bodyBytes: number, price: Price): NanoUsd | undefined {
  if (call.unbounded !== undefined || call.unknown !== undefined || price.unknownTiers.length > 0) return undefined;
  // A beta may open a longer context than the list knows.
  const window = price.contextWindow && Math.max(price.contextWindow, call.longestContext ?? 0);
  const contexts = contextsOf(call, window);
  const input = call.openInput === undefined ? Math.min(mostTokensOf(call, bodyBytes), contexts ?? Infinity) : contexts;
  // What is not sold by the token has no tokens to bound.
  const each = price.units.output ? (call.maxOutputTokens ?? price.maxOutputTokens ?? price.contextWindow) : 0;
  return input === undefined || each === undefined ? undefined : dearest(call, input, each * call.answers, price);
}

/** The most that a request is reckoned to come to where nothing proves it: a whole context in, the longest answer out.
 *  What runs at the provider, round after round, can still cost more. Undefined: nobody knows what stands in a file.
 *  `output`: tokens that it is held up at. */
export function most(call: Call, bodyBytes: number, price: Price, output?: number): NanoUsd | undefined {
  if (call.openInput?.kind === "batch_file") return undefined;
  const isOpen = call.openInput !== undefined || call.unbounded !== undefined;
  const window = Math.min(price.contextWindow ?? LONGEST_INPUT, call.longestContext ?? Infinity);
  const fromBytes = mostTokensOf(call, bodyBytes);
  const contexts = contextsOf(call, isOpen || price.contextWindow !== undefined ? window : undefined) ?? Infinity;
  const input =
    isOpen && price.units.input
      ? Math.max(contexts, price.contextWindow ? 0 : fromBytes)
      : Math.min(fromBytes, contexts);
  return dearest(call, input, output ?? longestAnswer(call, price) * call.answers, price);
}

function mostTokensOf({ hiddenTokens = 0, continuedTokens = 0, inputs = 1 }: Call, bodyBytes: number): number {
  return bodyBytes + FRAME_TOKENS * inputs + hiddenTokens + continuedTokens;
}

/** What all its inputs can hold together. */
function contextsOf({ inputs = 1 }: Call, window: number | undefined): number | undefined {
  return window === undefined ? undefined : window * inputs;
}

/** Tokens that an answer probably has: those of all answers together. */
export function expectedOutput(call: Call, price: Price, learned: number | undefined): number {
  const longest = (call.maxOutputTokens ?? Number.MAX_SAFE_INTEGER) * call.answers;
  const usual = learned ?? Math.min(call.maxOutputTokens ?? USUAL_OUTPUT, USUAL_OUTPUT);
  const unseen = hidesThought(call) ? Math.ceil(longestAnswer(call, price) / UNSEEN_SHARE) : 0;
  return price.units.output ? Math.min(Math.max(usual, unseen) * call.answers, longest) : 0;
}

/** What the request probably costs, never more than its bound. `learned`: output tokens that most answers of this key
 *  and model stay under. */
export function expectation(
  call: Call,
  inputTokens: number,
  price: Price,
  learned: number | undefined,
  boundNanoUsd: NanoUsd | undefined,
): NanoUsd | undefined {
  // Nobody knows what stands in a file.
  if (call.openInput?.kind === "batch_file") return undefined;
  const atMost = (amount: NanoUsd | undefined): NanoUsd | undefined =>
    amount !== undefined && boundNanoUsd !== undefined && amount > boundNanoUsd ? boundNanoUsd : amount;
  if (call.hidden !== undefined)
    return atMost(dearest(call, inputTokens, longestAnswer(call, price) * call.answers, price));
  const output = expectedOutput(call, price, learned);
  const tokens = price.units.input ? { input: inputTokens, ...(price.units.output ? { output } : {}) } : {};
  return atMost(cost({ ...tokens, ...feesOf(call, price) }, price).costNanoUsd);
}

/** Whether tokens may be used in it that nobody sees go by. */
export function hidesThought({ stream, mayThink }: Call): boolean {
  return stream && mayThink === true;
}

/** What a request is charged beside tokens; a price list may have a fee for each. */
function feesOf({ fees = NO_USAGE, isResult }: Call, price: Price): Usage {
  return price.units.request && isResult !== true ? { ...fees, request: 1 } : fees;
}

function longestAnswer({ maxOutputTokens }: Call, { units, maxOutputTokens: most }: Price): number {
  return units.output ? (maxOutputTokens ?? most ?? LONGEST_OUTPUT) : 0;
}

/** So many tokens in and, of all answers, out. */
function dearest(call: Call, input: number, output: number, price: Price): NanoUsd | undefined {
  const charged = feesOf(call, price);
  const fees = charged === NO_USAGE ? 0n : cost(charged, price).costNanoUsd;
  if (fees === undefined) return undefined;
  const isText = call.openInput === undefined && call.unbounded === undefined && call.isText === true;
  const writesCache = call.writesCache === true || (call.writesCache === undefined && input >= LEAST_CACHED);
  const classes = isText ? (writesCache ? WRITTEN_TEXT : TEXT) : INPUT_CLASSES;
  const most = boundCost(input, output, price, classes, isText && !call.hidden ? WORDS : OUTPUT_CLASSES) + fees;
  return most > MOST_NANO_USD ? undefined : most;
}
