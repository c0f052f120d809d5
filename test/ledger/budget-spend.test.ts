// Sums that are read in one go for many are those that are read one by one, and those that the rows themselves give.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Budget, Scope } from "../../ledger/budgets.ts";
import { readAllSettled, readSettled } from "../../ledger/usage/budget-spend.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { openUsage } from "../../ledger/open.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { findLastUsed, readLastUsed } from "../../ledger/usage/key-use.ts";
import { createCalendar } from "../../ledger/windows.ts";
import { writeOrganisation } from "../organisation.ts";
import { random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";

const NOW_MS = Date.parse("2026-11-24T10:20:00Z");

describe(`sums of many (seed ${SEED})`, () => {
  let usage: UsageBooks;
  beforeAll(async () => {
    const folder = temporaryFolder();
    await writeOrganisation({ folder, days: 9, keys: 12, seed: SEED, nowMs: NOW_MS });
    const opened = await openUsage(folder);
    if (!opened) throw new Error("no books");
    usage = opened;
  }, 120_000);
  afterAll(() => usage.close());

  it("of budgets of every scope and window are those of each alone", async () => {
    const next = random(SEED);
    const pick = <One>(list: readonly One[]): One | undefined => list[Math.floor(next() * list.length)];
    const valuesOf = (column: string): string[] =>
      sqliteOf(usage).prepare(`SELECT DISTINCT ${column} FROM rollup_day`).pluck().all() as string[];
    const values = {
      keyId: valuesOf("key_id"),
      team: valuesOf("team"),
      project: valuesOf("project"),
      env: valuesOf("env"),
      provider: valuesOf("provider"),
      model: [...valuesOf("model"), "gpt-*", "claude-*-4-5"],
    };
    const budgets = Array.from({ length: 120 }, (_, i): Budget => {
      const scope: { -readonly [part in keyof Scope]: Scope[part] } = {};
      for (const part of ["keyId", "team", "project", "env", "provider", "model"] as const)
        if (next() < 0.3) scope[part] = pick(values[part]) ?? "";
      return {
        id: `bud_${i}`,
        scope,
        window: pick(["hour", "day", "week", "month", "total"] as const) ?? "day",
        amountNanoUsd: 1n,
        kind: "soft",
        mode: "strict",
        createdAtMs: 0,
      };
    });
    const calendar = createCalendar("UTC");
    const all = await readAllSettled(usage, budgets, ({ window }) => calendar.window(window, NOW_MS));
    const alone = new Map<string, bigint>();
    for (const budget of budgets)
      alone.set(budget.id, await readSettled(usage, budget, calendar.window(budget.window, NOW_MS)));
    expect(all).toEqual(alone);
    expect([...all.values()].filter((settled) => settled > 0n).length).toBeGreaterThan(30);
  });

  it("of when keys were last used are the newest hours of their rows", async () => {
    const rows = sqliteOf(usage)
      .prepare("SELECT key_id, MAX(hour_ms) FROM rollup_hour WHERE requests > 0 AND hour_ms < ? GROUP BY 1")
      .raw();
    for (const beforeMs of [Number.MAX_SAFE_INTEGER, NOW_MS - 3 * 86_400_000, 0]) {
      const expected = new Map((rows.all(beforeMs) as [string, bigint][]).map(([id, hourMs]) => [id, Number(hourMs)]));
      expect(await readLastUsed(usage, beforeMs)).toEqual(expected);
      if (beforeMs === Number.MAX_SAFE_INTEGER)
        for (const [id, hourMs] of expected) expect(await findLastUsed(usage, id)).toBe(hourMs);
    }
    expect(await findLastUsed(usage, "nobody")).toBeUndefined();
  });
});
