// Seals: a UTC day that is over gets a digest of its events, written into the audit chain. After that only work that
// went on at a provider can bring it an event, each with an audit record of its own; `verify` finds every one that was
// changed, taken out or put in.
import { createHash } from "node:crypto";
import { appendAudit } from "./audit.ts";
import { ChangeRefused } from "./change-refused.ts";
import { ask, askValue, tell, write } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { asc, eq } from "../drizzle.ts";
import { KNOWN_COLUMNS, SEALED_COLUMNS } from "./event-columns.ts";
import { attemptAtMs, firstAttemptId, formatAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import { PARTS } from "./reassign.ts";
import { endOfExpiries, readExpiries } from "./retention.ts";
import { rowsOf, snapshotOf, tablesOf, valueOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { audit, sealedDays } from "./schema.ts";

/** What is kept of a day: how many events it has, and a SHA-256 of those of each hour, over these columns. */
export type Seal = {
  readonly firstAttemptId: AttemptId;
  readonly events: number;
  readonly hours: readonly string[];
  /** Absent: a seal of before its columns were written down. */
  readonly columns?: readonly string[] | undefined;
};

const HOURS = 24;
const HOUR_MS = 3_600_000;
const DAY_MS = HOURS * HOUR_MS;
/** Ids are made in another thread, and may be a little ahead of what is asked here. */
const SLACK_MS = 1_000;
const IDS_PER_DAY = firstAttemptId(attemptAtMs(0) + DAY_MS);
const IDS_PER_HOUR = IDS_PER_DAY / HOURS;
/** Rows that are read at once: the writer serves requests in between. */
const SLICE = 100;
/** What seals that name no columns cover. Never changed: a column that came later is named by the seals that cover
 *  it. */
const COLUMNS_OF_FIRST_SEALS =
  `attempt_id key_id provider endpoint requested_model served_model tier team project env tags
  input cache_read cache_write_5m cache_write_1h output other_usage reasoning usage_state cost_nano_usd cost_lines price_version
  price_confidence outcome http_status duration_ms first_byte_ms provider_request_id response_id stated_cost_nano_usd
  usage_reason`.split(/\s+/);
const SEALED_EVENTS = "events LEFT JOIN reassigned ON reassigned.attempt_id = events.attempt_id";

/** Columns as SQL. Of a name of the owner what the event named first: whose spend is may be corrected afterwards, with
 *  an audit record of its own (reassign.ts). */
function select(columns: readonly string[]): string {
  const of = (name: string): string =>
    (PARTS as readonly string[]).includes(name) ? `COALESCE(reassigned.${name}, events.${name})` : `events.${name}`;
  return columns.map(of).join(", ");
}

/** The first attempt id of the oldest day that can be sealed: a later one has begun, by the clock and in the books, in
 *  it and before it nothing is open but work that goes on at a provider, and days are sealed in their order. Undefined
 *  when there is none. What lies ahead of the clock says nothing of a day: it may be of a clock that was wrong. */
export function* askDayToSeal(nowMs: number): Asking<AttemptId | undefined> {
  const sealedEnd = yield* askSealedEnd();
  const oldest = yield* askValue<bigint | null>("SELECT MIN(attempt_id) FROM events WHERE attempt_id >= ?", sealedEnd);
  if (typeof oldest !== "bigint") return undefined;
  const first = Number(oldest) - (Number(oldest) % IDS_PER_DAY);
  const end = first + IDS_PER_DAY;
  const here = firstAttemptId(nowMs + SLACK_MS);
  for (const table of ["events", "reservations"]) {
    const later = `SELECT 1 FROM ${table} WHERE attempt_id >= ? AND attempt_id < ? LIMIT 1`;
    if ((yield* ask(later, end, here)).length === 0) continue;
    const open = "SELECT 1 FROM reservations WHERE attempt_id < ? AND work_id IS NULL LIMIT 1";
    return (yield* ask(open, end)).length === 0 ? first : undefined;
  }
  return undefined;
}

/** Digests a day's events in slices: yields the question of each, and is given its rows. Between two slices its caller
 *  may do other things. `late` ones are left out. */
export function* digestDay(
  first: AttemptId,
  late: { has(attemptId: AttemptId): boolean } = NONE,
  columns: readonly string[] = SEALED_COLUMNS,
): Asking<Seal> {
  const text = `SELECT events.attempt_id, ${select(columns)} FROM ${SEALED_EVENTS}
    WHERE events.attempt_id >= ? AND events.attempt_id < ? ORDER BY events.attempt_id LIMIT ${SLICE}`;
  const hours = Array.from({ length: HOURS }, () => createHash("sha256"));
  let events = 0;
  let next = first;
  for (;;) {
    const rows = yield { text, values: [next, first + IDS_PER_DAY] };
    for (const [id, ...row] of rows) {
      const attemptId = Number(id);
      next = attemptId + 1;
      if (late.has(attemptId)) continue;
      hours[Math.floor((attemptId - first) / IDS_PER_HOUR)]?.update(`${textOf(row)}\n`);
      events += 1;
    }
    if (rows.length < SLICE) break;
  }
  return { firstAttemptId: first, events, hours: hours.map((hour) => hour.digest("hex")), columns };
}

const NONE = new Set<AttemptId>();

/** A row that stands elsewhere than in the books, by the names of its columns, and what it named first where its owner was
 *  corrected (`first_team` and so on). */
export type StoredRow = { readonly [column: string]: unknown };

function valuesOf(columns: readonly string[], row: StoredRow): readonly unknown[] {
  return columns.map((name) => {
    const isOwner = (PARTS as readonly string[]).includes(name);
    return (isOwner ? (row[`first_${name}`] ?? row[name]) : row[name]) ?? null;
  });
}

/** The digest of such rows of a day, in the order of their ids. */
export function createDayDigest(seal: Seal): { add(row: StoredRow): void; end(): Seal } {
  const hours = Array.from({ length: HOURS }, () => createHash("sha256"));
  const columns = coveredBy(seal.columns);
  let events = 0;
  return {
    add(row) {
      const hour = Math.floor((Number(row["attempt_id"]) - seal.firstAttemptId) / IDS_PER_HOUR);
      hours[hour]?.update(`${textOf(valuesOf(columns, row))}\n`);
      events += 1;
    },
    end: () => ({ ...seal, events, hours: hours.map((hash) => hash.digest("hex")) }),
  };
}

/** Whether such a row is the event that came late to its day. */
export function isLateRow(late: Late, row: StoredRow): boolean {
  return digestOf(valuesOf(coveredBy(late.columns), row)) === late.digest;
}

/** What hours without events have. */
const EMPTY_HOURS = Array.from({ length: HOURS }, () => createHash("sha256").digest("hex"));

/** The seal of a day, and what came to days late. A day without a seal had no event before the days behind it were sealed. */
export async function readSealOf(
  books: UsageBooks,
  first: AttemptId,
): Promise<{ readonly seal: Seal; readonly late: ReadonlyMap<AttemptId, Late> }> {
  const [row] = await rowsOf<[detail: string]>(
    books,
    "SELECT audit.detail FROM sealed_days JOIN audit ON audit.seq = audit_seq WHERE first_attempt_id = ?",
    first,
  );
  const lateRecords = await tablesOf(books)
    .select()
    .from(audit)
    .where(eq(audit.action, "late"))
    .orderBy(asc(audit.seq))
    .all();
  const late = new Map(
    lateRecords.map(({ detail }) => {
      const one = JSON.parse(detail) as Late;
      return [one.attemptId, one];
    }),
  );
  return { seal: row ? (JSON.parse(row[0]) as Seal) : { firstAttemptId: first, events: 0, hours: EMPTY_HOURS }, late };
}

function textOf(row: readonly unknown[]): string {
  return JSON.stringify(row.map((value) => (typeof value === "bigint" ? value.toString() : value)));
}

/** "2026-11-23" */
function dayOf({ firstAttemptId: first }: Pick<Seal, "firstAttemptId">): string {
  return new Date(attemptAtMs(first)).toISOString().slice(0, 10);
}

/** Seals a day. Throws when that may not be done any more, or not yet. */
export function* applySeal(seal: Seal, atMs: number): Asking<void> {
  // While the day was read, work may have brought it an event.
  const now = yield* askValue<bigint>(
    "SELECT COUNT(*) FROM events WHERE attempt_id >= ? AND attempt_id < ?",
    seal.firstAttemptId,
    seal.firstAttemptId + IDS_PER_DAY,
  );
  if ((yield* askDayToSeal(atMs)) !== seal.firstAttemptId || Number(now) !== seal.events)
    throw new ChangeRefused(`${dayOf(seal)} cannot be sealed now`);
  const auditSeq = yield* appendAudit({
    atMs,
    actor: "keymeter",
    action: "seal",
    subject: dayOf(seal),
    detail: JSON.stringify(seal),
  });
  yield* tell(write.insert(sealedDays).values({ firstAttemptId: seal.firstAttemptId, auditSeq }));
}

/** The first attempt id after all that is sealed; 0 where nothing is. */
export function* askSealedEnd(): Asking<AttemptId> {
  return endOf(yield* askValue<bigint | null>(LAST_SEALED));
}

const LAST_SEALED = "SELECT MAX(first_attempt_id) FROM sealed_days";

function endOf(lastSealed: bigint | null | undefined): AttemptId {
  return typeof lastSealed === "bigint" ? Number(lastSealed) + IDS_PER_DAY : 0;
}

/** Writes into the audit what an event says that came to a sealed day, for work that went on. */
export function* recordLate(attemptId: AttemptId, atMs: number): Asking<void> {
  const [row] = yield* ask(eventText(SEALED_COLUMNS), attemptId);
  const digest = row === undefined ? "" : digestOf(row);
  const detail: Late = { attemptId, digest, columns: SEALED_COLUMNS };
  yield* appendAudit({
    atMs,
    actor: "keymeter",
    action: "late",
    subject: formatAttemptId(attemptId),
    detail: JSON.stringify(detail),
  });
}

type Late = Pick<Seal, "columns"> & { readonly attemptId: AttemptId; readonly digest: string };

function eventText(columns: readonly string[]): string {
  return `SELECT ${select(columns)} FROM ${SEALED_EVENTS} WHERE events.attempt_id = ?`;
}

function digestOf(row: readonly unknown[]): string {
  return createHash("sha256").update(textOf(row)).digest("hex");
}

/** Each sealed day whose events are not those that were sealed, with the hour, and each event that came to a day
 *  before. `onDay` hears how far it is. */
export async function readSealDifferences(
  books: UsageBooks,
  onDay: (day: string) => void = () => {},
): Promise<string[]> {
  const { records, lateRecords, sealed, strays } = await snapshotOf(books, async (own) => {
    const recordsOf = (action: string) =>
      tablesOf(own).select().from(audit).where(eq(audit.action, action)).orderBy(asc(audit.seq)).all();
    const ids = async (text: string): Promise<number[]> =>
      (await rowsOf<[bigint]>(own, text)).map(([attemptId]) => Number(attemptId));
    return {
      records: await recordsOf("seal"),
      lateRecords: await recordsOf("late"),
      sealed: new Set(await ids("SELECT first_attempt_id FROM sealed_days ORDER BY 1")),
      strays: await ids(
        `SELECT attempt_id FROM events WHERE attempt_id < (SELECT MAX(first_attempt_id) FROM sealed_days)
        AND attempt_id - attempt_id % ${IDS_PER_DAY} NOT IN (SELECT first_attempt_id FROM sealed_days) ORDER BY 1`,
      ),
    };
  });
  const late = new Map(
    lateRecords.map(({ detail }) => {
      const one = JSON.parse(detail) as Late;
      return [one.attemptId, one];
    }),
  );
  const found = strays
    .filter((attemptId) => !late.has(attemptId))
    .map((attemptId) => `${dayOf({ firstAttemptId: attemptId })}: it was sealed without events, and has some`);
  const expired = new Map((await readExpiries(books)).map((one) => [one.firstAttemptId, one]));
  const kept = endOfExpiries([...expired.values()]);
  for (const { attemptId, digest, columns } of late.values()) {
    if (attemptId < kept) continue;
    const [row] = await rowsOf(books, eventText(coveredBy(columns)), attemptId);
    if (row === undefined || digestOf(row) !== digest)
      found.push(`${formatAttemptId(attemptId)}: it came late to its day, and is not as it was booked`);
  }
  for (const { seq, detail } of records) {
    const seal = JSON.parse(detail) as Seal;
    const day = dayOf(seal);
    if (!sealed.delete(seal.firstAttemptId)) found.push(`${day}: audit record ${seq} seals it, sealed_days does not`);
    if (seal.firstAttemptId < kept) {
      const gone = expired.get(seal.firstAttemptId);
      if (gone === undefined || gone.events < seal.events)
        found.push(`${day}: ${seal.events} events were sealed, and ${gone?.events ?? 0} of them left the books`);
      continue;
    }
    onDay(day);
    const now = await finish(books, digestDay(seal.firstAttemptId, late, coveredBy(seal.columns)));
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

/** What a seal covers. A column that no book has is left out: then the digest is another one, and that is said. */
function coveredBy(columns: readonly string[] = COLUMNS_OF_FIRST_SEALS): readonly string[] {
  const known = columns.filter((name) => KNOWN_COLUMNS.has(name));
  return known.length === 0 ? COLUMNS_OF_FIRST_SEALS : known;
}

/** The last sealed day. */
export async function readSealedUntil(books: UsageBooks): Promise<string | undefined> {
  const end = endOf(await valueOf<bigint | null>(books, LAST_SEALED));
  return end === 0 ? undefined : dayOf({ firstAttemptId: end - IDS_PER_DAY });
}

/** The digest of a day, read from books piece by piece: others get a turn in between. */
export function digestBy(books: UsageBooks, first: AttemptId): Promise<Seal> {
  return finish(books, digestDay(first));
}

/** The first attempt id after the day that begins with this one. */
export function endOfDay(first: AttemptId): AttemptId {
  return first + IDS_PER_DAY;
}

async function finish(books: UsageBooks, digest: ReturnType<typeof digestDay>): Promise<Seal> {
  let step = digest.next([]);
  while (!step.done) {
    const { text, values } = step.value;
    step = digest.next(await rowsOf(books, text, ...values));
    await new Promise((resolve) => setImmediate(resolve));
  }
  return step.value;
}
