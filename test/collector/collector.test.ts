// Forecast, import and reconciliation: pure parts on their own, then the jobs on real files and a billing API on loopback.
import { join } from "node:path";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { forecast } from "../../collector/forecast.ts";
import { openaiImporter } from "../../collector/importers/openai.ts";
import { freezeDueForecasts, reconcileBills } from "../../collector/jobs.ts";
import { createCollectorMetrics } from "../../collector/metrics.ts";
import { reconcile } from "../../collector/reconcile.ts";
import { readBilled, readImports, readVariances } from "../../ledger/bills.ts";
import { expectedSoFar, readForecasts } from "../../ledger/forecasts.ts";
import { openForReading, openForWriting } from "../../ledger/open.ts";
import { openWriter } from "../../ledger/writer.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import type { FakeBilling } from "../fake/billing.ts";
import { startFakeBilling } from "../fake/billing.ts";
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

describe("reconcile", () => {
  const now = Date.parse("2026-11-23T12:00:00Z");
  const day = "2026-11-15";
  it.each([
    ["equal", 5_000_000_000n, 5_000_000_000n, "none"],
    ["a fraction of a cent apart", 5_000_000_000n, 5_000_400_000n, "rounding"],
    ["billed and never metered", 0n, 5_000_000_000n, "unmetered"],
    ["metered and never billed", 5_000_000_000n, 0n, "unbilled"],
    ["apart", 5_000_000_000n, 6_000_000_000n, "unknown"],
  ])("%s: billed minus metered, with its cause", (_name, metered, billed, cause) => {
    const found = reconcile(
      "openai",
      day,
      metered === 0n ? [] : [{ model: "gpt-5.2", costNanoUsd: metered }],
      billed === 0n ? [] : [{ lineItem: "gpt-5.2, input", amountNanoUsd: billed }],
      now,
    );
    expect(found).toEqual([
      {
        provider: "openai",
        day,
        model: "gpt-5.2",
        meteredNanoUsd: metered,
        billedNanoUsd: billed,
        cause,
        madeAtMs: now,
      },
    ]);
  });

  it("takes a bill that is behind on a day of this week for late, not for less", () => {
    const [variance] = reconcile(
      "openai",
      "2026-11-22",
      [{ model: "m", costNanoUsd: 5_000_000_000n }],
      [{ lineItem: "m, input", amountNanoUsd: 1_000_000_000n }],
      now,
    );
    expect(variance?.cause).toBe("late");
  });

  it("matches a dated model with its family when only one can be meant, and never guesses between two", () => {
    const metered = [{ model: "gpt-4o-mini-2024-07-18", costNanoUsd: 7n }];
    expect(
      reconcile("openai", day, metered, [{ lineItem: "gpt-4o-mini, output", amountNanoUsd: 7n }], now).map(
        ({ model }) => model,
      ),
    ).toEqual(["gpt-4o-mini-2024-07-18"]);
    const two = [...metered, { model: "gpt-4o-mini-2025-01-01", costNanoUsd: 1n }];
    expect(
      reconcile("openai", day, two, [{ lineItem: "gpt-4o-mini, output", amountNanoUsd: 7n }], now).map(
        ({ model }) => model,
      ),
    ).toContain("gpt-4o-mini");
  });
});

describe("the jobs", () => {
  let folder: string;
  let billing: FakeBilling;
  beforeEach(async () => {
    folder = temporaryFolder();
    billing = await startFakeBilling("sk-admin-test");
  });
  afterEach(() => billing.close());

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

  it("read a bill in pages, compare it, and are the same however often and in whatever order they run", async () => {
    const now = Date.parse("2026-11-23T12:00:00Z");
    await writeBooks(Date.parse("2026-11-23T00:00:00Z"), 3);
    billing.days.set("2026-11-21", [
      { line_item: "gpt-5.2, input", amount: 0.5 },
      { line_item: "gpt-5.2, output", amount: 0.64 },
      { line_item: "gpt-5.2, cached input", amount: "0.0000001" },
    ]);
    billing.days.set("2026-11-22", [{ line_item: "o3, input", amount: 7.25, api_key_id: "key_leaked" }]);
    const both = books();
    const importer = openaiImporter({ adminKey: new Secret("sk-admin-test"), baseUrl: billing.url });
    const log = createLog("test", "silent");
    for (let run = 0; run < 3; run++) expect(await reconcileBills(both, [importer], 3, now + run, log)).toEqual([]);
    const found = await readVariances(both.billing, "2026-11-20", "2026-11-24");
    expect(found.filter(({ day }) => day === "2026-11-21")).toMatchObject([
      { model: "gpt-5.2", meteredNanoUsd: 1_140_000_000n, billedNanoUsd: 1_140_000_100n, cause: "rounding" },
    ]);
    expect(
      found.filter(({ day }) => day === "2026-11-22").toSorted((a, b) => (a.model < b.model ? -1 : 1)),
    ).toMatchObject([
      { model: "gpt-5.2", billedNanoUsd: 0n, cause: "late" },
      { model: "o3", meteredNanoUsd: 0n, billedNanoUsd: 7_250_000_000n, cause: "unmetered" },
    ]);
    expect((await readBilled(both.billing, "openai", "2026-11-21", "2026-11-22")).length).toBe(3);
    expect(billing.requests.filter((url) => url.includes("page=2")).length).toBeGreaterThan(0);
    both.usage.close();
    both.billing.close();
  });

  it.each([
    ["a wrong key", "sk-admin-wrong", undefined, "OPENAI_ADMIN_KEY"],
    ["a source that fails", "sk-admin-test", 403, "api.usage.read"],
  ])("%s: one sentence that says what to do; what was imported stays", async (_name, key, status, part) => {
    const now = Date.parse("2026-11-23T12:00:00Z");
    await writeBooks(Date.parse("2026-11-23T00:00:00Z"), 1);
    const both = books();
    billing.days.set("2026-11-22", [{ line_item: "gpt-5.2, input", amount: 1 }]);
    const log = createLog("test", "silent");
    await reconcileBills(
      both,
      [openaiImporter({ adminKey: new Secret("sk-admin-test"), baseUrl: billing.url })],
      1,
      now,
      log,
    );
    billing.status = status;
    const [failure] = await reconcileBills(
      both,
      [openaiImporter({ adminKey: new Secret(key), baseUrl: billing.url })],
      1,
      now + 1_000,
      log,
    );
    expect(failure).toContain(part);
    expect((await readBilled(both.billing, "openai", "2026-11-22", "2026-11-23")).length).toBe(1);
    const [noted] = await readImports(both.billing);
    expect(noted).toMatchObject({ lastSuccessMs: now, lastAttemptMs: now + 1_000 });
    expect(noted?.lastError).toContain(part);
    both.usage.close();
    both.billing.close();
  });

  it("refuse a currency that is not USD and an amount that is no number, and import nothing of that day", async () => {
    const importer = openaiImporter({ adminKey: new Secret("sk-admin-test"), baseUrl: billing.url });
    billing.days.set("2026-11-20", [{ line_item: "m, input", amount: 1, currency: "eur" }]);
    await expect(importer.fetchDay("2026-11-20")).rejects.toThrow("in eur; Keymeter books USD only");
    billing.days.set("2026-11-20", [{ line_item: "m, input", amount: "lots" }]);
    await expect(importer.fetchDay("2026-11-20")).rejects.toThrow("is no number");
  });
});
