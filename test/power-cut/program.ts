// The real proxy program in a process of its own, and clients that note what they were told, and when.
import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePorts } from "../free-ports.ts";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { answerSlowly, numberOf, slowChat } from "../fake/slow-chat.ts";

const KEYMETER = fileURLToPath(new URL("../../keymeter.ts", import.meta.url));

type Program = { readonly url: string; readonly opsUrl: string };

/** Runs it while `during` lasts. Rejects when it ends at its start. */
export async function whileRunning<T>(
  upstream: string,
  dataDir: string,
  environment: { readonly [name: string]: string },
  during: (program: Program) => Promise<T>,
): Promise<T> {
  const child = fork(KEYMETER, ["proxy"], {
    env: {
      ...process.env,
      ...(await freePorts()),
      KEYMETER_DATA_DIR: dataDir,
      KEYMETER_OPENAI_URL: upstream,
      KEYMETER_LOG_LEVEL: "silent",
      ...environment,
    },
    execArgv: [],
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const ready = new Promise<{ port: number; opsPort: number }>((resolve, reject) => {
    child.once("message", (message) => resolve(message as { port: number; opsPort: number }));
    void exited.then((code) => reject(new Error(`the proxy ended at its start with ${code}`)));
  });
  try {
    const { port, opsPort } = await ready;
    return await during({ url: `http://127.0.0.1:${port}`, opsUrl: `http://127.0.0.1:${opsPort}` });
  } finally {
    child.kill("SIGTERM");
    await exited;
  }
}

/** Sets a strict budget over everything, which nothing here reaches. Resolves when the program has said that it is
 *  set. */
export async function setBudget({ opsUrl }: Program, dataDir: string, id: string): Promise<void> {
  const token = readFileSync(join(dataDir, "admin-token"), "utf8").trim();
  const common = { id, scope: {}, window: "total", kind: "hard", mode: "strict", createdAtMs: Date.now() } as const;
  const { status } = await fetch(`${opsUrl}/admin/changes`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ type: "setBudget", budget: { ...common, amountNanoUsd: String(10n ** 15n) } }),
  });
  if (status !== 200) throw new Error(`the budget was answered with ${status}`);
}

/** One request as its client and the provider saw it: instants of CLOCK_MONOTONIC, noted after what they stand for,
 *  the sending before it. */
export type Attempt = {
  readonly n: number;
  readonly stream: boolean;
  readonly sentNs: bigint;
  receivedNs?: bigint;
  firstByteNs?: bigint;
  endedNs?: bigint;
  requestId?: string;
  /** Streams are told none. */
  costUsd?: string;
};

/** A provider that notes what it received in the attempts of that number. */
export function startNotingProvider(attempts: ReadonlyMap<number, Attempt>): Promise<FakeProvider> {
  return startFakeProvider((arrived, response, request) => {
    const attempt = attempts.get(numberOf(arrived.body));
    if (attempt) attempt.receivedNs = process.hrtime.bigint();
    return answerSlowly(arrived, response, request);
  });
}

/** Request n (slow-chat.ts). */
export function askSlowly(url: string, n: number, stream: boolean): Promise<Response> {
  return fetch(`${url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-test-power-client-key" },
    body: slowChat(n, stream),
  });
}

/** So many clients at once send so many requests, JSON and streams in turn; each is answered in full. */
export async function load(
  url: string,
  attempts: Map<number, Attempt>,
  clients: number,
  requests: number,
): Promise<void> {
  const ask = async (n: number): Promise<void> => {
    const stream = n % 2 === 0;
    const attempt: Attempt = { n, stream, sentNs: process.hrtime.bigint() };
    attempts.set(n, attempt);
    const answer = await askSlowly(url, n, stream);
    attempt.firstByteNs = process.hrtime.bigint();
    const text = await answer.text();
    attempt.endedNs = process.hrtime.bigint();
    attempt.requestId = answer.headers.get("x-keymeter-request-id") ?? "";
    const costUsd = answer.headers.get("x-keymeter-cost-usd");
    if (costUsd !== null) attempt.costUsd = costUsd;
    if (answer.status !== 200) throw new Error(`request ${n} was answered with ${answer.status}: ${text}`);
  };
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (attempts.size < requests) await ask(attempts.size + 1);
    }),
  );
}
