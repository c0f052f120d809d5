// The command as people run it, beside a proxy of a test.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { RunningProxy } from "./start-proxy.ts";

const START = fileURLToPath(new URL("../start.mjs", import.meta.url));

/** Runs one verb to its end; `text` is what it printed, errors included. */
export async function runKeymeter(
  { dataDir, opsUrl }: RunningProxy,
  ...args: string[]
): Promise<{ readonly code: number | null; readonly text: string }> {
  const child = spawn(process.execPath, [START, ...args], {
    env: { PATH: process.env["PATH"] ?? "", KEYMETER_DATA_DIR: dataDir, KEYMETER_OPS_PORT: new URL(opsUrl).port },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, text };
}
