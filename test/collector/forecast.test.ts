// The forecast: the pure part on its own, then the frozen ones on real files.
import { join } from "node:path";
import * as fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { forecast } from "../../collector/forecast.ts";
import { freezeDueForecasts } from "../../collector/freeze.ts";
import { createCollectorMetrics } from "../../collector/metrics.ts";
import { expectedSoFar, readForecasts } from "../../ledger/forecasts.ts";
import { openForReading, openForWriting } from "../../ledger/open.ts";
import { openWriter } from "../../ledger/writer.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

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

  /** Two weeks of one key, an event an hour of about `officeDay` cents. */
  async function writeBooks(untilMs: number, days = 14): Promise<void> {
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
      const attemptId = writer.nextAttemptId();
      const cost = BigInt(officeDay(hour)) * 10_000_000n;
      const of = {
        keyId: "key_a",
        requestedModel: "gpt-5.2",
        servedModel: "gpt-5.2",
        priceConfidence: "exact",
      } as const;
      await writer.settle(event(attemptId, cost, of));
    }
    await writer.close();
  }
  function books(): {
    usage: NonNullable<ReturnType<typeof openForReading>>;
    billing: ReturnType<typeof openForWriting>;
  } {
    const usage = openForReading(join(folder, "usage.db"));
    if (!usage) throw new Error("no books");
    return { usage, billing: openForWriting(join(folder, "billing.db"), "billing", "power") };
  }

  it("freeze the day's and the month's forecast once: what comes later in the day does not move it", async () => {
    const midnight = Date.parse("2026-11-23T00:00:00Z");
    await writeBooks(midnight);
    const both = books();
    expect(await freezeDueForecasts(both, "UTC", midnight + 9 * HOUR_MS)).toBe(6);
    const before = await readForecasts(both.billing, midnight + 9 * HOUR_MS);
    expect(before.map(({ scope, id, window }) => `${scope} ${id} ${window}`).toSorted()).toEqual([
      "key key_a day",
      "key key_a month",
      "org all day",
      "org all month",
      "team search day",
      "team search month",
    ]);
    const [day] = before.filter(({ scope, window }) => scope === "org" && window === "day");
    expect(Number(day?.p50NanoUsd) / 1e9).toBeCloseTo(1.14, 1);
    if (day) {
      expect(expectedSoFar(day, midnight)).toBe(0n);
      expect(expectedSoFar(day, midnight + DAY_MS)).toBe(day.hours.reduce((sum, hour) => sum + hour, 0n));
    }
    expect(await freezeDueForecasts(both, "UTC", midnight + 20 * HOUR_MS)).toBe(0);
    expect(await readForecasts(both.billing, midnight + 20 * HOUR_MS)).toEqual(before);
    expect(() => both.billing.exec("UPDATE forecasts SET p50_nano_usd = 0")).toThrow("frozen");
    both.usage.close();
    both.billing.close();
  });

  it("show no forecast where there is too little history to have one", async () => {
    const noon = Date.parse("2026-11-23T12:00:00Z");
    await writeBooks(noon, 1);
    const both = books();
    await freezeDueForecasts(both, "UTC", noon);
    const metrics = createCollectorMetrics(both, "UTC");
    await metrics.refresh(noon);
    const text = await metrics.registry.metrics();
    expect(text).toContain('keymeter_forecast_learning{scope="org",id="all",window="day"} 1');
    expect(text).not.toContain("keymeter_forecast_usd{");
    expect(text).toContain('keymeter_spend_usd{scope="team",id="search",window="day"}');
    both.usage.close();
    both.billing.close();
  });
});
