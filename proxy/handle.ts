// One request, top to bottom. Read this file first.
//   gate -> open the attempt -> forward and meter -> end the attempt -> release
// Nothing flows back. Once it is open an attempt always ends in the books, whatever happens in between.
import type { FastifyReply, FastifyRequest } from "fastify";
import { subjectOf } from "./admit.ts";
import { arrive, credentialFor } from "./arrival.ts";
import { openAttempt } from "./attempt.ts";
import type { Attempt } from "./attempt.ts";
import type { ProxyContext } from "./context.ts";
import type { Call } from "./dialects/call.ts";
import type { RouteMatch } from "./dialects/routes.ts";
import { guessDialect } from "./target.ts";
import type { Target } from "./target.ts";
import type { Ending } from "./forward.ts";
import { outgoingHeaders } from "./headers.ts";
import { answerMe } from "./me.ts";
import { createMeter } from "./meter.ts";
import { passResult, passUnmetered, passUnread, withPlace } from "./pass.ts";
import { answerRefused } from "./refuse.ts";
import { nowhere, Refused } from "./refusals.ts";
import { headersToRead } from "./read-request.ts";
import { release } from "./release.ts";
import type { Principal } from "./principal.ts";
import { readTags } from "./tags.ts";
import { checkReferences, checkScope } from "./scope.ts";

export async function handle(context: ProxyContext, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  let dialect = guessDialect(context.providers, request.raw.url ?? "/");
  let attempt: Attempt | undefined;
  reply.hijack();
  try {
    // 1 Who asks, for which place: known since before the body was taken in (app.ts).
    const arrival = request.arrival ?? arrive(context, request.raw);
    if (arrival.path === "/keymeter/me") return await answerMe(context, request, reply, arrival.credential);
    const { query, credential, target, principal } = arrival;
    if (!target || !principal) throw nowhere(arrival.path);
    dialect = target.dialect;
    const upstreamCredential = await credentialFor(context, target, principal, credential);
    checkScope(context, target, principal);
    const passing = { context, request, reply, target, principal, credential: upstreamCredential };
    const { match } = target;
    const isElsewhere = match?.route.freeAt !== undefined && match.route.freeAt !== target.priceList;
    if (!match || isElsewhere) return await withPlace(passing, passUnmetered);
    if (match.route.kind === "free") return await withPlace(passing, passUnread);
    if (match.route.kind === "result") return await withPlace(passing, (one) => passResult(one, match, query));

    // 2 What it asks for, read once.
    const { call, body, hides, isUnpacked, readBytes } = await readCall(
      context,
      request,
      target,
      match,
      query,
      principal,
    );

    // 3-4 May it, and is the money held?
    const asked = { principal, provider: target.provider, priceList: target.priceList, call };
    attempt = await openAttempt(context, {
      ...asked,
      tags: readTags(request.headers, call.bodyTags),
      bodyBytes: readBytes,
    });

    // 5-6 Forward, and read what passes.
    const { admission, requestId, extension, headers } = attempt;
    const exchange = context.forwarder.exchange(
      {
        provider: target.provider,
        method: request.method,
        path: target.upstreamPath + target.query,
        headers: outgoingHeaders(
          request.raw,
          target.credentialHeader,
          upstreamCredential,
          principal.kind === "virtual",
          { isUnpacked },
        ),
        body,
      },
      reply.raw,
      (_status, contentType, contentEncoding) =>
        createMeter(dialect, admission.call, hides, contentType, contentEncoding, context.readers),
      {
        stream: call.stream,
        requestId,
        subject: subjectOf(admission),
        extension,
        headers,
        secret: principal.kind === "virtual" ? upstreamCredential.text : undefined,
      },
    );
    const ending = await exchange.ending;

    // 7 Into the books, and only then the last bytes. Work that goes on at the provider stays open there.
    const { costNanoUsd } = await attempt.end(ending, exchange.meter);
    release(context, exchange, ending, target, costNanoUsd, requestId, reply);
  } catch (error) {
    answerRefused(context, request.raw, reply.raw, dialect, error);
  } finally {
    // Whatever was thrown in between: an attempt ends in the books.
    await attempt?.end(BROKEN, undefined);
  }
}

/** Something of ours broke while it was on its way: it may have been sent. */
const BROKEN: Ending = {
  how: "failed",
  timedOut: false,
  sent: true,
  status: undefined,
  firstByteMs: undefined,
  providerRequestId: undefined,
  error: "an error of ours",
};

type ReadCall = {
  readonly call: Call;
  /** What goes to the provider, and whether an event must then be hidden from the client. */
  readonly body: Buffer;
  readonly hides: boolean;
  /** It came packed and goes on plain. */
  readonly isUnpacked: boolean;
  /** The size of the body, unpacked, as the client sent it. */
  readonly readBytes: number;
};

/** Reads the body once. The parsed form ends here: a stream that goes on for minutes must not keep it. */
async function readCall(
  context: ProxyContext,
  request: FastifyRequest,
  { dialect, provider, priceList, tiers }: Target,
  match: RouteMatch,
  query: URLSearchParams,
  principal: Principal,
): Promise<ReadCall> {
  const refused = dialect.refuses(query, match) ?? provider.dialect.refuses(query, match);
  if (refused !== undefined)
    throw new Refused("bad_target", `${refused} is not accepted on a metered path: it can hide what was used`);
  const sent = (request.body as Buffer | undefined) ?? Buffer.alloc(0);
  const plain = await context.bodies.unpack(request.raw, sent);
  const readBytes = plain.length;
  const isPacked = plain !== sent;
  const headers = headersToRead(dialect, request.headers);
  const knownBy = { vendor: priceList, allowed: context.config.allowedFields };
  const toRead = { dialect: dialect.name, match, headers, asksUsage: provider.asksUsage, knownBy };
  const read = await context.readers.request(toRead, plain);
  checkReferences(context, provider.name, principal, read.references);
  return {
    call: tiers.length > 0 ? { ...read.call, placeTiers: tiers } : read.call,
    // As it came, unless it had to be changed.
    body: read.rewritten?.body ?? (isPacked ? sent : read.body),
    isUnpacked: isPacked && read.rewritten !== undefined,
    hides: read.rewritten?.hides ?? false,
    readBytes,
  };
}
