// Members of a rule beyond the most that it may have: they are under one cap, and those of another day have room again.
import { join } from "node:path";
import { expect, it } from "vitest";
import { MOST_MEMBERS } from "../../ledger/budgets.ts";
import type { Budget } from "../../ledger/budgets.ts";
import { firstAttemptId } from "../../ledger/ids.ts";
import { createReservationBook } from "../../ledger/usage/reservations.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { createCalendar, DAY_MS } from "../../ledger/windows.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event, SUBJECT } from "../usage-event.ts";

const RULE: Budget = {
  id: "rule",
  each: "user",
  scope: {},
  window: "day",
  amountNanoUsd: 10n,
  kind: "hard",
  mode: "strict",
  createdAtMs: 0,
};
const START_MS = Date.parse("2026-11-02T12:00:00Z");

it("share one cap, in memory that is bounded, until others have left", () => {
  const book = createReservationBook(createCalendar("UTC"), "enforce", { of: () => 0n, members: () => new Map() });
  book.setBudgets([RULE]);
  let n = 0;
  /** Asks for 6 of 10; returns the cap that refused. */
  const ask = (user: string, atMs: number): string | undefined => {
    const attemptId = firstAttemptId(atMs) + (n += 1);
    const subject = { ...SUBJECT, user };
    const decision = book.reserve({ attemptId, subject, boundNanoUsd: 6n, expectedNanoUsd: 6n });
    if (decision.admitted) book.settle(attemptId, 6n, subject);
    return "refusal" in decision ? decision.refusal.budget.id : undefined;
  };
  for (let i = 0; i < MOST_MEMBERS; i++) expect(ask(`user_${i}`, START_MS)).toBeUndefined();
  expect(ask("user_7", START_MS)).toBe("rule/user_7");
  expect(ask("late_1", START_MS)).toBeUndefined();
  expect(ask("late_2", START_MS)).toBe("rule/*");
  expect(book.parts().length).toBe(MOST_MEMBERS + 1);
  // Two days on nobody of them has anything in a window of now.
  const later = START_MS + 2 * DAY_MS;
  expect(ask("user_7", later)).toBeUndefined();
  expect(ask("late_1", later)).toBeUndefined();
  expect(ask("late_2", later)).toBeUndefined();
  expect(ask("late_2", later)).toBe("rule/late_2");
  expect(book.parts().length).toBe(3);
});

it("beyond the most keep the cap that they have when the books are read again, whoever spends the most", async () => {
  const writer = await openWriter({
    path: join(temporaryFolder(), "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
  });
  const createdAtMs = Date.now();
  await writer.change({ type: "setBudget", budget: { ...RULE, createdAtMs } }, "test");
  const settle = (user: string, cost: bigint): Promise<void> =>
    writer.settle(event(writer.nextAttemptId(), cost, { user }));
  await Promise.all(Array.from({ length: MOST_MEMBERS }, (_, i) => settle(`user_${i}`, 1n)));
  await Promise.all(["late_1", "late_2"].map((user) => settle(user, 4n)));
  /** Asks for the whole of a cap, and is refused by one in which something is spent. */
  const refusedBy = async (user: string): Promise<[string, bigint] | undefined> => {
    const attemptId = writer.nextAttemptId();
    const request = { attemptId, subject: { ...SUBJECT, user }, boundNanoUsd: 10n, expectedNanoUsd: 10n };
    const decision = await writer.reserve(request, "chat_completions", undefined);
    return "refusal" in decision ? [decision.refusal.budget.id, decision.refusal.settledNanoUsd] : undefined;
  };
  const last = `user_${MOST_MEMBERS - 1}`;
  const check = async (): Promise<void> => {
    expect((await writer.verify()).differences).toEqual([]);
    expect(await refusedBy(last)).toEqual([`rule/${last}`, 1n]);
    expect(await refusedBy("late_1")).toEqual(["rule/*", 8n]);
  };
  await check();
  // In the place of one member's cap: all members are read again.
  const { each: _, ...amount } = RULE;
  const own = { ...amount, id: "own", scope: { user: "user_7" }, createdAtMs };
  await writer.change({ type: "setBudget", budget: own }, "test");
  await check();
  await writer.close();
});
