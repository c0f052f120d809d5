// Changes to the register: keys, budgets, raises, limits, freezes; and corrections. Each is one function over the
// writer's connection, called inside its transaction together with the audit record. The admin API and the command end
// here, both.
import { and, drizzle, eq, isNull } from "../drizzle.ts";
import { createHash } from "node:crypto";
import { addAdjustments, digestAdjustments } from "./adjustments.ts";
import type { Adjustment } from "./adjustments.ts";
import { appendAudit, readAuditHead } from "./audit.ts";
import { isSamePlace, SCOPE_PARTS } from "../budgets.ts";
import { ChangeRefused } from "./change-refused.ts";
import type { Budget, Freeze, Raise, Scope } from "../budgets.ts";
import type { Key, KeyState } from "./keys.ts";
import type { KeyPolicy } from "./key-policy.ts";
import type { Limits } from "./limits.ts";
import type { UsageBooks } from "../books.ts";
import type { Sqlite } from "../sqlite.ts";
import { tablesOf } from "../engine.ts";
import { applyReassignment } from "./reassign.ts";
import type { Reassignment } from "./reassign.ts";
import type { Rollups } from "./rollups.ts";
import { budgets, freezes, keys, keySecrets, limits, raises } from "./schema.ts";

/** A change as plain data, so that it can be sent to the writer thread. */
export type Change =
  | { readonly type: "createKey"; readonly key: Key; readonly digest: string; readonly budget?: Budget }
  | { readonly type: "setKeyState"; readonly keyId: string; readonly state: KeyState }
  | {
      readonly type: "rotateKey";
      readonly keyId: string;
      readonly digest: string;
      readonly hint: string;
      readonly graceUntilMs: number;
    }
  | {
      readonly type: "describeKey";
      readonly keyId: string;
      readonly fields: Partial<Pick<Key, "name" | "team" | "project" | "env" | "owner" | "purpose">>;
    }
  | { readonly type: "setBudget"; readonly budget: Budget }
  | { readonly type: "removeBudget"; readonly budgetId: string }
  | { readonly type: "raiseBudget"; readonly raise: Raise }
  | { readonly type: "endRaise"; readonly raiseId: string }
  | { readonly type: "setPolicy"; readonly keyId: string; readonly policy: KeyPolicy }
  | { readonly type: "setLimits"; readonly limits: Limits }
  | { readonly type: "removeLimits"; readonly scope: string }
  | { readonly type: "freeze"; readonly freeze: Freeze }
  | { readonly type: "lift"; readonly freezeId: string }
  /** Books what is held for work that nobody fetches; booking.ts does that, beside the record that is made here. */
  | { readonly type: "closeWork"; readonly workId: string }
  /** The machine's clock is right, whatever the books or the time since its start say. */
  | { readonly type: "acceptClock" }
  | { readonly type: "adjust"; readonly adjustments: readonly Adjustment[] }
  /** What a key has spent already is another's. */
  | ({ readonly type: "reassign" } & Reassignment)
  /** All of them or none. */
  | { readonly type: "together"; readonly changes: readonly Change[] };

export type Author = { readonly actor: string; readonly atMs: number };

/** Makes a change and its audit record. Throws ChangeRefused when it makes no sense in the books as they are. */
export function applyChange(database: Sqlite, rollups: Rollups, change: Change, author: Author): void {
  if (change.type === "together") {
    for (const one of change.changes) applyChange(database, rollups, one, author);
    return;
  }
  const said = detailOf(change);
  const detail = make(database, rollups, change, author) ?? said;
  appendAudit(database, { ...author, action: change.type, subject: subjectOf(change), detail });
}

type Single = Exclude<Change, { type: "together" }>;

/** Returns what the audit says of it, where that is not the change itself. */
function make(database: Sqlite, rollups: Rollups, change: Single, author: Author): string | undefined {
  switch (change.type) {
    case "createKey":
      return createKey(database, change, author);
    case "setKeyState":
      return setKeyState(database, change);
    case "rotateKey":
      return rotateKey(database, change, author);
    case "describeKey":
      return describeKey(database, change);
    case "setPolicy":
      return setPolicy(database, change);
    case "setBudget":
      return insertBudget(database, change.budget);
    case "removeBudget":
      return removeBudget(database, change, author);
    case "raiseBudget":
      return raiseBudget(database, change, author);
    case "endRaise":
      return endRaise(database, change, author);
    case "setLimits":
      return setLimits(database, change);
    case "removeLimits":
      return removeLimits(database, change);
    case "freeze":
      return freeze(database, change);
    case "lift":
      return lift(database, change, author);
    // What these do is done beside the record.
    case "closeWork":
    case "acceptClock":
      return undefined;
    case "adjust": {
      const seq = readAuditHead(database).seq + 1;
      return adjustmentsText(addAdjustments(database, rollups, change.adjustments, author.atMs, seq));
    }
    case "reassign": {
      const seq = readAuditHead(database).seq + 1;
      return JSON.stringify({ ...change, events: applyReassignment(database, rollups, change, seq) });
    }
  }
}

type Of<T extends Change["type"]> = Extract<Change, { type: T }>;

function createKey(database: Sqlite, change: Of<"createKey">, { atMs }: Author): undefined {
  const books = drizzle(database);
  const namesakes = books.select().from(keys).where(eq(keys.name, change.key.name)).all();
  if (namesakes.some((key) => key.kind === "virtual" && key.state !== "revoked")) {
    throw new ChangeRefused(
      `a key named "${change.key.name}" exists already; choose another name, or rotate or revoke that one`,
    );
  }
  const { provider = null, expiresAtMs = null, policy, ...key } = change.key;
  books
    .insert(keys)
    .values({ ...key, provider, expiresAtMs, policy: policyText(policy) })
    .run();
  books
    .insert(keySecrets)
    .values({ digest: change.digest, keyId: key.id, createdAtMs: atMs, validUntilMs: null })
    .run();
  noteOwners(database, change.key.id, change.key);
  if (change.budget) insertBudget(database, change.budget);
}

function setKeyState(database: Sqlite, { keyId, state }: Of<"setKeyState">): undefined {
  const books = drizzle(database);
  const key = books.select().from(keys).where(eq(keys.id, keyId)).get();
  if (!key) throw new ChangeRefused(`there is no key ${keyId}; \`keymeter keys list\` shows them`);
  if (key.state === "revoked" && state !== "revoked")
    throw new ChangeRefused(`key ${key.id} is revoked, which is for ever; create a new one`);
  books.update(keys).set({ state }).where(eq(keys.id, key.id)).run();
}

function rotateKey(database: Sqlite, change: Of<"rotateKey">, { atMs }: Author): undefined {
  const books = drizzle(database);
  const key = books.select().from(keys).where(eq(keys.id, change.keyId)).get();
  if (!key || key.kind !== "virtual")
    throw new ChangeRefused(`there is no virtual key ${change.keyId}; only keys that we issued can be rotated`);
  if (key.state === "revoked") throw new ChangeRefused(`key ${key.id} is revoked; create a new one`);
  books
    .update(keySecrets)
    .set({ validUntilMs: change.graceUntilMs })
    .where(and(eq(keySecrets.keyId, key.id), isNull(keySecrets.validUntilMs)))
    .run();
  books
    .insert(keySecrets)
    .values({ digest: change.digest, keyId: key.id, createdAtMs: atMs, validUntilMs: null })
    .run();
  books.update(keys).set({ hint: change.hint }).where(eq(keys.id, key.id)).run();
}

function describeKey(database: Sqlite, { keyId, fields }: Of<"describeKey">): undefined {
  if (drizzle(database).update(keys).set(fields).where(eq(keys.id, keyId)).run().changes === 0)
    throw new ChangeRefused(`there is no key ${keyId}`);
  noteOwners(database, keyId, fields);
}

function setPolicy(database: Sqlite, { keyId, policy }: Of<"setPolicy">): undefined {
  const set = drizzle(database)
    .update(keys)
    .set({ policy: policyText(policy) })
    .where(eq(keys.id, keyId))
    .run();
  if (set.changes === 0) throw new ChangeRefused(`there is no key ${keyId}`);
}

function removeBudget(database: Sqlite, { budgetId }: Of<"removeBudget">, { atMs }: Author): undefined {
  const removed = drizzle(database)
    .update(budgets)
    .set({ removedAtMs: atMs })
    .where(and(eq(budgets.id, budgetId), isNull(budgets.removedAtMs)))
    .run();
  if (removed.changes === 0)
    throw new ChangeRefused(`there is no budget ${budgetId}; \`keymeter budgets list\` shows them`);
}

function raiseBudget(database: Sqlite, { raise }: Of<"raiseBudget">, { atMs }: Author): undefined {
  if (!budgetsIn(database).some(({ id }) => id === raise.budgetId))
    throw new ChangeRefused(`there is no budget ${raise.budgetId}; \`keymeter budgets list\` shows them`);
  if (raise.untilMs <= atMs || raise.untilMs <= raise.createdAtMs)
    throw new ChangeRefused("the raise would end before it begins");
  drizzle(database)
    .insert(raises)
    .values({ ...raise, endedAtMs: null })
    .run();
}

function endRaise(database: Sqlite, { raiseId }: Of<"endRaise">, { atMs }: Author): undefined {
  const ended = drizzle(database)
    .update(raises)
    .set({ endedAtMs: atMs })
    .where(and(eq(raises.id, raiseId), isNull(raises.endedAtMs)))
    .run();
  if (ended.changes === 0)
    throw new ChangeRefused(`there is no raise ${raiseId}; \`keymeter budgets list\` shows them`);
}

function setLimits(database: Sqlite, change: Of<"setLimits">): undefined {
  const {
    scope,
    requestsPerMinute = null,
    tokensPerMinute = null,
    concurrent = null,
    bodyBytes = null,
  } = change.limits;
  const values = { requestsPerMinute, tokensPerMinute, concurrent, bodyBytes };
  drizzle(database)
    .insert(limits)
    .values({ scope, ...values })
    .onConflictDoUpdate({ target: limits.scope, set: values })
    .run();
}

function removeLimits(database: Sqlite, { scope }: Of<"removeLimits">): undefined {
  if (drizzle(database).delete(limits).where(eq(limits.scope, scope)).run().changes === 0)
    throw new ChangeRefused(`there are no limits for ${scope}; \`keymeter limits list\` shows them`);
}

function freeze(database: Sqlite, change: Of<"freeze">): undefined {
  const { scope, ...rest } = change.freeze;
  drizzle(database)
    .insert(freezes)
    .values({ ...rest, ...scopeColumns(scope), liftedAtMs: null })
    .run();
}

function lift(database: Sqlite, { freezeId }: Of<"lift">, { atMs }: Author): undefined {
  const lifted = drizzle(database)
    .update(freezes)
    .set({ liftedAtMs: atMs })
    .where(and(eq(freezes.id, freezeId), isNull(freezes.liftedAtMs)))
    .run();
  if (lifted.changes === 0)
    throw new ChangeRefused(`nothing is frozen under ${freezeId}; \`keymeter budgets list\` shows what is`);
}

/** Names that are the key's own from now on. */
function noteOwners(database: Sqlite, keyId: string, names: Partial<Pick<Key, "team" | "project" | "env">>): void {
  const insert = database.prepare("INSERT OR IGNORE INTO key_owners (key_id, part, value) VALUES (?, ?, ?)");
  for (const part of ["team", "project", "env"] as const) if (names[part]) insert.run(keyId, part, names[part]);
}

/** Budgets in force. */
export async function readBudgets(books: UsageBooks): Promise<Budget[]> {
  const tables = tablesOf(books);
  return toBudgets(
    await tables.select().from(budgets).where(isNull(budgets.removedAtMs)).orderBy(budgets.id).all(),
    await tables.select().from(raises).where(isNull(raises.endedAtMs)).orderBy(raises.id).all(),
  );
}

/** The same, for the writer. */
export function budgetsIn(database: Sqlite): Budget[] {
  const tables = drizzle(database);
  return toBudgets(
    tables.select().from(budgets).where(isNull(budgets.removedAtMs)).orderBy(budgets.id).all(),
    tables.select().from(raises).where(isNull(raises.endedAtMs)).orderBy(raises.id).all(),
  );
}

function toBudgets(
  rows: readonly (typeof budgets.$inferSelect)[],
  raised: readonly (typeof raises.$inferSelect)[],
): Budget[] {
  return rows.map(({ id, window, amountNanoUsd, kind, mode, observe, thresholds, createdAtMs, ...scope }) => ({
    id,
    window,
    amountNanoUsd,
    kind,
    mode,
    ...(observe === 1 ? { observe: true } : {}),
    ...(thresholds === null ? {} : { thresholds: thresholds.split(",").map(Number) }),
    ...raisesOf(id, raised),
    createdAtMs,
    scope: readScope(scope),
  }));
}

/** Freezes in force. */
export async function readFreezes(books: UsageBooks): Promise<Freeze[]> {
  const rows = tablesOf(books).select().from(freezes).where(isNull(freezes.liftedAtMs));
  return toFreezes(await rows.orderBy(freezes.id).all());
}

/** The same, for the writer. */
export function freezesIn(database: Sqlite): Freeze[] {
  const rows = drizzle(database).select().from(freezes).where(isNull(freezes.liftedAtMs));
  return toFreezes(rows.orderBy(freezes.id).all());
}

function toFreezes(rows: readonly (typeof freezes.$inferSelect)[]): Freeze[] {
  return rows.map(({ id, reason, createdAtMs, ...scope }) => ({ id, reason, createdAtMs, scope: readScope(scope) }));
}

function raisesOf(budgetId: string, all: readonly (typeof raises.$inferSelect)[]): Pick<Budget, "raises"> {
  const own = all.filter((raise) => raise.budgetId === budgetId);
  if (own.length === 0) return {};
  return {
    raises: own.map(({ id, amountNanoUsd, reason, createdAtMs, untilMs }) => ({
      id,
      budgetId,
      amountNanoUsd,
      reason,
      createdAtMs,
      untilMs,
    })),
  };
}

function readScope(row: { readonly [part in (typeof SCOPE_PARTS)[number]]: string | null }): Scope {
  return Object.fromEntries(SCOPE_PARTS.flatMap((part) => (row[part] === null ? [] : [[part, row[part]]])));
}

function scopeColumns(scope: Scope): { [part in (typeof SCOPE_PARTS)[number]]: string | null } {
  const { team = null, project = null, env = null, keyId = null, provider = null, model = null } = scope;
  return { team, project, env, keyId, provider, model };
}

function policyText(policy: KeyPolicy): string | null {
  return Object.keys(policy).length === 0 ? null : JSON.stringify(policy);
}

/** A budget for the same scope and window takes the place of the one in force; what that is raised by stays. */
function insertBudget(database: Sqlite, budget: Budget): undefined {
  const books = drizzle(database);
  const { scope, observe = false, thresholds, raises: _, ...rest } = budget;
  books
    .insert(budgets)
    .values({
      ...rest,
      ...scopeColumns(scope),
      observe: observe ? 1 : 0,
      thresholds: thresholds ? [...new Set(thresholds)].toSorted((a, b) => a - b).join(",") : null,
      removedAtMs: null,
    })
    .run();
  for (const old of budgetsIn(database)) {
    if (old.id !== budget.id && isSamePlace(old, budget)) {
      books.update(budgets).set({ removedAtMs: budget.createdAtMs }).where(eq(budgets.id, old.id)).run();
      books.update(raises).set({ budgetId: budget.id }).where(eq(raises.budgetId, old.id)).run();
    }
  }
}

function subjectOf(change: Single): string {
  switch (change.type) {
    case "createKey":
      return change.key.id;
    case "setBudget":
      return change.budget.id;
    case "removeBudget":
      return change.budgetId;
    case "raiseBudget":
      return change.raise.budgetId;
    case "endRaise":
      return change.raiseId;
    case "setLimits":
      return change.limits.scope;
    case "removeLimits":
      return change.scope;
    case "freeze":
      return change.freeze.id;
    case "lift":
      return change.freezeId;
    case "setKeyState":
    case "rotateKey":
    case "describeKey":
    case "setPolicy":
    case "reassign":
      return change.keyId;
    case "closeWork":
      return change.workId;
    case "acceptClock":
      return "clock";
    case "adjust":
      return `${change.adjustments.length} adjustments`;
  }
}

/** The change as JSON; of a key's digest only a digest: an audit is read by many, and must show all the same that
 *  nobody put in a secret of his own. Throws ChangeRefused for text that is none: SQLite would keep it as another
 *  one. */
function detailOf(change: Change): string {
  const said =
    "digest" in change ? { ...change, digest: createHash("sha256").update(change.digest).digest("hex") } : change;
  return JSON.stringify(said, (name, value: unknown) => {
    if (!name.isWellFormed() || (typeof value === "string" && !value.isWellFormed()))
      throw new ChangeRefused("a text in it holds half a character (a lone surrogate)");
    return typeof value === "bigint" ? value.toString() : value;
  });
}

/** Of adjustments, which stand in their own table, only their sum and their digest. */
function adjustmentsText(added: readonly Adjustment[]): string {
  const sum = added.reduce((total, { amountNanoUsd }) => total + amountNanoUsd, 0n);
  return JSON.stringify({
    type: "adjust",
    count: added.length,
    amountNanoUsd: sum.toString(),
    digest: digestAdjustments(added),
  });
}
