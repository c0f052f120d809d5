// Recorded traffic of the real providers, replayed through the proxy: the usage is the expected one, and every byte
// passes.
import { request as httpRequest } from "node:http";
import { describe, expect, it } from "vitest";
import { DIALECTS } from "../../proxy/dialects/index.ts";
import { matchRoute } from "../../proxy/dialects/routes.ts";
import type { Call } from "../../proxy/dialects/call.ts";
import type { JsonObject } from "../../proxy/dialects/json.ts";
import type { Reading } from "../../proxy/dialects/reading.ts";
import type { Dialect } from "../../proxy/dialects/dialect.ts";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import type { UsageEvent } from "../../ledger/usage/usage-event.ts";
import { createExpectations } from "../../ledger/usage/expectations.ts";
import { createAttemptIds } from "../../ledger/ids.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { admit } from "../../proxy/admit.ts";
import type { Admission } from "../../proxy/admit.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import type { Ending } from "../../proxy/ending.ts";
import { createMeter } from "../../proxy/meter.ts";
import type { Seen } from "../../proxy/meter.ts";
import { createProviders } from "../../proxy/providers/index.ts";
import type { Provider } from "../../proxy/providers/provider.ts";
import { toEvent } from "../../proxy/event.ts";
import {
  addFolds,
  expectedSearches,
  expectedFold,
  fold,
  hasRecordings,
  PROMPTLESS,
  readExpected,
  readRecordings,
} from "../recordings.ts";
import type { Expected, Recording } from "../recordings.ts";
import { cut, IS_CI, random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const FILES: readonly { file: string; dialect: Dialect; prefix: string }[] = [
  ...[
    "openai-chat",
    "openai-chat-stream",
    "openai-completions",
    "openai-completions-stream",
    "openai-responses",
    "openai-responses-stream",
    "openai-embeddings",
  ].map((file) => ({ file, dialect: DIALECTS.openai, prefix: "/openai" })),
  ...["anthropic-messages", "anthropic-messages-stream"].map((file) => ({
    file,
    dialect: DIALECTS.anthropic,
    prefix: "/anthropic",
  })),
  ...["gemini-generate", "gemini-generate-stream", "gemini-embeddings"].map((file) => ({
    file,
    dialect: DIALECTS.google,
    prefix: "/google",
  })),
];
/** Every recording in full in CI; a sample here. */
const SHARE = IS_CI ? 1 : 0.25;

function target(recording: Recording): { path: string; query: string } {
  const url = new URL(`https://${recording.url}`);
  return { path: url.pathname, query: url.search };
}

function requestBody(recording: Recording, expected: Expected | undefined): Buffer {
  const recorded = recording.request_body;
  if (recorded !== null && typeof recorded === "object") {
    // Where the recorded answer holds a usage event the client did ask for it, whatever the recording kept of the
    // request.
    const asked =
      recording.file.includes("-stream") && recording.file.startsWith("openai-c") && expected?.usage
        ? { stream_options: { include_usage: true } }
        : {};
    return Buffer.from(JSON.stringify({ ...recorded, ...asked }));
  }
  return Buffer.from(
    JSON.stringify({ model: expected?.usage?.served_model ?? "gpt-4o-mini", stream: recording.stream }),
  );
}

function describeCall(dialect: Dialect, recording: Recording, body: Buffer): Call {
  const path = target(recording).path.replace(/^\/v1(beta|alpha)?\d*/, "");
  const match = matchRoute(dialect.routes, "POST", path);
  if (!match) throw new Error(`no route for ${path}`);
  return dialect.describe(
    match,
    JSON.parse(body.toString("utf8")) as JsonObject,
    {},
    { vendor: "openai", allowed: [] },
  );
}

describe.skipIf(!hasRecordings)("recorded traffic", () => {
  const expectations = hasRecordings ? readExpected() : new Map<string, Expected>();
  const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });

  it.each(FILES)("$file: usage as expected and bytes unchanged through the proxy", async ({ file, prefix }) => {
    const next = random(SEED);
    console.log(`seed ${SEED}`);
    const all = readRecordings(file).filter(
      (recording) =>
        recording.method === "POST" &&
        recording.status === 200 &&
        recording.elided_chars === undefined &&
        recording.response_body_encoding === "utf8",
    );
    expect(all.length).toBeGreaterThan(0);
    // The first one always: an unlucky seed picks none.
    const recordings = all.filter((_recording, i) => next() < SHARE || i === 0);
    for (const recording of recordings) {
      const expected = expectations.get(recording.id);
      const answer = Buffer.from(recording.response_body);
      const pieces = cut(answer, next);
      bench.provider.script = async (_arrived, response) => {
        response.writeHead(200, {
          "content-type":
            recording.response_headers["content-type"] ?? (recording.stream ? "text/event-stream" : "application/json"),
        });
        for (const piece of pieces) {
          response.write(piece);
          await new Promise(setImmediate);
        }
        response.end();
      };
      const { path, query } = target(recording);
      const got = await post(bench.running.url + prefix + path + query, requestBody(recording, expected));
      expect(got.status, recording.id).toBe(200);
      expect(got.body.equals(answer), `${recording.id}: bytes`).toBe(true);
      if (["queued", "in_progress"].includes(expected?.state ?? "")) {
        // Its work goes on: no event yet.
        const pending = bench.running.proxy.context.work.list().map(({ workId }) => workId);
        expect(pending, recording.id).toContain(expected?.response_id);
        continue;
      }
      const [event] = (await bench.running.events()).slice(-1);
      if (!event) throw new Error("no event");
      if (expected === undefined || expected.usage === null || PROMPTLESS.has(recording.id)) {
        expect(event.usageState, recording.id).not.toBe("reported");
        continue;
      }
      // Pictures by the piece are worked out.
      if (event.usage.image === undefined) expect(event.usageState, recording.id).toBe("reported");
      const extra = (expected.extra?.extra_usage ?? []).map((one) => expectedFold(one.usage));
      const sum = extra.reduce((total, one) => addFolds(total, one), expectedFold(expected.usage));
      const searches = expectedSearches(recording.id, event.usage, sum.web_search_requests);
      const whole = { ...sum, web_search_requests: searches };
      expect(fold(event.usage), recording.id).toEqual(whole);
      if (expected.usage.served_model !== null)
        expect(event.servedModel, recording.id).toBe(expected.usage.served_model);
      if (expected.usage.service_tier !== null && expected.usage.service_tier !== "auto")
        expect(event.tier?.split(","), recording.id).toContain(expected.usage.service_tier.toLowerCase());
    }
  });

  it.each(FILES)("$file: the same reading for every way of cutting it into chunks", async ({ file, dialect }) => {
    const next = random(SEED);
    const cuts = IS_CI ? 20 : 3;
    for (const recording of readRecordings(file)) {
      if (recording.method !== "POST" || recording.status !== 200 || recording.response_body_encoding !== "utf8")
        continue;
      if (next() >= SHARE) continue;
      const expected = expectations.get(recording.id);
      const call = describeCall(dialect, recording, requestBody(recording, expected));
      const answer = Buffer.from(recording.response_body);
      const contentType =
        recording.response_headers["content-type"] ?? (recording.stream ? "text/event-stream" : "application/json");
      const whole = await meterAll(dialect, call, contentType, [answer]);
      for (let i = 0; i < cuts; i++) {
        const pieces = cut(answer, next, i === 0 ? answer.length : 16);
        const inPieces = await meterAll(dialect, call, contentType, pieces);
        expect(inPieces.reading, `${recording.id}, seed ${SEED}`).toEqual(whole.reading);
        expect(inPieces.bytes.equals(answer), `${recording.id}, seed ${SEED}: bytes`).toBe(true);
      }
    }
  });
});

describe.skipIf(!hasRecordings)("a recorded answer, packed or cut short,", () => {
  const expectations = hasRecordings ? readExpected() : new Map<string, Expected>();
  const prices = createPriceBook();
  const admitting = {
    writer: {
      nextAttemptId: createAttemptIds(0, Date.now),
      reserve: () =>
        Promise.resolve({ admitted: true, leftNanoUsd: undefined, isStrict: false, wouldRefuse: undefined } as const),
    } as unknown as Writer,
    prices,
    expectations: createExpectations(),
    config: { refusalStatus: 402 as const },
    names: { of: (_kind: string, name: string) => name, take: () => {} },
    people: { reload: async () => {}, known: () => undefined, idOf: async () => "", nameOf: () => undefined },
  };
  const admitted = (provider: Provider, call: Call, bodyBytes: number): Promise<Admission> =>
    admit(admitting, {
      principal: {
        kind: "virtual",
        keyId: "k",
        key: undefined,
        team: "",
        project: "",
        env: "",
        user: "",
        proven: undefined,
      },
      provider,
      priceList: provider.priceList,
      call,
      tags: {},
      bodyBytes,
    });

  it.each(FILES)(
    "$file: the same usage, or an estimate between what was seen and the bound",
    async ({ file, dialect, prefix }) => {
      const next = random(SEED);
      console.log(`seed ${SEED}`);
      const providers = createProviders(loadProxyConfig({ KEYMETER_DATA_DIR: temporaryFolder() }));
      const provider = providers.byPrefix(prefix.slice(1));
      if (!provider) throw new Error("no provider");
      for (const recording of readRecordings(file)) {
        if (recording.method !== "POST" || recording.status !== 200 || recording.response_body_encoding !== "utf8")
          continue;
        if (next() >= SHARE) continue;
        const expected = expectations.get(recording.id);
        const body = requestBody(recording, expected);
        const call = describeCall(dialect, recording, body);
        const answer = Buffer.from(recording.response_body);
        const type =
          recording.response_headers["content-type"] ?? (recording.stream ? "text/event-stream" : "application/json");
        const admission = await admitted(provider, call, body.length);
        const whole = await meterAll(dialect, call, type, [answer]);
        const event = (how: Ending["how"], metered: Awaited<ReturnType<typeof meterAll>>): UsageEvent =>
          toEvent(admission, { ...ENDING, how }, metered.reading, metered.seen, prices, Date.now());
        const exact = event("ended", whole);

        for (const [encoding, pack] of Object.entries(PACKERS)) {
          const packed = pack(answer);
          const metered = await meterAll(dialect, call, type, cut(packed, next), encoding);
          expect(metered.bytes.equals(packed), `${recording.id}, ${encoding}, seed ${SEED}`).toBe(true);
          check(event("ended", metered), exact, admission, `${recording.id}, ${encoding}, seed ${SEED}`);
        }
        for (let i = 0; i < ABORTS; i++) {
          const at = Math.floor(next() * answer.length);
          const metered = await meterAll(dialect, call, type, cut(answer.subarray(0, at), next));
          check(event("client_left", metered), exact, admission, `${recording.id}, cut at ${at}, seed ${SEED}`);
        }
      }
    },
  );

  /** Exact, or an estimate that is zero only where the model is free and, where a bound is known, not above it. */
  function check(event: UsageEvent, exact: UsageEvent, admission: Admission, label: string): void {
    if (event.usageState === "reported") {
      expect(event.usage, label).toEqual(exact.usage);
      expect(event.costNanoUsd, label).toEqual(exact.costNanoUsd);
      return;
    }
    expect(["estimated", "unknown"], label).toContain(event.usageState);
    // Without a price, or with nothing seen of an answer whose bound nobody knows: then it stands as unknown, not as nothing.
    if (event.costNanoUsd === undefined)
      return expect([event.priceConfidence, event.usageState], label).toContain(
        event.usageState === "unknown" ? "unknown" : "unpriced",
      );
    // Gemma is free.
    if (exact.costNanoUsd !== 0n) expect(event.costNanoUsd > 0n, label).toBe(true);
    if (admission.held.boundNanoUsd !== undefined)
      expect(event.costNanoUsd <= admission.held.boundNanoUsd, `${label}: ${event.costNanoUsd}`).toBe(true);
  }
});

const ABORTS = IS_CI ? 8 : 2;
const PACKERS = { gzip: gzipSync, br: brotliCompressSync, zstd: zstdCompressSync, deflate: deflateSync };
const ENDING: Ending = {
  how: "ended",
  timedOut: false,
  sent: true,
  status: 200,
  firstByteMs: 1,
  providerRequestId: undefined,
  error: undefined,
};

async function meterAll(
  dialect: Dialect,
  call: Call,
  contentType: string,
  pieces: readonly Buffer[],
  encoding = "",
): Promise<{ reading: Reading; seen: Seen; bytes: Buffer }> {
  const meter = createMeter(dialect, call, false, contentType, encoding);
  const out: Buffer[] = [];
  for (const piece of pieces) {
    const passed = meter.push(piece);
    if (passed) out.push(passed);
  }
  await meter.flush?.();
  const reading = meter.reading();
  return { reading, seen: meter.seen(), bytes: Buffer.concat([...out, ...meter.takeHeld()]) };
}

/** A client that keeps the bytes as they come. */
function post(url: string, body: Buffer): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      url,
      {
        method: "POST",
        headers: {
          "content-type": "application/json",
          authorization: "Bearer sk-test-recorded-traffic-key",
          "content-length": body.length,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
        response.on("error", reject);
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}
