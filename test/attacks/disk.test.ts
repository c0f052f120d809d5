// The disk against the books: one that hangs, and a log that is deleted while it is in use.
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import Database from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { forkProxy } from "../kill-proxy.ts";
import { IS_CI } from "../seed.ts";
import { readAllEvents, startProxy, temporaryFolder } from "../start-proxy.ts";
import { hasStrace, whileFailing } from "../strace.ts";
import { ask, readyz } from "./spending.ts";

let provider: FakeProvider;
beforeEach(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await provider.close();
});

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
