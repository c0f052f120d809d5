// A disk that fails, and fsyncs that are counted, by strace on a running process.
import { spawn, spawnSync } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { temporaryFolder } from "./start-proxy.ts";
import { noteSkipped } from "./skipped.ts";

/** Whether a process that runs already may be traced: some machines allow that to nobody. */
const canAttach = (): boolean => {
  const child = spawn("sleep", ["1"]);
  const { status, signal } = spawnSync("timeout", [
    "-s",
    "INT",
    "0.3",
    "strace",
    "-qq",
    "-o",
    "/dev/null",
    "-p",
    String(child.pid),
  ]);
  child.kill();
  return signal !== null || status === 124;
};
export const hasStrace = spawnSync("which", ["strace"]).status === 0 && canAttach();
if (!hasStrace) noteSkipped("strace is not here, or may not trace; tests of failing disks and of fsyncs are skipped");

/** Traces a process until `stop`, which resolves with what was traced. */
async function trace(pid: number, options: readonly string[]): Promise<{ stop(): Promise<string> }> {
  const file = join(temporaryFolder(), "trace");
  const child = spawn("strace", ["-f", "-qq", "-p", String(pid), "-o", file, ...options], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  // Every thread has to be held once; there is no word when that is done.
  await waitUntilTraced(pid);
  return {
    async stop() {
      child.kill("SIGINT");
      await exited;
      const text = readFileSync(file, "utf8");
      rmSync(file);
      return text;
    },
  };
}

async function waitUntilTraced(pid: number): Promise<void> {
  for (;;) {
    const threads = spawnSync("grep", ["-h", "^TracerPid:", "-r", "--include=status", `/proc/${pid}/task`], {
      encoding: "utf8",
    });
    const tracers = threads.stdout.trim().split("\n");
    if (tracers.length > 1 && tracers.every((line) => !line.endsWith("\t0"))) return;
    await sleep(10);
  }
}

/** While `during` runs, these system calls of the process fail. */
export async function whileFailing<T>(pid: number, calls: string, error: string, during: () => Promise<T>): Promise<T> {
  const traced = await trace(pid, ["-e", `trace=${calls}`, "-e", `inject=${calls}:error=${error}`]);
  try {
    return await during();
  } finally {
    await traced.stop();
  }
}

/** How often the process asks the disk to have it all, while `during` runs. */
export async function countSyncs(pid: number, during: () => Promise<unknown>): Promise<number> {
  const traced = await trace(pid, ["-e", "trace=fsync,fdatasync"]);
  await during();
  return (await traced.stop()).split("\n").filter((line) => /\b(fsync|fdatasync)\(/.test(line)).length;
}
