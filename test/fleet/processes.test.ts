// Several processes of one proxy on one port, by the command: Prometheus sees each once, one that dies comes back, and the
// admin API speaks for all.
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Agent, request } from "undici";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { migratePostgres } from "../../ledger/postgres.ts";
import { isTurnOf } from "../skipped.ts";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { answerSlowly, slowChat } from "../fake/slow-chat.ts";
import { freePorts } from "../free-ports.ts";
import { hasPostgres, rowsOf, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { readAllEvents, temporaryFolder } from "../start-proxy.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));
const REQUESTS = 90;

it("several processes with books in SQLite: one sentence, and nothing is started", async () => {
  const { code, text } = await runKeymeter(
    {
      dataDir: temporaryFolder(),
      opsUrl: "http://127.0.0.1:1",
      environment: { KEYMETER_PROCESSES: "2" },
    },
    "proxy",
  );
  expect(code).toBe(1);
  expect(text).toContain("books in SQLite have one writer: set KEYMETER_LEDGER_URL");
  expect(text).not.toContain("ready");
});

// Where the system has no list of a process's children there is nothing to kill.
describe.skipIf(!hasPostgres || !existsSync("/proc/self/task") || !isTurnOf(3, 4, "several processes of a proxy"))(
  "three processes of a proxy",
  () => {
    let server: PostgresServer;
    let provider: FakeProvider;
    let url: string;
    let base: string;
    let opsUrl: string;
    let program: ReturnType<typeof spawn>;
    let said = "";
    let asked = 0;
    const folder = temporaryFolder();
    const environment = async (): Promise<{ [name: string]: string }> => ({
      PATH: process.env["PATH"] ?? "",
      ...(await freePorts()),
      KEYMETER_DATA_DIR: folder,
      KEYMETER_LEDGER_URL: url,
      KEYMETER_OPENAI_URL: provider.url,
      KEYMETER_PROCESSES: "3",
      KEYMETER_DRAIN_SECONDS: "2",
    });
    beforeAll(async () => {
      server = await startPostgres();
      provider = await startFakeProvider(answerSlowly);
      url = await server.database("processes");
      await migratePostgres(url);
      const env = await environment();
      base = `http://127.0.0.1:${env["KEYMETER_PORT"]}`;
      opsUrl = `http://127.0.0.1:${env["KEYMETER_OPS_PORT"]}`;
      program = spawn(process.execPath, [START, "proxy"], { env, stdio: ["ignore", "pipe", "pipe"] });
      program.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()));
      program.stderr?.on("data", (chunk: Buffer) => (said += chunk.toString()));
      await vi.waitUntil(async () => (await statusOf("/readyz")) === 200, { timeout: 60_000, interval: 100 });
    }, 90_000);
    afterAll(async () => {
      program?.kill("SIGKILL");
      await provider?.close();
      await server?.stop();
    });

    const statusOf = async (path: string): Promise<number> => {
      try {
        return (await fetch(opsUrl + path)).status;
      } catch {
        return 0;
      }
    };
    /** On a connection of its own, as many clients have. */
    const ask = async (): Promise<number> => {
      const dispatcher = new Agent();
      try {
        const answer = await request(`${base}/openai/v1/chat/completions`, {
          method: "POST",
          dispatcher,
          headers: { "content-type": "application/json", authorization: "Bearer sk-test-process-key" },
          body: slowChat((asked += 1), false),
        });
        await answer.body.text();
        return answer.statusCode;
      } catch {
        return 0;
      } finally {
        await dispatcher.close();
      }
    };
    const metrics = async (): Promise<string> => (await fetch(`${opsUrl}/metrics`)).text();
    /** By process. */
    const requestsOf = (text: string): Map<string, number> => {
      const found = new Map<string, number>();
      for (const [, labels = "", value] of text.matchAll(/^keymeter_requests_total\{(.*)\} (\d+)$/gm)) {
        const name = /process="(\d)"/.exec(labels)?.[1] ?? "";
        found.set(name, (found.get(name) ?? 0) + Number(value));
      }
      return found;
    };
    const sumOf = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
    const childrenOf = (pid: number): number[] =>
      readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
    /** The launcher may stand between. */
    const processes = (): number[] => {
      for (let pids = [program.pid ?? 0]; pids.length > 0; pids = pids.flatMap(childrenOf))
        if (pids.length === 3) return pids;
      return [];
    };

    it("share the port, and Prometheus sees each once: the sum is what was asked", async () => {
      const answers = await Promise.all(Array.from({ length: REQUESTS }, ask));
      expect(answers.filter((status) => status === 200).length).toBe(REQUESTS);
      await expect.poll(async () => sumOf(requestsOf(await metrics()))).toBe(REQUESTS);
      const text = await metrics();
      expect([...requestsOf(text).keys()].toSorted()).toEqual(["1", "2", "3"]);
      expect(text.match(/^# TYPE keymeter_requests_total counter$/gm)?.length).toBe(1);
      expect(text).toContain("keymeter_proxy_processes 3");
      expect((await readAllEvents(url)).length).toBe(REQUESTS);
      expect((await rowsOf(url, "SELECT COUNT(*) FROM usage.nodes WHERE state = 'live'", []))[0]?.[0]).toBe("3");
    });

    it("are spoken for by one: the register, what memory has, and what is cut", async () => {
      const beside = { dataDir: folder, place: url, opsUrl };
      const set = await runKeymeter(beside, "budgets", "set", "--team", "search", "--amount", "10/day", "--hard");
      expect(set.text).not.toContain("cannot");
      expect(set.code).toBe(0);
      const token = readFileSync(`${folder}/admin-token`, "utf8").trim();
      const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
      await expect
        .poll(async () => {
          const budgets = await fetch(`${opsUrl}/admin/budgets`, { headers });
          return ((await budgets.json()) as { states: unknown[] }).states.length;
        })
        .toBe(1);
      expect((await fetch(`${opsUrl}/admin/verify`)).status).toBe(401);
      const refused = await fetch(`${opsUrl}/admin/changes`, { method: "POST", headers, body: "{}" });
      expect(refused.status).toBe(400);
      // Six that go on, on any of them.
      let letGo = (): void => {};
      const isHeld = new Promise<void>((resolve) => (letGo = resolve));
      const before = provider.journal.length;
      provider.script = async () => await isHeld;
      const open = Array.from({ length: 6 }, ask);
      await expect.poll(() => provider.journal.length - before).toBe(6);
      const cut = await fetch(`${opsUrl}/admin/cut`, { method: "POST", headers, body: "{}" });
      expect(await cut.json()).toEqual({ cut: 6 });
      expect((await Promise.all(open)).filter((status) => status === 200)).toEqual([]);
      letGo();
      provider.script = answerSlowly;
    });

    it("come back when they die: nothing is booked twice, and what the others counted stays", async () => {
      const counted = requestsOf(await metrics());
      const [victim = 0] = processes();
      process.kill(victim, "SIGKILL");
      await expect.poll(metrics, { timeout: 20_000, interval: 200 }).toContain("keymeter_proxy_processes 2");
      expect(await ask()).toBe(200);
      await expect.poll(metrics, { timeout: 20_000, interval: 200 }).toContain("keymeter_proxy_processes 3");
      expect(processes()).not.toContain(victim);
      const answers = await Promise.all(Array.from({ length: 30 }, ask));
      expect(answers.filter((status) => status === 200).length).toBe(30);
      const after = requestsOf(await metrics());
      const fallen = [...counted].filter(([name, count]) => (after.get(name) ?? 0) < count).map(([name]) => name);
      expect(fallen.length).toBeLessThanOrEqual(1);
      expect(await statusOf("/readyz")).toBe(200);
    });

    it("end together when they are told to", async () => {
      const all = processes();
      const exited = new Promise((resolve) => program.once("exit", resolve));
      program.kill("SIGTERM");
      expect(await exited).toBe(0);
      expect(all.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
      expect((await rowsOf(url, "SELECT COUNT(*) FROM usage.nodes WHERE state = 'live'", []))[0]?.[0]).toBe("1");
      // Of who was killed nobody has said yet that it is over.
      expect(said).toContain("all processes of the proxy are ready");
    });
  },
);
