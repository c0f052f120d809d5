// CloudWatch: by PutMetricData at moto, which checks each signature, and by OTLP at a receiver whose requests are signed anew by
// AWS's own library for Python.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { CloudWatchClient, GetMetricStatisticsCommand, ListMetricsCommand } from "@aws-sdk/client-cloudwatch";
import { Gauge, Registry } from "prom-client";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadCollectorConfig } from "../../collector/config.ts";
import { startTelemetry } from "../../collector/telemetry/export.ts";
import { findMark, noteMark } from "../../ledger/billing/telemetry.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { SEAT } from "../../ledger/usage/usage-event.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { createLog } from "../../service/log.ts";
import { decodeMetrics, hasDecoder } from "../decode-otlp.ts";
import { startFakeOtlp } from "../fake/otlp.ts";
import { hasMoto, REGION, startMoto } from "../moto.ts";
import type { Moto } from "../moto.ts";
import { random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const EVENTS = 400;

async function openBooks() {
  const folder = temporaryFolder();
  const writer = await openWriter({
    path: `${folder}/usage.db`,
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: Date.now,
  });
  const usage = await openUsage(folder);
  if (!usage) throw new Error("no books");
  const billing = await openToWrite(folder, "billing", "process");
  const close = async (): Promise<void> => {
    await writer.close();
    await usage.close();
    await billing.close();
  };
  return { folder, writer, usage, billing, close };
}

const start = (
  books: Awaited<ReturnType<typeof openBooks>>,
  more: { [name: string]: string },
  by: "put" | "otlp",
  registry = new Registry(),
) => {
  const { cloudWatch } = loadCollectorConfig({
    KEYMETER_DATA_DIR: books.folder,
    KEYMETER_CLOUDWATCH_REGION: REGION,
    ...more,
  });
  if (!cloudWatch) throw new Error("no settings");
  const settings = { otlp: undefined, everySeconds: 3_600, serviceName: "keymeter", version: "test" };
  return startTelemetry(
    books,
    registry,
    { ...settings, cloudWatch: { ...cloudWatch, by } },
    createLog("test", "silent"),
  );
};

describe.skipIf(!hasMoto)(`PutMetricData (seed ${SEED})`, () => {
  let moto: Moto;
  let books: Awaited<ReturnType<typeof openBooks>>;
  let client: CloudWatchClient;
  beforeAll(async () => {
    moto = await startMoto();
    books = await openBooks();
    const { id, secret } = moto.owner;
    client = new CloudWatchClient({
      region: REGION,
      endpoint: moto.url,
      credentials: { accessKeyId: id, secretAccessKey: secret },
    });
  }, 60_000);
  afterAll(async () => {
    await books?.close();
    await moto?.stop();
  });

  const sumOf = async (name: string, dimensions: { [name: string]: string }): Promise<number> => {
    const { Datapoints = [] } = await client.send(
      new GetMetricStatisticsCommand({
        Namespace: "Keymeter",
        MetricName: name,
        Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value })),
        StartTime: new Date(Date.now() - 3_600_000),
        EndTime: new Date(Date.now() + 3_600_000),
        Period: 7_200,
        Statistics: ["Sum"],
      }),
    );
    return Datapoints.reduce((sum, { Sum = 0 }) => sum + Sum, 0);
  };

  it("sums at CloudWatch are those of the books, though it was refused, and ended without a last turn", async () => {
    const next = random(SEED);
    const keyOf = (key: Moto["owner"]) => ({
      KEYMETER_CLOUDWATCH_URL: moto.url,
      KEYMETER_CLOUDWATCH_ACCESS_KEY_ID: key.id,
      KEYMETER_CLOUDWATCH_SECRET_ACCESS_KEY: key.secret,
    });
    const gauges = new Registry();
    const of = ["budget", "scope", "team", "window", "kind"] as const;
    const labels = { budget: "team-search", scope: "team", team: "search", window: "month", kind: "hard" };
    const gauge = (name: string) => new Gauge({ name, help: name, labelNames: [...of], registers: [gauges] });
    gauge("keymeter_budget_usd").set(labels, 200);
    gauge("keymeter_budget_spent_usd").set(labels, 50);
    let telemetry = await start(books, keyOf(moto.owner), "put", gauges);
    await telemetry?.tick();
    const nano = { search: 0n, ops: 0n };
    let tokens = 0;
    let failed = 0;
    for (let i = 0; i < EVENTS; i++) {
      const team = next() < 0.5 ? "search" : "ops";
      const isSeat = next() < 0.2;
      const cost = BigInt(Math.floor(next() * 1e8));
      const input = Math.floor(next() * 900);
      const isFailed = next() < 0.1;
      if (!isSeat) nano[team] += cost;
      tokens += input;
      if (isFailed) failed += 1;
      await books.writer.settle(
        event(books.writer.nextAttemptId(), isSeat ? 0n : cost, {
          team,
          usage: { input },
          ...(isSeat ? { payer: SEAT, seatNanoUsd: cost } : {}),
          ...(isFailed ? { outcome: "upstream_failed" } : {}),
        }),
      );
      if (i % 50 !== 49) continue;
      // Someone without rights: nothing is taken, and nothing is lost.
      if (i === 149) telemetry = await start(books, keyOf(moto.nobody), "put", new Registry());
      if (i === 249) telemetry = await start(books, keyOf(moto.owner), "put", new Registry());
      await telemetry?.tick();
      const isRefused = i === 149 || i === 199;
      expect((await findMark(books.billing, "cloudwatch"))?.state === null, String(i)).toBe(!isRefused);
    }
    await telemetry?.stop();
    for (const team of ["search", "ops"] as const)
      expect(Math.round((await sumOf("CostUSD", { Team: team })) * 1e9)).toBe(Number(nano[team]));
    const all = await sumOf("CostUSD", { Provider: "openai", Model: "m" });
    expect(Math.round(all * 1e9)).toBe(Number(nano.search + nano.ops));
    expect(await sumOf("Requests", { Provider: "openai" })).toBe(EVENTS);
    expect(await sumOf("Errors", { Provider: "openai" })).toBe(failed);
    expect(await sumOf("Tokens", { Provider: "openai", Direction: "input" })).toBe(tokens);
    expect(await sumOf("BudgetUsedRatio", { Budget: "team-search" })).toBeGreaterThanOrEqual(0.25);
    const { Metrics = [] } = await client.send(new ListMetricsCommand({ Namespace: "Keymeter" }));
    // Each is paid for.
    expect(new Set(Metrics.map(({ MetricName, Dimensions }) => JSON.stringify([MetricName, Dimensions]))).size).toBe(7);
  }, 120_000);

  it("what was written down before it was sent is sent after a start, as it was", async () => {
    const before = await sumOf("CostUSD", { Team: "search" });
    const mark = await findMark(books.billing, "cloudwatch");
    if (!mark) throw new Error("no mark");
    const metrics = [{ name: "CostUSD", dimensions: { Team: "search" }, unit: "None", value: 1.5 }];
    await noteMark(books.billing, "cloudwatch", { ...mark, state: JSON.stringify({ atMs: Date.now(), metrics }) });
    const telemetry = await start(
      books,
      {
        KEYMETER_CLOUDWATCH_URL: moto.url,
        KEYMETER_CLOUDWATCH_ACCESS_KEY_ID: moto.owner.id,
        KEYMETER_CLOUDWATCH_SECRET_ACCESS_KEY: moto.owner.secret,
      },
      "put",
    );
    await telemetry?.tick();
    await telemetry?.stop();
    expect((await sumOf("CostUSD", { Team: "search" })) - before).toBeCloseTo(1.5, 9);
    expect((await findMark(books.billing, "cloudwatch"))?.state).toBeNull();
  });
});

describe.skipIf(!hasMoto || !hasDecoder)("CloudWatch by OTLP", () => {
  it("gets all metrics, each request signed as AWS has it", async () => {
    const receiver = await startFakeOtlp();
    const books = await openBooks();
    const key = { id: "AKIAEXAMPLE", secret: "secret/of+an+example" };
    const telemetry = await start(
      books,
      {
        KEYMETER_CLOUDWATCH_URL: receiver.url,
        KEYMETER_CLOUDWATCH_ACCESS_KEY_ID: key.id,
        KEYMETER_CLOUDWATCH_SECRET_ACCESS_KEY: key.secret,
      },
      "otlp",
    );
    await telemetry?.tick();
    await books.writer.settle(event(books.writer.nextAttemptId(), 123_456_789n, { team: "search" }));
    await telemetry?.tick();
    await telemetry?.stop();
    expect(new Set(receiver.taken.map(({ signal }) => signal))).toEqual(new Set(["metrics"]));
    const metrics = decodeMetrics(receiver.taken).at(-1) ?? [];
    expect(metrics.find(({ name }) => name === "keymeter.cost")?.points.map(({ value }) => value)).toEqual([
      0.123456789,
    ]);
    const python = fileURLToPath(new URL("../servers/venv/bin/python", import.meta.url));
    const script = fileURLToPath(new URL("../servers/check-signature.py", import.meta.url));
    for (const { headers, body } of receiver.taken) {
      const found =
        /Credential=AKIAEXAMPLE\/\d{8}\/([\w-]+)\/(\w+)\/aws4_request, SignedHeaders=([\w;-]+), Signature=(\w+)/.exec(
          headers.authorization ?? "",
        );
      const [, region, service, signedHeaders, signature] = found ?? [];
      expect([region, service]).toEqual([REGION, "monitoring"]);
      const asked = { url: `${receiver.url}/v1/metrics`, headers, signedHeaders, region, service, ...key };
      const { stdout, stderr } = spawnSync(python, [script], {
        input: JSON.stringify({ ...asked, body: body.toString("base64") }),
        encoding: "utf8",
      });
      expect(stdout.trim(), stderr).toBe(signature);
    }
    await books.close();
    await receiver.close();
  }, 60_000);
});
