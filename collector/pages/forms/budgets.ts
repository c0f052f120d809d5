// Forms that change budgets: set one, raise it for a while, remove it; and answers to who asked for more.
import { amountAt, describeBudgetScope, findBudget, isSamePlace } from "../../../ledger/budgets.ts";
import type { Budget, Each, Scope } from "../../../ledger/budgets.ts";
import { formatUsd, formatUsdSet } from "../../../ledger/money.ts";
import type { NanoUsd } from "../../../ledger/money.ts";
import { approvalOf } from "../../../ledger/usage/approval.ts";
import { readAskedRaises } from "../../../ledger/usage/asked-raises.ts";
import type { AnsweredRaise } from "../../../ledger/usage/asked-raises.ts";
import { readSettled } from "../../../ledger/usage/budget-spend.ts";
import { readBudgets } from "../../../ledger/usage/changes.ts";
import { readNames } from "../../../ledger/usage/key-use.ts";
import { readPeople } from "../../../ledger/usage/people.ts";
import { seesScopes } from "../../../ledger/usage/seen.ts";
import { readKeys } from "../../../ledger/usage/read-keys.ts";
import { readRefused } from "../../../ledger/usage/refused.ts";
import type { WindowKind } from "../../../ledger/windows.ts";
import { count, text, time, usd } from "../page.ts";
import type { Figure } from "../page.ts";
import type { Field } from "../field.ts";
import { effectOf, FormProblem, option } from "./form.ts";
import type { Form, FormContext, Values } from "./form.ts";
import { limitFields, parseAmount, requireKey, teamField } from "./keys.ts";

const EACH = [
  { value: "", label: "all of it together" },
  { value: "user", label: "each user by himself" },
  { value: "key", label: "each key by itself" },
];

export const setBudget: Form = {
  title: "Set a budget",
  does: "Set the budget",
  verb: ["budgets", "set"],
  async fields(context) {
    return [
      { name: "amount", label: "Amount, USD", kind: "usd", isRequired: true },
      ...limitFields("Window", "Kind"),
      teamField(context),
      { name: "key", label: "Key", kind: "text", note: "An id or a name." },
      { name: "user", label: "User", kind: "text" },
      { name: "project", label: "Project", kind: "text" },
      { name: "env", label: "Environment", kind: "text" },
      { name: "each", label: "Counts", kind: "choice", options: EACH, fallback: "" },
    ];
  },
  async effect(context, values) {
    const asked = await budgetOf(context, values);
    const old = (await readBudgets(context.books.usage)).find((one) => isSamePlace(one, asked));
    // What the old one was raised by stays.
    const budget = old?.raises ? { ...asked, raises: old.raises } : asked;
    const words = describeBudgetScope(budget, await namesOf(context));
    const { figures, spentNanoUsd } = await standing(context, budget);
    const isOver =
      budget.kind === "hard" && budget.each === undefined && spentNanoUsd >= amountAt(budget, context.nowMs);
    return [
      effectOf(
        [
          `${budget.kind === "hard" ? "A hard budget" : "A budget that tells only"} of ${formatUsdSet(budget.amountNanoUsd)} a ${budget.window} holds for ${words}.`,
          old
            ? `It takes the place of ${old.id}, which is ${formatUsdSet(old.amountNanoUsd)} (${old.kind}); what that was raised by stays.`
            : "There is none in its place yet.",
          ...(isOver ? ["That much is spent already: requests are refused from the next one on."] : []),
        ],
        { figures },
      ),
    ];
  },
  async change(context, values) {
    return { type: "setBudget", budget: await budgetOf(context, values) };
  },
  async words(context, values) {
    const { amount = "", window = "", kind = "soft", key = "" } = values;
    return [
      "budgets",
      "set",
      `--amount=${amount}/${window}`,
      ...(kind === "soft" ? [] : [`--${kind}`]),
      ...option("key", key === "" ? "" : (await requireKey(context, key)).id),
      ...["team", "user", "project", "env", "each"].flatMap((one) => option(one, values[one])),
    ];
  },
  done: (out) => ({ words: out.trim() }),
};

export const raiseBudget: Form = {
  title: "Raise a budget for a while",
  does: "Raise it",
  verb: ["budgets", "raise"],
  async fields(context, values) {
    return [
      await budgetField(context, values),
      { name: "amount", label: "Raise by, USD", kind: "usd", isRequired: true },
      { name: "until", label: "Until the start of", kind: "day", isRequired: true },
      { name: "why", label: "Why", kind: "text", isRequired: true },
    ];
  },
  async effect(context, values) {
    const budget = await requireBudget(context, values["budget"]);
    const by = parseAmount(values["amount"]);
    return [effectOf(...(await raising(context, budget, by, values["until"] ?? "")))];
  },
  async change(context, values) {
    const { id: budgetId } = await requireBudget(context, values["budget"]);
    return {
      type: "raiseBudget",
      raise: { id: "rai_new", budgetId, amountNanoUsd: 1n, reason: "", createdAtMs: 0, untilMs: 1 },
    };
  },
  async words(context, values) {
    const { id } = await requireBudget(context, values["budget"]);
    return [
      "budgets",
      "raise",
      id,
      ...["until", "why"].flatMap((one) => option(one, values[one])),
      `--by=${values["amount"] ?? ""}`,
    ];
  },
  done: (out) => ({ words: out.trim() }),
};

export const removeBudget: Form = {
  title: "Remove a budget",
  does: "Remove it",
  verb: ["budgets", "remove"],
  async fields(context, values) {
    return [await budgetField(context, values)];
  },
  async effect(context, values) {
    const budget = await requireBudget(context, values["budget"]);
    const words = describeBudgetScope(budget, await namesOf(context));
    return [
      effectOf(
        [
          `The ${budget.kind} budget of ${formatUsdSet(budget.amountNanoUsd)} a ${budget.window} for ${words} holds no more${budget.kind === "hard" ? ": nothing refuses there but what else holds" : ""}.`,
        ],
        { figures: (await standing(context, budget)).figures },
      ),
    ];
  },
  async change(context, values) {
    return { type: "removeBudget", budgetId: (await requireBudget(context, values["budget"])).id };
  },
  async words(context, values) {
    return ["budgets", "remove", (await requireBudget(context, values["budget"])).id];
  },
  done: (out) => ({ words: out.trim() }),
};

export const approveAsk: Form = {
  title: "Approve more money",
  does: "Approve it",
  verb: ["asks", "approve"],
  async fields() {
    return [
      { name: "ask", label: "Number of what was asked", kind: "fixed" },
      { name: "amount", label: "Raise by, USD", kind: "usd", note: "Empty: by what was asked." },
      { name: "until", label: "Until the start of", kind: "day", note: "Empty: until the budget's window ends." },
    ];
  },
  async effect(context, values) {
    const asked = await requireAsk(context, values["ask"]);
    const budget = await requireBudget(context, asked.budgetId);
    const by = values["amount"] ? parseAmount(values["amount"]) : asked.amountNanoUsd;
    const { startMs, endMs } = context.calendar.window(budget.window, context.nowMs);
    const until = values["until"] || (budget.window === "total" ? "" : context.calendar.day(endMs));
    const [notes, more] = await raising(context, budget, by, until);
    const refused = (await readRefused(context.books.usage, startMs, context.nowMs + 60_000))
      .filter((one) => one.budgetId === asked.budgetId && !one.observed)
      .reduce((sum, one) => sum + one.count, 0);
    return [
      effectOf([`“${asked.why}”`, ...notes], {
        figures: [
          { title: "Asked by", value: text((await namesOf(context))(asked.keyId) ?? asked.keyId), money: "none" },
          { title: "Refused in this window for the lack of it", value: count(refused), money: "none" },
          ...(more.figures ?? []),
        ],
      }),
    ];
  },
  async change(context, values) {
    const asked = await requireAsk(context, values["ask"]);
    return approvalOf(asked, { amountNanoUsd: 1n, untilMs: 1 }, context.nowMs).change;
  },
  async words(context, values) {
    const { id } = await requireAsk(context, values["ask"]);
    return ["asks", "approve", id, ...["amount", "until"].flatMap((one) => option(one, values[one]))];
  },
  done: (out) => ({ words: out.trim() }),
};

export const refuseAsk: Form = {
  title: "Refuse more money",
  does: "Refuse it",
  verb: ["asks", "refuse"],
  async fields() {
    return [{ name: "ask", label: "Number of what was asked", kind: "fixed" }];
  },
  async effect(context, values) {
    const asked = await requireAsk(context, values["ask"]);
    return [
      effectOf([
        `“${asked.why}”`,
        `${formatUsd(asked.amountNanoUsd)} more for ${asked.budgetId} is refused; the asker sees that. The budget stays as it is.`,
      ]),
    ];
  },
  async change(context, values) {
    return { type: "answerAsk", askId: (await requireAsk(context, values["ask"])).id, answer: "refused" };
  },
  async words(context, values) {
    return ["asks", "refuse", (await requireAsk(context, values["ask"])).id];
  },
  done: (out) => ({ words: out.trim() }),
};

/** What was asked and nobody has answered, of what the holder sees. */
export async function openAsks({ books, nowMs, holder }: FormContext): Promise<AnsweredRaise[]> {
  const sees = seesScopes(holder, (await readKeys(books.usage)).keys);
  const asked = await readAskedRaises(books.usage, nowMs);
  return asked.filter(({ answer, keyId }) => answer === undefined && sees({ keyId }));
}

/** Budgets that the holder sees: of a lead, what is of the team. */
export async function seenBudgets({ books, holder }: FormContext): Promise<Budget[]> {
  const sees = seesScopes(holder, (await readKeys(books.usage)).keys);
  return (await readBudgets(books.usage)).filter(({ scope }) => sees(scope));
}

export async function namesOf({ books }: FormContext): Promise<(id: string) => string | undefined> {
  const names = await readNames(books.usage);
  return (id) => names.get(id);
}

/** One of the budgets that the holder sees. */
async function budgetField(context: FormContext, values: Values): Promise<Field> {
  const nameOf = await namesOf(context);
  const options = (await seenBudgets(context)).map((one) => ({
    value: one.id,
    label: `${describeBudgetScope(one, nameOf)}: ${formatUsdSet(one.amountNanoUsd)} a ${one.window} (${one.id})`,
  }));
  return {
    name: "budget",
    label: "Budget",
    kind: "choice",
    options,
    fallback: values["budget"] ?? "",
    isRequired: true,
  };
}

async function requireBudget(context: FormContext, id = ""): Promise<Budget> {
  const found = findBudget(await seenBudgets(context), id);
  if (found) return found;
  throw new FormProblem(id === "" ? "Which budget?" : `There is no budget ${id}.`, "budget");
}

async function requireAsk(context: FormContext, id = ""): Promise<AnsweredRaise> {
  const found = (await openAsks(context)).find((one) => one.id === id);
  if (found) return found;
  throw new FormProblem(`Nobody asks ${id}, or somebody has answered already.`);
}

async function budgetOf(context: FormContext, values: Values): Promise<Budget> {
  const { team = "", project = "", env = "", key = "", user = "", window = "month", kind = "soft", each = "" } = values;
  const userId = user === "" ? undefined : await userIdOf(context, user);
  const keyId = key === "" ? undefined : (await requireKey(context, key)).id;
  const parts = { team, project, env, user: userId, keyId };
  const scope = Object.fromEntries(Object.entries(parts).filter(([, value]) => value)) as Scope;
  return {
    id: "bud_new",
    scope,
    ...(each === "" ? {} : { each: each as Each }),
    window: window as WindowKind,
    amountNanoUsd: parseAmount(values["amount"]),
    kind: kind === "soft" ? "soft" : "hard",
    mode: kind === "strict" ? "strict" : "expected",
    createdAtMs: context.nowMs,
  };
}

async function userIdOf({ books }: FormContext, wanted: string): Promise<string> {
  const found = [...(await readPeople(books.usage))].find(
    ([id, name]) => id === wanted || name.toLowerCase() === wanted.toLowerCase(),
  );
  if (found) return found[0];
  throw new FormProblem(`There is no user ${wanted}.`, "user");
}

/** Where a budget stands now. */
async function standing(
  { books, calendar, nowMs }: FormContext,
  budget: Budget,
): Promise<{ readonly figures: readonly Figure[]; readonly spentNanoUsd: NanoUsd }> {
  const window = calendar.window(budget.window, nowMs);
  // Of a rule each member has spent something else.
  if (budget.each !== undefined) return { figures: [], spentNanoUsd: 0n };
  const spentNanoUsd = await readSettled(books.usage, budget, window);
  return {
    spentNanoUsd,
    figures: [
      { title: `Spent this ${budget.window} there`, value: usd(spentNanoUsd), money: "metered" },
      { title: "Left of it", value: usd(amountAt(budget, nowMs) - spentNanoUsd), money: "none" },
      ...(budget.window === "total"
        ? []
        : [{ title: "The window ends", value: time(window.endMs), money: "none" } as const]),
    ],
  };
}

/** What a raise does: sentences, and where the budget stands. */
async function raising(
  context: FormContext,
  budget: Budget,
  by: NanoUsd,
  until: string,
): Promise<[readonly string[], { readonly figures?: readonly Figure[] }]> {
  const now = amountAt(budget, context.nowMs);
  const words = describeBudgetScope(budget, await namesOf(context));
  return [
    [
      `${words} may spend ${formatUsd(now + by)} a ${budget.window} instead of ${formatUsd(now)}${until === "" ? "" : `, until ${until} begins (${context.calendar.zone})`}. Then the amount is the old one.`,
    ],
    { figures: (await standing(context, budget)).figures },
  ];
}
