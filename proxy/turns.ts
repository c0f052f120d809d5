// The turns of one WebSocket session, each an attempt: money is reserved for a turn before it can begin, and booked
// when it ends. What a client asks for has a reservation of its own, by lane; for what the provider may start by itself
// one stands ready.
import type { IncomingMessage } from "node:http";
import type { Subject } from "../ledger/budgets.ts";
import { subjectOf } from "./admit.ts";
import { identify, paidBy, payingWith } from "./arrival.ts";
import type { Arrived, Sent } from "./arrival.ts";
import { NOT_KEPT } from "./exchange.ts";
import { NOTHING_MORE, openAttempt, said } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import type { ProxyContext } from "./context.ts";
import type { Need } from "./dialects/conversation.ts";
import { NO_READING } from "./dialects/reading.ts";
import type { Call } from "./dialects/call.ts";
import type { Reading } from "./dialects/reading.ts";
import type { Ending } from "./ending.ts";
import { checkModel } from "./gate.ts";
import type { Target } from "./target.ts";
import type { Seen } from "./meter.ts";
import { Refused } from "./refusals.ts";
import type { Principal } from "./principal.ts";
import { readTags } from "./tags.ts";
import { readTrace } from "./trace.ts";

export type Turns = {
  /** Reserves what a message needs. Throws Refused when it does not fit, and, also when enough is reserved, when the
   *  key is no longer good. */
  reserve(need: Exclude<Need, { unmetered: string }>, bytes: number): Promise<void>;
  /** A turn takes what is reserved for it. Where nothing is, it is reserved now; throws Refused when that does not fit,
   *  for a turn that goes on all the same. */
  began(turnId: string, lane: string): Promise<void>;
  /** Books what a turn used, once. One that began unseen, or stands `apart`, was used all the same. `tokens`: what went
   *  by of it. */
  ended(
    turnId: string,
    reading: Reading,
    how: Ending["how"],
    more?: { apart?: boolean; tokens?: number },
  ): Promise<void>;
  /** What was asked for on a lane came to nothing. */
  declined(lane: string): Promise<void>;
  /** What was asked for and has not begun came to nothing. */
  merged(): Promise<void>;
  /** The turns that go on. */
  begun(): string[];
  /** Whether something goes on, or was asked for and may begin. */
  isBusy(): boolean;
  subjects(): Subject[];
  /** The session is over: books all that is reserved, once, what may have been used at its reservation, the rest as
   *  nothing. Then nothing more is taken. */
  bookRest(ending: Partial<Ending>): Promise<void>;
};

/** Turns that ended: an end that is said twice is one. */
const MOST_ENDED = 1_000;
const NOTHING_SEEN: Seen = { tokens: 0, isPartial: false };
const ENDED: Ending = {
  how: "ended",
  timedOut: false,
  sent: true,
  status: 200,
  firstByteMs: undefined,
  providerRequestId: undefined,
  error: undefined,
};

/** Of a reservation that nothing came of. */
const UNUSED = said(NOTHING_MORE, NOTHING_SEEN);

export function createTurns(
  context: ProxyContext,
  request: IncomingMessage,
  { credential, own }: Pick<Arrived, "credential" | "own">,
  { target, sent }: { readonly target: Target; readonly sent: Sent },
): Turns {
  const { provider, priceList, tiers } = target;
  // A reservation waits, or stands ready, until a turn begins by it; when the turn has ended, its id is all that is
  // left.
  /** For what the provider may start by itself. */
  let standing: Attempt | undefined;
  /** For what the client asked for and has not begun, by lane, in the order in which it was asked for. */
  const waiting = new Map<string, Attempt[]>();
  /** By the id of the turn that took it. */
  const begun = new Map<string, Attempt>();
  const ended = new Set<string>();
  /** The last that was opened: of its kind is what was used without a reservation. */
  let latest: Attempt | undefined;
  let isOver = false;

  /** A session lives for an hour; a key that was paused meanwhile starts nothing more. */
  const whoAsks = (): Principal =>
    payingWith(
      paidBy(context, request, identify(context, request, credential, provider.name), target, { credential, own }),
      sent,
    );

  const open = async (call: Call, bytes: number): Promise<Attempt> => {
    checkModel(call);
    const principal = whoAsks();
    const attempt = await openAttempt(context, {
      principal,
      provider,
      priceList,
      // Nothing holds a turn up when its money is out.
      call: { ...call, isTurn: true, ...(tiers.length > 0 ? { placeTiers: tiers } : {}) },
      tags: readTags(request.headers, call, principal.key?.policy.users),
      trace: readTrace(request.headers),
      bodyBytes: bytes,
    });
    // Its events go to the client as they come: the disk is waited for before it is sent.
    if ((await attempt.kept()) === false) {
      void attempt.end(ENDED, UNUSED);
      throw new Refused("ledger_unavailable", NOT_KEPT);
    }
    latest = attempt;
    if (!isOver) return attempt;
    // The session ended meanwhile.
    await attempt.end(ENDED, UNUSED);
    throw new Refused("draining", "the session has ended");
  };

  /** For what was used though nothing was reserved for it. */
  const late = (): Attempt | undefined => latest?.unheld();
  const takeStanding = (): Attempt | undefined => {
    const taken = standing;
    standing = undefined;
    return taken;
  };
  const takeWaiting = (): Attempt[] => [...waiting.values()].flatMap((ofLane) => ofLane.splice(0));

  return {
    async reserve(need, bytes) {
      whoAsks();
      if ("asks" in need) {
        const { lane } = need.asks;
        // What stands ready for the same session serves; the next message brings another one.
        const attempt = takeStanding() ?? (await open(need.call, bytes));
        waiting.set(lane, [...(waiting.get(lane) ?? []), attempt]);
      } else standing ??= await open(need.call, bytes);
    },
    async began(turnId, lane) {
      if (isOver || begun.has(turnId) || ended.has(turnId)) return;
      const reserved = waiting.get(lane)?.shift() ?? takeStanding();
      const attempt = reserved ?? late();
      if (!attempt) return;
      begun.set(turnId, attempt);
      if (reserved) return;
      const own = await open(attempt.asked.call, 0);
      if (begun.get(turnId) === attempt) begun.set(turnId, own);
      else await own.end(ENDED, UNUSED);
    },
    async ended(turnId, reading, how, { apart = false, tokens = 0 } = {}) {
      if (isOver || ended.has(turnId)) return;
      if (ended.size >= MOST_ENDED) ended.clear();
      ended.add(turnId);
      const attempt = apart ? late() : (begun.get(turnId) ?? waiting.get("")?.shift() ?? takeStanding() ?? late());
      begun.delete(turnId);
      await attempt?.end({ ...ENDED, how }, said(reading, { tokens, isPartial: false }));
    },
    async declined(lane) {
      await waiting.get(lane)?.shift()?.end(ENDED, UNUSED);
    },
    async merged() {
      await Promise.all(takeWaiting().map((attempt) => attempt.end(ENDED, UNUSED)));
    },
    begun: () => [...begun.keys()],
    isBusy: () => begun.size > 0 || [...waiting.values()].some((ofLane) => ofLane.length > 0),
    subjects: () => (latest ? [...begun.values(), latest].map(({ asked }) => subjectOf(asked)) : []),
    async bookRest(ending) {
      if (isOver) return;
      isOver = true;
      const unsure = [...begun.values(), ...takeWaiting()];
      begun.clear();
      const spare = takeStanding();
      const unused = ending.how === "unreachable" ? "unreachable" : "ended";
      await Promise.all([
        ...unsure.map((attempt) => attempt.end({ ...ENDED, ...ending }, said(NO_READING, NOTHING_SEEN))),
        spare?.end({ ...ENDED, ...ending, how: unused }, UNUSED),
      ]);
    },
  };
}
