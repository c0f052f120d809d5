// Backup, restore and move as docs/operating.md says, with its own commands: books that are written meanwhile, keys
// that go on, and what a start says without the pepper.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openForWriting } from "../../ledger/sqlite.ts";
import { RESTORE } from "../../service/secret.ts";
import { makeSigningKey, SIGNING_KEY_FILE } from "../../service/signing-key.ts";
import { freePorts } from "../free-ports.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { IS_CI } from "../seed.ts";
import { readAllEvents, startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { noteSkipped } from "../skipped.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MANUAL = readFileSync(join(ROOT, "docs", "operating.md"), "utf8");
const BLOCKS = [...MANUAL.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, text = ""]) => text);
const SECRETS = [...Object.keys(RESTORE), SIGNING_KEY_FILE];

/** The manual's block that has this in it. */
function block(part: string): string {
  const found = BLOCKS.find((text) => text.includes(part));
  if (found === undefined) throw new Error(`docs/operating.md has no block with ${part}`);
  return found;
}

/** Pastes a block into a shell. */
function paste(
  text: string,
  environment: { readonly [name: string]: string },
): Promise<{ code: number | null; said: string }> {
  const shell = spawn("bash", ["-c", text], {
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/", CHECKOUT: ROOT, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  shell.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  shell.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  return new Promise((resolve) => shell.once("close", (code) => resolve({ code, said })));
}

const CONNECTIONS = 4;
/** Between two requests of one of them: what copies and looks at the copy needs the processor too. */
const PAUSE_MS = 20;

let provider: FakeProvider;
const running = new Set<RunningProxy>();
beforeEach(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
});
afterEach(async () => {
  for (const one of running) await one.stop();
  running.clear();
  await provider.close();
});

async function start(dataDir: string): Promise<RunningProxy> {
  const one = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir });
  running.add(one);
  return one;
}

async function stop(one: RunningProxy): Promise<void> {
  running.delete(one);
  await one.stop();
}

async function send(url: string, secret: string): Promise<number> {
  const answer = await fetch(`${url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [] }),
  });
  await answer.text();
  return answer.status;
}

/** What the collector and the alerts program make at their start; here only the proxy runs. */
function withTheOthers(dataDir: string): void {
  for (const set of ["billing", "notices"] as const) openForWriting(join(dataDir, `${set}.db`), set, "process").close();
  for (const name of ["read-token", "webhook-token"])
    writeFileSync(join(dataDir, name), `${"t".repeat(43)}\n`, { mode: 0o600 });
  makeSigningKey(dataDir);
}

/** A folder with books, a key, and events that go on coming. */
async function underTraffic(): Promise<{
  live: RunningProxy;
  secret: string;
  booked: () => number;
  end: () => Promise<void>;
}> {
  const live = await start(temporaryFolder());
  withTheOthers(live.dataDir);
  const { secret } = await live.createKey({ name: "ci" });
  let booked = 0;
  const over = new AbortController();
  const traffic = Array.from({ length: CONNECTIONS }, async () => {
    while (!over.signal.aborted) {
      if ((await send(live.url, secret)) === 200) booked += 1;
      await sleep(PAUSE_MS);
    }
  });
  await expect.poll(() => booked, { timeout: 20_000, interval: 5 }).toBeGreaterThan(20);
  return {
    live,
    secret,
    booked: () => booked,
    async end() {
      over.abort();
      await Promise.all(traffic);
    },
  };
}

const hasSqlite = spawnSync("sh", ["-c", "sqlite3 --version"]).status === 0;
const WAYS = [["npx keymeter backup", true] as const, ...(IS_CI ? [[".backup '", hasSqlite] as const] : [])];

describe("backup and restore, as the manual says", () => {
  it.for(WAYS)(
    "%s under traffic: verify is green, old keys work, nothing that was answered before it is missing",
    async ([way, isThere], { skip }) => {
      if (!isThere) skip(noteSkipped(`no sqlite3: the manual's backup by ${way}`));
      const { live, secret, booked, end } = await underTraffic();
      const before = booked();
      const to = join(temporaryFolder(), "backup");
      const settings = join(temporaryFolder(), "settings.yaml");
      writeFileSync(settings, "timezone: UTC\n");
      const { code, said } = await paste(block(way), { DATA: live.dataDir, TO: to, KEYMETER_CONFIG: settings });
      const after = booked();
      await end();
      expect(code, said).toBe(0);
      expect(said.match(/^ok /gm)?.length, said).toBe(7);
      for (const name of ["usage.db", "billing.db", "notices.db", ...SECRETS])
        expect((statSync(join(to, name)).mode & 0o077).toString(8), name).toBe("0");
      for (const name of SECRETS)
        expect(readFileSync(join(to, name)).equals(readFileSync(join(live.dataDir, name))), name).toBe(true);
      if (way.includes("keymeter"))
        expect(readFileSync(join(to, "keymeter.yaml"), "utf8")).toBe(readFileSync(settings, "utf8"));
      const copied = (await readAllEvents(to)).length;
      expect(copied).toBeGreaterThanOrEqual(before);
      // What was answered while the copy was looked at may be one a connection more.
      expect(copied).toBeLessThanOrEqual(after + CONNECTIONS);
      await stop(live);

      const restored = join(temporaryFolder(), "restored");
      expect(await paste(block("FROM="), { DATA: restored, FROM: to })).toEqual({ code: 0, said: "" });
      const again = await paste(block("FROM="), { DATA: restored, FROM: to });
      expect(again).toMatchObject({ code: 1, said: expect.stringContaining("has books") as string });
      expect(readdirSync(restored).toSorted()).toEqual(["billing.db", "notices.db", "usage.db", ...SECRETS].toSorted());
      const running = await start(restored);
      expect(await send(running.url, secret)).toBe(200);
      // Requests that were open in the copy end there as crashed, at what was held for them.
      const events = await readAllEvents(restored);
      const crashed = events.filter(({ outcome }) => outcome === "crash").length;
      expect(events.length - crashed).toBe(copied + 1);
      expect(crashed).toBeLessThanOrEqual(4);
      expect((await running.proxy.writer.verify()).differences).toEqual([]);
      return undefined;
    },
  );

  it("without the pepper, with an empty one and with another: each start and each new key is refused with what to do, and the books stay as they are", async () => {
    const live = await start(temporaryFolder());
    withTheOthers(live.dataDir);
    const { secret } = await live.createKey({ name: "ci" });
    expect(await send(live.url, secret)).toBe(200);
    await stop(live);
    const pepper = readFileSync(join(live.dataDir, "pepper"));
    const books = readFileSync(join(live.dataDir, "usage.db"));
    const ports = await freePorts();
    const beside = {
      dataDir: live.dataDir,
      opsUrl: `http://127.0.0.1:${ports["KEYMETER_OPS_PORT"]}`,
      environment: { ...ports, KEYMETER_PROMETHEUS: "off" },
    };
    const WHAT_TO_DO = /Restore the file from a backup, or give what it held as KEYMETER_PEPPER/;

    rmSync(join(live.dataDir, "pepper"));
    const created = await runKeymeter(beside, "keys", "create", "--name", "late");
    expect(created.code).toBe(1);
    expect(created.text).toMatch(WHAT_TO_DO);
    // As people start it: the supervisor looks first.
    const up = await runKeymeter(beside, "up");
    expect(up.code, up.text).toBe(1);
    expect(up.text).toMatch(/pepper is gone/);
    expect(up.text).toMatch(WHAT_TO_DO);

    await expect(start(live.dataDir)).rejects.toThrow(WHAT_TO_DO);
    expect(existsSync(join(live.dataDir, "pepper"))).toBe(false);

    for (const other of ["", "another-pepper-of-another-installation\n"]) {
      writeFileSync(join(live.dataDir, "pepper"), other);
      await expect(start(live.dataDir)).rejects.toThrow(WHAT_TO_DO);
    }
    expect(readFileSync(join(live.dataDir, "usage.db")).equals(books)).toBe(true);

    writeFileSync(join(live.dataDir, "pepper"), pepper);
    const running = await start(live.dataDir);
    expect(await send(running.url, secret)).toBe(200);
  });
});

describe("a move, as the manual says", () => {
  it("packed while nothing runs and unpacked elsewhere: keys, budgets and what is spent of them go along", async () => {
    const live = await start(join(temporaryFolder(), "keymeter"));
    const { id, secret } = await live.createKey({ name: "ci" });
    await live.setBudget({ scope: { keyId: id }, amountNanoUsd: 1_000_000_000n });
    for (let i = 0; i < 5; i++) expect(await send(live.url, secret)).toBe(200);
    const [before] = await live.proxy.writer.states();
    await stop(live);

    const [from, to] = [join(live.dataDir, ".."), temporaryFolder()];
    const [pack, unpack] = [block(" -czpf "), block(" -xzpf ")].map(
      (text) => text.split("\n").find((line) => line.includes("tar ")) ?? "",
    );
    const archive = join(temporaryFolder(), "keymeter.tar.gz");
    const here = (line = "", folder = ""): string =>
      line.replace("sudo ", "").replace("-C /var/lib", `-C ${folder}`).replace("keymeter.tar.gz", archive);
    expect(await paste(here(pack, from), {})).toMatchObject({ code: 0 });
    expect(await paste(here(unpack, to), {})).toMatchObject({ code: 0 });
    const moved = join(to, "keymeter");
    expect(readdirSync(moved).filter((name) => name.includes("lock"))).toEqual([]);

    const running = await start(moved);
    const [after] = await running.proxy.writer.states();
    expect(after).toEqual(before);
    expect(await send(running.url, secret)).toBe(200);
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
  });
});
