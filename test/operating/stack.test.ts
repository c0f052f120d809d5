// A whole Keymeter with KEYMETER_HOST=0.0.0.0 and on a small disk: which ports others reach and what they may do
// without a token, that a verb of a checkout whose lock file is newer installs nothing, that a full disk ends nothing,
// and a program that cannot be started neither. (What others get where everything listens is in network.test.ts. A disk
// that fails call by call is in test/proxy/ledger-trouble.test.ts, one that hangs in test/attacks/disk.test.ts.)
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { freePorts } from "../free-ports.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { OTHER_ADDRESS } from "./address.ts";
import { readAllEvents, temporaryFolder } from "../start-proxy.ts";
import { noteSkipped } from "../skipped.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const START = join(ROOT, "start.mjs");
const SMALL = "size=40m";
/** More than a start and some requests take of the log. */
const USED_BYTES = 1024 * 1024;
const IMPATIENT_MS = 300;

const asRoot = (text: string): number | null => spawnSync("sh", ["-c", text]).status;
const folder = temporaryFolder();
const dataDir = join(folder, "data");
const isSmall =
  process.platform === "linux" &&
  process.getuid?.() === 0 &&
  asRoot(`mount -t tmpfs -o ${SMALL} tmpfs ${folder}`) === 0;
mkdirSync(dataDir, { mode: 0o700 });
const address = OTHER_ADDRESS ?? "127.0.0.1";
const LOOPBACK = "127.0.0.1";

/** The supervisor starts its programs with a Node that can be taken away, and waits less before it tries again. */
const node = join(temporaryFolder(), "node");
symlinkSync(process.execPath, node);
const PRELOADED = `
  process.execPath = ${JSON.stringify(node)};
  const { setTimeout: wait } = globalThis;
  globalThis.setTimeout = (work, ms, ...more) => wait(work, ms === 1_000 || ms === 5_000 ? 200 : ms, ...more);
`;

let provider: FakeProvider;
let up: ChildProcess;
let said = "";
let ports: { [name: string]: string };
let made: { readonly key: string };
const at = (name: string, path: string, host = LOOPBACK): string =>
  `http://${host}:${ports[`KEYMETER_${name}PORT`]}${path}`;
const beside = (): Parameters<typeof runKeymeter>[0] => ({
  dataDir,
  opsUrl: at("OPS_", ""),
  environment: ports,
});

beforeAll(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
  ports = await freePorts();
  up = spawn(process.execPath, ["--import", `data:text/javascript,${encodeURIComponent(PRELOADED)}`, START, "up"], {
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: folder,
      KEYMETER_DATA_DIR: dataDir,
      ...ports,
      KEYMETER_HOST: "0.0.0.0",
      KEYMETER_PROMETHEUS: "off",
      KEYMETER_DRAIN_SECONDS: "1",
      KEYMETER_DURABILITY: "process",
      KEYMETER_OPENAI_URL: provider.url,
      OPENAI_API_KEY: "sk-proj-provider-credential-openai",
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  up.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()));
  up.stderr?.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const isUp = (): void => {
    if (!said.includes("Ctrl-C stops it")) throw new Error(`Keymeter is not up: ${said}`);
  };
  await vi.waitFor(isUp, { timeout: 50_000, interval: 50 });
  const created = await runKeymeter(beside(), "keys", "create", "--name", "ci", "--json");
  made = JSON.parse(created.text.split("\n")[0] ?? "") as typeof made;
});

afterAll(async () => {
  const exited = new Promise((resolve) => up.once("exit", resolve));
  if (up.exitCode === null && up.kill("SIGTERM")) await exited;
  await provider.close();
  if (isSmall) asRoot(`umount ${folder} || umount -l ${folder}`);
});

async function send(key: string, mostMs = 30_000): Promise<{ status: number; text: string }> {
  const answer = await fetch(at("", "/openai/v1/chat/completions", address), {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [] }),
    signal: AbortSignal.timeout(mostMs),
  });
  return { status: answer.status, text: await answer.text() };
}

async function statusOf(url: string, init: RequestInit = {}): Promise<number> {
  const answer = await fetch(url, init);
  await answer.text();
  return answer.status;
}

describe("on every address", () => {
  it("the proxy wants a Keymeter key, and takes nobody's own provider key", async () => {
    expect((await send(made.key)).status).toBe(200);
    expect((await send("sk-proj-somebody-elses-own-key-0123456789")).status).toBe(401);
    expect(await statusOf(at("", "/keymeter/me", address))).toBe(401);
  });

  it("is the proxy's port alone: metrics, admin API, pages and webhook answer on this machine only", async ({
    skip,
  }) => {
    for (const name of ["OPS_", "COLLECTOR_", "ALERTS_"]) {
      expect(await statusOf(at(name, "/readyz")), name).toBe(200);
      expect(await statusOf(at(name, "/metrics")), name).toBe(200);
      expect(said, name).not.toContain(`0.0.0.0:${ports[`KEYMETER_${name}PORT`]}`);
    }
    // The greeting names this machine to clients, and loopback to who looks at metrics.
    expect(said).toContain(`OPENAI_BASE_URL=${at("", "/openai/v1", hostname())}`);
    expect(said).toContain(at("OPS_", "/metrics"));
    expect(existsSync(join(dataDir, "open-network"))).toBe(false);
    if (OTHER_ADDRESS === undefined)
      skip(noteSkipped("this machine has no address but loopback: ports that others do not reach"));
    for (const name of ["OPS_", "COLLECTOR_", "ALERTS_"])
      await expect(fetch(at(name, "/readyz", OTHER_ADDRESS)), name).rejects.toMatchObject({
        cause: { code: "ECONNREFUSED" },
      });
    return undefined;
  });

  it("admin API and report pages want their tokens", async () => {
    const post = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    // A wrong token waits: all at once.
    const refused = await Promise.all([
      statusOf(at("OPS_", "/admin/changes"), post),
      statusOf(at("OPS_", "/admin/cut"), post),
      statusOf(at("COLLECTOR_", "/admin/link"), post),
      ...["/overview", "/keys.csv?table=keys", "/focus.csv"].map((path) => statusOf(at("COLLECTOR_", path))),
    ]);
    expect(refused).toEqual(Array.from(refused, () => 401));
    const token = readFileSync(join(dataDir, "read-token"), "utf8").trim();
    expect(await statusOf(at("COLLECTOR_", "/overview.json"), { headers: { authorization: `Bearer ${token}` } })).toBe(
      200,
    );
  });

  it("a watchdog without the webhook's token switches no rules off", async () => {
    const alert = {
      status: "firing",
      labels: { alertname: "KeymeterWatchdog" },
      annotations: {},
      startsAt: "2026-11-29T00:00:00Z",
      endsAt: "0001-01-01T00:00:00Z",
      generatorURL: "",
      fingerprint: "a",
    };
    const labels = { alertname: "KeymeterWatchdog" };
    const answer = await fetch(at("ALERTS_", "/webhook"), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        version: "4",
        groupKey: "forged",
        status: "firing",
        receiver: "keymeter",
        groupLabels: labels,
        commonLabels: labels,
        commonAnnotations: {},
        externalURL: "http://forged",
        alerts: [alert],
      }),
    });
    // Ignored today, refused tomorrow.
    if (answer.status === 200) expect(await answer.json()).toMatchObject({ ignored: expect.any(String) as string });
    else expect(answer.status).toBe(401);
  });
});

describe("a checkout whose lock file is newer than what is installed, under running programs", () => {
  const checkout = temporaryFolder();
  const modules = join(checkout, "node_modules");
  const [tools, called] = [join(checkout, "tools"), join(checkout, "npm-was-called")];
  copyFileSync(START, join(checkout, "start.mjs"));
  symlinkSync(join(ROOT, "keymeter.ts"), join(checkout, "keymeter.ts"));
  mkdirSync(modules);
  writeFileSync(join(modules, ".package-lock.json"), "{}");
  utimesSync(join(modules, ".package-lock.json"), 1, 1);
  writeFileSync(join(checkout, "package-lock.json"), "{}");
  mkdirSync(tools);
  writeFileSync(join(tools, "npm"), `#!/bin/sh\necho "$@" > ${called}\nexit 1\n`);
  chmodSync(join(tools, "npm"), 0o700);
  const type = (...words: string[]): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(process.execPath, [join(checkout, "start.mjs"), ...words], {
      encoding: "utf8",
      env: {
        PATH: `${tools}${delimiter}${process.env["PATH"]}`,
        NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"],
        KEYMETER_DATA_DIR: dataDir,
        ...ports,
      },
    });

  it("a verb answers, says what is to be done, and leaves node_modules alone", () => {
    const { status, stdout, stderr } = type("keys", "list");
    expect(status, stderr).toBe(0);
    expect(stdout).toContain("ci");
    expect(stderr).toContain(
      "the lock file is newer than what is installed; run `npm ci` while Keymeter is stopped, or start it anew",
    );
    expect(existsSync(called)).toBe(false);
    expect(readdirSync(modules)).toEqual([".package-lock.json"]);
    expect(statSync(join(modules, ".package-lock.json")).mtimeMs).toBe(1000);
  });

  it("a start installs, and ends when that fails", () => {
    if (process.platform === "win32") return;
    const { status, stderr } = type("up");
    expect(status).toBe(1);
    expect(stderr).toContain("npm ci failed");
    expect(readFileSync(called, "utf8")).toMatch(/^ci /);
  });
});

describe("a full disk of 40 MB", () => {
  it("refuses what it cannot book, ends nothing, and goes on when there is room", async ({ skip }) => {
    if (!isSmall)
      skip(noteSkipped("no tmpfs can be mounted (not root, or not Linux): a full disk under the whole stack"));
    // The write-ahead log has room of its own, for a thousand requests and more. What is not used of it is given back
    // to the disk: so it is at once as on file systems that write nothing over (btrfs, ZFS).
    const log = join(dataDir, "usage.db-wal");
    expect(asRoot(`fallocate --punch-hole --offset ${USED_BYTES} --length ${statSync(log).size} ${log}`)).toBe(0);
    const ballast = join(folder, "ballast");
    const file = openSync(ballast, "w");
    try {
      for (;;) writeSync(file, Buffer.alloc(64 * 1024));
    } catch (error) {
      expect(error).toMatchObject({ code: "ENOSPC" });
    } finally {
      closeSync(file);
    }
    const before = (await readAllEvents(dataDir)).length;
    const sent = provider.journal.length;
    // An answer whose event cannot be booked is held back for five seconds; this client does not wait.
    const ask = async (): Promise<string> => {
      const { status, text } = await send(made.key, IMPATIENT_MS).catch(() => ({ status: 0, text: "left" }));
      return `${status} ${text}`;
    };
    await expect.poll(ask, { timeout: 60_000, interval: 1 }).toMatch(/^503 .*ledger_unavailable/);
    expect(await statusOf(at("OPS_", "/readyz"))).toBe(503);
    expect(up.exitCode).toBe(null);

    rmSync(ballast);
    await expect.poll(ask, { timeout: 20_000, interval: 100 }).toMatch(/^200 /);
    for (const name of ["OPS_", "COLLECTOR_", "ALERTS_"]) expect(await statusOf(at(name, "/readyz")), name).toBe(200);
    expect(said).not.toContain("is started again");
    // Whatever the provider answered is in the books, once.
    const booked = async (): Promise<number> => (await readAllEvents(dataDir)).length - before;
    await expect.poll(booked, { timeout: 20_000 }).toBe(provider.journal.length - sent);
    const verified = await runKeymeter(beside(), "verify");
    expect(verified.code, verified.text).toBe(0);
    return undefined;
  });
});

describe("a program that cannot be started for a while", () => {
  it("is tried again, and the others go on", async ({ skip }) => {
    if (process.platform !== "linux") skip(noteSkipped("no Linux: a supervisor without its Node"));
    rmSync(node);
    const children = readFileSync(`/proc/${up.pid}/task/${up.pid}/children`, "utf8").trim().split(" ").map(Number);
    const collector = children.find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").endsWith("\0collector\0"));
    process.kill(collector ?? Number.NaN, "SIGKILL");
    const times = (): number =>
      said.split(/collector cannot be started \(spawn .* ENOENT\); it is tried again/).length - 1;
    await expect.poll(times, { timeout: 20_000, interval: 20 }).toBeGreaterThan(1);
    expect(up.exitCode).toBe(null);
    expect((await send(made.key)).status).toBe(200);
    const ready = async (): Promise<number> => await statusOf(at("COLLECTOR_", "/readyz")).catch(() => 0);
    expect(await ready()).toBe(0);

    symlinkSync(process.execPath, node);
    await expect.poll(ready, { timeout: 20_000, interval: 50 }).toBe(200);
    expect(up.exitCode).toBe(null);
    return undefined;
  });
});
