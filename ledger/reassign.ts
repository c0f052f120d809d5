// Whose spend is, corrected afterwards: a provider key that was used for weeks before anybody said whose it is. Its events name their new owner from then
// on, what they named before is kept (seals and `verify` go by it), and the sums move with them, in one transaction with the audit record.
import { ChangeRefused } from "./change-refused.ts";
import { and, asc, drizzle, eq, gte, lt, or, sql } from "./drizzle.ts";
import { bookedOf } from "./events.ts";
import { attemptAtMs, firstAttemptId, formatAttemptId } from "./ids.ts";
import type { AttemptId } from "./ids.ts";
import type { Sqlite } from "./open.ts";
import type { Rollups } from "./rollups.ts";
import { audit, events } from "./schema.ts";

/** What a key belongs to. */
export type Owner = { readonly [part in (typeof PARTS)[number]]?: string | undefined };
export const PARTS = ["team", "project", "env"] as const;
type Owned = { readonly [part in (typeof PARTS)[number]]: string };

/** Of the attempts `[first, end)` of a key, those that name what the key belonged to, or nothing, name what it belongs to now. What a request named
 *  by a tag of its own stays. */
export type Reassignment = {
  readonly keyId: string;
  readonly first: AttemptId;
  readonly end: AttemptId;
  readonly from: Owner;
  readonly to: Owner;
};

/** As many events are moved in one transaction: the writer serves requests in between. */
const MOST_EVENTS = 2_000;
const DAY_MS = 86_400_000;

/** What an event names afterwards. */
export function ownerAfter<T extends Owned>(event: T, { from, to }: Pick<Reassignment, "from" | "to">): T {
  const moved = PARTS.flatMap((part) => {
    const next = to[part];
    const isOld = event[part] === (from[part] ?? "") || event[part] === "";
    return next === undefined || !isOld ? [] : [[part, next] as const];
  });
  return { ...event, ...(Object.fromEntries(moved) as Partial<Owned>) };
}

/** Moves events and their sums, inside the writer's transaction, under the number of the audit record to come. Returns how many. Throws ChangeRefused
 *  where it is more than one transaction may hold. */
export function applyReassignment(database: Sqlite, rollups: Rollups, one: Reassignment, auditSeq: number): number {
  const books = drizzle(database);
  const { keyId, first, end, from, to } = one;
  const isMoved = or(
    ...PARTS.flatMap((part) => {
      const next = to[part];
      return next === undefined
        ? []
        : [sql`(${events[part]} <> ${next} AND ${events[part]} IN (${from[part] ?? ""}, ''))`];
    }),
  );
  const rows = books
    .select()
    .from(events)
    .where(and(gte(events.attemptId, first), lt(events.attemptId, end), eq(events.keyId, keyId), isMoved))
    .orderBy(asc(events.attemptId))
    .limit(MOST_EVENTS + 1)
    .all();
  if (rows.length > MOST_EVENTS)
    throw new ChangeRefused(
      `more than ${MOST_EVENTS} events would move at once; \`keymeter keys set KEY --since\` does it in steps`,
    );
  const keep = database.prepare(
    `INSERT INTO reassigned (attempt_id, team, project, env, first_seq, last_seq) VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT DO UPDATE SET last_seq = excluded.last_seq`,
  );
  const name = database.prepare("UPDATE events SET team = ?, project = ?, env = ? WHERE attempt_id = ?");
  const corrections = database.prepare(
    "SELECT SUM(amount_nano_usd) AS amountNanoUsd, SUM(unpriced) AS unpriced, SUM(inferred) AS inferred FROM adjustments WHERE attempt_id = ?",
  );
  for (const row of rows) {
    const after = ownerAfter(row, one);
    keep.run(row.attemptId, row.team, row.project, row.env, auditSeq, auditSeq);
    name.run(after.team, after.project, after.env, row.attemptId);
    const said = corrections.get(row.attemptId) as {
      [sum in "amountNanoUsd" | "unpriced" | "inferred"]: bigint | null;
    };
    rollups.move(bookedOf(row), bookedOf(after), {
      amountNanoUsd: said.amountNanoUsd ?? 0n,
      unpriced: Number(said.unpriced ?? 0),
      inferred: Number(said.inferred ?? 0),
    });
  }
  const [oldest, newest] = [rows[0], rows.at(-1)];
  if (!oldest || !newest) return 0;
  rollups.flush();
  dropEmpty(database, keyId, attemptAtMs(oldest.attemptId), attemptAtMs(newest.attemptId));
  return rows.length;
}

/** Sums from which everything was moved away stand for nothing any more. */
function dropEmpty(database: Sqlite, keyId: string, sinceMs: number, untilMs: number): void {
  const day = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
  database
    .prepare("DELETE FROM rollup_hour WHERE key_id = ? AND hour_ms BETWEEN ? AND ? AND requests = 0")
    .run(keyId, sinceMs - DAY_MS, untilMs);
  database
    .prepare("DELETE FROM rollup_day WHERE key_id = ? AND day BETWEEN ? AND ? AND requests = 0")
    .run(keyId, day(sinceMs - DAY_MS), day(untilMs + DAY_MS));
}

/** The steps in which a key's spend since an instant moves, oldest first; the last one has no end, and belongs in one change with what the key belongs
 *  to from now on. */
export function* stepsOf(
  database: Sqlite,
  { keyId, from, to, sinceMs }: Pick<Reassignment, "keyId" | "from" | "to"> & { readonly sinceMs: number },
): Generator<Reassignment> {
  const after = database
    .prepare(
      `SELECT attempt_id FROM events WHERE attempt_id >= ? AND key_id = ? ORDER BY attempt_id LIMIT 1 OFFSET ${MOST_EVENTS}`,
    )
    .pluck();
  let first = firstAttemptId(sinceMs);
  for (;;) {
    const end = after.get(first, keyId) as bigint | number | undefined;
    if (end === undefined) break;
    yield { keyId, first, end: Number(end), from, to };
    first = Number(end);
  }
  yield { keyId, first, end: Number.MAX_SAFE_INTEGER, from, to };
}

/** What the audit has of it. */
type Said = Reassignment & { readonly events: number };

/** Events that name another owner than the audit's corrections make of what they named first, and corrections that moved another number of events. */
export async function readReassignDifferences(database: Sqlite): Promise<string[]> {
  const { rows, records } = database.transaction(() => ({
    rows: database
      .prepare(
        `SELECT attempt_id AS attemptId, key_id AS keyId, reassigned.team, reassigned.project, reassigned.env, first_seq AS firstSeq,
           events.team AS isTeam, events.project AS isProject, events.env AS isEnv
         FROM reassigned JOIN events USING (attempt_id) ORDER BY attempt_id`,
      )
      .all() as MovedRow[],
    records: drizzle(database).select().from(audit).where(eq(audit.action, "reassign")).orderBy(asc(audit.seq)).all(),
  }))();
  const corrections = records.map(({ seq, detail }) => ({ seq, said: JSON.parse(detail) as Said }));
  const counts = new Map<number, number>();
  const found: string[] = [];
  for (const row of rows) {
    const attemptId = Number(row.attemptId);
    const own = corrections.filter(
      ({ seq, said }) =>
        seq >= Number(row.firstSeq) && said.keyId === row.keyId && attemptId >= said.first && attemptId < said.end,
    );
    let owner = { team: row.team, project: row.project, env: row.env };
    for (const { seq, said } of own) {
      const after = ownerAfter(owner, said);
      if (PARTS.some((part) => after[part] !== owner[part])) counts.set(seq, (counts.get(seq) ?? 0) + 1);
      owner = after;
    }
    if (owner.team !== row.isTeam || owner.project !== row.isProject || owner.env !== row.isEnv)
      found.push(`${formatAttemptId(attemptId)}: it names another owner than the audit's corrections gave it`);
  }
  for (const { seq, said } of corrections)
    if ((counts.get(seq) ?? 0) !== said.events)
      found.push(
        `audit record ${seq} (reassign): ${said.events} events were moved, ${counts.get(seq) ?? 0} name what they named before`,
      );
  return found;
}

type MovedRow = Owned & {
  readonly attemptId: bigint | number;
  readonly keyId: string;
  readonly firstSeq: bigint | number;
  readonly isTeam: string;
  readonly isProject: string;
  readonly isEnv: string;
};
