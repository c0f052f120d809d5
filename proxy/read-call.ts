// What a metered request asks for: its body, unpacked and read once, and what goes on to the provider in its place.
import type { FastifyRequest } from "fastify";
import type { Arrived } from "./arrival.ts";
import type { ProxyContext } from "./context.ts";
import type { Call } from "./dialects/call.ts";
import type { RouteMatch } from "./dialects/routes.ts";
import { isPacked } from "./packed.ts";
import { checkReferences } from "./scope.ts";
import { Refused } from "./refusals.ts";
import { headersToRead } from "./read-request.ts";
import { readTags } from "./tags.ts";
import type { Tags } from "./tags.ts";
import { readTrace } from "./trace.ts";

export type ReadCall = {
  readonly call: Call;
  readonly tags: Tags;
  readonly trace: string | undefined;
  /** What goes to the provider, and whether an event must then be hidden from the client. */
  readonly body: Buffer;
  readonly hides: boolean;
  /** It came packed and goes on plain. */
  readonly isUnpacked: boolean;
  /** The size of the body, unpacked, as the client sent it. */
  readonly bodyBytes: number;
};

/** Reads the body once. The parsed form ends here: a stream that goes on for minutes must not keep it. Throws Refused
 *  for what is odd. */
export async function readCall(
  context: Pick<ProxyContext, "bodies" | "config" | "readers" | "things">,
  request: FastifyRequest,
  { target, principal, query }: Arrived,
  match: RouteMatch,
): Promise<ReadCall> {
  const { dialect, provider, priceList, tiers } = target;
  const refused = dialect.refuses(query, match) ?? provider.dialect.refuses(query, match);
  if (refused !== undefined)
    throw new Refused("bad_target", `${refused} is not accepted on a metered path: it can hide what was used`);
  const sent = (request.body as Buffer | undefined) ?? Buffer.alloc(0);
  const plain = isPacked(request.headers["content-encoding"]) ? await context.bodies.unpack(request.raw, sent) : sent;
  const headers = headersToRead(dialect, request.headers);
  const knownBy = { vendor: priceList, allowed: context.config.allowedFields };
  const toRead = { dialect: dialect.name, match, headers, asksUsage: provider.asksUsage, knownBy };
  const bodyBytes = plain.length;
  const { call, references, rewritten, body = plain } = await context.readers.request(toRead, plain);
  if (references.length > 0) await checkReferences(context, provider.name, principal, references);
  return {
    call: tiers.length > 0 ? { ...call, placeTiers: tiers } : call,
    tags: readTags(request.headers, call, principal.key?.policy.users),
    trace: readTrace(request.headers),
    // As it came, unless it had to be changed.
    body: rewritten?.body ?? (plain === sent ? body : sent),
    isUnpacked: plain !== sent && rewritten !== undefined,
    hides: rewritten?.hides ?? false,
    bodyBytes,
  };
}
