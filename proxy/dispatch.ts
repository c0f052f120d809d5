// A metered call on its way: which request goes to the provider, and by which meter its answer passes to the client.
import type { FastifyReply } from "fastify";
import { subjectOf } from "./admit.ts";
import type { Attempt } from "./attempt.ts";
import type { ProxyContext } from "./context.ts";
import type { Exchange } from "./exchange.ts";
import type { Sent } from "./arrival.ts";
import { noteStatus } from "./credential-source.ts";
import type { Target } from "./target.ts";
import { outgoingHeaders } from "./headers.ts";
import { createMeter } from "./meter.ts";
import type { ReadCall } from "./read-call.ts";

/** What is sent, for whom, and by which credential. */
type Sending = {
  readonly target: Target;
  readonly credential: Sent;
  readonly read: ReadCall;
  readonly attempt: Attempt;
};

export function dispatch(
  { forwarder, readers }: Pick<ProxyContext, "forwarder" | "readers">,
  reply: FastifyReply,
  { target, credential, read, attempt }: Sending,
): Exchange {
  const { provider, dialect, credentialHeader, upstreamPath, query } = target;
  const { body, hides, isUnpacked } = read;
  const { call } = attempt.asked;
  const request = reply.request;
  const { ours } = credential;
  const exchange = forwarder.exchange(
    {
      provider,
      method: request.method,
      path: upstreamPath + query,
      headers: outgoingHeaders(request.raw, credentialHeader, credential, ours, {
        isUnpacked,
        naming: attempt.asked.asker.key?.policy.users,
      }),
      body,
    },
    reply.raw,
    (_status, contentType, contentEncoding) => createMeter(dialect, call, hides, contentType, contentEncoding, readers),
    {
      stream: call.stream,
      requestId: attempt.requestId,
      subject: subjectOf(attempt.asked),
      extension: attempt.extension,
      mayBegin: attempt.kept,
      headers: attempt.headers,
      secret: ours && credential.text,
    },
  );
  const source = ours?.source;
  if (source) void exchange.ending.then(({ status }) => noteStatus(source, status));
  return exchange;
}
