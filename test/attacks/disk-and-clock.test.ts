// The disk and the clock against the books: a disk that hangs, a log that is deleted, a wall clock that jumps, files
// that others may read, secrets that are empty or belong elsewhere.
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import Database from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { createDigest, issueVirtualKey } from "../../ledger/usage/keys.ts";
import { attemptAtMs } from "../../ledger/ids.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Mark } from "../../ledger/usage/appender.ts";
import type { Writer, WriterOptions } from "../../ledger/usage/writer.ts";
import { createProxy } from "../../proxy/app.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import { createLog } from "../../service/log.ts";
import { openLogFile } from "../../service/log-file.ts";
import { ownSecret } from "../../service/secret.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { forkProxy } from "../kill-proxy.ts";
import { IS_CI } from "../seed.ts";
import { readAllEvents, startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { hasStrace, whileFailing } from "../strace.ts";
import { event, SUBJECT } from "../usage-event.ts";

const DAY_MS = 24 * 3_600_000;
const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
/** By how much less time has gone by since the machine was started than its wall clock says. */
const machine = vi.hoisted(() => ({ slowerMs: 0 }));
vi.mock("node:os", async (original) => {
  const os = await original<typeof import("node:os")>();
  return { ...os, uptime: () => os.uptime() - machine.slowerMs / 1000 };
});
const DIGEST = "a".repeat(64);

const ask = (url: string, more: object = {}): Promise<Response> =>
  fetch(`${url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-test-disk-and-clock-client" },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [], ...more }),
  });
const readyz = async ({ opsUrl }: RunningProxy): Promise<[number, string]> => {
  const answer = await fetch(`${opsUrl}/readyz`);
  return [answer.status, await answer.text()];
};
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

let provider: FakeProvider;
beforeEach(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
});
const writers: Writer[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  machine.slowerMs = 0;
  for (const writer of writers.splice(0)) await writer.close();
  await provider.close();
});

async function writerOn(folder: string, options: Partial<WriterOptions> = {}): Promise<Writer> {
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    ...options,
  });
  writers.push(writer);
  return writer;
}

async function close(writer: Writer): Promise<void> {
  writers.splice(writers.indexOf(writer), 1);
  await writer.close();
}

/** Reserves and settles; whether it was admitted. */
async function spend(writer: Writer, amount: bigint): Promise<boolean> {
  const attemptId = writer.nextAttemptId();
  const { admitted } = await writer.reserve(
    { attemptId, subject: SUBJECT, boundNanoUsd: amount, expectedNanoUsd: amount },
    "chat_completions",
    undefined,
  );
  if (admitted) await writer.settle(event(attemptId, amount));
  return admitted;
}

async function reading(folder: string): Promise<UsageBooks> {
  const books = await openUsage(folder);
  if (!books) throw new Error("no books");
  return books;
}

/** What was spent on which day, by its date. */
async function daysOf(books: UsageBooks): Promise<(readonly [day: string, costNanoUsd: bigint])[]> {
  const rows = await readSpend(books, ["day"], "2000-01-01", "2100-01-01");
  return rows
    .map(({ group, costNanoUsd }) => [group.day ?? "", costNanoUsd] as const)
    .toSorted(([one], [other]) => one.localeCompare(other));
}

/** Lets nothing through to the writer's thread while it hangs, as an fsync that does not return. */
function hangDisk(): { waiting(): number; letGo(): void } {
  const held: (() => void)[] = [];
  // oxlint-disable-next-line typescript/unbound-method -- called with its own worker below
  const post = Worker.prototype.postMessage;
  const spy = vi.spyOn(Worker.prototype, "postMessage").mockImplementation(function (this: Worker, ...message) {
    if (this.threadName === "ledger-writer") held.push(() => post.apply(this, message));
    else post.apply(this, message);
  });
  return {
    waiting: () => held.length,
    letGo() {
      spy.mockRestore();
      for (const one of held.splice(0)) one();
    },
  };
}

describe("review 4.1: a disk that hangs", () => {
  it("is trouble after five seconds: readiness says so, what is new is refused at once, and all goes on when it answers", async () => {
    const running = await startProxy(provider.url);
    expect((await ask(running.url)).status).toBe(200);
    expect(await readyz(running)).toEqual([200, "ready\n"]);

    const disk = hangDisk();
    const real = performance.now.bind(performance);
    let aheadMs = 0;
    vi.spyOn(performance, "now").mockImplementation(() => real() + aheadMs);
    const waiting = ask(running.url);
    await expect.poll(() => disk.waiting(), { timeout: 5_000 }).toBeGreaterThan(0);
    aheadMs = 3_000;
    expect((await readyz(running))[0]).toBe(200);

    aheadMs = 6_000;
    await expect.poll(async () => (await readyz(running))[0], { timeout: 5_000 }).toBe(503);
    expect((await readyz(running))[1]).toMatch(/^the disk has not answered for \d+ s\n$/);
    expect(await (await fetch(`${running.opsUrl}/metrics`)).text()).toContain("keymeter_ledger_up 0");
    const startedMs = Date.now();
    for (let i = 0; i < 3; i++) {
      const refused = await ask(running.url);
      expect(refused.status).toBe(503);
      expect(await refused.text()).toContain("nothing is sent that could not be booked");
    }
    expect(Date.now() - startedMs).toBeLessThan(2_000);
    expect(provider.journal.length).toBe(1);

    // Nor is the one that came before kept waiting.
    const given = await waiting;
    expect([given.status, await given.text()]).toEqual([503, expect.stringContaining("nothing is sent")]);
    expect(provider.journal.length).toBe(1);

    disk.letGo();
    await expect.poll(async () => (await readyz(running))[0], { timeout: 5_000 }).toBe(200);
    expect((await ask(running.url)).status).toBe(200);
    expect(provider.journal.length).toBe(2);
    // What was held for it in the end is let go, and it cost nothing.
    await expect
      .poll(async () => running.proxy.writer.verify(), { timeout: 5_000 })
      .toEqual({ differences: [], reservedNanoUsd: 0n });
    const events = await running.events();
    expect(events.filter(({ outcome }) => outcome === "complete").length).toBe(2);
    expect(events.filter(({ outcome, costNanoUsd }) => outcome !== "complete" && costNanoUsd !== "0")).toEqual([]);
    await running.stop();
  });

  it.skipIf(!hasStrace).each(IS_CI ? ["fsync,fdatasync"] : [])(
    "is noticed where %s itself does not return, and nothing is lost",
    async (calls) => {
      const dataDir = temporaryFolder();
      const { child, url } = await forkProxy(provider.url, dataDir);
      const exited = new Promise((resolve) => child.once("exit", resolve));
      expect((await ask(url)).status).toBe(200);
      let first: Promise<Response> | undefined;
      let second: Promise<Response> | undefined;
      await whileFailing(child.pid ?? 0, calls, "EIO:delay_enter=60000000", async () => {
        // It is sent before anybody can know, and its client gets no byte; from a tenth of a second on nothing is sent.
        first = ask(url);
        await new Promise((resolve) => setTimeout(resolve, 300));
        second = ask(url);
        await new Promise((resolve) => setTimeout(resolve, 6_000));
        const startedMs = Date.now();
        expect((await ask(url)).status).toBe(503);
        expect(Date.now() - startedMs).toBeLessThan(2_000);
        expect(provider.journal.length).toBe(2);
      });
      expect(await (await first)?.text()).toContain("no byte goes out before");
      expect(await (await second)?.text()).toContain("nothing is sent");
      await expect.poll(async () => (await ask(url)).status, { timeout: 70_000 }).toBe(200);
      child.kill("SIGTERM");
      await exited;
      expect((await readAllEvents(dataDir)).filter(({ outcome }) => outcome === "complete").length).toBe(
        provider.journal.length,
      );
    },
    150_000,
  );
});

describe("fault 11: a log that is deleted under the running proxy", () => {
  it("is noticed within seconds: nothing more is admitted, readiness says so, and a copy of all events is kept", async () => {
    const running = await startProxy(provider.url);
    for (let i = 0; i < 5; i++) expect((await ask(running.url)).status).toBe(200);
    rmSync(join(running.dataDir, "usage.db-wal"));

    await expect.poll(async () => (await readyz(running))[0], { timeout: 5_000 }).toBe(503);
    const [, why] = await readyz(running);
    expect(why).toContain("usage.db-wal was deleted or replaced while in use");
    expect(why).toContain("Nothing more is admitted");
    expect(why).toContain("start again");
    expect((await ask(running.url)).status).toBe(503);
    const sent = provider.journal.length;
    expect(sent).toBe(5);

    const [rescued = ""] = readdirSync(running.dataDir).filter((name) => name.startsWith("usage.db.rescued-"));
    expect(why).toContain(rescued);
    const copy = new Database(join(running.dataDir, rescued), { readonly: true });
    expect(copy.prepare("SELECT COUNT(*) FROM events").pluck().get()).toBe(sent);
    copy.close();
    await running.stop();
  });
});

describe("fault 12: a wall clock that jumps", () => {
  // Noon of this day: the writer's own thread goes by the machine's clock.
  const START = Math.floor(Date.now() / DAY_MS) * DAY_MS + DAY_MS / 2;
  let wall = START;
  let uptime = 1_000_000;
  const clocks = { now: () => wall, sinceBoot: () => uptime };
  const pass = (ms: number): void => {
    wall += ms;
    uptime += ms;
  };
  beforeEach(() => {
    wall = START;
    uptime = 1_000_000;
  });

  it("stops admission, forward or back, and nothing is dated by it; a machine that slept is let through", async () => {
    const folder = temporaryFolder();
    const writer = await writerOn(folder, clocks);
    for (const jump of [40 * DAY_MS, -40 * DAY_MS, 130_000, -130_000]) {
      expect(await spend(writer, 10n)).toBe(true);
      pass(1_000);
      wall += jump;
      expect(writer.trouble()).toContain("keymeter clock accept");
      expect(writer.isClockInDoubt()).toBe(true);
      await expect(spend(writer, 10n)).rejects.toThrow("the machine's clock jumped");
      // What was sent before is still booked, where it belongs.
      expect(Math.abs(attemptAtMs(writer.nextAttemptId()) - (wall - jump))).toBeLessThan(2_000);
      wall -= jump;
      expect(writer.trouble()).toBeUndefined();
    }
    pass(3 * DAY_MS);
    expect(writer.trouble()).toBeUndefined();
    expect(await spend(writer, 7n)).toBe(true);
    await close(writer);
    const books = await reading(folder);
    expect(await daysOf(books)).toEqual([
      [dayOf(START), 40n],
      [dayOf(START + 3 * DAY_MS), 7n],
    ]);
    await books.close();
  });

  it("is accepted by a word of the operator's, which stands in the audit", async () => {
    const folder = temporaryFolder();
    const writer = await writerOn(folder, clocks);
    await spend(writer, 10n);
    wall += 2 * DAY_MS;
    await expect(spend(writer, 10n)).rejects.toThrow("jumped");
    await writer.change({ type: "acceptClock" }, "command");
    expect(writer.trouble()).toBeUndefined();
    expect(await spend(writer, 20n)).toBe(true);
    await close(writer);
    const books = await reading(folder);
    const last = sqliteOf(books).prepare("SELECT action, subject, actor FROM audit ORDER BY seq DESC LIMIT 1");
    expect(last.get()).toEqual({
      action: "acceptClock",
      subject: "clock",
      actor: "command",
    });
    expect(await daysOf(books)).toEqual([
      [dayOf(START), 10n],
      [dayOf(START + 2 * DAY_MS), 20n],
    ]);
    await books.close();
  });

  it("ahead for one event stops what follows it; once accepted, events have the right day and a cap counts, after a restart too", async () => {
    const folder = temporaryFolder();
    const ahead = await writerOn(folder, { now: () => START + 40 * DAY_MS });
    await ahead.change(
      {
        type: "setBudget",
        budget: {
          id: "day",
          scope: { team: SUBJECT.team },
          window: "day",
          amountNanoUsd: 100n,
          kind: "hard",
          mode: "expected",
          createdAtMs: START,
        },
      },
      "test",
    );
    expect(await spend(ahead, 1n)).toBe(true);
    await close(ahead);

    const stopped = await writerOn(folder, clocks);
    expect(stopped.trouble()).toContain(dayOf(START + 40 * DAY_MS));
    expect(stopped.trouble()).toContain("keymeter clock accept");
    await expect(spend(stopped, 10n)).rejects.toThrow("ahead of the machine's clock");
    await stopped.change({ type: "acceptClock" }, "command");
    expect([await spend(stopped, 60n), await spend(stopped, 60n)]).toEqual([true, false]);
    expect((await stopped.states())[0]).toMatchObject({ settledNanoUsd: 60n, reservedNanoUsd: 0n });
    expect((await stopped.verify()).differences).toEqual([]);
    await close(stopped);

    pass(1_000);
    const again = await writerOn(folder, clocks);
    expect([await spend(again, 60n), await spend(again, 40n), await spend(again, 1n)]).toEqual([false, true, false]);
    pass(DAY_MS);
    expect([await spend(again, 100n), await spend(again, 1n)]).toEqual([true, false]);
    await close(again);
    const books = await reading(folder);
    expect(await daysOf(books)).toEqual([
      [dayOf(START), 100n],
      [dayOf(START + DAY_MS), 100n],
      [dayOf(START + 40 * DAY_MS), 1n],
    ]);
    expect(await readFoldDifferences(books)).toEqual([]);
    await books.close();
  });

  it("under the running proxy: 503, readiness says how to mend it, nothing reaches the provider, and `acceptClock` by the admin API ends it", async () => {
    const running = await startProxy(provider.url);
    expect((await ask(running.url)).status).toBe(200);
    // The same as a wall clock that is 40 days ahead: the time since the machine was started is that much shorter. A
    // wall clock that jumps is seen at once; what the machine says of itself is asked ten times a second.
    const run = async (slowerMs: number): Promise<void> => {
      machine.slowerMs = slowerMs;
      await sleep(150);
    };
    await run(40 * DAY_MS);
    const refused = await ask(running.url);
    expect([refused.status, (await readyz(running))[0]]).toEqual([503, 503]);
    expect((await readyz(running))[1]).toMatch(/jumped by 3456\d{3} s .*: keymeter clock accept/);
    expect(provider.journal.filter(({ method }) => method === "POST").length).toBe(1);
    await run(0);
    expect((await ask(running.url)).status).toBe(200);
    expect((await readyz(running))[0]).toBe(200);

    await run(-DAY_MS);
    expect((await ask(running.url)).status).toBe(503);
    expect(await running.change({ type: "acceptClock" })).toBe(200);
    expect((await ask(running.url)).status).toBe(200);
    expect((await readyz(running))[0]).toBe(200);
    expect((await running.events()).map(({ at }) => at.slice(0, 10))).toEqual([1, 2, 3].map(() => dayOf(Date.now())));
    await running.stop();
  });
});

describe("fault 25: files that are for one user alone", () => {
  it("books, their logs and the secrets have mode 600, whatever the mask is", async () => {
    const dataDir = join(temporaryFolder(), "data");
    const mask = process.umask(0);
    try {
      mkdirSync(dataDir);
      const running = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir });
      await ask(running.url);
      await (await openToWrite(dataDir, "billing", "power")).close();
      const names = [
        "usage.db",
        "usage.db-wal",
        "usage.db-shm",
        "usage.db.lock",
        "billing.db",
        "pepper",
        "admin-token",
      ];
      const modes = names.map((name) => [name, modeOf(join(dataDir, name))]);
      await running.stop();
      expect(modes).toEqual(names.map((name) => [name, "600"]));
    } finally {
      process.umask(mask);
    }
  });

  it("the program logs too, also after they turned over", async () => {
    const path = join(temporaryFolder(), "proxy.log");
    const mask = process.umask(0);
    try {
      // One that was made by hand, and has nothing in it.
      writeFileSync(path, "", { mode: 0o644 });
      const log = openLogFile(path, 10);
      for (const line of ["more than ten bytes\n", "again more than ten\n"]) {
        log.write(Buffer.from(line));
        await log.end();
      }
    } finally {
      process.umask(mask);
    }
    expect([modeOf(path), modeOf(`${path}.1`)]).toEqual(["600", "600"]);
  });

  it.each([
    ["pepper", "no key is recognised. Restore the file from a backup"],
    ["admin-token", "Restore the file from a backup, or give a token as KEYMETER_ADMIN_TOKEN"],
  ] as const)("an empty %s stops the start with a sentence, and is left as it is", (name, sentence) => {
    const dataDir = temporaryFolder();
    loadProxyConfig({ KEYMETER_DATA_DIR: dataDir });
    const file = join(dataDir, name);
    for (const text of ["", "\n"]) {
      writeFileSync(file, text);
      expect(() => loadProxyConfig({ KEYMETER_DATA_DIR: dataDir })).toThrow(sentence);
      const why = text === "" ? "is empty" : "is too short to be a secret";
      expect(() => loadProxyConfig({ KEYMETER_DATA_DIR: dataDir })).toThrow(`${file} ${why}`);
      expect(readFileSync(file, "utf8")).toBe(text);
    }
  });

  const startWith = async (dataDir: string, environment: { [name: string]: string } = {}): Promise<unknown> => {
    const proxy = await createProxy(
      loadProxyConfig({ KEYMETER_DATA_DIR: dataDir, ...environment }),
      createLog("test", "silent"),
    );
    return proxy.stop();
  };

  it("a pepper of another ledger, or one that is gone, stops the start, and the next one too, until it is brought back", async () => {
    const running = await startProxy(provider.url);
    const { secret } = await running.createKey();
    await running.stop();
    const { dataDir } = running;
    const file = join(dataDir, "pepper");
    const pepper = readFileSync(file, "utf8");

    writeFileSync(file, `${"another-pepper".repeat(3)}\n`);
    await expect(startWith(dataDir)).rejects.toThrow(/its pepper is another one.*Restore the file from a backup/);
    rmSync(file);
    await expect(startWith(dataDir)).rejects.toThrow(/pepper is gone\. .*KEYMETER_PEPPER/);
    // No other pepper was made in its place: the next start says the same.
    await expect(startWith(dataDir)).rejects.toThrow(/pepper is gone\. .*KEYMETER_PEPPER/);
    expect(existsSync(file)).toBe(false);
    await expect(startWith(dataDir, { KEYMETER_PEPPER: "yet-another-pepper-of-a-test" })).rejects.toThrow(
      "another one",
    );

    // An admin token that is gone is said too; one that is given may be another one.
    writeFileSync(file, pepper);
    rmSync(join(dataDir, "admin-token"));
    await expect(startWith(dataDir)).rejects.toThrow(/its admin-token is gone, and a new one was made/);
    // What others could read before is closed.
    chmodSync(join(dataDir, "usage.db"), 0o644);
    const again = await startProxy(provider.url, {
      KEYMETER_DATA_DIR: dataDir,
      KEYMETER_ADMIN_TOKEN: "a-token-of-the-operator",
    });
    const answer = await fetch(`${again.url}/keymeter/me`, { headers: { authorization: `Bearer ${secret}` } });
    expect(answer.status).toBe(200);
    expect(modeOf(join(dataDir, "usage.db"))).toBe("600");
    await again.stop();
  });

  it("books of before peppers were marked are held to theirs by the keys in them", async () => {
    const folder = temporaryFolder();
    const mark = (isNew: boolean): Mark[] => [{ name: "pepper", digest: DIGEST, isNew, mustStay: true, restore: "!" }];
    const first = await writerOn(folder);
    const { key, secret } = issueVirtualKey({ name: "old" }, Date.now());
    await first.change({ type: "createKey", key, digest: createDigest("a pepper of before")(secret) }, "test");
    await close(first);
    await expect(writerOn(folder, { marks: mark(true) })).rejects.toThrow("its pepper is gone");
    await close(await writerOn(folder, { marks: mark(false) }));
  });

  it("two starts at once have one secret", () => {
    const dataDir = temporaryFolder();
    const one = ownSecret(dataDir, "pepper", undefined);
    const other = ownSecret(dataDir, "pepper", undefined);
    expect([one.isNew, other.isNew, one.reveal() === other.reveal()]).toEqual([true, false, true]);
    expect(readdirSync(dataDir)).toEqual(["pepper"]);
  });
});

describe("fault 27: a start beside books that were rescued", () => {
  it("stops with a sentence that says what to put where, makes nothing, and works once it is done", async () => {
    const folder = temporaryFolder();
    const first = await writerOn(folder);
    await spend(first, 5n);
    await close(first);
    const path = join(folder, "usage.db");
    const [older, newer] = [`${path}.rescued-1764300000000`, `${path}.rescued-1764300000001`];
    writeFileSync(older, "");
    utimesSync(older, 1_764_300_000, 1_764_300_000);
    writeFileSync(newer, readFileSync(path));
    rmSync(path);

    await expect(writerOn(folder)).rejects.toThrow(`mv ${newer} ${path}`);
    expect(existsSync(path)).toBe(false);
    // An empty file in its place is nobody's books.
    writeFileSync(path, "");
    await expect(writerOn(folder)).rejects.toThrow("or move it out of the folder to start empty books");
    renameSync(newer, path);
    const restored = await writerOn(folder);
    await close(restored);
    expect((await readAllEvents(folder)).map(({ costNanoUsd }) => costNanoUsd)).toEqual(["5"]);
  });
});

describe("fault 19: the log of a program", () => {
  const linesOf = (path: string): string[] => readFileSync(path, "utf8").trimEnd().split("\n");

  it("turns over at a size and keeps three older files, so that it has an end", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "proxy.log");
    const log = openLogFile(path, 100);
    for (let i = 0; i < 40; i++) {
      log.write(Buffer.from(`line ${String(i).padStart(2, "0")} ${"x".repeat(40)}\n`));
      await log.end();
    }
    expect(readdirSync(folder).toSorted()).toEqual(["proxy.log", "proxy.log.1", "proxy.log.2", "proxy.log.3"]);
    const all = ["proxy.log.3", "proxy.log.2", "proxy.log.1", "proxy.log"].map((name) => join(folder, name));
    for (const file of all) expect(statSync(file).size).toBeLessThanOrEqual(100 + 49);
    // The newest lines, in their order and without a gap.
    const numbers = all.flatMap(linesOf).map((line) => Number(line.slice(5, 7)));
    expect(numbers.at(-1)).toBe(39);
    expect(numbers).toEqual(numbers.map((_number, i) => 39 - numbers.length + 1 + i));
    expect(numbers.length).toBeGreaterThanOrEqual(10);
  });

  it("goes on where the last start ended", async () => {
    const path = join(temporaryFolder(), "proxy.log");
    writeFileSync(path, `${"x".repeat(200)}\n`);
    const log = openLogFile(path, 100);
    log.write(Buffer.from("new\n"));
    await log.end();
    expect([readFileSync(path, "utf8"), statSync(`${path}.1`).size]).toEqual(["new\n", 201]);
  });

  it("of a disk that takes nothing is dropped and counted, throws nothing, and goes on when it takes something", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "logs", "proxy.log");
    const log = openLogFile(path);
    for (let i = 0; i < 3; i++) {
      log.write(Buffer.from("0123456789"));
      await log.end();
    }
    expect(existsSync(path)).toBe(false);
    mkdirSync(join(folder, "logs"));
    log.write(Buffer.from("it works again\n"));
    await log.end();
    // It is said once.
    log.write(Buffer.from("as before\n"));
    await log.end();
    expect(readFileSync(path, "utf8")).toBe(
      "30 bytes of this log were dropped: the disk did not take them\nit works again\nas before\n",
    );
  });

  it.runIf(existsSync("/dev/full"))("of a full disk is dropped too", async () => {
    const log = openLogFile("/dev/full");
    for (let i = 0; i < 10; i++) log.write(Buffer.from("0123456789"));
    await expect(log.end()).resolves.toBeUndefined();
  });

  it("holds no more than a megabyte of what waits, and counts the rest", async () => {
    const path = join(temporaryFolder(), "proxy.log");
    const log = openLogFile(path);
    // Nothing is written within this turn of the loop: all but a first piece waits.
    for (let i = 0; i < 50; i++) log.write(Buffer.alloc(100_000, 0x61));
    await log.end();
    log.write(Buffer.from("end\n"));
    await log.end();
    const text = readFileSync(path, "utf8");
    const dropped = Number(/(\d+) bytes of this log were dropped/.exec(text)?.[1]);
    const kept = text.split("a").length - 1;
    expect(kept).toBeLessThanOrEqual(1_148_576);
    expect(dropped).toBeGreaterThan(3_000_000);
    expect(text.endsWith("end\n")).toBe(true);
  });
});
