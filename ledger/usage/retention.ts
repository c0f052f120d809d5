// Retention: a UTC day whose events are in a file of their own leaves the books. Before, its sums are held against its events
// once more, and their digest goes into the audit: from then on they are proven by that.
import { createHash } from "node:crypto";
import { ask, askValue } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { asc, eq } from "../drizzle.ts";
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import { rowsOf, snapshotOf, tablesOf, valueOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import type { Budget } from "../budgets.ts";
import { addDays, createCalendar, DAY_MS, HOUR_MS, utcDay } from "../windows.ts";
import type { Calendar } from "../windows.ts";
import { EVENT_NAMES, IS_NUMBER } from "./event-columns.ts";
import { ChangeRefused } from "./change-refused.ts";
import { LEAST_DAYS } from "./kept-days.ts";
import { audit } from "./schema.ts";

/** A day whose events are in a file: it names the file and its SHA-256, so that it can be told later. */
export type Expiry = {
  readonly firstAttemptId: AttemptId;
  readonly events: number;
  readonly file: string;
  readonly sha256: string;
};

/** What the audit keeps of it: digests of the sums of its hours, and of the days of the books' zone that are whole by then. */
type Expired = Expiry & { readonly hours: string; readonly days: { readonly [day: string]: string } };

const KEPT_FROM = "events_kept_from";
const DIMENSIONS = "key_id, provider, model, requested_model, team, project, env, person, payer";
const SUMS =
  "requests, cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred, seat_nano_usd";

function digestText(table: "rollup_hour" | "rollup_day", time: string): string {
  return `SELECT ${time}, ${DIMENSIONS}, ${SUMS} FROM ${table} WHERE ${time} >= ? AND ${time} < ? ORDER BY ${time}, ${DIMENSIONS}`;
}
const HOURS = digestText("rollup_hour", "hour_ms");
const DAYS = digestText("rollup_day", "day");

function digestOf(rows: readonly (readonly unknown[])[]): string {
  const hash = createHash("sha256");
  for (const row of rows)
    hash.update(`${JSON.stringify(row.map((value) => (typeof value === "bigint" ? value.toString() : value)))}\n`);
  return hash.digest("hex");
}

/** What a file has of an event: its columns, and the owner that it named first where that was corrected, which is what its
 *  seal is of. */
export const ARCHIVED: readonly { readonly name: string; readonly isNumber: boolean }[] = [
  ...EVENT_NAMES.map((name, i) => ({ name, isNumber: IS_NUMBER[i] === true })),
  ...["first_team", "first_project", "first_env"].map((name) => ({ name, isNumber: false })),
];

/** Rows of `[first, end)` in these columns, at most `limit`, by their ids. */
export function readArchivedRows(
  books: UsageBooks,
  first: AttemptId,
  end: AttemptId,
  limit: number,
): Promise<unknown[][]> {
  return rowsOf<unknown[]>(
    books,
    `SELECT ${EVENT_NAMES.map((name) => `events.${name}`).join(", ")}, reassigned.team, reassigned.project, reassigned.env
     FROM events LEFT JOIN reassigned ON reassigned.attempt_id = events.attempt_id
     WHERE events.attempt_id >= ? AND events.attempt_id < ? ORDER BY events.attempt_id LIMIT ?`,
    first,
    end,
    limit,
  );
}

/** Events before this attempt have left the books. 0: all are there. */
export function* askKeptFrom(): Asking<AttemptId> {
  return Number((yield* askValue<string>(`SELECT value FROM meta WHERE name = '${KEPT_FROM}'`)) ?? 0);
}

/** From which instant on events are in the books; undefined: all are. */
export async function readKeptFrom(books: UsageBooks): Promise<number | undefined> {
  const id = Number((await valueOf<string>(books, `SELECT value FROM meta WHERE name = '${KEPT_FROM}'`)) ?? 0);
  return id === 0 ? undefined : attemptAtMs(id);
}

const IDS_PER_DAY = firstAttemptId(attemptAtMs(0) + DAY_MS);
/** The first day that has events or a seal, and how many seals there are from it on. A day whose first event came after the days behind
 *  it were sealed has none: all its events came late, and are in the audit one by one. */
const OLDEST = `SELECT MIN(first), (SELECT COUNT(*) FROM sealed_days WHERE first_attempt_id >= ?) FROM (
  SELECT MIN(attempt_id) - MIN(attempt_id) % ${IDS_PER_DAY} AS first FROM events WHERE attempt_id >= ?
  UNION ALL SELECT MIN(first_attempt_id) FROM sealed_days WHERE first_attempt_id >= ?) AS days`;

/** The oldest sealed day whose events are in the books; undefined: none that may leave them. The day after has to be
 *  sealed too, for a day of another zone may lie across both. `isOpen`: work of its time still goes on. */
export async function findDayToExpire(
  books: UsageBooks,
  keepDays: number,
  nowMs: number,
): Promise<{ readonly firstAttemptId: AttemptId; readonly day: string; readonly isOpen: boolean } | undefined> {
  const kept = Number((await valueOf<string>(books, `SELECT value FROM meta WHERE name = '${KEPT_FROM}'`)) ?? 0);
  const before = firstAttemptId(nowMs - Math.max(keepDays, LEAST_DAYS) * DAY_MS);
  const [row] = await rowsOf<[first: bigint | null, seals: bigint]>(books, OLDEST, kept, kept, kept);
  const first = row?.[0] === null || row === undefined ? undefined : Number(row[0]);
  // The last sealed day stays.
  if (first === undefined || Number(row?.[1]) < 2 || first + IDS_PER_DAY > before) return undefined;
  const end = first + IDS_PER_DAY;
  const open = await valueOf<bigint>(books, "SELECT 1 FROM reservations WHERE attempt_id < ? LIMIT 1", end);
  return { firstAttemptId: first, day: utcDay(attemptAtMs(first)), isOpen: open !== undefined };
}

/** Budgets whose running window is summed up from events themselves, and begins before an instant: what they count has to
 *  stay. */
export function heldBy(budgets: readonly Budget[], calendar: Calendar, beforeMs: number, nowMs: number): Budget[] {
  return budgets.filter(
    ({ scope, each, window }) =>
      (scope.tag !== undefined || each?.startsWith("tag:") === true) &&
      window !== "hour" &&
      (window === "total" || calendar.window(window, nowMs).startMs < beforeMs),
  );
}

/** Throws ChangeRefused for a budget that would begin with less than what was spent: what it counts has left the books in part. */
export function* requireCountable(budget: Budget, nowMs: number): Asking<void> {
  const kept = yield* askKeptFrom();
  if (kept === 0) return;
  const calendar = createCalendar((yield* askValue<string>("SELECT value FROM meta WHERE name = 'zone'")) ?? "UTC");
  if (heldBy([budget], calendar, attemptAtMs(kept), nowMs).length > 0)
    throw new ChangeRefused(
      `it sums up tags, and events before ${utcDay(attemptAtMs(kept))} have left the books: of this ${budget.window === "total" ? "total" : `${budget.window}'s window`} a part would not count. Take a shorter window`,
    );
}

/** Lets a day's events leave the books: what is to be deleted is deleted afterwards (sweep.ts). Throws ChangeRefused when
 *  it may not, or when its sums are not those of its events. Returns what the audit says. */
export function* applyExpiry(expiry: Expiry, budgets: readonly Budget[], nowMs: number): Asking<string> {
  const { firstAttemptId: first } = expiry;
  const [startMs, day] = [attemptAtMs(first), utcDay(attemptAtMs(first))];
  const endMs = startMs + DAY_MS;
  const end = firstAttemptId(endMs);
  const refuse = (why: string): never => {
    throw new ChangeRefused(`the events of ${day} cannot leave the books: ${why}`);
  };
  const kept = yield* askKeptFrom();
  if (first % (end - first) !== 0 || first < kept) refuse("it is no day of theirs");
  if (endMs > nowMs - LEAST_DAYS * DAY_MS) refuse(`it is younger than ${LEAST_DAYS} days`);
  const [oldest] = yield* ask<[first: bigint | null, seals: bigint]>(OLDEST, kept, kept, kept);
  if (Number(oldest?.[0] ?? -1) !== first || Number(oldest?.[1] ?? 0) < 2)
    refuse("it is not the oldest, or the days behind it are not sealed");
  // Its event would come to a day that is gone.
  const open = yield* ask("SELECT 1 FROM reservations WHERE attempt_id < ? LIMIT 1", end);
  if (open.length > 0) refuse("work of that time still goes on at its provider");
  const [booked] = yield* ask<[count: bigint, cost: bigint | null]>(
    "SELECT COUNT(*), SUM(booked_nano_usd) FROM booked WHERE attempt_id >= ? AND attempt_id < ?",
    first,
    end,
  );
  const hourRows = yield* ask<unknown[]>(HOURS, startMs, endMs);
  const [count, cost = 0n] = booked ?? [0n];
  if (Number(count) !== expiry.events) refuse(`${String(count)} are there, ${expiry.events} are in the file`);
  const sumOf = (rows: readonly (readonly unknown[])[], i: number): bigint =>
    rows.reduce((sum, row) => sum + (row[10 + i] as bigint), 0n);
  if (sumOf(hourRows, 0) !== count || sumOf(hourRows, 1) !== (cost ?? 0n))
    refuse("the sums of its hours are not those of its events; see what `keymeter verify` says");
  const calendar = createCalendar((yield* askValue<string>("SELECT value FROM meta WHERE name = 'zone'")) ?? "UTC");
  const [held] = heldBy(budgets, calendar, endMs, nowMs);
  if (held) refuse(`budget ${held.id} sums up tags over a window that began before its end`);
  const days: { [day: string]: string } = {};
  for (const local of yield* askLocalDays(calendar, kept === 0 ? undefined : attemptAtMs(kept), endMs)) {
    const rows = yield* ask<unknown[]>(DAYS, local, addDays(local, 1));
    const [from, to] = [calendar.dayStart(local), calendar.dayStart(addDays(local, 1))];
    // Where a zone's days begin with an hour, they are the sum of their hours.
    if (from % HOUR_MS === 0 && to % HOUR_MS === 0) {
      const ofHours = yield* ask<unknown[]>(HOURS, from, to);
      if (sumOf(rows, 0) !== sumOf(ofHours, 0) || sumOf(rows, 1) !== sumOf(ofHours, 1))
        refuse(`the sums of ${local} are not those of its hours; see what \`keymeter verify\` says`);
    }
    days[local] = digestOf(rows);
  }
  yield* ask(
    `INSERT INTO meta (name, value) VALUES ('${KEPT_FROM}', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
    String(end),
  );
  const said: Expired = { ...expiry, hours: digestOf(hourRows), days };
  return JSON.stringify(said);
}

/** Days of the zone that have sums, end by `endMs`, and did not by `keptMs`. */
function* askLocalDays(calendar: Calendar, keptMs: number | undefined, endMs: number): Asking<string[]> {
  // What ended exactly then was counted the last time.
  const first = keptMs === undefined ? "" : calendar.day(keptMs);
  const found = yield* ask<[day: string]>(
    "SELECT DISTINCT day FROM rollup_day WHERE day >= ? AND day <= ? ORDER BY 1",
    first,
    calendar.day(endMs),
  );
  return found.map(([day]) => day).filter((day) => calendar.dayStart(addDays(day, 1)) <= endMs);
}

const EXPIRE = "expire";

async function readExpired(books: UsageBooks): Promise<Expired[]> {
  const records = await tablesOf(books)
    .select()
    .from(audit)
    .where(eq(audit.action, EXPIRE))
    .orderBy(asc(audit.seq))
    .all();
  return records.map(({ detail }) => JSON.parse(detail) as Expired);
}

/** What the audit says has left the books, in order. */
export async function readExpiries(books: UsageBooks): Promise<Expiry[]> {
  return (await readExpired(books)).map(({ firstAttemptId: first, events, file, sha256 }) => ({
    firstAttemptId: first,
    events,
    file,
    sha256,
  }));
}

/** From which attempt on events are in the books, by the audit. */
export function endOfExpiries(expiries: readonly Expiry[]): AttemptId {
  const last = expiries.at(-1)?.firstAttemptId;
  return last === undefined ? 0 : firstAttemptId(attemptAtMs(last) + DAY_MS);
}

/** Sums of days whose events have left the books that are not what they were then, and sums of that time that stand for
 *  none. */
export async function readExpiryDifferences(books: UsageBooks): Promise<string[]> {
  return snapshotOf(books, async (own) => {
    const expired = await readExpired(own);
    const end = endOfExpiries(expired);
    const stated = Number((await valueOf<string>(own, `SELECT value FROM meta WHERE name = '${KEPT_FROM}'`)) ?? 0);
    const found =
      stated === end
        ? []
        : [
            `events are said to be kept from attempt ${stated} on; by the audit it is ${end === 0 ? "all of them" : end}`,
          ];
    if (end === 0) return found;
    const calendar = createCalendar(
      (await valueOf<string>(own, "SELECT value FROM meta WHERE name = 'zone'")) ?? "UTC",
    );
    const hours = new Map(expired.map((one) => [utcDay(attemptAtMs(one.firstAttemptId)), one.hours]));
    const days = new Map(expired.flatMap((one) => Object.entries(one.days)));
    for (const [day, digest] of hours) {
      const startMs = Date.parse(`${day}T00:00:00Z`);
      if (digestOf(await rowsOf<unknown[]>(own, HOURS, startMs, startMs + DAY_MS)) !== digest)
        found.push(`hours of ${day}: they are not as they were when the day's events left the books`);
    }
    for (const [day, digest] of days)
      if (digestOf(await rowsOf<unknown[]>(own, DAYS, day, addDays(day, 1))) !== digest)
        found.push(`day ${day}: its sums are not as they were when its events left the books`);
    const endMs = attemptAtMs(end);
    for (const [hour] of await rowsOf<[bigint]>(
      own,
      "SELECT DISTINCT hour_ms FROM rollup_hour WHERE hour_ms < ? ORDER BY 1",
      endMs,
    ))
      if (!hours.has(utcDay(Number(hour))))
        found.push(`hour ${new Date(Number(hour)).toISOString()}: sums that stand for no events`);
    for (const [day] of await rowsOf<[string]>(
      own,
      "SELECT DISTINCT day FROM rollup_day WHERE day <= ? ORDER BY 1",
      calendar.day(endMs),
    ))
      if (calendar.dayStart(addDays(day, 1)) <= endMs && !days.has(day))
        found.push(`day ${day}: sums that stand for no events`);
    return found;
  });
}
