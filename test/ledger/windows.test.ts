// Days and windows in zones where they are not what UTC says.
import { describe, expect, it } from "vitest";
import { addDays, createCalendar, WINDOWS } from "../../ledger/windows.ts";

const at = (text: string): number => Date.parse(text);

describe("a day", () => {
  it.each([
    ["UTC", "2026-11-23T23:59:59.999Z", "2026-11-23", "2026-11-23T00:00:00Z", 24],
    ["Asia/Tokyo", "2026-11-22T15:00:00Z", "2026-11-23", "2026-11-22T15:00:00Z", 24],
    ["Asia/Kathmandu", "2026-11-22T18:15:00Z", "2026-11-23", "2026-11-22T18:15:00Z", 24],
    ["America/Los_Angeles", "2026-03-08T12:00:00Z", "2026-03-08", "2026-03-08T08:00:00Z", 23],
    ["America/Los_Angeles", "2026-11-01T12:00:00Z", "2026-11-01", "2026-11-01T07:00:00Z", 25],
    ["America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06", "2026-09-06T04:00:00Z", 23],
    ["Pacific/Chatham", "2028-02-29T12:00:00Z", "2028-03-01", "2028-02-29T10:15:00Z", 24],
  ])("in %s at %s is %s, starts at %s and has %i hours", (zone, instant, day, start, hours) => {
    const calendar = createCalendar(zone);
    const window = calendar.window("day", at(instant));
    expect(calendar.day(at(instant))).toBe(day);
    expect(new Date(window.startMs).toISOString()).toBe(new Date(start).toISOString());
    expect((window.endMs - window.startMs) / 3_600_000).toBe(hours);
  });
});

describe("windows", () => {
  it("have one id from their first to their last millisecond, and another outside", () => {
    for (const zone of ["UTC", "Asia/Tokyo", "America/Los_Angeles", "Asia/Kathmandu", "Australia/Lord_Howe"]) {
      const calendar = createCalendar(zone);
      for (const kind of WINDOWS) {
        if (kind === "total") continue;
        for (const instant of [
          "2026-03-08T09:59:00Z",
          "2026-11-01T08:30:00Z",
          "2028-02-29T12:00:00Z",
          "2026-12-31T23:30:00Z",
        ]) {
          const window = calendar.window(kind, at(instant));
          expect(window.startMs <= at(instant) && at(instant) < window.endMs, `${zone} ${kind} ${instant}`).toBe(true);
          expect(createCalendar(zone).window(kind, window.startMs).id).toBe(window.id);
          expect(createCalendar(zone).window(kind, window.endMs - 1).id, `${zone} ${kind} ${instant}: end`).toBe(
            window.id,
          );
          expect(createCalendar(zone).window(kind, window.endMs).id).not.toBe(window.id);
          expect(createCalendar(zone).window(kind, window.startMs - 1).id).not.toBe(window.id);
        }
      }
    }
  });

  it("of weeks start on Monday, of quarters in January, April, July, October", () => {
    const calendar = createCalendar("UTC");
    expect(calendar.window("week", at("2026-11-22T10:00:00Z"))).toMatchObject({
      firstDay: "2026-11-16",
      endDay: "2026-11-23",
    });
    expect(calendar.window("quarter", at("2026-11-22T10:00:00Z"))).toMatchObject({
      id: "quarter:2026-Q4",
      firstDay: "2026-10-01",
      endDay: "2027-01-01",
    });
    expect(calendar.window("month", at("2028-02-29T10:00:00Z"))).toMatchObject({
      firstDay: "2028-02-01",
      endDay: "2028-03-01",
    });
  });

  it("of days add up over a year without a gap", () => {
    const calendar = createCalendar("America/Los_Angeles");
    for (let day = "2026-01-01"; day < "2027-01-01"; day = addDays(day, 1))
      expect(calendar.window("day", calendar.dayStart(day)).endMs).toBe(calendar.dayStart(addDays(day, 1)));
  });
});
