// keymeter demo: the whole product in two minutes, without a key or an account. A provider of its own bills; two weeks of past
// days are written through the ledger's own functions from a real trace's figures; then a dozen keys work, one of them leaks,
// the alert fires, the cap closes, and the books agree with the provider's journal to the nano-dollar.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cost } from "../ledger/cost.ts";
import { createDigest, issueVirtualKey } from "../ledger/keys.ts";
import { expectedSoFar, readForecasts } from "../ledger/forecasts.ts";
import type { FrozenForecast } from "../ledger/forecasts.ts";
import { formatUsd, formatUsdExact, parseUsd, toUsdNumber } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { LedgerInUse, lockForWriting, openForReading } from "../ledger/open.ts";
import { createPriceBook } from "../ledger/prices.ts";
import type { PriceBook } from "../ledger/prices.ts";
import { readRefused, readSpend } from "../ledger/spend.ts";
import { createCalendar } from "../ledger/windows.ts";
import { openWriter } from "../ledger/writer.ts";
import type { Writer } from "../ledger/writer.ts";
import { ownSecret } from "../service/secret.ts";
import type { SharedConfig } from "../service/config.ts";
import { makeChange } from "./books.ts";
import { commandEnvironment, loadCommandConfig } from "./config.ts";
import { createDemoProvider } from "./demo-provider.ts";
import type { DemoProvider } from "./demo-provider.ts";
import { startStack } from "./stack.ts";
import { formatTable } from "./table.ts";

const MARK = ".keymeter-demo";
const HOUR_MS = 3_600_000;
const DAYS = 14;
const LIVE_MS = 110_000;
const MOST_WAIT_MS = 200_000;
const LIVE_PAUSE_MS = 120;
const MOST_FORECAST_MS = 30_000;

type Work = {
  readonly dialect: "openai" | "responses" | "anthropic" | "google";
  readonly model: string;
  readonly provider: string;
  readonly list: string;
  readonly path: string;
};
type DemoKey = {
  readonly id: string;
  readonly secret: string;
  readonly name: string;
  readonly team: Team;
  readonly work: Work;
};
const TEAMS = ["search", "support", "ads"] as const;
type Team = (typeof TEAMS)[number];

const WORK: readonly Work[] = [
  { dialect: "openai", model: "gpt-5.2", provider: "openai", list: "openai", path: "/v1/chat/completions" },
  { dialect: "responses", model: "gpt-4o-mini", provider: "openai", list: "openai", path: "/v1/responses" },
  { dialect: "anthropic", model: "claude-haiku-4-5", provider: "anthropic", list: "anthropic", path: "/v1/messages" },
  {
    dialect: "google",
    model: "gemini-2.5-flash",
    provider: "gcp.gemini",
    list: "google",
    path: "/v1beta/models/gemini-2.5-flash:generateContent",
  },
];
/** What each team spends on a usual day, in USD. */
const USUAL_DAY_USD: { readonly [team in Team]: number } = { search: 40, support: 18, ads: 9 };
const LEAK_MODEL = "claude-opus-4-6";
const LEAK_OUTPUT_TOKENS = 16_000;

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
    OPENAI_API_KEY: "sk-demo-openai-credential",
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
  const counts = { requests: 0, refused: 0, failed: 0 };
  const done = (): boolean => {
    const elapsed = Date.now() - started;
    if (interrupted || elapsed > MOST_WAIT_MS) return true;
    return (
      elapsed > LIVE_MS &&
      (!stack.hasPrometheus || slack.messages.some(({ text }) => text.includes("over today's forecast")))
    );
  };
  await Promise.all([
    ...keys.map((key, i) => work(base, key, counts, done, LIVE_PAUSE_MS * 12 + i * 17)),
    spendTheLeak(base, leakKey(keys), counts, done),
  ]);
  await stack.stop();

  await report(config, dataDir, provider, counts, slack.messages, stack.hasPrometheus, stack.missing);
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

/** Keys and two weeks of use, then today's hours so far, through the same reserve and settle as live traffic. */
async function writePast(config: SharedConfig, dataDir: string, provider: DemoProvider): Promise<DemoKey[]> {
  const pepper = ownSecret(dataDir, "pepper", undefined).reveal();
  const prices = createPriceBook();
  const trace = readTrace();
  const thisHour = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
  const today = createCalendar(config.timezone).window("day", thisHour).startMs;
  let clock = today - DAYS * 24 * HOUR_MS;
  const writer = await openWriter({
    path: join(dataDir, "usage.db"),
    durability: "process",
    zone: config.timezone,
    capMode: "enforce",
    now: () => clock,
  });
  await writer.noteMeterRan(clock, thisHour + HOUR_MS);

  const keys: DemoKey[] = [];
  for (const team of TEAMS) {
    for (const [i, purpose] of ["chat", "batch-jobs", "agent-nightly", "evals"].entries()) {
      const { id, secret } = issueVirtualKey("prod");
      const name = `${team}-${purpose}`;
      await writer.change(
        {
          type: "createKey",
          digest: createDigest(pepper)(secret),
          key: {
            id,
            kind: "virtual",
            provider: undefined,
            name,
            team,
            project: purpose,
            env: "prod",
            owner: `${team}-lead`,
            state: "active",
            hint: secret.slice(-4),
            createdAtMs: clock,
            expiresAtMs: undefined,
          },
        },
        "demo",
      );
      keys.push({ id, secret, name, team, work: WORK[i % WORK.length] as Work });
    }
  }
  for (; clock < thisHour; clock += HOUR_MS) {
    // Today repeats the same day a week ago.
    const hour = (clock - today) / HOUR_MS;
    const at = hour < 0 ? DAYS * 24 + hour : 7 * 24 + hour;
    await Promise.all(
      keys.map((key, i) =>
        bookPast(
          writer,
          provider,
          prices,
          key,
          ((trace[key.team][at] ?? 0) * USUAL_DAY_USD[key.team]) / 24 / 4,
          i,
          clock,
        ),
      ),
    );
  }
  await writer.close();
  return keys;
}

/** Two attempts of about this much money together. */
async function bookPast(
  writer: Writer,
  provider: DemoProvider,
  prices: PriceBook,
  key: DemoKey,
  usd: number,
  index: number,
  clock: number,
): Promise<void> {
  const { work } = key;
  const price = prices.find(work.list, work.model, clock);
  if (!price) throw new Error(`no price for ${work.model}`);
  const perThousand = cost({ input: 1_000, output: 250 }, price);
  const scale = usd / 2 / toUsdNumber(perThousand.costNanoUsd ?? 1n);
  for (let part = 0; part < 2; part++) {
    const usage = {
      input: Math.max(1, Math.round(1_000 * scale * (part === 0 ? 0.8 : 1.2))),
      output: Math.max(1, Math.round(250 * scale * (part === 0 ? 0.9 : 1.1))),
    };
    const attemptId = writer.nextAttemptId();
    const entry = provider.recordPast(new Date(clock), work.path, work.model, usage.input, usage.output);
    const made = cost(usage, price);
    const subject = {
      keyId: key.id,
      team: key.team,
      project: key.name.slice(key.team.length + 1),
      env: "prod",
      provider: work.provider,
      model: work.model,
    };
    await writer.reserve(
      { attemptId, subject, boundNanoUsd: made.costNanoUsd, expectedNanoUsd: made.costNanoUsd },
      work.dialect,
      undefined,
    );
    await writer.settle({
      attemptId,
      keyId: key.id,
      provider: work.provider,
      endpoint: work.dialect,
      requestedModel: work.model,
      servedModel: work.model,
      tier: undefined,
      team: subject.team,
      project: subject.project,
      env: subject.env,
      tags: undefined,
      usage,
      reasoning: undefined,
      usageState: "reported",
      costNanoUsd: made.costNanoUsd,
      costLines: made.lines,
      priceVersion: price.version,
      priceConfidence: price.confidence,
      outcome: "complete",
      httpStatus: 200,
      durationMs: 900 + index,
      firstByteMs: 300,
      providerRequestId: undefined,
      responseId: entry.id,
      rawUsage: undefined,
    });
  }
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

type Counts = { requests: number; refused: number; failed: number };

async function work(base: string, key: DemoKey, counts: Counts, done: () => boolean, pauseMs: number): Promise<void> {
  for (let i = 0; !done(); i++) {
    await ask(base, key, key.work.dialect, key.work.model, 200, i % 2 === 0, counts);
    await sleep(pauseMs);
  }
}

async function spendTheLeak(base: string, key: DemoKey, counts: Counts, done: () => boolean): Promise<void> {
  while (!done()) {
    await ask(base, key, "anthropic", LEAK_MODEL, LEAK_OUTPUT_TOKENS, false, counts);
    await sleep(LIVE_PAUSE_MS);
  }
}

/** One request in a dialect, JSON or stream. */
async function ask(
  base: string,
  key: DemoKey,
  dialect: Work["dialect"],
  model: string,
  most: number,
  stream: boolean,
  counts: Counts,
): Promise<void> {
  const question = "How much did we spend on this today, and why?";
  const requests: {
    readonly [name in Work["dialect"]]: () => [path: string, headers: Record<string, string>, body: object];
  } = {
    openai: () => [
      "/openai/v1/chat/completions",
      { authorization: `Bearer ${key.secret}` },
      { model, stream, max_tokens: most, messages: [{ role: "user", content: question }] },
    ],
    responses: () => [
      "/openai/v1/responses",
      { authorization: `Bearer ${key.secret}` },
      { model, stream, max_output_tokens: most, input: question },
    ],
    anthropic: () => [
      "/anthropic/v1/messages",
      { "x-api-key": key.secret, "anthropic-version": "2023-06-01" },
      { model, stream, max_tokens: most, messages: [{ role: "user", content: question }] },
    ],
    google: () => [
      `/google/v1beta/models/${model}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
      { "x-goog-api-key": key.secret },
      { contents: [{ role: "user", parts: [{ text: question }] }], generationConfig: { maxOutputTokens: most } },
    ],
  };
  const [path, headers, body] = requests[dialect]();
  try {
    const answer = await fetch(base + path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-keymeter-feature": "demo", ...headers },
      body: JSON.stringify(body),
    });
    await answer.arrayBuffer();
    counts.requests += 1;
    if (answer.status === 402) counts.refused += 1;
    else if (!answer.ok) counts.failed += 1;
  } catch {
    counts.failed += 1;
  }
}

async function report(
  config: SharedConfig,
  dataDir: string,
  provider: DemoProvider,
  counts: Counts,
  messages: readonly SlackMessage[],
  hasPrometheus: boolean,
  missing: readonly string[],
): Promise<void> {
  const books = openForReading(join(dataDir, "usage.db"));
  if (!books) throw new Error("the books are gone");
  const calendar = createCalendar(config.timezone);
  const now = Date.now();
  const rows = await readSpend(
    books,
    ["team"],
    calendar.window("day", now).firstDay,
    calendar.window("day", now).endDay,
  );
  const [all] = await readSpend(books, [], "0000-01-01", "9999-12-31");
  const refused = await readRefused(books, now - 24 * HOUR_MS, now + HOUR_MS);
  books.close();
  const ledgerTotal = all?.costNanoUsd ?? 0n;
  const providerTotal = provider.totalNanoUsd();
  const agrees = ledgerTotal === providerTotal;
  const alert = messages.findLast(({ text }) => text.includes("over today's forecast"));

  say(`
Requests sent live     ${counts.requests} (${counts.refused} refused by the cap, ${counts.failed} failed)
Refused, in the books  ${refused.map((row) => `${row.count} ${row.reason}`).join(", ") || "none"}

Spend today by team
${formatTable(
  ["team", "requests", "cost USD"],
  rows.map((row) => [row.group.team ?? "", String(row.requests), formatUsd(row.costNanoUsd)]),
)}

${hasPrometheus ? (alert ? `What stands in Slack\n${messages.map(({ text }) => `  - ${text}`).join("\n")}` : "The forecast alert did not reach Slack in time; look at the log of prometheus and alerts in the data folder.") : `The alert step was not run: ${missing.find((line) => line.startsWith("Alerts:")) ?? "no Prometheus"}`}

Ledger total           ${formatUsdExact(ledgerTotal)} USD
Provider's own total   ${formatUsdExact(providerTotal)} USD
${agrees ? "They are equal, to the nano-dollar." : `They differ by ${formatUsdExact(ledgerTotal - providerTotal)} USD: that is a bug.`}

The books stay in ${resolve(dataDir)}: KEYMETER_DATA_DIR=${dataDir} npx keymeter spend --by team,key,model`);
  if (!agrees || counts.failed > 0 || counts.refused === 0 || (hasPrometheus && !alert)) process.exitCode = 1;
}

type SlackMessage = { readonly ts: string; text: string };

/** Enough of Slack's Web API to hold what the alerts program says. */
async function startSlack(): Promise<{ url: string; server: Server; messages: SlackMessage[] }> {
  const messages: SlackMessage[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const form = new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
      const text = form.get("text") ?? "";
      const old = messages.find(({ ts }) => ts === form.get("ts"));
      const message = old ?? {
        ts: `${Math.floor(Date.now() / 1000)}.${String(messages.length).padStart(6, "0")}`,
        text,
      };
      if (old) old.text = text;
      else messages.push(message);
      response
        .writeHead(200, { "content-type": "application/json" })
        .end(JSON.stringify({ ok: true, channel: "C0DEMO", ts: message.ts }));
    });
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, messages };
}

/** Hourly requests of three real clients, as shares of their mean hour. */
function readTrace(): { readonly [team in Team]: readonly number[] } {
  const lines = readFileSync(new URL("./demo-trace.csv", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => /^\d/.test(line))
    .map((line) => line.split(",").map(Number));
  const column = (index: number): number[] => {
    const values = lines.map((line) => line[index] ?? 0);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.map((value) => value / mean);
  };
  return { search: column(1), support: column(2), ads: column(3) };
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
