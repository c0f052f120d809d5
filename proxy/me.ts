// GET /keymeter/me: what a key's holder may know of it: spend, reservations, budgets, when they reset.
import type { FastifyReply, FastifyRequest } from "fastify";
import { describeScope } from "../ledger/budgets.ts";
import { formatUsdExact } from "../ledger/money.ts";
import { identify } from "./arrival.ts";
import type { Credential } from "./gate.ts";
import type { ProxyContext } from "./context.ts";
import { Refused } from "./refusals.ts";

/** Answers with the numbers a refusal would use in the same second. A provider key says whose it is by ?provider=. */
export async function answerMe(
  context: ProxyContext,
  request: FastifyRequest,
  reply: FastifyReply,
  credential: Credential,
): Promise<void> {
  if (request.method !== "GET") throw new Refused("not_metered", "/keymeter/me is read with GET");
  // The same rules as for every request: whose key it is, and from where it may be used.
  const candidates = context.providers.all.map((provider) => identify(context, request.raw, credential, provider.name));
  const known = candidates.filter(({ key }) => key !== undefined);
  const principal = known.find((one) => context.register.isProven(one)) ?? known[0];
  if (!principal?.key) throw new Refused("unknown_key", "this key has not been used through this Keymeter yet");
  // A sign-in is known by its address; who holds one was accepted by its provider, and anybody can invent one.
  if (!context.register.isProven(principal))
    throw new Refused(
      "unknown_key",
      "no provider has accepted this sign-in through this Keymeter since it started; send a request with it first",
    );
  const { key } = principal;
  const states = (await context.writer.states()).filter(
    ({ budget: { scope } }) =>
      (scope.keyId ?? key.id) === key.id &&
      (scope.team ?? key.team) === key.team &&
      (scope.project ?? key.project) === key.project &&
      (scope.env ?? key.env) === key.env,
  );
  const body = JSON.stringify({
    key: {
      id: key.id,
      name: key.name,
      team: key.team,
      project: key.project,
      env: key.env,
      owner: key.owner,
      state: key.state,
      expiresAt: key.expiresAtMs === undefined ? null : new Date(key.expiresAtMs).toISOString(),
    },
    budgets: states.map(({ budget, window, amountNanoUsd, settledNanoUsd, reservedNanoUsd }) => ({
      id: budget.id,
      scope: describeScope(budget.scope),
      kind: budget.kind,
      mode: budget.mode,
      observe: budget.observe === true,
      window: budget.window,
      amountUsd: formatUsdExact(amountNanoUsd),
      spentUsd: formatUsdExact(settledNanoUsd),
      reservedUsd: formatUsdExact(reservedNanoUsd),
      leftUsd: formatUsdExact(amountNanoUsd - settledNanoUsd - reservedNanoUsd),
      windowStart: new Date(window.startMs).toISOString(),
      windowEnd: budget.window === "total" ? null : new Date(window.endMs).toISOString(),
    })),
  });
  reply.raw
    .writeHead(200, [
      "content-type",
      "application/json",
      "cache-control",
      "no-store",
      "content-length",
      String(Buffer.byteLength(body)),
    ])
    .end(body);
}
