// Days and windows in zones where they are not what UTC says.
import { describe, expect, it } from "vitest";
import { createBooking } from "../../ledger/usage/booking.ts";
import { eventRow } from "../../ledger/usage/event-columns.ts";
import { firstAttemptId } from "../../ledger/ids.ts";
import { openScratch } from "../../ledger/sqlite.ts";
import { addDays, createCalendar, WINDOWS } from "../../ledger/windows.ts";
import type { WindowKind } from "../../ledger/windows.ts";
import { decodeBatch, encodeBatch } from "../../ledger/usage/wire.ts";
import { event, SUBJECT } from "../usage-event.ts";

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

/** Instants at which a window ends, reckoned by hand. */
const TURNS: readonly (readonly [zone: string, window: WindowKind, what: string, at: string])[] = [
  ["UTC", "hour", "a full hour", "2026-11-23T11:00Z"],
  ["UTC", "day", "midnight", "2026-11-24T00:00Z"],
  ["UTC", "day", "the start of a leap day", "2028-02-29T00:00Z"],
  ["UTC", "week", "Monday", "2026-11-30T00:00Z"],
  ["UTC", "month", "the end of November", "2026-12-01T00:00Z"],
  ["UTC", "month", "the end of a leap February", "2028-03-01T00:00Z"],
  ["UTC", "month", "the end of February", "2027-03-01T00:00Z"],
  ["UTC", "quarter", "the end of a year", "2027-01-01T00:00Z"],
  ["Asia/Tokyo", "hour", "a full hour", "2026-11-23T11:00Z"],
  ["Asia/Tokyo", "day", "midnight", "2026-11-23T15:00Z"],
  ["Asia/Tokyo", "week", "Monday", "2026-11-29T15:00Z"],
  ["Asia/Tokyo", "month", "the end of November", "2026-11-30T15:00Z"],
  ["Asia/Tokyo", "month", "the end of a leap February", "2028-02-29T15:00Z"],
  ["Asia/Tokyo", "quarter", "the end of a year", "2026-12-31T15:00Z"],
  ["America/Los_Angeles", "hour", "the hour before clocks go forward", "2026-03-08T10:00Z"],
  ["America/Los_Angeles", "hour", "the hour that comes twice, the first time", "2026-11-01T09:00Z"],
  ["America/Los_Angeles", "hour", "the hour that comes twice, the second time", "2026-11-01T10:00Z"],
  ["America/Los_Angeles", "day", "the start of the day of 23 hours", "2026-03-08T08:00Z"],
  ["America/Los_Angeles", "day", "the end of the day of 23 hours", "2026-03-09T07:00Z"],
  ["America/Los_Angeles", "day", "the start of the day of 25 hours", "2026-11-01T07:00Z"],
  ["America/Los_Angeles", "day", "the end of the day of 25 hours", "2026-11-02T08:00Z"],
  ["America/Los_Angeles", "week", "Monday after clocks went forward", "2026-03-09T07:00Z"],
  ["America/Los_Angeles", "week", "Monday after clocks went back", "2026-11-02T08:00Z"],
  ["America/Los_Angeles", "month", "the end of October, in summer time", "2026-11-01T07:00Z"],
  ["America/Los_Angeles", "month", "the end of November, in winter time", "2026-12-01T08:00Z"],
  ["America/Los_Angeles", "month", "the end of a leap February", "2028-03-01T08:00Z"],
  ["America/Los_Angeles", "quarter", "the end of September", "2026-10-01T07:00Z"],
  ["Asia/Kathmandu", "hour", "a full hour, at a quarter past by UTC", "2026-11-23T10:15Z"],
  ["Asia/Kathmandu", "day", "midnight", "2026-11-23T18:15Z"],
  ["Asia/Kathmandu", "week", "Monday", "2026-11-29T18:15Z"],
  ["Asia/Kathmandu", "month", "the end of November", "2026-11-30T18:15Z"],
  ["Asia/Kathmandu", "month", "the end of a leap February", "2028-02-29T18:15Z"],
  ["Asia/Kathmandu", "quarter", "the end of a year", "2026-12-31T18:15Z"],
];

describe("a budget", () => {
  it.each(TURNS)(
    "in %s by the %s begins anew at %s, %s: not a millisecond before, and not late",
    (zone, window, _what, turn) => {
      const turnMs = at(turn);
      const booking = createBooking(openScratch("usage"), zone, "enforce", turnMs - 1);
      const budget = {
        id: "b",
        scope: {},
        window,
        kind: "hard",
        mode: "strict",
        amountNanoUsd: 10n,
        createdAtMs: 0,
      } as const;
      booking.book([
        { type: "change", change: { type: "setBudget", budget }, author: { actor: "test", atMs: turnMs - 1 } },
      ]);
      const spend = (atMs: number, cost: bigint, nth = 0): boolean => {
        const attemptId = firstAttemptId(atMs) + nth;
        const request = { attemptId, subject: SUBJECT, boundNanoUsd: cost, expectedNanoUsd: cost };
        const [answer] = booking.book(
          decodeBatch(encodeBatch([{ type: "reserve", request, endpoint: "c", tags: undefined }])),
        );
        if (answer?.type !== "decision") throw new Error(`answered ${answer?.type}`);
        if (!answer.decision.admitted) return false;
        booking.book([{ type: "settle", row: eventRow(event(attemptId, cost)), proven: null }]);
        return true;
      };
      expect([spend(turnMs - 1, 10n), spend(turnMs - 1, 1n, 1)]).toEqual([true, false]);
      expect([spend(turnMs, 10n), spend(turnMs, 1n, 1)]).toEqual([true, false]);
      const { startMs, endMs } = createCalendar(zone).window(window, turnMs);
      expect(startMs).toBe(turnMs);
      // The other end of the new window.
      expect([spend(endMs - 1, 1n), spend(endMs, 10n)]).toEqual([false, true]);
    },
  );
});
