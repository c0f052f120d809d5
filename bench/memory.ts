// npm run bench:memory [-- --seconds N]: what an idle `npm start` holds after a minute, on a data folder and ports of its
// own, without Prometheus: a first start, before which everything is compiled, and a second one. `resident` counts what processes share, mostly Node
// itself, once in each; `own` (PSS) shares it out among them.
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MOST_START_MS = 90_000;
const { values } = parseArgs({ options: { seconds: { type: "string", default: "60" } } });
const folder = mkdtempSync(join(tmpdir(), "keymeter-memory-"));

type Held = { readonly command: string; readonly residentMb: number; readonly ownMb: number };

try {
  mkdirSync(join(folder, "home"));
  const environment = await environmentOf();
  for (const start of ["first", "second"]) {
    const held = await measure(environment);
    const sum = (of: (one: Held) => number): number => held.reduce((all, one) => all + of(one), 0);
    const rows = [
      ...held,
      { command: "all", residentMb: sum((one) => one.residentMb), ownMb: sum((one) => one.ownMb) },
    ];
    process.stdout.write(
      `\n${start} start | resident MB | own MB\n---|---|---\n${rows.map(({ command, residentMb, ownMb }) => `${command} | ${residentMb.toFixed(0)} | ${ownMb.toFixed(0)}`).join("\n")}\n`,
    );
  }
} finally {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** Starts, waits and stops. */
async function measure(environment: NodeJS.ProcessEnv): Promise<Held[]> {
  const npm = spawn("npm", ["start"], { cwd: ROOT, env: environment, stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise<void>((resolve) => npm.once("exit", () => resolve()));
  try {
    await new Promise<void>((resolve, reject) => {
      let said = "";
      npm.stdout.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes("Ctrl-C stops it")) resolve();
      });
      npm.once("exit", (code) => reject(new Error(`npm start ended with ${code}`)));
      setTimeout(() => reject(new Error("npm start is not up")), MOST_START_MS).unref();
    });
    await sleep(Number(values.seconds) * 1000);
    return treeOf(npm.pid ?? 0).map(heldBy);
  } finally {
    npm.kill("SIGTERM");
    await ended;
  }
}

/** A process and all that it started. */
function treeOf(pid: number): number[] {
  const children = readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8").split(" ").filter(Boolean).map(Number),
  );
  return [pid, ...children.flatMap(treeOf)];
}

function heldBy(pid: number): Held {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const mb = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(rollup)?.[1]) / 1024;
  const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split(/[\0 ]/).filter(Boolean);
  return { command: words.at(-1) === "start" ? "npm" : (words.at(-1) ?? ""), residentMb: mb("Rss"), ownMb: mb("Pss") };
}

async function environmentOf(): Promise<NodeJS.ProcessEnv> {
  const names = ["PORT", "OPS_PORT", "COLLECTOR_PORT", "ALERTS_PORT"];
  const servers = names.map(() => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.once("listening", resolve))));
  const ports = servers.map((server) => String((server.address() as AddressInfo).port));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return {
    PATH: process.env["PATH"],
    HOME: join(folder, "home"),
    NODE_COMPILE_CACHE: join(folder, "compiled"),
    KEYMETER_DATA_DIR: join(folder, "data"),
    KEYMETER_PROMETHEUS: "off",
    ...Object.fromEntries(names.map((name, i) => [`KEYMETER_${name}`, ports[i]])),
  };
}
