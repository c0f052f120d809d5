// The forecast: the pure part on its own, then the frozen ones on real files.
import { join } from "node:path";
import * as fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { forecast } from "../../collector/forecast.ts";
import { freezeDueForecasts, refreshRests, scoreForecasts } from "../../collector/freeze.ts";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { expectedSoFar, readForecasts, readScores, recordOf } from "../../ledger/billing/forecasts.ts";
import type { FrozenForecast } from "../../ledger/billing/forecasts.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openForWriting } from "../../ledger/sqlite.ts";
import { readRests } from "../../ledger/billing/landings.ts";
import { addPlan, readExpectations, removePlan } from "../../ledger/billing/plans.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";
import { METRICS_SETTINGS } from "./metrics-settings.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Office hours cost ten times the night. */
const officeDay = (hour: number): number => (hour % 24 >= 8 && hour % 24 < 18 ? 10 : 1);

describe("the forecast", () => {
  it("of a steady rhythm is that rhythm, and its band holds it", () => {
    const made = forecast({ startMs: 0, hours: Array.from({ length: 14 * 24 }, (_, i) => officeDay(i)) }, 24);
    expect(made.isLearning).toBe(false);
    expect(made.p50).toBeGreaterThan(114 * 0.9);
    expect(made.p50).toBeLessThan(114 * 1.1);
    expect((made.hours[12] ?? 0) / (made.hours[2] ?? 1)).toBeGreaterThan(5);
    expect(made.p10).toBeLessThan(114);
    expect(made.p90).toBeGreaterThan(114);
  });

  it("is not led astray by yesterday's incident", () => {
    const calm = Array.from({ length: 14 * 24 }, (_, i) => officeDay(i));
    const incident = calm.map((usd, i) => (i >= 13 * 24 && i < 13 * 24 + 12 ? usd + 50 : usd));
    const [a, b] = [forecast({ startMs: 0, hours: calm }, 24), forecast({ startMs: 0, hours: incident }, 24)];
    expect(b.p50 / a.p50).toBeLessThan(1.5);
  });

  it("says openly that it is learning under three days, and takes a missing hour for missing, not for zero", () => {
    expect(forecast({ startMs: 0, hours: Array<number>(71).fill(1) }, 24)).toMatchObject({
      isLearning: true,
      method: "flat",
    });
    const holes = Array.from({ length: 14 * 24 }, (_, i) => (i % 24 === 3 ? undefined : officeDay(i)));
    expect(forecast({ startMs: 0, hours: holes }, 24).p50).toBeGreaterThan(114 * 0.85);
  });

  it("of what never cost anything is nothing, and learning: a model without a price does not stop the others' forecasts", () => {
    const made = forecast({ startMs: 0, hours: Array<number>(200).fill(0) }, 24);
    expect(made).toMatchObject({ isLearning: true, p10: 0, p50: 0, p90: 0 });
    expect(made.hours).toEqual(Array<number>(24).fill(0));
  });

  it("is finite, not negative and ordered, whatever the history", () => {
    fc.assert(
      fc.property(
        fc.array(fc.option(fc.double({ min: 0, max: 1e6, noNaN: true }), { nil: undefined }), { maxLength: 400 }),
        fc.integer({ min: 1, max: 800 }),
        (hours, horizon) => {
          const made = forecast({ startMs: 0, hours }, horizon);
          expect(made.hours.length).toBe(horizon);
          expect(made.hours.every((usd) => Number.isFinite(usd) && usd >= 0)).toBe(true);
          expect(made.p10 <= made.p50 && made.p50 <= made.p90).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });

  it("never looks ahead: hours of the future change nothing", () => {
    const past = Array.from({ length: 10 * 24 }, (_, i) => officeDay(i) + (i % 7));
    expect(forecast({ startMs: 0, hours: past.slice() }, 24)).toEqual(forecast({ startMs: 0, hours: past }, 24));
  });
});

describe("frozen forecasts", () => {
  let folder: string;
  beforeEach(() => {
    folder = temporaryFolder();
  });

  /** Two weeks of a key a team, an event an hour of about `officeDay` cents. */
  async function writeBooks(
    untilMs: number,
    days = 14,
    teams: readonly string[] = ["search"],
    times: (atMs: number) => number = () => 1,
  ): Promise<void> {
    let now = untilMs - days * DAY_MS;
    const writer = await openWriter({
      path: join(folder, "usage.db"),
      durability: "process",
      zone: "UTC",
      capMode: "enforce",
      now: () => now,
    });
    await writer.noteMeterRan(now, untilMs);
    for (let hour = 0; now < untilMs; hour++, now += HOUR_MS) {
      const cost = BigInt(officeDay(hour) * times(now)) * 10_000_000n;
      for (const team of teams)
        await writer.settle(
          event(writer.nextAttemptId(), cost, {
            keyId: team === "search" ? "key_a" : `key_${team}`,
            team,
            user: `user_${team}`,
            requestedModel: "gpt-5.2",
            servedModel: "gpt-5.2",
            priceConfidence: "exact",
          }),
        );
    }
    await writer.close();
  }
  async function books(): Promise<{ usage: UsageBooks; billing: BillingBooks }> {
    const usage = await openUsage(folder);
    if (!usage) throw new Error("no books");
    return { usage, billing: await openToWrite(folder, "billing", "power") };
  }

  it("freeze the day's and the month's forecast once: what comes later in the day does not move it", async () => {
    const midnight = Date.parse("2026-11-23T00:00:00Z");
    await writeBooks(midnight);
    const both = await books();
    await freezeDueForecasts(both, "UTC", midnight + 9 * HOUR_MS);
    const before = await readForecasts(both.billing, midnight + 9 * HOUR_MS);
    const named = before.map(({ scope, id, window }) => `${scope} ${id} ${window}`);
    for (const window of ["hour", "day", "week", "month"])
      for (const scope of [
        "org all",
        "team search",
        "user user_search",
        "key key_a",
        "provider openai",
        "model gpt-5.2",
      ])
        expect(named).toContain(`${scope} ${window}`);
    const [day] = before.filter(({ scope, window }) => scope === "org" && window === "day");
    expect(Number(day?.p50NanoUsd) / 1e9).toBeCloseTo(1.14, 1);
    if (day) {
      expect(expectedSoFar(day, midnight)).toBe(0n);
      expect(expectedSoFar(day, midnight + DAY_MS)).toBe(day.hours.reduce((sum, hour) => sum + hour, 0n));
    }
    await freezeDueForecasts(both, "UTC", midnight + 20 * HOUR_MS);
    const notHours = (all: typeof before): typeof before => all.filter(({ window }) => window !== "hour");
    expect(notHours(await readForecasts(both.billing, midnight + 20 * HOUR_MS))).toEqual(notHours(before));
    // Where a person's month lands is in reports, and no series of a metric.
    await refreshRests(both, "UTC", midnight + 20 * HOUR_MS);
    const rests = await readRests(both, midnight + 20 * HOUR_MS, { scope: "user", id: "user_search", window: "month" });
    expect(rests).toMatchObject([{ method: "blend" }]);
    const { registry, refresh } = createCollectorMetrics(both, METRICS_SETTINGS);
    await refresh(midnight + 20 * HOUR_MS);
    const series = await registry.metrics();
    expect(series).toMatch(/keymeter_landing_usd\{scope="team",id="search",window="month",quantile="0.5"\}/);
    expect(series).not.toContain("user_search");
    const raw = openForWriting(join(folder, "billing.db"), "billing", "power");
    expect(() => raw.exec("UPDATE forecasts SET p50_nano_usd = 0")).toThrow("frozen");
    raw.close();
    await both.usage.close();
    await both.billing.close();
  });

  it("move with what is planned, for whom it is planned and for whom that is a part", async () => {
    const midnight = Date.parse("2026-11-23T00:00:00Z");
    await writeBooks(midnight, 14, ["search", "ads"]);
    const both = await books();
    await freezeDueForecasts(both, "UTC", midnight);
    const of = async (scope: string, id: string): Promise<FrozenForecast> => {
      const found = (await readExpectations(both, midnight)).find(
        (one) => one.scope === scope && one.id === id && one.window === "day",
      );
      if (!found) throw new Error(`no forecast of ${scope} ${id}`);
      return found;
    };
    const before = { search: await of("team", "search"), ads: await of("team", "ads"), org: await of("org", "all") };
    const plan = {
      scope: "team",
      scopeId: "search",
      factor: 3,
      why: "launch",
      madeBy: "ana",
      madeAtMs: midnight,
    } as const;
    await addPlan(both.billing, {
      ...plan,
      id: "plan_1",
      fromMs: midnight + 6 * HOUR_MS,
      toMs: midnight + 18 * HOUR_MS,
    });
    const after = { search: await of("team", "search"), ads: await of("team", "ads"), org: await of("org", "all") };
    expect(after.ads).toEqual(before.ads);
    const more = after.search.p50NanoUsd - before.search.p50NanoUsd;
    const inside = before.search.hours.slice(6, 18).reduce((sum, hour) => sum + hour, 0n);
    expect(Number(more) / Number(2n * inside)).toBeCloseTo(1, 6);
    // Two teams that spend the same: what one adds is added to the whole, too.
    expect(Number(after.org.p50NanoUsd - before.org.p50NanoUsd) / Number(more)).toBeCloseTo(1, 1);
    expect(after.search.hours.slice(0, 6)).toEqual(before.search.hours.slice(0, 6));
    await removePlan(both.billing, "plan_1", midnight);
    expect(await of("team", "search")).toEqual(before.search);
    await both.usage.close();
    await both.billing.close();
  });

  it("do not learn from what was planned: a launch is not tomorrow's usual day", async () => {
    const midnight = Date.parse("2026-11-23T00:00:00Z");
    const launch = { fromMs: midnight - 3 * DAY_MS, toMs: midnight };
    await writeBooks(midnight, 14, ["search"], (atMs) => (atMs >= launch.fromMs ? 5 : 1));
    const both = await books();
    const plan = {
      scope: "team",
      scopeId: "search",
      factor: 5,
      why: "launch",
      madeBy: "ana",
      madeAtMs: midnight,
    } as const;
    await addPlan(both.billing, { ...plan, ...launch, id: "plan_1" });
    await freezeDueForecasts(both, "UTC", midnight);
    for (const scope of ["org", "team", "key"]) {
      const made = (await readForecasts(both.billing, midnight)).find(
        (one) => one.scope === scope && one.window === "day",
      );
      expect(Number(made?.p50NanoUsd) / 1e9, scope).toBeCloseTo(1.14, 1);
    }
    await both.usage.close();
    await both.billing.close();
  });

  it("are held against what came, once their window is over; one in which the meter did not run is not", async () => {
    const midnight = Date.parse("2026-11-16T00:00:00Z");
    await writeBooks(midnight + 2 * DAY_MS);
    const both = await books();
    await freezeDueForecasts(both, "UTC", midnight);
    await freezeDueForecasts(both, "UTC", midnight + DAY_MS);
    await scoreForecasts(both, midnight + DAY_MS);
    expect((await readScores(both.billing, midnight)).filter(({ window }) => window === "day")).toEqual([]);
    await scoreForecasts(both, midnight + 2 * DAY_MS + 2 * HOUR_MS);
    const days = (await readScores(both.billing, midnight)).filter(
      ({ scope, window }) => scope === "team" && window === "day",
    );
    expect(days.map(({ windowId }) => windowId)).toEqual(["day:2026-11-16", "day:2026-11-17"]);
    for (const { actualNanoUsd } of days) expect(actualNanoUsd).toBe(1_140_000_000n);
    const record = recordOf(days);
    expect(record?.error).toBeLessThan(0.15);
    expect(record?.coverage).toBe(1);
    expect(await scoreForecasts(both, midnight + 2 * DAY_MS + 3 * HOUR_MS)).toBe(0);
    // The day after, nothing was written down at all.
    await freezeDueForecasts(both, "UTC", midnight + 2 * DAY_MS);
    await scoreForecasts(both, midnight + 3 * DAY_MS + 2 * HOUR_MS);
    const all = await readScores(both.billing, midnight);
    expect(all.filter(({ windowId }) => windowId === "day:2026-11-18")).toEqual([]);
    await both.usage.close();
    await both.billing.close();
  });

  it("of a zone whose hours are half an hour off cover its days", async () => {
    const midnight = Date.parse("2026-11-22T18:30:00Z");
    await writeBooks(midnight + HOUR_MS / 2);
    const both = await books();
    await freezeDueForecasts(both, "Asia/Kolkata", midnight + HOUR_MS);
    const made = (await readForecasts(both.billing, midnight + HOUR_MS)).find(
      ({ scope, window }) => scope === "org" && window === "day",
    );
    expect([made?.startMs, made?.hours.length]).toEqual([midnight, 24]);
    expect(Number(made?.p50NanoUsd) / 1e9).toBeCloseTo(1.14, 1);
    await both.usage.close();
    await both.billing.close();
  });

  it("take the place of what was only learning, as soon as there is enough to learn from", async () => {
    const midnight = Date.parse("2026-11-03T00:00:00Z");
    await writeBooks(midnight + 4 * DAY_MS, 5);
    const both = await books();
    const month = async (atMs: number): Promise<FrozenForecast | undefined> => {
      await freezeDueForecasts(both, "UTC", atMs);
      return (await readForecasts(both.billing, atMs)).find(
        ({ scope, window }) => scope === "org" && window === "month",
      );
    };
    expect((await month(midnight + 10 * HOUR_MS))?.method).toBe("learning");
    const made = await month(midnight + 3 * DAY_MS);
    expect(made?.method).toBe("blend");
    expect(await month(midnight + 4 * DAY_MS)).toEqual(made);
    await both.usage.close();
    await both.billing.close();
  });

  it("show no forecast where there is too little history to have one", async () => {
    const noon = Date.parse("2026-11-23T12:00:00Z");
    await writeBooks(noon, 1);
    const both = await books();
    await freezeDueForecasts(both, "UTC", noon);
    const metrics = createCollectorMetrics(both, METRICS_SETTINGS);
    await metrics.refresh(noon);
    const text = await metrics.registry.metrics();
    expect(text).toContain('keymeter_forecast_learning{scope="org",id="all",window="day"} 1');
    expect(text).not.toContain("keymeter_forecast_usd{");
    expect(text).toContain('keymeter_spend_usd{scope="team",id="search",window="day"}');
    await both.usage.close();
    await both.billing.close();
  });
});
