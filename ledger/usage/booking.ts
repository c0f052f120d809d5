// Booking: what is decided and written in one transaction of usage.db. Takes operations, answers each after the commit,
// and keeps the sums in memory equal to the books: a failed commit throws them away. Knows no threads and no clock but
// the one it is given. How each kind of operation is booked stands in bookings/.
import { answerFrom } from "../asking.ts";
import { bookersOf } from "./bookings/index.ts";
import { openLedger, readAgain } from "./bookings/ledger.ts";
import type { Booker, SqliteLedger } from "./bookings/ledger.ts";
import { answerNewest, readNewest } from "./bookings/newest.ts";
import { noteKey } from "./bookings/prove.ts";
import { recover } from "./bookings/recover.ts";
import { bookChange } from "./bookings/register.ts";
import { bookSeal } from "./bookings/seal.ts";
import { rememberTagsCount } from "./bookings/tags-count.ts";
import { answerVerify } from "./bookings/verify.ts";
import { kindOfRefusal } from "./change-refused.ts";
import type { Budget } from "../budgets.ts";
import type { AttemptId } from "../ids.ts";
import { UNPROVEN_KEY } from "./keys.ts";
import { askPerson } from "./people.ts";
import { isSqliteError } from "../sqlite.ts";
import type { Sqlite } from "../sqlite.ts";
import type { CapMode } from "./reservations.ts";
import { createCalendar } from "../windows.ts";
import type { Answer, Task } from "./wire.ts";

export type Booking = {
  /** Attempts that were found open and booked as crashed. */
  readonly recovered: number;
  /** Budgets that count less than before, for what tags name counts no longer. */
  readonly losing: readonly Budget[];
  /** The newest attempt in the books; 0 in empty ones. */
  readonly lastAttemptId: AttemptId;
  /** Ids that lie ahead of a clock that was accepted. */
  readonly ahead: readonly AttemptId[];
  /** Books operations in one transaction. It fails as a whole only when the storage fails; an operation that cannot be
   *  booked fails alone. */
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
  const ledger = openLedger(database, calendar, capMode, tagsCount);
  const recovered = recover(ledger);
  readAgain(ledger);
  const { lastAttemptId, ahead } = readNewest(database, nowMs);
  noteKey(ledger, { ...UNPROVEN_KEY, atMs: nowMs });
  const transact = createTransact(ledger, createBooks(ledger));

  return {
    recovered,
    losing,
    lastAttemptId,
    ahead,
    book(operations) {
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
    },
  };
}

/** Sums that are read from the books in one transaction: a few milliseconds. */
const LOADED_AT_ONCE = 2;

type AllBooks = { readonly [type in Task["type"]]: Booker<type> };

function createBooks(ledger: SqliteLedger): AllBooks {
  return {
    ...bookersOf(ledger),
    load: ({ atMs }) => ({ type: "loaded", isWhole: ledger.book.load(atMs, LOADED_AT_ONCE) }),
    states: ({ atMs, caller }) => ({
      type: "states",
      states: ledger.book.states(atMs, caller && ledger.ownNames(caller)),
    }),
    freezes: () => ({ type: "freezes", freezes: ledger.book.freezes() }),
    newest: answerNewest(ledger),
    person: ({ name, newId, atMs }) => ({
      type: "person",
      id: answerFrom(ledger.database, askPerson(name, newId, atMs)),
    }),
    change: bookChange(ledger),
    seal: bookSeal(ledger),
    verify: answerVerify(ledger),
  };
}

/** One transaction. Throws when it could not be committed; memory is then out of date, and read from the books again
 *  before the next one: a book that cannot be read admits nothing. */
function createTransact(ledger: SqliteLedger, books: AllBooks): (operations: readonly Task[]) => Answer[] {
  const { database, rollups } = ledger;
  const begin = database.prepare("BEGIN IMMEDIATE");
  const commit = database.prepare("COMMIT");
  const rollback = database.prepare("ROLLBACK");
  const apply = (operation: Task): Answer => (books[operation.type] as (one: Task) => Answer)(operation);
  let isStale = false;
  return (operations) => {
    if (isStale) {
      readAgain(ledger);
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
}

function failure(error: unknown): Answer {
  return {
    type: "failure",
    message: error instanceof Error ? error.message : String(error),
    kind: kindOfRefusal(error) ?? (isStorageFailure(error) ? "storage" : "constraint"),
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
