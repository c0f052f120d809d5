// The writer's thread: the only code that changes usage.db. It takes a batch of operations, decides and books them in one
// BEGIN IMMEDIATE, and answers after the commit. Sums in memory follow the books: a failed commit throws them away.
import { closeSync, fsync, openSync, statSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { drizzle, eq, isNull } from "./drizzle.ts";
import { ChangeRefused } from "./change-refused.ts";
import { readBudgets, readFreezes, applyChange } from "./changes.ts";
import type { Budget } from "./budgets.ts";
import { covers } from "./budgets.ts";
import { eventRow, INSERT_EVENT, readBooked } from "./events.ts";
import type { EventRow, Outcome, UsageEvent } from "./events.ts";
import { attemptAtMs } from "./ids.ts";
import { UNPROVEN_KEY_ID } from "./keys.ts";
import { isSqliteError, LedgerError, openForWriting } from "./open.ts";
import type { Sqlite } from "./open.ts";
import { createReservationBook } from "./reservations.ts";
import type { ReservationBook } from "./reservations.ts";
import { createRollups } from "./rollups.ts";
import { readSettled } from "./spend.ts";
import { reservations } from "./schema.ts";
import { createCalendar } from "./windows.ts";
import { decodeBatch, encodeAnswers } from "./wire.ts";
import type { Answer, ProvenKey, Task } from "./wire.ts";
import type { ThreadSettings, ToMain, ToThread } from "./writer.ts";

const FSYNC_EVERY_MS = 100;
const LOOK_EVERY_MS = 1_000;
const NOTE_HOUR_EVERY_MS = 60_000;
const HOUR_MS = 3_600_000;

const port = parentPort;
if (!port) throw new Error("ledger/writer-thread.ts runs as a worker thread only");
const settings = workerData as ThreadSettings;

try {
  run(settings);
} catch (error) {
  post({
    type: "failed",
    message: error instanceof Error ? error.message : String(error),
    expected: error instanceof LedgerError,
  });
}

function run({ path, durability, zone, capMode }: ThreadSettings): void {
  const database = openForWriting(path, "usage", durability);
  const calendar = createCalendar(zone);
  const rollups = createRollups(database, calendar);
  let isStale = false;
  rollups.rebuildDaysIfZoneChanged();

  /** The sums as the books have them, with what open attempts hold. */
  const readBook = (): ReservationBook => {
    const made = createReservationBook(calendar, capMode, (budget, window) => readSettled(database, budget, window));
    made.setBudgets(readBudgets(database));
    made.setFreezes(readFreezes(database));
    for (const row of drizzle(database).select().from(reservations).all()) {
      made.carry({
        attemptId: row.attemptId,
        subject: { ...row, model: row.requestedModel },
        boundNanoUsd: row.boundNanoUsd ?? undefined,
        expectedNanoUsd: row.expectedNanoUsd ?? undefined,
      });
    }
    return made;
  };

  let book = readBook();

  const begin = database.prepare("BEGIN IMMEDIATE");
  const commit = database.prepare("COMMIT");
  const rollback = database.prepare("ROLLBACK");
  const insertReservation = database.prepare(
    "INSERT INTO reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, tags, bound_nano_usd, expected_nano_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
  );
  const suspend = database.prepare("UPDATE reservations SET work_id = ?, tiers = ? WHERE attempt_id = ?");
  const insertWork = database.prepare(
    "INSERT OR IGNORE INTO work (provider, work_id, key_id, attempt_id) VALUES (?, ?, ?, ?)",
  );
  const findReservation = database.prepare("SELECT key_id AS keyId, provider FROM reservations WHERE attempt_id = ?");
  const deleteReservation = database.prepare("DELETE FROM reservations WHERE attempt_id = ?");
  const insertEvent = database.prepare(INSERT_EVENT);
  const insertFingerprint = database.prepare(
    "INSERT OR IGNORE INTO keys (id, kind, provider, name, state, hint, created_at_ms) VALUES (?, 'fingerprint', ?, ?, 'active', ?, ?)",
  );
  const insertSecret = database.prepare(
    "INSERT OR IGNORE INTO key_secrets (digest, key_id, created_at_ms) VALUES (?, ?, ?)",
  );
  const noteHour = database.prepare("INSERT OR IGNORE INTO meter_hours (hour_ms) VALUES (?)");
  const countRefused = database.prepare(
    "INSERT INTO refused (minute_ms, key_id, model, reason, budget_id, observed, count) VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
  );

  const bookRefused = (
    atMs: number,
    keyId: string,
    model: string,
    reason: string,
    budgetId: string,
    observed: boolean,
  ): void => {
    countRefused.run(atMs - (atMs % 60_000), keyId, model, reason, budgetId, observed ? 1 : 0);
  };

  const settle = (row: EventRow): void => {
    const booked = readBooked(row);
    // Memory first: a window's sum that is read from the books here must not hold this event yet.
    book.settle(booked.attemptId, booked.costNanoUsd, booked);
    insertEvent.run(...row);
    deleteReservation.run(booked.attemptId);
    rollups.add(booked);
  };

  /** Books an attempt that nobody can say more of: never as nothing, but at what is held for it. */
  const settleAsHeld = (row: typeof reservations.$inferSelect, outcome: Outcome): void => {
    const strict = readBudgets(database).filter((budget) => budget.mode === "strict");
    const isStrict = strict.some((budget: Budget) => covers(budget.scope, { ...row, model: row.requestedModel }));
    const cost = (isStrict ? row.boundNanoUsd : null) ?? row.expectedNanoUsd ?? undefined;
    insertFingerprint.run(row.keyId, row.provider, row.keyId, "", attemptAtMs(row.attemptId));
    settle(eventRow(heldEvent(row, cost, outcome)));
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
        const decision = book.reserve(request);
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
          );
        }
        return { type: "decision", decision };
      }
      case "settle": {
        const { row, proven } = operation;
        if (proven) prove(readBooked(row), proven);
        settle(row);
        return { type: "done" };
      }
      case "suspend": {
        const { attemptId, workId, tiers, proven } = operation;
        const held = findReservation.get(attemptId) as { keyId: string; provider: string } | undefined;
        if (!held) throw new Error(`attempt ${attemptId} holds no reservation that could stay open`);
        const isFirst = insertWork.run(held.provider, workId, held.keyId, attemptId).changes > 0;
        if (isFirst) suspend.run(workId, tiers.join(","), attemptId);
        if (proven) prove({ ...held, attemptId }, proven);
        return { type: "suspended", isFirst };
      }
      case "own": {
        const { attemptId, provider, keyId, names } = operation;
        for (const name of names) insertWork.run(provider, name, keyId, attemptId);
        return { type: "done" };
      }
      case "refused":
        bookRefused(operation.atMs, operation.keyId, operation.model, operation.reason, "", false);
        return { type: "done" };
      case "states":
        return { type: "states", states: book.states(operation.atMs, operation.subject) };
      case "change":
        if (operation.change.type === "closeWork") closeWork(operation.change.workId);
        rollups.flush();
        applyChange(database, rollups, operation.change, operation.author);
        rollups.flush();
        book.setBudgets(readBudgets(database));
        book.setFreezes(readFreezes(database));
        return { type: "done" };
      case "meterRan":
        for (
          let hourMs = Math.floor(operation.sinceMs / HOUR_MS) * HOUR_MS;
          hourMs < operation.untilMs;
          hourMs += HOUR_MS
        )
          noteHour.run(hourMs);
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
      book = readBook();
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

  /** A batch fails as a whole only when the storage fails; an operation that cannot be booked fails alone. */
  const work = (operations: readonly Task[]): Answer[] => {
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
  const lastAttemptId = Number(
    database
      .prepare(
        "SELECT MAX(COALESCE((SELECT MAX(attempt_id) FROM events), 0), COALESCE((SELECT MAX(attempt_id) FROM reservations), 0))",
      )
      .pluck()
      .get(),
  );

  /** Open reservations of a process that died become estimated events at the amount reserved: never nothing. Those of work
   *  that goes on at the provider stay open. */
  function recover(): number {
    const open = drizzle(database).select().from(reservations).where(isNull(reservations.workId)).all();
    if (open.length === 0) return 0;
    database
      .transaction(() => {
        for (const row of open) settleAsHeld(row, "crash");
        rollups.flush();
      })
      .immediate();
    return open.length;
  }

  insertFingerprint.run(UNPROVEN_KEY_ID, null, "keys no provider has accepted yet", "", Date.now());

  // The meter runs in this hour, whether anybody spends or not.
  const noteMeterHour = (): void => void noteHour.run(Math.floor(Date.now() / HOUR_MS) * HOUR_MS);
  noteMeterHour();
  setInterval(noteMeterHour, NOTE_HOUR_EVERY_MS).unref();

  if (durability === "process") fsyncWal(path);
  watchFiles(database, path);

  port?.on("message", (message: ToThread) => {
    if (message.type === "close") {
      database.pragma("wal_checkpoint(TRUNCATE)");
      database.close();
      post({ type: "closed" });
      process.exit(0);
    }
    post(encodeAnswers(work(decodeBatch(message))));
  });
  post({ type: "ready", lastAttemptId, recovered });
}

/** Where sums in memory and the books disagree: settled money window by window, and the attempts that hold some. Empty,
 *  always. */
function differences(book: ReservationBook, database: Sqlite, atMs: number): string[] {
  const found = book.states(atMs).flatMap(({ budget, window, settledNanoUsd }) => {
    const folded = readSettled(database, budget, window);
    return folded === settledNanoUsd
      ? []
      : [`budget ${budget.id}, ${window.id}: in memory ${settledNanoUsd}, in the books ${folded} nano-USD`];
  });
  const rows = Number(database.prepare("SELECT COUNT(*) FROM reservations").pluck().get());
  const { attempts } = book.reserved();
  return rows === attempts ? found : [...found, `${attempts} attempts hold money in memory, ${rows} in the books`];
}

function heldEvent(
  row: typeof reservations.$inferSelect,
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
    servedModel: undefined,
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
    kind:
      error instanceof ChangeRefused ? "refused" : isSqliteError(error, "SQLITE_CONSTRAINT") ? "constraint" : "storage",
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

/** Durability `process`: NORMAL commits, and this bounds what a power cut may take. */
function fsyncWal(path: string): void {
  let running = false;
  const file = openSync(`${path}-wal`, "r");
  setInterval(() => {
    if (running) return;
    running = true;
    fsync(file, () => (running = false));
  }, FSYNC_EVERY_MS).unref();
  process.on("exit", () => closeSync(file));
}

/** A file that is deleted or replaced under us would swallow everything we write, and a lock that is deleted would let a
 *  second writer in: stop at once. What only we still have is written beside the place where it was. */
function watchFiles(database: Sqlite, path: string): void {
  const opened = [path, `${path}.lock`].map((file) => [file, statSync(file).ino] as const);
  const timer = setInterval(() => {
    const gone = opened.find(([file, inode]) => statSync(file, { throwIfNoEntry: false })?.ino !== inode)?.[0];
    if (gone === undefined) return;
    clearInterval(timer);
    const rescued = `${path}.rescued-${Date.now()}`;
    let kept = `a whole copy was written to ${rescued}`;
    try {
      database.prepare("VACUUM INTO ?").run(rescued);
    } catch (error) {
      kept = `no copy could be written (${error instanceof Error ? error.message : String(error)})`;
    }
    post({
      type: "failed",
      message: `${gone} was deleted or replaced while in use. Nothing more is admitted; ${kept}. Put it in the place of ${path} and start again.`,
      expected: true,
    });
  }, LOOK_EVERY_MS);
  timer.unref();
}

function post(message: ToMain): void {
  port?.postMessage(message);
}
