// Budgets: money for a scope and a window. A soft budget tells, a hard one refuses. This file owns what a budget is and
// which attempts it covers; the sums live in reservations.ts.
import { createGlob } from "./glob.ts";
import type { AttemptId } from "./ids.ts";
import type { NanoUsd } from "./money.ts";
import type { Window, WindowKind } from "./windows.ts";

/** What a budget covers: every named part must fit; no part at all is the whole organisation. `model` may hold `*`. */
export type Scope = {
  readonly team?: string | undefined;
  readonly project?: string | undefined;
  readonly env?: string | undefined;
  /** A person, by id (usage/people.ts). */
  readonly user?: string | undefined;
  readonly keyId?: string | undefined;
  readonly provider?: string | undefined;
  readonly model?: string | undefined;
  /** What requests are tagged with: `customer=acme`. */
  readonly tag?: string | undefined;
};
export const SCOPE_PARTS = [
  "team",
  "project",
  "env",
  "user",
  "keyId",
  "provider",
  "model",
  "tag",
] as const satisfies readonly (keyof Scope)[];

/** `strict` reserves the most a request can cost, so it cannot overshoot; `expected` reserves what it probably
 *  costs. */
type BudgetMode = "strict" | "expected";
type BudgetKind = "soft" | "hard";

/** Of whom each has a cap of its own: a person, a key, a value of a tag. */
export type Each = "user" | "key" | `tag:${string}`;

export type Budget = {
  readonly id: string;
  readonly scope: Scope;
  /** A rule: not its scope has the amount, but each member of it (`memberOf`). */
  readonly each?: Each;
  /** Of a member's cap, which is made of its rule: the rule's id. */
  readonly ruleId?: string;
  /** Of the cap of all others: of whom the rule is. */
  readonly othersOf?: Each;
  readonly window: WindowKind;
  readonly amountNanoUsd: NanoUsd;
  readonly kind: BudgetKind;
  readonly mode: BudgetMode;
  /** A hard budget that is tried out: it lets through, and counts what it would have refused. */
  readonly observe?: boolean;
  /** Shares of the amount, in percent and ascending, at which somebody is told. Undefined: USUAL_THRESHOLDS. */
  readonly thresholds?: readonly number[];
  /** More money, each while it lasts. */
  readonly raises?: readonly Raise[];
  readonly createdAtMs: number;
};

export const USUAL_THRESHOLDS: readonly number[] = [80, 100];

/** More money for a budget from `createdAtMs` until `untilMs`, in whichever window it then is. */
export type Raise = {
  readonly id: string;
  /** Of one member: `memberId`. */
  readonly budgetId: string;
  readonly amountNanoUsd: NanoUsd;
  readonly reason: string;
  readonly createdAtMs: number;
  readonly untilMs: number;
};

/** A scope in which nothing is admitted until somebody lifts it. */
export type Freeze = {
  readonly id: string;
  readonly scope: Scope;
  readonly reason: string;
  readonly createdAtMs: number;
};

/** Who asks for what: the parts that a scope is held against. `model` is the one asked for, `servedModel` the one that
 *  answered, where it is known: a budget on either name covers the attempt, for aliases must not lead round it. */
export type Subject = {
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** By id; empty: nobody is named. */
  readonly user: string;
  readonly keyId: string;
  readonly provider: string;
  readonly model: string;
  readonly servedModel?: string | undefined;
  /** What the request was tagged with, as JSON. */
  readonly tags?: string | null | undefined;
};

/** A budget with its sums in one window; `amountNanoUsd` with what it is raised by now. */
export type BudgetState = {
  readonly budget: Budget;
  readonly window: Window;
  readonly amountNanoUsd: NanoUsd;
  readonly settledNanoUsd: NanoUsd;
  readonly reservedNanoUsd: NanoUsd;
};

/** Why a hard budget said no, with the numbers it used. */
export type BudgetRefusal = BudgetState & {
  /** `budget_exceeded`: it does not fit. `unbounded`: strict, and no upper bound can be proven. `unpriced`: no price.
   *  `in_flight`: it would fit, but the answers that are under way could come to several times the amount. */
  readonly reason: "budget_exceeded" | "unbounded" | "unpriced" | "in_flight";
  /** Of `in_flight`: what is settled and the most that all answers under way, this one among them, can come to. */
  readonly mostNanoUsd?: NanoUsd | undefined;
  /** What the request would have reserved; undefined where no figure exists. */
  readonly askedNanoUsd: NanoUsd | undefined;
  readonly attemptId: AttemptId;
};

/** What a budget has at an instant. */
export function amountAt({ amountNanoUsd, raises = [] }: Budget, atMs: number): NanoUsd {
  return raises.reduce(
    (sum, raise) => (raise.createdAtMs <= atMs && atMs < raise.untilMs ? sum + raise.amountNanoUsd : sum),
    amountNanoUsd,
  );
}

export function covers(scope: Scope, subject: Subject): boolean {
  return SCOPE_PARTS.every((part) => {
    const wanted = scope[part];
    if (wanted === undefined) return true;
    if (part === "tag") return isTagged(subject, wanted);
    if (part !== "model") return subject[part] === wanted;
    const fits = createGlob(wanted);
    return fits(subject.model) || (subject.servedModel !== undefined && fits(subject.servedModel));
  });
}

/** Members that a rule may have at once; who comes after them is under one cap with all others. */
export const MOST_MEMBERS = 20_000;
/** Whoever is under that cap: nobody has such a name. */
export const OTHER_MEMBERS = "\0";

/** Whom of a rule's members a subject is; undefined: none, for it names nobody. */
function memberOf(each: Each, subject: Pick<Subject, "user" | "keyId" | "tags">): string | undefined {
  const member =
    each === "user" ? subject.user : each === "key" ? subject.keyId : tagOf(subject.tags, each.slice("tag:".length));
  return member === "" ? undefined : member;
}

/** The cap of one member. */
export function memberBudget({ each, raises, ...rule }: Budget, member: string): Budget {
  const id = memberId(rule.id, member);
  const own = raises?.filter(({ budgetId }) => budgetId === rule.id || budgetId === id) ?? [];
  const scope =
    member === OTHER_MEMBERS || each === undefined
      ? rule.scope
      : each === "user"
        ? { ...rule.scope, user: member }
        : each === "key"
          ? { ...rule.scope, keyId: member }
          : { ...rule.scope, tag: `${each.slice("tag:".length)}=${member}` };
  const others = member === OTHER_MEMBERS && each !== undefined ? { othersOf: each } : {};
  return { ...rule, id, ruleId: rule.id, ...others, scope, ...(own.length === 0 ? {} : { raises: own }) };
}

/** What each member of a rule has that nobody has raised by himself. */
export function usualCap(rule: Budget): Budget {
  const { raises: _, ...rest } = rule;
  const all = rule.raises?.filter(({ budgetId }) => budgetId === rule.id) ?? [];
  return { ...rest, ...(all.length === 0 ? {} : { raises: all }) };
}

/** The rules of whose members one has its cap where a budget is: the budget takes its place. */
export function rulesBehind(budget: Budget, budgets: readonly Budget[]): Budget[] {
  const { user, keyId, tag } = budget.scope;
  return budgets.filter((rule) => {
    const { each } = rule;
    if (each === undefined || budget.each !== undefined) return false;
    const member =
      each === "user"
        ? user
        : each === "key"
          ? keyId
          : tag?.startsWith(`${each.slice("tag:".length)}=`)
            ? splitTag(tag)[1]
            : undefined;
    return member !== undefined && isSamePlace(memberBudget(rule, member), budget);
  });
}

/** The id of a member's cap: it stands in headers and in paths. */
function memberId(ruleId: string, member: string): string {
  if (member === OTHER_MEMBERS) return `${ruleId}/*`;
  return `${ruleId}/${encodeURIComponent(member.toWellFormed()).replaceAll("*", "%2A")}`;
}

/** The rule's id, of a member's cap, and whose it is; of any other budget its own. */
export function ruleOf(budgetId: string): { readonly id: string; readonly member?: string } {
  const [id = "", path] = budgetId.split("/");
  if (path === undefined) return { id };
  if (path === "*") return { id, member: OTHER_MEMBERS };
  try {
    return { id, member: decodeURIComponent(path) };
  } catch {
    return { id, member: path };
  }
}

/** A budget by its id, or the cap of a rule's member. */
export function findBudget(budgets: readonly Budget[], budgetId: string): Budget | undefined {
  const { id, member } = ruleOf(budgetId);
  const found = budgets.find((budget) => budget.id === id);
  if (member === undefined) return found;
  return found?.each === undefined || member === "" ? undefined : memberBudget(found, member);
}

/** The places that budgets of their own have: no member's cap holds there. */
export function placesOf(budgets: readonly Budget[]): ReadonlySet<string> {
  return new Set(budgets.filter(({ each }) => each === undefined).map(placeOf));
}

/** Whether a budget of its own stands in the place of a member's cap. */
export function isOverridden(member: Budget, places: ReadonlySet<string>): boolean {
  return ruleOf(member.id).member !== OTHER_MEMBERS && places.has(placeOf(member));
}

/** The budgets that hold for a subject: those that cover it, and of rules the cap of the member that it is. */
export function holdFor<S extends Pick<Subject, "user" | "keyId" | "tags">>(
  budgets: readonly Budget[],
  subject: S,
  places: ReadonlySet<string>,
  isIn: (scope: Scope, subject: S) => boolean,
): Budget[] {
  return budgets.flatMap((budget) => {
    if (!isIn(budget.scope, subject)) return [];
    if (budget.each === undefined) return [budget];
    const member = memberOf(budget.each, subject);
    if (member === undefined) return [];
    const own = memberBudget(budget, member);
    return isOverridden(own, places) ? [] : [own];
  });
}

function isTagged({ tags }: Subject, wanted: string): boolean {
  const [name, value] = splitTag(wanted);
  return tagOf(tags, name) === value;
}

/** `customer=acme`: the name of a tag, and its value. */
export function splitTag(tag: string): readonly [name: string, value: string] {
  const mark = tag.indexOf("=");
  return [tag.slice(0, mark), tag.slice(mark + 1)];
}

/** The value of a tag; empty: it has none. */
export function tagOf(tags: string | null | undefined, name: string): string {
  if (!tags) return "";
  const value: unknown = (JSON.parse(tags) as { readonly [name: string]: unknown })[name];
  return typeof value === "string" ? value : "";
}

/** Whether a scope fits who asks, whatever is asked for. */
export function coversCaller({ provider: _provider, model: _model, ...scope }: Scope, caller: Caller): boolean {
  return covers(scope, { ...caller, provider: "", model: "" });
}

/** Who may ask. */
export type Caller = Omit<Subject, "provider" | "model" | "servedModel">;

/** Whether it could cover what a key uses of a provider, of whichever model, project and environment. */
export function mayCover(
  { team, keyId, provider }: Scope,
  subject: { readonly team: string; readonly keyId: string; readonly provider: string },
): boolean {
  return (
    (provider ?? subject.provider) === subject.provider &&
    (keyId ?? subject.keyId) === subject.keyId &&
    (team ?? subject.team) === subject.team
  );
}

/** Whether one takes the place of the other: a scope has one budget a window, and one rule for each member of a kind. */
export function isSamePlace(one: Place, other: Place): boolean {
  return placeOf(one) === placeOf(other);
}

type Place = Pick<Budget, "scope" | "window" | "each">;

function placeOf({ scope, window, each }: Place): string {
  return JSON.stringify([window, each ?? null, ...SCOPE_PARTS.map((part) => scope[part] ?? null)]);
}

/** Whether a budget is about exactly one team, key, model ..., or "org": about everything. */
export function isAbout(
  { scope, each }: Pick<Budget, "scope" | "each">,
  part: "org" | "key" | Exclude<keyof Scope, "keyId">,
  id: string,
): boolean {
  if (each !== undefined) return false;
  const named = Object.entries(scope).filter(([, value]) => value !== undefined);
  if (part === "org") return named.length === 0;
  return named.length === 1 && named[0]?.[0] === (part === "key" ? "keyId" : part) && named[0][1] === id;
}

/** "each user of team search", of a rule; else the scope in words. */
export function describeBudgetScope(
  { id, scope, each }: Pick<Budget, "id" | "scope" | "each">,
  nameOf?: (id: string) => string | undefined,
): string {
  const within = describeScope(scope, nameOf);
  if (ruleOf(id).member === OTHER_MEMBERS) return `all others of ${within}`;
  if (each === undefined) return within;
  const who = each.startsWith("tag:") ? each.slice("tag:".length) : each;
  return within === "the organisation" ? `each ${who}` : `each ${who} of ${within}`;
}

/** A scope in words: "team search, model gpt-4o*", or "the organisation". A key is called by its name, with its id, and a
 *  user by his name, where `nameOf` knows it by its id. */
export function describeScope(scope: Scope, nameOf: (id: string) => string | undefined = () => undefined): string {
  const parts = SCOPE_PARTS.flatMap((part) => {
    const value = scope[part];
    if (value === undefined) return [];
    if (part === "user") return [`user ${nameOf(value) ?? value}`];
    if (part !== "keyId") return [`${part} ${value}`];
    const name = nameOf(value);
    return [name === undefined || name === "" ? `key ${value}` : `key ${name} (${value})`];
  });
  return parts.length === 0 ? "the organisation" : parts.join(", ");
}
