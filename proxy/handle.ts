// One request, top to bottom. Read this file first.
//   gate -> open the attempt -> forward and meter -> end the attempt -> release
// Nothing flows back. Once it is open an attempt always ends in the books, whatever happens in between.
import type { FastifyReply, FastifyRequest } from "fastify";
import { arrive, enter, payingWith } from "./arrival.ts";
import { openAttempt } from "./attempt.ts";
import type { ProxyContext } from "./context.ts";
import { dispatch } from "./dispatch.ts";
import { NOT_KEPT } from "./exchange.ts";
import { answerAsk } from "./ask.ts";
import { answerMe, ASK_PATH } from "./me.ts";
import { meteredRoute, pass } from "./pass.ts";
import { readCall } from "./read-call.ts";
import { answerRefused } from "./refuse.ts";
import { release } from "./release.ts";

export async function handle(context: ProxyContext, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  reply.hijack();
  try {
    // 1 Who asks, for which place: known since before the body was taken in (app.ts).
    const arrival = (request.arrival ??= arrive(context, request.raw));
    if (!arrival.target)
      return await (arrival.path === ASK_PATH ? answerAsk : answerMe)(context, request, reply, arrival.key);
    const { target, query } = arrival;
    const credential = await enter(context, arrival);
    const principal = payingWith(arrival.principal, credential);
    const match = meteredRoute(target);
    if (!match) return await pass({ context, request, reply, target, principal, credential }, query);

    // 2 What it asks for, read once.
    const read = await readCall(context, request, arrival, match);

    // 3-4 May it, and is the money held?
    const { provider, priceList } = target;
    const { call, tags, trace, bodyBytes } = read;
    const attempt = await openAttempt(context, { principal, provider, priceList, call, tags, trace, bodyBytes });
    try {
      // 5-6 Forward, and read what passes.
      const exchange = dispatch(context, reply, { target, credential, read, attempt });
      const ending = await exchange.ending;

      // 7 Into the books, and only then the last bytes. Work that goes on at the provider stays open there.
      const { costNanoUsd } = await attempt.end(ending, exchange.meter);
      const isWithheld = !exchange.answered && attempt.kept() !== undefined;
      const said = isWithheld ? { ...ending, how: "stopped" as const, error: NOT_KEPT } : ending;
      release(context, exchange, said, target, costNanoUsd, attempt.requestId, reply);
    } finally {
      // Whatever was thrown in between: an attempt ends in the books.
      await attempt.abandon();
    }
  } catch (error) {
    answerRefused(context, request.raw, reply.raw, error, request.arrival?.target?.dialect);
  }
}
