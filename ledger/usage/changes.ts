// Changes to the register: keys, budgets, raises, limits, freezes; and corrections. Each is one function of the
// books' questions, answered inside one transaction together with the audit record. The admin API and the command end here,
// both.
import { answerIn, askRows, askValue, ONE, tell, write } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { and, eq, isNull, or } from "../drizzle.ts";
import { createHash } from "node:crypto";
import { addAdjustments, digestAdjustments } from "./adjustments.ts";
import type { Adjustment } from "./adjustments.ts";
import { answerAsked, insertAsked, moveAsked } from "./asked-raises.ts";
import type { AskedRaise } from "./asked-raises.ts";
import { appendAudit, readAuditHead } from "./audit.ts";
import { findBudget, isSamePlace, ruleOf, SCOPE_PARTS } from "../budgets.ts";
import { ChangeRefused } from "./change-refused.ts";
import type { Budget, Each, Freeze, Raise, Scope } from "../budgets.ts";
import { UNTIL_TOLD_MS } from "./keys.ts";
import type { Key, KeyState } from "./keys.ts";
import type { KeyPolicy } from "./key-policy.ts";
import type { Limits } from "./limits.ts";
import type { UsageBooks } from "../books.ts";
import { ANYBODY, NAMED, noteOwner } from "./budget-spend.ts";
import { addPerson, emptyPerson } from "./people.ts";
import { applyReassignment } from "./reassign.ts";
import type { Reassignment } from "./reassign.ts";
import { applyExpiry, requireCountable } from "./retention.ts";
import type { Expiry } from "./retention.ts";
import type { Rollups } from "./rollups.ts";
import { setSeatPrice } from "./seat-prices.ts";
import type { SeatPrice } from "./seat-prices.ts";
import { budgets, freezes, keys, keySecrets, limits, raises } from "./schema.ts";
import { attemptAtMs } from "../ids.ts";
import { utcDay } from "../windows.ts";
import { createToken, revokeToken } from "./tokens.ts";
import type { Holder, Token } from "./tokens.ts";

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
  /** Secrets of a key that are good until it is told (UNTIL_TOLD_MS) are good until then. */
  | { readonly type: "endOldSecrets"; readonly keyId: string; readonly untilMs: number }
  | {
      readonly type: "describeKey";
      readonly keyId: string;
      readonly fields: Partial<Pick<Key, "name" | "team" | "project" | "env" | "user" | "purpose">>;
    }
  /** A step of a rotation at a provider: for the audit alone. */
  | {
      readonly type: "rotateCredential";
      readonly rotationId: string;
      readonly step: number;
      readonly place: string;
      readonly state: string;
      readonly said: string;
    }
  /** A person gets a name. The audit says neither here nor later what it is. */
  | { readonly type: "nameUser"; readonly userId: string; readonly name: string }
  | { readonly type: "forgetUser"; readonly userId: string }
  | { readonly type: "setBudget"; readonly budget: Budget }
  | { readonly type: "removeBudget"; readonly budgetId: string }
  | { readonly type: "raiseBudget"; readonly raise: Raise }
  | { readonly type: "endRaise"; readonly raiseId: string }
  | { readonly type: "askRaise"; readonly asked: AskedRaise }
  /** An approval stands together with its raise. */
  | { readonly type: "answerAsk"; readonly askId: string; readonly answer: "approved" | "refused" }
  | { readonly type: "setPolicy"; readonly keyId: string; readonly policy: KeyPolicy }
  | { readonly type: "setLimits"; readonly limits: Limits }
  | { readonly type: "removeLimits"; readonly scope: string }
  | { readonly type: "setSeatPrice"; readonly seat: SeatPrice }
  /** Of a token only its digest, as of a key. */
  | { readonly type: "createToken"; readonly token: Token; readonly digest: string }
  | { readonly type: "revokeToken"; readonly tokenId: string }
  | { readonly type: "freeze"; readonly freeze: Freeze }
  | { readonly type: "lift"; readonly freezeId: string }
  /** Books what is held for work that nobody fetches; booking.ts does that, beside the record that is made here. */
  | { readonly type: "closeWork"; readonly workId: string }
  /** The machine's clock is right, whatever the books or the time since its start say. */
  | { readonly type: "acceptClock" }
  /** The events of a sealed day, which are in a file, leave the books. */
  | ({ readonly type: "expire" } & Expiry)
  | { readonly type: "adjust"; readonly adjustments: readonly Adjustment[] }
  /** What a key has spent already is another's. */
  | ({ readonly type: "reassign" } & Reassignment)
  /** All of them or none. */
  | { readonly type: "together"; readonly changes: readonly Change[] };

/** Who makes a change. `holder`: whose role has to allow it (may-change.ts); without one, a program of Keymeter's own. */
export type Author = { readonly actor: string; readonly atMs: number; readonly holder?: Holder | undefined };

/** Makes a change and its audit record, whoever makes it. Throws ChangeRefused when it makes no sense in the books as they
 *  are. */
export function* applyChange(rollups: Rollups, change: Change, author: Author): Asking<void> {
  if (change.type === "together") {
    for (const one of change.changes) yield* applyChange(rollups, one, author);
    return;
  }
  const said = detailOf(change);
  const detail = (yield* make(rollups, change, author)) ?? said;
  yield* appendAudit({
    actor: author.actor,
    atMs: author.atMs,
    action: change.type,
    subject: subjectOf(change),
    detail,
  });
}

type Single = Exclude<Change, { type: "together" }>;

/** Returns what the audit says of it, where that is not the change itself. */
function* make(rollups: Rollups, change: Single, author: Author): Asking<string | undefined> {
  switch (change.type) {
    case "createKey":
      return yield* createKey(change, author);
    case "setKeyState":
      return yield* setKeyState(change);
    case "rotateKey":
      return yield* rotateKey(change, author);
    case "endOldSecrets":
      return yield* endOldSecrets(change);
    case "describeKey":
      return yield* describeKey(change);
    case "nameUser":
      return yield* nameUser(change, author);
    case "forgetUser":
      return yield* forgetUser(change);
    case "setPolicy":
      return yield* setPolicy(change);
    case "setBudget":
      yield* requireCountable(change.budget, author.atMs);
      return yield* insertBudget(change.budget);
    case "removeBudget":
      return yield* removeBudget(change, author);
    case "raiseBudget":
      return yield* raiseBudget(change, author);
    case "endRaise":
      return yield* endRaise(change, author);
    case "askRaise":
      return yield* askRaise(change);
    case "answerAsk":
      yield* answerAsked(change.askId, change.answer, author.actor, author.atMs);
      return undefined;
    case "setLimits":
      return yield* setLimits(change);
    case "removeLimits":
      return yield* removeLimits(change);
    case "setSeatPrice":
      yield* setSeatPrice(change.seat);
      return undefined;
    case "createToken":
      return yield* createToken(change.token, change.digest);
    case "revokeToken":
      return yield* revokeToken(change.tokenId, author.atMs);
    case "freeze":
      return yield* freeze(change);
    case "lift":
      return yield* lift(change, author);
    // What these do is done beside the record.
    case "closeWork":
    case "acceptClock":
    case "rotateCredential":
      return undefined;
    case "expire": {
      const { type: _type, ...expiry } = change;
      return yield* applyExpiry(expiry, yield* askBudgets(), author.atMs);
    }
    case "adjust": {
      const seq = (yield* readAuditHead()).seq + 1;
      return adjustmentsText(yield* addAdjustments(rollups, change.adjustments, author.atMs, seq));
    }
    case "reassign": {
      const seq = (yield* readAuditHead()).seq + 1;
      return JSON.stringify({ ...change, events: yield* applyReassignment(rollups, change, seq) });
    }
  }
}

type Of<T extends Change["type"]> = Extract<Change, { type: T }>;

function* createKey(change: Of<"createKey">, { atMs }: Author): Asking<undefined> {
  const namesakes = yield* askRows(keys, eq(keys.name, change.key.name));
  if (namesakes.some((key) => key.kind === "virtual" && key.state !== "revoked")) {
    throw new ChangeRefused(
      `a key named "${change.key.name}" exists already; choose another name, or rotate or revoke that one`,
    );
  }
  const [shadow] = yield* askRows(keys, eq(keys.name, change.key.id));
  if (shadow) throw new ChangeRefused(`a key is named ${change.key.id}; another one cannot have that as its id`);
  const { provider = null, expiresAtMs = null, policy, ...key } = change.key;
  yield* tell(write.insert(keys).values({ ...key, owner: "", provider, expiresAtMs, policy: policyText(policy) }));
  yield* addSecret(change.key.id, change.digest, atMs);
  yield* noteOwners(change.key.id, change.key);
  yield* noteNaming(change.key.id, change.key.policy);
  if (change.budget) yield* insertBudget(change.budget);
}

function* addSecret(keyId: string, digest: string, createdAtMs: number): Asking<void> {
  yield* tell(write.insert(keySecrets).values({ digest, keyId, createdAtMs, validUntilMs: null }));
}

function* setKeyState({ keyId, state }: Of<"setKeyState">): Asking<undefined> {
  const [key] = yield* askRows(keys, eq(keys.id, keyId));
  if (!key) throw new ChangeRefused(`there is no key ${keyId}; \`keymeter keys list\` shows them`);
  if (key.state === "revoked" && state !== "revoked")
    throw new ChangeRefused(`key ${key.id} is revoked, which is for ever; create a new one`);
  yield* tell(write.update(keys).set({ state }).where(eq(keys.id, key.id)));
}

function* rotateKey(change: Of<"rotateKey">, { atMs }: Author): Asking<undefined> {
  const [key] = yield* askRows(keys, eq(keys.id, change.keyId));
  if (!key || key.kind !== "virtual")
    throw new ChangeRefused(`there is no virtual key ${change.keyId}; only keys that we issued can be rotated`);
  if (key.state === "revoked") throw new ChangeRefused(`key ${key.id} is revoked; create a new one`);
  // What waits for its end gets one with the newest: a secret that leaked must not outlive a rotation by hand.
  const ends = or(isNull(keySecrets.validUntilMs), eq(keySecrets.validUntilMs, UNTIL_TOLD_MS));
  const isItsOwn = and(eq(keySecrets.keyId, key.id), ends);
  yield* tell(write.update(keySecrets).set({ validUntilMs: change.graceUntilMs }).where(isItsOwn));
  yield* addSecret(key.id, change.digest, atMs);
  yield* tell(write.update(keys).set({ hint: change.hint }).where(eq(keys.id, key.id)));
}

function* endOldSecrets({ keyId, untilMs }: Of<"endOldSecrets">): Asking<undefined> {
  const [key] = yield* askRows(keys, eq(keys.id, keyId));
  if (!key) throw new ChangeRefused(`there is no key ${keyId}`);
  const waits = and(eq(keySecrets.keyId, keyId), eq(keySecrets.validUntilMs, UNTIL_TOLD_MS));
  yield* tell(write.update(keySecrets).set({ validUntilMs: untilMs }).where(waits));
}

function* describeKey({ keyId, fields }: Of<"describeKey">): Asking<undefined> {
  const described = yield* tell(write.update(keys).set(fields).where(eq(keys.id, keyId)).returning(ONE));
  if (described === 0) throw new ChangeRefused(`there is no key ${keyId}`);
  yield* noteOwners(keyId, fields);
}

function* nameUser({ userId, name }: Of<"nameUser">, { atMs }: Author): Asking<string> {
  yield* addPerson(userId, name, atMs);
  return JSON.stringify({ type: "nameUser", userId });
}

function* forgetUser({ userId }: Of<"forgetUser">): Asking<undefined> {
  yield* emptyPerson(userId);
}

function* setPolicy({ keyId, policy }: Of<"setPolicy">): Asking<undefined> {
  const set = write
    .update(keys)
    .set({ policy: policyText(policy) })
    .where(eq(keys.id, keyId));
  if ((yield* tell(set.returning(ONE))) === 0) throw new ChangeRefused(`there is no key ${keyId}`);
  yield* noteNaming(keyId, policy);
}

function* removeBudget({ budgetId }: Of<"removeBudget">, { atMs }: Author): Asking<undefined> {
  const isInForce = and(eq(budgets.id, budgetId), isNull(budgets.removedAtMs));
  const removed = yield* tell(write.update(budgets).set({ removedAtMs: atMs }).where(isInForce).returning(ONE));
  if (removed === 0) throw new ChangeRefused(`there is no budget ${budgetId}; \`keymeter budgets list\` shows them`);
}

function* raiseBudget({ raise }: Of<"raiseBudget">, { atMs }: Author): Asking<undefined> {
  const all = yield* askBudgets();
  const found = findBudget(all, raise.budgetId);
  if (!found) throw new ChangeRefused(`there is no budget ${raise.budgetId}; \`keymeter budgets list\` shows them`);
  const instead = all.find((budget) => found.ruleId !== undefined && isSamePlace(budget, found));
  if (instead)
    throw new ChangeRefused(`a budget of its own (${instead.id}) stands in the place of that cap: raise that one`);
  yield* checkMember(raise.budgetId, all);
  if (raise.untilMs <= atMs || raise.untilMs <= raise.createdAtMs)
    throw new ChangeRefused("the raise would end before it begins");
  // As it is made here, however it was written.
  const [budgetId = "", member = ""] = found.id.split("/");
  yield* tell(write.insert(raises).values({ ...raise, budgetId, member, endedAtMs: null }));
}

/** A raise for whom nobody knows raises nothing. */
function* checkMember(budgetId: string, all: readonly Budget[]): Asking<void> {
  const { id, member } = ruleOf(budgetId);
  const each = all.find((budget) => budget.id === id)?.each;
  if (member === undefined || (each !== "user" && each !== "key")) return;
  const table = each === "user" ? "people" : "keys";
  if ((yield* askValue(`SELECT 1 FROM ${table} WHERE id = ?`, member)) === undefined)
    throw new ChangeRefused(`there is no ${each} ${member}`);
}

function* endRaise({ raiseId }: Of<"endRaise">, { atMs }: Author): Asking<undefined> {
  const isInForce = and(eq(raises.id, raiseId), isNull(raises.endedAtMs));
  const ended = yield* tell(write.update(raises).set({ endedAtMs: atMs }).where(isInForce).returning(ONE));
  if (ended === 0) throw new ChangeRefused(`there is no raise ${raiseId}; \`keymeter budgets list\` shows them`);
}

function* askRaise({ asked }: Of<"askRaise">): Asking<undefined> {
  if (!findBudget(yield* askBudgets(), asked.budgetId)) throw new ChangeRefused(`there is no budget ${asked.budgetId}`);
  yield* insertAsked(asked);
}

function* setLimits(change: Of<"setLimits">): Asking<undefined> {
  const {
    scope,
    requestsPerMinute = null,
    tokensPerMinute = null,
    concurrent = null,
    bodyBytes = null,
    seatTokensPer5Hours = null,
    seatTokensPerWeek = null,
  } = change.limits;
  const values = {
    requestsPerMinute,
    tokensPerMinute,
    concurrent,
    bodyBytes,
    seatTokensPer5Hours,
    seatTokensPerWeek,
  };
  const insert = write.insert(limits).values({ scope, ...values });
  yield* tell(insert.onConflictDoUpdate({ target: limits.scope, set: values }));
}

function* removeLimits({ scope }: Of<"removeLimits">): Asking<undefined> {
  if ((yield* tell(write.delete(limits).where(eq(limits.scope, scope)).returning(ONE))) === 0)
    throw new ChangeRefused(`there are no limits for ${scope}; \`keymeter limits list\` shows them`);
}

function* freeze(change: Of<"freeze">): Asking<undefined> {
  const { scope, ...rest } = change.freeze;
  yield* tell(write.insert(freezes).values({ ...rest, ...scopeColumns(scope), liftedAtMs: null }));
}

function* lift({ freezeId }: Of<"lift">, { atMs }: Author): Asking<undefined> {
  const isInForce = and(eq(freezes.id, freezeId), isNull(freezes.liftedAtMs));
  const lifted = yield* tell(write.update(freezes).set({ liftedAtMs: atMs }).where(isInForce).returning(ONE));
  if (lifted === 0)
    throw new ChangeRefused(`nothing is frozen under ${freezeId}; \`keymeter budgets list\` shows what is`);
}

/** Names that are the key's own from now on. */
function* noteOwners(keyId: string, names: Partial<Pick<Key, (typeof NAMED)[number]>>): Asking<void> {
  for (const part of NAMED) {
    const value = names[part];
    if (value) yield* noteOwner(keyId, part, value);
  }
}

/** Budgets in force. */
export function readBudgets(books: UsageBooks): Promise<Budget[]> {
  return answerIn(books, askBudgets());
}

export function* askBudgets(): Asking<Budget[]> {
  const rows = yield* askRows(budgets, isNull(budgets.removedAtMs), budgets.id);
  return toBudgets(rows, yield* askRows(raises, isNull(raises.endedAtMs), raises.id));
}

function toBudgets(
  rows: readonly (typeof budgets.$inferSelect)[],
  raised: readonly (typeof raises.$inferSelect)[],
): Budget[] {
  return rows.map(({ id, window, amountNanoUsd, kind, mode, observe, thresholds, each, createdAtMs, ...scope }) => ({
    id,
    ...(each === null ? {} : { each: each as Each }),
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
export function readFreezes(books: UsageBooks): Promise<Freeze[]> {
  return answerIn(books, askFreezes());
}

export function* askFreezes(): Asking<Freeze[]> {
  const rows = yield* askRows(freezes, isNull(freezes.liftedAtMs), freezes.id);
  return rows.map(({ id, reason, createdAtMs, ...scope }) => ({ id, reason, createdAtMs, scope: readScope(scope) }));
}

function raisesOf(budgetId: string, all: readonly (typeof raises.$inferSelect)[]): Pick<Budget, "raises"> {
  const own = all.filter((raise) => raise.budgetId === budgetId);
  if (own.length === 0) return {};
  return {
    raises: own.map(({ id, member, amountNanoUsd, reason, createdAtMs, untilMs }) => ({
      id,
      budgetId: member === "" ? budgetId : `${budgetId}/${member}`,
      amountNanoUsd,
      reason,
      createdAtMs,
      untilMs,
    })),
  };
}

/** Whom its requests name counts in budgets from now on, and so do the tags that all of them carry. */
function* noteNaming(keyId: string, { users, tags }: KeyPolicy): Asking<void> {
  if (users !== undefined) yield* noteOwner(keyId, "user", ANYBODY);
  for (const [name, value] of Object.entries(tags ?? {})) yield* noteOwner(keyId, "tag", `${name}=${value}`);
}

function readScope(row: { readonly [part in (typeof SCOPE_PARTS)[number]]: string | null }): Scope {
  return Object.fromEntries(SCOPE_PARTS.flatMap((part) => (row[part] === null ? [] : [[part, row[part]]])));
}

function scopeColumns(scope: Scope): { [part in (typeof SCOPE_PARTS)[number]]: string | null } {
  const { team = null, project = null, env = null, user = null, keyId = null, provider = null, model = null } = scope;
  const { tag = null } = scope;
  return { team, project, env, user, keyId, provider, model, tag };
}

function policyText(policy: KeyPolicy): string | null {
  return Object.keys(policy).length === 0 ? null : JSON.stringify(policy);
}

/** A budget for the same scope and window takes the place of the one in force; what that is raised by stays. */
function* insertBudget(budget: Budget): Asking<undefined> {
  const { scope, observe = false, thresholds, each = null, raises: _, ruleId, ...rest } = budget;
  if (ruleId !== undefined) throw new ChangeRefused(`${budget.id} is one member's cap: change its rule ${ruleId}`);
  if (rest.id.includes("/")) throw new ChangeRefused(`the id ${rest.id} holds a slash`);
  if (each === "tag:user" || scope.tag?.startsWith("user="))
    throw new ChangeRefused("whom requests name is a user, and no tag: write --each user, or --user");
  const own = each === "key" ? scope.keyId : each === "user" ? scope.user : each === null ? undefined : scope.tag;
  if (own !== undefined) throw new ChangeRefused(`each ${each} of one ${each}: leave one of the two out`);
  const row = {
    each,
    ...rest,
    ...scopeColumns(scope),
    observe: observe ? 1 : 0,
    thresholds: thresholds ? [...new Set(thresholds)].toSorted((a, b) => a - b).join(",") : null,
    removedAtMs: null,
  };
  yield* tell(write.insert(budgets).values(row));
  for (const old of yield* askBudgets()) {
    if (old.id === budget.id || !isSamePlace(old, budget)) continue;
    yield* tell(write.update(budgets).set({ removedAtMs: budget.createdAtMs }).where(eq(budgets.id, old.id)));
    yield* tell(write.update(raises).set({ budgetId: budget.id }).where(eq(raises.budgetId, old.id)));
    yield* moveAsked(old.id, budget.id);
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
    case "askRaise":
      return change.asked.id;
    case "answerAsk":
      return change.askId;
    case "setLimits":
      return change.limits.scope;
    case "removeLimits":
      return change.scope;
    case "setSeatPrice":
      return change.seat.scope;
    case "createToken":
      return change.token.id;
    case "revokeToken":
      return change.tokenId;
    case "freeze":
      return change.freeze.id;
    case "lift":
      return change.freezeId;
    case "nameUser":
    case "forgetUser":
      return change.userId;
    case "setKeyState":
    case "rotateKey":
    case "endOldSecrets":
    case "describeKey":
    case "setPolicy":
    case "reassign":
      return change.keyId;
    case "rotateCredential":
      return change.place;
    case "closeWork":
      return change.workId;
    case "acceptClock":
      return "clock";
    case "expire":
      return utcDay(attemptAtMs(change.firstAttemptId));
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
