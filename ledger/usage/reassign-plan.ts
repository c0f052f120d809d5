// What a correction of whose spend it is would do, before it is done: how much moves, and what each budget that sees it
// has spent. Reads only.
import { answerIn } from "../asking.ts";
import { QUARTER_MS } from "../windows.ts";
import { covers, holdFor, placesOf } from "../budgets.ts";
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
      tags: booked.tags,
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
    .groupBy(quarter, booked.provider, booked.requestedModel, booked.model, booked.tags, ...Object.values(owner))
    .orderBy(quarter, booked.provider, booked.requestedModel, booked.model, booked.tags, ...Object.values(owner))
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
  const places = placesOf(budgets);
  const deltas = new Map<string, { readonly budget: Budget; delta: NanoUsd }>();
  // Also of what stays where it is: a name that was only a tag's may become the key's own.
  for (const { before, after } of pieces) {
    const was = holdFor(budgets, ownBefore(before), places, covers);
    const is = holdFor(budgets, ownAfter(after), places, covers);
    const add = (budget: Budget, cost: NanoUsd): void => {
      const one = deltas.get(budget.id) ?? { budget, delta: 0n };
      deltas.set(budget.id, one);
      const { startMs, endMs } = calendar.window(budget.window, nowMs);
      if (before.atMs >= startMs && before.atMs < endMs) one.delta += cost;
    };
    for (const budget of was) if (!is.some(({ id }) => id === budget.id)) add(budget, -before.cost);
    for (const budget of is) if (!was.some(({ id }) => id === budget.id)) add(budget, before.cost);
  }
  const seen: { budget: Budget; beforeNanoUsd: NanoUsd; afterNanoUsd: NanoUsd }[] = [];
  for (const { budget, delta } of deltas.values()) {
    const beforeNanoUsd = await readSettled(books, budget, calendar.window(budget.window, nowMs));
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
