// Time for people: days and budget windows in an IANA zone. A window is an id, never a reset job: a new month starts
// at zero because nothing was ever booked under its id. Pure; instants are UTC milliseconds.

export const WINDOWS = ["hour", "day", "week", "month", "quarter", "total"] as const;
export type WindowKind = (typeof WINDOWS)[number];

/** One window: `[startMs, endMs)`, with the local days it covers: `firstDay` included, `endDay` not. `total` has no
 *  end. */
export type Window = {
  readonly id: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly firstDay: string;
  readonly endDay: string;
};

/** Windows and days of one zone. Remembers the last window of each kind: most calls ask for "now". */
export type Calendar = {
  readonly zone: string;
  /** The local day of an instant, "2026-11-23". */
  day(atMs: number): string;
  window(kind: WindowKind, atMs: number): Window;
  /** The first instant of a local day. */
  dayStart(day: string): number;
};

/** Days and windows of any zone begin with a quarter of an hour. */
export const QUARTER_MS = 900_000;
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
const FAR_MS = 8_640_000_000_000_000;

/** Throws a RangeError when the zone is no IANA name that this Node knows. */
export function createCalendar(zone: string): Calendar {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
  const last = new Map<WindowKind, Window>();

  /** Local wall-clock time, written as if it were UTC. */
  const localMs = (atMs: number): number => {
    const parts: { [type: string]: string } = {};
    for (const part of format.formatToParts(atMs)) parts[part.type] = part.value;
    return Date.UTC(
      Number(parts["year"]),
      Number(parts["month"]) - 1,
      Number(parts["day"]),
      Number(parts["hour"]),
      Number(parts["minute"]),
      Number(parts["second"]),
    );
  };
  const offsetMs = (atMs: number): number => localMs(atMs) - Math.floor(atMs / 1000) * 1000;

  const dayStart = (day: string): number => {
    const asUtc = Date.parse(`${day}T00:00:00Z`);
    const before = offsetMs(asUtc - DAY_MS);
    const after = offsetMs(asUtc + DAY_MS);
    const starts = [asUtc - before, asUtc - after].filter((candidate) => localMs(candidate) === asUtc);
    // Where midnight does not exist (the clock jumps from 24:00 to 01:00) the day starts at the jump.
    return starts.length > 0 ? Math.min(...starts) : asUtc - before;
  };

  const build = (kind: WindowKind, atMs: number): Window => {
    const day = utcDay(localMs(atMs));
    const [year, month] = [Number(day.slice(0, 4)), Number(day.slice(5, 7))];
    const span = (id: string, firstDay: string, endDay: string): Window => ({
      id,
      startMs: dayStart(firstDay),
      endMs: dayStart(endDay),
      firstDay,
      endDay,
    });
    switch (kind) {
      case "hour": {
        const startMs = atMs - (((localMs(atMs) % HOUR_MS) + (atMs % 1000)) % HOUR_MS);
        const id = `hour:${new Date(startMs).toISOString().slice(0, 16)}Z`;
        return { id, startMs, endMs: startMs + HOUR_MS, firstDay: day, endDay: addDays(day, 1) };
      }
      case "day":
        return span(`day:${day}`, day, addDays(day, 1));
      case "week": {
        const monday = addDays(day, -((new Date(`${day}T00:00:00Z`).getUTCDay() + 6) % 7));
        return span(`week:${monday}`, monday, addDays(monday, 7));
      }
      case "month":
        return span(`month:${day.slice(0, 7)}`, monthDay(year, month), monthDay(year, month + 1));
      case "quarter": {
        const first = month - ((month - 1) % 3);
        return span(`quarter:${year}-Q${(first + 2) / 3}`, monthDay(year, first), monthDay(year, first + 3));
      }
      case "total":
        return { id: "total", startMs: 0, endMs: FAR_MS, firstDay: "0000-01-01", endDay: "9999-12-31" };
    }
  };

  const window = (kind: WindowKind, atMs: number): Window => {
    const known = last.get(kind);
    if (known && atMs >= known.startMs && atMs < known.endMs) return known;
    const built = build(kind, atMs);
    last.set(kind, built);
    return built;
  };

  return { zone, dayStart, window, day: (atMs) => window("day", atMs).firstDay };
}

/** Calendar arithmetic on "YYYY-MM-DD", free of zones. */
export function addDays(day: string, days: number): string {
  return utcDay(Date.parse(`${day}T00:00:00Z`) + days * DAY_MS);
}

function monthDay(year: number, month: number): string {
  return utcDay(Date.UTC(year, month - 1, 1));
}

/** The UTC day of an instant: what bills go by, in whatever zone people count. */
export function utcDay(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 10);
}

/** Whether text is a day of the calendar: "2026-02-31" is none. */
export function isDay(text: string): boolean {
  return /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(text)) && addDays(text, 0) === text;
}
