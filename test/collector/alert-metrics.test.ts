// The gauges that alerts go by, from real books: the figure, and the line beside it.
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { freezeDueForecasts } from "../../collector/freeze.ts";
import { linesOf } from "../../collector/lines.ts";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { thresholdsOf } from "../../collector/thresholds.ts";
import { createDigest, issueVirtualKey } from "../../ledger/usage/keys.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";
import { METRICS_SETTINGS } from "./metrics-settings.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const NOON = Date.parse("2026-11-23T12:30:00Z");

let folder: string;
let writer: Awaited<ReturnType<typeof openWriter>>;
let now: number;
beforeEach(async () => {
  folder = temporaryFolder();
  now = NOON - 10 * DAY_MS;
  writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: () => now,
  });
  await writer.noteMeterRan(NOON - 40 * DAY_MS, NOON);
});

async function createKey(name: string, team: string): Promise<Key> {
  const { key, secret } = issueVirtualKey({ name, team }, now);
  await writer.change({ type: "createKey", key, digest: createDigest("a pepper of the test")(secret) }, "test");
  return key;
}
const spend = async (usd: number, more: Parameters<typeof event>[2] = {}): Promise<void> =>
  writer.settle(
    event(writer.nextAttemptId(), BigInt(Math.round(usd * 1e9)), {
      servedModel: "m",
      priceConfidence: "exact",
      ...more,
    }),
  );

/** What the collector shows at an instant; `of` reads a series by the start of its line. */
async function read(
  settings: Partial<typeof METRICS_SETTINGS> | Parameters<typeof createCollectorMetrics>[1] = METRICS_SETTINGS,
): Promise<{ of: (series: string) => number | undefined; refresh: () => Promise<void>; close: () => Promise<void> }> {
  await writer.close();
  const usage = (await openUsage(folder)) as UsageBooks;
  const billing = await openToWrite(folder, "billing", "power");
  await freezeDueForecasts({ usage, billing }, "UTC", now);
  const metrics = createCollectorMetrics({ usage, billing }, { ...METRICS_SETTINGS, ...settings });
  let lines: string[] = [];
  const refresh = async (): Promise<void> => {
    await metrics.refresh(now);
    lines = (await metrics.registry.metrics()).split("\n");
  };
  await refresh();
  return {
    of: (series) => {
      const line = lines.find((one) => one.startsWith(series));
      return line === undefined ? undefined : Number(line.split(" ").at(-1));
    },
    refresh,
    close: async () => {
      await usage.close();
      await billing.close();
    },
  };
}

describe("limits", () => {
  const usual = thresholdsOf({ thresholds: {}, teamThresholds: {} }, "");
  const outlook = { p50: 100, p90: 130, largestHour: 8, hourExpected: 4, orgDay: 1_000 };

  it("of a group are a fifth of its forecast, or a part of its band; of a key its band and a share of the organisation's day", () => {
    expect(linesOf({ ...outlook, scope: "team" }, usual)).toMatchObject({ warning: 20, critical: 50 });
    expect(linesOf({ ...outlook, scope: "team", p90: 200 }, usual).warning).toBeCloseTo(43);
    expect(linesOf({ ...outlook, scope: "key" }, usual).warning).toBe(30);
    expect(linesOf({ ...outlook, scope: "key", p50: 10, p90: 11 }, usual)).toMatchObject({ warning: 12, floor: 12 });
    expect(linesOf({ ...outlook, scope: "key" }, usual).hour).toBe(14);
    expect(linesOf({ ...outlook, scope: "key", largestHour: 20 }, usual).hour).toBe(25);
  });

  it("are a team's own where it has some", () => {
    const settings = { thresholds: { over_forecast: 0.3 }, teamThresholds: { search: { over_forecast: 0.6 } } };
    expect(thresholdsOf(settings, "search").over_forecast).toBe(0.6);
    expect(thresholdsOf(settings, "ads").over_forecast).toBe(0.3);
    expect(thresholdsOf(settings, "constructor").over_forecast).toBe(0.3);
  });
});

describe("the gauges", () => {
  const TEAM = '{scope="team",id="search",team="search",window="day"';

  it("hold spend against the forecast, and lower the line once it is crossed", async () => {
    for (; now < NOON - HOUR_MS; now += HOUR_MS) await spend(1, { keyId: "key_a", project: "chat" });
    now = NOON;
    await spend(30, { keyId: "key_a", project: "chat" });
    const { of, refresh, close } = await read();
    const [over = 0, limit = 0] = [
      of(`keymeter_over_forecast_usd${TEAM}`),
      of(`keymeter_over_forecast_line_usd${TEAM},level="warning"`),
    ];
    // Twelve hours of a dollar were expected, and half of another one.
    expect(over).toBeGreaterThan(28);
    expect(over).toBeLessThan(31);
    expect(limit).toBeGreaterThan(3.8);
    expect(limit).toBeLessThan(over);
    await refresh();
    expect(of(`keymeter_over_forecast_line_usd${TEAM},level="warning"`)).toBeCloseTo(limit, 6);
    // A project's and a key's message goes to the team that spends in it.
    expect(of('keymeter_over_forecast_usd{scope="project",id="chat",team="search",window="day"}')).toBeCloseTo(over, 6);
    expect(of('keymeter_hour_usd{scope="key",id="key_a",team="search"}')).toBe(30);
    expect(of('keymeter_hour_line_usd{scope="key",id="key_a"')).toBeLessThan(30);
    await close();
  });

  it("know a key that wakes, spend without a team, models without a price, and a provider that refuses our key", async () => {
    now = NOON - 20 * DAY_MS;
    const old = await createKey("old", "search");
    await spend(0.1, { keyId: old.id });
    now = NOON - 5 * 60_000;
    await spend(7, { keyId: old.id });
    await spend(3, { keyId: "key_nobody", team: "" });
    await spend(0, { keyId: old.id, priceConfidence: "unpriced", servedModel: "brand-new" });
    for (let i = 0; i < 30; i++)
      await spend(0, {
        keyId: old.id,
        httpStatus: i < 3 ? 401 : 503,
        outcome: i < 3 ? "upstream_rejected" : "upstream_failed",
      });
    now = NOON;
    const { of, close } = await read();
    expect(of(`keymeter_key_woken_usd{scope="key",id="${old.id}",team="search"}`)).toBe(7);
    expect(of(`keymeter_key_woken_line_usd{scope="key",id="${old.id}",team="search"}`)).toBe(5);
    expect(of("keymeter_unallocated_usd")).toBe(3);
    expect(of("keymeter_unallocated_line_usd")).toBe(5);
    // The name of the release before.
    expect(of("keymeter_unallocated_limit_usd")).toBe(5);
    expect(of(`keymeter_key_woken_limit_usd{scope="key",id="${old.id}",team="search"}`)).toBe(5);
    expect(of('keymeter_unpriced_requests{provider="openai",model="brand-new"}')).toBe(1);
    expect(of('keymeter_provider_rejected_requests{provider="openai"}')).toBe(3);
    expect(of('keymeter_provider_failed_ratio{provider="openai"}')).toBeCloseTo(27 / 33, 6);
    expect(of(`keymeter_key_secret_due_timestamp_seconds{scope="key",id="${old.id}"`)).toBe(
      (NOON + 160 * DAY_MS) / 1000,
    );
    await close();
  });

  it("are about members of a rule that are near their cap, count the others, and leave a mere word out", async () => {
    const rule = { id: "rule", each: "user", scope: { team: "search" }, window: "month", kind: "hard" } as const;
    await writer.change(
      { type: "setBudget", budget: { ...rule, mode: "expected", amountNanoUsd: 10_000_000_000n, createdAtMs: now } },
      "test",
    );
    now = NOON - HOUR_MS;
    const member = (usd: number, user: string): Promise<void> => spend(usd, { keyId: "key_a", user, team: "search" });
    await member(1, "user_1");
    await member(9, "user_2");
    await member(10.5, "user_3");
    const asked = { id: "ask_1", keyId: "key_a", budgetId: "rule/user_3", why: "because", createdAtMs: now };
    await writer.change({ type: "askRaise", asked: { ...asked, amountNanoUsd: 20_000_000_000n } }, "test");
    now = NOON;
    const { of, close } = await read();
    const ofRule = '{budget="rule",scope="each user of team search",team="search",window="month",kind="hard"';
    for (const [used, count] of [
      ["any", 3],
      ["80", 2],
      ["100", 1],
    ] as const)
      expect(of(`keymeter_budget_members${ofRule},used="${used}"}`)).toBe(count);
    expect(of('keymeter_budget_spent_usd{budget="rule/user_2"')).toBe(9);
    expect(of('keymeter_budget_spent_usd{budget="rule/user_3"')).toBe(10.5);
    expect(of('keymeter_budget_spent_usd{budget="rule/user_1"')).toBeUndefined();
    expect(of('keymeter_budget_spent_usd{budget="rule",')).toBeUndefined();
    expect(of('keymeter_asked_raise_usd{ask="ask_1",budget="rule/user_3",team="search"}')).toBe(20);
    await close();
  });

  it("have what subscriptions paid for apart, in no sum of money", async () => {
    now = NOON - HOUR_MS;
    await spend(2, { keyId: "key_a", team: "search" });
    await spend(0, { keyId: "key_a", team: "search", payer: "seat", seatNanoUsd: 7_000_000_000n });
    now = NOON;
    const { of, close } = await read();
    for (const scope of ['scope="org",id="all"', 'scope="team",id="search"']) {
      expect(of(`keymeter_spend_usd{${scope},window="month"}`)).toBe(2);
      expect(of(`keymeter_seat_value_usd{${scope},window="month"}`)).toBe(7);
    }
    await close();
  });

  it("say how fast a budget burns, where it lands, and that a cap is passed only where spend goes on", async () => {
    const budget = {
      scope: { team: "search" },
      window: "month",
      mode: "expected",
      createdAtMs: now,
    } as const;
    await writer.change(
      { type: "setBudget", budget: { ...budget, id: "bud_soft", amountNanoUsd: 720_000_000_000n, kind: "soft" } },
      "test",
    );
    await writer.change(
      {
        type: "setBudget",
        budget: { ...budget, scope: { keyId: "key_a" }, id: "bud_hard", amountNanoUsd: 100_000_000_000n, kind: "hard" },
      },
      "test",
    );
    for (; now < NOON - HOUR_MS; now += HOUR_MS) await spend(1, { keyId: "key_a" });
    now = NOON - 2 * 60_000;
    await spend(20, { keyId: "key_a" });
    now = NOON;
    const { of, close } = await read();
    const SOFT = '{budget="bud_soft",scope="team search",team="search",window="month",kind="soft"';
    // 720 USD in 30 days are a dollar an hour: twenty in an hour is twenty times that, and in five minutes 240 times.
    expect(of(`keymeter_budget_burn_ratio${SOFT},span="1h"}`)).toBeCloseTo(20, 1);
    expect(of(`keymeter_budget_burn_ratio${SOFT},span="5m"}`)).toBeCloseTo(240, 0);
    expect(of(`keymeter_budget_burn_limit_ratio${SOFT},speed="fast"}`)).toBe(14.4);
    const [low = 0, middle = 0, high = 0] = ["0.1", "0.5", "0.9"].map((quantile) =>
      of(`keymeter_budget_landing_usd${SOFT},quantile="${quantile}"}`),
    );
    // About 259 are spent, and 179 hours are to come.
    expect(low).toBeGreaterThan(300);
    expect(low < middle && middle < high).toBe(true);
    expect(middle).toBeGreaterThan(400);
    expect(middle).toBeLessThan(900);
    expect(of('keymeter_budget_past_cap_usd{budget="bud_hard"')).toBe(20);
    expect(of('keymeter_budget_past_cap_usd{budget="bud_soft"')).toBeUndefined();
    await close();
  });

  it("do not take a cap that only observes for one that fails", async () => {
    await writer.change(
      {
        type: "setBudget",
        budget: {
          id: "bud_hard",
          scope: {},
          window: "month",
          mode: "expected",
          createdAtMs: now,
          amountNanoUsd: 1_000_000_000n,
          kind: "hard",
        },
      },
      "test",
    );
    now = NOON;
    await spend(20);
    const { of, close } = await read({ ...METRICS_SETTINGS, capMode: "observe" });
    expect(of('keymeter_budget_past_cap_usd{budget="bud_hard"')).toBeUndefined();
    expect(
      of('keymeter_budget_usd{budget="bud_hard",scope="the organisation",team="",window="month",kind="observed"}'),
    ).toBe(1);
    await close();
  });
});
