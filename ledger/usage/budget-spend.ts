// What budgets have spent: sums over the rollups and, where an hour counts, the events, by what a scope covers. Reads
// only.
import { covers } from "../budgets.ts";
import type { Budget, Scope, Subject } from "../budgets.ts";
import { answerIn, ask, askSql, askValue } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { and, eq, gte, lt, sql } from "../drizzle.ts";
import { matches } from "../sql.ts";
import type { AnySQLiteColumn, SQL } from "../drizzle.ts";
import { firstAttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { booked, rollupDay, rollupHour } from "./schema.ts";
import { HOUR_COLUMNS } from "./hours.ts";
import { readSpend } from "./spend.ts";
import { rowsOf, tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import type { Window } from "../windows.ts";

/** Whether what a tag names counts in budgets of that name, as the program that writes the books was told. Otherwise
 *  only what the key itself belongs to does: nobody spends another's budget by naming it. */
export function* askTagsCount(): Asking<boolean> {
  // Books of before this was asked counted them.
  return (yield* askValue("SELECT value FROM meta WHERE name = 'tags_in_budgets'")) !== "0";
}

/** The names that count in budgets, of a subject whose names may come from tags. */
export type OwnNames = <T extends Pick<Subject, "keyId" | (typeof NAMED)[number]>>(subject: T) => T;

export const NAMED = ["team", "project", "env", "user"] as const;
/** Of a key whose requests may name anybody. */
export const ANYBODY = "*";

/** Which names are keys' own, of what each belongs to or once did. `owners` undefined: tags count, and all are. `more`:
 *  what one of them is about to belong to. */
export function ownNamesOf(
  owners: readonly KeyOwner[] | undefined,
  more?: { readonly keyId: string; readonly names: { readonly [part in (typeof NAMED)[number]]?: string | undefined } },
): OwnNames {
  if (owners === undefined) return (subject) => subject;
  const own = new Set(owners.map((row) => row.join("\n")));
  for (const part of NAMED) if (more?.names[part]) own.add(`${more.keyId}\n${part}\n${more.names[part]}`);
  return (subject) => {
    const notOwn = NAMED.filter(
      (part) =>
        !own.has(`${subject.keyId}\n${part}\n${subject[part]}`) &&
        !(part === "user" && own.has(`${subject.keyId}\nuser\n${ANYBODY}`)),
    );
    if (notOwn.length === 0) return subject;
    return { ...subject, ...(Object.fromEntries(notOwn.map((part) => [part, ""])) as Partial<typeof subject>) };
  };
}

/** A name that is a key's own. */
export type KeyOwner = readonly [keyId: string, part: (typeof NAMED)[number], value: string];

export function* askOwners(): Asking<readonly KeyOwner[]> {
  return yield* ask<KeyOwner>("SELECT key_id, part, value FROM key_owners ORDER BY key_id, part, value");
}

/** A name is the key's own from now on. */
export function* noteOwner(...owner: KeyOwner): Asking<void> {
  yield* ask("INSERT INTO key_owners (key_id, part, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", ...owner);
}

/** What a key belongs to, or once did. */
export async function readKeyOwners(
  books: UsageBooks,
  keyId: string,
): Promise<{ readonly [part in (typeof NAMED)[number]]: string[] }> {
  const rows = await rowsOf<[part: string, value: string]>(
    books,
    "SELECT part, value FROM key_owners WHERE key_id = ? ORDER BY value",
    keyId,
  );
  const of = (wanted: string): string[] => rows.flatMap(([part, value]) => (part === wanted ? [value] : []));
  return { team: of("team"), project: of("project"), env: of("env"), user: of("user") };
}

/** The settled sum of a budget in a window, folded from the books: whole days from the day rollup, hours from
 *  events. */
export function readSettled(books: UsageBooks, budget: Budget, window: Window): Promise<NanoUsd> {
  return answerIn(books, askSettled(budget, window));
}

export function* askSettled(budget: Budget, window: Window, tagsCount?: boolean): Asking<NanoUsd> {
  const [row] = yield* askSql<[bigint | null]>(settledQuery(budget, window, tagsCount ?? (yield* askTagsCount())));
  return row?.[0] ?? 0n;
}

function settledQuery({ scope, window: unit }: Budget, window: Window, tagsCount: boolean): SQL {
  const { team, project, env, user, keyId, provider, model, requestedModel } = unit === "hour" ? booked : rollupDay;
  const conditions = [
    ...(unit === "hour"
      ? [gte(booked.attemptId, firstAttemptId(window.startMs)), lt(booked.attemptId, firstAttemptId(window.endMs))]
      : [gte(rollupDay.day, window.firstDay), lt(rollupDay.day, window.endDay)]),
    ...parts(scope, tagsCount, { team, project, env, user, keyId, provider }),
    fitsModel(scope, model, requestedModel),
  ];
  const [cost, from] = unit === "hour" ? [booked.bookedNanoUsd, booked] : [rollupDay.costNanoUsd, rollupDay];
  return sql`SELECT SUM(${cost}) FROM ${from} WHERE ${and(...conditions)}`;
}

/** The settled sums of many budgets, each in its own window, by id: budgets that look at owners and providers share a
 *  walk of their window's days. */
export async function readAllSettled(
  books: UsageBooks,
  budgets: readonly Budget[],
  windowOf: (budget: Budget) => Window,
): Promise<Map<string, NanoUsd>> {
  const found = new Map<string, NanoUsd>();
  const tagsCount = await answerIn(books, askTagsCount());
  const ownNames = ownNamesOf(tagsCount ? undefined : await answerIn(books, askOwners()));
  const shared = new Map<string, { readonly window: Window; readonly budgets: Budget[] }>();
  for (const budget of budgets) {
    const window = windowOf(budget);
    if (budget.window === "hour" || budget.scope.model !== undefined) {
      found.set(budget.id, await answerIn(books, askSettled(budget, window, tagsCount)));
      continue;
    }
    const name = `${window.firstDay} ${window.endDay}`;
    const group = shared.get(name) ?? { window, budgets: [] };
    group.budgets.push(budget);
    shared.set(name, group);
  }
  for (const { window, budgets: own } of shared.values()) {
    const rows = await readSpend(
      books,
      ["key", "team", "project", "env", "user", "provider"],
      window.firstDay,
      window.endDay,
    );
    for (const { id, scope } of own) {
      let settled = 0n;
      for (const { group, costNanoUsd } of rows) {
        const { key: keyId = "", team = "", project = "", env = "", user = "", provider = "" } = group;
        if (covers(scope, ownNames({ keyId, team, project, env, user, provider, model: "" }))) settled += costNanoUsd;
      }
      found.set(id, settled);
    }
  }
  return found;
}

/** Spend of the UTC hours `[sinceMs, untilMs)` inside a budget's scope, by the hour's start. */
export async function readHoursInScope(
  books: UsageBooks,
  scope: Scope,
  sinceMs: number,
  untilMs: number,
): Promise<Map<number, NanoUsd>> {
  const rows = await tablesOf(books)
    .select({ hourMs: rollupHour.hourMs, cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})` })
    .from(rollupHour)
    .where(
      and(
        gte(rollupHour.hourMs, sinceMs),
        lt(rollupHour.hourMs, untilMs),
        ...parts(scope, await answerIn(books, askTagsCount()), { ...HOUR_COLUMNS, keyId: HOUR_COLUMNS.key }),
        fitsModel(scope, rollupHour.model, rollupHour.requestedModel),
      ),
    )
    .groupBy(rollupHour.hourMs)
    .orderBy(rollupHour.hourMs)
    .all();
  return new Map(rows.map(({ hourMs, cost }) => [hourMs, cost]));
}

/** As `covers` reads it: only `*` stands for anything. */
function fitsModel({ model }: Scope, served: AnySQLiteColumn, requested: AnySQLiteColumn): SQL | undefined {
  if (model === undefined) return undefined;
  return sql`(${matches(served, model)} OR ${matches(requested, model)})`;
}

function parts(
  scope: Scope,
  tagsCount: boolean,
  columns: { readonly [part in "team" | "project" | "env" | "user" | "keyId" | "provider"]: AnySQLiteColumn },
): (SQL | undefined)[] {
  const named = (["team", "project", "env", "user", "keyId", "provider"] as const).map((part) =>
    scope[part] === undefined ? undefined : eq(columns[part], scope[part]),
  );
  const owned = NAMED.map((part) =>
    scope[part] === undefined || tagsCount
      ? undefined
      : sql`${columns.keyId} IN (SELECT key_id FROM key_owners WHERE part = ${part} AND value IN (${scope[part]}, ${part === "user" ? ANYBODY : scope[part]}))`,
  );
  return [...named, ...owned];
}
