// The batches of a node, one after the other: what waits goes together, and the next one leaves when the last is answered.
// While nothing waits the node says that it is there, and hears what others need.
import { setTimeout as sleep } from "node:timers/promises";
import { LedgerError } from "../../books.ts";
import type { Appended } from "../appender.ts";
import type { Asked, NodeBooking, NodeTask, Orphan } from "./booking.ts";
import type { NodeLedger } from "./ledger.ts";
import type { Booked } from "./work.ts";

export type Batches = {
  /** Resolves when it is booked. Never rejects. */
  readonly put: (task: NodeTask | Orphan) => Promise<Appended>;
  /** Does something between two batches: memory is as the books have it. */
  readonly alone: <T>(step: () => Promise<T>) => Promise<T>;
  /** What is in memory. Rejects when nothing will be any more. */
  ledger(): Promise<NodeLedger>;
  /** The last one that was booked. */
  number(): number;
  /** Why nothing will be booked any more. */
  readonly ended: () => string | undefined;
  /** What became of the last one, where it failed. */
  readonly failed: () => string | undefined;
  /** Since when the batch that is under way waits for its answer, by `performance.now()`. */
  since(): number | undefined;
  /** Waits for what is there, as long as something answers. */
  close(): Promise<void>;
};

/** Operations that are one batch at most. */
const MOST_TASKS = 256;
/** While the server is away refusals that are only counted are kept up to here. */
const MOST_QUEUED = 10_000;
/** How often a node is heard of that has nothing to do; and one that holds money which others may wait for. */
const LOOK_MS = 500;
const LOOK_WITH_SURPLUS_MS = 100;
const TICK_MS = 50;
/** What waits for others to give back asks again. */
const ASK_AGAIN_MS = 20;
/** Memory is read again now and then, whatever is heard. */
const READ_AGAIN_MS = 3_600_000;
const CLOSE_MS = 15_000;

/** What waits for its answer. */
type Waiter = Asked & { readonly resolve: (appended: Appended) => void };

/** `heard` is told of each answer, and when its batch was sent. */
export function startBatches(
  booking: NodeBooking,
  now: () => number,
  heard: (booked: Booked, sentMs: number) => void,
): Batches {
  const queue = createQueue();
  let number = 0;
  let since: number | undefined;
  let ended: string | undefined;
  let failed: string | undefined;
  let isClosing = false;
  const between: (() => Promise<void>)[] = [];
  let lookedAt = 0;
  let readAt = performance.now();
  const { pause, wake } = createPause();

  const stop = (why: string): void => {
    ended ??= why;
    for (const { resolve } of queue.empty())
      resolve({ answer: { type: "failure", message: why, kind: "storage" }, batch: number });
  };

  const isLookDue = (): boolean =>
    performance.now() - lookedAt >= (booking.ledger()?.escrow.hasSurplus() === true ? LOOK_WITH_SURPLUS_MS : LOOK_MS);

  /** One batch. Returns whether all that is there waits for others. */
  const turn = async (): Promise<boolean> => {
    const taken = queue.take();
    const all = [...taken.waiting, ...taken.fresh];
    const look = isLookDue();
    // Until one is answered again it counts from the first that was not.
    since ??= performance.now();
    const nowAt = performance.now();
    if (look) lookedAt = nowAt;
    if (nowAt - readAt > READ_AGAIN_MS) {
      readAt = nowAt;
      booking.forget();
    }
    const sentMs = now();
    try {
      const { answers, booked } = await booking.turn(all, look);
      number += 1;
      [since, failed] = [undefined, undefined];
      queue.wait(all.filter((one) => !answers.has(one)));
      for (const one of all) {
        const answer = answers.get(one);
        if (answer) one.resolve({ answer, batch: number });
      }
      if (booked) heard(booked, sentMs);
      return queue.onlyWaits();
    } catch (error) {
      queue.putBack(taken);
      failed = error instanceof Error ? error.message : String(error);
      if (error instanceof LedgerError || isClosing) stop(failed);
      else await sleep(ASK_AGAIN_MS);
      return false;
    }
  };

  const isOver = (): boolean => ended !== undefined || (isClosing && queue.isEmpty() && between.length === 0);

  const run = async (): Promise<void> => {
    while (!isOver()) {
      const step = between.shift();
      if (step) {
        since ??= performance.now();
        await step();
        since = undefined;
      } else if (queue.isEmpty() && !isLookDue()) await pause(TICK_MS);
      else if (await turn()) await pause(ASK_AGAIN_MS);
      // What these answers set in motion within this turn of the event loop belongs to the next batch.
      else await new Promise((resolve) => setImmediate(resolve));
    }
    for (const step of between) await step();
  };
  const running = run();

  const put: Batches["put"] = (task) =>
    new Promise((resolve) => {
      if (ended !== undefined)
        return resolve({ answer: { type: "failure", message: ended, kind: "storage" }, batch: number });
      if (task.type === "refused" && queue.size() > MOST_QUEUED)
        return resolve({ answer: { type: "failure", message: "too much waits", kind: "storage" }, batch: number });
      queue.push({ task, waits: new Map(), resolve });
      wake();
    });

  return {
    put,
    alone: (step) =>
      new Promise((resolve, reject) => {
        if (ended !== undefined) return reject(new LedgerError(ended));
        between.push(() => step().then(resolve, reject));
        wake();
      }),
    async ledger() {
      for (;;) {
        const known = booking.ledger();
        if (known) return known;
        if (ended !== undefined) throw new LedgerError(ended);
        await put({ type: "seen", seen: {} });
      }
    },
    number: () => number,
    ended: () => ended,
    failed: () => failed,
    since: () => since,
    async close() {
      isClosing = true;
      wake();
      await Promise.race([running, sleep(CLOSE_MS, undefined, { ref: false })]);
      stop("the ledger was closed");
    },
  };
}

type Taken = { readonly waiting: readonly Waiter[]; readonly fresh: readonly Waiter[] };

/** What was decided and lacks something, and what was not decided yet: what waits takes no place of what may go. */
function createQueue(): {
  readonly push: (one: Waiter) => void;
  readonly take: () => Taken;
  /** These lack something. They come after those that waited before. */
  readonly wait: (all: readonly Waiter[]) => void;
  readonly putBack: (taken: Taken) => void;
  readonly empty: () => Waiter[];
  readonly isEmpty: () => boolean;
  readonly onlyWaits: () => boolean;
  readonly size: () => number;
} {
  const waiting: Waiter[] = [];
  const fresh: Waiter[] = [];
  return {
    push: (one) => void fresh.push(one),
    take: () => ({ waiting: waiting.splice(0, MOST_TASKS), fresh: fresh.splice(0, MOST_TASKS) }),
    wait: (all) => void waiting.push(...all),
    putBack(taken) {
      waiting.unshift(...taken.waiting);
      fresh.unshift(...taken.fresh);
    },
    empty: () => [...waiting.splice(0), ...fresh.splice(0)],
    isEmpty: () => waiting.length === 0 && fresh.length === 0,
    onlyWaits: () => waiting.length > 0 && fresh.length === 0,
    size: () => waiting.length + fresh.length,
  };
}

/** A pause that ends early when something comes. */
function createPause(): { readonly pause: (ms: number) => Promise<void>; readonly wake: () => void } {
  let end = (): void => {};
  return {
    pause: (ms) =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        end = () => {
          clearTimeout(timer);
          resolve();
        };
      }),
    wake: () => end(),
  };
}
