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
};
export const SCOPE_PARTS = [
  "team",
  "project",
  "env",
  "user",
  "keyId",
  "provider",
  "model",
] as const satisfies readonly (keyof Scope)[];

/** `strict` reserves the most a request can cost, so it cannot overshoot; `expected` reserves what it probably
 *  costs. */
type BudgetMode = "strict" | "expected";
type BudgetKind = "soft" | "hard";

export type Budget = {
  readonly id: string;
  readonly scope: Scope;
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
    if (part !== "model") return subject[part] === wanted;
    const fits = createGlob(wanted);
    return fits(subject.model) || (subject.servedModel !== undefined && fits(subject.servedModel));
  });
}

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

/** Whether one takes the place of the other: a scope has one budget a window. */
export function isSamePlace(one: Pick<Budget, "scope" | "window">, other: Pick<Budget, "scope" | "window">): boolean {
  return one.window === other.window && SCOPE_PARTS.every((part) => one.scope[part] === other.scope[part]);
}

/** Whether a budget is about exactly one team, key, model ..., or "org": about everything. */
export function isAbout(
  { scope }: Pick<Budget, "scope">,
  part: "org" | "key" | Exclude<keyof Scope, "keyId">,
  id: string,
): boolean {
  const named = Object.entries(scope).filter(([, value]) => value !== undefined);
  if (part === "org") return named.length === 0;
  return named.length === 1 && named[0]?.[0] === (part === "key" ? "keyId" : part) && named[0][1] === id;
}

/** "team search, model gpt-4o*", or "the organisation". A key is called by its name, with its id, and a user by his name,
 *  where `nameOf` knows it by its id. */
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
