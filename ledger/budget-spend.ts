// What budgets have spent: sums over the rollups and, where an hour counts, the events, by what a scope covers. Reads only.
import { covers } from "./budgets.ts";
import type { Budget, Scope } from "./budgets.ts";
import { and, drizzle, eq, gte, lt, sql } from "./drizzle.ts";
import type { AnySQLiteColumn, SQL } from "./drizzle.ts";
import { firstAttemptId } from "./ids.ts";
import type { NanoUsd } from "./money.ts";
import type { Sqlite } from "./open.ts";
import { events, rollupDay, rollupHour } from "./schema.ts";
import { adjusted, HOUR_COLUMNS, readSpend } from "./spend.ts";
import type { Window } from "./windows.ts";

/** The settled sum of a budget in a window, folded from the books: whole days from the day rollup, hours from events. */
export function readSettled(database: Sqlite, budget: Budget, window: Window): NanoUsd {
  const { scope } = budget;
  if (budget.window === "hour") {
    const row = drizzle(database)
      .select({ cost: sql<bigint | null>`SUM(COALESCE(${events.costNanoUsd}, 0) + ${adjusted("amount_nano_usd")})` })
      .from(events)
      .where(
        and(
          gte(events.attemptId, firstAttemptId(window.startMs)),
          lt(events.attemptId, firstAttemptId(window.endMs)),
          ...parts(scope, {
            team: events.team,
            project: events.project,
            env: events.env,
            keyId: events.keyId,
            provider: events.provider,
          }),
          fitsModel(scope, events.servedModel, events.requestedModel),
        ),
      )
      .get();
    return BigInt(row?.cost ?? 0);
  }
  const row = drizzle(database)
    .select({ cost: sql<bigint | null>`SUM(${rollupDay.costNanoUsd})` })
    .from(rollupDay)
    .where(
      and(
        gte(rollupDay.day, window.firstDay),
        lt(rollupDay.day, window.endDay),
        ...parts(scope, {
          team: rollupDay.team,
          project: rollupDay.project,
          env: rollupDay.env,
          keyId: rollupDay.keyId,
          provider: rollupDay.provider,
        }),
        fitsModel(scope, rollupDay.model, rollupDay.requestedModel),
      ),
    )
    .get();
  return BigInt(row?.cost ?? 0);
}

/** The settled sums of many budgets, each in its own window, by id: budgets that look at owners and providers share a walk of their window's days. */
export async function readAllSettled(
  database: Sqlite,
  budgets: readonly Budget[],
  windowOf: (budget: Budget) => Window,
): Promise<Map<string, NanoUsd>> {
  const found = new Map<string, NanoUsd>();
  const shared = new Map<string, { readonly window: Window; readonly budgets: Budget[] }>();
  for (const budget of budgets) {
    const window = windowOf(budget);
    if (budget.window === "hour" || budget.scope.model !== undefined) {
      found.set(budget.id, readSettled(database, budget, window));
      continue;
    }
    const name = `${window.firstDay} ${window.endDay}`;
    const group = shared.get(name) ?? { window, budgets: [] };
    group.budgets.push(budget);
    shared.set(name, group);
  }
  for (const { window, budgets: own } of shared.values()) {
    const rows = await readSpend(
      database,
      ["key", "team", "project", "env", "provider"],
      window.firstDay,
      window.endDay,
    );
    for (const { id, scope } of own) {
      let settled = 0n;
      for (const { group, costNanoUsd } of rows) {
        const { key: keyId = "", team = "", project = "", env = "", provider = "" } = group;
        if (covers(scope, { keyId, team, project, env, provider, model: "" })) settled += costNanoUsd;
      }
      found.set(id, settled);
    }
  }
  return found;
}

/** Spend of the UTC hours `[sinceMs, untilMs)` inside a budget's scope, by the hour's start. */
export function readHoursInScope(
  database: Sqlite,
  scope: Scope,
  sinceMs: number,
  untilMs: number,
): Map<number, NanoUsd> {
  const rows = drizzle(database)
    .select({ hourMs: rollupHour.hourMs, cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})` })
    .from(rollupHour)
    .where(
      and(
        gte(rollupHour.hourMs, sinceMs),
        lt(rollupHour.hourMs, untilMs),
        ...parts(scope, { ...HOUR_COLUMNS, keyId: HOUR_COLUMNS.key }),
        fitsModel(scope, rollupHour.model, rollupHour.requestedModel),
      ),
    )
    .groupBy(rollupHour.hourMs)
    .all();
  return new Map(rows.map(({ hourMs, cost }) => [hourMs, cost]));
}

/** As `covers` reads it: only `*` stands for anything. */
function fitsModel({ model }: Scope, served: AnySQLiteColumn, requested: AnySQLiteColumn): SQL | undefined {
  if (model === undefined) return undefined;
  const pattern = model.replace(/[[?]/g, "[$&]");
  return sql`(${served} GLOB ${pattern} OR ${requested} GLOB ${pattern})`;
}

function parts(
  scope: Scope,
  columns: { readonly [part in "team" | "project" | "env" | "keyId" | "provider"]: AnySQLiteColumn },
): (SQL | undefined)[] {
  return (["team", "project", "env", "keyId", "provider"] as const).map((part) =>
    scope[part] === undefined ? undefined : eq(columns[part], scope[part]),
  );
}
