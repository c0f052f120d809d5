// The admin token where it stands in the environment alone: every command that changes something works, and no file of
// it is made. And wrong tokens: a crowd of them holds up nobody.
import { existsSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { run as apply } from "../../command/apply.ts";
import { run as budgets } from "../../command/budgets.ts";
import { run as clock } from "../../command/clock.ts";
import { run as close } from "../../command/close.ts";
import { run as forecast } from "../../command/forecast.ts";
import { run as keys } from "../../command/keys.ts";
import { run as limits } from "../../command/limits.ts";
import { run as pages } from "../../command/pages.ts";
import { run as work } from "../../command/work.ts";
import { lockForWriting, openForReading } from "../../ledger/sqlite.ts";
import { createTokenCheck } from "../../service/admin-routes.ts";
import { Secret } from "../../service/secret.ts";
import { json } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { withProxy } from "../with-proxy.ts";

const TOKEN = "an-admin-token-from-the-environment";

const bench = withProxy(json({ id: "batch_1", object: "batch", status: "in_progress", endpoint: "/v1/x" }), {
  KEYMETER_DURABILITY: "process",
  KEYMETER_ADMIN_TOKEN: TOKEN,
});
afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

/** Runs a verb as the command does, in this process; what it printed. */
async function keymeter(
  verb: (args: string[]) => Promise<void>,
  args: string[],
  environment: { [name: string]: string } = {},
): Promise<string> {
  let text = "";
  const write = (chunk: string | Uint8Array): boolean => {
    text += String(chunk);
    return true;
  };
  const spies = [process.stdout, process.stderr].map((stream) => vi.spyOn(stream, "write").mockImplementation(write));
  const given = {
    KEYMETER_DATA_DIR: bench.running.dataDir,
    KEYMETER_OPS_PORT: new URL(bench.running.opsUrl).port,
    KEYMETER_ADMIN_TOKEN: TOKEN,
    ...environment,
  };
  for (const [name, value] of Object.entries(given)) vi.stubEnv(name, value);
  try {
    await verb(args);
    return text;
  } finally {
    for (const spy of spies) spy.mockRestore();
    vi.unstubAllEnvs();
  }
}

function inDays(days: number): string {
  return new Date(Date.now() + days * 24 * 3_600_000).toISOString().slice(0, 10);
}

/** What stands in the audit, newest first. */
function audited(): string[] {
  const books = openForReading(join(bench.running.dataDir, "usage.db"));
  const actions = books?.prepare("SELECT action FROM audit ORDER BY seq DESC").pluck().all() as string[];
  books?.close();
  return actions;
}

describe("fault 20: with the admin token in the environment alone", () => {
  const idIn = (text: string, prefix: string): string => new RegExp(`${prefix}\\w+`).exec(text)?.[0] ?? "none";

  // First: other processes see this one's locks only until it opens the same files again, as the commands below do in
  // this process.
  it("the command itself, as a program, says its word; with a wrong token, or with none, it says why, without a stack", async () => {
    const beside = (environment: { [name: string]: string }): Parameters<typeof runKeymeter>[0] => ({
      dataDir: bench.running.dataDir,
      opsUrl: bench.running.opsUrl,
      environment,
    });
    const remove = ["budgets", "remove", "none-of-this-name"];
    const [right, none] = await Promise.all([
      runKeymeter(beside({ KEYMETER_ADMIN_TOKEN: TOKEN }), ...remove),
      runKeymeter(beside({}), ...remove),
    ]);
    expect([right.code, right.text]).toEqual([1, expect.stringContaining("there is no budget none-of-this-name")]);
    expect([none.code, none.text]).toEqual([1, expect.stringContaining("KEYMETER_ADMIN_TOKEN is not set")]);
    for (const { text } of [right, none]) expect(text).not.toMatch(/^ {4}at /m);
    const wrong = keymeter(budgets, remove.slice(1), { KEYMETER_ADMIN_TOKEN: "another-token-altogether" });
    await expect(wrong).rejects.toThrow("the admin token is missing or wrong");
  });

  it("keys are created, described, paused, resumed, rotated and revoked, live requests with them", async () => {
    const { key } = JSON.parse(await keymeter(keys, ["create", "--name", "ci", "--json"])) as { key: string };
    expect(key).toMatch(/^km_/);
    expect(await keymeter(keys, ["set", "ci", "--owner", "ann", "--models", "gpt-4o*"])).toContain("set");
    expect(await keymeter(keys, ["pause", "ci", "--cut"])).toMatch(/paused, 0 live requests ended/);
    expect(await keymeter(keys, ["resume", "ci"])).toContain("resumed");
    expect(await keymeter(keys, ["rotate", "ci", "--json"])).toContain("km_");
    expect(await keymeter(keys, ["revoke", "ci", "--cut"])).toContain("revoked");
    expect(audited().slice(0, 8)).toEqual([
      "setKeyState",
      "rotateKey",
      "setKeyState",
      "setKeyState",
      "setPolicy",
      "describeKey",
      "nameUser",
      "createKey",
    ]);
  });

  it("budgets are set, raised, frozen and cut, lifted and removed", async () => {
    const budget = idIn(await keymeter(budgets, ["set", "--amount", "5/month", "--team", "search", "--hard"]), "bud");
    expect(budget).toMatch(/^bud/);
    const raised = await keymeter(budgets, ["raise", budget, "--by", "5", "--until", inDays(3), "--why", "a launch"]);
    expect(await keymeter(budgets, ["unraise", idIn(raised, "rai_")])).toContain("ended");
    const frozen = await keymeter(budgets, ["freeze", "--team", "search", "--why", "a test", "--cut"]);
    expect(frozen).toMatch(/team search is frozen, 0 live requests ended/);
    expect(await keymeter(budgets, ["lift", idIn(frozen, "frz_")])).toContain("lifted");
    expect(await keymeter(budgets, ["remove", budget])).toContain("removed");
    expect(audited().slice(0, 6)).toEqual(["removeBudget", "lift", "freeze", "endRaise", "raiseBudget", "setBudget"]);
  });

  it("limits are set and removed, a file is applied, the clock is accepted", async () => {
    await keymeter(limits, ["set", "--team", "search", "--rpm", "5"]);
    await keymeter(limits, ["remove", "--team", "search"]);
    expect(audited().slice(0, 2)).toEqual(["removeLimits", "setLimits"]);
    const file = join(bench.running.dataDir, "budgets.yaml");
    writeFileSync(file, "budgets:\n  - { team: ads, amount: 7/day }\n");
    await keymeter(apply, ["-f", file, "--yes"]);
    expect(audited()[0]).toBe("setBudget");
    expect(await keymeter(clock, ["accept"])).toContain("the clock is taken as right");
    expect(audited()[0]).toBe("acceptClock");
  });

  it("work that nobody fetches is settled", async () => {
    const { secret } = await bench.running.createKey();
    const made = await fetch(`${bench.running.url}/openai/v1/batches`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({ input_file_id: "file-1", endpoint: "/v1/chat/completions", completion_window: "24h" }),
    });
    expect(made.status).toBe(200);
    await expect.poll(() => bench.running.proxy.context.work.list().length).toBe(1);
    const { workId } = bench.running.proxy.context.work.list()[0] ?? { workId: "" };
    expect(await keymeter(work, ["settle", workId])).toContain("is settled");
    expect([audited()[0], bench.running.proxy.context.work.list()]).toEqual(["closeWork", []]);
  });

  it("the collector's commands bring it too: pages, close, plan", async () => {
    const heard: (readonly [url: string | undefined, authorization: string | undefined])[] = [];
    const collector = createServer((request, response) => {
      heard.push([request.url, request.headers.authorization]);
      request.resume();
      response.end(JSON.stringify({ url: "http://pages/once", said: ["done"] }));
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => collector.once("listening", resolve));
    const environment = { KEYMETER_COLLECTOR_PORT: String((collector.address() as AddressInfo).port) };
    // A collector that runs has these.
    const lock = lockForWriting(join(bench.running.dataDir, "billing.db"));
    try {
      expect(await keymeter(pages, [], environment)).toBe("http://pages/once\n");
      expect(await keymeter(close, ["2026-11-20", "--provider", "openai", "--by", "ann"], environment)).toBe("done\n");
      const plan = [
        "plan",
        "--team",
        "ads",
        "--from",
        inDays(1),
        "--to",
        inDays(3),
        "--factor",
        "2",
        "--why",
        "launch",
      ];
      expect(await keymeter(forecast, plan, environment)).toBe("done\n");
    } finally {
      lock.release();
      collector.close();
    }
    expect(heard.map(([url]) => url)).toEqual(["/admin/link", "/admin/tasks", "/admin/tasks"]);
    for (const [, authorization] of heard) expect(authorization).toBe(`Bearer ${TOKEN}`);
    // None of all this made a token of its own.
    expect(existsSync(join(bench.running.dataDir, "admin-token"))).toBe(false);
  });
});

describe("fault 24: wrong tokens that wait", () => {
  const mistaken = (): Promise<Response> =>
    fetch(`${bench.running.opsUrl}/admin/budgets`, { headers: { authorization: "Bearer a-typing-mistake" } });
  const within = async <T>(ms: number, promise: Promise<T>): Promise<T | "too late"> =>
    Promise.race([promise, new Promise<"too late">((resolve) => setTimeout(() => resolve("too late"), ms).unref())]);

  it("by the thousand hold up neither a typing mistake nor the right token", async () => {
    const isRight = createTokenCheck(new Secret(TOKEN));
    const crowd = Array.from({ length: 2_000 }, (_, i) => isRight(`guess ${i}`));
    expect(await within(1_000, isRight("a typing mistake"))).toBe(false);
    expect(await within(100, isRight(TOKEN))).toBe(true);
    expect(await within(5_000, Promise.race(crowd))).toBe(false);
  });

  it("over HTTP: the operator hears at once that his token is wrong, and at once that it is right", async () => {
    const stop = new AbortController();
    const crowd = Array.from({ length: 60 }, (_, i) =>
      fetch(`${bench.running.opsUrl}/admin/budgets`, {
        headers: { authorization: `Bearer guess-${i}` },
        signal: stop.signal,
      }).then(
        ({ status }) => status,
        () => undefined,
      ),
    );
    const answer = await within(1_500, mistaken());
    expect(answer === "too late" ? answer : answer.status).toBe(401);
    const right = await within(
      1_000,
      fetch(`${bench.running.opsUrl}/admin/budgets`, { headers: { authorization: `Bearer ${TOKEN}` } }),
    );
    expect(right === "too late" ? right : right.status).toBe(200);
    stop.abort();
    // None of them was taken for the right one.
    expect((await Promise.all(crowd)).filter((status) => status === 200)).toEqual([]);
  });

  it("one alone is answered slowly: guessing costs time", async () => {
    const isRight = createTokenCheck(new Secret(TOKEN));
    const startedMs = performance.now();
    expect(await isRight("a guess")).toBe(false);
    expect(performance.now() - startedMs).toBeGreaterThan(200);
  });
});
