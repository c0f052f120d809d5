// Budgets on a page: those that hold for what it shows, and what is left of each.
import { amountAt, coversCaller, describeBudgetScope, describeScope, holdFor, placesOf } from "../../ledger/budgets.ts";
import type { Budget, Scope } from "../../ledger/budgets.ts";
import { lineOf, readCaps, shareOf, watchedOf } from "../../ledger/usage/caps.ts";
import type { Cap } from "../../ledger/usage/caps.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readBudgets } from "../../ledger/usage/changes.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import { seesScopes } from "../../ledger/usage/seen.ts";
import { readNames } from "../../ledger/usage/key-use.ts";
import type { Window } from "../../ledger/windows.ts";
import { kindOf } from "../gauges/budgets.ts";
import type { PageContext } from "./builder.ts";
import { share, text, time, usd } from "./page.ts";
import type { Cell, Section } from "./page.ts";

/** Budgets as a table: of those that hold for what is shown, the ones that are nearest their end. */
export async function budgetSection(
  context: PageContext,
  budgets: readonly Budget[],
  question: string,
): Promise<Section> {
  const { books, calendar, nowMs } = context;
  const names = await readNames(books.usage);
  const ids = new Set(budgets.map(({ id }) => id));
  const caps = await readCaps(books.usage, calendar, nowMs, ({ id }) => ids.has(id));
  // A rule is a line with what its member has spent that is nearest the end; members near theirs stand by themselves.
  const rules = caps.rules.map((use) => {
    const { cap, of } = lineOf(use);
    return { cap, of, budget: use.rule };
  });
  const shown = [...watchedOf(caps, nowMs).map((cap) => ({ cap, of: undefined, budget: cap.budget })), ...rules]
    .map(({ cap, of, budget }) => ({
      budget,
      of,
      amount: amountAt(cap.budget, nowMs),
      cost: cap.settledNanoUsd,
      used: shareOf(cap, nowMs),
    }))
    .toSorted((a, b) => b.used - a.used);
  return sectionOf(context, shown, names, question);
}

/** These caps, as a table. */
export async function capsSection(context: PageContext, caps: readonly Cap[], question: string): Promise<Section> {
  const { books, nowMs } = context;
  const shown = caps.map((cap) => ({
    budget: cap.budget,
    of: undefined,
    amount: amountAt(cap.budget, nowMs),
    cost: cap.settledNanoUsd,
    used: shareOf(cap, nowMs),
  }));
  return sectionOf(context, shown, await readNames(books.usage), question);
}

/** A line of the table. `of`: of a rule, how many members have spent. */
type Shown = {
  readonly budget: Budget;
  readonly of: number | undefined;
  readonly amount: NanoUsd;
  readonly cost: NanoUsd;
  readonly used: number;
};

function sectionOf(
  { calendar, nowMs, capMode }: PageContext,
  shown: readonly Shown[],
  names: ReadonlyMap<string, string>,
  question: string,
): Section {
  const windowOf = ({ window }: Budget): Window => calendar.window(window, nowMs);
  return {
    title: "Budgets",
    question,
    money: "metered",
    table: {
      name: "budgets",
      columns: [
        { field: "scope", title: "For", is: "text" },
        { field: "window", title: "Window", is: "text" },
        { field: "kind", title: "Kind", is: "text" },
        { field: "amount", title: "Amount", is: "usd" },
        { field: "spent", title: "Spent", is: "usd" },
        { field: "left", title: "Left", is: "usd" },
        { field: "used", title: "Used", is: "share" },
        { field: "ends", title: "Ends", is: "time" },
        { field: "budget", title: "Budget", is: "text" },
      ],
      rows: shown
        .slice(0, MOST_BUDGETS)
        .map(({ budget, of, amount, cost }): Cell[] => [
          text(
            `${budgetWords(budget, names)}${of === undefined ? "" : of === 0 ? " (nobody yet)" : ` (the one that has used most, of ${of})`}`,
          ),
          text(budget.window),
          text(kindOf(budget, capMode)),
          usd(amount),
          usd(cost),
          usd(amount - cost),
          share(cost, amount),
          budget.window === "total" ? undefined : time(windowOf(budget).endMs),
          text(budget.id),
        ]),
      empty: "No budget holds here. `keymeter budgets set` makes one.",
    },
    ...(shown.length > MOST_BUDGETS
      ? { notes: [`The ${MOST_BUDGETS} nearest their end of ${shown.length}; \`keymeter budgets list\` has all.`] }
      : {}),
  };
}

/** Budgets that stand in a table, those nearest their end. */
const MOST_BUDGETS = 50;

/** The caps that hold for a key, on whichever model: of rules that of the member that it, or its user, is. */
export async function capsOf(
  { books, calendar, nowMs }: PageContext,
  key: Pick<Key, "id" | "team" | "project" | "env" | "user" | "policy">,
): Promise<Cap[]> {
  const caller = { ...key, keyId: key.id, tags: JSON.stringify(key.policy.tags ?? {}) };
  const budgets = await readBudgets(books.usage);
  const own = holdFor(budgets, caller, placesOf(budgets), coversCaller);
  const ids = new Set(own.map(({ id, ruleId }) => ruleId ?? id));
  const { budgets: plain, rules } = await readCaps(books.usage, calendar, nowMs, ({ id }) => ids.has(id));
  const settled = new Map(
    [...plain, ...rules.flatMap(({ members }) => members)].map((cap) => [cap.budget.id, cap.settledNanoUsd]),
  );
  return own.map((budget) => ({ budget, settledNanoUsd: settled.get(budget.id) ?? 0n }));
}

/** Of these, what whoever looks is shown: of other scopes than the team's a lead sees that they refuse, and no figures. */
export async function seenCapsOf(context: PageContext, key: Parameters<typeof capsOf>[1]): Promise<Cap[]> {
  const sees = seesScopes(context.holder, (await readKeys(context.books.usage)).keys);
  return (await capsOf(context, key)).filter(({ budget }) => sees(budget.scope));
}

/** What a scope covers, in words, with the names of key and user. */
export function scopeWords(scope: Scope, names: ReadonlyMap<string, string>): string {
  return describeScope(withKeyName(scope, names), (id) => (id === scope.user ? names.get(id) : undefined));
}

function budgetWords(budget: Budget, names: ReadonlyMap<string, string>): string {
  const { scope } = budget;
  return describeBudgetScope({ ...budget, scope: withKeyName(scope, names) }, (id) =>
    id === scope.user ? names.get(id) : undefined,
  );
}

function withKeyName(scope: Scope, names: ReadonlyMap<string, string>): Scope {
  const { keyId } = scope;
  return keyId === undefined ? scope : { ...scope, keyId: names.get(keyId) ?? keyId };
}
