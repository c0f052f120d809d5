// A real Prometheus that holds an organisation's past: history by `keymeter export openmetrics`, the last minutes by the programs' own registries, all of it
// made into blocks by promtool.
import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createWriteStream, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { Registry } from "prom-client";
import { writeHistory } from "../../collector/history.ts";
import { createCollectorMetrics } from "../../collector/metrics.ts";
import { createPriceBook } from "../../ledger/prices.ts";
import { addDays } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/writer.ts";
import { createMetrics } from "../../proxy/metrics.ts";
import { METRICS_SETTINGS } from "../collector/metrics-settings.ts";
import { openOrganisation } from "../organisation.ts";
import { event } from "../usage-event.ts";

const MINUTE_MS = 60_000;
/** The last minutes are sampled once a minute, as a slow scrape would. */
const LIVE_MINUTES = 16;

/** What live traffic was, in each of these minutes: a rate that anybody can work out. */
export const LIVE = [
  {
    provider: "openai",
    model: "gpt-5.2",
    outcome: "complete",
    requests: 6,
    costNanoUsd: 20_000_000n,
    input: 1_000,
    output: 50,
  },
  {
    provider: "openai",
    model: "gpt-5.2",
    outcome: "upstream_failed",
    requests: 1,
    costNanoUsd: 5_000_000n,
    input: 400,
    output: 0,
  },
  {
    provider: "anthropic",
    model: "claude-haiku-4-5",
    outcome: "complete",
    requests: 2,
    costNanoUsd: 70_000_000n,
    input: 9_000,
    output: 700,
  },
] as const;

export type Backfilled = {
  readonly url: string;
  stop(): Promise<void>;
};

/** Makes the blocks and starts Prometheus on them. `days`: how far back history goes. */
export async function startBackfilled(folder: string, days: number, nowMs: number): Promise<Backfilled> {
  const history = join(folder, "history.om");
  const live = join(folder, "live.om");
  const blocks = join(folder, "tsdb");
  mkdirSync(blocks);
  const books = openOrganisation(folder);
  const today = new Date(nowMs).toISOString().slice(0, 10);
  const out = createWriteStream(history);
  for await (const text of writeHistory(books, "UTC", addDays(today, -days), today)) out.write(text);
  out.end();
  await finished(out);
  writeFileSync(live, await sampleLive(folder, books, nowMs));
  books.close();
  for (const file of [history, live])
    await promtool("tsdb", "create-blocks-from", "--max-block-duration=744h", "openmetrics", file, blocks);

  // Recorded rules are worked out by Prometheus over what it holds, and become blocks too.
  const first = await startPrometheus(folder, blocks);
  const seconds = (ms: number): string => String(Math.floor(ms / 1000));
  await promtool(
    "tsdb",
    "create-blocks-from",
    "rules",
    `--start=${seconds(nowMs - 8 * MINUTE_MS)}`,
    `--end=${seconds(nowMs)}`,
    "--eval-interval=60s",
    `--url=${first.url}`,
    `--output-dir=${blocks}`,
    "dashboards/rules.yaml",
  );
  await first.stop();
  return startPrometheus(folder, blocks);
}

async function promtool(...args: string[]): Promise<void> {
  await promisify(execFile)("promtool", args, { maxBuffer: 64 * 1024 * 1024 });
}

/** Pages of collector and proxy over the last minutes, as OpenMetrics. */
async function sampleLive(folder: string, books: ReturnType<typeof openOrganisation>, nowMs: number): Promise<string> {
  const collector = createCollectorMetrics(books, { ...METRICS_SETTINGS, dataDir: folder, prices: createPriceBook() }, [
    "openai",
    "anthropic",
    "gcp.gemini",
  ]);
  mkdirSync(join(folder, "proxy"));
  const writer = await openWriter({
    path: join(folder, "proxy", "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
  });
  const proxy = createMetrics(
    writer,
    () => 3,
    () => [],
  );
  proxy.countRefused("budget_exceeded");
  const families = new Map<string, string[]>();
  const add = (family: string, line: string): void => {
    const known = families.get(family);
    if (known) known.push(line);
    else families.set(family, [line]);
  };
  for (let back = LIVE_MINUTES; back >= 0; back--) {
    const atMs = nowMs - back * MINUTE_MS;
    await collector.refresh(atMs);
    for (const { requests, provider, model, outcome, costNanoUsd, input, output } of LIVE)
      for (let i = 0; i < requests; i++)
        proxy.countEvent(
          event(0, costNanoUsd, {
            provider,
            servedModel: model,
            outcome,
            usage: { input, output },
            priceConfidence: "exact",
            firstByteMs: 300,
          }),
        );
    proxy.countEvent(
      event(0, undefined, { servedModel: "model-of-tomorrow", priceConfidence: "unpriced", usage: { input: 1 } }),
    );
    proxy.countEvent(
      event(0, 1n, {
        servedModel: "gpt-5.2-2027",
        priceConfidence: "inferred",
        usageState: "estimated",
        usage: { input: 1 },
      }),
    );
    proxy.countRefused("budget_exceeded");
    for (const registry of [collector.registry, proxy.registry]) await addSamples(registry, atMs, add);
    // What Prometheus itself and the alerts program say.
    for (const job of ["keymeter-proxy", "keymeter-collector", "keymeter-alerts"])
      add("up", `up{job="${job}"} 1 ${atMs / 1000}`);
    add(
      "ALERTS",
      `ALERTS{alertname="KeymeterSpendOverForecast",alertstate="firing",severity="warning",team="search"} 1 ${atMs / 1000}`,
    );
    add("keymeter_outbox_deliveries", `keymeter_outbox_deliveries 0 ${atMs / 1000}`);
  }
  await writer.close();
  return `${[...families].map(([name, lines]) => `# TYPE ${name} unknown\n${lines.join("\n")}\n`).join("")}# EOF\n`;
}

async function addSamples(
  registry: Registry,
  atMs: number,
  add: (family: string, line: string) => void,
): Promise<void> {
  for (const metric of await registry.getMetricsAsJSON())
    for (const one of metric.values as {
      value: number;
      labels: { [label: string]: string | number };
      metricName?: string;
    }[]) {
      const pairs = Object.entries(one.labels).map(([label, value]) => `${label}=${JSON.stringify(String(value))}`);
      add(metric.name, `${one.metricName ?? metric.name}{${pairs.join(",")}} ${one.value} ${atMs / 1000}`);
    }
}

async function startPrometheus(folder: string, blocks: string): Promise<Backfilled> {
  const port = await freePort();
  const config = join(folder, "prometheus.yaml");
  writeFileSync(config, "global: {scrape_interval: 1h}\n");
  const child: ChildProcess = spawn(
    "prometheus",
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${blocks}`,
      "--storage.tsdb.retention.time=4000d",
      `--web.listen-address=127.0.0.1:${port}`,
    ],
    { stdio: "ignore" },
  );
  const url = `http://127.0.0.1:${port}`;
  for (let i = 0; ; i++) {
    if (
      await fetch(`${url}/-/ready`).then(
        (answer) => answer.ok,
        () => false,
      )
    )
      break;
    if (i > 300) throw new Error("Prometheus was not ready within 30 s");
    await sleep(100);
  }
  return {
    url,
    async stop() {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await exited;
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address ? address.port : 0));
    });
  });
}
