// Pictures of spend: what is written on them, and that they are pictures, whatever the figures.
import { describe, expect, it } from "vitest";
import { toPng } from "../charts/png.ts";
import { courseOf, courseStart } from "../charts/course.ts";
import { drawSpend } from "../charts/spend.ts";
import type { FrozenForecast } from "../ledger/billing/forecasts.ts";
import type { SpendSeries } from "../charts/spend.ts";

const HOUR_MS = 3_600_000;
const SERIES: SpendSeries = {
  title: "Team <search>: spend today",
  startMs: Date.parse("2026-11-22T23:00:00Z"),
  endMs: Date.parse("2026-11-23T23:00:00Z"),
  nowMs: Date.parse("2026-11-23T11:30:00Z"),
  spent: Array<number>(13).fill(2.5),
  expected: Array<number>(24).fill(1),
  ahead: { hours: [0.5, ...Array<number>(11).fill(1)], low: 0.8, high: 1.3 },
  budget: 40,
  timezone: "Europe/Berlin",
};

describe("the picture of a day", () => {
  it("names spent, forecast and budget beside their lines, and the hours of the zone", async () => {
    const svg = await drawSpend(SERIES);
    for (const part of [
      "Team &lt;search&gt;",
      "spent $32.50",
      "lands at $44.00 ($41.70 to $47.45)",
      "forecast at the start $24.00",
      "budget $40.00",
      "00:00",
      "06:00",
      "18:00",
    ])
      expect(svg).toContain(part);
    expect(svg).not.toContain("NaN");
  });

  it("is a PNG with letters in it, twice as large as it is drawn", async () => {
    const svg = await drawSpend(SERIES);
    const png = Buffer.from(await toPng(svg));
    expect(png.subarray(1, 4).toString()).toBe("PNG");
    expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([1440, 800]);
    // Without a font every letter would be missing, and the picture much smaller.
    const wordless = Buffer.from(await toPng(svg.replaceAll(/<text[^]*?<\/text>/g, "")));
    expect(png.length).toBeGreaterThan(wordless.length * 1.3);
  });

  it.each([
    ["nothing spent", { ...SERIES, spent: [], budget: undefined }],
    [
      "nothing at all",
      { ...SERIES, spent: [0], expected: Array<number>(24).fill(0), ahead: undefined, budget: undefined },
    ],
    ["a month", { ...SERIES, endMs: SERIES.startMs + 30 * 24 * HOUR_MS, expected: Array<number>(720).fill(1000) }],
  ])("is drawn for %s", async (_name, series) => {
    expect(await drawSpend(series)).not.toContain("NaN");
  });
});

describe("the course of a window", () => {
  it("begins with the whole hour in which a zone's midnight lies, and counts all that was spent in it", () => {
    // The first of November in Kathmandu, 5:45 before Greenwich.
    const startMs = Date.parse("2026-10-31T18:15:00Z");
    const made: FrozenForecast = {
      scope: "org",
      id: "all",
      window: "month",
      windowId: "2026-11",
      startMs,
      endMs: startMs + 30 * 86_400_000,
      madeAtMs: startMs,
      method: "blend",
      historyHours: 700,
      p10NanoUsd: 80_000_000_000n,
      p50NanoUsd: 100_000_000_000n,
      p90NanoUsd: 130_000_000_000n,
      largestHourNanoUsd: 1n,
      hours: Array.from({ length: 721 }, () => 1_000_000_000n),
    };
    expect(courseStart(made)).toBe(Date.parse("2026-10-31T18:00:00Z"));
    const spent = [0, 1, 5].map((hour) => ({
      hourMs: courseStart(made) + hour * 3_600_000,
      id: "all",
      costNanoUsd: BigInt(hour + 1) * 1_000_000_000n,
    }));
    const course = courseOf(made, spent, undefined, startMs + 6 * 3_600_000);
    expect(course.spent).toEqual([1, 2, 0, 0, 0, 6, 0]);
    expect(course.startMs).toBe(courseStart(made));
    expect(course.ahead).toBeUndefined();
    // What is to come: of the running hour the quarter that is left.
    const restMs = courseStart(made) + 6 * 3_600_000;
    const rest = { ...made, startMs: restMs, hours: made.hours.slice(6), p50NanoUsd: 715_000_000_000n };
    const { ahead } = courseOf(made, spent, rest, restMs + 45 * 60_000);
    expect(ahead?.hours.slice(0, 2)).toEqual([0.25, 1]);
    expect(ahead?.hours.length).toBe(715);
  });
});
