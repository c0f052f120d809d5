// What a hard cap would have refused of past traffic: events are put, in their order, to the decision that requests are
// put to.
import { readAdjusted } from "./adjustments.ts";
import type { Budget } from "../budgets.ts";
import { readOwnNames } from "./budget-spend.ts";
import { walkEvents } from "./events.ts";
import { firstAttemptId, readAttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import type { UsageBooks } from "../books.ts";
import { createReservationBook } from "./reservations.ts";
import { SEAT } from "./usage-event.ts";
import type { Calendar } from "../windows.ts";

/** Requests that a cap covers, and those of them that it would have refused. */
export type Replayed = {
  readonly requests: number;
  readonly costNanoUsd: NanoUsd;
  readonly refused: number;
  /** Of those: without a price, which a hard budget refuses at any amount. */
  readonly unpriced: number;
  readonly refusedNanoUsd: NanoUsd;
  readonly firstRefusedAtMs: number | undefined;
};

export type CapReplay = {
  /** The start of the window that `sinceMs` lies in: a window is replayed whole or not at all. */
  readonly sinceMs: number;
  readonly all: Replayed;
  /** By window id, in order. */
  readonly windows: ReadonlyMap<string, Replayed>;
  readonly keys: ReadonlyMap<string, Replayed>;
};

const NOTHING: Replayed = {
  requests: 0,
  costNanoUsd: 0n,
  refused: 0,
  unpriced: 0,
  refusedNanoUsd: 0n,
  firstRefusedAtMs: undefined,
};

/** Each request is asked for at what it cost in the end, adjustments included; what was refused adds nothing to the
 *  window. */
export async function replayCap(
  books: UsageBooks,
  budget: Budget,
  calendar: Calendar,
  sinceMs: number,
): Promise<CapReplay> {
  const startMs = budget.window === "total" ? 0 : calendar.window(budget.window, sinceMs).startMs;
  const book = createReservationBook(calendar, "enforce", { of: () => 0n, members: () => new Map() });
  book.setBudgets([budget]);
  const ownNames = await readOwnNames(books);
  const adjusted = await readAdjusted(books, firstAttemptId(startMs) - 1);
  let all = NOTHING;
  const windows = new Map<string, Replayed>();
  const keys = new Map<string, Replayed>();
  for await (const event of walkEvents(books, { sinceMs: startMs })) {
    // What a subscription pays is in no budget of money.
    if (event.payer === SEAT) continue;
    const { keyId, team, project, env, user, provider, requestedModel, servedModel } = event;
    const subject = ownNames({
      keyId,
      team,
      project,
      env,
      user,
      provider,
      model: requestedModel,
      servedModel: servedModel ?? undefined,
      tags: JSON.stringify(event.tags),
    });
    if (book.covering(subject).length === 0) continue;
    const attemptId = readAttemptId(event.attemptId);
    const stated = event.costNanoUsd === null ? undefined : BigInt(event.costNanoUsd);
    const cost = adjusted.get(attemptId)?.costNanoUsd ?? stated;
    const decision = book.reserve({ attemptId, subject, boundNanoUsd: cost, expectedNanoUsd: cost });
    if (decision.admitted) book.settle(attemptId, cost ?? 0n, subject);
    const atMs = Date.parse(event.at);
    const isRefused = !decision.admitted;
    const add = (sum: Replayed): Replayed => ({
      requests: sum.requests + 1,
      costNanoUsd: sum.costNanoUsd + (cost ?? 0n),
      refused: sum.refused + (isRefused ? 1 : 0),
      unpriced: sum.unpriced + (isRefused && cost === undefined ? 1 : 0),
      refusedNanoUsd: sum.refusedNanoUsd + (isRefused ? (cost ?? 0n) : 0n),
      firstRefusedAtMs: sum.firstRefusedAtMs ?? (isRefused ? atMs : undefined),
    });
    const windowId = calendar.window(budget.window, atMs).id;
    all = add(all);
    windows.set(windowId, add(windows.get(windowId) ?? NOTHING));
    keys.set(keyId, add(keys.get(keyId) ?? NOTHING));
  }
  return { sinceMs: startMs, all, windows, keys };
}
