// The bill's side as people use it: real programs, a fake billing API, the command.
import type { Unit } from "../../ledger/usage.ts";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openUsage } from "../../ledger/open.ts";
import { openForReading } from "../../ledger/sqlite.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { createDemoProvider } from "../../command/demo/provider.ts";
import type { DemoProvider } from "../../command/demo/provider.ts";
import { readHints } from "../../ledger/usage/hints.ts";
import { addDays } from "../../ledger/windows.ts";
import { startFakeOpenai } from "../fake/billing/openai.ts";
import { createTruth } from "../fake/billing/truth.ts";
import type { FakeServer, Truth } from "../fake/billing/truth.ts";
import { freePorts } from "../free-ports.ts";
import { runKeymeter, startKeymeter } from "../run-keymeter.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { isTurnOf } from "../skipped.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const KEY = "key_oa_1";
/** Usage of so long ago the provider knows by now, also where an hour has just begun. */
const KNOWN_MS = 600_000;

let upstream: DemoProvider;
let upstreamUrl: string;
let proxy: RunningProxy;
let openai: FakeServer;
let truth: Truth;
let environment: { [name: string]: string };

beforeEach(async () => {
  truth = createTruth(Date.now() + DAY_MS);
  truth.keys.push({ provider: "openai", id: KEY, name: "keymeter", project: "proj_1", shown: "sk-proj-...enai" });
  openai = await startFakeOpenai(truth);
  openai.pageSize = 1_000;
  upstream = createDemoProvider();
  upstreamUrl = `http://127.0.0.1:${await upstream.listen()}`;
  proxy = await startProxy(upstreamUrl);
  // The meter has run for days: what it does not know is a variance.
  const books = new Database(join(proxy.dataDir, "usage.db"));
  books
    .prepare("INSERT INTO meter_hours (hour_ms) VALUES (?)")
    .run(Math.floor(Date.now() / HOUR_MS) * HOUR_MS - 3 * DAY_MS);
  books.close();
  environment = {
    KEYMETER_COLLECTOR_PORT: (await freePorts())["KEYMETER_COLLECTOR_PORT"] ?? "",
    OPENAI_ADMIN_KEY: "sk-admin-test",
    KEYMETER_OPENAI_BILLING_URL: `${openai.url}/v1`,
    KEYMETER_CLOSE_QUIET_HOURS: "0",
    KEYMETER_CLOSE_AFTER_DAYS: "1",
  };
});
afterEach(async () => {
  await proxy.stop();
  await upstream.close();
  await openai.close();
});

/** One answer through the proxy, and its charge on the bill. */
async function ask(): Promise<void> {
  const { secret } = await proxy.createKey({ name: "ci" });
  const answer = await fetch(`${proxy.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: "hi" }] }),
  });
  await answer.text();
  const [event] = await proxy.events();
  if (!event) throw new Error("nothing was metered");
  for (const { unit, quantity, costNanoUsd } of event.costLines)
    truth.charges.push({
      provider: "openai",
      atMs: Date.parse(event.at),
      billedKey: KEY,
      project: "proj_1",
      model: event.servedModel ?? "",
      tier: "",
      unit: unit as Unit,
      quantity,
      amountNanoUsd: BigInt(costNanoUsd),
    });
}

function goRound(atMs: number, billedKey: string, tokens: number): void {
  const amountNanoUsd = BigInt(tokens) * 150n;
  truth.charges.push({
    provider: "openai",
    atMs,
    billedKey,
    project: "proj_1",
    model: "gpt-4o-mini",
    tier: "",
    unit: "input",
    quantity: tokens,
    amountNanoUsd,
  });
}

describe.skipIf(!isTurnOf(1, 4, "a bill, by the command"))("a bill", () => {
  it("is read, compared, exported and imported by the command, and a key that is used elsewhere is named with what to do", async () => {
    await ask();
    const run = (...args: string[]) => runKeymeter({ ...proxy, environment }, ...args);
    expect((await run("leaks")).text).toContain("No use of a provider key is known");
    expect((await run("collector", "--once", "reconcile")).text).toBe("");
    const today = new Date().toISOString().slice(0, 10);
    const agreed = await run("reconcile", "--since", "2d");
    expect(agreed.text).toContain("Bill and meter agree");
    expect(agreed.text).toContain("open");

    // Somebody else has our key.
    goRound(Date.now() - KNOWN_MS, KEY, 400_000);
    goRound(Date.now() - KNOWN_MS, "key_unheard_of", 2_000);
    expect((await run("collector", "--once", "watch")).text).toBe("");
    const leaks = await run("leaks");
    expect(leaks.code).toBe(1);
    expect(leaks.text).toContain(`${KEY} "keymeter" sk-proj-...enai in proj_1`);
    expect(leaks.text).toContain("400000 tokens, about $0.06");
    expect(leaks.text).toContain(`api_keys/${KEY}`);
    expect(leaks.text).toContain("nothing was ever metered on this key");
    expect((await run("leaks", "dismiss", "key_unheard_of", "--why", "our notebook")).text).toContain(
      "is no leak: our notebook",
    );
    expect((await run("leaks")).text).not.toContain("key_unheard_of");
    expect(JSON.parse((await run("leaks", "--all", "--json")).text).leaks).toHaveLength(2);

    expect((await run("collector", "--once", "reconcile")).text).toBe("");
    const why = await run("reconcile", "--day", today);
    expect(why.text).toContain("unmetered key");
    expect(why.text).toContain(`key ${KEY} is used beyond what was metered on it`);
    expect((await run("close", today)).text).toContain("is not over yet");
    expect((await run("close", "2026-02-31")).code).toBe(2);
    expect((await run("reconcile", "--since", "2099-01-01")).text).toContain("lies in the future");

    const file = join(proxy.dataDir, "focus.csv");
    const done = await run("export", "focus", "--since", "today", "--out", file);
    expect(done.text).toMatch(/^\d+ rows, \$0\.\d+; 0 provider-days are closed, 1 are open/);
    expect(readFileSync(file, "utf8").split("\n")[0]).toContain("BilledCost,BillingAccountId");
    const charged = await run("export", "chargeback", "--month", today.slice(0, 7), "--by", "team,key", "--csv");
    expect(charged.text).toMatch(/^team,key,metered_usd,shared_usd,total_usd\nsearch,ci,0\.0000\d+,0\.000000000,/);
    expect((await run("import", file)).text).toContain("focus.csv: ");
    expect((await run("import", join(proxy.dataDir, "pepper"))).text).toContain("Nothing was imported");
  }, 120_000);

  it("of a running collector: gauges, its own turns, and a day that is closed through it, with corrections sent to the proxy", async () => {
    await ask();
    const collector = startKeymeter({ ...proxy, environment }, "collector");
    const url = `http://127.0.0.1:${environment["KEYMETER_COLLECTOR_PORT"]}`;
    const metrics = async (): Promise<string> => (await fetch(`${url}/metrics`)).text();
    const yesterday = addDays(new Date().toISOString().slice(0, 10), -1);
    await expect.poll(metrics, { timeout: 30_000 }).toContain('keymeter_billed_usd{provider="openai"');
    expect(await metrics()).toContain("keymeter_import_last_success_timestamp_seconds");

    const run = (...args: string[]) => runKeymeter({ ...proxy, environment }, ...args);
    const file = join(proxy.dataDir, "cost.csv");
    writeFileSync(
      file,
      `start_time_iso,amount_value,amount_currency,line_item,project_id\n${yesterday}T00:00:00Z,1.25,usd,"o3, input",proj_1\n`,
    );
    expect((await run("import", file)).text).toContain(`1 lines of openai, ${yesterday} to ${yesterday}`);
    // What the API said of yesterday it said later: nothing. The file knows less.
    const closed = await run("close", yesterday, "--by", "finance");
    expect(closed.text).toMatch(/is closed at|is not whole yet/);
    const wrong = await fetch(`${url}/admin/tasks`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    expect(wrong.status).toBe(401);
    expect(await collector.stop()).toBe(0);
  }, 120_000);
});

describe("the proxy", () => {
  it("notes which credential virtual keys are swapped for, and from where keys are used", async () => {
    await ask();
    await proxy.stop();
    const books = await openUsage(proxy.dataDir);
    if (!books) throw new Error("no books");
    const sqlite = sqliteOf(books);
    const credentials = sqlite
      .prepare("SELECT provider, credential, hint FROM credentials ORDER BY provider")
      .all() as {
      hint: string;
      credential: string;
    }[];
    expect(credentials.map(({ hint }) => hint)).toEqual(["tial", "ogle", "enai"]);
    expect(credentials.every(({ credential }) => credential.startsWith("fp_"))).toBe(true);
    expect(sqlite.prepare("SELECT address FROM key_addresses").pluck().all()).toEqual(["127.0.0.1"]);
    expect(await readHints(books, Date.now())).toEqual([]);
    expect((await readHints(books, Date.now() + 3 * DAY_MS)).length).toBe(0);
    await books.close();
    proxy = await startProxy(upstreamUrl, { KEYMETER_DATA_DIR: proxy.dataDir, OPENAI_API_KEY: "sk-proj-rotated-1234" });
    const again = openForReading(join(proxy.dataDir, "usage.db"));
    expect(
      again?.prepare("SELECT hint FROM credentials WHERE provider = 'openai' ORDER BY since_ms").pluck().all(),
    ).toEqual(["enai", "1234"]);
    again?.close();
  });
});
