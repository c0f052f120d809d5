// What passes without a meter: free routes, and unknown paths of clients that no cap holds. Forwarded, never read, never
// booked.
import type { FastifyReply, FastifyRequest } from "fastify";
import { formatRequestId } from "../ledger/ids.ts";
import type { ProxyContext } from "./context.ts";
import { outgoingHeaders } from "./forward.ts";
import type { Credential, Target } from "./gate.ts";
import type { Meter } from "./meter.ts";
import { Refused } from "./refusals.ts";
import type { Principal } from "./register.ts";

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
    () => UNREAD,
    { stream: true, requestId, headers: [] },
  );
  const ending = await exchange.ending;
  if (ending.status === undefined) {
    const {
      status,
      body: text,
      headers,
    } = target.provider.dialect.refusal(
      {
        kind: ending.timedOut ? "timeout" : "upstream",
        status: ending.timedOut ? 504 : 502,
        message: `Keymeter: the provider could not be reached (${ending.error ?? "no answer"})`,
      },
      requestId,
    );
    if (!reply.raw.destroyed)
      reply.raw
        .writeHead(status, ["content-type", "application/json", "x-keymeter-request-id", requestId, ...headers])
        .end(text);
    return;
  }
  exchange.release([]);
}

/** Reads nothing, holds nothing. */
const UNREAD: Meter = {
  push: (chunk) => chunk,
  takeHeld: () => [],
  reading: () => ({
    usage: undefined,
    extra: [],
    reasoning: undefined,
    servedModel: undefined,
    tiers: [],
    responseId: undefined,
    raw: undefined,
    final: false,
    ended: true,
    failed: false,
    pending: false,
  }),
  seen: () => ({ events: 0, tokens: 0, isPartial: true }),
};
