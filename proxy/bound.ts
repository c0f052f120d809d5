// What a request can cost at the most, and what it probably costs: what strict and expected budgets hold for it. Pure.
import { boundCost, cost } from "../ledger/cost.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Price } from "../ledger/prices.ts";
import { BATCH_FILE } from "./dialects/dialect.ts";
import type { Call } from "./dialects/dialect.ts";

/** Hidden tokens of a request beyond its bytes: role marks, tool preambles. */
const HIDDEN_TOKENS = 1_024;
const BYTES_PER_INPUT_TOKEN = 3;
const USUAL_OUTPUT = 4_096;
/** Of a model whose own limit is not known. */
const LONGEST_OUTPUT = 16_384;
/** A million USD: nothing that costs more is one request. Keeps every sum far inside 64 bits. */
const MOST_NANO_USD = 1_000_000_000_000_000n;

/** The tokens of a body, as they are reckoned before anybody has counted them. */
export function inputTokensOf(bodyBytes: number, price: Price | undefined): number {
  return Math.min(Math.ceil(bodyBytes / BYTES_PER_INPUT_TOKEN), price?.contextWindow ?? Number.MAX_SAFE_INTEGER);
}

/** The most the request can cost, or undefined where nothing proves one. A token holds at least one byte of the body. */
export function bound(call: Call, bodyBytes: number, price: Price): NanoUsd | undefined {
  if (call.unbounded !== undefined || price.unknownTiers.length > 0) return undefined;
  const fromBytes = bodyBytes + HIDDEN_TOKENS;
  const input =
    call.openInput === undefined ? Math.min(fromBytes, price.contextWindow ?? fromBytes) : price.contextWindow;
  // What is not sold by the token has no tokens to bound.
  const each = price.units.output ? (call.maxOutputTokens ?? price.maxOutputTokens ?? price.contextWindow) : 0;
  if (input === undefined || each === undefined) return undefined;
  const fees = cost(call.fees ?? {}, price).costNanoUsd;
  if (fees === undefined) return undefined;
  const most = boundCost(input, each * call.answers, price) + fees;
  return most > MOST_NANO_USD ? undefined : most;
}

/** What the request probably costs, never more than its bound. `learned`: output tokens that most answers of this key and model stay under. */
export function expectation(
  call: Call,
  inputTokens: number,
  price: Price,
  learned: number | undefined,
  boundNanoUsd: NanoUsd | undefined,
): NanoUsd | undefined {
  // Nobody knows what stands in a file.
  if (call.openInput === BATCH_FILE) return undefined;
  if (call.hidden !== undefined) {
    const longest = (call.maxOutputTokens ?? price.maxOutputTokens ?? LONGEST_OUTPUT) * call.answers;
    const dearest = boundCost(inputTokens, longest, price);
    return boundNanoUsd !== undefined && dearest > boundNanoUsd ? boundNanoUsd : dearest;
  }
  const most = (call.maxOutputTokens ?? Number.MAX_SAFE_INTEGER) * call.answers;
  const each = learned ?? Math.min(call.maxOutputTokens ?? USUAL_OUTPUT, USUAL_OUTPUT);
  const output = Math.min(each * call.answers, most);
  const tokens = price.units.input ? { input: inputTokens, ...(price.units.output ? { output } : {}) } : {};
  const expected = cost({ ...tokens, ...call.fees }, price).costNanoUsd;
  return expected !== undefined && boundNanoUsd !== undefined && expected > boundNanoUsd ? boundNanoUsd : expected;
}
