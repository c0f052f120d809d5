// What budgets have spent: sums over the rollups and, where an hour counts, the events, by what a scope covers. Reads
// only.
import {
  covers,
  isOverridden,
  memberBudget,
  MOST_MEMBERS,
  OTHER_MEMBERS,
  placesOf,
  ruleOf,
  splitTag,
} from "../budgets.ts";
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
import { readSpend, tagPath } from "./spend.ts";
import { rowsOf, tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { HOUR_MS } from "../windows.ts";
import type { Window } from "../windows.ts";

/** Whether what a tag names counts in budgets of that name, as the program that writes the books was told. Otherwise
 *  only what the key itself belongs to does: nobody spends another's budget by naming it. */
export function* askTagsCount(): Asking<boolean> {
  // Books of before this was asked counted them.
  return (yield* askValue("SELECT value FROM meta WHERE name = 'tags_in_budgets'")) !== "0";
}

/** The names that count in budgets, of a subject whose names may come from tags. */
export type OwnNames = <T extends Pick<Subject, "keyId" | "tags" | (typeof NAMED)[number]>>(subject: T) => T;

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
  const tagging = new Set(owners.flatMap(([keyId, part]) => (part === "tag" ? [keyId] : [])));
  return (subject) => {
    const notOwn = NAMED.filter(
      (part) =>
        !own.has(`${subject.keyId}\n${part}\n${subject[part]}`) &&
        !(part === "user" && own.has(`${subject.keyId}\nuser\n${ANYBODY}`)),
    );
    if (notOwn.length === 0 && !subject.tags) return subject;
    const tags = subject.tags && tagging.has(subject.keyId) ? ownTags(subject.tags, subject.keyId, own) : undefined;
    return { ...subject, ...(Object.fromEntries(notOwn.map((part) => [part, ""])) as Partial<typeof subject>), tags };
  };
}

/** Of tags those that all requests of the key carry, or once did. */
function ownTags(tags: string, keyId: string, own: ReadonlySet<string>): string {
  const named = Object.entries(JSON.parse(tags) as { readonly [name: string]: unknown });
  return JSON.stringify(
    Object.fromEntries(named.filter(([name, value]) => own.has(`${keyId}\ntag\n${name}=${String(value)}`))),
  );
}

/** A name that is a key's own; of a tag `customer=acme`. */
export type KeyOwner = readonly [keyId: string, part: (typeof NAMED)[number] | "tag", value: string];

/** Which names count in budgets, as the books have it now. */
export async function readOwnNames(books: UsageBooks): Promise<OwnNames> {
  const tagsCount = await answerIn(books, askTagsCount());
  return ownNamesOf(tagsCount ? undefined : await answerIn(books, askOwners()));
}

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
  const doCount = tagsCount ?? (yield* askTagsCount());
  const { ruleId, othersOf: each } = budget;
  if (ruleId !== undefined && each !== undefined)
    return (yield* askMembers({ ...budget, id: ruleId, each }, window, doCount)).get(OTHER_MEMBERS) ?? 0n;
  if (budget.each !== undefined) throw new TypeError(`${budget.id} has no sum of its own: read its members`);
  const [row] = yield* askSql<[bigint | null]>(settledQuery(budget, window, doCount));
  return row?.[0] ?? 0n;
}

/** The settled sum of each member of a rule in a window, those with the most first; of those beyond `most` in one. */
export function* askMembers(
  rule: Budget,
  window: Window,
  tagsCount?: boolean,
  most = MOST_MEMBERS,
): Asking<Map<string, NanoUsd>> {
  const doCount = tagsCount ?? (yield* askTagsCount());
  const rows = yield* askSql<[member: string, settled: bigint | null]>(membersQuery(rule, window, doCount));
  const members = new Map<string, NanoUsd>();
  for (const [member, settled] of rows) {
    const id = members.size < most ? member : OTHER_MEMBERS;
    members.set(id, (members.get(id) ?? 0n) + (settled ?? 0n));
  }
  return members;
}

/** The caps of a rule's members that have spent, or are raised, in a window, with what each has spent. */
export async function readMembers(
  books: UsageBooks,
  rule: Budget,
  budgets: readonly Budget[],
  window: Window,
): Promise<{ readonly budget: Budget; readonly settledNanoUsd: NanoUsd }[]> {
  const settled = await answerIn(books, askMembers(rule, window));
  for (const { budgetId } of rule.raises ?? []) {
    const { member } = ruleOf(budgetId);
    if (member !== undefined && !settled.has(member)) settled.set(member, 0n);
  }
  const places = placesOf(budgets);
  return [...settled]
    .map(([member, settledNanoUsd]) => ({ budget: memberBudget(rule, member), settledNanoUsd }))
    .filter(({ budget }) => !isOverridden(budget, places));
}

/** Where sums of a budget stand: tags stand with events alone, and so do hours of any zone. */
function sourceOf({ scope, each, window }: Budget): typeof booked | typeof rollupDay {
  return window === "hour" || scope.tag !== undefined || each?.startsWith("tag:") === true ? booked : rollupDay;
}

function settledQuery(budget: Budget, window: Window, tagsCount: boolean): SQL {
  const source = sourceOf(budget);
  return sql`SELECT SUM(${costOf(source)}) FROM ${source} WHERE ${and(...liesIn(budget, window, tagsCount))}`;
}

function membersQuery(rule: Budget, window: Window, tagsCount: boolean): SQL {
  const source = sourceOf(rule);
  const member = memberColumn(rule);
  const isOwn = tagsCount || rule.each === "key" ? undefined : isOwnMember(rule, member);
  const conditions = and(...liesIn(rule, window, tagsCount), sql`${member} <> ''`, isOwn);
  return sql`SELECT ${member}, SUM(${costOf(source)}) FROM ${source} WHERE ${conditions} GROUP BY 1 ORDER BY 2 DESC, 1`;
}

function costOf(source: typeof booked | typeof rollupDay): AnySQLiteColumn {
  return source === rollupDay ? rollupDay.costNanoUsd : booked.bookedNanoUsd;
}

/** What tells a rule's members apart. */
function memberColumn(rule: Budget): SQL {
  const { user, keyId } = sourceOf(rule);
  if (rule.each === "user") return sql`${user}`;
  if (rule.each === "key") return sql`${keyId}`;
  return tagColumn((rule.each ?? "").slice("tag:".length));
}

/** The value of a tag; empty: it has none. */
function tagColumn(name: string): SQL {
  return sql`COALESCE(json_extract(${booked.tags}, ${tagPath(`tag:${name}`)}), '')`;
}

function isOwnMember(rule: Budget, member: SQL): SQL {
  const { keyId } = sourceOf(rule);
  const part = rule.each === "user" ? sql`'user'` : sql`'tag'`;
  const value = rule.each === "user" ? member : sql`${`${rule.each?.slice("tag:".length) ?? ""}=`} || ${member}`;
  return sql`EXISTS (SELECT 1 FROM key_owners WHERE key_owners.key_id = ${keyId} AND part = ${part}
    AND (value = ${value}${rule.each === "user" ? sql` OR value = ${ANYBODY}` : sql``}))`;
}

/** Conditions on the place where a budget's sums stand: in its window and its scope. */
function liesIn(budget: Budget, window: Window, tagsCount: boolean): (SQL | undefined)[] {
  const { scope } = budget;
  const source = sourceOf(budget);
  const { team, project, env, user, keyId, provider, model, requestedModel } = source;
  const inTime = (): SQL[] => {
    if (source === rollupDay) return [gte(rollupDay.day, window.firstDay), lt(rollupDay.day, window.endDay)];
    // Ids begin in 2024: a window without an end holds them all.
    if (budget.window === "total") return [];
    return [gte(booked.attemptId, firstAttemptId(window.startMs)), lt(booked.attemptId, firstAttemptId(window.endMs))];
  };
  return [
    ...inTime(),
    ...parts(scope, tagsCount, { team, project, env, user, keyId, provider }),
    fitsModel(scope, model, requestedModel),
    ...fitsTag(scope, tagsCount, keyId),
  ];
}

/** Of single events. */
function fitsTag({ tag }: Scope, tagsCount: boolean, keyId: AnySQLiteColumn): SQL[] {
  if (tag === undefined) return [];
  const [name, value] = splitTag(tag);
  const owned = sql`${keyId} IN (SELECT key_id FROM key_owners WHERE part = 'tag' AND value = ${tag})`;
  return [sql`${tagColumn(name)} = ${value}`, ...(tagsCount ? [] : [owned])];
}

/** The settled sums of many budgets, each in its own window, by id: budgets that look at owners and providers share a
 *  walk of their window's days. Rules have none: their members do. */
export async function readAllSettled(
  books: UsageBooks,
  budgets: readonly Budget[],
  windowOf: (budget: Budget) => Window,
): Promise<Map<string, NanoUsd>> {
  const found = new Map<string, NanoUsd>();
  const tagsCount = await answerIn(books, askTagsCount());
  const ownNames = await readOwnNames(books);
  const shared = new Map<string, { readonly window: Window; readonly budgets: Budget[] }>();
  for (const budget of budgets) {
    const window = windowOf(budget);
    if (budget.each !== undefined) continue;
    if (sourceOf(budget) === booked || budget.scope.model !== undefined) {
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
  const tagsCount = await answerIn(books, askTagsCount());
  if (scope.tag !== undefined) return readTaggedHours(books, scope, tagsCount, sinceMs, untilMs);
  const rows = await tablesOf(books)
    .select({ hourMs: rollupHour.hourMs, cost: sql<bigint>`SUM(${rollupHour.costNanoUsd})` })
    .from(rollupHour)
    .where(
      and(
        gte(rollupHour.hourMs, sinceMs),
        lt(rollupHour.hourMs, untilMs),
        ...parts(scope, tagsCount, { ...HOUR_COLUMNS, keyId: HOUR_COLUMNS.key }),
        fitsModel(scope, rollupHour.model, rollupHour.requestedModel),
      ),
    )
    .groupBy(rollupHour.hourMs)
    .orderBy(rollupHour.hourMs)
    .all();
  return new Map(rows.map(({ hourMs, cost }) => [hourMs, cost]));
}

async function readTaggedHours(
  books: UsageBooks,
  scope: Scope,
  tagsCount: boolean,
  sinceMs: number,
  untilMs: number,
): Promise<Map<number, NanoUsd>> {
  const { team, project, env, user, keyId, provider } = booked;
  const hour = sql<bigint>`${booked.atMs} / ${sql.raw(String(HOUR_MS))}`;
  const rows = await tablesOf(books)
    .select({ hour, cost: sql<bigint>`SUM(${booked.bookedNanoUsd})` })
    .from(booked)
    .where(
      and(
        gte(booked.attemptId, firstAttemptId(sinceMs)),
        lt(booked.attemptId, firstAttemptId(untilMs)),
        ...parts(scope, tagsCount, { team, project, env, user, keyId, provider }),
        fitsModel(scope, booked.model, booked.requestedModel),
        ...fitsTag(scope, tagsCount, keyId),
      ),
    )
    .groupBy(sql.raw("1"))
    .orderBy(sql.raw("1"))
    .all();
  return new Map(rows.map(({ hour: number, cost }) => [Number(number) * HOUR_MS, cost]));
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
