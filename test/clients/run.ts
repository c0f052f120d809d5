// Runs a client in an empty home until it ends or its time is over. Ends its process group, and what left the group by
// its pid.
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type Command = {
  readonly file: string;
  readonly args: readonly string[];
  readonly env: { readonly [name: string]: string };
};

export type Ran = {
  /** What it printed on both of its outputs, without colours. */
  readonly output: string;
  readonly seconds: number;
  /** Null: it was ended because its time was over. */
  readonly code: number | null;
};

const MOST_OUTPUT = 400_000;
/** How long its outputs may stay open when it has ended. */
const DRAIN_MS = 1_000;

export async function runClient(
  { file, args, env }: Command,
  { home, folder, seconds }: { readonly home: string; readonly folder: string; readonly seconds: number },
): Promise<Ran> {
  const temporary = join(home, "tmp");
  mkdirSync(temporary, { recursive: true });
  const startedMs = performance.now();
  const child = spawn(file, args, {
    cwd: folder,
    env: { PATH: process.env["PATH"] ?? "", LANG: "C.UTF-8", NO_COLOR: "1", ...env, HOME: home, TMPDIR: temporary },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let output = "";
  const take = (chunk: Buffer): void => {
    if (output.length < MOST_OUTPUT) output += chunk.toString("utf8");
  };
  child.stdout.on("data", take);
  child.stderr.on("data", take);
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    endGroup(child.pid);
  }, seconds * 1_000);
  const code = await new Promise<number | null>((resolve) => {
    child.once("error", (error) => {
      output += String(error);
      resolve(-1);
    });
    child.once("close", resolve);
    // Something that it left behind may hold its outputs open.
    child.once("exit", (status) => setTimeout(() => resolve(status), DRAIN_MS));
  });
  clearTimeout(timer);
  const took = (performance.now() - startedMs) / 1_000;
  endGroup(child.pid);
  endLeftBehind(home);
  child.stdout.destroy();
  child.stderr.destroy();
  return { output: withoutColours(output), seconds: took, code: isOver ? null : code };
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It is over.
  }
}

/** Daemons that a client started leave its group. Its home is nobody else's: who has it in the environment is one of
 *  them. */
function endLeftBehind(home: string): void {
  if (process.platform !== "linux") return;
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      if (!readFileSync(`/proc/${name}/environ`, "utf8").split("\0").includes(`HOME=${home}`)) continue;
      process.kill(Number(name), "SIGKILL");
    } catch {
      // It is over, or somebody else's.
    }
  }
}

function withoutColours(text: string): string {
  // oxlint-disable-next-line no-control-regex -- that is what colours are
  return text.replaceAll(/\u001B\[[0-9;?]*[A-Za-z]/g, "").replaceAll("\r", "");
}
