// A ledger that cannot commit: nothing is admitted that could not be booked, and nothing that was sent is lost.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import Database from "better-sqlite3";
import { describe, expect, it } from "vitest";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import { askStanding, forkProxy } from "../kill-proxy.ts";
import { IS_CI, SEED } from "../seed.ts";
import { readAllEvents, startProxy, temporaryFolder } from "../start-proxy.ts";
import { countSyncs, hasStrace, whileFailing } from "../strace.ts";

const ask = (url: string, user?: string): Promise<Response> =>
  fetch(`${url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-test-trouble-client" },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [], user }),
  });

it("while a stranger holds the file: 503 for what is new, the end after five seconds for what was sent, and the books whole when it is over", async () => {
  const provider = await startFakeProvider(json(chatAnswer()));
  const running = await startProxy(provider.url);
  let letGo = (): void => {};
  const held = new Promise<void>((resolve) => (letGo = resolve));
  provider.script = async (arrived, response, request) => {
    await held;
    await json(chatAnswer())(arrived, response, request);
  };
  const sent = ask(running.url);
  await expect.poll(() => provider.journal.length).toBe(1);

  const stranger = new Database(join(running.dataDir, "usage.db"));
  stranger.exec("BEGIN IMMEDIATE");
  letGo();
  const started = Date.now();
  const answer = await sent;
  expect(answer.status).toBe(200);
  expect(await answer.json()).toEqual(chatAnswer());
  expect(Date.now() - started).toBeGreaterThan(4_500);
  expect((await running.events()).length).toBe(0);

  const refused = await ask(running.url);
  expect(refused.status).toBe(503);
  expect(await refused.text()).toContain("nothing is sent that could not be booked");
  expect((await fetch(`${running.opsUrl}/readyz`)).status).toBe(503);
  expect((await fetch(`${running.opsUrl}/healthz`)).status).toBe(200);
  const metrics = await (await fetch(`${running.opsUrl}/metrics`)).text();
  expect(metrics).toContain("keymeter_late_commits_total 1");
  expect(metrics).toContain("keymeter_ledger_up 0");
  expect(provider.journal.length).toBe(1);

  stranger.exec("ROLLBACK");
  stranger.close();
  await expect.poll(async () => (await running.events()).length, { timeout: 10_000 }).toBe(1);
  expect((await running.events())[0]).toMatchObject({ usageState: "reported", outcome: "complete" });
  expect((await ask(running.url)).status).toBe(200);
  expect(await running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  await expect.poll(async () => (await fetch(`${running.opsUrl}/readyz`)).status).toBe(200);
  expect(await (await fetch(`${running.opsUrl}/metrics`)).text()).toContain('outcome="complete"} 2');
  await running.stop();
  await provider.close();
});

it("while every write to the disk fails: 503, nothing sent; when it works again the books are whole", async () => {
  const provider = await startFakeProvider(json(chatAnswer()));
  const dataDir = temporaryFolder();
  const { child, url } = await forkProxy(provider.url, dataDir);
  const exited = new Promise((resolve) => child.once("exit", resolve));
  // Writes beyond the first bytes of a file fail with EFBIG, which SQLite reports as an I/O error: as a broken disk
  // would.
  const limitFiles = (bytes: string): void =>
    void execFileSync("prlimit", ["--pid", String(child.pid), `--fsize=${bytes}:unlimited`]);
  expect((await ask(url)).status).toBe(200);
  limitFiles("512");
  for (let i = 0; i < 3; i++) {
    const refused = await ask(url);
    expect(refused.status).toBe(503);
    expect(await refused.text()).toContain("nothing is sent that could not be booked");
  }
  expect(provider.journal.length).toBe(1);
  limitFiles("unlimited");
  await expect.poll(async () => (await ask(url)).status).toBe(200);
  child.kill("SIGTERM");
  await exited;

  expect((await readAllEvents(dataDir)).length).toBe(provider.journal.length);
  const again = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir });
  expect(again.proxy.writer.recovered).toBe(0);
  expect(await again.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  await again.stop();
  await provider.close();
});

/** How a disk fails, and which system calls then fail how. */
const FAILURES = [
  ["is full", "pwrite64,ftruncate", "ENOSPC"],
  ["became read-only", "pwrite64,ftruncate", "EROFS"],
  ["has I/O errors", "pwrite64", "EIO"],
  ["does not keep what is written", "fsync,fdatasync", "EIO"],
] as const;

describe.skipIf(!hasStrace)("a disk that fails under the running proxy", () => {
  it.each(IS_CI ? FAILURES : FAILURES.slice(SEED % FAILURES.length).slice(0, 1))(
    "and %s: nothing new is sent, what was sent is booked when it is over, and nothing is lost",
    async (_what, calls, error) => {
      let letGo = (): void => {};
      const held = new Promise<void>((resolve) => (letGo = resolve));
      const provider = await startFakeProvider(async (arrived, response, request) => {
        const { user } = JSON.parse(arrived.body.toString("utf8")) as { user?: string };
        if (user === "slow") await held;
        await json(chatAnswer())(arrived, response, request);
      });
      const dataDir = temporaryFolder();
      const { child, url } = await forkProxy(provider.url, dataDir);
      const exited = new Promise((resolve) => child.once("exit", resolve));
      expect((await ask(url)).status).toBe(200);
      const slow = ask(url, "slow");
      await expect.poll(() => provider.journal.length).toBe(2);

      // Where only the way from the log to the disk fails, one is sent before that is known: its client gets no byte.
      const sent = calls.startsWith("fsync") ? 1 : 0;
      await whileFailing(child.pid ?? 0, calls, error, async () => {
        for (let i = 0; i < 5; i++) {
          const refused = await ask(url);
          expect(refused.status).toBe(503);
          expect(await refused.text()).toContain(
            i < sent ? "no byte goes out before" : "nothing is sent that could not be booked",
          );
        }
        letGo();
        // Its client gets its answer after five seconds; its event is tried on.
        expect((await slow).status).toBe(200);
      });
      expect(provider.journal.length).toBe(2 + sent);
      await expect.poll(async () => (await ask(url)).status, { timeout: 10_000 }).toBe(200);
      const { differences, reservedNanoUsd } = await askStanding(child);
      expect({ differences, reservedNanoUsd }).toEqual({ differences: [], reservedNanoUsd: "0" });
      child.kill("SIGTERM");
      await exited;
      const events = await readAllEvents(dataDir);
      expect(events.length).toBe(provider.journal.length);
      expect(events.every(({ usageState, outcome }) => usageState === "reported" && outcome === "complete")).toBe(true);
      await provider.close();
    },
  );

  it("has been asked to keep the event before the answer ends, and first the reservation where the setting says so", async () => {
    const provider = await startFakeProvider(json(chatAnswer()));
    const counted: { [durability: string]: number } = {};
    let tookMs = 0;
    const requests = 20;
    for (const durability of ["power", "power_before_send", "process"]) {
      const dataDir = temporaryFolder();
      const { child, url } = await forkProxy(provider.url, dataDir, undefined, { KEYMETER_DURABILITY: durability });
      const exited = new Promise((resolve) => child.once("exit", resolve));
      await ask(url);
      counted[durability] = await countSyncs(child.pid ?? 0, async () => {
        const startedMs = Date.now();
        for (let i = 0; i < requests; i++) expect((await ask(url)).status).toBe(200);
        tookMs = Date.now() - startedMs;
      });
      child.kill("SIGTERM");
      await exited;
    }
    expect(counted["power"]).toBeGreaterThanOrEqual(requests);
    expect(counted["power_before_send"]).toBeGreaterThanOrEqual(2 * requests);
    // By the clock, ten a second, not by the request.
    expect(counted["process"]).toBeLessThanOrEqual(tookMs / 100 + 5);
    await provider.close();
  });
});
