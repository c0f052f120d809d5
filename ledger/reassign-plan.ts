// What a correction of whose spend it is would do, before it is done: how much moves, and what each budget that sees it has spent. Reads only.
import { covers } from "./budgets.ts";
import type { Budget } from "./budgets.ts";
import { doTagsCount, readOwnNames, readSettled } from "./budget-spend.ts";
import { readBudgets } from "./changes.ts";
import { and, drizzle, eq, gte, sql } from "./drizzle.ts";
import type { Key } from "./keys.ts";
import type { NanoUsd } from "./money.ts";
import type { Sqlite } from "./open.ts";
import { ownerAfter, PARTS } from "./reassign.ts";
import type { Owner } from "./reassign.ts";
import { rollupHour } from "./schema.ts";
import type { Calendar } from "./windows.ts";

/** What a correction would move, and what each budget that sees it has spent in its running window, before and after. */
export type ReassignmentPlan = {
  readonly requests: number;
  readonly costNanoUsd: NanoUsd;
  readonly budgets: readonly {
    readonly budget: Budget;
    readonly beforeNanoUsd: NanoUsd;
    readonly afterNanoUsd: NanoUsd;
  }[];
};

/** By whole UTC hours, from the one in which `sinceMs` lies. */
export async function planReassignment(
  database: Sqlite,
  key: Pick<Key, "id" | "team" | "project" | "env">,
  to: Owner,
  sinceMs: number,
  calendar: Calendar,
  nowMs: number,
): Promise<ReassignmentPlan> {
  const rows = drizzle(database)
    .select({
      hourMs: rollupHour.hourMs,
      provider: rollupHour.provider,
      model: rollupHour.requestedModel,
      servedModel: rollupHour.model,
      team: rollupHour.team,
      project: rollupHour.project,
      env: rollupHour.env,
      requests: sql<bigint>`SUM(${rollupHour.requests})`,
      cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})`,
    })
    .from(rollupHour)
    .where(and(eq(rollupHour.keyId, key.id), gte(rollupHour.hourMs, sinceMs - (sinceMs % 3_600_000))))
    .groupBy(
      rollupHour.hourMs,
      rollupHour.provider,
      rollupHour.requestedModel,
      rollupHour.model,
      rollupHour.team,
      rollupHour.project,
      rollupHour.env,
    )
    .all()
    .map((row) => ({ ...row, keyId: key.id }));
  const moved = rows
    .map((before) => ({ before, after: ownerAfter(before, { from: key, to }) }))
    .filter(({ before, after }) => PARTS.some((part) => before[part] !== after[part]));
  const tagsCount = doTagsCount(database);
  const ownBefore = readOwnNames(database, tagsCount);
  // Afterwards what the key belongs to is its own, whatever tags count for.
  const ownAfter: typeof ownBefore = (subject) =>
    tagsCount
      ? subject
      : {
          ...subject,
          ...Object.fromEntries(PARTS.filter((part) => (to[part] ?? key[part]) === "").map((part) => [part, ""])),
        };
  const budgets = readBudgets(database).flatMap((budget) => {
    const window = calendar.window(budget.window, nowMs);
    let delta = 0n;
    let isSeen = false;
    for (const { before, after } of moved) {
      const was = covers(budget.scope, ownBefore(before));
      const is = covers(budget.scope, ownAfter(after));
      if (was === is) continue;
      isSeen = true;
      if (before.hourMs < window.startMs || before.hourMs >= window.endMs) continue;
      delta += is ? before.cost : -before.cost;
    }
    if (!isSeen) return [];
    const beforeNanoUsd = readSettled(database, budget, window, tagsCount);
    return [{ budget, beforeNanoUsd, afterNanoUsd: beforeNanoUsd + delta }];
  });
  return {
    requests: moved.reduce((sum, { before }) => sum + Number(before.requests), 0),
    costNanoUsd: moved.reduce((sum, { before }) => sum + before.cost, 0n),
    budgets,
  };
}
