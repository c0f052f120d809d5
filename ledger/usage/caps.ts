// The caps of now, with what each has spent: budgets, and of rules the members that are near the end of theirs. Reads only.
import { amountAt, OTHER_MEMBERS, ruleOf, usualCap, USUAL_THRESHOLDS } from "../budgets.ts";
import type { Budget } from "../budgets.ts";
import type { UsageBooks } from "../books.ts";
import type { NanoUsd } from "../money.ts";
import type { Calendar, Window } from "../windows.ts";
import { readAllSettled, readMembers } from "./budget-spend.ts";
import { readBudgets } from "./changes.ts";

export type Cap = { readonly budget: Budget; readonly settledNanoUsd: NanoUsd };

/** A rule, with those of its members that have spent in its window, or are raised: who is nearest the end of his cap
 *  first. */
export type RuleUse = { readonly rule: Budget; readonly members: readonly Cap[] };

export type Caps = { readonly budgets: readonly Cap[]; readonly rules: readonly RuleUse[] };

/** Caps of a rule's members that are watched as budgets are. */
const MOST_WATCHED = 50;

export async function readCaps(
  books: UsageBooks,
  calendar: Pick<Calendar, "window">,
  nowMs: number,
  isMeant: (budget: Budget) => boolean = () => true,
): Promise<Caps> {
  const all = await readBudgets(books);
  const budgets = all.filter(isMeant);
  const windowOf = ({ window }: Budget): Window => calendar.window(window, nowMs);
  const settled = await readAllSettled(books, budgets, windowOf);
  const rules: RuleUse[] = [];
  for (const rule of budgets.filter(({ each }) => each !== undefined)) {
    const members = await readMembers(books, rule, all, windowOf(rule));
    rules.push({ rule, members: members.toSorted((a, b) => shareOf(b, nowMs) - shareOf(a, nowMs)) });
  }
  return {
    budgets: budgets
      .filter(({ each }) => each === undefined)
      .map((budget) => ({ budget, settledNanoUsd: settled.get(budget.id) ?? 0n })),
    rules,
  };
}

/** A rule as one line: with the amount and the spend of its member that is nearest the end of its cap, and how many have
 *  spent. */
export function lineOf({ rule, members }: RuleUse): {
  readonly cap: Cap;
  readonly of: number;
  readonly first: Budget | undefined;
} {
  const [first] = members;
  return {
    cap: { budget: first?.budget ?? usualCap(rule), settledNanoUsd: first?.settledNanoUsd ?? 0n },
    of: members.filter(({ settledNanoUsd }) => settledNanoUsd > 0n).length,
    first: first?.budget,
  };
}

/** What somebody has to watch: budgets, and members that have come to the first share of their cap at which somebody is
 *  told. */
export function watchedOf({ budgets, rules }: Caps, nowMs: number): Cap[] {
  const near = rules.flatMap(({ rule, members }) => {
    const first = Math.min(...(rule.thresholds ?? USUAL_THRESHOLDS)) / 100;
    return members
      .filter((cap) => ruleOf(cap.budget.id).member !== OTHER_MEMBERS && shareOf(cap, nowMs) >= first)
      .slice(0, MOST_WATCHED);
  });
  return [...budgets, ...near];
}

/** How much of a cap is used: 1 is all of it. */
export function shareOf({ budget, settledNanoUsd }: Cap, nowMs: number): number {
  const amount = amountAt(budget, nowMs);
  return amount === 0n ? Number(settledNanoUsd > 0n) : Number(settledNanoUsd) / Number(amount);
}
