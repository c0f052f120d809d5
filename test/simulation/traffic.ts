// Real traffic against a cap, in virtual time: the product's own bound, expectation, booking and extension decide; the
// trace says when each request comes and how long its answer is. What a cap lets through, what it refuses, and what of
// that would have fitted.
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { createBooking } from "../../ledger/usage/booking.ts";
import { cost } from "../../ledger/cost.ts";
import { eventRow } from "../../ledger/usage/event-columns.ts";
import { createExpectations } from "../../ledger/usage/expectations.ts";
import { createAttemptIds } from "../../ledger/ids.ts";
import { openScratch } from "../../ledger/sqlite.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import type { Answer, Operation } from "../../ledger/usage/wire.ts";
import { decodeAnswers, decodeBatch, encodeAnswers, encodeBatch } from "../../ledger/usage/wire.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import type { Admission } from "../../proxy/admit.ts";
import { bound, expectation, expectedOutput, inputTokensOf, most } from "../../proxy/bound.ts";
import { NO_READING } from "../../proxy/dialects/reading.ts";
import { PLAIN_CALL } from "../../proxy/dialects/call.ts";
import type { Call } from "../../proxy/dialects/call.ts";
import { createExtension } from "../../proxy/extend.ts";
import type { Extension } from "../../proxy/extend.ts";
import type { Meter } from "../../proxy/meter.ts";
import { event, SUBJECT } from "../usage-event.ts";
import { bookOnNodes } from "./fleet/spread.ts";
import { noteSkipped } from "../skipped.ts";

export type Traffic = readonly { readonly atMs: number; readonly inputTokens: number; readonly outputTokens: number }[];

/** Single requests of an hour at Azure: Splitwise, CC-BY-4.0 (Patel et al., ISCA 2024; AzurePublicDataset b469a11). */
const TRACE = fileURLToPath(new URL("../../../shared/data/requests_azure2023.csv.gz", import.meta.url));
export const hasTraffic = existsSync(TRACE);
if (!hasTraffic) noteSkipped(`the real traces are not here (${TRACE}); what caps do to them is not measured`);

export function readTraffic(series: "azure-conv" | "azure-code"): Traffic {
  const [, ...lines] = gunzipSync(readFileSync(TRACE)).toString("utf8").trim().split("\n");
  return lines
    .map((line) => line.split(","))
    .filter(([, model]) => model === series)
    .map(([ts = "", , input, output]) => ({
      atMs: Date.parse(ts),
      inputTokens: Number(input),
      outputTokens: Number(output),
    }))
    .toSorted((a, b) => a.atMs - b.atMs);
}

export type CapRun = {
  readonly amountNanoUsd: bigint;
  readonly spentNanoUsd: bigint;
  readonly overshootNanoUsd: bigint;
  /** The most that the stated bound allows: what the answers in flight at the last admission cost beyond what was held
   *  for them. */
  readonly allowedNanoUsd: bigint;
  readonly refused: number;
  /** Of those: would have been let through by who knows beforehand what each request costs. */
  readonly fitted: number;
  readonly cut: number;
};

type Options = {
  /** `known`: held at what it costs in the end, which nobody knows; what others are measured against. */
  readonly mode: "strict" | "expected" | "known";
  readonly stream: boolean;
  readonly maxOutputTokens?: number;
  /** The cap, as a share of what all of the traffic costs. */
  readonly share: number;
  /** Over how many nodes the requests are spread; 0: SQLite's booking. */
  readonly nodes?: number;
};

const MODEL = "gpt-4o-mini";
/** As few as the proxy reckons with: nothing is to spare in its reckoning. */
const BYTES_PER_TOKEN = 3;
/** How fast a model answers, and how often a stream is looked at. */
const FIRST_TOKEN_MS = 500;
const TOKENS_PER_SECOND = 50;
const TICK_MS = 500;

type Flight = {
  readonly attemptId: number;
  readonly startMs: number;
  readonly endMs: number;
  readonly request: Traffic[number];
  readonly extension: Extension | undefined;
  readonly admission: Admission;
  nextMs: number;
  ended?: { readonly cost: bigint; readonly atMs: number };
};

type Book = (operation: Operation) => Promise<Answer>;

function bookOnSqlite(nowMs: number): Book {
  const booking = createBooking(openScratch("usage"), "UTC", "enforce", nowMs);
  return async (operation) => {
    const [answer] = decodeAnswers(encodeAnswers(booking.book(decodeBatch(encodeBatch([operation])))));
    if (!answer || answer.type === "failure") throw new Error(`${operation.type}: ${answer?.message ?? "no answer"}`);
    return answer;
  };
}

/** Runs the traffic against one cap for all of it. */
export async function runCap(traffic: Traffic, options: Options): Promise<CapRun> {
  const known = await run(traffic, { ...options, mode: "known" });
  const { refusedOnes, ...result } = await run(traffic, options);
  const fitted = [...refusedOnes].filter((one) => !known.refusedOnes.has(one)).length;
  return { ...result, refused: refusedOnes.size, fitted };
}

type Run = Omit<CapRun, "refused" | "fitted"> & { readonly refusedOnes: ReadonlySet<Traffic[number]> };

async function run(traffic: Traffic, { mode, stream, maxOutputTokens, share, nodes = 0 }: Options): Promise<Run> {
  const prices = createPriceBook();
  const price = prices.find("openai", MODEL, Date.now(), []);
  if (!price) throw new Error(`no price of ${MODEL}`);
  const costOf = (input: number, output: number): bigint => cost({ input, output }, price).costNanoUsd ?? 0n;
  const whole = traffic.reduce((sum, one) => sum + costOf(one.inputTokens, one.outputTokens), 0n);
  const amountNanoUsd = (whole * BigInt(Math.round(share * 1_000))) / 1_000n;

  let nowMs = traffic[0]?.atMs ?? 0;
  const book = nodes > 0 ? bookOnNodes(nodes, () => nowMs) : bookOnSqlite(nowMs);
  const nextId = createAttemptIds(0, () => nowMs);
  const budget = {
    id: "cap",
    scope: {},
    window: "total",
    kind: "hard",
    mode: mode === "strict" ? mode : "expected",
    amountNanoUsd,
    createdAtMs: 0,
  } as const;
  await book({ type: "change", change: { type: "setBudget", budget }, author: { actor: "test", atMs: nowMs } });
  const expectations = createExpectations();
  // Of the writer an extension needs no more.
  const writer = {
    extend: async (attemptId: number, leastNanoUsd: bigint, wantedNanoUsd: bigint) => {
      const answer = await book({ type: "extend", attemptId, leastNanoUsd, wantedNanoUsd, atMs: nowMs });
      if (answer.type !== "extended") throw new Error(answer.type);
      return answer.extension;
    },
  } as Pick<Writer, "extend"> as Writer;

  const call: Call = {
    ...PLAIN_CALL,
    endpoint: "chat_completions",
    model: MODEL,
    stream,
    maxOutputTokens,
    isText: true,
    mayThink: false,
  };
  const flights: Flight[] = [];
  const done: Flight[] = [];
  const refusedOnes = new Set<Traffic[number]>();
  let [spent, cut, lastAdmittedMs] = [0n, 0, 0];

  const end = async (flight: Flight, outputTokens: number): Promise<void> => {
    const costNanoUsd = costOf(flight.request.inputTokens, outputTokens);
    flights.splice(flights.indexOf(flight), 1);
    flight.ended = { cost: costNanoUsd, atMs: nowMs };
    done.push(flight);
    spent += costNanoUsd;
    expectations.observe(SUBJECT.keyId, MODEL, outputTokens);
    const row = eventRow(event(flight.attemptId, costNanoUsd, { requestedModel: MODEL }));
    await book({ type: "settle", row, proven: undefined });
  };

  const advance = async (untilMs: number): Promise<void> => {
    for (;;) {
      const next = flights.reduce<Flight | undefined>(
        (first, one) => (first && first.nextMs <= one.nextMs ? first : one),
        undefined,
      );
      if (!next || next.nextMs > untilMs) return;
      nowMs = next.nextMs;
      if (nowMs >= next.endMs) {
        await end(next, next.request.outputTokens);
        continue;
      }
      const tokens = Math.floor(((nowMs - next.startMs - FIRST_TOKEN_MS) * TOKENS_PER_SECOND) / 1_000);
      const meter = { seen: () => ({ tokens, isPartial: false }), soFar: () => NO_READING } as Pick<
        Meter,
        "seen" | "soFar"
      > as Meter;
      const why = await next.extension?.look(meter);
      if (why === undefined) next.nextMs = Math.min(nowMs + TICK_MS, next.endMs);
      else {
        cut += 1;
        await end(next, tokens);
      }
    }
  };

  for (const request of traffic) {
    await advance(request.atMs);
    nowMs = request.atMs;
    const bodyBytes = request.inputTokens * BYTES_PER_TOKEN;
    const inputTokens = inputTokensOf(call, bodyBytes, price);
    const boundNanoUsd = bound(call, bodyBytes, price);
    const learned = expectations.outputTokens(SUBJECT.keyId, MODEL);
    const outputTokens = Math.min(request.outputTokens, maxOutputTokens ?? Number.MAX_SAFE_INTEGER);
    const actual = costOf(request.inputTokens, outputTokens);
    const expectedNanoUsd = mode === "known" ? actual : expectation(call, inputTokens, price, learned, boundNanoUsd);
    const attemptId = nextId();
    const ofStream = (): bigint | undefined => most(call, bodyBytes, price, expectedOutput(call, price, learned));
    const ofWhole = (): bigint | undefined => boundNanoUsd ?? most(call, bodyBytes, price);
    const mostNanoUsd = mode === "known" ? expectedNanoUsd : stream ? ofStream() : ofWhole();
    const asked = { attemptId, subject: { ...SUBJECT, model: MODEL }, boundNanoUsd, expectedNanoUsd, mostNanoUsd };
    const answer = await book({ type: "reserve", request: asked, endpoint: "c", tags: undefined });
    if (answer.type !== "decision" || "frozen" in answer.decision) throw new Error("no decision");
    if (!answer.decision.admitted) {
      refusedOnes.add(request);
      continue;
    }
    lastAdmittedMs = nowMs;
    const { leftNanoUsd, isStrict } = answer.decision;
    const reservedNanoUsd = isStrict ? boundNanoUsd : expectedNanoUsd;
    const admission = {
      attemptId,
      asked: { provider: { modelOf: (model: string) => model }, priceList: "openai", call },
      held: { inputTokens, price, boundNanoUsd, expectedNanoUsd, isStrict, leftNanoUsd, reservedNanoUsd },
    } as Admission;
    const extension = mode === "known" ? undefined : createExtension(writer, prices, admission);
    const endMs = nowMs + FIRST_TOKEN_MS + Math.ceil((outputTokens * 1_000) / TOKENS_PER_SECOND);
    const nextMs = extension ? Math.min(nowMs + FIRST_TOKEN_MS + TICK_MS, endMs) : endMs;
    flights.push({
      attemptId,
      startMs: nowMs,
      endMs,
      request: { ...request, outputTokens },
      extension,
      admission,
      nextMs,
    });
  }
  await advance(Infinity);

  const allowedNanoUsd = done.reduce((sum, { ended, admission, extension }) => {
    const held = (extension?.held() ?? admission.held).reservedNanoUsd ?? 0n;
    const beyond = (ended?.cost ?? 0n) - held;
    return (ended?.atMs ?? 0) >= lastAdmittedMs && beyond > 0n ? sum + beyond : sum;
  }, 0n);
  const over = spent - amountNanoUsd;
  return {
    amountNanoUsd,
    spentNanoUsd: spent,
    overshootNanoUsd: over > 0n ? over : 0n,
    allowedNanoUsd,
    refusedOnes,
    cut,
  };
}
