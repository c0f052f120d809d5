// Whose spend is, corrected afterwards: sums, seals and the audit agree before and after, against sums that are added
// up here; and what somebody changes behind the product's back is found.
import { answerFrom } from "../../ledger/asking.ts";
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readAdjustmentDifferences } from "../../ledger/usage/adjustments.ts";
import { checkAudit } from "../../ledger/usage/audit.ts";
import { issueVirtualKey } from "../../ledger/usage/keys.ts";
import { readKeyOwners } from "../../ledger/usage/budget-spend.ts";
import { readMetered, refreshMetered } from "../../ledger/billing/metered.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { readReassignDifferences, stepsOf } from "../../ledger/usage/reassign.ts";
import { planReassignment } from "../../ledger/usage/reassign-plan.ts";
import { askDayToSeal, readSealDifferences } from "../../ledger/usage/seals.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import { createCalendar } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const HOUR_MS = 3_600_000;
const T0 = Date.parse("2026-10-05T00:00:00Z");
const ZONE = "Europe/Berlin";
const KEY = "key_own";

let folder: string;
let path: string;
let clock: number;
let writer: Writer;
let books: UsageBooks;
/** What was booked, as this test knows it. */
let booked: { atMs: number; keyId: string; team: string; cost: bigint; attemptId: number }[];

beforeEach(async () => {
  folder = temporaryFolder();
  path = join(folder, "usage.db");
  clock = T0;
  booked = [];
  writer = await openWriter({ path, durability: "process", zone: ZONE, capMode: "enforce", now: () => clock });
  await register(KEY, "");
  const read = await openUsage(folder);
  if (!read) throw new Error("no books");
  books = read;
});
afterEach(async () => {
  await books.close();
  await writer.close();
});

async function register(id: string, team: string): Promise<void> {
  const { key } = issueVirtualKey({ name: id, team }, clock);
  await writer.change({ type: "createKey", key: { ...key, id }, digest: id.padEnd(64, "0") }, "test");
}

async function book(atMs: number, team: string, cost: bigint, keyId = KEY): Promise<number> {
  clock = Math.max(clock, atMs);
  const attemptId = writer.nextAttemptId();
  booked.push({ atMs: clock, keyId, team, cost, attemptId });
  await writer.settle(event(attemptId, cost, { keyId, team, project: "", env: "", usage: { input: 10 } }));
  return attemptId;
}

/** The writer seals what is over when it opens, and every minute. */
async function sealed(): Promise<void> {
  await writer.close();
  writer = await openWriter({ path, durability: "process", zone: ZONE, capMode: "enforce", now: () => clock });
  await expect
    .poll(() => answerFrom(sqliteOf(books), askDayToSeal(Date.now())), { timeout: 20_000, interval: 20 })
    .toBeUndefined();
}

async function move(from: string, to: string, sinceMs: number): Promise<number> {
  let steps = 0;
  const asked = { keyId: KEY, from: { team: [from] }, to: { team: to }, current: {}, spans: [{ sinceMs }] };
  for await (const step of stepsOf(books, asked)) {
    await writer.change({ type: "reassign", ...step }, "test");
    steps += 1;
  }
  return steps;
}

async function teams(): Promise<Map<string, bigint>> {
  const rows = await readSpend(books, ["team"], "2026-10-01", "2026-11-01");
  return new Map(rows.map(({ group, costNanoUsd }) => [group.team ?? "", costNanoUsd]));
}

/** What each team should have: booked as it was, but the key's own spend since an instant under `to`, where it named
 *  nothing or `from`. */
function expected(sinceMs: number, from: string, to: string): Map<string, bigint> {
  const sums = new Map<string, bigint>();
  for (const { atMs, keyId, team, cost } of booked) {
    const isMoved = keyId === KEY && atMs >= sinceMs && (team === from || team === "");
    const owner = isMoved ? to : team;
    sums.set(owner, (sums.get(owner) ?? 0n) + cost);
  }
  return sums;
}

async function disagreements(database = books): Promise<string[]> {
  const { broken } = await checkAudit(database);
  return [
    ...(broken ? [`audit ${broken.seq}: ${broken.why}`] : []),
    ...(await readFoldDifferences(database)),
    ...(await readSealDifferences(database)),
    ...(await readAdjustmentDifferences(database)),
    ...(await readReassignDifferences(database)),
    ...(await readRegisterDifferences(database)),
  ];
}

/** Four days of one key without a team, one that names its own by a tag, and another key. */
async function writeDays(): Promise<void> {
  const next = random(SEED);
  for (let hour = 0; hour < 96; hour++) {
    const atMs = T0 + hour * HOUR_MS + Math.floor(next() * HOUR_MS * 0.9);
    await book(atMs, "", BigInt(Math.floor(next() * 1e9)));
    if (hour % 3 === 0) await book(atMs + 1, "tagged", BigInt(Math.floor(next() * 1e9)));
    if (hour % 5 === 0) await book(atMs + 2, "", BigInt(Math.floor(next() * 1e9)), "key_other");
  }
  // Corrections of events that will move, and of one that will not.
  const amounts = [-5_000_000n, 7_000_000n];
  const of = [booked[3], booked.at(-4)];
  await writer.change(
    {
      type: "adjust",
      adjustments: of.map((one, i) => ({
        source: "bill",
        sourceId: `bill ${i}`,
        attemptId: one?.attemptId ?? 0,
        amountNanoUsd: amounts[i] ?? 0n,
        unpriced: 0,
        inferred: 0,
        detail: "test",
      })),
    },
    "test",
  );
  of.forEach((one, i) => {
    if (one) one.cost += amounts[i] ?? 0n;
  });
}

describe(`spend that is another's (seed ${SEED})`, () => {
  it("moves with its sums and corrections, in sealed days too; what requests named themselves stays", async () => {
    await writeDays();
    await sealed();
    expect(await disagreements()).toEqual([]);
    const since = T0 + 30 * HOUR_MS;
    const plan = await planReassignment(
      books,
      { keyId: KEY, from: {}, to: { team: "search" } },
      [{ sinceMs: since }],
      createCalendar(ZONE),
      clock,
    );
    await move("", "search", since);
    expect(await teams()).toEqual(expected(since, "", "search"));
    expect(plan.costNanoUsd).toBe((await teams()).get("search"));
    expect(await disagreements()).toEqual([]);
    // Once more is nothing more; and it may move on.
    await move("", "search", since);
    expect(await teams()).toEqual(expected(since, "", "search"));
    await move("search", "growth", since);
    expect(await teams()).toEqual(expected(since, "", "growth"));
    clock += 48 * HOUR_MS;
    await book(clock, "growth", 1n);
    await sealed();
    expect(await disagreements()).toEqual([]);
  });

  it("is in what is charged back, whose folds are made anew", async () => {
    await writeDays();
    const billing = await openToWrite(folder, "billing", "process");
    const byTeam = async (): Promise<Map<string, bigint>> => {
      const sums = new Map<string, bigint>();
      await refreshMetered({ usage: books, billing }, "2026-10-05", "2026-10-10", clock);
      await readMetered({ usage: books, billing }, "2026-10-05", "2026-10-10", (_day, _provider, lines) => {
        for (const { team, costNanoUsd } of lines) sums.set(team, (sums.get(team) ?? 0n) + costNanoUsd);
      });
      return sums;
    };
    expect(await byTeam()).toEqual(expected(Infinity, "", ""));
    await move("", "search", T0);
    expect(await byTeam()).toEqual(expected(T0, "", "search"));
    await billing.close();
  });

  it("goes in steps that no request waits long for, and more at once is refused", async () => {
    await Promise.all(Array.from({ length: 4_100 }, async () => book(T0, "", 1n)));
    expect(await move("", "search", T0)).toBe(3);
    expect(await teams()).toEqual(new Map([["search", 4_100n]]));
    expect(await disagreements()).toEqual([]);
    await expect(
      writer.change(
        {
          type: "reassign",
          keyId: KEY,
          first: 0,
          end: Number.MAX_SAFE_INTEGER,
          from: { team: ["search"] },
          to: { team: "x" },
          current: {},
        },
        "test",
      ),
    ).rejects.toThrow(/more than 4000 events would move at once/);
    expect(await teams()).toEqual(new Map([["search", 4_100n]]));
  });

  it("counts in budgets at once: what moved in is spent, what moved out is free", async () => {
    const budget = (id: string, team: string) =>
      ({
        id,
        scope: { team },
        window: "month",
        amountNanoUsd: 100n,
        kind: "hard",
        mode: "strict",
        createdAtMs: T0,
      }) as const;
    await writer.change({ type: "setBudget", budget: budget("b_from", "ads") }, "test");
    await writer.change({ type: "setBudget", budget: budget("b_to", "search") }, "test");
    await book(T0 + HOUR_MS, "ads", 90n);
    const ask = async (team: string): Promise<boolean> => {
      const attemptId = writer.nextAttemptId();
      const subject = { keyId: KEY, team, project: "", env: "", user: "", provider: "openai", model: "m" };
      const decision = await writer.reserve(
        { attemptId, subject, boundNanoUsd: 50n, expectedNanoUsd: 50n },
        "c",
        undefined,
      );
      if (decision.admitted) await writer.settle(event(attemptId, 0n, { keyId: KEY, team }));
      return decision.admitted;
    };
    expect([await ask("ads"), await ask("search")]).toEqual([false, true]);
    const plan = await planReassignment(
      books,
      { keyId: KEY, from: { team: ["ads"] }, to: { team: "search" } },
      [{ sinceMs: T0 }],
      createCalendar(ZONE),
      clock,
    );
    expect(
      plan.budgets.map(({ budget: { id }, beforeNanoUsd, afterNanoUsd }) => [id, beforeNanoUsd, afterNanoUsd]),
    ).toEqual([
      ["b_from", 90n, 0n],
      ["b_to", 0n, 90n],
    ]);
    await move("ads", "search", T0);
    expect([await ask("ads"), await ask("search")]).toEqual([true, false]);
  });

  it("takes what was under way along, whenever it is booked, and nothing of later", async () => {
    const begin = async (team: string): Promise<number> => {
      const attemptId = writer.nextAttemptId();
      const subject = { keyId: KEY, team, project: "", env: "", user: "", provider: "openai", model: "m" };
      await writer.reserve({ attemptId, subject, boundNanoUsd: 9n, expectedNanoUsd: 9n }, "c", undefined);
      return attemptId;
    };
    const settle = async (attemptId: number, team: string, cost: bigint): Promise<void> =>
      writer.settle(event(attemptId, cost, { keyId: KEY, team }));
    const [soon, late] = [await begin(""), await begin("")];
    await move("", "search", T0);
    await settle(soon, "", 5n);
    clock += 3 * HOUR_MS;
    await settle(await begin(""), "", 100n);
    // After a start too: what is open then was begun before.
    await writer.close();
    writer = await openWriter({ path, durability: "process", zone: ZONE, capMode: "enforce", now: () => clock });
    expect(await teams()).toEqual(
      new Map([
        ["", 100n],
        ["search", 14n],
      ]),
    );
    await expect(settle(late, "", 7n)).rejects.toThrow("cannot be booked");
    expect(await disagreements()).toEqual([]);
  });

  it("two at once do not split the past: the second is told", async () => {
    await book(T0, "", 1n);
    const asked = { keyId: KEY, from: {}, first: 0, end: Number.MAX_SAFE_INTEGER, current: { team: "" } };
    await writer.change(
      {
        type: "together",
        changes: [
          { type: "reassign", ...asked, to: { team: "growth" } },
          { type: "describeKey", keyId: KEY, fields: { team: "growth" } },
        ],
      },
      "test",
    );
    await expect(writer.change({ type: "reassign", ...asked, to: { team: "search" } }, "test")).rejects.toThrow(
      /belongs to team growth by now/,
    );
    // Said again it knows what the key has belonged to.
    expect((await readKeyOwners(books, KEY)).team).toEqual(["growth"]);
    await move("growth", "search", T0);
    expect(await teams()).toEqual(new Map([["search", 1n]]));
    expect(await disagreements()).toEqual([]);
  });

  it("is shown as it will be: in zones of half hours, with what tags named, which opens nobody's budget", async () => {
    const off = { path, durability: "process", capMode: "enforce", tagsInBudgets: false, now: () => clock } as const;
    await writer.close();
    writer = await openWriter({ ...off, zone: "Asia/Kolkata" });
    const calendar = createCalendar("Asia/Kolkata");
    const budget = { window: "day", amountNanoUsd: 1_000n, kind: "hard", mode: "strict", createdAtMs: T0 } as const;
    for (const team of ["search", "tagged"])
      await writer.change({ type: "setBudget", budget: { ...budget, id: `b_${team}`, scope: { team } } }, "test");
    // A local day begins at 18:30 UTC: one answer just before, one just after, and one that a tag named.
    const midnight = calendar.dayStart("2026-10-07");
    expect(midnight % HOUR_MS).not.toBe(0);
    await book(midnight - 60_000, "", 100n);
    await book(midnight + 60_000, "", 7n);
    await book(midnight + 120_000, "tagged", 900n);
    const plan = await planReassignment(
      books,
      { keyId: KEY, from: {}, to: { team: "search" } },
      [{ sinceMs: midnight }],
      calendar,
      clock,
    );
    expect([plan.requests, plan.costNanoUsd, plan.staying]).toEqual([1, 7n, 1]);
    expect(plan.budgets.map(({ budget: { id }, afterNanoUsd }) => [id, afterNanoUsd])).toEqual([["b_search", 7n]]);
    await move("", "search", midnight);
    await writer.change({ type: "describeKey", keyId: KEY, fields: { team: "search" } }, "test");
    const states = new Map((await writer.states()).map((state) => [state.budget.id, state.settledNanoUsd]));
    expect(states.get("b_search")).toBe(7n);
    // That the key has a team now does not make its tags count for another.
    expect(states.get("b_tagged")).toBe(0n);
    expect(await disagreements()).toEqual([]);
  });

  it("leaves everything else of an event fixed, and what is changed behind its back is found", async () => {
    await writeDays();
    await sealed();
    await move("", "search", T0);
    const raw = new Database(path);
    const [moved, other] = [
      booked.find(({ team }) => team === "")?.attemptId,
      booked.find(({ keyId }) => keyId === "key_other")?.attemptId,
    ];
    const refused = (sql: string, attemptId: number | undefined): void =>
      expect(() => raw.prepare(sql).run(attemptId), sql).toThrow(/append-only|stays/);
    refused("UPDATE events SET team = 'mine' WHERE attempt_id = ?", other);
    refused("UPDATE events SET cost_nano_usd = 0 WHERE attempt_id = ?", moved);
    refused("UPDATE reassigned SET team = 'mine' WHERE attempt_id = ?", moved);
    refused("DELETE FROM reassigned WHERE attempt_id = ?", moved);
    // Past the triggers it goes; and is seen.
    raw.prepare("UPDATE events SET team = 'mine' WHERE attempt_id = ?").run(moved);
    expect((await readReassignDifferences(books)).join("\n")).toMatch(
      /names another owner than the audit's corrections/,
    );
    raw.prepare("UPDATE events SET team = 'search' WHERE attempt_id = ?").run(moved);
    expect(await disagreements()).toEqual([]);
    raw.exec("DROP TRIGGER reassigned_fixed; DROP TRIGGER reassigned_keep");
    raw.prepare("DELETE FROM reassigned WHERE attempt_id = ?").run(moved);
    const found = (await disagreements()).join("\n");
    expect(found).toMatch(/events are not as they were sealed/);
    expect(found).toMatch(/\d+ events were moved, \d+ name what they named before/);
    raw.close();
  });
});
