// The command as people run it, beside a proxy of a test.
import { spawn } from "node:child_process";
import { openSync } from "node:fs";
import type { ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { RunningProxy } from "./start-proxy.ts";

const START = fileURLToPath(new URL("../start.mjs", import.meta.url));

type Beside = Pick<RunningProxy, "dataDir" | "opsUrl"> & {
  readonly place?: string;
  readonly environment?: { readonly [name: string]: string };
  /** A file that it reads as its standard input. */
  readonly stdin?: string;
};

/** Runs one verb to its end; `text` is what it printed, errors included. */
export async function runKeymeter(
  beside: Beside,
  ...args: string[]
): Promise<{ readonly code: number | null; readonly text: string }> {
  const child = start(beside, args);
  let text = "";
  child.stdout?.on("data", (chunk: Buffer) => (text += chunk.toString()));
  child.stderr?.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, text };
}

/** Starts a program that goes on. `stop` resolves with its exit code. */
export function startKeymeter(beside: Beside, ...args: string[]): { stop(): Promise<number | null> } {
  const child = start(beside, args);
  const exited = new Promise<number | null>((resolve) => child.once("close", resolve));
  return {
    async stop() {
      child.kill("SIGTERM");
      return exited;
    },
  };
}

function start(
  { dataDir, place = dataDir, opsUrl, environment = {}, stdin }: Beside,
  args: readonly string[],
): ChildProcess {
  return spawn(process.execPath, [START, ...args], {
    env: {
      PATH: process.env["PATH"] ?? "",
      KEYMETER_DATA_DIR: dataDir,
      ...(place === dataDir ? {} : { KEYMETER_LEDGER_URL: place }),
      KEYMETER_OPS_PORT: new URL(opsUrl).port,
      ...environment,
    },
    stdio: [stdin === undefined ? "ignore" : openSync(stdin, "r"), "pipe", "pipe"],
  });
}
