// What a role may change. It is asked inside the transaction of the change, by the books as they are then; the command, the admin
// API and the pages go by it, all of them.
//   read     nothing
//   lead     the keys of the team, and what lies inside its budget: caps of its keys, people, projects. The team's own budget
//            is set by others: who is capped does not lift the cap
//   finance  budgets, raises, freezes, prices of seats, and whose spend a key's is
//   admin    everything
import { answerIn, askRows, askValue } from "../asking.ts";
import type { Asking } from "../asking.ts";
import type { UsageBooks } from "../books.ts";
import { findBudget, ruleOf, rulesBehind } from "../budgets.ts";
import type { Budget, Scope } from "../budgets.ts";
import { eq } from "../drizzle.ts";
import { NotAllowed } from "./change-refused.ts";
import { applyChange, askBudgets, askFreezes } from "./changes.ts";
import type { Author, Change } from "./changes.ts";
import { flat } from "./flat.ts";
import type { Single } from "./flat.ts";
import type { KeyPolicy } from "./key-policy.ts";
import type { Rollups } from "./rollups.ts";
import { keys, raises } from "./schema.ts";
import type { Holder } from "./tokens.ts";

const OF_FINANCE: ReadonlySet<Single["type"]> = new Set([
  "setBudget",
  "removeBudget",
  "raiseBudget",
  "endRaise",
  "answerAsk",
  "setSeatPrice",
  "freeze",
  "lift",
  "reassign",
]);

/** Makes a change with its audit record, if its author may: each part of it by the books as those before it left them. Throws
 *  ChangeRefused. */
export function* applyAs(rollups: Rollups, change: Change, author: Author): Asking<void> {
  const all = flat(change);
  requireNamesUsed(author.holder, all);
  for (const one of all) {
    yield* requireMayChange(author.holder, one, author.actor);
    yield* applyChange(rollups, one, author);
  }
}

/** A lead names people for the keys that they get, and nobody else: names are bounded for all. */
function requireNamesUsed(holder: Holder | undefined, all: readonly Single[]): void {
  if (holder?.role !== "lead") return;
  const used = new Set(
    all.flatMap((one) =>
      one.type === "createKey" ? [one.key.user] : one.type === "describeKey" ? [one.fields.user ?? ""] : [],
    ),
  );
  if (all.some((one) => one.type === "nameUser" && !used.has(one.userId)))
    throw new NotAllowed(`${holder.name} may not do that: a name is for somebody who gets a key with it`);
}

/** Why the holder may not make a change, by the books as they are; undefined: may. Parts that rest on others of it are asked as
 *  if those were not made yet. */
export async function whyNotChange(books: UsageBooks, holder: Holder, change: Change): Promise<string | undefined> {
  try {
    for (const one of flat(change)) await answerIn(books, requireMayChange(holder, one));
    return undefined;
  } catch (error) {
    if (error instanceof NotAllowed) return error.message;
    throw error;
  }
}

/** Throws NotAllowed for what the holder may not change. Nobody named: a program of Keymeter's own, which may. */
export function* requireMayChange(holder: Holder | undefined, change: Single, actor = ""): Asking<void> {
  if (holder !== undefined && change.type === "expire")
    throw new NotAllowed(
      "what leaves the books is Keymeter's own matter: the setting retention says how long they keep it",
    );
  if (holder === undefined || holder.role === "admin") return;
  const why = yield* whyNot(holder, change, actor);
  if (why !== undefined) throw new NotAllowed(`${holder.name} may not do that: ${why}`);
}

function* whyNot({ role, team = "" }: Holder, change: Single, actor: string): Asking<string | undefined> {
  switch (role) {
    case "admin":
      return undefined;
    case "read":
      return "this token only reads";
    case "finance":
      return OF_FINANCE.has(change.type) || (change.type === "describeKey" && namesAnOwner(change.fields))
        ? undefined
        : "finance sets budgets and prices of seats, and says whose spend a key's is";
    case "lead":
      return yield* whyNotLead(team, change, actor);
  }
}

/** Whose spend it is, and nothing else. */
function namesAnOwner({ name, user, ...fields }: Extract<Change, { type: "describeKey" }>["fields"]): boolean {
  return name === undefined && user === undefined && Object.keys(fields).length > 0;
}

function* whyNotLead(team: string, change: Single, actor: string): Asking<string | undefined> {
  const elsewhere = `that is not of team ${team}`;
  switch (change.type) {
    case "createKey": {
      const { key, budget } = change;
      if (key.team !== team) return `the key has to be of team ${team}`;
      // Nobody looks that a key's first budget is the key's but this.
      const parts = Object.keys(budget?.scope ?? {});
      if (budget && (budget.scope.keyId !== key.id || parts.length > 1 || budget.each !== undefined))
        return "the budget that a key begins with is its own";
      if (budget && !(yield* isWithinRules(team, budget))) return LOOSER;
      return (yield* whyNotOwners(team, key)) ?? whyNotPolicy({}, key.policy);
    }
    case "setPolicy": {
      const [key] = yield* askRows(keys, eq(keys.id, change.keyId));
      return key?.team === team ? whyNotPolicy(JSON.parse(key.policy ?? "{}") as KeyPolicy, change.policy) : elsewhere;
    }
    case "setKeyState":
      if (!(yield* isKeyOf(team, change.keyId))) return elsewhere;
      return change.state !== "active" || (yield* isDoneByLead(team, "setKeyState", change.keyId, actor))
        ? undefined
        : "who paused it resumes it, or an admin";
    case "rotateKey":
    case "endOldSecrets":
      return (yield* isKeyOf(team, change.keyId)) ? undefined : elsewhere;
    case "describeKey":
      if (!(yield* isKeyOf(team, change.keyId))) return elsewhere;
      if ((change.fields.team ?? team) !== team) return "a key leaves a team by whoever may change both";
      if (change.fields.name !== undefined && (yield* isNameTaken(change.fields.name, change.keyId)))
        return `another key is named ${change.fields.name}`;
      return yield* whyNotOwners(team, change.fields);
    // A name for somebody who gets a key.
    case "nameUser":
      return undefined;
    case "setBudget":
      return (
        (yield* whyNotInside(team, change.budget)) ?? ((yield* isWithinRules(team, change.budget)) ? undefined : LOOSER)
      );
    case "removeBudget":
      return yield* whyNotBudget(team, change.budgetId);
    case "raiseBudget":
      return yield* whyNotRaise(team, change.raise.budgetId);
    case "endRaise": {
      const [raise] = yield* askRows(raises, eq(raises.id, change.raiseId));
      return raise ? yield* whyNotBudget(team, raise.budgetId) : elsewhere;
    }
    case "answerAsk": {
      const asked = "SELECT budget_id FROM asked_raises WHERE id = ?";
      const budgetId = yield* askValue<string>(asked, change.askId);
      return budgetId === undefined ? elsewhere : yield* whyNotRaise(team, budgetId);
    }
    case "setLimits":
      return (yield* isLimitOf(team, change.limits.scope)) ? undefined : elsewhere;
    case "removeLimits":
      return (yield* isLimitOf(team, change.scope)) ? undefined : elsewhere;
    // Stopping the whole team costs nobody else anything.
    case "freeze":
      return change.freeze.scope.team === team ? undefined : yield* whyNotInside(team, change.freeze);
    case "lift": {
      const freeze = (yield* askFreezes()).find(({ id }) => id === change.freezeId);
      if (!freeze) return elsewhere;
      return (
        (yield* whyNotInside(team, freeze)) ??
        ((yield* isDoneByLead(team, "freeze", freeze.id, actor)) ? undefined : "who froze it lifts it, or an admin")
      );
    }
    default:
      return "a team lead changes keys, budgets and limits";
  }
}

/** A person or a project that other teams have, and this one has not: what a key of theirs spends counts in their budgets. */
function* whyNotOwners(
  team: string,
  { user = "", project = "" }: { readonly user?: string | undefined; readonly project?: string | undefined },
): Asking<string | undefined> {
  for (const [column, name, value] of [
    ["person", "user", user],
    ["project", "project", project],
  ] as const) {
    if (value === "") continue;
    const has = (of: string) =>
      askValue(`SELECT 1 FROM keys WHERE ${column} = ? AND team ${of} ? LIMIT 1`, value, team);
    if ((yield* has("<>")) !== undefined && (yield* has("=")) === undefined)
      return `that ${name} is of another team: its spend would count in budgets of others`;
  }
  return undefined;
}

/** What of a policy reaches beyond the team: whom a key's requests may name and what they are tagged with counts in the caps of
 *  others, and a model without a price that is let through counts in none. */
const BEYOND = ["users", "tags", "unpriced"] as const satisfies readonly (keyof KeyPolicy)[];

function whyNotPolicy(before: KeyPolicy, after: KeyPolicy): string | undefined {
  const changed = BEYOND.find((part) => JSON.stringify(before[part]) !== JSON.stringify(after[part]));
  return changed === undefined || after[changed] === "refuse"
    ? undefined
    : `what a policy says of ${changed} reaches budgets of others; an admin sets it`;
}

/** Of the cap of a rule's member: whether somebody may change the rule. */
function* whyNotBudget(team: string, budgetId: string): Asking<string | undefined> {
  const budget = findBudget(yield* askBudgets(), ruleOf(budgetId).id);
  return budget ? yield* whyNotInside(team, budget) : `that is not of team ${team}`;
}

/** More money, beside whose cap none of others' stands. */
function* whyNotRaise(team: string, budgetId: string): Asking<string | undefined> {
  const all = yield* askBudgets();
  const budget = findBudget(all, budgetId);
  const isBehind =
    budget !== undefined && rulesBehind(budget, all).some(({ kind, scope }) => kind === "hard" && scope.team !== team);
  return (yield* whyNotBudget(team, budgetId)) ?? (isBehind ? LOOSER : undefined);
}

/** By which a scope is of somebody inside a team. A team's provider or model is all of the team's still. */
const INSIDE = ["project", "env", "user", "keyId", "tag"] as const satisfies readonly (keyof Scope)[];

/** Undefined: somebody inside the team. */
function* whyNotInside(team: string, { scope, each }: Pick<Budget, "scope" | "each">): Asking<string | undefined> {
  const isTeams = scope.team === team;
  const isOwnKey = scope.keyId === undefined ? undefined : yield* isKeyOf(team, scope.keyId);
  if ((scope.team !== undefined && !isTeams) || isOwnKey === false) return `that is not of team ${team}`;
  if (!isTeams) return isOwnKey ? undefined : `that is not of team ${team}`;
  return each !== undefined || INSIDE.some((part) => scope[part] !== undefined)
    ? undefined
    : `what holds for all of team ${team} is set by finance or an admin; inside it a lead may`;
}

const LOOSER = "a cap that finance or an admin set for each stands there: one of its own may only be tighter";

/** Whether a budget that takes the place of a member's cap of others' rules is at least as tight as these. */
function* isWithinRules(team: string, budget: Budget): Asking<boolean> {
  return rulesBehind(budget, yield* askBudgets()).every(
    (rule) =>
      rule.scope.team === team ||
      rule.kind === "soft" ||
      (budget.kind === "hard" &&
        budget.observe !== true &&
        budget.amountNanoUsd <= rule.amountNanoUsd &&
        (budget.mode === "strict" || rule.mode !== "strict")),
  );
}

/** Whether the last one to do something to it was this one, or a lead of the team by a named token. */
function* isDoneByLead(team: string, action: string, subject: string, actor: string): Asking<boolean> {
  const by = yield* askValue<string>(
    "SELECT actor FROM audit WHERE action = ? AND subject = ? ORDER BY seq DESC LIMIT 1",
    action,
    subject,
  );
  if (by === undefined || by === actor) return true;
  const name = /^token:(.+)$/.exec(by)?.[1];
  if (name === undefined) return false;
  return (
    (yield* askValue("SELECT 1 FROM tokens WHERE name = ? AND role = 'lead' AND team = ?", name, team)) !== undefined
  );
}

function* isNameTaken(name: string, keyId: string): Asking<boolean> {
  return (yield* askRows(keys, eq(keys.name, name))).some((key) => key.id !== keyId && key.state !== "revoked");
}

function* isKeyOf(team: string, keyId: string): Asking<boolean> {
  const [key] = yield* askRows(keys, eq(keys.id, keyId));
  return key?.team === team;
}

function* isLimitOf(team: string, scope: string): Asking<boolean> {
  return scope.startsWith("key:") && (yield* isKeyOf(team, scope.slice("key:".length)));
}
