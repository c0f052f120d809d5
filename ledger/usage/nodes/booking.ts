// Booking on a node: operations are decided in memory, as on SQLite, and sent as one batch. What needs more than the node
// was granted waits for a grant; when nothing comes, it is refused with the whole fleet's numbers. Memory that turns out to
// be old is read again, and the same operations are decided anew. Knows no timer and no connection.
import { attemptAtMs, firstAttemptId } from "../../ids.ts";
import type { AttemptId } from "../../ids.ts";
import { bookersOf } from "../bookings/index.ts";
import { DONE, FallsShort } from "../bookings/ledger.ts";
import { settleAsHeld } from "../bookings/settle-as-held.ts";
import { AT } from "../event-columns.ts";
import type { Part } from "../reservations.ts";
import { partName } from "./escrow.ts";
import type { Waiting } from "./escrow.ts";
import type { Outcome } from "../usage-event.ts";
import type { Answer, Task } from "../wire.ts";
import { openNodeLedger } from "./ledger.ts";
import type { NodeLedger, NodeSettings } from "./ledger.ts";
import { windowsAround } from "./memory.ts";
import type { Elsewhere, NodeMemory, StoredReservation } from "./memory.ts";
import { isOfTheRows, NodeFenced } from "./node.ts";
import type { Booked, Gone, Stale, Work } from "./work.ts";

/** The database, as a node sees it. */
export type NodeStore = {
  book(work: Work, version: number): Promise<Booked | Gone | Stale>;
  /** Memory as of one instant. */
  read(nowMs: number): Promise<NodeMemory>;
  /** Names under which models answer. */
  servedNames(): Promise<NodeMemory["servedNames"]>;
  elsewhere(attemptIds: readonly AttemptId[]): Promise<Elsewhere>;
  /** The node was given up: takes it again, and says what became of its last batch, if that was still booked. */
  again(): Promise<{ readonly firsts: readonly AttemptId[] } | undefined>;
};

/** An attempt of a node that was given up, and did not come back. */
export type Orphan = { readonly type: "orphan"; readonly row: StoredReservation; readonly outcome: Outcome };
export type NodeTask = Exclude<
  Task,
  { type: "change" | "seal" | "load" | "states" | "freezes" | "newest" | "person" | "verify" }
>;

/** An operation, and what it waits for: since when others know that a part lacks something, and whether it would not fit
 *  whatever they gave back. By the part's name. */
export type Asked = {
  readonly task: NodeTask | Orphan;
  readonly waits: Map<string, { readonly sinceMs: number; isVain: boolean }>;
};

export type NodeBooking = {
  /** Books what can be. What is not among the answers waits: it belongs into the next turn. Rejects with NodeFenced,
   *  DatabaseWentBack or LedgerError when nothing more can be booked. */
  turn(
    all: readonly Asked[],
    look: boolean,
  ): Promise<{ readonly answers: ReadonlyMap<Asked, Answer>; readonly booked: Booked | undefined }>;
  /** What is in memory; undefined: it is read with the next turn. */
  ledger(): NodeLedger | undefined;
  /** The same, read where it is not there. Not while a turn goes on. */
  open(): Promise<NodeLedger>;
  /** Memory may be old. */
  forget(): void;
};

/** As long others are waited for, who are to give back what they do not need. */
const RECALL_MS = 500;
/** So many are asked for at once; what lies behind them waits as long. */
const MOST_WAITERS = 64;
/** No attempt is dated so far back. */
const ID_LAG_MS = 5_000;

export function createNodeBooking(
  store: NodeStore,
  settings: NodeSettings,
  now: () => number,
  onRead: (memory: NodeMemory) => void = () => {},
): NodeBooking {
  let ledger: NodeLedger | undefined;
  /** How often names under which models answer had changed when they were read. */
  let names = 0;

  const open = async (): Promise<NodeLedger> => {
    if (ledger) return ledger;
    const memory = await store.read(now());
    onRead(memory);
    names = memory.names;
    return (ledger = openNodeLedger(memory, settings));
  };

  /** Learns whose attempts are that end here and are not open here. Returns those that need no event of this node. */
  const findForeign = async (known: NodeLedger, all: readonly Asked[]): Promise<Set<AttemptId>> => {
    const ids = all.flatMap(({ task }) => idEndedBy(task)).filter((id) => !known.book.holder(id));
    known.held = new Set();
    if (ids.length === 0) return new Set();
    const { open: found, others, over } = await store.elsewhere(ids);
    known.foreign.clear();
    for (const one of found) known.foreign.set(one.attemptId, one);
    known.held = others;
    return new Set(over);
  };

  const turn: NodeBooking["turn"] = async (all, look) => {
    for (;;) {
      const known = await open();
      const over = await findForeign(known, all);
      const made = decide(known, all, over, now());
      const looked = look ? windowsAround(settings.calendar, now()) : [];
      const work: Work = {
        ...made.work,
        ...(look ? { look: looked } : {}),
        lastId: lastIdOf(all, made.answers, now()),
      };
      try {
        const booked = await store.book(work, known.memory.version);
        if ("gone" in booked || "stale" in booked) {
          ledger = undefined;
          continue;
        }
        known.escrow.committed(booked, new Set(looked), now());
        finish(known, made, booked, now());
        if (booked.names !== names) {
          for (const { provider, requestedModel, servedModel } of await store.servedNames())
            known.book.learnServedName(provider, requestedModel, servedModel);
          names = booked.names;
        }
        return { answers: made.answers, booked };
      } catch (error) {
        ledger = undefined;
        if (error instanceof NodeFenced) {
          const doubt = await store.again();
          if (!doubt) continue;
          // It was booked all the same; what it asked for went back when the node was given up.
          correctFirsts(made, doubt.firsts);
          return { answers: made.answers, booked: undefined };
        }
        if (!isOfTheRows(error)) throw error;
        const answers = all.length > 1 ? await each(all) : new Map(all.map((one) => [one, failure(error)]));
        return { answers, booked: undefined };
      }
    }
  };

  /** One of them cannot be booked: it fails alone. */
  const each = async (all: readonly Asked[]): Promise<Map<Asked, Answer>> => {
    const answers = new Map<Asked, Answer>();
    for (const one of all) for (const answered of (await turn([one], false)).answers) answers.set(...answered);
    return answers;
  };

  return {
    turn,
    ledger: () => ledger,
    open,
    forget() {
      ledger = undefined;
    },
  };
}

type Made = {
  readonly answers: Map<Asked, Answer>;
  readonly work: Work;
  /** What waits, and for which of its parts. */
  readonly waiting: readonly (Waiting & { readonly asked: Asked })[];
  readonly suspended: readonly { readonly asked: Asked; readonly attemptId: AttemptId }[];
};

/** Decides everything in memory. Nothing is sent yet. `over`: attempts that have ended. */
function decide(ledger: NodeLedger, all: readonly Asked[], over: Set<AttemptId>, nowMs: number): Made {
  ledger.clear();
  ledger.rollups.clear();
  const bookers = bookersOf(ledger);
  const answers = new Map<Asked, Answer>();
  const waiting: (Waiting & { readonly asked: Asked })[] = [];
  const suspended: { asked: Asked; attemptId: AttemptId }[] = [];
  for (const asked of all) {
    const { task } = asked;
    // Another node has its reservation for the moment: it may be this process's own number of before. It waits.
    if (task.type === "settle" && idEndedBy(task).some((id) => ledger.held.has(id))) continue;
    ledger.givesUp = (needs) => needs.find(({ part, refusal }) => refusal && isOver(asked, part, nowMs));
    try {
      const answer = apply(ledger, bookers, task, over);
      answers.set(asked, answer);
      if (task.type === "suspend") suspended.push({ asked, attemptId: task.attemptId });
      if (task.type === "reserve" && answer.type === "decision" && answer.decision.admitted)
        for (const { part, amount } of ledger.book.heldBy(task.request.attemptId))
          ledger.escrow.spent(part, amount, nowMs);
    } catch (error) {
      if (!(error instanceof FallsShort)) {
        answers.set(asked, failure(error));
        continue;
      }
      const atMs = task.type === "reserve" ? attemptAtMs(task.request.attemptId) : nowMs;
      waiting.push({ asked, needs: error.needs, atMs });
    }
  }
  ledger.rollups.flush();
  const { escrow, asks, waiters } = ledger.escrow.work(nowMs, waiting.slice(0, MOST_WAITERS));
  const work: Work = {
    ...ledger.entries.gathered(),
    ...ledger.others(),
    ...(escrow.length > 0 ? { escrow } : {}),
    ...(asks.length > 0 ? { asks, waiters } : {}),
  };
  return { answers, work, waiting, suspended };
}

function apply(
  ledger: NodeLedger,
  bookers: ReturnType<typeof bookersOf>,
  task: NodeTask | Orphan,
  over: Set<AttemptId>,
): Answer {
  const [ended] = idEndedBy(task);
  if (ended !== undefined) {
    // Another node has booked it, or this very batch does: once is enough. Whose an orphan was may hold it again.
    if (over.has(ended) || (task.type === "orphan" && !ledger.foreign.has(ended))) return DONE;
    over.add(ended);
  }
  if (task.type === "orphan") {
    settleAsHeld(ledger, asRow(task.row), task.outcome);
    return DONE;
  }
  if (task.type === "reserve" && task.request.attemptId < ledger.sealedEnd)
    throw new Error(`attempt ${task.request.attemptId} is dated into a day that is sealed`);
  return (bookers[task.type] as (one: NodeTask) => Answer)(task);
}

function idEndedBy(task: NodeTask | Orphan): AttemptId[] {
  if (task.type === "settle") return [Number(task.row[AT.attemptId])];
  return task.type === "orphan" ? [task.row.attemptId] : [];
}

export function asRow(one: StoredReservation): Parameters<typeof settleAsHeld>[1] {
  return {
    ...one,
    seatNanoUsd: one.seatNanoUsd ?? null,
    tags: one.tags ?? null,
    boundNanoUsd: one.boundNanoUsd ?? null,
    expectedNanoUsd: one.expectedNanoUsd ?? null,
    mostNanoUsd: one.mostNanoUsd ?? null,
    workId: one.workId ?? null,
    tiers: null,
  };
}

/** What only the answer says: whose work stands for itself, and what waits in vain. */
function finish(ledger: NodeLedger, made: Made, { firsts, grants, vain }: Booked, nowMs: number): void {
  // Who needs no less than somebody who does not fit does not fit either.
  const least = new Map<string, bigint>();
  made.waiting.forEach(({ needs }, i) => {
    const grant = grants[vain[i] ?? -1];
    for (const { part, needNanoUsd } of needs) {
      const name = partName(part);
      if (grant && name === `${grant.budgetId}\n${grant.windowId}` && needNanoUsd < (least.get(name) ?? Infinity))
        least.set(name, needNanoUsd);
    }
  });
  made.waiting.forEach(({ asked, needs }) => {
    for (const { part, needNanoUsd } of needs) {
      const name = partName(part);
      const isVain = needNanoUsd >= (least.get(name) ?? Infinity);
      asked.waits.set(name, { sinceMs: asked.waits.get(name)?.sinceMs ?? nowMs, isVain });
    }
  });
  correctFirsts(made, firsts);
  for (const attemptId of firsts) {
    const holds = ledger.book.heldBy(attemptId);
    ledger.book.handOver(attemptId);
    ledger.escrow.handedOver(holds);
  }
}

/** Whether nothing more is waited for. */
function isOver({ waits }: Asked, part: Part, nowMs: number): boolean {
  const wait = waits.get(partName(part));
  return wait !== undefined && (wait.isVain || nowMs - wait.sinceMs >= RECALL_MS);
}

function correctFirsts({ answers, suspended }: Made, firsts: readonly AttemptId[]): void {
  for (const { asked, attemptId } of suspended)
    if (answers.get(asked)?.type === "suspended")
      answers.set(asked, { type: "suspended", isFirst: firsts.includes(attemptId) });
}

/** Below it no attempt is reserved any more: what waits is not among them. */
function lastIdOf(all: readonly Asked[], answers: ReadonlyMap<Asked, Answer>, nowMs: number): AttemptId {
  const idsOf = (isAnswered: boolean): AttemptId[] =>
    all.flatMap((asked) =>
      asked.task.type === "reserve" && answers.has(asked) === isAnswered ? [asked.task.request.attemptId] : [],
    );
  const newest = Math.max(firstAttemptId(nowMs - ID_LAG_MS), ...idsOf(true));
  return Math.max(0, Math.min(newest, ...idsOf(false).map((id) => id - 1)));
}

function failure(error: unknown): Answer {
  return { type: "failure", message: error instanceof Error ? error.message : String(error), kind: "constraint" };
}
