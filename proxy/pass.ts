// What passes without an attempt of its own: free routes, and unknown paths of clients that no cap holds, unread; and
// results of work that was begun earlier, read for what that work used.
import { Transform } from "node:stream";
import type { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { describeBudgetScope, mayCover } from "../ledger/budgets.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import { createAnswerId } from "../ledger/ids.ts";
import { hasBody } from "./arrival.ts";
import { noteStatus } from "./credential-source.ts";
import type { ProxyContext } from "./context.ts";
import { endWork } from "./attempt.ts";
import { NO_READING } from "./dialects/reading.ts";
import type { RouteMatch } from "./dialects/routes.ts";
import type { Sent } from "./arrival.ts";
import type { Target } from "./target.ts";
import { outgoingHeaders } from "./headers.ts";
import type { ChooseMeter, Exchange } from "./exchange.ts";
import { createMeter } from "./meter.ts";
import type { Meter } from "./meter.ts";
import type { Ending } from "./ending.ts";
import { Refused, refuseFrozen } from "./refusals.ts";
import { isHeldToModels, mayUseModel, notAllowed } from "./policy.ts";
import type { Principal } from "./principal.ts";
import { release } from "./release.ts";
import { makerOf, thingOf } from "./scope.ts";
import { createModelFilter, createNameReader, createPlacer, UNREAD } from "./unread.ts";
import { workCall } from "./work.ts";
import type { Result } from "./work.ts";

/** A request that passes, and what was found out about it. */
type Passing = {
  readonly context: ProxyContext;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  readonly target: Target;
  readonly principal: Principal;
  /** What goes to the provider. */
  readonly credential: Sent;
  /** What its answer says of limits. */
  readonly headers: readonly string[];
  /** The largest body that the limits let through. */
  readonly mostBodyBytes: number | undefined;
};

/** The route by which a request is metered; undefined: it passes without an attempt of its own, and its body need not
 *  be taken in. */
export function meteredRoute(target: Target): RouteMatch | undefined {
  const { match } = target;
  return match && !isUnknown(target) && match.route.kind !== "free" && match.route.kind !== "result"
    ? match
    : undefined;
}

/** Whether nobody knows the path, at this provider. */
function isUnknown({ match, priceList }: Target): boolean {
  return !match || (match.route.freeAt !== undefined && match.route.freeAt !== priceList);
}

/** Lets pass what is not metered. It uses up the provider's own limits too: each takes a place in the key's, and no
 *  tokens. */
export async function pass(arrived: Omit<Passing, "headers" | "mostBodyBytes">, query: URLSearchParams): Promise<void> {
  const { context, request, principal, target } = arrived;
  const { match } = target;
  const bytes = Number(request.headers["content-length"] ?? 0);
  const place = context.limiter.enter(principal, 0, bytes, Date.now());
  const passing = { ...arrived, headers: place.headers, mostBodyBytes: place.mostBodyBytes };
  try {
    if (!match || isUnknown(target)) await passUnmetered(passing);
    else if (match.route.kind === "result") await passResult(passing, match, query);
    else await passUnread(passing);
  } finally {
    place.leave(0, Date.now());
  }
}

/** A path without a meter: a cap must hold, so nothing passes for virtual keys or under a hard budget; a meter must not
 *  break an app, so the rest passes for a client's own key, counted. */
async function passUnmetered(passing: Passing): Promise<void> {
  const { context, request, target, principal } = passing;
  const what = `Keymeter cannot tell what ${request.method} ${target.upstreamPath.slice(0, 120)} costs`;
  const refuse = (why: string): Refused => new Refused("not_metered", `${what}, so it is not forwarded: ${why}`);
  if (principal.kind === "virtual")
    throw refuse("a Keymeter key reaches only what is metered or free; send it to the provider with a key of its own");
  if (!target.explicit) throw refuse("the path names no provider; put /openai, /anthropic or /google in front of it");
  // Of a rule it may be a member's, whoever that is.
  const cap = (await readBudgets(context.books)).find(
    ({ kind, scope }) => kind === "hard" && mayCover(scope, { ...principal, provider: target.provider.name }),
  );
  if (cap)
    throw refuse(
      `this key is under a hard budget (${describeBudgetScope(cap)}, ${cap.window}, ${cap.id}), which must hold`,
    );
  const frozen = (await context.writer.freezes()).find(({ scope }) =>
    mayCover(scope, { ...principal, provider: target.provider.name }),
  );
  if (frozen) throw refuseFrozen(frozen, (id) => context.people.nameOf(id));
  context.metrics.countUnmetered(target.provider.name);
  context.unmetered.note(principal, target.provider.name, request.method, target.upstreamPath, Date.now());
  await passUnread(passing);
}

/** Forwards without reading or booking. */
async function passUnread(passing: Passing): Promise<void> {
  const { context, request, reply, target, principal } = passing;
  const base = target.match?.route.namesPlaces ? ownBase(request, target) : undefined;
  const lists = modelFilterOf(passing);
  const made = target.match?.route.makes && principal.kind === "virtual" ? createNameReader(target.dialect) : undefined;
  const { exchange, requestId, isTooLarge } = forward(
    passing,
    (status) =>
      made ??
      (lists && status === 200 ? lists : undefined) ??
      (base === undefined ? UNREAD : createPlacer(target.dialect, base)),
    base,
  );
  const ending = await exchange.ending;
  if (isTooLarge() && !exchange.answered)
    throw new Refused(
      "body_too_large",
      `the body has more than the ${passing.mostBodyBytes} bytes that a limit lets through`,
    );
  await endDeleted(passing, ending);
  const name = ending.status === 200 || ending.status === 201 ? made?.name() : undefined;
  if (name !== undefined)
    await context.patience.wait(context.things.own(target.provider.name, principal.keyId, [thingOf(principal, name)]));
  release(context, exchange, ending, target, undefined, requestId, reply);
}

/** A list of models has those that the key may use; one model that it may not use is refused. */
function modelFilterOf({ context, target, principal: { key } }: Passing): Meter | undefined {
  const { match, provider, priceList } = target;
  if (!key || !isHeldToModels(key)) return undefined;
  const mayUse = (model: string): boolean =>
    mayUseModel(
      key,
      model,
      (named) => context.prices.find(priceList, provider.modelOf(named), Date.now()) !== undefined,
    );
  const model = match?.route.endpoint === "model" ? match.parameters["model"] : undefined;
  if (model !== undefined && !mayUse(model)) throw notAllowed(key, `the model ${model}`, key.policy.models ?? []);
  return match?.route.endpoint === "models" ? createModelFilter(mayUse) : undefined;
}

/** The result of work that was begun earlier. The first that passes whole is what the attempt used, whoever asked for
 *  it; every later one, and one of work that was not begun here, passes and is booked nowhere. */
async function passResult(passing: Passing, match: RouteMatch, query: URLSearchParams): Promise<void> {
  const { context, reply, target, principal } = passing;
  const { provider, dialect } = target;
  const refused = dialect.refuses(query, match) ?? provider.dialect.refuses(query, match);
  if (refused !== undefined)
    throw new Refused("bad_target", `${refused} is not accepted on a metered path: it can hide what was used`);
  const call = workCall(match.route.endpoint, "", []);
  const { exchange, requestId } = forward(passing, (_status, contentType, contentEncoding) =>
    createMeter(dialect, call, false, contentType, contentEncoding, context.readers),
  );
  const ending = await exchange.ending;
  const reading = exchange.meter?.reading();
  const asked = dialect.workId(match);
  const workId = context.work.resolve(provider.name, asked);
  const isWhole = ending.how === "ended" && ending.status === 200 && reading?.ended === true && !reading.pending;
  // What is gone at the provider will never say what it used; only its own key is believed, for others are told so too.
  // Providers say so of work that has just begun, or whose result is not ready: it has to be said again much later.
  const isGone =
    GONE.has(ending.status ?? 0) &&
    (await makerOf(context.things, principal, provider.name, asked)) === principal.keyId &&
    context.work.isGone(provider.name, workId, Date.now());
  const result: Result | undefined = isWhole
    ? { ending, reading, seen: exchange.meter?.seen() }
    : isGone
      ? { ending: { ...ending, status: undefined }, reading: NO_READING, seen: undefined }
      : undefined;
  const work = result && (await context.work.take(provider.name, workId));
  if (isWhole && result && !work) context.work.keepEarly(provider.name, workId, result);
  const ended = work && (await endWork(context, target, work, result));
  const owner = await makerOf(context.things, principal, provider.name, workId);
  if (ending.status === 200 && owner !== undefined) {
    await context.patience.wait(
      context.things.own(
        provider.name,
        owner,
        (reading?.makes ?? []).map((name) => thingOf(principal, name)),
      ),
    );
    if (reading?.resultPlace !== undefined) context.work.alias(provider.name, reading.resultPlace, workId);
  }
  release(context, exchange, ending, target, ended?.costNanoUsd, requestId, reply);
}

const GONE = new Set([404, 410]);

/** Work that is deleted before its result was fetched may have come to the most that it can. */
async function endDeleted({ context, request, target }: Passing, ending: Ending): Promise<void> {
  const { match, provider } = target;
  const isDone = ending.status !== undefined && ending.status < 300;
  if (request.method !== "DELETE" || match?.route.scope !== "work" || !isDone) return;
  const work = await context.work.take(
    provider.name,
    context.work.resolve(provider.name, target.dialect.workId(match)),
  );
  if (!work) return;
  await endWork(context, target, work, {
    ending: { ...ending, status: undefined },
    reading: NO_READING,
    seen: undefined,
  });
}

function forward(
  { context, request, reply, target, principal, credential, headers, mostBodyBytes }: Passing,
  chooseMeter: ChooseMeter,
  base?: string,
): { readonly exchange: Exchange; readonly requestId: string; readonly isTooLarge: () => boolean } {
  const requestId = createAnswerId();
  const { dialect } = target;
  const sending = bodyOf(request, mostBodyBytes);
  const isResult = target.match?.route.kind === "result";
  const exchange = context.forwarder.exchange(
    {
      provider: target.provider,
      method: request.method,
      path: target.upstreamPath + target.query,
      headers: [
        ...outgoingHeaders(request.raw, target.credentialHeader, credential, credential.ours, {
          whole: isResult,
          naming: principal.key?.policy.users,
        }),
        ...statedLength(request),
      ],
      // Nobody here needs to know what is in it: it is never held.
      body: sending.body,
    },
    reply.raw,
    chooseMeter,
    {
      stream: true,
      requestId,
      headers,
      secret: credential.ours && credential.text,
      placeUrl: base === undefined ? undefined : (value) => dialect.placeUrls?.(value, base) ?? value,
      mayRedirect: principal.kind !== "virtual" && !isResult,
    },
  );
  const source = credential.ours?.source;
  if (source) void exchange.ending.then(({ status }) => noteStatus(source, status));
  return { exchange, requestId, isTooLarge: sending.isTooLarge };
}

type Sending = { readonly body: Readable | undefined; readonly isTooLarge: () => boolean };

/** A body as it comes; one whose length nobody stated is counted where a limit holds, and broken off beyond it. */
function bodyOf({ raw }: FastifyRequest, mostBytes: number | undefined): Sending {
  if (!hasBody(raw)) return { body: undefined, isTooLarge: () => false };
  if (mostBytes === undefined || raw.headers["content-length"] !== undefined)
    return { body: raw, isTooLarge: () => false };
  let bytes = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      done(bytes > mostBytes ? new Error("the body is larger than a limit lets through") : null, chunk);
    },
  });
  return { body: raw.pipe(counted), isTooLarge: () => bytes > mostBytes };
}

/** A stream whose length is known is sent with it: some providers take no other. */
function statedLength({ headers }: FastifyRequest): string[] {
  const length = headers["content-length"];
  return length === undefined || length === "0" ? [] : ["content-length", length];
}

/** Where this client reaches this provider, by its own word; undefined when that is no plain host. */
function ownBase({ raw }: FastifyRequest, { provider, explicit }: Target): string | undefined {
  const { host, "x-forwarded-proto": proto } = raw.headers;
  if (host === undefined || !/^[\w.:[\]-]+$/.test(host)) return undefined;
  const isEncrypted = "encrypted" in raw.socket || proto === "https";
  return `${isEncrypted ? "https" : "http"}://${host}${explicit ? `/${provider.prefixes[0] ?? ""}` : ""}`;
}
