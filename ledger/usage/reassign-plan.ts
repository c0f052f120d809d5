// What a correction of whose spend it is would do, before it is done: how much moves, and what each budget that sees it
// has spent. Reads only.
import { answerIn } from "../asking.ts";
import { QUARTER_MS } from "../windows.ts";
import { covers } from "../budgets.ts";
import type { Budget } from "../budgets.ts";
import { ownNamesOf, askOwners, readSettled, askTagsCount } from "./budget-spend.ts";
import { readBudgets } from "./changes.ts";
import { and, eq, gte, sql } from "../drizzle.ts";
import { firstAttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { ownerAfter, PARTS } from "./reassign.ts";
import type { Reassignment, Span } from "./reassign.ts";
import { booked } from "./schema.ts";
import type { Calendar } from "../windows.ts";

/** What a correction would move, what stays because it names an owner of its own, and what each budget that sees it has
 *  spent in its running window, before and after. */
export type ReassignmentPlan = {
  readonly requests: number;
  readonly costNanoUsd: NanoUsd;
  readonly staying: number;
  readonly budgets: readonly {
    readonly budget: Budget;
    readonly beforeNanoUsd: NanoUsd;
    readonly afterNanoUsd: NanoUsd;
  }[];
};

/** Of the attempts of spans that begin and end with such a quarter. */
export async function planReassignment(
  books: UsageBooks,
  { keyId, from, to }: Pick<Reassignment, "keyId" | "from" | "to">,
  spans: readonly Span[],
  calendar: Calendar,
  nowMs: number,
): Promise<ReassignmentPlan> {
  const quarter = sql<bigint>`${booked.atMs} / ${sql.raw(String(QUARTER_MS))}`;
  const owner = { team: booked.team, project: booked.project, env: booked.env, user: booked.user };
  const budgets = await readBudgets(books);
  const windows = new Map(budgets.map((budget) => [budget.id, calendar.window(budget.window, nowMs)]));
  const grouped = await tablesOf(books)
    .select({
      quarter,
      provider: booked.provider,
      model: booked.requestedModel,
      servedModel: booked.model,
      ...owner,
      requests: sql<bigint>`COUNT(*)`,
      cost: sql<bigint>`SUM(${booked.bookedNanoUsd})`,
    })
    .from(booked)
    .where(
      and(
        gte(booked.attemptId, firstAttemptId(oldestMs(spans[0]?.sinceMs ?? nowMs, windows.values()))),
        eq(booked.keyId, keyId),
      ),
    )
    .groupBy(quarter, booked.provider, booked.requestedModel, booked.model, ...Object.values(owner))
    .orderBy(quarter, booked.provider, booked.requestedModel, booked.model, ...Object.values(owner))
    .all();
  const rows = grouped.map(({ quarter: number, ...row }) => ({ ...row, keyId, atMs: Number(number) * QUARTER_MS }));
  const pieces = rows.map((before) => {
    const isAsked = spans.some(({ sinceMs, untilMs = Infinity }) => before.atMs >= sinceMs && before.atMs < untilMs);
    const after = isAsked ? ownerAfter(before, { from, to }) : before;
    return { before, after, isAsked, isMoved: PARTS.some((part) => before[part] !== after[part]) };
  });
  const owners = (await answerIn(books, askTagsCount())) ? undefined : await answerIn(books, askOwners());
  const ownBefore = ownNamesOf(owners);
  const ownAfter = ownNamesOf(owners, { keyId, names: to });
  const moved = pieces.filter(({ isMoved }) => isMoved);
  const seen: { budget: Budget; beforeNanoUsd: NanoUsd; afterNanoUsd: NanoUsd }[] = [];
  for (const budget of budgets) {
    const window = windows.get(budget.id) ?? calendar.window(budget.window, nowMs);
    let delta = 0n;
    let isSeen = false;
    // Also of what stays where it is: a name that was only a tag's may become the key's own.
    for (const { before, after } of pieces) {
      const was = covers(budget.scope, ownBefore(before));
      const is = covers(budget.scope, ownAfter(after));
      if (was === is) continue;
      isSeen = true;
      if (before.atMs >= window.startMs && before.atMs < window.endMs) delta += is ? before.cost : -before.cost;
    }
    if (!isSeen) continue;
    const beforeNanoUsd = await readSettled(books, budget, window);
    seen.push({ budget, beforeNanoUsd, afterNanoUsd: beforeNanoUsd + delta });
  }
  return {
    requests: moved.reduce((sum, { before }) => sum + Number(before.requests), 0),
    costNanoUsd: moved.reduce((sum, { before }) => sum + before.cost, 0n),
    staying: pieces
      .filter(
        ({ isAsked, isMoved, before }) =>
          isAsked && !isMoved && PARTS.some((part) => to[part] !== undefined && to[part] !== before[part]),
      )
      .reduce((sum, { before }) => sum + Number(before.requests), 0),
    budgets: seen,
  };
}

/** As far back as anything that is shown reaches; a budget over all time does not make it read all time for what does
 *  not move. */
function oldestMs(sinceMs: number, windows: Iterable<{ readonly startMs: number }>): number {
  let oldest = sinceMs;
  for (const { startMs } of windows) if (startMs > 0 && startMs < oldest) oldest = startMs;
  return oldest;
}
