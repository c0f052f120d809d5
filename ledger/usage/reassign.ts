// Whose spend is, corrected afterwards: a provider key that was used for weeks before anybody said whose it is. Its
// events name their new owner from then on, what they named before is kept (seals and `verify` go by it), and the sums
// move with them, in one transaction with the audit record.
import { ChangeRefused } from "./change-refused.ts";
import { ask, askRows } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { noteOwner } from "./budget-spend.ts";
import { and, asc, eq, gte, inArray, lt, or, sql } from "../drizzle.ts";
import { bookedOf } from "./events.ts";
import { attemptAtMs, firstAttemptId, formatAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import { rowsOf, snapshotOf, tablesOf, valueOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { askKeptFrom, endOfExpiries, readExpiries } from "./retention.ts";
import type { Rollups } from "./rollups.ts";
import { audit, events, keys } from "./schema.ts";

export const PARTS = ["team", "project", "env"] as const;
/** What a key belongs to. */
export type Owner = { readonly [part in (typeof PARTS)[number]]?: string | undefined };
type Owned = { readonly [part in (typeof PARTS)[number]]: string };

/** Of the attempts `[first, end)` of a key, those that name what the key has belonged to, or nothing, name what it
 *  belongs to now. What a request named by a tag of its own stays. */
export type Reassignment = {
  readonly keyId: string;
  readonly first: AttemptId;
  readonly end: AttemptId;
  readonly from: { readonly [part in (typeof PARTS)[number]]?: readonly string[] | undefined };
  readonly to: Owner;
  /** What the key belongs to while this is done: two corrections at once would split its past. */
  readonly current: Owner;
};

/** The end of the last step: what is under way then moves when it is booked. */
export const NO_END = Number.MAX_SAFE_INTEGER;
/** As many events are moved in one transaction, and as many are read for it: the writer serves requests in between. */
const MOST_EVENTS = 2_000;
const MOST_READ = 50_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** A request may have begun just before the change, and be told of it just after. */
const SLACK_MS = 1_000;

/** What an event names afterwards. */
export function ownerAfter<T extends Owned>(event: T, { from, to }: Pick<Reassignment, "from" | "to">): T {
  const moved = PARTS.flatMap((part) => {
    const next = to[part];
    const isOld = event[part] === "" || (from[part]?.includes(event[part]) ?? false);
    return next === undefined || !isOld ? [] : [[part, next] as const];
  });
  return { ...event, ...(Object.fromEntries(moved) as Partial<Owned>) };
}

/** Moves events and their sums, in the transaction of the change, under the number of the audit record to come. Returns
 *  how many. Throws ChangeRefused where the key belongs to somebody else by now, or where it is more than one
 *  transaction may hold. */
export function* applyReassignment(rollups: Rollups, one: Reassignment, auditSeq: number): Asking<number> {
  const { keyId, first, end, from, to, current } = one;
  const [key] = yield* askRows(keys, eq(keys.id, keyId));
  if (!key) throw new ChangeRefused(`there is no key ${keyId}`);
  const changed = PARTS.find((part) => current[part] !== undefined && current[part] !== key[part]);
  if (changed !== undefined)
    throw new ChangeRefused(
      `key ${key.name} (${keyId}) belongs to ${changed} ${key[changed] || "(none)"} by now: somebody else has changed it. What was moved so far stands; say it again`,
    );
  const isMoved = or(
    ...PARTS.flatMap((part) => {
      const next = to[part];
      return next === undefined
        ? []
        : [and(sql`${events[part]} <> ${next}`, inArray(events[part], ["", ...(from[part] ?? [])]))];
    }),
  );
  // What has left the books stays whose it was.
  const begin = Math.max(first, yield* askKeptFrom());
  const isMeant = and(gte(events.attemptId, begin), lt(events.attemptId, end), eq(events.keyId, keyId), isMoved);
  const rows = yield* askRows(events, isMeant, sql`${events.attemptId} LIMIT ${2 * MOST_EVENTS + 1}`);
  if (rows.length > 2 * MOST_EVENTS)
    throw new ChangeRefused(
      `more than ${2 * MOST_EVENTS} events would move at once; \`keymeter keys set KEY --since\` does it in steps`,
    );
  for (const row of rows) {
    const after = ownerAfter(row, one);
    yield* ask(
      `INSERT INTO reassigned (attempt_id, team, project, env, first_seq, last_seq) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (attempt_id) DO UPDATE SET last_seq = excluded.last_seq`,
      row.attemptId,
      row.team,
      row.project,
      row.env,
      auditSeq,
      auditSeq,
    );
    const names = [after.team, after.project, after.env];
    yield* ask("UPDATE events SET team = ?, project = ?, env = ? WHERE attempt_id = ?", ...names, row.attemptId);
    const [said] = yield* ask<[amount: bigint | null, unpriced: bigint | null, inferred: bigint | null]>(
      "SELECT SUM(amount_nano_usd), SUM(unpriced), SUM(inferred) FROM adjustments WHERE attempt_id = ?",
      row.attemptId,
    );
    const [amountNanoUsd, unpriced, inferred] = said ?? [null, null, null];
    rollups.move(bookedOf(row), bookedOf(after), {
      amountNanoUsd: amountNanoUsd ?? 0n,
      unpriced: Number(unpriced ?? 0),
      inferred: Number(inferred ?? 0),
    });
  }
  // Also where the key itself is described only afterwards: what was moved can be moved on.
  if (rows.length > 0)
    for (const part of PARTS) {
      const value = to[part];
      if (value) yield* noteOwner(keyId, part, value);
    }
  return rows.length;
}

/** Sums from which everything was moved away stand for nothing any more. Belongs after they were written. */
export function* dropEmpty({ keyId, first, end }: Reassignment): Asking<void> {
  const day = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
  const [sinceMs, untilMs] = [attemptAtMs(first), attemptAtMs(end)];
  for (const [table, time, since, until] of [
    ["rollup_hour", "hour_ms", sinceMs - DAY_MS, untilMs],
    ["rollup_day", "day", day(sinceMs - DAY_MS), day(untilMs + DAY_MS)],
  ] as const)
    yield* ask(
      `DELETE FROM ${table} WHERE key_id = ? AND ${time} BETWEEN ? AND ? AND requests = 0`,
      keyId,
      since,
      until,
    );
}

/** The steps in which a key's spend since an instant moves, oldest first: of each the writer reads and moves so much
 *  that no request waits long. The last one has no end, and belongs in one change with what the key belongs to from now
 *  on. */
export async function* stepsOf(
  books: UsageBooks,
  { spans, ...rest }: Omit<Reassignment, "first" | "end"> & { readonly spans: readonly Span[] },
): AsyncGenerator<Reassignment> {
  for (const { sinceMs, untilMs } of spans) yield* stepsWithin(books, sinceMs, untilMs, rest);
}

/** Instants `[sinceMs, untilMs)`; without an end up to what is booked last. */
export type Span = { readonly sinceMs: number; readonly untilMs?: number | undefined };

async function* stepsWithin(
  books: UsageBooks,
  sinceMs: number,
  untilMs: number | undefined,
  rest: Omit<Reassignment, "first" | "end">,
): AsyncGenerator<Reassignment> {
  const hours = await rowsOf<[hourMs: bigint, requests: bigint, everybodys: bigint]>(
    books,
    `SELECT hour_ms, SUM(requests),
      (SELECT SUM(requests) FROM rollup_hour AS all_keys WHERE all_keys.hour_ms = rollup_hour.hour_ms)
    FROM rollup_hour WHERE key_id = ? AND hour_ms >= ? AND hour_ms < ? GROUP BY hour_ms ORDER BY hour_ms`,
    rest.keyId,
    sinceMs - (sinceMs % HOUR_MS),
    untilMs ?? NO_END,
  );
  const after = `SELECT attempt_id FROM events WHERE attempt_id >= ? AND attempt_id < ? AND key_id = ?
    ORDER BY attempt_id LIMIT 1 OFFSET ${MOST_EVENTS}`;
  let first = firstAttemptId(sinceMs);
  let [own, all] = [0, 0];
  for (const [hourMs, requests, everybodys] of hours) {
    const [start, end] = [firstAttemptId(Number(hourMs)), firstAttemptId(Number(hourMs) + HOUR_MS)];
    // What lies between hours of its own is read too, and is not worth counting: a step begins anew with the hour that
    // would be too much.
    if (start > first && own > 0 && (own + Number(requests) > MOST_EVENTS || all + Number(everybodys) > MOST_READ)) {
      yield { ...rest, first, end: start };
      [first, own, all] = [start, 0, 0];
    }
    if (own === 0 && start > first) first = start;
    [own, all] = [own + Number(requests), all + Number(everybodys)];
    // An hour that is too much by itself goes piece by piece.
    for (;;) {
      const next = await valueOf<bigint>(books, after, first, end, rest.keyId);
      if (next === undefined) break;
      yield { ...rest, first, end: Number(next) };
      first = Number(next);
    }
  }
  yield { ...rest, first, end: untilMs === undefined ? NO_END : firstAttemptId(untilMs) };
}

/** A correction without an end, as booking needs it: an attempt that had begun by then is booked under its new
 *  owner. */
export type OpenMove = Pick<Reassignment, "first" | "from" | "to"> & { readonly until: AttemptId };

/** By key, in the order in which they were made. */
export function* askOpenMoves(): Asking<Map<string, OpenMove[]>> {
  const found = new Map<string, OpenMove[]>();
  for (const { detail, atMs } of yield* askRows(audit, eq(audit.action, "reassign"), audit.seq)) {
    const { keyId, first, end, from, to } = JSON.parse(detail) as Said;
    if (end !== NO_END) continue;
    found.set(keyId, [...(found.get(keyId) ?? []), { first, from, to, until: firstAttemptId(atMs + SLACK_MS) }]);
  }
  return found;
}

/** Whose an attempt is that is booked now. */
export function movedOwner<T extends Owned & { readonly attemptId: AttemptId; readonly keyId: string }>(
  moves: ReadonlyMap<string, readonly OpenMove[]>,
  event: T,
): T {
  let owner = event;
  for (const move of moves.get(event.keyId) ?? [])
    if (event.attemptId >= move.first && event.attemptId < move.until) owner = ownerAfter(owner, move);
  return owner;
}

/** What the audit has of it. */
type Said = Reassignment & { readonly events: number };

/** Events that name another owner than the audit's corrections make of what they named first, and corrections that
 *  moved another number of events. One walk over both, in the order of attempts. */
export function readReassignDifferences(books: UsageBooks): Promise<string[]> {
  // As of one instant: a correction that is made meanwhile moves events before its record is read.
  return snapshotOf(books, compareMoved);
}

async function compareMoved(books: UsageBooks): Promise<string[]> {
  const records = await tablesOf(books)
    .select()
    .from(audit)
    .where(eq(audit.action, "reassign"))
    .orderBy(asc(audit.seq))
    .all();
  const corrections = records.map(({ seq, detail }) => ({ seq, said: JSON.parse(detail) as Said, moved: 0 }));
  const byFirst = corrections.toSorted((a, b) => a.said.first - b.said.first || a.seq - b.seq);
  const found: string[] = [];
  let begun = 0;
  /** Those whose attempts the walk is in. */
  let open: typeof corrections = [];
  for await (const row of walkMoved(books)) {
    const { attemptId } = row;
    const before = begun;
    while ((byFirst[begun]?.said.first ?? Infinity) <= attemptId) begun += 1;
    if (begun > before || open.some(({ said }) => said.end <= attemptId))
      open = [...open, ...byFirst.slice(before, begun)]
        .filter(({ said }) => said.end > attemptId)
        .toSorted((a, b) => a.seq - b.seq);
    let owner = { team: row.team, project: row.project, env: row.env };
    for (const correction of open) {
      if (correction.seq < row.firstSeq || correction.said.keyId !== row.keyId) continue;
      const after = ownerAfter(owner, correction.said);
      if (PARTS.some((part) => after[part] !== owner[part])) correction.moved += 1;
      owner = after;
    }
    if (owner.team !== row.isTeam || owner.project !== row.isProject || owner.env !== row.isEnv)
      found.push(`${formatAttemptId(attemptId)}: it names another owner than the audit's corrections gave it`);
  }
  const kept = endOfExpiries(await readExpiries(books));
  for (const { seq, said, moved } of corrections)
    // What it moved may have left the books.
    if (said.first >= kept && moved !== said.events)
      found.push(
        `audit record ${seq} (reassign): ${said.events} events were moved, ${moved} name what they named before`,
      );
  return found;
}

/** Events that were moved, in the order of their attempts, in pages. */
async function* walkMoved(books: UsageBooks): AsyncGenerator<MovedRow> {
  for (let after = -1; ;) {
    const rows = await rowsOf<
      [
        attemptId: bigint,
        keyId: string,
        team: string,
        project: string,
        env: string,
        firstSeq: bigint,
        isTeam: string,
        isProject: string,
        isEnv: string,
      ]
    >(
      books,
      `SELECT reassigned.attempt_id, key_id, reassigned.team, reassigned.project, reassigned.env, first_seq,
        events.team, events.project, events.env
      FROM reassigned JOIN events ON events.attempt_id = reassigned.attempt_id
      WHERE reassigned.attempt_id > ? ORDER BY reassigned.attempt_id LIMIT ${MOST_EVENTS}`,
      after,
    );
    for (const [attemptId, keyId, team, project, env, firstSeq, isTeam, isProject, isEnv] of rows) {
      after = Number(attemptId);
      yield { attemptId: after, keyId, team, project, env, firstSeq: Number(firstSeq), isTeam, isProject, isEnv };
    }
    if (rows.length < MOST_EVENTS) return;
  }
}

type MovedRow = Owned & {
  readonly attemptId: AttemptId;
  readonly keyId: string;
  readonly firstSeq: number;
  readonly isTeam: string;
  readonly isProject: string;
  readonly isEnv: string;
};
