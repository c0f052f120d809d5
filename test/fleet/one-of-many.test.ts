// What one of several does for all: sealing days, writing bills and notices. And what any of them changes binds all.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { UsageBooks } from "../../ledger/books.ts";
import { firstAttemptId } from "../../ledger/ids.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { migratePostgres, poolOf } from "../../ledger/postgres.ts";
import type { Pool } from "../../ledger/postgres.ts";
import { checkAudit } from "../../ledger/usage/audit.ts";
import { sealDay } from "../../ledger/usage/nodes/seal.ts";
import { readSealDifferences, readSealedUntil } from "../../ledger/usage/seals.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { issueVirtualKey } from "../../ledger/usage/keys.ts";
import { ask, hasPostgres, rowsOf, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { event, SUBJECT } from "../usage-event.ts";
import { isTurnOf } from "../skipped.ts";

const DAY_MS = 86_400_000;

describe.skipIf(!hasPostgres || !isTurnOf(3, 4, "one of several nodes"))("of several nodes", () => {
  let server: PostgresServer;
  let url: string;
  let pool: Pool;
  let books: UsageBooks;
  let writers: Writer[];
  let made = 0;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.stop());
  beforeEach(async () => {
    url = await server.database(`one_of_many_${(made += 1)}`);
    await migratePostgres(url);
    pool = poolOf(url);
    const opened = await openUsage(url);
    if (!opened) throw new Error("no books");
    books = opened;
    writers = await Promise.all(["one", "other"].map(open));
  });
  afterEach(async () => {
    for (const writer of writers) await writer.close();
    await books.close();
    await pool.end();
  });

  // Without duties: what a node does by itself is called here.
  const open = (name: string): Promise<Writer> =>
    openWriter({
      url,
      name,
      zone: "UTC",
      capMode: "enforce",
      tagsInBudgets: false,
      agreed: { timezone: "UTC" },
      orphanSeconds: Infinity,
    });

  it("one seals a day when all have said that they make no more ids of it; what work brings later is in the audit", async () => {
    const [one, other] = writers as [Writer, Writer];
    const today = Date.now() - (Date.now() % DAY_MS);
    const id = firstAttemptId(today - DAY_MS + 3_600_000);
    // Work of that day goes on.
    const request = { attemptId: id + 256, subject: SUBJECT, boundNanoUsd: 9n, expectedNanoUsd: 9n };
    await one.reserve(request, "chat_completions", undefined);
    expect(await one.suspend(id + 256, "work_1", [])).toBe(true);
    await one.settle(event(id, 5n));
    await other.settle(event(other.nextAttemptId(), 7n));
    await expect.poll(() => sealDay(pool, books, Date.now()), { timeout: 5_000 }).toBe(true);
    const sealed = new Date(today - DAY_MS).toISOString().slice(0, 10);
    expect(await readSealedUntil(books)).toBe(sealed);
    // Its result comes by another node.
    await other.settle(event(id + 256, 4n));
    expect(await rowsOf(url, "SELECT COUNT(*) FROM usage.late", [])).toEqual([["1"]]);
    await sealDay(pool, books, Date.now());
    expect(await rowsOf(url, "SELECT COUNT(*) FROM usage.late", [])).toEqual([["0"]]);
    expect(await readSealDifferences(books)).toEqual([]);
    expect((await checkAudit(books)).broken).toBeUndefined();
    expect(await readFoldDifferences(books)).toEqual([]);
    // A new attempt of that day is none.
    await expect(one.reserve({ ...request, attemptId: id + 512 }, "chat_completions", undefined)).rejects.toThrow(
      "is dated into a day that is sealed",
    );
  });

  it("a batch may be of several hours of a day, and, where days begin at half past, of two days in an hour", async () => {
    const kolkata = await server.database(`half_past_${made}`);
    await migratePostgres(kolkata);
    const writer = await openWriter({
      url: kolkata,
      name: "half past",
      zone: "Asia/Kolkata",
      capMode: "enforce",
      tagsInBudgets: false,
      agreed: {},
      orphanSeconds: Infinity,
    });
    const at = (time: string, n: number): number => firstAttemptId(Date.parse(`2026-11-24T${time}Z`)) + n;
    const ids = [at("17:50:00", 1), at("18:10:00", 1), at("18:40:00", 1), at("18:40:00", 2), at("19:20:00", 1)];
    // Held back by one that is on its way, they go together.
    const first = writer.settle(event(at("17:00:00", 1), 1n));
    await Promise.all([first, ...ids.map((id, i) => writer.settle(event(id, 10n ** BigInt(i + 1))))]);
    const rows = await rowsOf(
      kolkata,
      "SELECT day, SUM(requests), SUM(cost_nano_usd) FROM usage.rollup_day GROUP BY 1 ORDER BY 1",
      [],
    );
    expect(rows).toEqual([
      ["2026-11-24", "3", "111"],
      ["2026-11-25", "3", "111000"],
    ]);
    const [batches] = await rowsOf(kolkata, "SELECT last_batch::int FROM usage.nodes", []);
    // Each by itself would be one batch each.
    expect(batches?.[0]).toBeLessThan(5);
    await writer.close();
  });

  it("none seals while one may still make ids of the day", async () => {
    const [one] = writers as [Writer];
    await one.settle(event(firstAttemptId(Date.now() - DAY_MS), 5n));
    await one.settle(event(one.nextAttemptId(), 7n));
    await ask(
      url,
      "INSERT INTO usage.nodes SELECT 200, epoch, NULL, 'slow', 'live', clock_timestamp(), clock_timestamp(), 1, 0, '', answer FROM usage.nodes LIMIT 1",
    );
    expect(await sealDay(pool, books, Date.now())).toBe(false);
    await ask(url, "UPDATE usage.nodes SET state = 'fenced' WHERE node = 200");
    await expect.poll(() => sealDay(pool, books, Date.now()), { timeout: 5_000 }).toBe(true);
  });

  it("any changes the register, and it binds the others: the audit is one chain, and plays through to what is there", async () => {
    const [one, other] = writers as [Writer, Writer];
    const budget = { scope: {}, window: "total", kind: "hard", mode: "strict", createdAtMs: Date.now() } as const;
    const told = new Promise<void>((resolve) => other.onChanged(resolve));
    const { key } = issueVirtualKey({ name: "one", team: "search" }, Date.now());
    await Promise.all([
      one.change({ type: "setBudget", budget: { ...budget, id: "cap", amountNanoUsd: 10n } }, "one"),
      other.change({ type: "createKey", key, digest: "a".repeat(64) }, "other"),
    ]);
    const ask = (writer: Writer): Promise<boolean> =>
      writer
        .reserve(
          { attemptId: writer.nextAttemptId(), subject: SUBJECT, boundNanoUsd: 6n, expectedNanoUsd: 6n },
          "chat_completions",
          undefined,
        )
        .then(({ admitted }) => admitted);
    expect([await ask(other), await ask(one)]).toEqual([true, false]);
    await one.change({ type: "freeze", freeze: { id: "f", scope: {}, reason: "r", createdAtMs: Date.now() } }, "one");
    expect(await ask(other)).toBe(false);
    await other.change({ type: "lift", freezeId: "f" }, "other");
    await one.change(
      { type: "setBudget", budget: { ...budget, id: "more", amountNanoUsd: 20n, createdAtMs: Date.now() } },
      "one",
    );
    // What is open holds in the new budget too.
    expect([await ask(other), await ask(one), await ask(one)]).toEqual([true, true, false]);
    await told;
    expect((await checkAudit(books)).broken).toBeUndefined();
    expect(await readRegisterDifferences(books)).toEqual([]);
    for (const writer of writers) expect((await writer.verify()).differences).toEqual([]);
  });

  it("each hears what passed at all others, whom it adds up; of one that is not heard of nothing is under way", async () => {
    const [one, other] = writers;
    const third = await open("third");
    writers.push(third);
    expect(await one?.tellPassed([{ scope: "org", seconds: [[100, 2, 50]], open: 1 }])).toEqual([]);
    expect(
      await other?.tellPassed([
        {
          scope: "org",
          seconds: [
            [100, 1, -5],
            [101, 4, 0],
          ],
          open: 2,
        },
        { scope: "team:ads", seconds: [], open: 1 },
      ]),
    ).toEqual([{ scope: "org", seconds: [[100, 2, 50]], open: 1 }]);
    expect(await third.tellPassed([])).toEqual([
      {
        scope: "org",
        seconds: [
          [100, 3, 45],
          [101, 4, 0],
        ],
        open: 3,
      },
      { scope: "team:ads", seconds: [], open: 1 },
    ]);
    await ask(url, "UPDATE usage.passed SET at = at - interval '4 seconds'");
    expect((await third.tellPassed([])).map(({ open: underWay }) => underWay)).toEqual([0, 0]);
    await ask(url, "UPDATE usage.passed SET at = at - interval '70 seconds'");
    expect(await third.tellPassed([])).toEqual([]);
  });

  it("one writes the bills: another stands by, and follows it when it is not heard of; then the first writes nothing", async () => {
    const first = await openToWrite(url, "billing");
    await expect(openToWrite(url, "billing")).rejects.toThrow(/the writer of billing on .* leads/);
    const waited: string[] = [];
    const following = openToWrite(url, "billing", undefined, (who) => waited.push(who));
    await sleep(300);
    expect(waited).toHaveLength(1);
    await first.transaction(async () => undefined);
    await ask(url, "UPDATE usage.leaders SET seen_at = seen_at - interval '1 minute'");
    const second = await following;
    await second.transaction(async () => undefined);
    await expect(first.transaction(async () => undefined)).rejects.toThrow("leads by now");
    await first.close();
    await second.transaction(async () => undefined);
    await second.close();
    // Who ends lets the next one lead at once.
    const third = await openToWrite(url, "billing");
    await third.close();
  });
});
