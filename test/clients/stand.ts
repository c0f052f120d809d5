// What a client is put on: the fake providers, a proxy as a program of its own in front of them, and a team whose hard
// budget is spent.
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { freePorts } from "../free-ports.ts";
import { runKeymeter, startKeymeter } from "../run-keymeter.ts";
import { readAllEvents, temporaryFolder } from "../start-proxy.ts";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { startFakeProviders } from "./fake.ts";
import type { FakeProviders } from "./fake.ts";

export type Stand = {
  readonly url: string;
  readonly fake: FakeProviders;
  /** A new key of a team. */
  createKey(team: "free" | "capped"): Promise<{ readonly id: string; readonly secret: string }>;
  /** What was booked on a key. */
  eventsOf(keyId: string): Promise<EventRecord[]>;
  /** Refusals since the start, by reason. */
  refusals(): Promise<{ readonly [reason: string]: number }>;
  /** Everything that the books prove of themselves. */
  verify(): Promise<{ readonly code: number | null; readonly text: string }>;
  stop(): Promise<void>;
};

const START_MS = 30_000;

export async function startStand(): Promise<Stand> {
  const fake = await startFakeProviders();
  const dataDir = temporaryFolder();
  const ports = await freePorts();
  const url = `http://127.0.0.1:${ports["KEYMETER_PORT"]}`;
  const opsUrl = `http://127.0.0.1:${ports["KEYMETER_OPS_PORT"]}`;
  const environment = {
    ...ports,
    KEYMETER_PROMETHEUS: "off",
    KEYMETER_LOG_LEVEL: "silent",
    KEYMETER_DURABILITY: "process",
    KEYMETER_DRAIN_SECONDS: "1",
    KEYMETER_OPENAI_URL: fake.url,
    KEYMETER_ANTHROPIC_URL: fake.url,
    KEYMETER_GOOGLE_URL: fake.url,
    OPENAI_API_KEY: "sk-proj-provider-credential-openai",
    ANTHROPIC_API_KEY: "sk-ant-api03-provider-credential",
    GEMINI_API_KEY: "AIzaProviderCredentialGoogle",
  };
  const beside = { dataDir, opsUrl, environment };
  const program = startKeymeter(beside, "proxy");
  const stop = async (): Promise<void> => {
    await program.stop();
    await fake.close();
    rmSync(dataDir, { recursive: true, force: true });
  };
  const keymeter = async (...args: string[]): Promise<string> => {
    const { code, text } = await runKeymeter(beside, ...args);
    if (code !== 0) throw new Error(`keymeter ${args.join(" ")}: ${text}`);
    return text;
  };
  let made = 0;
  const createKey: Stand["createKey"] = async (team) => {
    const text = await keymeter("keys", "create", "--name", `client-${(made += 1)}`, "--team", team, "--json");
    const secret = /km_[\w-]+/.exec(text)?.[0];
    const id = /key_[\w-]+/.exec(text)?.[0];
    if (secret === undefined || id === undefined) throw new Error(`no key in: ${text}`);
    return { id, secret };
  };
  const spend = async (secret: string): Promise<void> => {
    const { status } = await fetch(`${url}/openai/v1/embeddings`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "text-embedding-3-small", input: "a" }),
    });
    if (status !== 200) throw new Error(`the question that spends the budget got ${status}`);
  };
  try {
    await ready(opsUrl);
    await keymeter("budgets", "set", "--team", "capped", "--amount", "0.000001/month", "--hard");
    // The shortest question still fits: it is asked here.
    await spend((await createKey("capped")).secret);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    fake,
    createKey,
    eventsOf: async (keyId) => (await readAllEvents(dataDir)).filter((event) => event.keyId === keyId),
    async refusals() {
      const text = await (await fetch(`${opsUrl}/metrics`)).text();
      const lines = text.matchAll(/^keymeter_refused_total\{reason="(\w+)"\} (\d+)$/gm);
      return Object.fromEntries([...lines].map(([, reason = "", count]) => [reason, Number(count)]));
    },
    verify: () => runKeymeter(beside, "verify"),
    stop,
  };
}

async function ready(opsUrl: string): Promise<void> {
  const untilMs = Date.now() + START_MS;
  for (;;) {
    const answer = await fetch(`${opsUrl}/readyz`).catch(() => undefined);
    if (answer?.ok) return;
    if (Date.now() > untilMs) throw new Error(`the proxy is not ready after ${START_MS} ms: ${await answer?.text()}`);
    await sleep(100);
  }
}
