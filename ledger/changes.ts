// Changes to the register: keys and budgets. Each is one function over the writer's connection, called inside its
// transaction together with the audit record. The admin API and the command end here, both.
import { and, drizzle, eq, isNull } from "./drizzle.ts";
import { addAdjustments } from "./adjustments.ts";
import type { Adjustment } from "./adjustments.ts";
import { appendAudit } from "./audit.ts";
import { SCOPE_PARTS } from "./budgets.ts";
import { ChangeRefused } from "./change-refused.ts";
import type { Budget, Freeze, Scope } from "./budgets.ts";
import type { Key, KeyState } from "./keys.ts";
import type { KeyPolicy } from "./key-policy.ts";
import type { Limits } from "./limits.ts";
import type { Sqlite } from "./open.ts";
import type { Rollups } from "./rollups.ts";
import { budgets, freezes, keys, keySecrets, limits } from "./schema.ts";

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
  | { readonly type: "setPolicy"; readonly keyId: string; readonly policy: KeyPolicy }
  | { readonly type: "setLimits"; readonly limits: Limits }
  | { readonly type: "removeLimits"; readonly scope: string }
  | { readonly type: "freeze"; readonly freeze: Freeze }
  | { readonly type: "lift"; readonly freezeId: string }
  /** Books what is held for work that nobody fetches; the writer thread does that, beside the record that is made here. */
  | { readonly type: "closeWork"; readonly workId: string }
  | { readonly type: "adjust"; readonly adjustments: readonly Adjustment[] };

export type Author = { readonly actor: string; readonly atMs: number };

/** Makes a change and its audit record. Throws ChangeRefused when it makes no sense in the books as they are. */
export function applyChange(database: Sqlite, rollups: Rollups, change: Change, author: Author): void {
  const books = drizzle(database);
  switch (change.type) {
    case "createKey": {
      if (
        books
          .select()
          .from(keys)
          .all()
          .some((key) => key.name === change.key.name && key.kind === "virtual" && key.state !== "revoked")
      ) {
        throw new ChangeRefused(
          `a key named "${change.key.name}" exists already; choose another name, or rotate or revoke that one`,
        );
      }
      const { provider, expiresAtMs, policy, ...key } = change.key;
      books
        .insert(keys)
        .values({
          ...key,
          provider: provider ?? null,
          expiresAtMs: expiresAtMs ?? null,
          policy: policyText(policy),
        })
        .run();
      books
        .insert(keySecrets)
        .values({ digest: change.digest, keyId: key.id, createdAtMs: author.atMs, validUntilMs: null })
        .run();
      if (change.budget) insertBudget(database, change.budget);
      break;
    }
    case "setKeyState": {
      const key = books.select().from(keys).where(eq(keys.id, change.keyId)).get();
      if (!key) throw new ChangeRefused(`there is no key ${change.keyId}; \`keymeter keys list\` shows them`);
      if (key.state === "revoked" && change.state !== "revoked")
        throw new ChangeRefused(`key ${key.id} is revoked, which is for ever; create a new one`);
      books.update(keys).set({ state: change.state }).where(eq(keys.id, key.id)).run();
      break;
    }
    case "rotateKey": {
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
        .values({ digest: change.digest, keyId: key.id, createdAtMs: author.atMs, validUntilMs: null })
        .run();
      books.update(keys).set({ hint: change.hint }).where(eq(keys.id, key.id)).run();
      break;
    }
    case "describeKey": {
      if (books.update(keys).set(change.fields).where(eq(keys.id, change.keyId)).run().changes === 0)
        throw new ChangeRefused(`there is no key ${change.keyId}`);
      break;
    }
    case "setBudget":
      insertBudget(database, change.budget);
      break;
    case "removeBudget": {
      const removed = books
        .update(budgets)
        .set({ removedAtMs: author.atMs })
        .where(and(eq(budgets.id, change.budgetId), isNull(budgets.removedAtMs)))
        .run();
      if (removed.changes === 0)
        throw new ChangeRefused(`there is no budget ${change.budgetId}; \`keymeter budgets list\` shows them`);
      break;
    }
    case "setPolicy": {
      const set = books
        .update(keys)
        .set({ policy: policyText(change.policy) })
        .where(eq(keys.id, change.keyId))
        .run();
      if (set.changes === 0) throw new ChangeRefused(`there is no key ${change.keyId}`);
      break;
    }
    case "setLimits": {
      const {
        scope,
        requestsPerMinute = null,
        tokensPerMinute = null,
        concurrent = null,
        bodyBytes = null,
      } = change.limits;
      const values = { requestsPerMinute, tokensPerMinute, concurrent, bodyBytes };
      books
        .insert(limits)
        .values({ scope, ...values })
        .onConflictDoUpdate({ target: limits.scope, set: values })
        .run();
      break;
    }
    case "removeLimits":
      if (books.delete(limits).where(eq(limits.scope, change.scope)).run().changes === 0)
        throw new ChangeRefused(`there are no limits for ${change.scope}; \`keymeter limits list\` shows them`);
      break;
    case "freeze": {
      const { scope, ...rest } = change.freeze;
      books
        .insert(freezes)
        .values({ ...rest, ...scopeColumns(scope), liftedAtMs: null })
        .run();
      break;
    }
    case "lift": {
      const lifted = books
        .update(freezes)
        .set({ liftedAtMs: author.atMs })
        .where(and(eq(freezes.id, change.freezeId), isNull(freezes.liftedAtMs)))
        .run();
      if (lifted.changes === 0)
        throw new ChangeRefused(`nothing is frozen under ${change.freezeId}; \`keymeter budgets list\` shows what is`);
      break;
    }
    case "closeWork":
      break;
    case "adjust":
      addAdjustments(database, rollups, change.adjustments, author.atMs);
      break;
  }
  appendAudit(database, { ...author, action: change.type, subject: subjectOf(change), detail: detailOf(change) });
}

/** Budgets in force. */
export function readBudgets(database: Sqlite): Budget[] {
  const rows = drizzle(database).select().from(budgets).where(isNull(budgets.removedAtMs)).all();
  return rows.map(({ id, window, amountNanoUsd, kind, mode, observe, createdAtMs, ...scope }) => ({
    id,
    window,
    amountNanoUsd,
    kind,
    mode,
    ...(observe === 1 ? { observe: true } : {}),
    createdAtMs,
    scope: readScope(scope),
  }));
}

/** Freezes in force. */
export function readFreezes(database: Sqlite): Freeze[] {
  const rows = drizzle(database).select().from(freezes).where(isNull(freezes.liftedAtMs)).all();
  return rows.map(({ id, reason, createdAtMs, ...scope }) => ({ id, reason, createdAtMs, scope: readScope(scope) }));
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

/** A budget for the same scope and window takes the place of the one in force. */
function insertBudget(database: Sqlite, budget: Budget): void {
  const books = drizzle(database);
  for (const old of readBudgets(database)) {
    if (old.window === budget.window && SCOPE_PARTS.every((part) => old.scope[part] === budget.scope[part])) {
      books.update(budgets).set({ removedAtMs: budget.createdAtMs }).where(eq(budgets.id, old.id)).run();
    }
  }
  const { scope, observe = false, ...rest } = budget;
  books
    .insert(budgets)
    .values({ ...rest, ...scopeColumns(scope), observe: observe ? 1 : 0, removedAtMs: null })
    .run();
}

function subjectOf(change: Change): string {
  switch (change.type) {
    case "createKey":
      return change.key.id;
    case "setBudget":
      return change.budget.id;
    case "removeBudget":
      return change.budgetId;
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
      return change.keyId;
    case "closeWork":
      return change.workId;
    case "adjust":
      return `${change.adjustments.length} adjustments`;
  }
}

/** The change as JSON, without digests: an audit is read by many. Adjustments stand in their own table: only their sum is said. */
function detailOf(change: Change): string {
  if (change.type === "adjust") {
    const sum = change.adjustments.reduce((total, { amountNanoUsd }) => total + amountNanoUsd, 0n);
    return JSON.stringify({ type: change.type, count: change.adjustments.length, amountNanoUsd: sum.toString() });
  }
  return JSON.stringify(change, (name, value: unknown) =>
    name === "digest" ? undefined : typeof value === "bigint" ? value.toString() : value,
  );
}
