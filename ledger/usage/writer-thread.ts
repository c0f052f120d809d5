// The writer's thread: the only code that changes usage.db. It takes a batch of operations, has it booked in one
// transaction, and answers after the commit: it is in the log then, on its way to the disk (log-sync.ts).
import { closeSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { answerFrom, answerOf } from "../asking.ts";
import type { Asked } from "../asking.ts";
import { flat } from "./flat.ts";
import type { Single } from "./flat.ts";
import { createBooking } from "./booking.ts";
import type { Booking } from "./booking.ts";
import { LedgerError } from "../books.ts";
import { growLog, openForWriting } from "../sqlite.ts";
import type { Sqlite } from "../sqlite.ts";
import { askSweep } from "./sweep.ts";
import type { KeptDays } from "./kept-days.ts";
import { askDayToSeal, digestDay } from "./seals.ts";
import { decodeBatch, encodeAnswers } from "./wire.ts";
import type { Mark, ThreadSettings, ToMain, ToThread } from "./appender.ts";

const LOOK_EVERY_MS = 1_000;
const LOOK_AT_CLOCK_EVERY_MS = 60_000;
const PAUSE_MS = 1;
const WIPE_AGAIN_MS = 1_000;
const REWRITE_BYTES = 1024 * 1024;

const port = parentPort;
if (!port) throw new Error("ledger/usage/writer-thread.ts runs as a worker thread only");
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

function run({ path, zone, capMode, tagsInBudgets = true, marks = [], kept = {} }: ThreadSettings): void {
  const database = openForWriting(path, "usage", "process");
  checkMarks(database, marks);
  const booking = createBooking(database, zone, capMode, Date.now(), tagsInBudgets);

  const sealDays = createSealer(database, booking);
  const sweep = createSweeper(database, kept);
  const lookAtClock = (): void => {
    // The meter runs in this hour, whether anybody spends or not. What cannot be written now is written a minute later.
    booking.book([{ type: "meterRan", sinceMs: Date.now(), untilMs: Date.now() + 1 }]);
    sealDays();
    sweep();
  };
  lookAtClock();
  setInterval(lookAtClock, LOOK_AT_CLOCK_EVERY_MS).unref();

  watchFiles(database, path);

  port?.on("message", (message: ToThread) => {
    if (message.type === "close") {
      database.pragma("wal_checkpoint(TRUNCATE)");
      database.close();
      post({ type: "closed" });
      process.exit(0);
    }
    if (message.type === "batch") {
      post(encodeAnswers(booking.book(decodeBatch(message))));
      if (message.rare.some((one) => one.type === "change" && flat(one.change).some(takesName))) wipeLog(database);
      return;
    }
    post({ type: "logRewritten", isWhole: rewriteLog(path) });
  });
  const { lastAttemptId, ahead, recovered, losing } = booking;
  post({ type: "ready", lastAttemptId, ahead, recovered, losing });
}

/** Whether the secrets that belong to these books are the ones that they were written with. */
function checkMarks(database: Sqlite, marks: readonly Mark[]): void {
  const find = database.prepare("SELECT value FROM meta WHERE name = ?").pluck();
  for (const { name, digest, isNew, mustStay, restore } of marks) {
    const known = find.get(name) as string | undefined;
    const isInUse =
      known !== undefined ||
      (mustStay &&
        database
          .prepare("SELECT 1 FROM key_secrets JOIN keys ON keys.id = key_id WHERE kind = 'virtual' LIMIT 1")
          .get() !== undefined);
    if (isInUse && (isNew || (mustStay && known !== undefined && known !== digest)))
      throw new LedgerError(
        `${database.name}: its ${name} is ${isNew ? "gone, and a new one was made" : "another one"}. ${restore}`,
      );
    database.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)").run(name, digest);
  }
}

/** Seals days in their order, a slice at a time with a pause between: requests are booked meanwhile. What is returned
 *  begins, unless it goes on already. */
function createSealer(database: Sqlite, booking: Booking): () => void {
  let digest: ReturnType<typeof digestDay> | undefined;
  let asked: Asked | undefined;
  let isBusy = false;
  /** Whether there is more to do. */
  const step = (): boolean => {
    if (!digest) {
      const first = answerFrom(database, askDayToSeal(Date.now()));
      if (first === undefined) return false;
      digest = digestDay(first);
      asked = undefined;
    }
    const { done, value } = digest.next(asked ? answerOf(database, asked) : []);
    if (!done) {
      asked = value;
      return true;
    }
    digest = undefined;
    const [answer] = booking.book([{ type: "seal", seal: value, atMs: Date.now() }]);
    return answer?.type !== "failure";
  };
  const goOn = (): void => {
    try {
      isBusy = step();
    } catch {
      // Books that cannot be read now are sealed later: `verify` says until when they are.
      digest = undefined;
      isBusy = false;
    }
    if (isBusy) setTimeout(goOn, PAUSE_MS);
  };
  return () => {
    if (isBusy) return;
    isBusy = true;
    setTimeout(goOn, PAUSE_MS);
  };
}

/** Deletes what is kept no longer, a slice at a time with a pause between. What is returned begins, unless it goes on
 *  already. */
function createSweeper(database: Sqlite, kept: KeptDays): () => void {
  let isBusy = false;
  const goOn = (): void => {
    try {
      isBusy = database.transaction(() => answerFrom(database, askSweep(kept, Date.now()))).immediate();
    } catch {
      // What cannot be deleted now is deleted later.
      isBusy = false;
    }
    if (isBusy) setTimeout(goOn, PAUSE_MS);
  };
  return () => {
    if (isBusy) return;
    isBusy = true;
    setTimeout(goOn, PAUSE_MS);
  };
}

function takesName({ type }: Single): boolean {
  return type === "forgetUser";
}

/** What was taken out of the books goes out of their log too, as soon as nobody reads it. */
function wipeLog(database: Sqlite): void {
  database.pragma("busy_timeout = 0");
  try {
    const [state] = database.pragma("wal_checkpoint(TRUNCATE)") as { busy: bigint }[];
    if (Number(state?.busy) === 0) return growLog(database);
  } catch {
    // Somebody reads it.
  } finally {
    database.pragma("busy_timeout = 2000");
  }
  setTimeout(() => wipeLog(database), WIPE_AGAIN_MS).unref();
}

/** Writes the same bytes again, as the machine still has them: then they are on their way to the disk once more. Whether
 *  all of them are. */
function rewriteLog(path: string): boolean {
  let file: number | undefined;
  try {
    file = openSync(`${path}-wal`, "r+");
    const piece = Buffer.alloc(REWRITE_BYTES);
    for (let at = 0, size; (size = readSync(file, piece, 0, piece.length, at)) > 0; at += size)
      if (writeSync(file, piece, 0, size, at) < size) return false;
    return true;
  } catch {
    // A disk that takes nothing is asked again.
    return false;
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** A file or a log that is deleted or replaced under us would swallow everything we write, and a lock that is deleted
 *  would let a second writer in: stop at once. What only we still have is written beside the place where it was. */
function watchFiles(database: Sqlite, path: string): void {
  const opened = [path, `${path}.lock`, `${path}-wal`].map((file) => [file, statSync(file).ino] as const);
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
