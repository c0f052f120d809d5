// Seals: a UTC day that is over gets a digest of its events, written into the audit chain. After that no event can come to the day,
// and `verify` finds every one that was changed, taken out or put in.
import { createHash } from "node:crypto";
import { appendAudit } from "./audit.ts";
import { asc, drizzle, eq } from "./drizzle.ts";
import { attemptAtMs, firstAttemptId } from "./ids.ts";
import type { AttemptId } from "./ids.ts";
import type { Sqlite } from "./open.ts";
import { audit, sealedDays } from "./schema.ts";

/** What is kept of a day: how many events it has, and a SHA-256 of those of each hour. */
export type Seal = { readonly firstAttemptId: AttemptId; readonly events: number; readonly hours: readonly string[] };

const HOURS = 24;
const HOUR_MS = 3_600_000;
const DAY_MS = HOURS * HOUR_MS;
const IDS_PER_DAY = firstAttemptId(attemptAtMs(0) + DAY_MS);
const IDS_PER_HOUR = IDS_PER_DAY / HOURS;
/** Rows that are read at once: the writer serves requests in between. */
const SLICE = 100;
/** Everything an event says but its raw usage, which retention empties. */
const SEALED_COLUMNS = [
  "attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, tags",
  "input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state",
  "cost_nano_usd, cost_lines, price_version, price_confidence, outcome, http_status, duration_ms, first_byte_ms",
  "provider_request_id, response_id, stated_cost_nano_usd, usage_reason",
].join(", ");

/** The first attempt id of the oldest day that can be sealed: a later one has begun, nothing is open in it or before it, and days
 *  are sealed in their order. Undefined when there is none. No clock is asked: ids never go back. */
export function nextDayToSeal(database: Sqlite): AttemptId | undefined {
  const sealed = database.prepare("SELECT MAX(first_attempt_id) FROM sealed_days").pluck().get() as bigint | null;
  const from = sealed === null ? 0 : Number(sealed) + IDS_PER_DAY;
  const oldest = database.prepare("SELECT MIN(attempt_id) FROM events WHERE attempt_id >= ?").pluck().get(from);
  if (oldest === null) return undefined;
  const first = Number(oldest) - (Number(oldest) % IDS_PER_DAY);
  const end = first + IDS_PER_DAY;
  const isOver = database
    .prepare(
      `SELECT EXISTS (SELECT 1 FROM events WHERE attempt_id >= @end) OR EXISTS (SELECT 1 FROM reservations WHERE attempt_id >= @end)`,
    )
    .pluck()
    .get({ end });
  const isOpen = database.prepare("SELECT EXISTS (SELECT 1 FROM reservations WHERE attempt_id < ?)").pluck().get(end);
  return isOver && !isOpen ? first : undefined;
}

/** Digests a day's events in slices, between which it yields: its caller may do other things. */
export function* digestDay(database: Sqlite, first: AttemptId): Generator<undefined, Seal> {
  const slice = database
    .prepare(
      `SELECT ${SEALED_COLUMNS} FROM events WHERE attempt_id >= ? AND attempt_id < ? ORDER BY attempt_id LIMIT ${SLICE}`,
    )
    .raw();
  const hours = Array.from({ length: HOURS }, () => createHash("sha256"));
  let events = 0;
  let next = first;
  for (;;) {
    const rows = slice.all(next, first + IDS_PER_DAY) as unknown[][];
    for (const row of rows) {
      const attemptId = Number(row[0]);
      hours[Math.floor((attemptId - first) / IDS_PER_HOUR)]?.update(`${JSON.stringify(row.map(plain))}\n`);
      next = attemptId + 1;
    }
    events += rows.length;
    if (rows.length < SLICE) break;
    yield;
  }
  return { firstAttemptId: first, events, hours: hours.map((hour) => hour.digest("hex")) };
}

/** "2026-11-23" */
function dayOf({ firstAttemptId: first }: Pick<Seal, "firstAttemptId">): string {
  return new Date(attemptAtMs(first)).toISOString().slice(0, 10);
}

/** Seals a day. Throws when that may not be done any more, or not yet. */
export function applySeal(database: Sqlite, seal: Seal, atMs: number): void {
  if (nextDayToSeal(database) !== seal.firstAttemptId) throw new Error(`${dayOf(seal)} cannot be sealed now`);
  const auditSeq = appendAudit(database, {
    atMs,
    actor: "keymeter",
    action: "seal",
    subject: dayOf(seal),
    detail: JSON.stringify(seal),
  });
  drizzle(database).insert(sealedDays).values({ firstAttemptId: seal.firstAttemptId, auditSeq }).run();
}

/** Each sealed day whose events are not those that were sealed, with the hour, and each event that came to a day before. `onDay` hears
 *  how far it is. */
export async function readSealDifferences(
  database: Sqlite,
  onDay: (day: string) => void = () => {},
): Promise<string[]> {
  const { records, sealed, strays } = database.transaction(() => ({
    records: drizzle(database).select().from(audit).where(eq(audit.action, "seal")).orderBy(asc(audit.seq)).all(),
    sealed: new Set(database.prepare("SELECT first_attempt_id FROM sealed_days").pluck().all().map(Number)),
    strays: database
      .prepare(
        `SELECT DISTINCT attempt_id - attempt_id % ${IDS_PER_DAY} AS first FROM events
         WHERE attempt_id < (SELECT MAX(first_attempt_id) FROM sealed_days) AND first NOT IN (SELECT first_attempt_id FROM sealed_days)`,
      )
      .pluck()
      .all()
      .map(Number),
  }))();
  const found = strays.map(
    (first) => `${dayOf({ firstAttemptId: first })}: it was sealed without events, and has some`,
  );
  for (const { seq, detail } of records) {
    const seal = JSON.parse(detail) as Seal;
    const day = dayOf(seal);
    if (!sealed.delete(seal.firstAttemptId)) found.push(`${day}: audit record ${seq} seals it, sealed_days does not`);
    onDay(day);
    const now = await finish(digestDay(database, seal.firstAttemptId));
    if (now.events !== seal.events) found.push(`${day}: ${seal.events} events were sealed, ${now.events} are there`);
    seal.hours.forEach((hour, i) => {
      if (hour !== now.hours[i])
        found.push(`${day}, ${String(i).padStart(2, "0")}:00 UTC: events are not as they were sealed`);
    });
  }
  return [
    ...found,
    ...[...sealed].map((first) => `${dayOf({ firstAttemptId: first })}: sealed without an audit record`),
  ];
}

/** How far events are sealed: the last sealed day, and the oldest attempt that is open, for days are sealed in their order. */
export async function readSealed(
  database: Sqlite,
): Promise<{ readonly untilDay: string | undefined; readonly openSinceMs: number | undefined }> {
  const sealed = database.prepare("SELECT MAX(first_attempt_id) FROM sealed_days").pluck().get() as bigint | null;
  const open = database.prepare("SELECT MIN(attempt_id) FROM reservations").pluck().get() as bigint | null;
  return {
    untilDay: sealed === null ? undefined : dayOf({ firstAttemptId: Number(sealed) }),
    openSinceMs: open === null ? undefined : attemptAtMs(Number(open)),
  };
}

async function finish(digest: Generator<undefined, Seal>): Promise<Seal> {
  for (;;) {
    const step = digest.next();
    if (step.done) return step.value;
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function plain(value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}
