// The attempts of one WebSocket session: money is reserved for each turn before it can begin, and booked when it ends. What a client
// asks for has a reservation of its own, by lane; for what the provider may start by itself one stands ready.
import type { IncomingMessage } from "node:http";
import type { Subject } from "../ledger/budgets.ts";
import type { AttemptId } from "../ledger/ids.ts";
import { admit, subjectOf } from "./admit.ts";
import type { Admission } from "./admit.ts";
import { identify } from "./arrival.ts";
import type { Arrival } from "./arrival.ts";
import { count, NOTHING_MORE, settle } from "./close.ts";
import type { ProxyContext } from "./context.ts";
import type { Need } from "./dialects/conversation.ts";
import { NO_READING } from "./dialects/dialect.ts";
import type { Call, Reading } from "./dialects/dialect.ts";
import type { Ending } from "./forward.ts";
import { checkModel } from "./gate.ts";
import type { Target } from "./gate.ts";
import type { Entry } from "./limits.ts";
import type { Seen } from "./meter.ts";
import { checkPolicy } from "./policy.ts";
import { Refused } from "./refusals.ts";
import type { Principal } from "./register.ts";
import { toEvent } from "./settle.ts";
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
const ENDED: Ending = {
  how: "ended",
  timedOut: false,
  sent: true,
  status: 200,
  firstByteMs: undefined,
  providerRequestId: undefined,
  error: undefined,
};
/** What a turn counts in limits of tokens until it says what it used. */
const USUAL_TOKENS = 1_000;

export function createAttempts(
  context: ProxyContext,
  request: IncomingMessage,
  { credential }: Arrival,
  { provider, priceList, tiers }: Target,
): Attempts {
  /** For what the provider may start by itself. */
  let standing: Admission | undefined;
  const asked = new Map<string, Admission[]>();
  const turns = new Map<string, Admission>();
  /** Places in the limits, by attempt. */
  const entries = new Map<AttemptId, Entry>();
  /** Admissions without a reservation. */
  const lateOnes = new WeakSet<Admission>();
  const ended = new Set<string>();
  let latest: Admission | undefined;
  let isClosed = false;

  /** A session lives for an hour; a key that was paused meanwhile starts nothing more. */
  const whoAsks = (): Principal => identify(context, request, credential, provider.name);

  const open = async (call: Call, bytes: number): Promise<Admission> => {
    checkModel(call);
    const principal = whoAsks();
    checkPolicy(principal.key, { provider: provider.name, endpoint: call.endpoint, model: call.model });
    const entry = context.limiter.enter(principal, USUAL_TOKENS, bytes, Date.now());
    try {
      const admission = await admit(
        { ...context, refusalStatus: context.config.refusalStatus },
        {
          principal,
          provider,
          priceList,
          call: tiers.length > 0 ? { ...call, placeTiers: tiers } : call,
          tags: readTags(request.headers, call.bodyTags),
          bodyBytes: bytes,
        },
      );
      entries.set(admission.attemptId, entry);
      latest = admission;
      if (!isClosed) return admission;
      // The session ended meanwhile.
      await book(admission, NOTHING_MORE, ENDED);
      throw new Refused("draining", "the session has ended");
    } catch (error) {
      entry.leave(0, Date.now());
      throw error;
    }
  };

  const book = async (given: Admission, reading: Reading, ending: Ending, tokens = 0): Promise<void> => {
    // What nothing was reserved for gets its instant when it is booked: its day may be sealed by then.
    const admission = lateOnes.has(given) ? { ...given, attemptId: context.writer.nextAttemptId() } : given;
    const seen: Seen = { tokens, isPartial: false };
    const used = Object.values(reading.usage ?? {}).reduce((sum, quantity) => sum + quantity, 0);
    entries.get(admission.attemptId)?.leave(used, Date.now());
    entries.delete(admission.attemptId);
    const event = toEvent(admission, ending, reading, seen, context.prices, Date.now());
    const isBooked = await settle(context, event, admission);
    if (!isBooked()) return;
    count(context, event, reading);
    if (event.usageState === "reported" && event.usage.output !== undefined)
      context.expectations.observe(event.keyId, event.requestedModel, event.usage.output);
  };

  /** For what was used though nothing was reserved for it. */
  const late = (): Admission | undefined => {
    if (!latest) return undefined;
    const one = { ...latest, attemptId: context.writer.nextAttemptId() };
    lateOnes.add(one);
    return one;
  };
  const takeStanding = (): Admission | undefined => {
    const taken = standing;
    standing = undefined;
    return taken;
  };
  const takeAsked = (): Admission[] => [...asked.values()].flatMap((ofLane) => ofLane.splice(0));

  return {
    async reserve(need, bytes) {
      whoAsks();
      if ("asks" in need) {
        const { lane } = need.asks;
        // What stands ready for the same session serves; the next message brings another one.
        const admission = takeStanding() ?? (await open(need.call, bytes));
        asked.set(lane, [...(asked.get(lane) ?? []), admission]);
      } else standing ??= await open(need.call, bytes);
    },
    async began(turnId, lane) {
      if (isClosed || turns.has(turnId) || ended.has(turnId)) return;
      const reserved = asked.get(lane)?.shift() ?? takeStanding();
      const admission = reserved ?? late();
      if (!admission) return;
      turns.set(turnId, admission);
      if (reserved) return;
      const own = await open(admission.call, 0);
      if (turns.get(turnId) === admission) turns.set(turnId, own);
      else await book(own, NOTHING_MORE, ENDED);
    },
    async ended(turnId, reading, how, { apart = false, tokens = 0 } = {}) {
      if (isClosed || ended.has(turnId)) return;
      if (ended.size >= MOST_ENDED) ended.clear();
      ended.add(turnId);
      const admission = apart ? late() : (turns.get(turnId) ?? asked.get("")?.shift() ?? takeStanding() ?? late());
      turns.delete(turnId);
      if (admission) await book(admission, reading, { ...ENDED, how }, tokens);
    },
    async declined(lane) {
      const admission = asked.get(lane)?.shift();
      if (admission) await book(admission, NOTHING_MORE, ENDED);
    },
    async merged() {
      await Promise.all(takeAsked().map((admission) => book(admission, NOTHING_MORE, ENDED)));
    },
    open: () => [...turns.keys()],
    isBusy: () => turns.size > 0 || [...asked.values()].some((ofLane) => ofLane.length > 0),
    subjects: () => (latest ? [...turns.values(), latest].map(subjectOf) : []),
    async close(ending) {
      if (isClosed) return;
      isClosed = true;
      const unsure = [...turns.values(), ...takeAsked()];
      turns.clear();
      const spare = takeStanding();
      const unused = ending.how === "unreachable" ? "unreachable" : "ended";
      await Promise.all([
        ...unsure.map((admission) => book(admission, NO_READING, { ...ENDED, ...ending })),
        ...(spare ? [book(spare, NOTHING_MORE, { ...ENDED, ...ending, how: unused })] : []),
      ]);
    },
  };
}
