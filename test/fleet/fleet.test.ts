// Three real proxies on one set of books in a real Postgres: one cap over all of them, and nothing that is lost with one.
// Beside them stands the provider's own journal.
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { parseUsd } from "../../ledger/money.ts";
import { migratePostgres } from "../../ledger/postgres.ts";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { UNPROVEN_KEY_ID } from "../../ledger/usage/keys.ts";
import { answerSlowly, numberOf, slowChat, slowChatNanoUsd, slowChatUsage } from "../fake/slow-chat.ts";
import { askStanding, forkProxy, KILL_POINTS } from "../kill-proxy.ts";
import { hasPostgres, rowsOf, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { countOf, IS_CI, random, SEED } from "../seed.ts";
import { isTurnOf } from "../skipped.ts";
import { readAllEvents, temporaryFolder } from "../start-proxy.ts";

const PARALLEL = IS_CI ? 2_000 : 300;
const ROUNDS = countOf(4, 60, 200);
/** A lost node is given up after 15 s, and what it left open is booked after 20; where one comes back, later. */
const ORPHAN_SECONDS = 20;
const STOPPED_MS = countOf(2_000, 30_000, 40_000);
const BACK_SECONDS = 60;
/** Postgres is away for so long at last, and nothing is admitted meanwhile. */
const OUTAGE_MS = countOf(0, 20_000, 60_000);
const LOAD_MS = IS_CI ? 300 : 200;

type Running = { readonly child: ChildProcess; readonly url: string };
/** What a client saw of its request. */
type Saw = { readonly n: number; readonly status: number | undefined; readonly isWhole: boolean };

describe.skipIf(!hasPostgres || !isTurnOf(3, 4, "three proxies"))("three proxies", () => {
  let server: PostgresServer;
  let provider: FakeProvider;
  let url: string;
  let folder: string;
  let made = 0;
  let asked = 0;
  const begun: Running[] = [];
  /** Of clients whose connection failed. */
  const failures: string[] = [];
  beforeAll(async () => {
    console.log(`seed ${SEED}`);
    server = await startPostgres();
    provider = await startFakeProvider(answerSlowly);
  }, 60_000);
  afterAll(async () => {
    // What a failed test left would keep the run from its end.
    for (const { child } of begun) child.kill("SIGKILL");
    await provider?.close();
    await server?.stop();
  });
  beforeEach(async () => {
    url = await server.database(`fleet_${(made += 1)}`);
    await migratePostgres(url);
    folder = temporaryFolder();
    provider.script = answerSlowly;
  });

  const start = async (
    kill?: { readonly point: string; readonly nth: number },
    orphanSeconds = ORPHAN_SECONDS,
  ): Promise<Running> => {
    const proxy = await forkProxy(provider.url, folder, kill, {
      KEYMETER_LEDGER_URL: url,
      KEYMETER_ORPHAN_SECONDS: String(orphanSeconds),
      KEYMETER_DRAIN_SECONDS: "5",
    });
    begun.push(proxy);
    return proxy;
  };
  const stop = async ({ child }: Running): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGCONT");
    child.kill("SIGTERM");
    await exited;
  };
  const command = (): Promise<Writer> =>
    openWriter({
      url,
      name: "test",
      zone: "UTC",
      capMode: "enforce",
      tagsInBudgets: false,
      agreed: {},
      orphanSeconds: Infinity,
    });
  const setBudget = async (id: string, mode: "strict" | "expected", amountNanoUsd: bigint): Promise<void> => {
    const writer = await command();
    const budget = {
      id,
      scope: {},
      window: "total",
      kind: "hard",
      mode,
      amountNanoUsd,
      createdAtMs: Date.now(),
    } as const;
    await writer.change({ type: "setBudget", budget }, "test");
    await writer.close();
  };
  const ask = async (proxy: Running, stream = false): Promise<Saw & { readonly asked: string | null }> => {
    const n = (asked += 1);
    try {
      const answer = await fetch(`${proxy.url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer sk-test-fleet-client-key" },
        body: slowChat(n, stream),
      });
      const text = await answer.text();
      const isWhole = answer.status === 200 && (stream ? text.includes("[DONE]") : text.endsWith("}"));
      return { n, status: answer.status, isWhole, asked: answer.headers.get("x-keymeter-budget-asked-usd") };
    } catch (error) {
      failures.push(String((error as Error).cause ?? error));
      return { n, status: undefined, isWhole: false, asked: null };
    }
  };
  const arrivedSince = (before: number): number[] => provider.journal.slice(before).map(({ body }) => numberOf(body));
  const held = async (): Promise<number> =>
    Number((await rowsOf(url, "SELECT COUNT(*) FROM usage.reservations", []))[0]?.[0]);
  /** One event for each attempt that went out; exact where its client saw the end of it. */
  const check = (events: readonly EventRecord[], arrived: readonly number[], saw: readonly Saw[]): void => {
    const byN = Map.groupBy(events, ({ tags }) => Number(tags["n"]));
    // With a provider key that this proxy has not seen accepted yet, what was never sent is booked without names.
    for (const { keyId, outcome } of byN.get(Number.NaN) ?? [])
      expect([keyId, outcome]).toEqual([UNPROVEN_KEY_ID, "upstream_unreachable"]);
    byN.delete(Number.NaN);
    expect(new Set(arrived).size, "an attempt was sent twice").toBe(arrived.length);
    for (const [n, all] of byN) expect(all.length, `events of attempt ${n}: ${JSON.stringify(all)}`).toBe(1);
    for (const n of arrived) expect(byN.has(n), `attempt ${n} went out`).toBe(true);
    for (const { n, isWhole } of saw)
      if (isWhole)
        expect(byN.get(n)?.[0]).toMatchObject({
          usageState: "reported",
          usage: slowChatUsage(n),
          costNanoUsd: String(slowChatNanoUsd(n)),
        });
  };
  /** Memory is the books on each, and the parts of all are what was booked. */
  const standing = async (proxies: readonly Running[], events: readonly EventRecord[], id: string): Promise<void> => {
    const sum = String(events.reduce((total, { costNanoUsd }) => total + BigInt(costNanoUsd ?? 0), 0n));
    for (const { child } of proxies)
      expect(await askStanding(child)).toMatchObject({
        differences: [],
        reservedNanoUsd: "0",
        budgets: { [id]: [sum, "0"] },
      });
  };

  it(`let exactly seven of ${PARALLEL} parallel requests through, where a strict cap fits seven`, async () => {
    const proxies = await Promise.all([start(), start(), start()]);
    await setBudget("probe", "strict", 0n);
    const [proxy] = proxies;
    let bound = 0n;
    // The change binds every node within a second.
    await expect
      .poll(async () => (bound = parseUsd((await ask(proxy)).asked ?? "0")), { timeout: 2_000 })
      .toBeGreaterThan(0n);
    // A request that says a longer number may cost a token more.
    await setBudget("seven", "strict", 7n * bound + bound / 2n);
    await sleep(1_000);
    const before = provider.journal.length;
    let letGo = (): void => {};
    const isHeld = new Promise<void>((resolve) => (letGo = resolve));
    provider.script = async (...args) => {
      await isHeld;
      await answerSlowly(...args);
    };
    let refused = 0;
    const answers = Array.from({ length: PARALLEL }, async (_, i) => {
      const saw = await ask(proxies[i % 3] ?? proxy);
      if (saw.status === 402) refused += 1;
      return saw;
    });
    failures.length = 0;
    await expect.poll(() => [refused + failures.length, failures], { timeout: 180_000 }).toEqual([PARALLEL - 7, []]);
    await expect.poll(() => provider.journal.length - before).toBe(7);
    await sleep(300);
    expect(provider.journal.length - before).toBe(7);
    letGo();
    const saw = await Promise.all(answers);
    expect(saw.filter(({ isWhole }) => isWhole).length).toBe(7);
    const events = await readAllEvents(url);
    check(events, arrivedSince(before), saw);
    await standing(proxies, events, "seven");
    await Promise.all(proxies.map(stop));
  });

  it("let requests through up to a limit, and beyond it what one had not heard yet of the others", async () => {
    const proxies = await Promise.all([start(), start(), start()]);
    const writer = await command();
    const limits = { scope: "org", requestsPerMinute: 30, tokensPerMinute: undefined, bodyBytes: undefined };
    await writer.change({ type: "setLimits", limits: { ...limits, concurrent: undefined } }, "test");
    await sleep(1_000);
    const saw: number[] = [];
    const send = async (round: number): Promise<void> => {
      const { status } = await ask(proxies[round % 3] as Running);
      saw.push(status ?? 0);
    };
    for (let round = 0; round < 60; round++) {
      void send(round);
      await sleep(50);
    }
    await expect.poll(() => saw.length).toBe(60);
    const passed = saw.filter((status) => status === 200).length;
    console.log(`a limit of 30 a minute let ${passed} through, at 20 a second over three proxies`);
    expect(saw.filter((status) => status === 429).length).toBe(60 - passed);
    expect(passed).toBeGreaterThanOrEqual(30);
    // A second's traffic at most: what was under way, and on a machine that is busy.
    expect(passed).toBeLessThanOrEqual(30 + 20);
    await writer.close();
    await Promise.all(proxies.map(stop));
  });

  it(
    "lose nothing when one is killed, one stands still, and Postgres is started again",
    { timeout: 300_000 },
    async () => {
      const back = (): Promise<Running> => start(undefined, BACK_SECONDS);
      const [one, killed, stopped] = await Promise.all([back(), back(), back()]);
      await setBudget("all", "strict", 10n ** 15n);
      const before = provider.journal.length;
      // Each has seen the provider take the key: what it sends from now on is booked by name, whatever comes of it.
      const saw = await Promise.all([one, killed, stopped].map((proxy) => ask(proxy)));
      const over = new AbortController();
      const load = [one, killed, stopped].flatMap((proxy) =>
        Array.from({ length: 6 }, async (_, i) => {
          while (!over.signal.aborted && proxy.child.signalCode === null) saw.push(await ask(proxy, i % 2 === 0));
        }),
      );
      await sleep(LOAD_MS);
      killed.child.kill("SIGKILL");
      stopped.child.kill("SIGSTOP");
      await sleep(STOPPED_MS / 2);
      await server.kill();
      await sleep(LOAD_MS);
      await server.start();
      await sleep(STOPPED_MS / 2);
      stopped.child.kill("SIGCONT");
      await sleep(1_000);
      if (OUTAGE_MS > 0) {
        await server.kill();
        await sleep(OUTAGE_MS / 2);
        const soFar = provider.journal.length;
        expect(saw.at(-1)?.status).toBe(503);
        await sleep(OUTAGE_MS / 2);
        expect(provider.journal.length).toBe(soFar);
        await server.start();
        await sleep(1_000);
      }
      over.abort();
      await Promise.all(load);
      // What the killed one left is booked when it was given up for so long; its money stays held until then.
      if (IS_CI) await expect.poll(held, { timeout: 90_000, interval: 500 }).toBe(0);
      const arrived = arrivedSince(before);
      const open = new Set(
        (await rowsOf(url, "SELECT tags FROM usage.reservations", [])).map(([tags]) =>
          Number((JSON.parse(String(tags)) as { n: string }).n),
        ),
      );
      const events = await readAllEvents(url);
      check(
        events,
        arrived.filter((n) => !open.has(n)),
        saw,
      );
      expect(saw.filter(({ isWhole }) => isWhole).length).toBeGreaterThan(20);
      if (IS_CI) await standing([one, stopped], events, "all");
      await Promise.all([stop(one), stop(stopped)]);
    },
  );

  it(`book each attempt once over ${ROUNDS} kills, at named points and at random`, { timeout: 1_200_000 }, async () => {
    const next = random(SEED);
    await setBudget("all", "expected", 10n ** 15n);
    const before = provider.journal.length;
    const saw: Saw[] = [];
    const proxies = await Promise.all([start(), start()]);
    for (let round = 0; round < ROUNDS; round++) {
      const point = KILL_POINTS[Math.floor(next() * KILL_POINTS.length)] ?? "after_reserve";
      const isNamed = next() < 0.5;
      const victim = await start(isNamed ? { point, nth: 1 + Math.floor(next() * 12) } : undefined);
      const timer = setTimeout(() => victim.child.kill("SIGKILL"), isNamed ? 3_000 : 20 + next() * 200);
      await Promise.all(
        [...proxies, victim].flatMap((proxy) =>
          Array.from({ length: 3 }, async (_, i) => {
            while (victim.child.exitCode === null && victim.child.signalCode === null)
              saw.push(await ask(proxy, i % 2 === 0));
          }),
        ),
      );
      clearTimeout(timer);
      expect(victim.child.signalCode, `seed ${SEED}, round ${round}`).toBe("SIGKILL");
    }
    if (IS_CI) await expect.poll(held, { timeout: 120_000, interval: 500 }).toBe(0);
    const open = new Set(
      (await rowsOf(url, "SELECT tags FROM usage.reservations", [])).map(([tags]) =>
        Number((JSON.parse(String(tags)) as { n: string }).n),
      ),
    );
    const events = await readAllEvents(url);
    check(
      events,
      arrivedSince(before).filter((n) => !open.has(n)),
      saw,
    );
    if (IS_CI) await standing(proxies, events, "all");
    await Promise.all(proxies.map(stop));
    expect(saw.filter(({ isWhole }) => isWhole).length).toBeGreaterThan(ROUNDS);
  });
});
