// What passes without an attempt of its own: free routes, and unknown paths of clients that no cap holds, unread; and results
// of work that was begun earlier, read for what that work used.
import type { FastifyReply, FastifyRequest } from "fastify";
import { formatRequestId } from "../ledger/ids.ts";
import type { ProxyContext } from "./context.ts";
import { count, NOTHING_MORE, release, settle } from "./close.ts";
import type { RouteMatch } from "./dialects/dialect.ts";
import { outgoingHeaders } from "./forward.ts";
import type { ChooseMeter, Exchange } from "./forward.ts";
import type { Credential, Target } from "./gate.ts";
import { createMeter } from "./meter.ts";
import type { Meter } from "./meter.ts";
import { Refused } from "./refusals.ts";
import type { Principal } from "./register.ts";
import { toEvent } from "./settle.ts";
import { admissionOf, workCall } from "./work.ts";

/** A path without a meter: a cap must hold, so nothing passes for virtual keys or under a hard budget; a meter must not
 *  break an app, so the rest passes for a client's own key, counted. */
export async function passUnmetered(
  context: ProxyContext,
  request: FastifyRequest,
  reply: FastifyReply,
  target: Target,
  principal: Principal,
  credential: Credential,
): Promise<void> {
  const refused = new Refused(
    "not_metered",
    `${request.method} ${target.upstreamPath.slice(0, 120)} is not metered, so it is not forwarded`,
  );
  if (principal.kind === "virtual" || !target.explicit) throw refused;
  const states = await context.writer.states();
  const isCapped = states.some(
    ({ budget }) => budget.kind === "hard" && mayCover(budget.scope, principal, target.provider.name),
  );
  if (isCapped) throw refused;
  context.metrics.countUnmetered(target.provider.name);
  await passUnread(context, request, reply, target, credential, principal);
}

/** Whether a budget could cover this key's use of a path whose model is not known. */
function mayCover(
  scope: {
    readonly team?: string | undefined;
    readonly keyId?: string | undefined;
    readonly provider?: string | undefined;
  },
  principal: Principal,
  provider: string,
): boolean {
  return (
    (scope.provider ?? provider) === provider &&
    (scope.keyId ?? principal.keyId) === principal.keyId &&
    (scope.team ?? principal.team) === principal.team
  );
}

/** Forwards without reading or booking. */
export async function passUnread(
  context: ProxyContext,
  request: FastifyRequest,
  reply: FastifyReply,
  target: Target,
  credential: Credential,
  principal: Principal,
): Promise<void> {
  const { exchange, requestId } = forward(context, request, reply, target, credential, principal, () => UNREAD);
  release(context, exchange, await exchange.ending, target, undefined, requestId, reply);
}

/** The result of work that was begun earlier. The first that passes whole is what the attempt used, whoever asked for it;
 *  every later one, and one of work that was not begun here, passes and is booked nowhere. */
export async function passResult(
  context: ProxyContext,
  request: FastifyRequest,
  reply: FastifyReply,
  target: Target & { readonly match: RouteMatch },
  query: URLSearchParams,
  credential: Credential,
  principal: Principal,
): Promise<void> {
  const { provider, dialect, match } = target;
  const refused = dialect.refuses(query);
  if (refused !== undefined)
    throw new Refused("bad_target", `${refused} is not accepted on a metered path: it can hide what was used`);
  const call = workCall(match.route.endpoint, "", []);
  const { exchange, requestId } = forward(
    context,
    request,
    reply,
    target,
    credential,
    principal,
    (_status, contentType, contentEncoding) => createMeter(dialect, call, false, contentType, contentEncoding),
  );
  const ending = await exchange.ending;
  const reading = exchange.meter?.reading();
  const isWhole = ending.how === "ended" && ending.status === 200 && reading?.ended === true && !reading.pending;
  const work = isWhole ? context.work.take(provider.name, dialect.workId(match)) : undefined;
  if (!work) return release(context, exchange, ending, target, undefined, requestId, reply);

  const admission = admissionOf(work, provider, target.priceList);
  const event = toEvent(admission, ending, reading, exchange.meter?.seen(), context.prices, Date.now());
  const isBooked = await settle(context, event, admission);
  release(context, exchange, ending, target, event.costNanoUsd, requestId, reply);
  if (isBooked()) count(context, event, reading);
}

function forward(
  context: ProxyContext,
  request: FastifyRequest,
  reply: FastifyReply,
  target: Target,
  credential: Credential,
  principal: Principal,
  chooseMeter: ChooseMeter,
): { readonly exchange: Exchange; readonly requestId: string } {
  const requestId = formatRequestId(context.writer.nextAttemptId());
  const body = request.body as Buffer | undefined;
  const exchange = context.forwarder.exchange(
    {
      provider: target.provider,
      method: request.method,
      path: target.upstreamPath + target.query,
      headers: outgoingHeaders(request.raw, target.provider, credential, principal.kind === "virtual"),
      body: body && body.length > 0 ? body : undefined,
    },
    reply.raw,
    chooseMeter,
    { stream: true, requestId, headers: [] },
  );
  return { exchange, requestId };
}

/** Reads nothing, holds nothing. */
const UNREAD: Meter = {
  push: (chunk) => chunk,
  takeHeld: () => [],
  reading: () => NOTHING_MORE,
  seen: () => ({ events: 0, tokens: 0, isPartial: true }),
};
