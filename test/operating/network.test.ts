// What others on the network get where metrics, pages and webhook listen for them: in a folder of the release before,
// which goes on as it was for one release, and with KEYMETER_INNER_HOST. What they get without it is in stack.test.ts.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { openForWriting } from "../../ledger/sqlite.ts";
import { innerHostOf, isOpen, noteOpenNetwork } from "../../service/network.ts";
import { freePorts } from "../free-ports.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { noteSkipped } from "../skipped.ts";
import { dumpsOf, restore } from "../upgrade/old-books.ts";
import { OTHER_ADDRESS } from "./address.ts";

const PROGRAMS = ["proxy", "collector", "alerts"] as const;
const PORT_OF = { proxy: "OPS", collector: "COLLECTOR", alerts: "ALERTS" } as const;
type Program = (typeof PROGRAMS)[number];

/** The three programs in one process: a third of the time that three take. */
const main = (program: Program): string => JSON.stringify(new URL(`../../${program}/main.ts`, import.meta.url).href);
const ALL = `
  await (await import(${main("proxy")})).startProxy();
  await (await import(${main("collector")})).startCollector();
  await (await import(${main("alerts")})).startAlerts();
`;

// Books of the release before: they have no token of metrics.
const OLD = dumpsOf("usage").filter((name) => name.endsWith("7ee2d97"))[0] ?? "";
const dataDir = restore(OLD).folder;
let ports: { [name: string]: string };
beforeAll(async () => {
  ports = await freePorts();
});

const all = join(temporaryFolder(), "all.mjs");
writeFileSync(all, ALL);

let child: ChildProcess | undefined;
let log = "";
afterEach(async () => {
  const exited = new Promise((resolve) => child?.once("close", resolve));
  if (child?.kill("SIGKILL")) await exited;
});

const at = (program: Program, path: string): string =>
  `http://${OTHER_ADDRESS}:${ports[`KEYMETER_${PORT_OF[program]}_PORT`]}${path}`;

/** Starts all three; they are reached as from elsewhere. */
async function start(environment: { readonly [name: string]: string }): Promise<void> {
  const started = spawn(process.execPath, [all], {
    env: {
      PATH: process.env["PATH"] ?? "",
      NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"],
      KEYMETER_DATA_DIR: dataDir,
      ...ports,
      KEYMETER_HOST: "0.0.0.0",
      KEYMETER_DURABILITY: "process",
      ...environment,
    },
    stdio: ["ignore", "ignore", "pipe"],
  });
  child = started;
  log = "";
  started.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
  const isReady = (): void => {
    if (!log.includes("alerts is ready")) throw new Error(`the programs are not ready: ${log}`);
  };
  await vi.waitFor(isReady, { timeout: 30_000, interval: 20 });
}

/** What one of them has logged. */
const logOf = (program: Program): string =>
  log
    .split("\n")
    .filter((line) => line.includes(`"program":"${program}"`))
    .join("\n");

async function metricsOf(program: Program, token?: string): Promise<{ status: number; text: string }> {
  const answer = await fetch(at(program, "/metrics"), {
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  });
  return { status: answer.status, text: await answer.text() };
}

describe("a folder", () => {
  const options = (dataDirOf: string, innerHost?: string) => ({ host: "0.0.0.0", innerHost, dataDir: dataDirOf });

  it("of the release before is known by its schema, and goes on open; one of today that lost its token is not opened", () => {
    const old = restore(OLD).folder;
    expect(noteOpenNetwork(options(old))).toContain("metrics, pages and webhook listen on 0.0.0.0 too");
    expect(innerHostOf(options(old))).toBe("0.0.0.0");
    // Who says where the rest listens has chosen: nothing is open any more.
    expect(noteOpenNetwork(options(old, "127.0.0.1"))).toBeUndefined();
    expect(isOpen(options(old, "0.0.0.0"))).toBe(false);

    const now = temporaryFolder();
    openForWriting(join(now, "usage.db"), "usage", "process").close();
    expect(noteOpenNetwork(options(now))).toBeUndefined();
    expect(innerHostOf(options(now))).toBe("127.0.0.1");
    expect(existsSync(join(now, "open-network"))).toBe(false);
  });
});

if (OTHER_ADDRESS === undefined) noteSkipped("this machine has no address but loopback: what others on a network get");
describe.skipIf(OTHER_ADDRESS === undefined)("KEYMETER_HOST=0.0.0.0", () => {
  it("a folder of the release before goes on: all ports listen, metrics ask for nothing, and each log says what will change", async () => {
    await start({});
    // A wrong token waits: all at once.
    await Promise.all(
      PROGRAMS.map(async (program) => {
        const [first, second] = await Promise.all([metricsOf(program), metricsOf(program)]);
        expect([first.status, second.status], program).toEqual([200, 200]);
        const expected = `${OTHER_ADDRESS} reads metrics without the token`;
        // Said of the first that came, once.
        await expect.poll(() => logOf(program).split(expected).length, { timeout: 20_000 }).toBe(2);
        expect(logOf(program)).toContain(
          "metrics, pages and webhook listen on 0.0.0.0 too, and metrics ask for no token",
        );
      }),
    );
    expect(readFileSync(join(dataDir, "open-network"), "utf8")).toContain("delete this file");
  });

  it("with KEYMETER_INNER_HOST, and without the mark, metrics ask others for the token", async () => {
    rmSync(join(dataDir, "open-network"));
    await start({ KEYMETER_INNER_HOST: "0.0.0.0" });
    const token = readFileSync(join(dataDir, "metrics-token"), "utf8").trim();
    await Promise.all(
      PROGRAMS.map(async (program) => {
        const refused = await metricsOf(program);
        expect(refused.status, program).toBe(401);
        expect(refused.text).toContain("metrics-token");
        expect(refused.text).not.toContain("# HELP");
        expect((await metricsOf(program, "x".repeat(43))).status, program).toBe(401);
        expect(await metricsOf(program, token), program).toMatchObject({
          status: 200,
          text: expect.stringContaining("# HELP") as string,
        });
        expect(logOf(program)).not.toContain("ask for no token");
        expect((await fetch(at(program, "/healthz"))).status, program).toBe(200);
      }),
    );
    // Nothing else is given either.
    const post = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    expect((await fetch(at("proxy", "/admin/changes"), post)).status).toBe(401);
    expect((await fetch(at("collector", "/overview.json"))).status).toBe(401);
    expect((await fetch(at("alerts", "/check"))).status).toBe(401);
    expect(existsSync(join(dataDir, "open-network"))).toBe(false);
  });
});
