// What budgets have spent is in memory, by budget and window: a change reads from the books what it touches, and
// nothing else.
import { beforeAll, describe, expect, it } from "vitest";
import { firstAttemptId } from "../../ledger/ids.ts";
import { openScratch } from "../../ledger/sqlite.ts";
import { booksOn } from "../books.ts";
import { createBooking } from "../../ledger/usage/booking.ts";
import type { Booking } from "../../ledger/usage/booking.ts";
import type { Change } from "../../ledger/usage/changes.ts";
import { eventRow } from "../../ledger/usage/event-columns.ts";
import { issueVirtualKey } from "../../ledger/usage/keys.ts";
import { stepsOf } from "../../ledger/usage/reassign.ts";
import type { Reassignment } from "../../ledger/usage/reassign.ts";
import type { Answer, Task } from "../../ledger/usage/wire.ts";
import { event, SUBJECT } from "../usage-event.ts";
import { verifyMemory } from "../simulation/verify-memory.ts";

const NOW_MS = Date.parse("2026-11-29T10:30:00Z");
const BUDGETS = 500;

/** Statements that read a budget's settled sum. */
const READS_SUM = /^select sum\(.*(from "rollup_day"|from "booked")/i;
let reads = 0;

function countingBooks(): ReturnType<typeof openScratch> {
  const books = openScratch("usage");
  const prepare = books.prepare.bind(books);
  books.prepare = ((sql: string) => {
    const statement = prepare(sql);
    if (!READS_SUM.test(sql)) return statement;
    const all = statement.all.bind(statement);
    statement.all = (...values: unknown[]) => {
      reads += 1;
      return all(...values);
    };
    return statement;
  }) as typeof books.prepare;
  return books;
}

const budget = (id: string, team: string, more: object = {}) =>
  ({
    id,
    scope: { team },
    window: "day",
    kind: "hard",
    mode: "expected",
    amountNanoUsd: 1_000n,
    createdAtMs: NOW_MS,
    ...more,
  }) as const;

describe.each([
  ["count", true],
  ["do not count", false],
] as const)("where tags %s in budgets,", (_how, tagsCount) => {
  let books: ReturnType<typeof openScratch>;
  let booking: Booking;
  let nextId = firstAttemptId(NOW_MS);

  const change = (one: Change): Answer | undefined =>
    booking.book([{ type: "change", change: one, author: { actor: "test", atMs: NOW_MS } }])[0];
  const reserved = (attemptId: number, keyId: string, team: string, amount: bigint): Task => {
    const subject = { ...SUBJECT, keyId, team };
    const request = { attemptId, subject, boundNanoUsd: amount, expectedNanoUsd: amount };
    return { type: "reserve", request, endpoint: "c", tags: null };
  };
  const spent = (keyId: string, team: string): Task[] => {
    const attemptId = nextId++;
    const row = eventRow(event(attemptId, 5n, { keyId, team }));
    return [reserved(attemptId, keyId, team, 9n), { type: "settle", row, proven: null }];
  };
  /** Returns the attempt. */
  const spend = (keyId: string, team: string): number => {
    booking.book(spent(keyId, team));
    return nextId - 1;
  };
  /** How many sums are read from the books until all are known again, and whether memory is right then. */
  const readsOf = (what: () => unknown): number => {
    reads = 0;
    what();
    booking.book([{ type: "states", atMs: NOW_MS, caller: undefined }]);
    const found = reads;
    expect(verifyMemory((operation) => booking.book([operation])[0])).toMatchObject({ differences: [] });
    return found;
  };

  beforeAll(() => {
    books = countingBooks();
    booking = createBooking(books, "UTC", "enforce", NOW_MS, tagsCount);
    nextId = firstAttemptId(NOW_MS);
    const teams = Array.from({ length: BUDGETS }, (_, i) => ({ keyId: `key ${i}`, team: `team ${i}` }));
    const all = teams.flatMap(({ keyId, team }, i): Change[] => {
      const { key } = issueVirtualKey({ name: keyId, team }, NOW_MS);
      return [
        { type: "createKey", key: { ...key, id: keyId }, digest: keyId },
        { type: "setBudget", budget: budget(`b${i}`, team) },
      ];
    });
    change({ type: "together", changes: all });
    booking.book(teams.flatMap(({ keyId, team }) => spent(keyId, team)));
    // Held in all of them while they change.
    booking.book(teams.map(({ keyId, team }) => reserved(nextId++, keyId, team, 3n)));
  }, 60_000);

  it("a change of one budget reads that one; others, and what changes no sum, read none", () => {
    const raise = {
      id: "r",
      budgetId: "b8",
      amountNanoUsd: 5n,
      reason: "x",
      createdAtMs: NOW_MS,
      untilMs: NOW_MS + 9_000,
    };
    const { key } = issueVirtualKey({ name: "new", team: "team 9" }, NOW_MS);
    expect(readsOf(() => {})).toBe(0);
    expect(readsOf(() => change({ type: "setBudget", budget: budget("again", "team 7") }))).toBe(1);
    expect(readsOf(() => change({ type: "removeBudget", budgetId: "b3" }))).toBe(0);
    expect(readsOf(() => change({ type: "raiseBudget", raise }))).toBe(0);
    expect(readsOf(() => change({ type: "endRaise", raiseId: "r" }))).toBe(0);
    expect(readsOf(() => change({ type: "setPolicy", keyId: "key 4", policy: { models: ["m"] } }))).toBe(0);
    expect(readsOf(() => change({ type: "setKeyState", keyId: "key 4", state: "paused" }))).toBe(0);
    // A key that was just made has spent nothing: its name moves no sum, where tags do not count neither.
    expect(readsOf(() => change({ type: "createKey", key, digest: "d", budget: budget("own", "none") }))).toBe(1);
    expect(readsOf(() => spend("key 5", "team 5"))).toBe(0);
  });

  it("corrections move what is in memory, once each, in the window of their event", () => {
    const attemptId = spend("key 6", "team 6");
    const one = {
      source: "bill",
      sourceId: "line",
      attemptId,
      amountNanoUsd: 40n,
      unpriced: 0,
      inferred: 0,
      detail: "",
    } as const;
    expect(readsOf(() => change({ type: "adjust", adjustments: [one, one] }))).toBe(0);
    const [answer] = booking.book([
      { type: "states", atMs: NOW_MS, caller: { ...SUBJECT, keyId: "key 6", team: "team 6" } },
    ]);
    expect(answer).toMatchObject({ states: [{ settledNanoUsd: 50n, reservedNanoUsd: 3n }] });
  });

  it("so does a key whose past becomes another's: what it left, and where it went", async () => {
    for (let i = 0; i < 3; i++) spend("key 2", "team 2");
    const rest = {
      keyId: "key 2",
      from: { team: ["team 2"] },
      to: { team: "team 1" },
      current: { team: "team 2" },
      spans: [{ sinceMs: NOW_MS - 3_600_000 }],
    };
    const steps: ({ readonly type: "reassign" } & Reassignment)[] = [];
    for await (const step of stepsOf(booksOn<"usage">(books), rest)) steps.push({ type: "reassign", ...step } as const);
    expect(readsOf(() => change({ type: "together", changes: steps }))).toBe(tagsCount ? 0 : 1);
    const settled = booking.book([{ type: "states", atMs: NOW_MS, caller: undefined }])[0];
    const of = (id: string) =>
      settled?.type === "states" && settled.states.find((one) => one.budget.id === id)?.settledNanoUsd;
    expect([of("b1"), of("b2")]).toEqual([25n, 0n]);
  });

  it("a name that becomes a key's own counts from then on: only its budgets are read", () => {
    for (let i = 0; i < 3; i++) spend("key 11", "team 12");
    const fields = { team: "team 12" };
    expect(readsOf(() => change({ type: "describeKey", keyId: "key 11", fields }))).toBe(tagsCount ? 0 : 1);
  });

  it("what was refused throws all of them away", () => {
    const [answer] = booking.book([{ type: "states", atMs: NOW_MS, caller: undefined }]);
    const all = answer?.type === "states" ? answer.states.length : 0;
    expect(all).toBeGreaterThan(BUDGETS - 2);
    expect(readsOf(() => change({ type: "removeBudget", budgetId: "no such" }))).toBe(all);
  });

  it("are read and verified a few in each transaction: no request waits for all of them", () => {
    // All of them are to be read again.
    change({ type: "removeBudget", budgetId: "no such" });
    const inOne: number[] = [];
    const ask = (task: Task): Answer | undefined => {
      reads = 0;
      const [answer] = booking.book([task]);
      inOne.push(reads);
      return answer;
    };
    let answer: Answer | undefined;
    do answer = ask({ type: "load", atMs: NOW_MS });
    while (answer?.type === "loaded" && !answer.isWhole);
    expect(answer).toEqual({ type: "loaded", isWhole: true });
    // Nothing is left to read for whoever asks for all.
    ask({ type: "states", atMs: NOW_MS, caller: undefined });
    expect(inOne.at(-1)).toBe(0);
    expect(verifyMemory(ask).differences).toEqual([]);
    expect(Math.max(...inOne)).toBe(2);
    expect(inOne.reduce((sum, one) => sum + one, 0)).toBeGreaterThan(2 * (BUDGETS - 2));
  });
});
