// Booking: what is decided and written in one transaction of usage.db. Takes operations, answers each after the commit, and keeps
// the sums in memory equal to the books: a failed commit throws them away. Knows no threads and no clock but the one it is given.
import { drizzle, eq, isNull } from "../drizzle.ts";
import { ChangeRefused } from "./change-refused.ts";
import { budgetsIn, freezesIn, applyChange } from "./changes.ts";
import { covers } from "../budgets.ts";
import type { Budget } from "../budgets.ts";
import { eventRow, INSERT_EVENT } from "./event-columns.ts";
import type { EventRow } from "./event-columns.ts";
import { endedAtMs, readBooked, withOwner } from "./events.ts";
import type { Outcome, UsageEvent } from "./usage-event.ts";
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import { UNPROVEN_KEY_ID } from "./keys.ts";
import { isSqliteError } from "../sqlite.ts";
import type { Sqlite } from "../sqlite.ts";
import { movedOwner, readOpenMoves } from "./reassign.ts";
import { createReservationBook } from "./reservations.ts";
import type { CapMode, ReservationBook } from "./reservations.ts";
import { createRollups } from "./rollups.ts";
import { applySeal, readSealedEnd, recordLate } from "./seals.ts";
import { doTagsCount, readOwnNames, settledIn } from "./budget-spend.ts";
import { reservations, servedNames } from "./schema.ts";
import { createCalendar } from "../windows.ts";
import type { Calendar } from "../windows.ts";
import type { Answer, ProvenKey, Task } from "./wire.ts";

const HOUR_MS = 3_600_000;

export type Booking = {
  /** Attempts that were found open and booked as crashed. */
  readonly recovered: number;
  /** Budgets that count less than before, for what tags name counts no longer. */
  readonly losing: readonly Budget[];
  /** The newest attempt in the books; 0 in empty ones. */
  readonly lastAttemptId: AttemptId;
  /** Ids that lie ahead of a clock that was accepted. */
  readonly ahead: readonly AttemptId[];
  /** Books operations in one transaction. It fails as a whole only when the storage fails; an operation that cannot be booked
   *  fails alone. */
  book(operations: readonly Task[]): Answer[];
};

/** Opens the books for booking: what a dead process left open is booked first. */
export function createBooking(
  database: Sqlite,
  zone: string,
  capMode: CapMode,
  nowMs: number,
  tagsCount = true,
): Booking {
  const calendar = createCalendar(zone);
  const losing = rememberTagsCount(database, tagsCount, calendar, nowMs);
  /** What a tag names is no name of the key's own. */
  let ownNames = readOwnNames(database, tagsCount);
  let moves = readOpenMoves(database);
  const rollups = createRollups(database, calendar);
  let isStale = false;
  rollups.rebuildDaysIfZoneChanged();

  /** The sums as the books have them, with what open attempts hold. */
  const readBook = (): ReservationBook => {
    const made = createReservationBook(calendar, capMode, (budget, window) =>
      settledIn(database, budget, window, tagsCount),
    );
    made.setBudgets(budgetsIn(database));
    made.setFreezes(freezesIn(database));
    for (const { provider, requestedModel, servedModel } of drizzle(database).select().from(servedNames).all())
      made.learnServedName(provider, requestedModel, servedModel);
    for (const row of drizzle(database).select().from(reservations).all()) {
      made.carry({
        attemptId: row.attemptId,
        subject: ownNames({ ...row, model: row.requestedModel }),
        boundNanoUsd: row.boundNanoUsd ?? undefined,
        expectedNanoUsd: row.expectedNanoUsd ?? undefined,
        mostNanoUsd: row.mostNanoUsd ?? undefined,
      });
    }
    return made;
  };

  let book = readBook();
  /** Below this, only work that went on at a provider brings an event, and the audit says so. */
  let sealedEnd = readSealedEnd(database);

  const {
    begin,
    commit,
    rollback,
    insertReservation,
    raiseReservation,
    suspend,
    insertThing,
    findReservation,
    deleteReservation,
    markAsWork,
    rememberServedName,
    insertEvent,
    insertFingerprint,
    insertSecret,
    insertHour,
    lastCredential,
    insertCredential,
    noteAddress,
    countRefused,
    findKey,
  } = prepareAll(database);

  const isKnownKey = (keyId: string): boolean => keyId === "" || findKey.get(keyId) !== undefined;
  const refusedNames = createRefusedNames();

  const bookRefused = (
    atMs: number,
    keyId: string,
    model: string,
    reason: string,
    budgetId: string,
    observed: boolean,
  ): void => {
    const minuteMs = atMs - (atMs % 60_000);
    const [who, what] = refusedNames.of(isKnownKey(keyId) ? keyId : UNPROVEN_KEY_ID, model, minuteMs);
    countRefused.run(minuteMs, who, what, reason, budgetId, observed ? 1 : 0);
  };

  const settle = (asked: EventRow): void => {
    // What was under way when its key's past became another's is booked as theirs.
    const row = withOwner(asked, movedOwner(moves, readBooked(asked)));
    const booked = readBooked(row);
    // Memory first: a window's sum that is read from the books here must not hold this event yet.
    book.settle(booked.attemptId, booked.costNanoUsd, ownNames(booked));
    insertEvent.run(...row);
    if (booked.attemptId < sealedEnd) recordLate(database, booked.attemptId, endedAtMs(row));
    deleteReservation.run(booked.attemptId);
    rollups.add(booked);
    const { provider, model, servedModel } = booked;
    if (book.learnServedName(provider, model, servedModel)) rememberServedName.run(provider, model, servedModel);
  };

  /** Books an attempt that nobody can say more of: never as nothing, but at what is held for it. */
  const settleAsHeld = (row: typeof reservations.$inferSelect, outcome: Outcome): void => {
    const servedModel = book.servedName(row.provider, row.requestedModel);
    const subject = ownNames({ ...row, model: row.requestedModel, servedModel });
    const strict = budgetsIn(database).filter((budget) => budget.mode === "strict");
    const isStrict = strict.some(({ scope }) => covers(scope, subject));
    const cost = (isStrict ? row.boundNanoUsd : null) ?? row.expectedNanoUsd ?? undefined;
    insertFingerprint.run(row.keyId, row.provider, row.keyId, "", attemptAtMs(row.attemptId));
    settle(eventRow(heldEvent(row, servedModel, cost, outcome)));
  };

  const closeWork = (workId: string): void => {
    const row = drizzle(database).select().from(reservations).where(eq(reservations.workId, workId)).get();
    if (!row) throw new ChangeRefused(`no work ${workId} is pending; \`keymeter work list\` shows what is`);
    settleAsHeld(row, "upstream_failed");
  };

  const prove = (
    { attemptId, keyId, provider }: { attemptId: number; keyId: string; provider: string },
    proven: ProvenKey,
  ): void => {
    insertFingerprint.run(keyId, provider, proven.name, proven.hint, attemptAtMs(attemptId));
    insertSecret.run(proven.digest, keyId, attemptAtMs(attemptId));
  };

  const apply = (operation: Task): Answer => {
    switch (operation.type) {
      case "reserve": {
        const { request, endpoint, tags } = operation;
        const { attemptId, subject } = request;
        const decision = book.reserve({ ...request, subject: ownNames(subject) });
        if ("frozen" in decision) {
          bookRefused(attemptAtMs(attemptId), subject.keyId, subject.model, "frozen", decision.frozen.id, false);
          return { type: "decision", decision };
        }
        const refusal = decision.admitted ? decision.wouldRefuse : decision.refusal;
        if (refusal)
          bookRefused(
            attemptAtMs(attemptId),
            subject.keyId,
            subject.model,
            refusal.reason,
            refusal.budget.id,
            decision.admitted,
          );
        if (decision.admitted) {
          insertReservation.run(
            attemptId,
            subject.keyId,
            subject.provider,
            endpoint,
            subject.model,
            subject.team,
            subject.project,
            subject.env,
            tags,
            request.boundNanoUsd ?? null,
            request.expectedNanoUsd ?? null,
            request.mostNanoUsd ?? null,
          );
        }
        return { type: "decision", decision };
      }
      case "extend": {
        const { attemptId, leastNanoUsd, wantedNanoUsd, atMs } = operation;
        const extension = book.extend(attemptId, leastNanoUsd, wantedNanoUsd, atMs);
        const held = findReservation.get(attemptId) as HeldBy | undefined;
        if (!extension || !held) throw new Error(`attempt ${attemptId} holds no reservation that could be extended`);
        const refusal = "refusal" in extension ? extension.refusal : extension.wouldRefuse;
        if (refusal) bookRefused(atMs, held.keyId, held.model, "capped", refusal.budget.id, !("refusal" in extension));
        if ("heldNanoUsd" in extension) raiseReservation.run(extension.heldNanoUsd, attemptId);
        return { type: "extended", extension };
      }
      case "settle": {
        const { row, proven } = operation;
        if (proven) prove(readBooked(row), proven);
        settle(row);
        return { type: "done" };
      }
      case "suspend": {
        const { attemptId, workId, tiers, proven } = operation;
        const held = findReservation.get(attemptId) as HeldBy | undefined;
        if (!held) throw new Error(`attempt ${attemptId} holds no reservation that could stay open`);
        const isFirst = insertThing.run(held.provider, workId, held.keyId, attemptId).changes > 0;
        if (isFirst) suspend.run(workId, tiers.join(","), attemptId);
        if (proven) prove({ ...held, attemptId }, proven);
        return { type: "suspended", isFirst };
      }
      case "own": {
        const { attemptId, provider, keyId, names } = operation;
        for (const name of names) insertThing.run(provider, name, keyId, attemptId);
        return { type: "done" };
      }
      case "refused":
        bookRefused(operation.atMs, operation.keyId, operation.model, operation.reason, "", false);
        return { type: "done" };
      case "states":
        return {
          type: "states",
          states: book.states(operation.atMs, operation.subject && ownNames(operation.subject)),
        };
      case "freezes":
        return { type: "freezes", freezes: book.freezes() };
      case "change":
        for (const change of operation.change.type === "together" ? operation.change.changes : [operation.change])
          if (change.type === "closeWork") closeWork(change.workId);
        rollups.flush();
        applyChange(database, rollups, operation.change, operation.author);
        if (operation.change.type === "acceptClock") {
          const newest = String(readNewestIds(database, 0).lastAttemptId);
          database.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)").run(CLOCK_ACCEPTED, newest);
        }
        rollups.flush();
        moves = readOpenMoves(database);
        ownNames = readOwnNames(database, tagsCount);
        book.setBudgets(budgetsIn(database));
        book.setFreezes(freezesIn(database));
        return { type: "done" };
      case "newest":
        return { type: "newest", ...readNewestIds(database, operation.atMs) };
      case "seal":
        applySeal(database, operation.seal, operation.atMs);
        sealedEnd = readSealedEnd(database);
        return { type: "done" };
      case "meterRan":
        for (
          let hourMs = Math.floor(operation.sinceMs / HOUR_MS) * HOUR_MS;
          hourMs < operation.untilMs;
          hourMs += HOUR_MS
        )
          insertHour.run(hourMs);
        return { type: "done" };
      case "seen":
        for (const { provider, credential, hint, atMs } of operation.seen.credentials ?? [])
          if (lastCredential.get(provider) !== credential) insertCredential.run(provider, atMs, credential, hint);
        for (const { keyId, address, atMs } of operation.seen.addresses ?? [])
          noteAddress.run(keyId, address, atMs, atMs);
        return { type: "done" };
      case "verify":
        return {
          type: "verified",
          differences: differences(book, database, operation.atMs),
          reservedNanoUsd: book.reserved().amount,
        };
    }
  };

  /** One transaction. Throws when it could not be committed; memory is then out of date, and read from the books again
   *  before the next one: a book that cannot be read admits nothing. */
  const transact = (operations: readonly Task[]): Answer[] => {
    if (isStale) {
      ownNames = readOwnNames(database, tagsCount);
      moves = readOpenMoves(database);
      book = readBook();
      sealedEnd = readSealedEnd(database);
      isStale = false;
    }
    try {
      begin.run();
      const answers = operations.map(apply);
      rollups.flush();
      commit.run();
      return answers;
    } catch (error) {
      isStale = true;
      rollups.clear();
      if (database.inTransaction) rollback.run();
      throw error;
    }
  };

  const bookAll = (operations: readonly Task[]): Answer[] => {
    try {
      return transact(operations);
    } catch (error) {
      if (isStorageFailure(error) || operations.length === 1) return operations.map(() => failure(error));
      return operations.map((operation) => {
        try {
          return transact([operation])[0] ?? failure(new Error("no answer"));
        } catch (alone) {
          return failure(alone);
        }
      });
    }
  };

  const recovered = recover();
  book = readBook();
  const { lastAttemptId, ahead } = readNewestIds(database, nowMs);

  /** Open reservations of a process that died become estimated events at the amount reserved: never nothing. Those of work
   *  that goes on at the provider stay open. */
  function recover(): number {
    const open = drizzle(database).select().from(reservations).where(isNull(reservations.workId)).all();
    if (open.length === 0) return 0;
    database
      .transaction(() => {
        for (const row of open) {
          // A day that was sealed under a clock that was ahead takes it as it takes late work: with a record of its own.
          if (row.attemptId < sealedEnd) markAsWork.run(`lost:${row.attemptId}`, row.attemptId);
          settleAsHeld(row, "crash");
        }
        rollups.flush();
      })
      .immediate();
    return open.length;
  }

  insertFingerprint.run(UNPROVEN_KEY_ID, null, "keys no provider has accepted yet", "", nowMs);

  return {
    recovered,
    losing,
    lastAttemptId,
    ahead,
    book: bookAll,
  };
}

/** Where new ids begin, and those that lie ahead of them: of a clock that was ahead, and that somebody accepted as right since. Those stay
 *  as they are, and a day that they sealed takes no more. */
function readNewestIds(
  database: Sqlite,
  nowMs: number,
): { readonly lastAttemptId: AttemptId; readonly ahead: readonly AttemptId[] } {
  const number = (sql: string, ...values: number[]): number =>
    Number(
      database
        .prepare(sql)
        .pluck()
        .get(...values) ?? 0,
    );
  const below = (end: AttemptId): AttemptId =>
    Math.max(
      number("SELECT MAX(attempt_id) FROM events WHERE attempt_id < ?", end),
      number("SELECT MAX(attempt_id) FROM reservations WHERE attempt_id < ?", end),
    );
  const newest = below(Number.MAX_SAFE_INTEGER);
  const accepted = number(`SELECT value FROM meta WHERE name = '${CLOCK_ACCEPTED}'`);
  const here = firstAttemptId(nowMs);
  if (newest < here || newest > accepted) return { lastAttemptId: newest, ahead: [] };
  const lastAttemptId = Math.max(below(here), readSealedEnd(database) - 1);
  const ahead = database
    .prepare(
      "SELECT attempt_id FROM events WHERE attempt_id > ? UNION SELECT attempt_id FROM reservations WHERE attempt_id > ?",
    )
    .pluck()
    .all(lastAttemptId, lastAttemptId) as (number | bigint)[];
  return { lastAttemptId, ahead: ahead.map(Number) };
}

/** Writes down whether what tags name counts, for all who read. Returns the budgets that had counted it in their window of now. */
function rememberTagsCount(database: Sqlite, tagsCount: boolean, calendar: Calendar, nowMs: number): Budget[] {
  const losing =
    tagsCount || !doTagsCount(database)
      ? []
      : budgetsIn(database).filter((budget) => {
          const window = calendar.window(budget.window, nowMs);
          return settledIn(database, budget, window, true) !== settledIn(database, budget, window, false);
        });
  database
    .prepare("INSERT OR REPLACE INTO meta (name, value) VALUES ('tags_in_budgets', ?)")
    .run(tagsCount ? "1" : "0");
  return losing;
}

/** The newest id at the time when somebody accepted the clock. */
const CLOCK_ACCEPTED = "clock_accepted";

/** The hot statements. */
function prepareAll(database: Sqlite) {
  return {
    begin: database.prepare("BEGIN IMMEDIATE"),
    commit: database.prepare("COMMIT"),
    rollback: database.prepare("ROLLBACK"),
    insertReservation: database.prepare(
      "INSERT INTO reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd, expected_nano_usd, most_nano_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    ),
    raiseReservation: database.prepare("UPDATE reservations SET expected_nano_usd = ? WHERE attempt_id = ?"),
    suspend: database.prepare("UPDATE reservations SET work_id = ?, tiers = ? WHERE attempt_id = ?"),
    insertThing: database.prepare(
      "INSERT OR IGNORE INTO things (provider, name, key_id, attempt_id) VALUES (?, ?, ?, ?)",
    ),
    findReservation: database.prepare(
      "SELECT key_id AS keyId, provider, requested_model AS model FROM reservations WHERE attempt_id = ?",
    ),
    deleteReservation: database.prepare("DELETE FROM reservations WHERE attempt_id = ?"),
    markAsWork: database.prepare("UPDATE reservations SET work_id = ? WHERE attempt_id = ?"),
    rememberServedName: database.prepare(
      "INSERT INTO served_names (provider, requested_model, served_model) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET served_model = excluded.served_model",
    ),
    insertEvent: database.prepare(INSERT_EVENT),
    insertFingerprint: database.prepare(
      "INSERT OR IGNORE INTO keys (id, kind, provider, name, state, hint, created_at_ms) VALUES (?, 'fingerprint', ?, ?, 'active', ?, ?)",
    ),
    insertSecret: database.prepare(
      "INSERT OR IGNORE INTO key_secrets (digest, key_id, created_at_ms) VALUES (?, ?, ?)",
    ),
    insertHour: database.prepare("INSERT OR IGNORE INTO meter_hours (hour_ms) VALUES (?)"),
    lastCredential: database
      .prepare("SELECT credential FROM credentials WHERE provider = ? ORDER BY since_ms DESC LIMIT 1")
      .pluck(),
    insertCredential: database.prepare(
      "INSERT OR REPLACE INTO credentials (provider, since_ms, credential, hint) VALUES (?, ?, ?, ?)",
    ),
    noteAddress: database.prepare(
      `INSERT INTO key_addresses (key_id, address, first_seen_ms, last_seen_ms) VALUES (?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET last_seen_ms = MAX(last_seen_ms, excluded.last_seen_ms)`,
    ),
    findKey: database.prepare("SELECT 1 FROM keys WHERE id = ?"),
    countRefused: database.prepare(
      "INSERT INTO refused (minute_ms, key_id, model, reason, budget_id, observed, count) VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
    ),
  };
}

/** Refusals are counts, never a row each: of one key at most so many models in an hour have a row of their own. */
function createRefusedNames(): { of(keyId: string, model: string, atMs: number): readonly [string, string] } {
  const seen = new Map<string, Set<string>>();
  let hour = 0;
  return {
    of(keyId, model, atMs) {
      const now = Math.floor(atMs / HOUR_MS);
      if (now !== hour) seen.clear();
      hour = now;
      let models = seen.get(keyId);
      if (!models) seen.set(keyId, (models = new Set()));
      if (models.size < MOST_REFUSED_MODELS || models.has(model)) {
        models.add(model);
        return [keyId, model];
      }
      return [keyId, "other"];
    },
  };
}

const MOST_REFUSED_MODELS = 50;

type HeldBy = { readonly keyId: string; readonly provider: string; readonly model: string };

/** Where sums in memory and the books disagree: settled money window by window, and the attempts that hold some. Empty,
 *  always. */
function differences(book: ReservationBook, database: Sqlite, atMs: number): string[] {
  const found = book.states(atMs).flatMap(({ budget, window, settledNanoUsd }) => {
    const folded = settledIn(database, budget, window);
    return folded === settledNanoUsd
      ? []
      : [`budget ${budget.id}, ${window.id}: in memory ${settledNanoUsd}, in the books ${folded} nano-USD`];
  });
  const rows = Number(database.prepare("SELECT COUNT(*) FROM reservations").pluck().get());
  const { attempts } = book.reserved();
  return rows === attempts ? found : [...found, `${attempts} attempts hold money in memory, ${rows} in the books`];
}

/** Nothing was heard of it: the name it would have answered under is the last one, so that budgets on that name count it too. */
function heldEvent(
  row: typeof reservations.$inferSelect,
  servedModel: string | undefined,
  costNanoUsd: bigint | undefined,
  outcome: Outcome,
): UsageEvent {
  return {
    attemptId: row.attemptId,
    keyId: row.keyId,
    provider: row.provider,
    endpoint: row.endpoint,
    requestedModel: row.requestedModel,
    team: row.team,
    project: row.project,
    env: row.env,
    tags: row.tags ?? undefined,
    usage: {},
    usageState: costNanoUsd === undefined ? "unknown" : "estimated",
    usageReason: outcome === "crash" ? "crash" : "not_fetched",
    costNanoUsd,
    costLines: [],
    outcome,
    servedModel,
    tier: undefined,
    reasoning: undefined,
    priceVersion: undefined,
    priceConfidence: costNanoUsd === undefined ? "unpriced" : undefined,
    httpStatus: undefined,
    durationMs: undefined,
    firstByteMs: undefined,
    providerRequestId: undefined,
    responseId: undefined,
    rawUsage: undefined,
  };
}

function failure(error: unknown): Answer {
  return {
    type: "failure",
    message: error instanceof Error ? error.message : String(error),
    kind: error instanceof ChangeRefused ? "refused" : isStorageFailure(error) ? "storage" : "constraint",
  };
}

function isStorageFailure(error: unknown): boolean {
  return isSqliteError(
    error,
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_READONLY",
    "SQLITE_CORRUPT",
    "SQLITE_NOTADB",
    "SQLITE_CANTOPEN",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
  );
}
