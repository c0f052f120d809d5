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
import { toEvent } from "./settle.ts";
import { readTags } from "./tags.ts";

export type Attempts = {
  /** Reserves what a message needs. Throws Refused when it does not fit, and when the key is no longer good. */
  reserve(need: Exclude<Need, { unmetered: string }>, bytes: number): Promise<void>;
  began(turnId: string, lane: string): void;
  /** Books what a turn used. One that began unseen, or stands `apart`, was used all the same. */
  ended(turnId: string, reading: Reading, how: Ending["how"], apart?: boolean): Promise<void>;
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

/** A turn that never says what it used is booked at its reservation. */
const UNSEEN: Seen = { tokens: 0, isPartial: false };
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
  let latest: Admission | undefined;
  let isClosed = false;

  const open = async (call: Call, bytes: number): Promise<Admission> => {
    checkModel(call);
    // A session lives for an hour; a key that was paused meanwhile starts nothing more.
    const principal = identify(context, request, credential, provider.name);
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
      return (latest = admission);
    } catch (error) {
      entry.leave(0, Date.now());
      throw error;
    }
  };

  const book = async (admission: Admission, reading: Reading, ending: Ending): Promise<void> => {
    const used = Object.values(reading.usage ?? {}).reduce((sum, quantity) => sum + quantity, 0);
    entries.get(admission.attemptId)?.leave(used, Date.now());
    entries.delete(admission.attemptId);
    const event = toEvent(admission, ending, reading, UNSEEN, context.prices, Date.now());
    const isBooked = await settle(context, event, admission);
    if (!isBooked()) return;
    count(context, event, reading);
    if (event.usageState === "reported" && event.usage.output !== undefined)
      context.expectations.observe(event.keyId, event.requestedModel, event.usage.output);
  };

  /** For what was used though nothing was reserved for it. */
  const late = (): Admission | undefined => latest && { ...latest, attemptId: context.writer.nextAttemptId() };
  const takeStanding = (): Admission | undefined => {
    const taken = standing;
    standing = undefined;
    return taken;
  };
  const takeAsked = (): Admission[] => [...asked.values()].flatMap((ofLane) => ofLane.splice(0));

  return {
    async reserve(need, bytes) {
      if ("asks" in need) {
        const { lane } = need.asks;
        // What stands ready for the same session serves; the next message brings another one.
        const admission = takeStanding() ?? (await open(need.call, bytes));
        asked.set(lane, [...(asked.get(lane) ?? []), admission]);
      } else standing ??= await open(need.call, bytes);
    },
    began(turnId, lane) {
      if (isClosed || turns.has(turnId)) return;
      const admission = asked.get(lane)?.shift() ?? takeStanding() ?? late();
      if (admission) turns.set(turnId, admission);
    },
    async ended(turnId, reading, how, apart = false) {
      if (isClosed) return;
      const admission = apart ? late() : (turns.get(turnId) ?? asked.get("")?.shift() ?? takeStanding() ?? late());
      turns.delete(turnId);
      if (admission) await book(admission, reading, { ...ENDED, how });
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
