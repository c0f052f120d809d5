// A wall clock that jumps under a writer and under a running proxy: nothing is dated by it until it is accepted.
// (What the clock itself takes for a jump is in clock.test.ts.)
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { UsageBooks } from "../../ledger/books.ts";
import { attemptAtMs } from "../../ledger/ids.ts";
import { openUsage } from "../../ledger/open.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";
import { SUBJECT } from "../usage-event.ts";
import { ask, close, readyz, spend, writerOn } from "./spending.ts";

const DAY_MS = 24 * 3_600_000;
const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
/** By how much less time has gone by since the machine was started than its wall clock says. */
const machine = vi.hoisted(() => ({ slowerMs: 0 }));
vi.mock("node:os", async (original) => {
  const os = await original<typeof import("node:os")>();
  return { ...os, uptime: () => os.uptime() - machine.slowerMs / 1000 };
});

let provider: FakeProvider;
beforeEach(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
});
afterEach(async () => {
  machine.slowerMs = 0;
  await provider.close();
});

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
