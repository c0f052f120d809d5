// A real Prometheus that holds an organisation's past: history by `keymeter export openmetrics`, the last minutes by
// the programs' own registries, all of it made into blocks by promtool.
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
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import type { CollectorMetrics } from "../../collector/gauges/index.ts";
import { noteImport } from "../../ledger/billing/bills.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { addDays } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { createMetrics } from "../../proxy/metrics.ts";
import { METRICS_SETTINGS } from "../collector/metrics-settings.ts";
import { openOrganisation } from "../organisation.ts";
import { random, SEED } from "../seed.ts";
import { event } from "../usage-event.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** How far back counters go. */
const RATES_MS = DAY_MS;
const SOURCES = ["openai", "anthropic", "gcp.gemini"];
/** What is today as it was all along. */
const STOOD = new Set(["keymeter_budget_usd", "keymeter_price_usd_per_million_tokens"]);
/** What the collector says of a past instant as it would have said then. */
const BY_HOUR = new Set(["keymeter_hour_usd", "keymeter_hour_line_usd", "keymeter_forecast_so_far_usd"]);
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

/** Of one key, so many days of what the collector said by the hour: no export has that. */
export type Closely = { readonly days: number; readonly keyId: string };

/** Makes the blocks and starts Prometheus on them. `days`: how far back history goes. */
export async function startBackfilled(
  folder: string,
  days: number,
  nowMs: number,
  closely?: Closely,
): Promise<Backfilled> {
  const history = join(folder, "history.om");
  const live = join(folder, "live.om");
  const blocks = join(folder, "tsdb");
  mkdirSync(blocks);
  const books = await openOrganisation(folder);
  const today = new Date(nowMs).toISOString().slice(0, 10);
  const out = createWriteStream(history);
  const liveMs = nowMs - (LIVE_MINUTES + 1) * MINUTE_MS;
  for await (const text of writeHistory(books, "UTC", addDays(today, -days), addDays(today, 1)))
    out.write(until(liveMs, text));
  out.end();
  await finished(out);
  for (const provider of SOURCES) await noteImport(books.billing, provider, nowMs - 25 * MINUTE_MS, {});
  writeFileSync(live, await sampleLive(folder, books, nowMs, { days, closely }));
  await books.close();
  for (const file of [history, live])
    await promtool("tsdb", "create-blocks-from", "--max-block-duration=744h", "openmetrics", file, blocks);

  // Recorded rules are worked out by Prometheus over what it holds, and become blocks too.
  const first = await startPrometheus(folder, blocks);
  const seconds = (ms: number): string => String(Math.floor(ms / 1000));
  await promtool(
    "tsdb",
    "create-blocks-from",
    "rules",
    `--start=${seconds(nowMs - RATES_MS)}`,
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

/** The lines of OpenMetrics up to an instant. */
function until(ms: number, text: string): string {
  return text
    .split("\n")
    .filter((line) =>
      line === "" ? false : line.startsWith("#") || Number(line.slice(line.lastIndexOf(" "))) * 1000 < ms,
    )
    .map((line) => `${line}\n`)
    .join("");
}

/** Pages of collector and proxy over the last minutes, as OpenMetrics; of the proxy's counters a day of them, and what
 *  stood all along for `days`. */
async function sampleLive(
  folder: string,
  books: Awaited<ReturnType<typeof openOrganisation>>,
  nowMs: number,
  { days, closely }: { readonly days: number; readonly closely: Closely | undefined },
): Promise<string> {
  const makeCollector = (): CollectorMetrics =>
    createCollectorMetrics(books, { ...METRICS_SETTINGS, dataDir: folder, prices: createPriceBook() }, SOURCES);
  mkdirSync(join(folder, "proxy"));
  const writer = await openWriter({
    path: join(folder, "proxy", "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
  });
  let open = 3;
  const proxy = createMetrics(
    writer,
    () => open,
    () => [],
  );
  proxy.countRefused("budget_exceeded");
  const families = new Map<string, string[]>();
  const add = (family: string, line: string): void => {
    const known = families.get(family);
    if (known) known.push(line);
    else families.set(family, [line]);
  };
  const liveMs = nowMs - LIVE_MINUTES * MINUTE_MS;

  const past = makeCollector();
  await past.refresh(nowMs);
  for (const { name, labels, value } of await samplesOf(past.registry))
    if (STOOD.has(name))
      for (let atMs = nowMs - days * DAY_MS; atMs < liveMs; atMs += HOUR_MS)
        add(name, lineOf(name, labels, value, beforeHour(atMs)));
  for (let atMs = nowMs - (closely?.days ?? 0) * DAY_MS; atMs < liveMs; atMs += HOUR_MS) {
    await past.refresh(beforeHour(atMs));
    for (const { name, labels, value } of await samplesOf(past.registry))
      if (BY_HOUR.has(name) && labels["scope"] === "key" && labels["id"] === closely?.keyId)
        add(name, lineOf(name, labels, value, beforeHour(atMs)));
  }

  const next = random(SEED);
  const owed = new Map<(typeof LIVE)[number], number>();
  const firstByteMs = (provider: string): number => (provider === "openai" ? 150 : 350) * (1 + next() * next() * 5);
  /** How busy an instant is, beside now. */
  const busy = (atMs: number): number => rhythm(atMs) / rhythm(nowMs);
  for (let atMs = nowMs - RATES_MS; atMs < liveMs; atMs += 2 * MINUTE_MS) {
    for (const one of LIVE) {
      // What is less than a request comes with a later one.
      const due = (owed.get(one) ?? 0) + 2 * one.requests * busy(atMs) * (0.85 + next() * 0.3);
      owed.set(one, due % 1);
      for (let i = Math.floor(due); i > 0; i--) proxy.countEvent(liveEvent(one, firstByteMs(one.provider)));
    }
    if (next() < 0.5) proxy.countRefused("budget_exceeded");
    if (next() < 0.2) proxy.countRefused("rate_limited");
    open = Math.round(6 * busy(atMs) * next());
    await addSamples(proxy.registry, atMs, add);
  }

  const collector = makeCollector();
  for (let back = LIVE_MINUTES; back >= 0; back--) {
    const atMs = nowMs - back * MINUTE_MS;
    await collector.refresh(atMs);
    open = Math.round(6 * next());
    for (const one of LIVE)
      for (let i = 0; i < one.requests; i++) proxy.countEvent(liveEvent(one, firstByteMs(one.provider)));
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

function liveEvent(
  { provider, model, outcome, costNanoUsd, input, output }: (typeof LIVE)[number],
  firstByteMs: number,
): ReturnType<typeof event> {
  return event(0, costNanoUsd, {
    provider,
    servedModel: model,
    outcome,
    usage: { input, output },
    priceConfidence: "exact",
    firstByteMs,
  });
}

/** Offices at day, batches at night. */
function rhythm(ms: number): number {
  return 1 + 0.7 * Math.sin((2 * Math.PI * (ms / HOUR_MS - 7)) / 24);
}

/** Where history that is exported has its samples: the hour's last seconds. */
function beforeHour(ms: number): number {
  return Math.floor(ms / HOUR_MS) * HOUR_MS - 15_000;
}

type Labels = { readonly [label: string]: string | number };
type Said = { readonly family: string; readonly name: string; readonly labels: Labels; readonly value: number };

async function samplesOf(registry: Registry): Promise<Said[]> {
  return (await registry.getMetricsAsJSON()).flatMap((metric) =>
    (metric.values as { value: number; labels: Labels; metricName?: string }[]).map((one) => ({
      family: metric.name,
      name: one.metricName ?? metric.name,
      labels: one.labels,
      value: one.value,
    })),
  );
}

function lineOf(name: string, labels: Labels, value: number, atMs: number): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}=${JSON.stringify(String(text))}`);
  return `${name}{${pairs.join(",")}} ${value} ${atMs / 1000}`;
}

async function addSamples(
  registry: Registry,
  atMs: number,
  add: (family: string, line: string) => void,
): Promise<void> {
  for (const { family, name, labels, value } of await samplesOf(registry))
    add(family, lineOf(name, labels, value, atMs));
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
