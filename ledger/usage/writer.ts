// The one writer of usage.db, as the proxy sees it: reserve, settle, count, change. Each resolves when it is as durable
// as it has to be (appender.ts).
import { setTimeout as sleep } from "node:timers/promises";
import type { Budget, BudgetState, Caller, Freeze } from "../budgets.ts";
import { attemptAtMs, createAttemptIds } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { openAppender } from "./appender.ts";
import type { Appended, Appender, ThreadSettings } from "./appender.ts";
import { ChangeRefused, NotAllowed } from "./change-refused.ts";
import type { NodeAppenderSettings } from "./nodes/appender.ts";
import type { Change } from "./changes.ts";
import type { Holder } from "./tokens.ts";
import { createClock } from "./clock.ts";
import { eventRow } from "./event-columns.ts";
import type { Passed } from "./limits.ts";
import { newPersonId } from "./people.ts";
import type { UsageEvent } from "./usage-event.ts";
import type { Decision, Extension, ReservationRequest } from "./reservations.ts";
import type { Answer, Operation, ProvenKey, Noticed } from "./wire.ts";

/** The ledger cannot commit now: nothing new may be sent to a provider. */
export class LedgerUnavailable extends Error {
  override readonly name = "LedgerUnavailable";
}

/** A decision, and the batch that it was committed in. */
type Reserved = Decision & { readonly batch: number };

export type Writer = {
  /** How many attempts the start found open and booked as crashed. */
  readonly recovered: number;
  /** Budgets that count less since this start, for what tags name counts no longer. */
  readonly losing: readonly Budget[];
  nextAttemptId(): AttemptId;
  /** Decides and, when admitted, holds the money: the reservation survives the end of the process. Rejects with
   *  LedgerUnavailable when it cannot be committed. */
  reserve(request: ReservationRequest, endpoint: string, tags: string | undefined): Promise<Reserved>;
  /** Undefined: what was committed in this batch survives a power cut, or does not have to. Else resolves when it does.
   *  Never rejects. */
  readonly whenDurable: (batch: number) => Promise<void> | undefined;
  /** Holds more for a stream that goes on: as much as is wanted or what is left, but not less than the least. Rejects
   *  with LedgerUnavailable when it cannot be committed. */
  extend(attemptId: AttemptId, leastNanoUsd: NanoUsd, wantedNanoUsd: NanoUsd): Promise<Extension>;
  /** Books the event and lets go of its reservation. Resolves after the commit, and only then; while the storage fails
   *  it is tried again, for ever. */
  settle(event: UsageEvent, proven?: ProvenKey): Promise<void>;
  /** Leaves the reservation open for work that goes on at the provider, under the provider's id of it. Resolves after
   *  the commit: false when another attempt stands for this work already, so that this one must be settled. While the
   *  storage fails it is tried again; rejects with LedgerUnavailable when the writer has stopped. */
  suspend(attemptId: AttemptId, workId: string, tiers: readonly string[], proven?: ProvenKey): Promise<boolean>;
  /** Remembers which key made things at the provider. While the storage fails it is tried again; rejects when the
   *  writer has stopped. */
  own(attemptId: AttemptId, provider: string, keyId: string, names: readonly string[]): Promise<void>;
  /** Counts a request that was refused for another reason than money. */
  countRefused(keyId: string, model: string, reason: string): void;
  /** The id of who has this name; a new one where nobody has. */
  personOf(name: string): Promise<string>;
  /** Budgets that cover a subject (or all), with their sums now. */
  states(caller?: Caller): Promise<BudgetState[]>;
  /** What is frozen now. */
  freezes(): Promise<readonly Freeze[]>;
  /** Makes a change to keys or budgets, with its audit record. Rejects with ChangeRefused, also where the holder's role does
   *  not allow it. */
  change(change: Change, actor: string, holder?: Holder): Promise<void>;
  /** Notes that a meter ran in `[sinceMs, untilMs)`: hours without spend there are zero, not missing. For history that
   *  is written in; the running proxy notes its own hours. */
  noteMeterRan(sinceMs: number, untilMs: number): Promise<void>;
  /** Writes down what was noticed beside requests. Rejects when it cannot be committed. */
  noteSeen(seen: Noticed): Promise<void>;
  /** Sums in memory against the fold over the books. */
  verify(): Promise<{ readonly differences: string[]; readonly reservedNanoUsd: bigint }>;
  /** Undefined while all is well, else why nothing can be committed. */
  trouble(): string | undefined;
  /** A provider's clock, by the Date of an answer; whether that is wanted. */
  heardDate(dateMs: number): void;
  isClockInDoubt(): boolean;
  /** Settlements that wait for the storage. */
  waiting(): number;
  /** Whether others write into the same books: what is not known here may be known there. */
  readonly isOneOfMany: boolean;
  /** Says what passed here in the scopes of limits, and resolves to what passed at all others: nothing where there are
   *  none. Rejects while the storage is away. */
  tellPassed(passed: readonly Passed[]): Promise<readonly Passed[]>;
  /** Calls back when another node has changed keys, budgets or limits. */
  onChanged(listener: () => void): void;
  close(): Promise<void>;
};

/** A file's writer, or a node of books in Postgres. */
export type WriterOptions = (ThreadSettings | NodeAppenderSettings) & {
  readonly now?: () => number;
  /** Milliseconds since the machine was started: then a wall clock that jumps stops admission. */
  readonly sinceBoot?: () => number;
};

const RETRY_MS = 250;
const LOOK_AT_CLOCK_MS = 5_000;
const MOST_WAITING_SETTLEMENTS = 10_000;

/** Opens the books, recovered. Rejects with a LedgerError whose message is for whoever runs Keymeter. */
export async function openWriter({ now: wall = Date.now, sinceBoot, ...settings }: WriterOptions): Promise<Writer> {
  const appender = await ("url" in settings
    ? (await import("./nodes/appender.ts")).openNodeAppender({ ...settings, now: wall })
    : openAppender(settings));
  const { lastAttemptId, ahead, recovered, losing } = appender.found;
  const newestMs = Math.max(attemptAtMs(lastAttemptId), 0);
  const clock = sinceBoot && createClock(wall, sinceBoot, newestMs);
  const now = clock ? () => clock.now() : wall;
  let nextId = createAttemptIds(lastAttemptId, now, ahead, () => appender.node());
  const looking = clock && setInterval(() => clock.look(), LOOK_AT_CLOCK_MS).unref();
  const settling = createSettling(appender);

  const ask = async <T extends Answer["type"]>(
    operation: Operation,
    type: T,
  ): Promise<Appended & { readonly answer: Extract<Answer, { type: T }> }> => {
    const appended = await appender.append(operation);
    const { answer } = appended;
    if (answer.type === type) return appended as Appended & { readonly answer: Extract<Answer, { type: T }> };
    // What no book can hold is the change's fault, not the storage's.
    const isItsFault = answer.type === "failure" && operation.type === "change" && answer.kind === "constraint";
    if (answer.type === "failure" && answer.kind === "notAllowed") throw new NotAllowed(answer.message);
    if (answer.type === "failure" && (answer.kind === "refused" || isItsFault)) throw new ChangeRefused(answer.message);
    throw new LedgerUnavailable(answer.type === "failure" ? answer.message : `unexpected answer ${answer.type}`);
  };

  /** Sums that nobody has asked for yet come into memory a few at a time: requests are booked in between. */
  const load = async (): Promise<void> => {
    while (!(await ask({ type: "load", atMs: now() }, "loaded")).answer.isWhole);
  };

  return {
    recovered,
    losing,
    nextAttemptId: () => nextId(),
    async reserve(request, endpoint, tags) {
      if (settling.waiting() >= MOST_WAITING_SETTLEMENTS)
        throw new LedgerUnavailable("too many settlements wait for the storage");
      const why = appender.hangs() ?? clock?.trouble();
      if (why !== undefined) throw new LedgerUnavailable(why);
      const { answer, batch } = await ask({ type: "reserve", request, endpoint, tags }, "decision");
      return { ...answer.decision, batch };
    },
    whenDurable: appender.whenDurable,
    async extend(attemptId, leastNanoUsd, wantedNanoUsd) {
      const asked = { type: "extend", attemptId, leastNanoUsd, wantedNanoUsd, atMs: now() } as const;
      return (await ask(asked, "extended")).answer.extension;
    },
    settle: settling.settle,
    async suspend(attemptId, workId, tiers, proven) {
      const answer = await untilDurable(appender, { type: "suspend", attemptId, workId, tiers, proven });
      if (answer.type !== "suspended") throw new LedgerUnavailable(`unexpected answer ${answer.type}`);
      return answer.isFirst;
    },
    async own(attemptId, provider, keyId, names) {
      await untilDurable(appender, { type: "own", attemptId, provider, keyId, names });
    },
    countRefused(keyId, model, reason) {
      void appender.append({ type: "refused", atMs: now(), keyId, model, reason });
    },
    async personOf(name) {
      return (await ask({ type: "person", name, newId: newPersonId(), atMs: now() }, "person")).answer.id;
    },
    async states(caller) {
      if (!caller) await load();
      return (await ask({ type: "states", atMs: now(), caller }, "states")).answer.states;
    },
    freezes: async () => (await ask({ type: "freezes" }, "freezes")).answer.freezes,
    async change(change, actor, holder) {
      await ask({ type: "change", change, author: { actor, atMs: now(), holder } }, "done");
      if (change.type !== "acceptClock") return;
      clock?.accept();
      // Of several nodes each goes by Postgres's clock, too.
      if (appender.node() !== undefined) return;
      const { answer: newest } = await ask({ type: "newest", atMs: now() }, "newest");
      nextId = createAttemptIds(newest.lastAttemptId, now, newest.ahead);
    },
    async noteMeterRan(sinceMs, untilMs) {
      await ask({ type: "meterRan", sinceMs, untilMs }, "done");
    },
    async noteSeen(seen) {
      await ask({ type: "seen", seen }, "done");
    },
    async verify() {
      await load();
      const differences: string[] = [];
      for (let after = ""; ;) {
        const { answer } = await ask({ type: "verify", after }, "verified");
        differences.push(...answer.differences);
        if (answer.next === undefined) return { differences, reservedNanoUsd: answer.reservedNanoUsd };
        after = answer.next;
      }
    },
    trouble: () => appender.ended() ?? appender.hangs() ?? appender.failed() ?? clock?.trouble(),
    heardDate: (dateMs) => clock?.heard(dateMs),
    isClockInDoubt: () => clock?.trouble() !== undefined,
    waiting: settling.waiting,
    isOneOfMany: appender.node() !== undefined,
    tellPassed: async (passed) => (await appender.tellPassed?.(passed)) ?? [],
    onChanged: (listener) => appender.onChanged(listener),
    async close() {
      clearInterval(looking);
      await appender.close();
    },
  };
}

/** What was used is never given up while the books may open again. */
function createSettling(appender: Appender): Pick<Writer, "settle" | "waiting"> {
  let waiting = 0;
  return {
    waiting: () => waiting,
    async settle(event, proven) {
      const row = eventRow(event);
      waiting += 1;
      try {
        for (;;) {
          const { answer } = await appender.append({ type: "settle", row, proven });
          if (answer.type !== "failure") return;
          // A broken invariant (a second event for one attempt) must not be tried for ever, nor be hidden.
          if (answer.kind === "constraint")
            throw new Error(`event ${event.attemptId} cannot be booked: ${answer.message}`);
          const ended = appender.ended();
          if (ended !== undefined) throw new LedgerUnavailable(ended);
          await sleep(RETRY_MS);
        }
      } finally {
        waiting -= 1;
      }
    },
  };
}

/** Tries an operation again while the storage fails. Rejects with LedgerUnavailable when nothing will be committed any
 *  more, or when it is not the storage that fails. */
async function untilDurable(appender: Appender, operation: Operation): Promise<Exclude<Answer, { type: "failure" }>> {
  for (;;) {
    const { answer } = await appender.append(operation);
    if (answer.type !== "failure") return answer;
    if (answer.kind !== "storage" || appender.ended() !== undefined) throw new LedgerUnavailable(answer.message);
    await sleep(RETRY_MS);
  }
}
