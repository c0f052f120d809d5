// How operations become durable: those of one turn of the event loop go to the writer's thread together and are
// committed together; the next batch leaves when the last one is in. No timer waits for company: a batch grows only
// while the thread is busy. What has to survive a power cut is answered when its commit is on the disk (log-sync.ts).
import { Worker } from "node:worker_threads";
import { setTimeout as sleep } from "node:timers/promises";
import type { Budget } from "../budgets.ts";
import { LedgerError } from "../books.ts";
import type { AttemptId } from "../ids.ts";
import { lockForWriting } from "../sqlite.ts";
import { createLogSync } from "./log-sync.ts";
import type { LogSync } from "./log-sync.ts";
import type { Passed } from "./limits.ts";
import type { KeptDays } from "./kept-days.ts";
import type { CapMode } from "./reservations.ts";
import { decodeAnswers, encodeBatch } from "./wire.ts";
import type { Answer, AnswersMessage, BatchMessage, Operation } from "./wire.ts";

/** What a power cut may take; the end of the process takes nothing that was committed.
 *  - `power`: reservations of attempts of whose answer no byte went to the client: as many as are sent in 100 ms at most,
 *    the last ones before the disk stopped to answer. Everything else is answered when it is on the disk.
 *  - `power_before_send`: nothing: a reservation too is answered when it is on the disk.
 *  - `process`: the last 100 ms. Nothing waits for the disk. */
type UsageDurability = "power" | "power_before_send" | "process";

export type ThreadSettings = {
  readonly path: string;
  readonly durability: UsageDurability;
  readonly zone: string;
  readonly capMode: CapMode;
  /** Whether what a tag names counts in budgets of that name. Absent: as it did. */
  readonly tagsInBudgets?: boolean;
  /** How long what is no event is kept. */
  readonly kept?: KeptDays | undefined;
  /** Secrets that belong to the books. */
  readonly marks?: readonly Mark[];
};
/** A secret that belongs to books, by a digest of it: one that is lost or another one is told at the start. */
export type Mark = {
  readonly name: string;
  readonly digest: string;
  /** Made just now. */
  readonly isNew: boolean;
  /** Another one makes the books useless. */
  readonly mustStay: boolean;
  /** What to do about it, in a sentence. */
  readonly restore: string;
};
export type ToThread = BatchMessage | { readonly type: "rewriteLog" } | { readonly type: "close" };
export type ToMain =
  | ({ readonly type: "ready" } & Found)
  | AnswersMessage
  | { readonly type: "logRewritten"; readonly isWhole: boolean }
  | { readonly type: "failed"; readonly message: string; readonly expected: boolean }
  | { readonly type: "closed" };

/** What the start found in the books. */
type Found = {
  readonly lastAttemptId: AttemptId;
  /** Ids that lie ahead of a clock that was accepted. */
  readonly ahead: readonly AttemptId[];
  /** How many attempts were open, and are booked as crashed. */
  readonly recovered: number;
  /** Budgets that count less than before, for what tags name counts no longer. */
  readonly losing: readonly Budget[];
};

/** What an operation came to, and the batch that it was committed in. */
export type Appended = { readonly answer: Answer; readonly batch: number };

export type Appender = {
  readonly found: Found;
  /** Which of several nodes this is; undefined: there are no others. */
  node(): number | undefined;
  /** Of several nodes: says what passed here, and resolves to what passed at all others. */
  readonly tellPassed?: (passed: readonly Passed[]) => Promise<readonly Passed[]>;
  /** Calls back when another has changed keys, budgets or limits. */
  onChanged(listener: () => void): void;
  /** Resolves when it survives what it has to (`UsageDurability`), or with a failure that says why it was not
   *  committed. Never rejects. */
  append(operation: Operation): Promise<Appended>;
  /** Undefined: the batch survives a power cut, or does not have to. Else resolves when it does. Never rejects. */
  readonly whenDurable: (batch: number) => Promise<void> | undefined;
  /** Why nothing will ever be committed again; undefined while it goes on. */
  ended(): string | undefined;
  /** Why nothing becomes durable now: a disk that hangs answers nothing, and fails nothing; one that fails to keep the
   *  log is asked again and again. */
  hangs(): string | undefined;
  /** What the storage said of the last batch, where it failed. */
  failed(): string | undefined;
  /** Waits for what is under way, then lets go of the books. */
  close(): Promise<void>;
};

/** A commit, or its way to the disk, that takes longer is a disk that hangs. */
const MOST_ANSWER_MS = 5_000;
const SECOND = 1_000;

/** What is answered after its commit: what is only asked, what is noticed by the way, and reservations, whose clients
 *  wait for the disk before their first byte. */
const AFTER_COMMIT: ReadonlySet<Operation["type"]> = new Set([
  "reserve",
  "refused",
  "load",
  "states",
  "freezes",
  "newest",
  "person",
  "verify",
  "meterRan",
  "seen",
]);

/** A disk that has not answered for so long is waited for before anything more is sent: while it hangs nothing is paid
 *  for whose answer cannot go out. A power cut may take what was sent in two such times, of the fdatasync that runs and of
 *  the one before it, and in twice the lag: a tenth of a second's requests. */
const MOST_AHEAD_MS = 40;

/** How long a commit that nobody waits for may stay off the disk. */
const LAG_MS: { readonly [durability in UsageDurability]: number } = {
  power: 10,
  power_before_send: 10,
  process: 100,
};

/** Takes the book's lock, starts the thread and waits until the books are open and recovered. Rejects with a
 *  LedgerError whose message is for whoever runs Keymeter. */
export async function openAppender(settings: ThreadSettings): Promise<Appender> {
  const lock = lockForWriting(settings.path);
  const thread = new Worker(new URL("./writer-thread.ts", import.meta.url), {
    workerData: settings,
    name: "ledger-writer",
  });
  try {
    const found = await whenReady(thread);
    const { path, durability } = settings;
    const sync = createLogSync({ path, lagMs: LAG_MS[durability], rewrite: () => rewriteLog(thread) });
    return createAppender(thread, sync, durability, found, () => lock.release());
  } catch (error) {
    await thread.terminate();
    lock.release();
    throw error;
  }
}

function whenReady(thread: Worker): Promise<Found> {
  return new Promise((resolve, reject) => {
    thread.once("message", (message: ToMain) => {
      if (message.type === "ready") return resolve(message);
      const why = message.type === "failed" ? message.message : "the writer did not start";
      reject(message.type === "failed" && message.expected ? new LedgerError(why) : new Error(why));
    });
    thread.once("error", reject);
  });
}

/** Whether all of it was; a thread that has ended writes nothing. */
function rewriteLog(thread: Worker): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (isWhole: boolean): void => {
      thread.off("message", look);
      thread.off("exit", gone);
      resolve(isWhole);
    };
    const look = (message: ToMain): void => {
      if (message.type === "logRewritten") end(message.isWhole);
    };
    const gone = (): void => end(false);
    thread.on("message", look);
    thread.on("exit", gone);
    thread.postMessage({ type: "rewriteLog" } satisfies ToThread);
  });
}

/** An operation that waits for its answer. */
type Waiter = { readonly type: Operation["type"]; readonly resolve: (appended: Appended) => void };

function createAppender(
  thread: Worker,
  sync: LogSync,
  durability: UsageDurability,
  found: Found,
  letGo: () => void,
): Appender {
  let queue: Operation[] = [];
  let waiters: Waiter[] = [];
  let inFlight: Waiter[] = [];
  let batch = 0;
  let isScheduled = false;
  let sentAt: number | undefined;
  let ended: string | undefined;
  let failed: string | undefined;

  const whenDurable = (one: number): Promise<void> | undefined =>
    durability === "process" ? undefined : sync.whenDurable(one);

  const waitsForDisk = (type: Operation["type"]): boolean =>
    !AFTER_COMMIT.has(type) || (type === "reserve" && (durability === "power_before_send" || isFarAhead()));

  const isFarAhead = (): boolean => performance.now() - (sync.since() ?? Infinity) > MOST_AHEAD_MS;

  const send = (): void => {
    isScheduled = false;
    if (inFlight.length > 0 || queue.length === 0) return;
    inFlight = waiters;
    const operations = queue;
    queue = [];
    waiters = [];
    batch += 1;
    sentAt = performance.now();
    thread.postMessage(encodeBatch(operations));
  };

  const schedule = (): void => {
    if (isScheduled || inFlight.length > 0) return;
    isScheduled = true;
    setImmediate(send);
  };

  const stop = (why: string): void => {
    ended ??= why;
    const all = [...inFlight, ...waiters];
    [queue, waiters, inFlight] = [[], [], []];
    for (const { resolve } of all) resolve({ answer: { type: "failure", message: why, kind: "storage" }, batch });
  };

  /** The batch in flight is committed, or failed as a whole. */
  const answered = (answers: readonly Answer[]): void => {
    const asked = inFlight;
    const committedIn = batch;
    inFlight = [];
    sentAt = undefined;
    failed = undefined;
    sync.committed(committedIn);
    const forDisk: number[] = [];
    const resolve = (i: number): void => {
      const answer = answers[i];
      if (answer) asked[i]?.resolve({ answer, batch: committedIn });
    };
    for (const [i, answer] of answers.entries()) {
      if (answer.type === "failure" && answer.kind === "storage") failed = answer.message;
      const type = asked[i]?.type;
      if (answer.type !== "failure" && type !== undefined && waitsForDisk(type)) forDisk.push(i);
      else resolve(i);
    }
    if (forDisk.length > 0) {
      const onDisk = whenDurable(committedIn);
      if (onDisk) void onDisk.then(() => forDisk.forEach(resolve));
      else forDisk.forEach(resolve);
    }
    // What these answers set in motion within this turn of the loop belongs to the next batch.
    schedule();
  };

  thread.on("message", (message: ToMain) => {
    if (message.type === "failed") stop(message.message);
    else if (message.type === "answers") answered(decodeAnswers(message));
  });
  thread.on("error", (error) =>
    stop(`the ledger's writer stopped: ${error instanceof Error ? error.message : String(error)}`),
  );
  thread.on("exit", () => stop("the ledger's writer has stopped"));

  return {
    found,
    node: () => undefined,
    onChanged: () => {},
    append: (operation) =>
      new Promise((resolve) => {
        if (ended !== undefined)
          return resolve({ answer: { type: "failure", message: ended, kind: "storage" }, batch });
        queue.push(operation);
        waiters.push({ type: operation.type, resolve });
        schedule();
      }),
    whenDurable,
    ended: () => ended,
    hangs() {
      const since = Math.min(sentAt ?? Infinity, sync.since() ?? Infinity);
      const ms = performance.now() - since;
      return ms > MOST_ANSWER_MS ? `the disk has not answered for ${Math.round(ms / SECOND)} s` : sync.failed();
    },
    failed: () => failed,
    async close() {
      const exited = new Promise((resolve) => thread.once("exit", resolve));
      const isBusy = (): boolean => ended === undefined && (inFlight.length > 0 || queue.length > 0);
      while (isBusy()) await sleep(5);
      await sync.close();
      thread.postMessage({ type: "close" } satisfies ToThread);
      await exited;
      letGo();
    },
  };
}
