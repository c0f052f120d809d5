// A verb for somebody elsewhere, as a process of its own that runs the very same command: with the asker's token in the place of the
// admin token, so that the proxy and the collector allow what that one may.
import { spawn } from "node:child_process";
import type { ChildProcessByStdio } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import type { Asker } from "../../collector/main.ts";
import type { Environment } from "../../service/settings.ts";
import { ASKER } from "../asker.ts";
import { loadCommandConfig } from "../config.ts";
import { ENTRY } from "../entry.ts";
import { FILES } from "./rules.ts";
import type { Line, Question } from "./rules.ts";

const MOST_MS = 15 * 60_000;
/** What a process has when it was told to end. */
const GRACE_MS = 5_000;
/** In the folder of the question: no name that a verb could read or write. */
const TOKEN = ".token";
/** Where this machine's user asks other Keymeters is nobody else's. */
const NOWHERE_ELSE = { KEYMETER_SERVER: undefined, KEYMETER_TOKEN: undefined, KEYMETER_PROFILE: undefined };
/** Begins the names of folders of questions. */
const FOLDER = "keymeter-command-";
const CHUNK_BYTES = 64 * 1024;

/** Takes away what a collector left that was killed: no other one works on this data folder. */
export function sweepFolders(environment: Environment): void {
  const all = folderOfAll(environment);
  for (const name of readdirSync(all))
    if (name.startsWith(FOLDER)) rmSync(join(all, name), { recursive: true, force: true });
}

/** In the data folder, which is this installation's alone. */
function folderOfAll(environment: Environment): string {
  const all = join(loadCommandConfig(environment).dataDir, "commands");
  mkdirSync(all, { recursive: true, mode: 0o700 });
  return all;
}

/** Runs it, and says what it says, a line of the answer each. `left`: whoever asked is gone, and the process is told to end; what it
 *  changed in the books is whole in any case. */
export async function* runVerb(
  { args, files, input }: Question,
  { holder, pass }: Asker,
  environment: Environment,
  left: AbortSignal,
): AsyncGenerator<string> {
  const folder = mkdtempSync(join(folderOfAll(environment), FOLDER));
  try {
    for (const [name, bytes] of Object.entries(files))
      writeFileSync(join(folder, name), Buffer.from(bytes, "base64"), { mode: 0o600 });
    // No environment holds a token: whoever may list processes reads those.
    writeFileSync(join(folder, TOKEN), pass, { mode: 0o600 });
    if (left.aborted) return;
    const child = spawn(process.execPath, [ENTRY, "--local", ...args], {
      env: {
        ...environment,
        ...NOWHERE_ELSE,
        KEYMETER_ADMIN_TOKEN: `file:${join(folder, TOKEN)}`,
        [ASKER]: JSON.stringify({ ...holder, folder }),
      },
      stdio: ["pipe", "pipe", "pipe"],
    });
    const over = AbortSignal.any([left, AbortSignal.timeout(MOST_MS)]);
    over.addEventListener("abort", () => end(child));
    // Who does not read it closes it.
    child.stdin.on("error", () => undefined).end(Buffer.from(input ?? "", "base64"));
    const code = new Promise<number>((resolve) => {
      child.once("error", () => resolve(1));
      child.once("close", (status) => resolve(status ?? 1));
    });
    yield* merge(child);
    const status = await code;
    if (status === 0 && FILES[args[0] ?? ""]?.out)
      for (const file of readdirSync(folder))
        if (file !== TOKEN && !Object.hasOwn(files, file)) yield* pieces(folder, file);
    yield line({ code: status });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function end(child: ChildProcessByStdio<Writable, Readable, Readable>): void {
  child.kill("SIGTERM");
  setTimeout(() => child.kill("SIGKILL"), GRACE_MS).unref();
}

/** What it says on both of its outputs, as it comes; one that nobody reads on waits. */
async function* merge(child: ChildProcessByStdio<Writable, Readable, Readable>): AsyncGenerator<string> {
  const sources = [
    { iterator: child.stdout[Symbol.asyncIterator](), name: "out" },
    { iterator: child.stderr[Symbol.asyncIterator](), name: "err" },
  ] as const;
  const next = (at: 0 | 1) => sources[at].iterator.next().then((step: IteratorResult<Buffer>) => ({ at, step }));
  const waiting = new Map([
    [0, next(0)],
    [1, next(1)],
  ]);
  while (waiting.size > 0) {
    const { at, step } = await Promise.race(waiting.values());
    if (step.done === true) waiting.delete(at);
    else {
      waiting.set(at, next(at));
      const bytes = step.value.toString("base64");
      yield line(sources[at].name === "out" ? { out: bytes } : { err: bytes });
    }
  }
}

async function* pieces(folder: string, file: string): AsyncGenerator<string> {
  const bytes = await readFile(join(folder, file));
  for (let at = 0; at === 0 || at < bytes.length; at += CHUNK_BYTES)
    yield line({ file, bytes: bytes.subarray(at, at + CHUNK_BYTES).toString("base64") });
}

function line(one: Line): string {
  return `${JSON.stringify(one)}\n`;
}
