// How an attempt ends: into the books, then the client's last bytes, then the counters.
import type { FastifyReply } from "fastify";
import type { UsageEvent } from "../ledger/events.ts";
import { formatRequestId } from "../ledger/ids.ts";
import { formatUsdExact } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { ProvenKey } from "../ledger/wire.ts";
import type { PendingWork } from "../ledger/work.ts";
import type { Admission } from "./admit.ts";
import type { ProxyContext } from "./context.ts";
import { NO_READING } from "./dialects/dialect.ts";
import type { Reading, Refusal } from "./dialects/dialect.ts";
import type { Ending, Exchange } from "./forward.ts";
import type { Target } from "./gate.ts";
import { toEvent } from "./settle.ts";
import { admissionOf } from "./work.ts";
import type { Result } from "./work.ts";

/** What an answer said that brought nothing of its own: the work it names is another attempt's. */
export const NOTHING_MORE: Reading = {
  ...NO_READING,
  usage: {},
  final: true,
  ended: true,
};

/** Leaves the reservation open for work that goes on. `known`: another attempt stands for this work, so this one used nothing.
 *  `closed`: the provider did not take it, or the books are closed; then it is settled as what is known of it. */
export async function suspend(
  context: ProxyContext,
  admission: Admission,
  ending: Ending,
  reading: Reading,
): Promise<"open" | "known" | "closed"> {
  const { status } = ending;
  const { responseId } = reading;
  const isAccepted = status !== undefined && status >= 200 && status < 300;
  if (!isAccepted || responseId === undefined) return "closed";
  const { attemptId, principal, provider } = admission;
  const suspended = context.work.suspend(admission, responseId, principal.proven).then(
    async (isFirst) => {
      if (!isFirst) return "known" as const;
      if (principal.proven) context.register.remember(principal, provider.name, Date.now());
      // A stream names its work at once: the result may have passed before this.
      const early = context.work.takeEarly(provider.name, responseId);
      const work = early && context.work.take(provider.name, responseId);
      const place = { provider, priceList: admission.priceList, tiers: admission.call.placeTiers ?? [] };
      if (early && work) await settleWork(context, place, work, early);
      return "open" as const;
    },
    (error: unknown) => {
      context.log.error({ requestId: formatRequestId(attemptId), err: error }, "pending work not booked");
      return "closed" as const;
    },
  );
  if (await context.patience.wait(suspended)) return suspended;
  // The reservation is durable, and the writer goes on trying. Where it turns out not to stay, it is settled then.
  context.metrics.countLateCommit();
  void suspended.then(async (outcome) => {
    if (outcome === "open") return;
    const said = outcome === "known" ? NOTHING_MORE : reading;
    const event = toEvent(admission, ending, said, undefined, context.prices, Date.now());
    const isBooked = await settle(context, event, admission);
    if (isBooked()) count(context, event, said);
  });
  return "open";
}

/** Books what work used, for the attempt that began it. */
export async function settleWork(
  context: ProxyContext,
  place: Pick<Target, "provider" | "priceList" | "tiers">,
  work: PendingWork,
  { ending, reading, seen }: Result,
): Promise<UsageEvent> {
  const admission = admissionOf(work, place);
  const event = toEvent(admission, ending, reading, seen, context.prices, Date.now());
  const isBooked = await settle(context, event, admission);
  if (isBooked()) count(context, event, reading);
  return event;
}

/** Settles, and gives the client its end after five seconds even if the books are still closed: then the reservation,
 *  which is durable, stays open, and the event is tried on. */
export async function settle(
  context: ProxyContext,
  event: UsageEvent,
  { principal, provider }: Admission,
): Promise<() => boolean> {
  const accepted: ProvenKey | undefined = event.keyId === principal.keyId ? principal.proven : undefined;
  const requestId = formatRequestId(event.attemptId);
  let isBooked = false;
  const committed = context.writer.settle(event, accepted).then(
    () => {
      isBooked = true;
      if (accepted) context.register.remember(principal, provider.name, Date.now());
    },
    // Not booked is a broken invariant or a broken ledger: said loudly; the reservation stays open and is booked at restart.
    (error: unknown) => context.log.error({ requestId, err: error }, "event not booked"),
  );
  if (!(await context.patience.wait(committed))) {
    context.metrics.countLateCommit();
    context.log.error({ requestId }, "the client's answer ends before its event is in the books");
    // When the books take it at last, it counts.
    void committed.then(() => isBooked && context.metrics.countEvent(event));
  }
  return () => isBooked;
}

/** The client's last bytes; or, where no answer came, an error in its dialect that is worth a retry. */
export function release(
  context: ProxyContext,
  exchange: Exchange,
  ending: Ending,
  { provider, dialect }: Pick<Target, "provider" | "dialect">,
  costNanoUsd: NanoUsd | undefined,
  requestId: string,
  reply: FastifyReply,
): void {
  const why = `Keymeter: ${describe(ending)}`;
  if (ending.status === undefined || (ending.how !== "ended" && !exchange.answered)) {
    const [kind, code] = statusOf(ending, context.config.refusalStatus);
    const { status, body, headers } = dialect.refusal({ kind, status: code, message: why }, requestId);
    if (!reply.raw.destroyed)
      reply.raw
        .writeHead(status, ["content-type", "application/json", "x-keymeter-request-id", requestId, ...headers])
        .end(body);
    if (ending.how === "failed" || ending.how === "unreachable")
      context.log.warn({ requestId, provider: provider.name, error: ending.error }, "no answer from the provider");
    return;
  }
  if (ending.how === "stopped" || ending.how === "cut" || ending.how === "capped") {
    const kind = ending.how === "capped" ? "money" : "unavailable";
    return exchange.releaseWithError(dialect.errorEvent(kind, `${why}; this answer is not complete`, requestId));
  }
  exchange.release(costNanoUsd === undefined ? [] : ["x-keymeter-cost-usd", formatUsdExact(costNanoUsd)]);
}

/** Why an answer does not come, or not whole. */
function describe({ how, error }: Ending): string {
  switch (how) {
    case "stopped":
    case "capped":
      return error ?? how;
    case "cut":
      return "whoever runs Keymeter stopped this key or scope";
    default:
      return `the provider could not be reached or broke off (${error ?? "no answer"})`;
  }
}

function statusOf({ how, timedOut }: Ending, refusalStatus: number): readonly [Refusal["kind"], number] {
  if (how === "capped") return ["money", refusalStatus];
  return timedOut ? ["timeout", 504] : ["upstream", 502];
}

/** Counters, and a line in the log for each field of usage that nobody has seen before. */
export function count(context: ProxyContext, event: UsageEvent, reading: Reading | undefined): void {
  context.metrics.countEvent(event);
  for (const field of context.metrics.countUnknownFields(event.provider, reading?.unknownFields ?? []))
    context.log.warn(
      {
        requestId: formatRequestId(event.attemptId),
        provider: event.provider,
        model: event.servedModel ?? event.requestedModel,
        field,
      },
      "usage holds a number that is not known; it is kept with the event",
    );
}
