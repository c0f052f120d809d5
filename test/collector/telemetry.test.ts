// A day of made-up traffic, exported while it is booked: what a receiver has at the end is what the books say, whatever became
// of single exports.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startTelemetry } from "../../collector/telemetry/export.ts";
import type { Telemetry } from "../../collector/telemetry/export.ts";
import { METRICS } from "../../collector/telemetry/names.ts";
import { loadCollectorConfig } from "../../collector/config.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { attemptAtMs } from "../../ledger/ids.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openForWriting } from "../../ledger/sqlite.ts";
import { issueVirtualKey } from "../../ledger/usage/keys.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { SEAT } from "../../ledger/usage/usage-event.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { addDays } from "../../ledger/windows.ts";
import { createLog } from "../../service/log.ts";
import { decodeLogs, decodeMetrics, decodeSpans, hasDecoder } from "../decode-otlp.ts";
import type { DecodedMetric, DecodedSpan } from "../decode-otlp.ts";
import { startFakeOtlp } from "../fake/otlp.ts";
import type { FakeOtlp } from "../fake/otlp.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const DAY = "2026-11-02";
const START_MS = Date.parse(`${DAY}T00:00:00Z`);
const MINUTE_MS = 60_000;
const EVENTS = IS_CI ? 6_000 : 600;
const TURNS = IS_CI ? 120 : 30;
const TRACE = "0af7651916cd43dd8448eb211c80319c";
const PARENT = "b7ad6b7169203331";

const configOf = (url: string, folder: string, more: { [name: string]: string } = {}) =>
  loadCollectorConfig({ KEYMETER_DATA_DIR: folder, OTEL_EXPORTER_OTLP_ENDPOINT: url, ...more });

/** Books of a writer that a test moves through time. */
async function openDay(folder: string) {
  const clock = { nowMs: START_MS };
  const path = join(folder, "usage.db");
  const writer = await openWriter({
    path,
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: () => clock.nowMs,
  });
  const { key } = issueVirtualKey({ name: "anna", team: "search" }, clock.nowMs);
  await writer.change({ type: "createKey", key, digest: key.id }, "test");
  const usage = await openUsage(folder);
  if (!usage) throw new Error("no books");
  return { clock, writer, key, usage, billing: await openToWrite(folder, "billing", "process") };
}

const start = (
  { usage, billing }: { readonly usage: UsageBooks; readonly billing: BillingBooks },
  config: ReturnType<typeof configOf>,
  registry = new Registry(),
) =>
  startTelemetry(
    { usage, billing },
    registry,
    { otlp: config.otlp, cloudWatch: config.cloudWatch, everySeconds: 3_600, serviceName: "keymeter", version: "test" },
    createLog("test", "silent"),
  );

describe(`a day of ${EVENTS} events (seed ${SEED})`, () => {
  const folder = temporaryFolder();
  const sampled = new Set<number>();
  let receiver: FakeOtlp;
  let writer: Writer;
  let usage: UsageBooks;
  let billing: BillingBooks;
  let metrics: DecodedMetric[] = [];
  let spans: DecodedSpan[] = [];

  beforeAll(async () => {
    const next = random(SEED);
    receiver = await startFakeOtlp();
    const day = await openDay(folder);
    ({ writer, usage, billing } = day);
    const config = configOf(receiver.url, folder, { OTEL_EXPORTER_OTLP_HEADERS: "x-api-key=secret%20one" });
    receiver.does = () => {
      const chance = next();
      if (chance < 0.1) return 503;
      if (chance < 0.15) return 429;
      return chance < 0.3 ? "lose answer" : "take";
    };
    let telemetry: Telemetry | undefined = await start(day, config);
    await telemetry?.tick();
    // Attempts are numbered when they begin, and booked in another order, some of them hours later.
    const open: Parameters<Writer["settle"]>[0][] = [];
    const settled: number[] = [];
    for (let i = 0; i < EVENTS; i++) {
      day.clock.nowMs = START_MS + Math.floor((i / EVENTS) * 23 * 60) * MINUTE_MS;
      const id = writer.nextAttemptId();
      const isSeat = next() < 0.2;
      const isUnknown = next() < 0.05;
      const cost = BigInt(Math.floor(next() * 1e9));
      const isFailed = next() < 0.1;
      const flags = next() < 0.5 ? "01" : "00";
      const hasTrace = next() < 0.3;
      if (!hasTrace || flags === "01") sampled.add(id);
      open.push(
        event(id, isUnknown ? undefined : isSeat ? 0n : cost, {
          keyId: day.key.id,
          team: "search",
          provider: next() < 0.5 ? "openai" : "anthropic",
          requestedModel: `model-${Math.floor(next() * 3)}`,
          usage: isUnknown
            ? {}
            : {
                input: Math.floor(next() * 1_000),
                cache_read: Math.floor(next() * 500),
                cache_write_1h: Math.floor(next() * 50),
                input_audio: Math.floor(next() * 10),
                output: Math.floor(next() * 800),
              },
          reasoning: isUnknown ? undefined : 3,
          usageState: isUnknown ? "unknown" : next() < 0.1 ? "estimated" : "reported",
          priceConfidence: isUnknown ? "unpriced" : "exact",
          outcome: isFailed ? "upstream_rejected" : "complete",
          httpStatus: isFailed ? 529 : 200,
          durationMs: Math.floor(next() * 5_000),
          firstByteMs: 20,
          tags: '{"branch":"main"}',
          ...(isSeat ? { payer: SEAT, seatNanoUsd: cost } : {}),
          ...(hasTrace ? { trace: `${TRACE}-${PARENT}-${flags}` } : {}),
        }),
      );
      while (open.length > 0 && next() < 0.52) {
        const [one] = open.splice(Math.floor(next() * open.length), 1);
        if (!one) break;
        await writer.settle(one);
        settled.push(one.attemptId);
      }
      if (i % Math.floor(EVENTS / TURNS) !== 0) continue;
      const corrected = settled[Math.floor(next() * settled.length)];
      if (corrected !== undefined)
        await writer.change(
          {
            type: "adjust",
            adjustments: [
              {
                source: "bill",
                sourceId: `${DAY} ${i}`,
                attemptId: corrected,
                amountNanoUsd: BigInt(Math.floor(next() * 2_000) - 900),
                unpriced: 0,
                inferred: 0,
                detail: "{}",
              } as never,
            ],
          },
          "test",
        );
      await telemetry?.tick();
      // As kill -9 does: without a last turn.
      if (next() < 0.2) telemetry = await start(day, config);
    }
    for (const one of open) await writer.settle(one);
    receiver.does = () => "take";
    await telemetry?.tick();
    await telemetry?.stop();
    if (!hasDecoder) return;
    metrics = decodeMetrics(receiver.taken).at(-1) ?? [];
    spans = decodeSpans(receiver.taken);
  }, 300_000);
  afterAll(async () => {
    await writer.close();
    await usage.close();
    await billing.close();
    await receiver.close();
  });

  const spent = () => readSpend(usage, ["payer"], DAY, addDays(DAY, 1));
  const sumOf = (name: string, of: (point: DecodedMetric["points"][number]) => number = ({ value }) => value): number =>
    metrics.find((one) => one.name === name)?.points.reduce((all, point) => all + of(point), 0) ?? 0;
  const nano = (usd: number): bigint => BigInt(Math.round(usd * 1e9));

  it.skipIf(!hasDecoder)("is worth what the books say, corrections and seats apart, to the nano-dollar", async () => {
    const rows = await spent();
    const booked = rows.reduce((sum, row) => sum + row.costNanoUsd, 0n);
    const seats = rows.reduce((sum, row) => sum + row.seatNanoUsd, 0n);
    expect(nano(sumOf("keymeter.cost")) + nano(sumOf("keymeter.cost.adjustment"))).toBe(booked);
    expect(nano(sumOf("keymeter.seat.value"))).toBe(seats);
    expect(seats).toBeGreaterThan(0n);
    expect(nano(sumOf("keymeter.cost.adjustment"))).not.toBe(0n);
    expect(sumOf("keymeter.requests")).toBe(EVENTS);
  });

  it.skipIf(!hasDecoder)("has the tokens of the books, by new names and by old ones", async () => {
    const rows = await spent();
    const total = (field: "input" | "cacheRead" | "cacheWrite" | "output"): number =>
      rows.reduce((sum, row) => sum + row[field], 0);
    const audio = sumOf("gen_ai.client.inference.usage.input_tokens", ({ attributes, value }) =>
      attributes["gen_ai.token.modality"] === "audio" ? value : 0,
    );
    expect(audio).toBeGreaterThan(0);
    const input = total("input") + total("cacheRead") + total("cacheWrite") + audio;
    expect(sumOf("gen_ai.client.inference.usage.input_tokens")).toBe(input);
    expect(sumOf("gen_ai.client.inference.usage.output_tokens")).toBe(total("output"));
    expect(sumOf("gen_ai.client.inference.usage.cache_read.input_tokens")).toBe(total("cacheRead"));
    expect(sumOf("gen_ai.client.inference.usage.cache_write.input_tokens")).toBe(total("cacheWrite"));
    const of = (type: string) =>
      sumOf("gen_ai.client.token.usage", ({ attributes, value }) =>
        attributes["gen_ai.token.type"] === type ? value : 0,
      );
    expect([of("input"), of("output")]).toEqual([input, total("output")]);
    expect(sumOf("gen_ai.client.operation.duration", ({ count }) => count ?? 0)).toBe(EVENTS);
  });

  it.skipIf(!hasDecoder)("has kinds, units and labels as the conventions want them", () => {
    for (const metric of metrics) {
      const known = Object.values(METRICS).find(({ name }) => name === metric.name);
      if (!known) continue;
      expect([metric.name, metric.unit, metric.kind]).toEqual([
        known.name,
        known.unit,
        "ends" in known ? "histogram" : "sum",
      ]);
      expect(metric.isCumulative).toBe(true);
      if (metric.kind === "sum") expect(metric.isMonotonic, metric.name).toBe(!("isBalance" in known));
      for (const { attributes, startMs } of metric.points) {
        expect(attributes).toMatchObject({ "gen_ai.operation.name": "chat", "keymeter.team": "search" });
        expect(startMs).toBeGreaterThan(0);
      }
    }
    expect(new Set(metrics.map(({ name }) => name))).toEqual(
      new Set([...Object.values(METRICS).map(({ name }) => name), ...telemetryGauges(metrics)]),
    );
  });

  it.skipIf(!hasDecoder)("never goes down, and is never more than what is booked", () => {
    let before = 0;
    for (const one of decodeMetrics(receiver.taken)) {
      const now = one
        .filter(({ name }) => name === "keymeter.requests")
        .flatMap(({ points }) => points)
        .reduce((sum, { value }) => sum + value, 0);
      expect(now).toBeGreaterThanOrEqual(before);
      before = now;
    }
    expect(before).toBe(EVENTS);
  });

  it.skipIf(!hasDecoder)("has one span of each call that is sampled, in its client's trace", () => {
    // What was sent twice is the same twice.
    const byId = Map.groupBy(spans, ({ spanId }) => spanId);
    expect(byId.size).toBe(sampled.size);
    for (const same of byId.values()) expect(new Set(same.map((one) => JSON.stringify(one))).size).toBe(1);
    expect(new Set(spans.map(({ attributes }) => String(attributes["keymeter.attempt_id"])))).toEqual(
      new Set([...sampled].map((id) => `att_${id}`)),
    );
    const joined = spans.filter(({ traceId }) => traceId === TRACE);
    expect(joined.length).toBeGreaterThan(0);
    expect(new Set(joined.map(({ parentSpanId }) => parentSpanId))).toEqual(new Set([PARENT]));
    for (const span of spans) {
      const id = Number(String(span.attributes["keymeter.attempt_id"]).slice(4));
      expect(span.startMs).toBe(attemptAtMs(id));
      expect(span.endMs - span.startMs).toBeLessThan(5_000);
      expect(span).toMatchObject({ kind: "SPAN_KIND_CLIENT" });
      expect(span.attributes).toMatchObject({ "keymeter.key": "anna", "keymeter.tag.branch": "main" });
      expect(span.attributes["error.type"]).toBe(span.status === "STATUS_CODE_ERROR" ? "529" : undefined);
    }
  });

  it.skipIf(!hasDecoder)("has the audit, from when it began", () => {
    const records = decodeLogs(receiver.taken);
    const seqs = new Set(records.map(({ attributes }) => attributes["keymeter.audit.seq"]));
    const adjusted = records.filter(({ attributes }) => attributes["keymeter.audit.action"] === "adjust");
    expect(adjusted.length).toBeGreaterThan(0);
    // No number is left out.
    const numbers = [...seqs].map(Number).toSorted((a, b) => a - b);
    expect(numbers).toEqual(numbers.map((_, i) => (numbers[0] ?? 0) + i));
  });

  it("went with the receiver's own header, and its failures did happen", () => {
    expect(receiver.taken.length).toBeGreaterThan(10);
    expect(receiver.asked).toBeGreaterThan(receiver.taken.length);
    for (const { headers } of receiver.taken)
      expect(headers).toMatchObject({ "x-api-key": "secret one", "content-type": "application/x-protobuf" });
  });
});

const telemetryGauges = (metrics: readonly DecodedMetric[]): string[] =>
  metrics.map(({ name }) => name).filter((name) => name.startsWith("keymeter_telemetry_"));

describe("a receiver that is in trouble", () => {
  it("and refuses one record as it is gets all the others; while it hangs the books go on", async () => {
    const receiver = await startFakeOtlp();
    const folder = temporaryFolder();
    const day = await openDay(folder);
    const config = configOf(receiver.url, folder, {});
    const registry = new Registry();
    const telemetry = await start(day, config, registry);
    await telemetry?.tick();
    for (let i = 0; i < 8; i++)
      await day.writer.settle(
        event(day.writer.nextAttemptId(), 5n, { keyId: day.key.id, requestedModel: i === 5 ? "poison" : "good" }),
      );
    receiver.does = (signal, body) => (signal === "traces" && body.includes("poison") ? 400 : "take");
    await telemetry?.tick();
    const bodies = receiver.taken
      .filter(({ signal }) => signal === "traces")
      .map(({ body }) => body.toString("latin1"));
    expect(bodies.join("").split("chat good").length - 1).toBe(7);
    expect(bodies.join("")).not.toContain("poison");
    expect(await registry.metrics()).toContain(
      'keymeter_telemetry_dropped_records{destination="otlp",signal="traces"} 1',
    );

    // It hangs: the turn ends by itself, and nothing is lost.
    receiver.does = () => "hang";
    await day.writer.settle(event(day.writer.nextAttemptId(), 5n, { keyId: day.key.id, requestedModel: "late" }));
    let isOver = false;
    const hung = telemetry?.tick().finally(() => (isOver = true));
    await sleep(300);
    expect(isOver).toBe(false);
    // Meanwhile the books go on.
    await day.writer.settle(event(day.writer.nextAttemptId(), 5n, { keyId: day.key.id, requestedModel: "later" }));
    receiver.does = () => "take";
    await receiver.close();
    await hung;
    await telemetry?.stop();
    await day.writer.close();
    await day.usage.close();
    await day.billing.close();
  }, 60_000);

  it("that was never reached is caught up with", async () => {
    const receiver = await startFakeOtlp();
    const folder = temporaryFolder();
    const day = await openDay(folder);
    receiver.does = () => 503;
    const config = configOf(receiver.url, folder);
    const first = await start(day, config);
    await first?.tick();
    await Promise.all(
      Array.from({ length: 1_300 }, () =>
        day.writer.settle(event(day.writer.nextAttemptId(), 7n, { keyId: day.key.id })),
      ),
    );
    await first?.stop();
    receiver.does = () => "take";
    const second = await start(day, config);
    await second?.tick();
    await second?.stop();
    const text = receiver.taken
      .filter(({ signal }) => signal === "traces")
      .map(({ body }) => body.toString("latin1"))
      .join("");
    expect(text.split("keymeter.attempt_id").length - 1).toBe(1_300);
    await day.writer.close();
    await day.usage.close();
    await day.billing.close();
    await receiver.close();
  });

  it("or refuses everything, is sent all of it when it takes it again", async () => {
    const receiver = await startFakeOtlp();
    const folder = temporaryFolder();
    const day = await openDay(folder);
    const registry = new Registry();
    const telemetry = await start(day, configOf(receiver.url, folder), registry);
    await telemetry?.tick();
    receiver.does = () => 400;
    for (let i = 0; i < 40; i++) await day.writer.settle(event(day.writer.nextAttemptId(), 7n, { keyId: day.key.id }));
    await telemetry?.tick();
    receiver.does = () => "take";
    await telemetry?.tick();
    await telemetry?.stop();
    const text = receiver.taken
      .filter(({ signal }) => signal === "traces")
      .map(({ body }) => body.toString("latin1"))
      .join("");
    expect(text.split("keymeter.attempt_id").length - 1).toBe(40);
    expect(await registry.metrics()).not.toMatch(/keymeter_telemetry_dropped_records\{.*\} [1-9]/);
    await day.writer.close();
    await day.usage.close();
    await day.billing.close();
    await receiver.close();
  });

  it.skipIf(!hasDecoder)("counts nothing twice where the books could not be read in the middle of a turn", async () => {
    const receiver = await startFakeOtlp();
    const folder = temporaryFolder();
    const day = await openDay(folder);
    const telemetry = await start(day, configOf(receiver.url, folder));
    await telemetry?.tick();
    const ids = Array.from({ length: 700 }, () => day.writer.nextAttemptId());
    await Promise.all(ids.map((id) => day.writer.settle(event(id, 1_000_000_000n, { keyId: day.key.id }))));
    await day.writer.close();
    // Of a later page: what cannot be read there.
    const database = openForWriting(join(folder, "usage.db"), "usage", "process");
    database.exec("DROP TRIGGER events_fixed");
    const set = (text: string) =>
      database.exec(`UPDATE events SET other_usage = ${text} WHERE attempt_id = ${ids[600] ?? 0}`);
    set("'{'");
    await telemetry?.tick();
    set("NULL");
    await telemetry?.tick();
    await telemetry?.stop();
    const metrics = decodeMetrics(receiver.taken).at(-1) ?? [];
    const sumOf = (name: string): number =>
      metrics.find((one) => one.name === name)?.points.reduce((sum, { value }) => sum + value, 0) ?? 0;
    expect([sumOf("keymeter.requests"), sumOf("keymeter.cost")]).toEqual([700, 700]);
    database.close();
    await day.usage.close();
    await day.billing.close();
    await receiver.close();
  });
});
