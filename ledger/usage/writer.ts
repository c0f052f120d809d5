// The one writer of usage.db, as the proxy sees it: reserve, settle, count, change. Operations of one turn of the event
// loop travel to the writer thread together and are committed together; the next batch leaves when the last one is in.
// No timer waits for company: a batch grows only while the disk is busy.
import { Worker } from "node:worker_threads";
import { setTimeout as sleep } from "node:timers/promises";
import type { Budget, BudgetState, Freeze, Subject } from "../budgets.ts";
import type { Change } from "./changes.ts";
import { ChangeRefused } from "./change-refused.ts";
import { eventRow } from "./event-columns.ts";
import type { UsageEvent } from "./usage-event.ts";
import { createClock } from "./clock.ts";
import { attemptAtMs, createAttemptIds } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { LedgerError, lockForWriting } from "../open.ts";
import type { Durability } from "../open.ts";
import type { CapMode, Decision, Extension, ReservationRequest } from "./reservations.ts";
import { decodeAnswers, encodeBatch } from "./wire.ts";
import type { Answer, AnswersMessage, BatchMessage, Operation, ProvenKey, Seen } from "./wire.ts";

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
  | {
      readonly type: "ready";
      readonly lastAttemptId: AttemptId;
      readonly ahead: readonly AttemptId[];
      readonly recovered: number;
      readonly losing: readonly Budget[];
    }
  | AnswersMessage
  | { readonly type: "failed"; readonly message: string; readonly expected: boolean }
  | { readonly type: "closed" };

/** The ledger cannot commit now: nothing new may be sent to a provider. */
export class LedgerUnavailable extends Error {
  override readonly name = "LedgerUnavailable";
}

export type Writer = {
  /** How many attempts the start found open and booked as crashed. */
  readonly recovered: number;
  /** Budgets that count less since this start, for what tags name counts no longer. */
  readonly losing: readonly Budget[];
  nextAttemptId(): AttemptId;
  /** Decides and, when admitted, holds the money durably. Rejects with LedgerUnavailable when it cannot be committed. */
  reserve(request: ReservationRequest, endpoint: string, tags: string | undefined): Promise<Decision>;
  /** Holds more for a stream that goes on: as much as is wanted or what is left, but not less than the least. Rejects with
   *  LedgerUnavailable when it cannot be committed. */
  extend(attemptId: AttemptId, leastNanoUsd: NanoUsd, wantedNanoUsd: NanoUsd): Promise<Extension>;
  /** Books the event and lets go of its reservation. Resolves after the commit, and only then; while the storage fails it
   *  is tried again, for ever. */
  settle(event: UsageEvent, proven?: ProvenKey): Promise<void>;
  /** Leaves the reservation open for work that goes on at the provider, under the provider's id of it. Resolves after the
   *  commit: false when another attempt stands for this work already, so that this one must be settled. While the storage
   *  fails it is tried again; rejects with LedgerUnavailable when the writer has stopped. */
  suspend(attemptId: AttemptId, workId: string, tiers: readonly string[], proven?: ProvenKey): Promise<boolean>;
  /** Remembers which key made things at the provider. While the storage fails it is tried again; rejects when the writer has stopped. */
  own(attemptId: AttemptId, provider: string, keyId: string, names: readonly string[]): Promise<void>;
  /** Counts a request that was refused for another reason than money. */
  countRefused(keyId: string, model: string, reason: string): void;
  /** Budgets that cover a subject (or all), with their sums now. */
  states(subject?: Subject): Promise<BudgetState[]>;
  /** What is frozen now. */
  freezes(): Promise<readonly Freeze[]>;
  /** Makes a change to keys or budgets, with its audit record. Rejects with ChangeRefused. */
  change(change: Change, actor: string): Promise<void>;
  /** Notes that a meter ran in `[sinceMs, untilMs)`: hours without spend there are zero, not missing. For history that is
   *  written in; the running proxy notes its own hours. */
  noteMeterRan(sinceMs: number, untilMs: number): Promise<void>;
  /** Writes down what was noticed beside requests. Rejects when it cannot be committed. */
  noteSeen(seen: Seen): Promise<void>;
  /** Sums in memory against the fold over the books. */
  verify(): Promise<{ readonly differences: string[]; readonly reservedNanoUsd: bigint }>;
  /** Undefined while all is well, else why nothing can be committed. */
  trouble(): string | undefined;
  /** A provider's clock, by the Date of an answer; whether that is wanted. */
  heardDate(dateMs: number): void;
  isClockInDoubt(): boolean;
  /** Settlements that wait for the storage. */
  waiting(): number;
  close(): Promise<void>;
};

export type WriterOptions = ThreadSettings & {
  readonly now?: () => number;
  /** Milliseconds since the machine was started: then a wall clock that jumps stops admission. */
  readonly sinceBoot?: () => number;
};

const RETRY_MS = 250;
const LOOK_AT_CLOCK_MS = 5_000;
/** A commit that takes longer is a disk that hangs. */
const MOST_ANSWER_MS = 5_000;
const MOST_WAITING_SETTLEMENTS = 10_000;

/** Takes the file's lock, starts the thread and waits until the books are open and recovered. Rejects with a
 *  LedgerError whose message is for the operator. */
export async function openWriter({ now: wall = Date.now, sinceBoot, ...settings }: WriterOptions): Promise<Writer> {
  const lock = lockForWriting(settings.path);
  const thread = new Worker(new URL("./writer-thread.ts", import.meta.url), {
    workerData: settings,
    name: "ledger-writer",
  });

  let queue: Operation[] = [];
  let waiters: ((answer: Answer) => void)[] = [];
  let inFlight: ((answer: Answer) => void)[] = [];
  let scheduled = false;
  let broken: string | undefined;
  let lastFailure: string | undefined;
  let waitingSettlements = 0;

  const ready = await new Promise<Extract<ToMain, { type: "ready" }>>((resolve, reject) => {
    thread.once("message", (message: ToMain) => {
      if (message.type === "ready") resolve(message);
      else
        reject(
          message.type === "failed" && message.expected
            ? new LedgerError(message.message)
            : new Error(message.type === "failed" ? message.message : "the writer did not start"),
        );
    });
    thread.once("error", reject);
  }).catch(async (error: unknown) => {
    await thread.terminate();
    lock.release();
    throw error;
  });

  const newestMs = Math.max(attemptAtMs(ready.lastAttemptId), 0);
  const clock = sinceBoot && createClock(wall, sinceBoot, newestMs);
  const now = clock ? () => clock.now() : wall;
  let nextId = createAttemptIds(ready.lastAttemptId, now, ready.ahead);
  const looking = clock && setInterval(() => clock.look(), LOOK_AT_CLOCK_MS).unref();
  /** When the batch in flight left: a disk that hangs answers nothing, and fails nothing. */
  let sentAt: number | undefined;
  const hangs = (): string | undefined => {
    const ms = sentAt === undefined ? 0 : performance.now() - sentAt;
    return ms > MOST_ANSWER_MS ? `the disk has not answered for ${Math.round(ms / 1000)} s` : undefined;
  };

  const send = (): void => {
    scheduled = false;
    if (inFlight.length > 0 || queue.length === 0) return;
    inFlight = waiters;
    const operations = queue;
    queue = [];
    waiters = [];
    sentAt = performance.now();
    thread.postMessage(encodeBatch(operations));
  };

  const schedule = (): void => {
    if (scheduled || inFlight.length > 0) return;
    scheduled = true;
    setImmediate(send);
  };

  const ask = (operation: Operation): Promise<Answer> =>
    new Promise((resolve) => {
      if (broken !== undefined) return resolve({ type: "failure", message: broken, kind: "storage" });
      queue.push(operation);
      waiters.push(resolve);
      schedule();
    });

  const stop = (why: string): void => {
    broken ??= why;
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
    const failed = answers.find((answer) => answer.type === "failure" && answer.kind === "storage");
    lastFailure = failed?.type === "failure" ? failed.message : undefined;
    answers.forEach((answer, i) => resolvers[i]?.(answer));
    // What these answers set in motion within this turn of the loop belongs to the next batch.
    schedule();
  });
  thread.on("error", (error) =>
    stop(`the ledger's writer stopped: ${error instanceof Error ? error.message : String(error)}`),
  );
  thread.on("exit", () => stop("the ledger's writer has stopped"));

  const expect = async <T extends Answer["type"]>(
    operation: Operation,
    type: T,
  ): Promise<Extract<Answer, { type: T }>> => {
    const answer = await ask(operation);
    if (answer.type === type) return answer as Extract<Answer, { type: T }>;
    // What no book can hold is the change's fault, not the storage's.
    const isItsFault = answer.type === "failure" && operation.type === "change" && answer.kind === "constraint";
    if (answer.type === "failure" && (answer.kind === "refused" || isItsFault)) throw new ChangeRefused(answer.message);
    throw new LedgerUnavailable(answer.type === "failure" ? answer.message : `unexpected answer ${answer.type}`);
  };

  return {
    recovered: ready.recovered,
    losing: ready.losing,
    nextAttemptId: () => nextId(),
    async reserve(request, endpoint, tags) {
      if (waitingSettlements >= MOST_WAITING_SETTLEMENTS)
        throw new LedgerUnavailable("too many settlements wait for the storage");
      const why = hangs() ?? clock?.trouble();
      if (why !== undefined) throw new LedgerUnavailable(why);
      return (await expect({ type: "reserve", request, endpoint, tags }, "decision")).decision;
    },
    async extend(attemptId, leastNanoUsd, wantedNanoUsd) {
      const asked = { type: "extend", attemptId, leastNanoUsd, wantedNanoUsd, atMs: now() } as const;
      return (await expect(asked, "extended")).extension;
    },
    async settle(event, proven) {
      const row = eventRow(event);
      waitingSettlements += 1;
      try {
        for (;;) {
          const answer = await ask({ type: "settle", row, proven });
          if (answer.type !== "failure") return;
          // A broken invariant (a second event for one attempt) must not be tried for ever, nor be hidden.
          if (answer.kind === "constraint")
            throw new Error(`event ${event.attemptId} cannot be booked: ${answer.message}`);
          if (broken !== undefined) throw new LedgerUnavailable(broken);
          await sleep(RETRY_MS);
        }
      } finally {
        waitingSettlements -= 1;
      }
    },
    async suspend(attemptId, workId, tiers, proven) {
      for (;;) {
        const answer = await ask({ type: "suspend", attemptId, workId, tiers, proven });
        if (answer.type === "suspended") return answer.isFirst;
        if (answer.type !== "failure" || answer.kind !== "storage" || broken !== undefined)
          throw new LedgerUnavailable(answer.type === "failure" ? answer.message : `unexpected answer ${answer.type}`);
        await sleep(RETRY_MS);
      }
    },
    async own(attemptId, provider, keyId, names) {
      for (;;) {
        const answer = await ask({ type: "own", attemptId, provider, keyId, names });
        if (answer.type !== "failure") return;
        if (answer.kind !== "storage" || broken !== undefined) throw new LedgerUnavailable(answer.message);
        await sleep(RETRY_MS);
      }
    },
    countRefused(keyId, model, reason) {
      void ask({ type: "refused", atMs: now(), keyId, model, reason });
    },
    states: async (subject) => (await expect({ type: "states", atMs: now(), subject }, "states")).states,
    freezes: async () => (await expect({ type: "freezes" }, "freezes")).freezes,
    async change(change, actor) {
      await expect({ type: "change", change, author: { actor, atMs: now() } }, "done");
      if (change.type !== "acceptClock") return;
      clock?.accept();
      const { lastAttemptId, ahead } = await expect({ type: "newest", atMs: now() }, "newest");
      nextId = createAttemptIds(lastAttemptId, now, ahead);
    },
    async noteMeterRan(sinceMs, untilMs) {
      await expect({ type: "meterRan", sinceMs, untilMs }, "done");
    },
    async noteSeen(seen) {
      await expect({ type: "seen", seen }, "done");
    },
    async verify() {
      const { differences, reservedNanoUsd } = await expect({ type: "verify", atMs: now() }, "verified");
      return { differences, reservedNanoUsd };
    },
    trouble: () => broken ?? hangs() ?? lastFailure ?? clock?.trouble(),
    heardDate: (dateMs) => clock?.heard(dateMs),
    isClockInDoubt: () => clock?.trouble() !== undefined,
    waiting: () => waitingSettlements,
    async close() {
      clearInterval(looking);
      const exited = new Promise((resolve) => thread.once("exit", resolve));
      const isBusy = (): boolean => broken === undefined && (inFlight.length > 0 || queue.length > 0);
      while (isBusy()) await sleep(5);
      thread.postMessage({ type: "close" } satisfies ToThread);
      await exited;
      lock.release();
    },
  };
}
