// keymeter demo: the whole product in two minutes, without a key or an account. A provider of its own bills; three
// months of five teams are written through the ledger's own functions; then their keys work, one of them leaks, the
// alert comes, the cap closes, the bill disagrees for a reason, and the books agree with the provider's journal to the
// nano-dollar. It says what happens as it happens, and where to look.
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { expectedSoFar, readForecasts } from "../../ledger/billing/forecasts.ts";
import type { FrozenForecast } from "../../ledger/billing/forecasts.ts";
import { formatUsd, parseUsd } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { LedgerInUse } from "../../ledger/books.ts";
import { lockForWriting, openBilling, openUsage } from "../../ledger/open.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { createCalendar } from "../../ledger/windows.ts";
import type { SharedConfig } from "../../service/config.ts";
import type { Environment } from "../../service/settings.ts";
import { makeChange } from "../books.ts";
import { commandEnvironment, loadCommandConfig } from "../config.ts";
import { DAYS, storyPrices, writePast } from "./past.ts";
import type { DemoKey } from "./past.ts";
import { createDemoProvider, DEMO_CREDENTIAL } from "./provider.ts";
import { headlineOf, report } from "./report.ts";
import { startSlack } from "./slack.ts";
import { runTraffic } from "./traffic.ts";
import { createProgress } from "../progress.ts";
import { startStack } from "../stack.ts";
import type { Stack } from "../stack.ts";

export const USAGE = `keymeter demo
  All of it with a demo provider, on a data folder of its own (KEYMETER_DATA_DIR, ./demo-data), beside a Keymeter that runs. Two minutes, then it
  stays for you to look at until Ctrl-C; where nobody looks (no terminal) it ends by itself.`;

const MARK = ".keymeter-demo";
const LIVE_MS = 110_000;
const MOST_WAIT_MS = 200_000;
const MOST_FORECAST_MS = 60_000;
const LEAK_AFTER_MS = 8_000;
const LEAK_NAME = "search-agent-nightly";

export async function run(): Promise<void> {
  const stopping = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.on(signal, () => {
      // A terminal and a launcher may both pass on the same key press; a second one is impatience.
      if (stopping.signal.aborted) setTimeout(() => process.exit(130), SAME_SIGNAL_MS);
      stopping.abort();
    });
  const closers: (() => Promise<unknown> | void)[] = [];
  try {
    process.exitCode = await show(stopping.signal, closers);
  } catch (error) {
    process.exitCode = 1;
    say(`\nThe demo cannot go on: ${error instanceof Error ? error.message : String(error)}`);
  }
  for (const close of closers.toReversed()) await Promise.resolve(close()).catch(() => undefined);
  process.exit();
}

const SAME_SIGNAL_MS = 500;

/** Returns the exit code. What has to be ended, whatever happens, goes into `closers`. */
async function show(stop: AbortSignal, closers: (() => Promise<unknown> | void)[]): Promise<number> {
  const started = Date.now();
  const tell = (text: string): void => say(`${clock(Date.now() - started)}  ${text}`);
  const dataDir = commandEnvironment()["KEYMETER_DATA_DIR"] ?? "./demo-data";
  const lock = freshFolder(dataDir);
  closers.push(() => lock.release());
  const provider = createDemoProvider({ paceMs: 2 });
  const slack = await startSlack();
  closers.push(
    () => provider.close(),
    () => (slack.server.closeAllConnections(), void slack.server.close()),
  );
  const providerUrl = `http://127.0.0.1:${await provider.listen()}`;
  const environment = {
    ...(await withFreePorts(commandEnvironment())),
    // Its books are its folder's, whatever else is set.
    KEYMETER_LEDGER_URL: undefined,
    KEYMETER_DATA_DIR: dataDir,
    KEYMETER_CONFIG: writeSettings(dataDir),
    KEYMETER_SCRAPE_SECONDS: "2",
    KEYMETER_OPENAI_URL: providerUrl,
    KEYMETER_ANTHROPIC_URL: providerUrl,
    KEYMETER_GOOGLE_URL: providerUrl,
    KEYMETER_OPENAI_BILLING_URL: `${providerUrl}/v1`,
    OPENAI_API_KEY: DEMO_CREDENTIAL,
    ANTHROPIC_API_KEY: "sk-ant-demo-credential",
    GEMINI_API_KEY: "AIzaDemoCredential",
    OPENAI_ADMIN_KEY: "sk-admin-demo",
    SLACK_BOT_TOKEN: "xoxb-demo-token",
    SLACK_CHANNEL: "C0DEMO",
    KEYMETER_SLACK_URL: `${slack.url}/api/`,
  };
  const config = loadCommandConfig(environment);

  tell(`A demo provider and a demo Slack run. Writing ${DAYS} days of five teams into ${resolve(dataDir)}:`);
  tell(
    "search moved its chat to a smaller model, support launched a product, ads has its season, gpt-5.2 became cheaper, and somebody still has a provider key in a notebook.",
  );
  const progress = createProgress();
  const keys = await writePast(config, dataDir, provider, (day) => {
    stop.throwIfAborted();
    progress.show(day);
  });
  progress.end();
  tell("The past is written. Proxy, collector and alerts start ...");
  const stack = await startStack({ config, environment });
  closers.push(() => stack.stop());
  const leaked = keyNamed(keys, LEAK_NAME);
  slack.onMessage = ({ text }, isNew) => tell(`Slack ${isNew ? "hears" : "is told anew"}: ${headlineOf(text)}`);
  tell(`Running. Open while it works:

  Reports  ${stack.pages}
  Slack    ${slack.url}/          what on-call sees, with its pictures${stack.hasPrometheus ? `\n  Prometheus  http://127.0.0.1:${config.prometheusPort}/alerts` : ""}
`);

  const counts = await live({ config, dataDir, keys, leaked, stack, stop, tell, slack });
  if (stop.aborted) {
    say("\nStopped. `npm run demo` starts anew.");
    return 130;
  }
  const { text, isGood } = await report({ config, dataDir, provider, counts, messages: slack.messages });
  say(text);
  if (process.stdout.isTTY) {
    say(`Everything goes on running, so that you can look around. Ctrl-C ends it; then
  KEYMETER_DATA_DIR=${dataDir} npm start      shows these books again
  npm start                                   starts with your own: it prints where to point your SDK`);
    await new Promise<void>((resolve) => stop.addEventListener("abort", () => resolve(), { once: true }));
    say("\nThe demo is stopping.");
  }
  return isGood ? 0 : 1;
}

type Live = {
  readonly config: SharedConfig;
  readonly dataDir: string;
  readonly keys: readonly DemoKey[];
  readonly leaked: DemoKey;
  readonly stack: Stack;
  readonly stop: AbortSignal;
  readonly tell: (text: string) => void;
  readonly slack: Awaited<ReturnType<typeof startSlack>>;
};

/** The two minutes: usual traffic, the leak, the alert, the cap. */
async function live({
  config,
  dataDir,
  keys,
  leaked,
  stop,
  tell,
  slack,
}: Live): Promise<Awaited<ReturnType<typeof runTraffic>>> {
  const started = Date.now();
  const isAlerted = (): boolean => slack.messages.some(({ text }) => text.includes("over today's forecast"));
  const done = (): boolean => {
    const elapsed = Date.now() - started;
    return stop.aborted || elapsed > MOST_WAIT_MS || (elapsed > LIVE_MS && isAlerted());
  };
  tell(`${keys.length} keys of five teams ask through the proxy, each in its own dialect.`);
  const traffic = runTraffic(`http://127.0.0.1:${config.proxyPort}`, keys, leaked, done, {
    leakAfterMs: LEAK_AFTER_MS,
    onFirstRefusal: (words) => tell(`The cap closes; the leaking client reads: ${words}`),
  });
  const cap = await capLeak(config, dataDir, leaked);
  tell(
    `"${leaked.name}" leaks: somebody asks claude-opus-4-6 for long answers with it. A hard cap on the key has ${formatUsd(cap)} left.`,
  );
  const ticking = setInterval(() => {
    void spentSince("day", dataDir, config, "team", leaked.team).then((spent) =>
      tell(`Team ${leaked.team} has spent ${formatUsd(spent)} today.`),
    );
  }, TICK_MS);
  const counts = await traffic.finally(() => clearInterval(ticking));
  return counts;
}

const TICK_MS = 15_000;

/** "0:42" */
function clock(ms: number): string {
  return `${Math.floor(ms / 60_000)}:${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}`;
}

function keyNamed(keys: readonly DemoKey[], wanted: string): DemoKey {
  const key = keys.find(({ name }) => name === wanted);
  if (!key) throw new Error("the demo made no key to leak");
  return key;
}

/** Ports that nobody uses: the usual ones, or, beside a Keymeter that runs, others. */
async function withFreePorts(environment: Environment): Promise<Environment> {
  const ports = {
    KEYMETER_PORT: 4000,
    KEYMETER_OPS_PORT: 4001,
    KEYMETER_COLLECTOR_PORT: 4002,
    KEYMETER_ALERTS_PORT: 4003,
    KEYMETER_PROMETHEUS_PORT: 9090,
    KEYMETER_ALERTMANAGER_PORT: 9093,
  };
  const found: { [name: string]: string } = {};
  for (const [name, usual] of Object.entries(ports))
    if (!environment[name]) found[name] = String((await portOf(usual)) ?? (await portOf(0)) ?? usual);
  return { ...environment, ...found };
}

/** The port, where it can be had; of 0 any that can. */
function portOf(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(undefined));
    probe.listen(port, "127.0.0.1", () => {
      const { port: had } = probe.address() as AddressInfo;
      probe.close(() => resolve(had));
    });
  });
}

/** The story's price change, as somebody would write it down. */
function writeSettings(dataDir: string): string {
  const path = join(dataDir, "keymeter.yaml");
  const prices = storyPrices(Date.now()).map(({ list, model, from, usdPerMillion, source }) => ({
    provider: list,
    model,
    from,
    usd_per_million: usdPerMillion,
    source,
  }));
  writeFileSync(path, `# The demo's settings: a price that went down.\n${stringify({ proxy: { prices } })}`);
  return path;
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

/** Caps the leaked key just above what its team needs to end its day more than 20 % over the frozen forecast, at any
 *  hour of the day, and gives some teams a budget. Changes go through the running proxy, as an operator's would.
 *  Returns what the cap leaves. */
async function capLeak(config: SharedConfig, dataDir: string, key: DemoKey): Promise<NanoUsd> {
  const forecast = await waitForForecast(dataDir, key.team);
  const now = Date.now();
  const ahead = (await spentSince("day", dataDir, config, "team", key.team)) - expectedSoFar(forecast, now);
  const missing = ahead < 0n ? -ahead : 0n;
  // To the threshold of 20 %, a tenth more that nobody can miss, and what the forecast still adds while the demo runs.
  const needed = (forecast.p50NanoUsd * 35n) / 100n + missing + 3_000_000_000n;
  const spent = await spentSince("month", dataDir, config, "key", key.id);
  const budget = { window: "month", mode: "expected", createdAtMs: now } as const;
  const cents = 10_000_000n;
  const amountNanoUsd = ((spent + needed) / cents) * cents;
  await makeChange(config, {
    type: "together",
    changes: [
      {
        type: "setBudget",
        budget: { ...budget, id: "bud_leak", scope: { keyId: key.id }, amountNanoUsd, kind: "hard" },
      },
      ...Object.entries({ search: "1500", support: "1100", ads: "600", research: "500", platform: "400" }).map(
        ([team, usd]) =>
          ({
            type: "setBudget",
            budget: { ...budget, id: `bud_${team}`, scope: { team }, amountNanoUsd: parseUsd(usd), kind: "soft" },
          }) as const,
      ),
      {
        type: "setBudget",
        budget: { ...budget, id: "bud_org", scope: {}, amountNanoUsd: parseUsd("4000"), kind: "soft" },
      },
    ],
  });
  return amountNanoUsd - spent;
}

/** The collector freezes the day's forecasts when it starts. */
async function waitForForecast(dataDir: string, team: string): Promise<FrozenForecast> {
  const deadline = Date.now() + MOST_FORECAST_MS;
  while (Date.now() < deadline) {
    const billing = await openBilling(dataDir);
    const made = billing ? await readForecasts(billing, Date.now()) : [];
    await billing?.close();
    const found = made.find((one) => one.scope === "team" && one.id === team && one.window === "day");
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
  const books = await openUsage(dataDir);
  if (!books) return 0n;
  const { firstDay, endDay } = createCalendar(config.timezone).window(window, Date.now());
  const row = (await readSpend(books, [by], firstDay, endDay)).find(({ group }) => group[by] === id);
  await books.close();
  return row?.costNanoUsd ?? 0n;
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
