// The attempts of one WebSocket session: money is reserved for each turn before it can begin, and booked when it ends. What a client
// asks for has a reservation of its own, by lane; for what the provider may start by itself one stands ready.
import type { IncomingMessage } from "node:http";
import type { Subject } from "../ledger/budgets.ts";
import { subjectOf } from "./admit.ts";
import { identify } from "./arrival.ts";
import type { Arrival } from "./arrival.ts";
import { NOTHING_MORE, openAttempt, said } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import type { ProxyContext } from "./context.ts";
import type { Need } from "./dialects/conversation.ts";
import { NO_READING } from "./dialects/reading.ts";
import type { Call } from "./dialects/call.ts";
import type { Reading } from "./dialects/reading.ts";
import type { Target } from "./target.ts";
import type { Ending } from "./forward.ts";
import { checkModel } from "./gate.ts";
import type { Seen } from "./meter.ts";
import { Refused } from "./refusals.ts";
import type { Principal } from "./principal.ts";
import { readTags } from "./tags.ts";

export type Attempts = {
  /** Reserves what a message needs. Throws Refused when it does not fit, and, also when enough is reserved, when the key is no
   *  longer good. */
  reserve(need: Exclude<Need, { unmetered: string }>, bytes: number): Promise<void>;
  /** A turn takes what is reserved for it. Where nothing is, it is reserved now; throws Refused when that does not fit, for a turn that
   *  goes on all the same. */
  began(turnId: string, lane: string): Promise<void>;
  /** Books what a turn used, once. One that began unseen, or stands `apart`, was used all the same. `tokens`: what went by of it. */
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
  open(): string[];
  /** Whether something goes on, or was asked for and may begin. */
  isBusy(): boolean;
  subjects(): Subject[];
  /** Books all that is reserved, once: what may have been used at its reservation, the rest as nothing. Then nothing more is taken. */
  close(ending: Partial<Ending>): Promise<void>;
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

export function createAttempts(
  context: ProxyContext,
  request: IncomingMessage,
  { credential }: Arrival,
  { provider, priceList, tiers }: Target,
): Attempts {
  /** For what the provider may start by itself. */
  let standing: Attempt | undefined;
  const asked = new Map<string, Attempt[]>();
  const turns = new Map<string, Attempt>();
  const ended = new Set<string>();
  let latest: Attempt | undefined;
  let isClosed = false;

  /** A session lives for an hour; a key that was paused meanwhile starts nothing more. */
  const whoAsks = (): Principal => identify(context, request, credential, provider.name);

  const open = async (call: Call, bytes: number): Promise<Attempt> => {
    checkModel(call);
    const attempt = await openAttempt(context, {
      principal: whoAsks(),
      provider,
      priceList,
      // Nothing holds a turn up when its money is out.
      call: { ...call, isTurn: true, ...(tiers.length > 0 ? { placeTiers: tiers } : {}) },
      tags: readTags(request.headers, call.bodyTags),
      bodyBytes: bytes,
    });
    latest = attempt;
    if (!isClosed) return attempt;
    // The session ended meanwhile.
    await attempt.end(ENDED, said(NOTHING_MORE, NOTHING_SEEN));
    throw new Refused("draining", "the session has ended");
  };

  /** For what was used though nothing was reserved for it. */
  const late = (): Attempt | undefined => latest?.unheld();
  const takeStanding = (): Attempt | undefined => {
    const taken = standing;
    standing = undefined;
    return taken;
  };
  const takeAsked = (): Attempt[] => [...asked.values()].flatMap((ofLane) => ofLane.splice(0));

  return {
    async reserve(need, bytes) {
      whoAsks();
      if ("asks" in need) {
        const { lane } = need.asks;
        // What stands ready for the same session serves; the next message brings another one.
        const attempt = takeStanding() ?? (await open(need.call, bytes));
        asked.set(lane, [...(asked.get(lane) ?? []), attempt]);
      } else standing ??= await open(need.call, bytes);
    },
    async began(turnId, lane) {
      if (isClosed || turns.has(turnId) || ended.has(turnId)) return;
      const reserved = asked.get(lane)?.shift() ?? takeStanding();
      const attempt = reserved ?? late();
      if (!attempt) return;
      turns.set(turnId, attempt);
      if (reserved) return;
      const own = await open(attempt.admission.call, 0);
      if (turns.get(turnId) === attempt) turns.set(turnId, own);
      else await own.end(ENDED, said(NOTHING_MORE, NOTHING_SEEN));
    },
    async ended(turnId, reading, how, { apart = false, tokens = 0 } = {}) {
      if (isClosed || ended.has(turnId)) return;
      if (ended.size >= MOST_ENDED) ended.clear();
      ended.add(turnId);
      const attempt = apart ? late() : (turns.get(turnId) ?? asked.get("")?.shift() ?? takeStanding() ?? late());
      turns.delete(turnId);
      await attempt?.end({ ...ENDED, how }, said(reading, { tokens, isPartial: false }));
    },
    async declined(lane) {
      await asked.get(lane)?.shift()?.end(ENDED, said(NOTHING_MORE, NOTHING_SEEN));
    },
    async merged() {
      await Promise.all(takeAsked().map((attempt) => attempt.end(ENDED, said(NOTHING_MORE, NOTHING_SEEN))));
    },
    open: () => [...turns.keys()],
    isBusy: () => turns.size > 0 || [...asked.values()].some((ofLane) => ofLane.length > 0),
    subjects: () => (latest ? [...turns.values(), latest].map(({ admission }) => subjectOf(admission)) : []),
    async close(ending) {
      if (isClosed) return;
      isClosed = true;
      const unsure = [...turns.values(), ...takeAsked()];
      turns.clear();
      const spare = takeStanding();
      const unused = ending.how === "unreachable" ? "unreachable" : "ended";
      await Promise.all([
        ...unsure.map((attempt) => attempt.end({ ...ENDED, ...ending }, said(NO_READING, NOTHING_SEEN))),
        spare?.end({ ...ENDED, ...ending, how: unused }, said(NOTHING_MORE, NOTHING_SEEN)),
      ]);
    },
  };
}
