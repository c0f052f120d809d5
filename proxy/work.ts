// Work that goes on at the provider after its answer. From its creation it is known here and in the books; when its
// result passes, it is taken out, once, and booked. What nobody fetches stays pending, and visible, until no provider
// can have it any longer.
import { SEAT } from "../ledger/usage/usage-event.ts";
import { attemptAtMs, formatRequestId } from "../ledger/ids.ts";
import { findPendingWork, readPendingWork } from "../ledger/usage/pending-work.ts";
import type { PendingWork } from "../ledger/usage/pending-work.ts";
import type { UsageBooks } from "../ledger/books.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import type { Log } from "../service/log.ts";
import type { Admission } from "./admit.ts";
import { PLAIN_CALL } from "./dialects/call.ts";
import type { Call } from "./dialects/call.ts";
import type { Reading } from "./dialects/reading.ts";
import type { Ending } from "./ending.ts";
import { createNewest } from "./newest.ts";
import type { Target } from "./target.ts";
import type { Seen } from "./meter.ts";

export type Work = {
  /** Keeps an attempt's reservation open under the provider's id. False: another attempt stands for this work. */
  suspend(admission: Admission, workId: string): Promise<boolean>;
  /** Takes work out, for the one event it gets; undefined when it is not pending here: booked before, or made
   *  elsewhere. */
  take(provider: string, workId: string): Promise<PendingWork | undefined>;
  /** Remembers under which other name the result of work is asked for; `resolve` finds the work's own. */
  alias(provider: string, place: string, workId: string): void;
  resolve(provider: string, place: string): string;
  /** Keeps a result that passed while its creation may still be on its way into the books; `takeEarly` gives it out. */
  keepEarly(provider: string, workId: string, result: Result): void;
  takeEarly(provider: string, workId: string): Result | undefined;
  /** Whether the provider's word that it is gone is to be believed: it was said of it an hour ago too. */
  isGone(provider: string, workId: string, nowMs: number): boolean;
  list(): PendingWork[];
  /** Reads the books again, after a change there. */
  reload(): Promise<void>;
};

/** What passed of a result. */
export type Result = { readonly ending: Ending; readonly reading: Reading; readonly seen: Seen | undefined };

/** Results that nobody waits for yet: a stream tells its work's id to the client before its attempt is suspended. */
const MOST_EARLY = 1_000;
const GONE_MS = 60 * 60_000;
/** Anthropic keeps results for 29 days, the others for less. */
const MOST_WORK_MS = 31 * 24 * 60 * 60_000;
/** Asking for the work once more brings a forgotten one back. */
const MOST_PLACES = 10_000;

export async function createWork(books: UsageBooks, writer: Writer): Promise<Work> {
  const name = (provider: string, workId: string): string => `${provider}\n${workId}`;
  const read = async (): Promise<Map<string, PendingWork>> =>
    new Map((await readPendingWork(books)).map((work) => [name(work.provider, work.workId), work]));
  let pending = await read();
  const early = createNewest<Result>(MOST_EARLY);
  const places = createNewest<string>(MOST_PLACES);
  const saidGone = createNewest<number>(MOST_EARLY);
  return {
    async suspend({ attemptId, asked, held }, workId) {
      const { asker, provider, call, team, project, env, user, tags } = asked;
      const isFirst = await writer.suspend(attemptId, workId, call.tiers, (asker.payer ?? asker).proven);
      if (isFirst)
        pending.set(name(provider.name, workId), {
          attemptId,
          provider: provider.name,
          workId,
          keyId: asker.keyId,
          endpoint: call.endpoint,
          requestedModel: call.model,
          team,
          project,
          env,
          user,
          payer: asked.payer,
          seatNanoUsd: asked.payer === SEAT ? held.expectedNanoUsd : undefined,
          tags,
          tiers: call.tiers,
          boundNanoUsd: held.boundNanoUsd,
          expectedNanoUsd: held.expectedNanoUsd,
          mostNanoUsd: held.mostNanoUsd,
        });
      return isFirst;
    },
    alias: (provider, place, workId) => void places.set(name(provider, place), workId),
    resolve: (provider, place) => places.get(name(provider, place)) ?? place,
    async take(provider, workId) {
      const found = pending.get(name(provider, workId));
      pending.delete(name(provider, workId));
      // Another proxy may have begun it.
      return found ?? (writer.isOneOfMany ? findPendingWork(books, provider, workId) : undefined);
    },
    keepEarly: (provider, workId, result) => void early.set(name(provider, workId), result),
    takeEarly(provider, workId) {
      const found = early.get(name(provider, workId));
      early.delete(name(provider, workId));
      return found;
    },
    isGone(provider, workId, nowMs) {
      const key = name(provider, workId);
      const firstMs = saidGone.get(key);
      if (firstMs !== undefined) return nowMs - firstMs >= GONE_MS;
      if (pending.has(key)) saidGone.set(key, nowMs);
      return false;
    },
    async reload() {
      pending = await read();
    },
    list: () => [...pending.values()],
  };
}

/** Work that is older than any provider keeps its results will never say what it used. */
export async function settleOldWork(work: Work, writer: Writer, log: Log): Promise<void> {
  const oldest = Date.now() - MOST_WORK_MS;
  for (const { workId, attemptId } of work.list().filter((one) => attemptAtMs(one.attemptId) < oldest)) {
    const requestId = formatRequestId(attemptId);
    await writer.change({ type: "closeWork", workId }, "proxy").then(
      () => log.warn({ requestId, workId }, "work that nobody fetched was booked at what was held for it"),
      (error: unknown) => log.error({ requestId, workId, err: error }, "old work could not be settled"),
    );
  }
  await work.reload();
}

/** The admission of the attempt that made the work, as the books kept it: what it was asked for at is not among
 *  that. */
export function admissionOf(
  work: PendingWork,
  { provider, priceList, tiers: placeTiers }: Pick<Target, "provider" | "priceList" | "tiers">,
): Admission {
  const { attemptId, keyId, endpoint, requestedModel, team, project, env, user, tags, tiers } = work;
  // What nothing was held for, because a subscription pays it, is worth something all the same.
  const isSeat = work.payer === SEAT;
  const boundNanoUsd = isSeat ? undefined : work.boundNanoUsd;
  const expectedNanoUsd = isSeat ? work.seatNanoUsd : work.expectedNanoUsd;
  const mostNanoUsd = isSeat ? undefined : work.mostNanoUsd;
  return {
    attemptId,
    asked: {
      asker: { keyId },
      provider,
      priceList,
      call: { ...workCall(endpoint, requestedModel, tiers), placeTiers },
      team,
      project,
      env,
      user,
      payer: work.payer,
      tags,
      shortModel: requestedModel,
    },
    held: {
      inputTokens: 0,
      boundNanoUsd,
      expectedNanoUsd,
      mostNanoUsd,
      isStrict: expectedNanoUsd === undefined,
      growth: "none",
      reservedNanoUsd: expectedNanoUsd ?? boundNanoUsd,
      leftNanoUsd: undefined,
    },
  };
}

/** What the result of work is read as. */
export function workCall(endpoint: string, model: string, tiers: readonly string[]): Call {
  return {
    ...PLAIN_CALL,
    endpoint,
    model,
    tiers,
    isResult: true,
  };
}
