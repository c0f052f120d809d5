// What the benchmark starts and ends: processes, each on its core, in a folder that goes with them.
import { fork, spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { PROGRAM_ENVIRONMENT, PROGRAM_FLAGS } from "../command/stack.ts";

export const HERE = fileURLToPath(new URL(".", import.meta.url));
export const folder = mkdtempSync(join(tmpdir(), "keymeter-bench-"));
export const hasTaskset = has("taskset");
/** Load and upstream share the first core, what is measured has the second. */
export const LOAD_CORE = "0";
export const TARGET_CORE = "1";
/** How long a tick of /proc is. */
const TICK_MS = 10;
const children: ChildProcess[] = [];

/** nginx takes its worker with it only when it is asked to end. */
export function cleanUp(): void {
  for (const child of children) child.kill(child.spawnargs.includes("nginx") ? "SIGTERM" : "SIGKILL");
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.on(signal, () => {
    cleanUp();
    process.exit(1);
  });

/** Starts one of the scripts here and resolves when it listens. */
export async function start(
  script: string,
  environment: NodeJS.ProcessEnv,
  core: string,
): Promise<{ port: number; secret?: string; child: ChildProcess }> {
  const child = fork(resolve(HERE, script), {
    env: {
      PATH: process.env["PATH"],
      NODE_COMPILE_CACHE: join(folder, "compiled"),
      ...PROGRAM_ENVIRONMENT,
      ...environment,
    },
    execArgv: PROGRAM_FLAGS,
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  children.push(child);
  if (hasTaskset && child.pid !== undefined) spawnSync("taskset", ["-a", "-cp", core, String(child.pid)]);
  const ready = await new Promise<{ port: number; secret?: string }>((resolve, reject) => {
    child.once("message", (message) => resolve(message as { port: number; secret?: string }));
    child.once("exit", (code) => reject(new Error(`${script} ended with ${code}`)));
  });
  // Threads that were started meanwhile follow.
  if (hasTaskset && child.pid !== undefined) spawnSync("taskset", ["-a", "-cp", core, String(child.pid)]);
  return { ...ready, child };
}

/** Starts a program that has no word for being ready. */
export function startProgram(core: string, command: string, args: string[]): ChildProcess {
  const child = spawn(...pinned(core, command, args), { stdio: "ignore" });
  children.push(child);
  return child;
}

/** Starts the load's client, which is told its jobs (client.ts). */
export function startClient(): ChildProcess {
  const client = fork(join(HERE, "client.ts"));
  children.push(client);
  return client;
}

export function pinned(core: string, command: string, args: string[]): [string, string[]] {
  return hasTaskset ? ["taskset", ["-c", core, command, ...args]] : [command, args];
}

/** Runs a command to its end; what it said. */
export function output([command, args]: [string, string[]]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.on("error", reject);
    child.on("exit", () => resolve(text));
  });
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => resolve(port));
    });
  });
}

export function has(command: string): boolean {
  return spawnSync("which", [command]).status === 0;
}

/** CPU in ms of these processes, and of those of their children that have ended. */
export function cpuOf(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + ticksOf(pid), 0) * TICK_MS;
}

function ticksOf(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ");
    return [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0);
  } catch {
    return 0;
  }
}

/** A process and its children. */
export function familyOf(parent: number): number[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  const children = pids.filter((pid) => {
    try {
      return (
        readFileSync(`/proc/${pid}/stat`, "utf8")
          .replace(/^.*\) /, "")
          .split(" ")[1] === String(parent)
      );
    } catch {
      return false;
    }
  });
  return [parent, ...children.map(Number)];
}
