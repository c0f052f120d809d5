// One request, top to bottom. Read this file first.
//   gate -> admit -> forward and meter -> settle -> release -> count
// Nothing flows back. From the reservation on, settling always runs, whatever happens in between.
import type { FastifyReply, FastifyRequest } from "fastify";
import { formatRequestId } from "../ledger/ids.ts";
import { formatUsdExact } from "../ledger/money.ts";
import type { UsageEvent } from "../ledger/events.ts";
import type { ProvenKey } from "../ledger/wire.ts";
import { admit } from "./admit.ts";
import type { Admission } from "./admit.ts";
import type { ProxyContext } from "./context.ts";
import type { Call, Dialect, RouteMatch } from "./dialects/dialect.ts";
import { outgoingHeaders } from "./forward.ts";
import type { Ending, Exchange } from "./forward.ts";
import {
  checkHeaders,
  checkLimits,
  checkModel,
  guessDialect,
  readBody,
  readCredential,
  readTarget,
  resolveTarget,
} from "./gate.ts";
import type { Credential, Target } from "./gate.ts";
import { answerMe } from "./me.ts";
import { createMeter } from "./meter.ts";
import { passUnmetered, passUnread } from "./pass.ts";
import { Refused, renderRefusal } from "./refusals.ts";
import type { Principal } from "./register.ts";
import { toEvent } from "./settle.ts";
import { readTags } from "./tags.ts";

export async function handle(context: ProxyContext, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  let dialect = guessDialect(context.providers, request.raw.url ?? "/");
  reply.hijack();
  try {
    if (context.isDraining()) throw new Refused("draining", "this Keymeter is shutting down; send the request again");

    // 1 What was sent: a canonical target, one credential.
    const { path, query } = readTarget(request.raw.url ?? "");
    checkHeaders(request.raw);
    const credential = readCredential(request.raw, query);
    if (path === "/keymeter/me") return await answerMe(context, request, reply, credential);
    const target = resolveTarget(context.providers, request.raw, path, query);
    if (!target)
      throw new Refused(
        "not_metered",
        `${path.slice(0, 80)} leads to no provider; base URLs start with /openai/v1, /anthropic or /google`,
      );
    dialect = target.provider.dialect;
    const principal = context.register.identify(
      credential.text,
      target.provider.name,
      request.raw.socket.remoteAddress ?? "",
      Date.now(),
    );
    const upstreamCredential = credentialFor(context, target, principal, credential);

    if (!target.match) return await passUnmetered(context, request, reply, target, principal, upstreamCredential);
    if (target.match.route.kind === "free")
      return await passUnread(context, request, reply, target, upstreamCredential, principal);

    // 2 What it asks for, read once.
    const { call, body, hides, readBytes } = readCall(request, target.provider.dialect, target.match, query);

    // 3-4 May it, and is the money held?
    const admission = await admit(
      { ...context, refusalStatus: context.config.refusalStatus },
      {
        principal,
        provider: target.provider,
        call,
        tags: readTags(request.headers, call.bodyTags),
        bodyBytes: readBytes,
      },
    );

    // 5-6 Forward, and read what passes.
    const requestId = formatRequestId(admission.attemptId);
    const exchange = context.forwarder.exchange(
      {
        provider: target.provider,
        method: "POST",
        path: target.upstreamPath + target.query,
        headers: outgoingHeaders(request.raw, target.provider, upstreamCredential, principal.kind === "virtual"),
        body,
      },
      reply.raw,
      (_status, contentType, contentEncoding) => createMeter(dialect, call, hides, contentType, contentEncoding),
      {
        stream: call.stream,
        requestId,
        headers:
          admission.leftNanoUsd === undefined
            ? []
            : ["x-keymeter-budget-remaining-usd", formatUsdExact(admission.leftNanoUsd)],
      },
    );
    const ending = await exchange.ending;

    // 7 Into the books, and only then the last bytes.
    const event = toEvent(
      admission,
      ending,
      exchange.meter?.reading(),
      exchange.meter?.seen(),
      context.prices,
      Date.now(),
    );
    const isBooked = await settle(context, event, admission);
    release(context, exchange, ending, dialect, event, requestId, reply);

    // 8 Counters move after the commit.
    if (!isBooked()) return;
    context.metrics.countEvent(event);
    if (event.usageState === "reported" && event.usage.output !== undefined)
      context.expectations.observe(event.keyId, event.requestedModel, event.usage.output);
  } catch (error) {
    refuse(context, request, reply, dialect, error);
  }
}

type ReadCall = {
  readonly call: Call;
  /** What goes to the provider, and whether an event must then be hidden from the client. */
  readonly body: Buffer;
  readonly hides: boolean;
  /** The size of the body as the client sent it. */
  readonly readBytes: number;
};

/** Reads the body once. The parsed form ends here: a stream that goes on for minutes must not keep it. */
function readCall(request: FastifyRequest, dialect: Dialect, match: RouteMatch, query: URLSearchParams): ReadCall {
  const body = request.body as Buffer;
  const parsed = readBody(request.raw, body);
  checkLimits(parsed);
  const refused = dialect.refuses(query);
  if (refused !== undefined)
    throw new Refused("bad_target", `${refused} is not accepted on a metered path: it can hide what was used`);
  const call = dialect.describe(match, parsed, request.headers);
  checkModel(call);
  const rewritten = dialect.rewrite(call, body, parsed);
  return { call, body: rewritten?.body ?? body, hides: rewritten?.hides ?? false, readBytes: body.length };
}

/** Settles, and gives the client its end after five seconds even if the books are still closed: then the reservation,
 *  which is durable, stays open, and the event is tried on. */
async function settle(
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

function release(
  context: ProxyContext,
  exchange: Exchange,
  ending: Ending,
  dialect: Dialect,
  event: UsageEvent,
  requestId: string,
  reply: FastifyReply,
): void {
  if (ending.status === undefined || (ending.how !== "ended" && !exchange.answered)) {
    // No answer to pass on: say so in the client's dialect, as something worth a retry.
    const message = `Keymeter: ${ending.how === "stopped" ? "shutting down" : `the provider could not be reached or broke off (${ending.error ?? "no answer"})`}`;
    const { status, body, headers } = dialect.refusal(
      { kind: ending.timedOut ? "timeout" : "upstream", status: ending.timedOut ? 504 : 502, message },
      requestId,
    );
    if (!reply.raw.destroyed)
      reply.raw
        .writeHead(status, ["content-type", "application/json", "x-keymeter-request-id", requestId, ...headers])
        .end(body);
    if (ending.how !== "client_left")
      context.log.warn({ requestId, provider: event.provider, error: ending.error }, "no answer from the provider");
    return;
  }
  if (ending.how === "stopped")
    return exchange.releaseWithError(
      dialect.errorEvent("Keymeter is shutting down; this answer is not complete", requestId),
    );
  exchange.release(event.costNanoUsd === undefined ? [] : ["x-keymeter-cost-usd", formatUsdExact(event.costNanoUsd)]);
}

/** A virtual key is swapped for the provider's credential; a client's own key is the credential. */
function credentialFor(
  context: ProxyContext,
  target: Target,
  principal: Principal,
  credential: Credential,
): Credential {
  if (principal.kind === "virtual") {
    const ours = target.provider.credential;
    if (!ours)
      throw new Refused(
        "no_provider_credential",
        `no credential for ${target.provider.name} is set; whoever runs Keymeter sets it in the proxy's environment`,
      );
    return { text: ours.reveal(), carrier: credential.carrier };
  }
  if (!context.config.passThrough)
    throw new Refused("pass_through_off", "provider keys are not accepted here; ask for a Keymeter key (km_...)");
  return credential;
}

function refuse(
  context: ProxyContext,
  request: FastifyRequest,
  reply: FastifyReply,
  dialect: Dialect,
  error: unknown,
): void {
  const requestId = formatRequestId(context.writer.nextAttemptId());
  if (!(error instanceof Refused)) {
    context.log.error({ requestId, err: error }, "request failed");
    const { status, body, headers } = dialect.refusal(
      {
        kind: "unavailable",
        status: 500,
        message: "Keymeter: an error of ours; nothing more is known to the client than this id",
      },
      requestId,
    );
    if (reply.raw.headersSent) reply.raw.destroy();
    else
      reply.raw
        .writeHead(status, ["content-type", "application/json", "x-keymeter-request-id", requestId, ...headers])
        .end(body);
    return;
  }
  context.metrics.countRefused(error.reason);
  if (error.refusal.kind !== "money") context.writer.countRefused("", "", error.reason);
  const { status, headers, body } = renderRefusal(error, dialect, requestId, request.headers["user-agent"] ?? "");
  if (reply.raw.headersSent || reply.raw.destroyed) return;
  // A body that was not read to its end would be taken for the next request.
  if (!request.raw.complete) headers.push("connection", "close");
  reply.raw.writeHead(status, [...headers, "content-length", String(Buffer.byteLength(body))]).end(body);
}
