// What a budget says when it says no: which one, what is left of it, what would fit, when it ends, whom to ask.
import type { BudgetRefusal } from "../ledger/budgets.ts";
import { describeBudgetScope } from "../ledger/budgets.ts";
import { formatUsd, formatUsdDown, formatUsdExact, formatUsdSet, formatUsdUp } from "../ledger/money.ts";
import { sayWhy } from "./dialects/why.ts";
import type { Why } from "./dialects/why.ts";
import { Refused } from "./refusals.ts";
import type { Asker, Principal } from "./principal.ts";

/** What a budget refused: whose request, for which model, and what is known of why. */
export type Refusing = {
  readonly principal: Principal;
  /** Who is behind it. */
  readonly userName?: string | undefined;
  readonly model: string;
  /** What has no bound. */
  readonly open?: Why | undefined;
  /** The longest answer that would fit, in tokens; undefined where a shorter answer is no help. */
  readonly fittingTokens?: number | undefined;
};

/** The refusal of a hard budget, with the numbers it used. Never a retry-after: some SDKs would sleep until the month
 *  ends, and no retry helps. */
export function refuseForMoney(refused: BudgetRefusal, status: number, refusing: Refusing): Refused {
  const { budget, window, amountNanoUsd, settledNanoUsd, reservedNanoUsd, askedNanoUsd, reason } = refused;
  const { fittingTokens } = refusing;
  return new Refused(reason, describeRefusal(refused, refusing), {
    status,
    isOfBudget: true,
    // Waiting helps only where money is what lacks.
    resetsAtMs: budget.window === "total" || reason === "unpriced" || reason === "unbounded" ? undefined : window.endMs,
    headers: [
      "x-should-retry",
      "false",
      "x-keymeter-budget-id",
      budget.id,
      "x-keymeter-budget-amount-usd",
      formatUsdExact(amountNanoUsd),
      "x-keymeter-budget-spent-usd",
      formatUsdExact(settledNanoUsd),
      "x-keymeter-budget-reserved-usd",
      formatUsdExact(reservedNanoUsd),
      "x-keymeter-budget-asked-usd",
      askedNanoUsd === undefined ? "unknown" : formatUsdExact(askedNanoUsd),
      ...(fittingTokens === undefined ? [] : ["x-keymeter-fitting-output-tokens", String(fittingTokens)]),
      "x-keymeter-budget-window-start",
      new Date(window.startMs).toISOString(),
      "x-keymeter-budget-window-end",
      budget.window === "total" ? "never" : new Date(window.endMs).toISOString(),
    ],
  });
}

/** Why a budget said no: which one, what is left of it, who asked for how much, what would fit, when it ends, whom to
 *  ask. */
function describeRefusal(refused: BudgetRefusal, refusing: Refusing): string {
  const { askedNanoUsd, reason, mostNanoUsd } = refused;
  const { model, fittingTokens } = refusing;
  const by = `This request is of ${describeKey(refusing)}`;
  switch (reason) {
    case "budget_exceeded":
      return sentences(
        `the request does not fit ${describeBudget(refused, refusing)}`,
        `${by} and may cost ${askedNanoUsd === undefined ? "an amount that is not known" : formatUsdUp(askedNanoUsd)}`,
        fittingTokens === undefined
          ? ""
          : fittingTokens > 0
            ? `It would fit with at most ${fittingTokens} output tokens`
            : "Not even an answer of one token would fit",
        endOf(refused),
        "Whoever runs Keymeter can raise the budget",
        // Whoever is named by a shared key cannot ask by it.
        refusing.principal.kind === "virtual" && refusing.principal.key?.policy.users === undefined
          ? 'Ask for more: keymeter ask --amount USD --why "...", or POST /keymeter/ask'
          : "",
      );
    case "in_flight":
      return sentences(
        `the request would fit ${describeBudget(refused, refusing)}, but with it all answers under way could come to ${mostNanoUsd === undefined ? "far more than the amount" : formatUsd(mostNanoUsd)}`,
        by,
        "Send fewer at once, ask for shorter ones (max tokens), or fetch the results of work that goes on (keymeter work list)",
        endOf(refused),
      );
    case "unpriced":
      return sentences(
        `${model === "" ? "the request names no model" : `the model "${model.slice(0, 80)}" has no price here`}, so ${describeBudget(refused, refusing)} cannot hold what it costs`,
        by,
        `The budget is not used up. Take a model that has a price; or whoever runs Keymeter gives this one its price (proxy.prices), or lets the key use it without (keymeter keys set ${refusing.principal.keyId} --unpriced 3/15: USD per million tokens in and out)`,
      );
    case "unbounded":
      return sentences(
        `${describeBudget(refused, refusing)} is strict, and the most this request can cost cannot be proven${refusing.open === undefined ? "" : `: ${sayWhy(refusing.open)}`}`,
        by,
        wayOut(refusing.open),
      );
  }
}

/** Why an answer is ended that goes on to cost more than a budget has. */
export function describeEnd(refused: BudgetRefusal, principal: Asker): string {
  return sentences(
    `${describeBudget(refused, { principal })} has no more for what this answer goes on to cost`,
    endOf(refused),
  );
}

/** "the month budget of team search (budget_x), $1.20 left of $50.00, $0.30 of it held for requests under way". */
function describeBudget(
  { budget, amountNanoUsd, settledNanoUsd, reservedNanoUsd }: BudgetRefusal,
  { principal, userName }: { readonly principal: Asker; readonly userName?: string | undefined },
): string {
  const left = amountNanoUsd - settledNanoUsd - reservedNanoUsd;
  const held = reservedNanoUsd > 0n ? `, ${formatUsd(reservedNanoUsd)} held for requests under way` : "";
  const scope = describeBudgetScope(budget, (id) => (id === principal.keyId ? principal.key?.name : userName));
  return `the ${budget.window === "total" ? "whole" : budget.window} budget of ${scope} (${formatUsdDown(left > 0n ? left : 0n)} left of ${formatUsdSet(amountNanoUsd)}${held}; id ${budget.id})`;
}

/** "key ci (key_x, team search, user anna)". */
function describeKey({ principal: { key, keyId, team, proven }, userName }: Refusing): string {
  const name = key?.name ?? proven?.name ?? "";
  const facts = [
    keyId,
    ...(team === "" ? [] : [`team ${team}`]),
    ...(userName === undefined ? [] : [`user ${userName}`]),
  ];
  return name === "" ? `key ${facts.join(", ")}` : `key ${name} (${facts.join(", ")})`;
}

function endOf({ budget, window }: BudgetRefusal): string {
  return budget.window === "total"
    ? "The budget has no end"
    : `It starts anew on ${new Date(window.endMs).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** What has no bound is named, with what lets it pass. */
function wayOut(open: Why | undefined): string {
  return open?.kind === "allowable"
    ? `Leave it out, or, if it costs nothing, whoever runs Keymeter adds "${open.name}" to proxy.allowed_fields`
    : "Leave it out, or ask under a budget that is not strict";
}

function sentences(...all: readonly string[]): string {
  return all
    .filter((one) => one !== "")
    .map((one) => `${one}.`)
    .join(" ");
}
