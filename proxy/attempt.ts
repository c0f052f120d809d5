// One attempt, from the question whether it may be to its row in the books. Requests, turns of a WebSocket and results
// of earlier work are its three callers. Once the money is held it always ends in the books: what cannot be read is
// booked at what is held.
import { SEAT } from "../ledger/usage/usage-event.ts";
import type { UsageEvent } from "../ledger/usage/usage-event.ts";
import { LedgerUnavailable } from "../ledger/usage/writer.ts";
import { formatRequestId } from "../ledger/ids.ts";
import { formatUsdExact } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { countTokens } from "../ledger/usage.ts";
import type { PendingWork } from "../ledger/usage/pending-work.ts";
import { admit, isVouched, userOf } from "./admit.ts";
import type { Admission, Asked, Asking } from "./admit.ts";
import type { ProxyContext } from "./context.ts";
import { NO_READING } from "./dialects/reading.ts";
import type { Call } from "./dialects/call.ts";
import type { Reading } from "./dialects/reading.ts";
import { withoutAnswer } from "./ending.ts";
import type { Ending } from "./ending.ts";
import { toEvent } from "./event.ts";
import { createExtension } from "./extend.ts";
import type { Extension } from "./extend.ts";
import type { Target } from "./target.ts";
import type { PlaceInLimits } from "./limits.ts";
import type { Meter, Seen } from "./meter.ts";
import { checkPolicy } from "./policy.ts";
import { Refused } from "./refusals.ts";
import { thingOf } from "./scope.ts";
import { admissionOf } from "./work.ts";
import type { Result } from "./work.ts";

/** How an attempt ended in the books. Without a cost its work goes on at the provider, or nobody knows one. */
export type Ended = { readonly costNanoUsd: NanoUsd | undefined };

export type Attempt = {
  readonly asked: Asked;
  readonly requestId: string;
  /** What a client's answer says of limits and of the budget. */
  readonly headers: readonly string[];
  /** What is held may have to grow while it flows. */
  readonly extension: Extension | undefined;
  /** What is held for it survives a power cut, or does not have to: a byte of its answer may go out. Undefined: it does.
   *  Else resolves when it does; false: the disk does not answer, or fails. Never rejects. */
  readonly kept: () => Promise<boolean> | undefined;
  /** Books it, or leaves it open for work that goes on; the first call counts, later ones say the same. Resolves after
   *  the commit, or after five seconds while the books cannot be written. Never rejects. */
  end(ending: Ending, answer: Answered | undefined): Promise<Ended>;
  /** Ends it where something of ours broke on its way: it may have been sent. One that ended stays as it is. */
  abandon(): Promise<void>;
  /** Another one of the same kind for which nothing was held: its instant is that of its booking. */
  unheld(): Attempt;
};

/** What is asked of a meter when its answer is over. */
export type Answered = Pick<Meter, "reading"> & { seen(): Seen | undefined };

/** What an answer said that brought nothing of its own: the work it names is another attempt's. */
export const NOTHING_MORE: Reading = { ...NO_READING, usage: {}, final: true, ended: true };

/** An answer that said this. `seen` undefined: nobody saw what went by, or it was nothing of the answer. */
export function said(reading: Reading, seen: Seen | undefined): Answered {
  return { reading: () => reading, seen: () => seen };
}

/** Asks whether the key may, takes a place in the limits and holds the money, or none of it. Throws Refused. */
export async function openAttempt(context: ProxyContext, asking: Asking): Promise<Attempt> {
  const { provider } = asking;
  const call = context.caches.known(provider.name, context.lengths.measured(provider.name, asking.call));
  const others = otherModels(call);
  checkPolicy(asking.principal.key, { provider: provider.name, endpoint: call.endpoint, model: call.model, others });
  const user = userOf(context, asking);
  const principal = { ...asking.principal, user: typeof user === "string" ? user : await namedBy(context, user) };
  const who = isVouched(context, asking.principal) ? principal : asking.principal;
  const place = takePlace(context, { ...asking, principal: who, call });
  try {
    const admitting = admit(context, { ...asking, principal, call });
    const admission = await context.patience.within(admitting);
    if (admission) return createAttempt(context, admission, place);
    // A disk that hangs: nothing was sent, and what is held for it at last is let go.
    void admitting.then((late) => createAttempt(context, late, undefined).end(NEVER_SENT, undefined), nothing);
    throw new Refused("ledger_unavailable", LATE);
  } catch (error) {
    // Nothing was sent: its tokens were not used.
    place.leave(0, Date.now());
    place.settled?.();
    throw error;
  }
}

/** In every limit that covers who asks, and, where a subscription pays, in every cap of its tokens. Throws Refused. */
function takePlace(
  { limiter, seatCaps, names }: Pick<ProxyContext, "limiter" | "seatCaps" | "names">,
  { principal: who, call, tags, bodyBytes }: Pick<Asking, "principal" | "call" | "tags" | "bodyBytes">,
): PlaceInLimits {
  const nowMs = Date.now();
  const tokens = expectedTokens(call, bodyBytes);
  const place = limiter.enter(who, tokens, bodyBytes, nowMs);
  if (who.isSeat !== true || !seatCaps.hasSome()) return place;
  // As it will be booked: a tag may name a team where the key has none.
  const team = who.team || names.of("team", tags["team"] ?? "");
  try {
    return { ...place, expected: tokens, settled: seatCaps.enter({ ...who, team }, tokens, nowMs) };
  } catch (error) {
    place.leave(0, nowMs);
    throw error;
  }
}

/** A new name waits for the books as everything does, and no longer. */
async function namedBy({ patience }: Pick<ProxyContext, "patience">, asked: Promise<string>): Promise<string> {
  asked.catch(nothing);
  const user = await patience.within(asked).catch((error: unknown) => {
    if (!(error instanceof LedgerUnavailable)) throw error;
    return undefined;
  });
  if (user === undefined) throw new Refused("ledger_unavailable", LATE);
  return user;
}

const LATE = "the ledger does not answer now, so nothing is sent; try again shortly";

function nothing(): void {}

const NEVER_SENT = withoutAnswer("unreachable", false, "the ledger did not answer in time");
const BROKEN = withoutAnswer("failed", true, "an error of ours");

function createAttempt(
  context: ProxyContext,
  admission: Admission,
  place: PlaceInLimits | undefined,
  isHeld = true,
): Attempt {
  const { attemptId, asked, held } = admission;
  const requestId = formatRequestId(attemptId);
  const extension = isHeld ? createExtension(context.writer, context.prices, admission) : undefined;
  let ended: Promise<Ended> | undefined;

  const finish = async (ending: Ending, answer: Answered | undefined): Promise<Ended> => {
    const own: Admission = {
      // What nothing was held for gets its instant now: its day may be sealed by then.
      attemptId: isHeld ? attemptId : context.writer.nextAttemptId(),
      asked,
      held: extension?.held() ?? held,
    };
    let event: UsageEvent;
    let reading: Reading | undefined;
    try {
      reading = answer?.reading();
      place?.leave(usedTokens(reading), Date.now());
      if (reading?.pending) {
        const suspension = await suspend(context, own, ending, reading);
        if (suspension === "open") return { costNanoUsd: undefined };
        if (suspension === "known") reading = NOTHING_MORE;
      }
      event = toEvent(own, ending, reading, answer?.seen(), context.prices, Date.now());
    } catch (error) {
      context.log.error({ requestId, err: error }, "an answer could not be read; it is booked at what is held for it");
      place?.leave(undefined, Date.now());
      reading = undefined;
      event = toEvent(own, ending, undefined, undefined, context.prices, Date.now());
    }
    await book(context, event, asked, reading, place?.expected);
    const makes = reading?.makes ?? [];
    if (makes.length > 0)
      await context.patience.wait(
        context.things.own(
          asked.provider.name,
          asked.asker.keyId,
          makes.map((name) => thingOf(asked.asker, name)),
        ),
      );
    return { costNanoUsd: event.costNanoUsd };
  };

  const { leftNanoUsd, batch } = held;
  return {
    asked,
    requestId,
    extension,
    headers: [
      ...(place?.headers ?? []),
      ...(leftNanoUsd === undefined ? [] : ["x-keymeter-budget-remaining-usd", formatUsdExact(leftNanoUsd)]),
    ],
    kept() {
      const durable = isHeld && batch !== undefined ? context.writer.whenDurable(batch) : undefined;
      return durable && context.patience.wait(durable);
    },
    end: (ending, answer) => (ended ??= finish(ending, answer).finally(place?.settled)),
    async abandon() {
      await (ended ??= finish(BROKEN, undefined).finally(place?.settled));
    },
    unheld: () => createAttempt(context, admission, undefined, false),
  };
}

/** Into the books; it is over after five seconds even if they cannot be written yet: then the reservation stays open, and
 *  the event is tried on. */
async function book(
  context: ProxyContext,
  event: UsageEvent,
  { asker, provider }: Asked,
  reading: Reading | undefined,
  expectedTokens = 0,
): Promise<void> {
  const requestId = formatRequestId(event.attemptId);
  const { team, project, env } = event;
  const isAccepted = event.httpStatus !== undefined && event.httpStatus < 300;
  const payer = event.payer !== undefined && event.payer === asker.payer?.keyId ? asker.payer : undefined;
  // The credential that the provider took.
  const own = event.keyId === asker.keyId ? asker : undefined;
  const { proven, keyId } = (payer && isAccepted ? payer : own) ?? {};
  if (event.keyId === asker.keyId) context.names.take({ team, project, env });
  if (isAccepted) context.names.take({ model: event.requestedModel });
  // Before the client hears the end: its next request is taken for what this one was.
  if (isAccepted && asker.seatSignIn !== undefined) context.register.noteSeat(asker.seatSignIn, event.payer === SEAT);
  const committed = context.writer.settle(event, proven).then(
    () => {
      if (proven && keyId !== undefined) context.register.remember({ keyId, proven }, provider.name, Date.now());
      if (isAccepted) context.register.acceptSignIn(asker);
      onBooked(context, event, reading, expectedTokens);
    },
    // Not booked is a broken invariant or a broken ledger: said loudly; the reservation stays open and is booked at
    // restart.
    (error: unknown) => context.log.error({ requestId, err: error }, "event not booked"),
  );
  if (await context.patience.wait(committed)) return;
  context.metrics.countLateCommit();
  context.log.error({ requestId }, "the client's answer ends before its event is in the books");
}

/** All that follows from a booked event: counters, what is learned from it, and a line in the log for each field of
 *  usage that nobody has seen before. */
function onBooked(
  context: ProxyContext,
  event: UsageEvent,
  reading: Reading | undefined,
  expectedTokens: number,
): void {
  const { keyId, provider, requestedModel, servedModel, usage, usageState } = event;
  context.metrics.countEvent(event);
  context.seatCaps.book(event, expectedTokens, Date.now());
  if (usageState === "reported" && event.responseId !== undefined)
    context.lengths.remember(provider, event.endpoint, event.responseId, usage);
  if (reading?.keeps) context.caches.remember(provider, reading.keeps);
  // What a subscription pays is asked for otherwise than what money pays.
  if (usageState === "reported" && usage.output !== undefined && event.payer !== SEAT)
    context.expectations.observe(keyId, requestedModel, usage.output);
  for (const field of context.metrics.countUnknownFields(provider, reading?.unknownFields ?? []))
    context.log.warn(
      { requestId: formatRequestId(event.attemptId), provider, model: servedModel ?? requestedModel, field },
      "usage holds a number that is not known; it is kept with the event",
    );
}

/** Leaves the reservation open for work that goes on. `known`: another attempt stands for this work, so this one used
 *  nothing. `failed`: the provider did not take it, or it could not be written down; then what is known of it is
 *  booked. */
async function suspend(
  context: ProxyContext,
  admission: Admission,
  ending: Ending,
  reading: Reading,
): Promise<"open" | "known" | "failed"> {
  const { status } = ending;
  const { responseId } = reading;
  const isAccepted = status !== undefined && status >= 200 && status < 300;
  if (!isAccepted || responseId === undefined) return "failed";
  const { attemptId, asked } = admission;
  const { asker, provider, priceList, call } = asked;
  const suspended = context.work.suspend(admission, responseId).then(
    async (isFirst) => {
      if (!isFirst) return "known" as const;
      context.things.remember(provider.name, asker.keyId, [responseId]);
      const credential = asker.payer ?? asker;
      if (credential.proven) context.register.remember(credential, provider.name, Date.now());
      // A stream names its work at once: the result may have passed before this.
      const early = context.work.takeEarly(provider.name, responseId);
      const work = early && (await context.work.take(provider.name, responseId));
      const place = { provider, priceList, tiers: call.placeTiers ?? [] };
      if (early && work) await endWork(context, place, work, early);
      return "open" as const;
    },
    (error: unknown) => {
      context.log.error({ requestId: formatRequestId(attemptId), err: error }, "pending work not booked");
      return "failed" as const;
    },
  );
  if (await context.patience.wait(suspended)) return suspended;
  // The reservation is durable, and the writer goes on trying. Where it turns out not to stay, its event is booked
  // then.
  context.metrics.countLateCommit();
  void suspended.then(async (outcome) => {
    if (outcome === "open") return;
    const last = outcome === "known" ? NOTHING_MORE : reading;
    await book(context, toEvent(admission, ending, last, undefined, context.prices, Date.now()), asked, last);
  });
  return "open";
}

/** Books what work used, for the attempt that began it. */
export async function endWork(
  context: ProxyContext,
  place: Pick<Target, "provider" | "priceList" | "tiers">,
  work: PendingWork,
  { ending, reading, seen }: Result,
): Promise<Ended> {
  return createAttempt(context, admissionOf(work, place), undefined).end(ending, said(reading, seen));
}

/** Each once. */
function otherModels({ otherModels: named }: Call): readonly string[] {
  return named ? [...new Set([...named.instead, ...named.beside])] : NO_MODELS;
}

const NO_MODELS: readonly string[] = [];

/** What a request probably uses, for limits of tokens. */
function expectedTokens(call: Call, bodyBytes: number): number {
  return (
    Math.ceil(bodyBytes / BYTES_PER_TOKEN) + Math.min(call.maxOutputTokens ?? USUAL_OUTPUT, USUAL_OUTPUT) * call.answers
  );
}

/** Undefined: nobody said; then what was expected stands. */
function usedTokens(reading: Reading | undefined): number | undefined {
  return reading?.usage && countTokens(reading.usage);
}

const BYTES_PER_TOKEN = 4;
const USUAL_OUTPUT = 1_024;
