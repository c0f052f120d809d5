// A proxy in a process of its own that is measured from outside: the CPU time of its longest turn, and its memory.
import type { ChildProcess } from "node:child_process";
import { forkProxy } from "../kill-proxy.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const MEASURE = new URL("longest-turn.mjs", import.meta.url).href;

type Memory = {
  /** By how much resident memory grew, at its highest. */
  readonly residentBytes: number;
  /** By how much what is in use grew, garbage left out, at its highest. */
  readonly usedBytes: number;
};

export type MeasuredProxy = {
  readonly url: string;
  readonly dataDir: string;
  /** Whether the process lives. */
  isAlive(): boolean;
  /** CPU time of the main thread in the longest turn of its event loop while the work is done, in milliseconds. */
  longestTurn(work: () => Promise<unknown>): Promise<number>;
  /** What memory it takes while the work is done. */
  memory(work: () => Promise<unknown>): Promise<Memory>;
  /** Keeps its main thread busy for so many milliseconds. */
  block(milliseconds: number): void;
  /** Holds so many bytes until it is told otherwise. */
  hold(bytes: number): void;
  stop(): Promise<void>;
};

/** Starts it. `prepare` makes keys and budgets in its books, before. */
export async function startMeasuredProxy(
  upstream: string,
  prepare: (running: RunningProxy) => Promise<unknown> = async () => {},
  environment: { readonly [name: string]: string } = {},
): Promise<MeasuredProxy> {
  const dataDir = temporaryFolder();
  const before = await startProxy(upstream, { KEYMETER_DATA_DIR: dataDir, ...environment });
  await prepare(before);
  await before.stop();
  const { child, url } = await forkProxy(upstream, dataDir, undefined, {
    KEYMETER_ANTHROPIC_URL: upstream,
    KEYMETER_GOOGLE_URL: upstream,
    OPENAI_API_KEY: "sk-proj-provider-credential-openai",
    ANTHROPIC_API_KEY: "sk-ant-api03-provider-credential",
    GEMINI_API_KEY: "AIzaProviderCredentialGoogle",
    NODE_OPTIONS: `--import=${MEASURE}`,
    ...environment,
  });
  return {
    url,
    dataDir,
    isAlive: () => child.exitCode === null && child.signalCode === null,
    async longestTurn(work) {
      await tell(child, "turns");
      await work();
      return (await tell(child, "end")).longestMs;
    },
    async memory(work) {
      const before = await tell(child, "memory");
      await work();
      const most = await tell(child, "end");
      return { residentBytes: most.rss - before.rss, usedBytes: most.used - before.used };
    },
    block: (milliseconds) => void child.send({ block: milliseconds }),
    hold: (bytes) => void child.send({ hold: bytes }),
    async stop() {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await ended;
    },
  };
}

type Told = { readonly longestMs: number; readonly rss: number; readonly used: number };

/** Tells it something, and waits for its answer. */
async function tell(child: ChildProcess, measure: "turns" | "memory" | "end"): Promise<Told> {
  let ended: (() => void) | undefined;
  const answer = new Promise<Told>((resolve, reject) => {
    child.once("message", (message) => resolve(message as Told));
    child.once("exit", (ended = () => reject(new Error("the proxy ended while it was measured"))));
  });
  child.send({ measure });
  return await answer.finally(() => ended && child.removeListener("exit", ended));
}
