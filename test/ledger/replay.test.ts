// The replay of a cap against the cap itself: what the books say it would have refused is what a writer with that cap
// refuses.
import { join } from "node:path";
import * as fc from "fast-check";
import { expect, it } from "vitest";
import type { Budget } from "../../ledger/budgets.ts";
import { openUsage } from "../../ledger/open.ts";
import { replayCap } from "../../ledger/usage/replay.ts";
import { createCalendar } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { IS_CI, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event, SUBJECT } from "../usage-event.ts";

const ZONE = "America/Los_Angeles";
const START = Date.parse("2026-10-30T20:00:00Z");
const HOUR_MS = 3_600_000;

type Spend = { readonly team: string; readonly cost: bigint | undefined; readonly afterMs: number };
type Refusal = { readonly atMs: number; readonly cost: bigint | undefined };

/** Books what a cap lets through, one after the other; returns what it refuses. */
async function book(folder: string, spends: readonly Spend[], cap: Budget | undefined): Promise<Refusal[]> {
  let now = START;
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: ZONE,
    capMode: "enforce",
    now: () => now,
  });
  if (cap) await writer.change({ type: "setBudget", budget: cap }, "test");
  const refused: Refusal[] = [];
  for (const { team, cost, afterMs } of spends) {
    now += afterMs;
    const attemptId = writer.nextAttemptId();
    const subject = { ...SUBJECT, team, keyId: `key_${team}` };
    const asked = { attemptId, subject, boundNanoUsd: cost, expectedNanoUsd: cost };
    const { admitted } = await writer.reserve(asked, "chat_completions", undefined);
    if (admitted) await writer.settle(event(attemptId, cost, { team, keyId: subject.keyId }));
    else refused.push({ atMs: now, cost });
  }
  await writer.close();
  return refused;
}

it("refuses on the books what the cap refuses: same requests, money, first instant, over days, months and a clock change", async () => {
  const spend = fc.record({
    team: fc.constantFrom("search", "ads"),
    cost: fc.option(fc.bigInt({ min: 0n, max: 400n }), { nil: undefined, freq: 12 }),
    afterMs: fc.integer({ min: 1, max: 9 * HOUR_MS }),
  });
  const cap = fc.record({
    amountNanoUsd: fc.bigInt({ min: 0n, max: 1_500n }),
    window: fc.constantFrom("hour" as const, "day" as const, "week" as const, "month" as const, "total" as const),
    scope: fc.constantFrom({}, { team: "search" }, { keyId: "key_ads" }, { model: "m*" }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(spend, { minLength: 1, maxLength: 40 }), cap, async (spends, asked) => {
      const budget: Budget = { ...asked, id: "b", kind: "hard", mode: "expected", createdAtMs: 0 };
      const folder = temporaryFolder();
      await book(folder, spends, undefined);
      const refused = await book(temporaryFolder(), spends, budget);
      const books = await openUsage(folder);
      if (!books) throw new Error("no books");
      const replay = await replayCap(books, budget, createCalendar(ZONE), START);
      await books.close();
      expect({ ...replay.all, requests: undefined, costNanoUsd: undefined }).toEqual({
        requests: undefined,
        costNanoUsd: undefined,
        refused: refused.length,
        unpriced: refused.filter(({ cost }) => cost === undefined).length,
        refusedNanoUsd: refused.reduce((sum, { cost }) => sum + (cost ?? 0n), 0n),
        firstRefusedAtMs: refused[0]?.atMs,
      });
      for (const parts of [replay.windows, replay.keys])
        expect([...parts.values()].reduce((sum, part) => sum + part.refused, 0)).toBe(refused.length);
    }),
    { seed: SEED, numRuns: IS_CI ? 60 : 8 },
  );
});

it("begins with the window that the day lies in, so that no cap starts half empty", async () => {
  const folder = temporaryFolder();
  const day = { team: "search", cost: 100n, afterMs: 24 * HOUR_MS };
  await book(
    folder,
    Array.from({ length: 10 }, () => day),
    undefined,
  );
  const books = await openUsage(folder);
  if (!books) throw new Error("no books");
  const budget: Budget = {
    id: "b",
    scope: {},
    window: "month",
    amountNanoUsd: 800n,
    kind: "hard",
    mode: "expected",
    createdAtMs: 0,
  };
  const since = Date.parse("2026-11-06T00:00:00-08:00");
  const { sinceMs, windows } = await replayCap(books, budget, createCalendar(ZONE), since);
  await books.close();
  expect(new Date(sinceMs).toISOString()).toBe("2026-11-01T07:00:00.000Z");
  expect([...windows].map(([id, { requests, refused }]) => [id, requests, refused])).toEqual([["month:2026-11", 9, 1]]);
});
