// How operations become durable: those of one turn of the event loop go to the writer's thread together and are
// committed together; the next batch leaves when the last one is in. No timer waits for company: a batch grows only
// while the disk is busy.
import { Worker } from "node:worker_threads";
import { setTimeout as sleep } from "node:timers/promises";
import type { Budget } from "../budgets.ts";
import { LedgerError } from "../books.ts";
import type { AttemptId } from "../ids.ts";
import { lockForWriting } from "../sqlite.ts";
import type { Durability } from "../sqlite.ts";
import type { CapMode } from "./reservations.ts";
import { decodeAnswers, encodeBatch } from "./wire.ts";
import type { Answer, AnswersMessage, BatchMessage, Operation } from "./wire.ts";

export type ThreadSettings = {
  readonly path: string;
  readonly durability: Durability;
  readonly zone: string;
  readonly capMode: CapMode;
  /** Whether what a tag names counts in budgets of that name. Absent: as it did. */
  readonly tagsInBudgets?: boolean;
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
export type ToThread = BatchMessage | { readonly type: "close" };
export type ToMain =
  | ({ readonly type: "ready" } & Found)
  | AnswersMessage
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

export type Appender = {
  readonly found: Found;
  /** Resolves after the commit, or with a failure that says why there is none. Never rejects. */
  append(operation: Operation): Promise<Answer>;
  /** Why nothing will ever be committed again; undefined while it goes on. */
  ended(): string | undefined;
  /** Why nothing is being committed now: a disk that hangs answers nothing, and fails nothing. */
  hangs(): string | undefined;
  /** What the storage said of the last batch, where it failed. */
  failed(): string | undefined;
  /** Waits for what is under way, then lets go of the books. */
  close(): Promise<void>;
};

/** A commit that takes longer is a disk that hangs. */
const MOST_ANSWER_MS = 5_000;
const SECOND = 1_000;

/** Takes the book's lock, starts the thread and waits until the books are open and recovered. Rejects with a
 *  LedgerError whose message is for whoever runs Keymeter. */
export async function openAppender(settings: ThreadSettings): Promise<Appender> {
  const lock = lockForWriting(settings.path);
  const thread = new Worker(new URL("./writer-thread.ts", import.meta.url), {
    workerData: settings,
    name: "ledger-writer",
  });
  try {
    return createAppender(thread, await whenReady(thread), () => lock.release());
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

function createAppender(thread: Worker, found: Found, letGo: () => void): Appender {
  let queue: Operation[] = [];
  let waiters: ((answer: Answer) => void)[] = [];
  let inFlight: ((answer: Answer) => void)[] = [];
  let isScheduled = false;
  let sentAt: number | undefined;
  let ended: string | undefined;
  let failed: string | undefined;

  const send = (): void => {
    isScheduled = false;
    if (inFlight.length > 0 || queue.length === 0) return;
    inFlight = waiters;
    const operations = queue;
    queue = [];
    waiters = [];
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
    for (const resolve of all) resolve({ type: "failure", message: why, kind: "storage" });
  };

  thread.on("message", (message: ToMain) => {
    if (message.type === "failed") return stop(message.message);
    if (message.type !== "answers") return;
    const answers = decodeAnswers(message);
    const resolvers = inFlight;
    inFlight = [];
    sentAt = undefined;
    const failure = answers.find((answer) => answer.type === "failure" && answer.kind === "storage");
    failed = failure?.type === "failure" ? failure.message : undefined;
    answers.forEach((answer, i) => resolvers[i]?.(answer));
    // What these answers set in motion within this turn of the loop belongs to the next batch.
    schedule();
  });
  thread.on("error", (error) =>
    stop(`the ledger's writer stopped: ${error instanceof Error ? error.message : String(error)}`),
  );
  thread.on("exit", () => stop("the ledger's writer has stopped"));

  return {
    found,
    append: (operation) =>
      new Promise((resolve) => {
        if (ended !== undefined) return resolve({ type: "failure", message: ended, kind: "storage" });
        queue.push(operation);
        waiters.push(resolve);
        schedule();
      }),
    ended: () => ended,
    hangs() {
      const ms = sentAt === undefined ? 0 : performance.now() - sentAt;
      return ms > MOST_ANSWER_MS ? `the disk has not answered for ${Math.round(ms / SECOND)} s` : undefined;
    },
    failed: () => failed,
    async close() {
      const exited = new Promise((resolve) => thread.once("exit", resolve));
      const isBusy = (): boolean => ended === undefined && (inFlight.length > 0 || queue.length > 0);
      while (isBusy()) await sleep(5);
      thread.postMessage({ type: "close" } satisfies ToThread);
      await exited;
      letGo();
    },
  };
}
