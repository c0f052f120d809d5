// A real OpenBao of a test, on 127.0.0.1, with everything in memory. PyPI has the server: test/servers/requirements.txt.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePorts } from "./free-ports.ts";
import { noteSkipped } from "./skipped.ts";

const OWN = fileURLToPath(new URL("servers/venv/bin/bao", import.meta.url));
const program = existsSync(OWN) ? OWN : spawnSync("which", ["bao"], { encoding: "utf8" }).stdout.trim();

export const hasOpenBao = program !== "";
if (!hasOpenBao)
  noteSkipped("OpenBao is not here (test/servers/requirements.txt); tests of secrets in a real Vault are skipped");

const START_MS = 20_000;
export const ROOT_TOKEN = "root-token-of-a-test";

export type OpenBao = {
  readonly url: string;
  /** Asks its API as root; throws for a status of 400 or more. */
  ask(method: string, path: string, body?: object): Promise<{ readonly [name: string]: unknown }>;
  /** Writes a version of a secret, under the mount `secret`. */
  put(path: string, data: { readonly [field: string]: unknown }): Promise<void>;
  stop(): Promise<void>;
};

export async function startOpenBao(): Promise<OpenBao> {
  const home = mkdtempSync(join(tmpdir(), "keymeter-bao-"));
  // It takes the port after it too.
  const port = Number((await freePorts())["KEYMETER_PORT"]);
  const url = `http://127.0.0.1:${port}`;
  const args = ["server", "-dev", "-dev-no-store-token", `-dev-root-token-id=${ROOT_TOKEN}`];
  const child = spawn(program, [...args, `-dev-listen-address=127.0.0.1:${port}`], {
    env: { PATH: process.env["PATH"] ?? "", HOME: home },
    stdio: "ignore",
  });
  const ask = async (method: string, path: string, body?: object): Promise<{ readonly [name: string]: unknown }> => {
    const answer = await fetch(`${url}/v1/${path}`, {
      method,
      headers: { "x-vault-token": ROOT_TOKEN, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await answer.text();
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return (text === "" ? {} : JSON.parse(text)) as { readonly [name: string]: unknown };
  };
  await answering(url, child);
  return {
    url,
    ask,
    async put(path, data) {
      await ask("POST", `secret/data/${path}`, { data });
    },
    async stop() {
      const ended = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGKILL");
      await ended;
      rmSync(home, { recursive: true, force: true });
    },
  };
}

async function answering(url: string, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + START_MS;
  while (Date.now() < deadline && child.exitCode === null) {
    const isUp = await fetch(`${url}/v1/sys/health`).then(
      ({ status }) => status === 200,
      () => false,
    );
    if (isUp) return;
    await sleep(50);
  }
  throw new Error("OpenBao did not start");
}
