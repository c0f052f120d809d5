// The Postgres server that the books are on: what it has to be, what stands between, and one that takes its place.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { migratePostgres } from "../../ledger/postgres.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { isTurnOf } from "../skipped.ts";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { answerSlowly, slowChat, slowChatNanoUsd } from "../fake/slow-chat.ts";
import { hasPgBouncer, startPgBouncer } from "../pgbouncer.ts";
import { ask, hasPostgres, rowsOf, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { readAllEvents, startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

let asked = 0;

/** Asks one after the other until told to end, and returns what was answered in full. */
async function askAll(
  proxy: RunningProxy,
  isOver: () => boolean,
): Promise<{ n: number; status: number | undefined }[]> {
  const saw: { n: number; status: number | undefined }[] = [];
  while (!isOver()) {
    const n = (asked += 1);
    try {
      const answer = await fetch(`${proxy.url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer sk-test-server-key" },
        body: slowChat(n, n % 2 === 0),
      });
      await answer.text();
      saw.push({ n, status: answer.status });
    } catch {
      saw.push({ n, status: undefined });
    }
  }
  return saw;
}

describe.skipIf(!hasPostgres || !isTurnOf(2, 4, "the server of the books"))("the server of the books", () => {
  let server: PostgresServer;
  let provider: FakeProvider;
  let made = 0;
  beforeAll(async () => {
    server = await startPostgres({ tls: true });
    provider = await startFakeProvider(answerSlowly);
  }, 60_000);
  afterAll(async () => {
    await provider?.close();
    await server?.stop();
  });
  const books = async (): Promise<string> => {
    const url = await server.database(`server_${(made += 1)}`);
    await migratePostgres(url);
    return url;
  };
  const start = (url: string, more: { [name: string]: string } = {}): Promise<RunningProxy> =>
    startProxy(provider.url, { KEYMETER_LEDGER_URL: url, ...more });
  const refused = async (url: string, more: { [name: string]: string } = {}): Promise<string> => {
    try {
      await (await start(url, more)).stop();
    } catch (error) {
      return (error as Error).message;
    }
    return "it started";
  };

  it("two proxies that differ in what all have to agree on: the second one says in what", async () => {
    const url = await books();
    const first = await start(url);
    const same = { KEYMETER_PEPPER: readFileSync(join(first.dataDir, "pepper"), "utf8").trim() };
    expect(await refused(url)).toContain("kept with another proxy.pepper");
    expect(await refused(url, { ...same, KEYMETER_TIMEZONE: "Asia/Tokyo" })).toContain("kept with another timezone");
    expect(await refused(url, { ...same, KEYMETER_CAP_MODE: "observe" })).toContain("kept with another proxy.cap_mode");
    await (await start(url, same)).stop();
    await first.stop();
  });

  it("a clock that is off is told before anything is admitted", async () => {
    const url = await books();
    const open = (offMs: number) =>
      openWriter({
        url,
        name: "test",
        zone: "UTC",
        capMode: "enforce",
        tagsInBudgets: false,
        agreed: {},
        orphanSeconds: Infinity,
        now: () => Date.now() + offMs,
      });
    await expect(open(3_000)).rejects.toThrow(/ms ahead of Postgres's; at most 2000 are allowed/);
    await expect(open(-3_000)).rejects.toThrow(/ms behind Postgres's/);
    await (await open(-1_500)).close();
    expect(await rowsOf(url, "SELECT 1 FROM usage.nodes WHERE state = 'live'", [])).toEqual([]);
  });

  it("one that may lose what it has committed is refused, where that has to survive a power cut", async () => {
    const url = await books();
    const name = new URL(url).pathname.slice(1);
    await ask(url, `ALTER DATABASE ${name} SET synchronous_commit = off`);
    expect(await refused(url)).toMatch(/has synchronous_commit off: a power cut there takes what was booked/);
    expect(await refused(url, { KEYMETER_DURABILITY: "process" })).toBe("it started");
  });

  it("programs run as a role that can change no event, no record of the audit and no table", async () => {
    const url = await books();
    await ask(url, "CREATE ROLE programs LOGIN");
    const own = url.replace("keymeter@", "programs@");
    expect(await refused(own)).toMatch(/its role may not do that|has no books/);
    const migrated = await runKeymeter(
      { dataDir: temporaryFolder(), place: url, opsUrl: "http://127.0.0.1:1" },
      "ledger",
      "migrate",
      "--programs",
      "programs",
    );
    expect(migrated.text).toContain("is up to date");
    const proxy = await start(own);
    let left = 20;
    const saw = await askAll(proxy, () => left-- === 0);
    expect(saw.every(({ status }) => status === 200)).toBe(true);
    await proxy.createKey({ name: "of the role" });
    expect(await proxy.change({ type: "removeLimits", scope: "org" })).toBe(409);
    expect((await proxy.events()).length).toBe(20);
    await proxy.stop();
    for (const text of [
      "UPDATE usage.events SET cost_nano_usd = 0",
      "DELETE FROM usage.events",
      "DELETE FROM usage.audit",
      "UPDATE usage.audit SET actor = 'x'",
      "DELETE FROM usage.sealed_days",
      "ALTER TABLE usage.events ADD COLUMN x bigint",
      "DROP TABLE billing.bill_days",
      "CREATE TABLE usage.x (y bigint)",
      "UPDATE usage.migrations SET digest = 'x'",
    ])
      await expect(ask(own, text), text).rejects.toThrow(/permission denied|must be owner/);
    const collected = await runKeymeter(
      { dataDir: proxy.dataDir, place: own, opsUrl: "http://127.0.0.1:1" },
      "spend",
      "--json",
    );
    expect(collected.code).toBe(0);
  });

  it("over TLS it is who its certificate says, or it is not used", async () => {
    const url = await books();
    await (await start(`${url}?sslmode=verify-full&sslrootcert=${server.certificate}`)).stop();
    const others = join(temporaryFolder(), "other.crt");
    writeFileSync(others, readFileSync(new URL("../fake/other-ca.pem", import.meta.url)));
    expect(await refused(`${url}?sslmode=verify-full&sslrootcert=${others}`)).toMatch(/certificate/);
    expect(
      await refused(`${url.replace("127.0.0.1", "localhost")}?sslmode=verify-full&sslrootcert=${server.certificate}`),
    ).toMatch(/certificate/);
  });

  it.skipIf(!hasPgBouncer)("a pooler in transaction mode may stand between", async () => {
    const url = await books();
    const pooler = await startPgBouncer(url);
    const before = provider.journal.length;
    const proxies = [await start(pooler.url)];
    const pepper = readFileSync(join(proxies[0]?.dataDir ?? "", "pepper"), "utf8").trim();
    proxies.push(await start(pooler.url, { KEYMETER_PEPPER: pepper }));
    const set = await proxies[0]?.setBudget({ amountNanoUsd: 10n ** 15n, kind: "hard", mode: "strict" });
    const until = Date.now() + 1_500;
    const saw = (
      await Promise.all(
        proxies.flatMap((proxy) => Array.from({ length: 8 }, () => askAll(proxy, () => Date.now() > until))),
      )
    ).flat();
    expect(saw.filter(({ status }) => status !== 200)).toEqual([]);
    const events = await readAllEvents(pooler.url);
    expect(events.length).toBe(provider.journal.length - before);
    expect(events.length).toBe(saw.length);
    const sum = saw.reduce((total, { n }) => total + BigInt(slowChatNanoUsd(n)), 0n);
    expect(events.reduce((total, { costNanoUsd }) => total + BigInt(costNanoUsd ?? 0), 0n)).toBe(sum);
    for (const { proxy } of proxies) {
      expect((await proxy.writer.verify()).differences).toEqual([]);
      const states = await proxy.writer.states();
      expect(states.find(({ budget }) => budget.id === set?.id)).toMatchObject({
        settledNanoUsd: sum,
        reservedNanoUsd: 0n,
      });
    }
    for (const proxy of proxies) await proxy.stop();
    await pooler.stop();
  });

  it("a standby that is promoted and lacks the last moments: the proxies stop in a sentence, and begin anew from there", async () => {
    const primary = await startPostgres();
    const url = await primary.database("failover");
    await migratePostgres(url);
    const standby = await primary.standby();
    // Until it has followed.
    await expect.poll(() => rowsOf(standby.url("failover"), "SELECT 1", []).catch(() => [])).toEqual([[1]]);
    const first = await start(url);
    expect(
      await refused(standby.url("failover"), {
        KEYMETER_PEPPER: readFileSync(join(first.dataDir, "pepper"), "utf8").trim(),
      }),
    ).toMatch(/it is a read-only standby/);
    const load = async (proxy: RunningProxy, ms: number) => {
      const until = Date.now() + ms;
      return (await Promise.all(Array.from({ length: 6 }, () => askAll(proxy, () => Date.now() > until)))).flat();
    };
    const before = await load(first, 500);
    const count = "SELECT COUNT(*) FROM usage.events";
    await expect
      .poll(() => rowsOf(standby.url("failover"), count, []), { timeout: 5_000 })
      .toEqual([[String(before.length)]]);
    await standby.cutOff();
    const lost = await load(first, 500);
    await primary.kill();
    await standby.takeOver();
    await expect
      .poll(() => first.proxy.writer.trouble(), { timeout: 10_000 })
      .toMatch(/the database has lost what it had acknowledged/);
    expect((await load(first, 100)).every(({ status }) => status === 503)).toBe(true);
    await first.stop();
    const next = await start(url, { KEYMETER_DATA_DIR: first.dataDir });
    const after = await load(next, 300);
    expect([...before, ...lost, ...after].filter(({ status }) => status !== 200)).toEqual([]);
    const events = await readAllEvents(url);
    const ns = events.map(({ tags }) => Number(tags["n"])).toSorted((a, b) => a - b);
    expect(ns).toEqual([...before, ...after].map(({ n }) => n).toSorted((a, b) => a - b));
    expect((await next.proxy.writer.verify()).differences).toEqual([]);
    await next.stop();
    await primary.stop();
  });
});
