// What somebody may change, in one place: make keys, set budgets, and answer who asks for more. And the links to it on other pages.
import { amountAt, describeBudgetScope } from "../../ledger/budgets.ts";
import { whyNotChange } from "../../ledger/usage/may-change.ts";
import { approvalOf } from "../../ledger/usage/approval.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import type { PageContext } from "./builder.ts";
import { namesOf, openAsks, seenBudgets } from "./forms/budgets.ts";
import { keyLink } from "./links.ts";
import { text, time, usd } from "./page.ts";
import type { Cell, Figure, Link, Page, Section } from "./page.ts";

/** A form, filled in with some of its values. */
function formLink(form: string, values: { readonly [field: string]: string } = {}): Link {
  return { page: "change", query: { form, ...values } };
}

const action = (title: string, link: Link): Figure => ({ title, value: text(title, link), money: "none" });

export async function manage(context: PageContext): Promise<Page> {
  const { holder, mayAsk } = context;
  const nameOf = await namesOf(context);
  const budgets = await seenBudgets(context);
  const asks = await openAsks(context);
  const begins = [
    ...(mayAsk("keys", "create") ? [action("Make a key", formLink("make-key"))] : []),
    ...(mayAsk("budgets", "set") ? [action("Set a budget", formLink("set-budget"))] : []),
  ];
  const rows: Cell[][] = [];
  for (const budget of budgets) {
    const may =
      (await whyNotChange(context.books.usage, holder, { type: "removeBudget", budgetId: budget.id })) === undefined &&
      mayAsk("budgets", "raise");
    rows.push([
      text(describeBudgetScope(budget, nameOf)),
      text(budget.window),
      text(budget.kind),
      usd(amountAt(budget, context.nowMs)),
      text(budget.id),
      may ? text("Raise", formLink("raise-budget", { budget: budget.id })) : text("set by others"),
      may ? text("Remove", formLink("remove-budget", { budget: budget.id })) : text(""),
    ]);
  }
  const asked: Cell[][] = [];
  for (const ask of asks) {
    const { change } = approvalOf(ask, { amountNanoUsd: ask.amountNanoUsd, untilMs: context.nowMs }, context.nowMs);
    const may = mayAsk("asks", "approve") && (await whyNotChange(context.books.usage, holder, change)) === undefined;
    asked.push([
      time(ask.createdAtMs),
      text(nameOf(ask.keyId) ?? ask.keyId, keyLink(ask.keyId)),
      text(ask.budgetId),
      usd(ask.amountNanoUsd),
      text(ask.why),
      may ? text("Approve", formLink("approve-ask", { ask: ask.id })) : text("answered by others"),
      may ? text("Refuse", formLink("refuse-ask", { ask: ask.id })) : text(""),
    ]);
  }
  return {
    title: "Manage",
    days: "local",
    sections: [
      {
        title: "New",
        question: "What do you want to make?",
        money: "none",
        figures: begins,
        notes: begins.length === 0 ? ["This sign-in reads, and changes nothing."] : [],
      },
      {
        title: "Asked for",
        question: "Who asks for more money?",
        money: "none",
        table: {
          name: "asked",
          columns: [
            { field: "at", title: "Asked", is: "time" },
            { field: "key", title: "Key", is: "text" },
            { field: "budget", title: "Budget", is: "text" },
            { field: "amount", title: "Amount", is: "usd" },
            { field: "why", title: "Why", is: "text" },
            { field: "approve", title: "Approve", is: "text" },
            { field: "refuse", title: "Refuse", is: "text" },
          ],
          rows: asked,
          empty: "Nobody asks for more.",
        },
      },
      {
        title: "Budgets",
        question: "Which budgets are there?",
        money: "none",
        table: {
          name: "budgets",
          columns: [
            { field: "scope", title: "For", is: "text" },
            { field: "window", title: "Window", is: "text" },
            { field: "kind", title: "Kind", is: "text" },
            { field: "amount", title: "Amount now", is: "usd" },
            { field: "budget", title: "Budget", is: "text" },
            { field: "raise", title: "Raise", is: "text" },
            { field: "remove", title: "Remove", is: "text" },
          ],
          rows,
          empty: "There is no budget.",
        },
        notes: ["A key is changed on its own page."],
      },
    ],
  };
}

/** On a key's page: what somebody may do with it. */
export function keyActions({ mayAsk }: PageContext, key: Pick<Key, "id" | "kind" | "state">): Section[] {
  if (key.state === "revoked") return [];
  const link = (form: string): Link => formLink(form, { key: key.id });
  const actions = [
    ...(key.state === "active" && mayAsk("keys", "pause") ? [action("Pause", link("pause-key"))] : []),
    ...(key.state === "paused" && mayAsk("keys", "resume") ? [action("Resume", link("resume-key"))] : []),
    ...(key.kind === "virtual" && mayAsk("keys", "rotate") ? [action("Rotate", link("rotate-key"))] : []),
    ...(mayAsk("keys", "revoke") ? [action("Revoke", link("revoke-key"))] : []),
    ...(mayAsk("budgets", "set") ? [action("Set a budget", formLink("set-budget", { key: key.id }))] : []),
  ];
  if (actions.length === 0) return [];
  return [{ title: "Change it", question: "What do you want to do with it?", money: "none", figures: actions }];
}
