// Days as people type them.
import { addDays, DAY_MS, HOUR_MS, isDay } from "../ledger/windows.ts";
import type { Calendar } from "../ledger/windows.ts";
import { UsageError } from "./usage-error.ts";

/** "today", "yesterday", "month", "30d" or a day. */
export function parseDay(text: string, calendar: Calendar): string {
  const today = calendar.day(Date.now());
  if (text === "today") return today;
  if (text === "yesterday") return addDays(today, -1);
  if (text === "month") return calendar.window("month", Date.now()).firstDay;
  const back = /^(\d{1,4})d$/.exec(text)?.[1];
  if (back !== undefined) return addDays(today, -Number(back));
  if (isDay(text)) return text;
  throw new UsageError(`"${text}" is no day: write today, yesterday, month, 30d or a day such as 2026-11-01`);
}

/** The start of a day in the zone, or an instant such as 2026-11-30T18:00Z; undefined when it is neither. */
export function parseInstant(text: string, calendar: Calendar): number | undefined {
  const [day = ""] = text.split("T");
  if (!isDay(day)) return undefined;
  if (text === day) return calendar.dayStart(day);
  const isInstant = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})$/.test(text);
  const atMs = Date.parse(text);
  return isInstant && !Number.isNaN(atMs) ? atMs : undefined;
}

const DURATION = /^(\d{1,5})(h|d)$/;

/** "90d", "24h" from now, or a UTC day, as an instant. */
export function parseExpiry(text: string, nowMs: number): number {
  const duration = DURATION.exec(text);
  if (duration) return nowMs + Number(duration[1]) * (duration[2] === "h" ? HOUR_MS : DAY_MS);
  const instant = isDay(text) ? Date.parse(`${text}T00:00:00Z`) : Number.NaN;
  if (instant <= nowMs) throw new UsageError(`"${text}" is past; write a time to come, such as 90d, 24h or a day`);
  if (Number.isNaN(instant)) throw new UsageError(`"${text}" is no time: write 90d, 24h or a day such as 2027-01-31`);
  return instant;
}

/** "2026-11". */
export function parseMonth(text: string): string {
  if (!/^\d{4}-(0[1-9]|1[0-2])$/.test(text)) throw new UsageError(`"${text}" is no month: write 2026-11`);
  return text;
}
