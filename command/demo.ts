// keymeter demo: the whole product in two minutes, without a key or an account. A provider of its own bills; two weeks of past
// days are written through the ledger's own functions from a real trace's figures; then a dozen keys work, one of them leaks,
// the alert fires, the cap closes, and the books agree with the provider's journal to the nano-dollar.
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expectedSoFar, readForecasts } from "../ledger/forecasts.ts";
import type { FrozenForecast } from "../ledger/forecasts.ts";
import { parseUsd } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { LedgerInUse, lockForWriting, openForReading } from "../ledger/open.ts";
import { readSpend } from "../ledger/spend.ts";
import { createCalendar } from "../ledger/windows.ts";
import type { SharedConfig } from "../service/config.ts";
import { makeChange } from "./books.ts";
import { commandEnvironment, loadCommandConfig } from "./config.ts";
import { DAYS, writePast } from "./demo-past.ts";
import type { DemoKey } from "./demo-past.ts";
import { createDemoProvider, DEMO_CREDENTIAL } from "./demo-provider.ts";
import { report } from "./demo-report.ts";
import { startSlack } from "./demo-slack.ts";
import { runTraffic } from "./demo-traffic.ts";
import { startStack } from "./stack.ts";

const MARK = ".keymeter-demo";
const LIVE_MS = 110_000;
const MOST_WAIT_MS = 200_000;
const MOST_FORECAST_MS = 30_000;

export async function run(): Promise<void> {
  const dataDir = commandEnvironment()["KEYMETER_DATA_DIR"] ?? "./demo-data";
  const lock = freshFolder(dataDir);
  const provider = createDemoProvider({ paceMs: 2 });
  const slack = await startSlack();
  const providerUrl = `http://127.0.0.1:${await provider.listen()}`;
  const config = loadCommandConfig({
    ...commandEnvironment(),
    KEYMETER_DATA_DIR: dataDir,
    KEYMETER_SCRAPE_SECONDS: "2",
  });
  const environment = {
    ...commandEnvironment(),
    KEYMETER_DATA_DIR: dataDir,
    KEYMETER_OPENAI_URL: providerUrl,
    KEYMETER_ANTHROPIC_URL: providerUrl,
    KEYMETER_GOOGLE_URL: providerUrl,
    KEYMETER_OPENAI_BILLING_URL: `${providerUrl}/v1`,
    OPENAI_API_KEY: DEMO_CREDENTIAL,
    ANTHROPIC_API_KEY: "sk-ant-demo-credential",
    GEMINI_API_KEY: "AIzaDemoCredential",
    OPENAI_ADMIN_KEY: "sk-admin-demo",
    SLACK_BOT_TOKEN: "xoxb-demo-token",
    SLACK_CHANNEL: "#keymeter-demo",
    KEYMETER_SLACK_URL: `${slack.url}/api/`,
  };

  say(`Writing ${DAYS} past days into ${resolve(dataDir)} ...`);
  const keys = await writePast(config, dataDir, provider);

  let interrupted = false;
  process.on("SIGINT", () => (interrupted = true));
  process.on("SIGTERM", () => (interrupted = true));
  const stack = await startStack({ config, environment });
  await capLeak(config, dataDir, leakKey(keys));
  const base = `http://127.0.0.1:${config.proxyPort}`;
  say(`Running. Open while it works:
  http://127.0.0.1:${config.opsPort}/metrics         the proxy's counters
  http://127.0.0.1:${config.collectorPort}/metrics         spend, forecast, budgets, bills${stack.hasPrometheus ? `\n  http://127.0.0.1:${config.prometheusPort}/alerts          Prometheus\n  http://127.0.0.1:${config.alertmanagerPort}                 Alertmanager` : ""}
A dozen keys of three teams work; the key "${leakKey(keys).name}" leaks. The report comes in about two minutes.`);

  const started = Date.now();
  const done = (): boolean => {
    const elapsed = Date.now() - started;
    if (interrupted || elapsed > MOST_WAIT_MS) return true;
    return (
      elapsed > LIVE_MS &&
      (!stack.hasPrometheus || slack.messages.some(({ text }) => text.includes("over today's forecast")))
    );
  };
  const counts = await runTraffic(base, keys, leakKey(keys), done);
  await stack.stop();

  const { text, isGood } = await report({ config, dataDir, provider, counts, messages: slack.messages, stack });
  say(text);
  if (!isGood) process.exitCode = 1;
  await provider.close();
  slack.server.close();
  lock.release();
  process.exit(process.exitCode ?? 0);
}

function leakKey(keys: readonly DemoKey[]): DemoKey {
  const key = keys.find(({ name }) => name === "search-agent-nightly");
  if (!key) throw new Error("the demo made no key to leak");
  return key;
}

/** An empty folder of the demo's own; one that holds anything else is left alone. */
function freshFolder(dataDir: string): { release(): void } {
  if (existsSync(dataDir) && !existsSync(join(dataDir, MARK)))
    throw new LedgerInUse(
      `${resolve(dataDir)} is not a folder of the demo. Name another one with KEYMETER_DATA_DIR, or remove it.`,
    );
  if (existsSync(dataDir)) {
    lockForWriting(join(dataDir, "keymeter")).release();
    rmSync(dataDir, { recursive: true });
  }
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(join(dataDir, MARK), "Made by `keymeter demo`, which removes this folder when it starts.\n");
  return lockForWriting(join(dataDir, "keymeter"));
}

/** Caps the leaked key just above what its team needs to end its day more than 20 % over the frozen forecast, at any hour
 *  of the day. Changes go through the running proxy, as an operator's would. */
async function capLeak(config: SharedConfig, dataDir: string, key: DemoKey): Promise<void> {
  const forecast = await waitForForecast(dataDir);
  const now = Date.now();
  const ahead = (await spentSince("day", dataDir, config, "team", key.team)) - expectedSoFar(forecast, now);
  const missing = ahead < 0n ? -ahead : 0n;
  // To the threshold of 20 %, a tenth more that nobody can miss, and what the forecast still adds while the demo runs.
  const needed = (forecast.p50NanoUsd * 35n) / 100n + missing + 3_000_000_000n;
  const spent = await spentSince("month", dataDir, config, "key", key.id);
  const budget = { window: "month", mode: "expected", createdAtMs: now } as const;
  await makeChange(config, {
    type: "setBudget",
    budget: { ...budget, id: "bud_leak", scope: { keyId: key.id }, amountNanoUsd: spent + needed, kind: "hard" },
  });
  await makeChange(config, {
    type: "setBudget",
    budget: { ...budget, id: "bud_search", scope: { team: key.team }, amountNanoUsd: parseUsd("2000"), kind: "soft" },
  });
}

/** The collector freezes the day's forecasts when it starts. */
async function waitForForecast(dataDir: string): Promise<FrozenForecast> {
  const deadline = Date.now() + MOST_FORECAST_MS;
  while (Date.now() < deadline) {
    const billing = openForReading(join(dataDir, "billing.db"));
    const made = billing ? await readForecasts(billing, Date.now()) : [];
    billing?.close();
    const found = made.find((one) => one.scope === "team" && one.id === "search" && one.window === "day");
    if (found) return found;
    await sleep(200);
  }
  throw new Error(`the collector froze no forecast; its log: ${dataDir}/logs/collector.log`, { cause: "forecast" });
}

async function spentSince(
  window: "day" | "month",
  dataDir: string,
  config: SharedConfig,
  by: "team" | "key",
  id: string,
): Promise<NanoUsd> {
  const books = openForReading(join(dataDir, "usage.db"));
  if (!books) return 0n;
  const { firstDay, endDay } = createCalendar(config.timezone).window(window, Date.now());
  const row = (await readSpend(books, [by], firstDay, endDay)).find(({ group }) => group[by] === id);
  books.close();
  return row?.costNanoUsd ?? 0n;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
