// keymeter budgets set|raise|unraise|freeze|lift|replay|list|remove
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import {
  amountAt,
  describeBudgetScope,
  describeScope,
  OTHER_MEMBERS,
  ruleOf,
  rulesBehind,
  USUAL_THRESHOLDS,
} from "../ledger/budgets.ts";
import type { Budget } from "../ledger/budgets.ts";
import { readBudgets, readFreezes } from "../ledger/usage/changes.ts";
import { formatUsd, formatUsdColumn, formatUsdDown, formatUsdSet } from "../ledger/money.ts";
import { lineOf, readCaps } from "../ledger/usage/caps.ts";
import type { Cap, RuleUse } from "../ledger/usage/caps.ts";
import { createCalendar, WINDOWS } from "../ledger/windows.ts";
import { newBudget, parseAmount, parseEach, parseThresholds, SCOPE_OPTIONS, scopeOf } from "./budget-options.ts";
import { cutLive, makeChange, requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { ownScopes } from "./own.ts";
import { namesOfAll } from "./names-of-all.ts";
import { raise, RAISES_USAGE, unraise } from "./raises.ts";
import { replay, REPLAY_USAGE } from "./replay.ts";
import { toJson } from "../service/json.ts";
import { formatTable, printable } from "./table.ts";
import { warningsOf } from "./warnings.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter budgets set --amount 500/month [--team T] [--project P] [--env E] [--user U] [--key KEY] [--provider P] [--model M] [--tag customer=acme] [--each user|key|tag:NAME] [--hard] [--strict] [--observe] [--thresholds 50,80,100]
${RAISES_USAGE}
keymeter budgets freeze [SCOPE] --why WORDS [--cut]    admits nothing more in a scope, from the next request on; --cut ends what goes on
keymeter budgets lift ID
${REPLAY_USAGE}
keymeter budgets list [--members ID] [--json]
keymeter budgets remove ID
  Windows: ${WINDOWS.join(", ")}. No scope at all is the whole organisation. A budget for the same scope and window replaces the old one.
  --each: the amount is that of each user, key, or value of a tag in the scope: one rule, a cap for each from its first request on. A budget set for
  one of them (the same scope and window, and --user, --key or --tag) takes the place of that one's cap.
  --hard refuses what does not fit, by what a request probably costs; --strict by the most it can cost (never overshoots).
  --thresholds: the shares, in percent, at which somebody is told (${USUAL_THRESHOLDS.join(", ")} when not said).
  --observe lets through what a hard budget would refuse, and counts it: to try a cap before it bites.`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  switch (verb) {
    case "set":
      return set(rest);
    case "list":
      return list(rest);
    case "remove":
      return remove(rest);
    case "freeze":
      return freeze(rest);
    case "replay":
      return replay(rest);
    case "raise":
      return raise(rest);
    case "unraise":
      return unraise(rest);
    case "lift":
      return lift(rest);
    default:
      throw noSuchVerb(
        "budgets",
        verb,
        ["set", "list", "remove", "raise", "unraise", "freeze", "lift", "replay"],
        USAGE,
      );
  }
}

async function set(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      amount: { type: "string" },
      ...SCOPE_OPTIONS,
      observe: { type: "boolean", default: false },
      hard: { type: "boolean", default: false },
      strict: { type: "boolean", default: false },
      thresholds: { type: "string" },
      each: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  if (!values.amount) throw new UsageError(`a budget needs an --amount\n${USAGE}`);
  const scope = await scopeOf(values);
  const budget = newBudget({
    scope,
    each: values.each === undefined ? undefined : parseEach(values.each),
    ...parseAmount(values.amount),
    hard: values.hard || values.strict || values.observe,
    strict: values.strict,
    observe: values.observe,
    thresholds: values.thresholds === undefined ? undefined : parseThresholds(values.thresholds),
  });
  const config = loadCommandConfig();
  await makeChange(config, { type: "setBudget", budget });
  const books = await requireUsage(config);
  const behind = rulesBehind(budget, await readBudgets(books));
  await books.close();
  process.stdout.write(
    values.json
      ? `${toJson(budget)}\n`
      : `${budget.id}: ${budget.kind} budget of ${formatUsdSet(budget.amountNanoUsd)} a ${budget.window} for ${describeBudgetScope(budget, await namesOfAll())} (${modeOf(budget)})\n`,
  );
  for (const { id } of behind) process.stderr.write(`It takes the place of this member's cap of ${id}.\n`);
  for (const sentence of await warningsOf([budget])) process.stderr.write(`${sentence}\n`);
}

async function freeze(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { ...SCOPE_OPTIONS, why: { type: "string" }, cut: { type: "boolean", default: false } },
  });
  if (!values.why) throw new UsageError(`a freeze says --why: those who are refused read it\n${USAGE}`);
  const scope = await scopeOf(values);
  const id = `frz_${randomBytes(5).toString("hex")}`;
  const config = loadCommandConfig();
  await makeChange(config, { type: "freeze", freeze: { id, scope, reason: values.why, createdAtMs: Date.now() } });
  const cut = values.cut ? await cutLive(config, scope) : undefined;
  process.stdout.write(
    `${id}: ${describeScope(scope, await namesOfAll())} is frozen${cut === undefined ? "" : `, ${cut} live requests ended`}; \`keymeter budgets lift ${id}\` lifts it\n`,
  );
}

async function lift(args: string[]): Promise<void> {
  const [freezeId] = args;
  if (freezeId === undefined) throw new UsageError(`which freeze?\n${USAGE}`);
  await makeChange(loadCommandConfig(), { type: "lift", freezeId });
  process.stdout.write(`${freezeId}: lifted\n`);
}

async function list(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { members: { type: "string" }, json: { type: "boolean", default: false } },
  });
  const config = loadCommandConfig();
  const books = await requireUsage(config);
  const calendar = createCalendar(config.timezone);
  const now = Date.now();
  const all = await readCaps(books, calendar, now);
  const freezes = await readFreezes(books);
  await books.close();
  const isOwn = await ownScopes();
  const budgets = all.budgets.filter(({ budget }) => isOwn(budget.scope));
  const rules = all.rules.filter(({ rule }) => isOwn(rule.scope));
  const frozen = freezes.filter(({ scope }) => isOwn(scope));
  const nameOf = await namesOfAll();
  const rule = values.members === undefined ? undefined : rules.find((one) => one.rule.id === values.members);
  if (values.members !== undefined && !rule)
    throw new UsageError(`${values.members} is no budget of each; \`keymeter budgets list\` shows them`);

  const rowOf = ({ budget, settledNanoUsd: spentNanoUsd }: Cap, members?: number) => {
    const window = calendar.window(budget.window, now);
    return {
      ...budget,
      thresholds: budget.thresholds ?? USUAL_THRESHOLDS,
      amountNowNanoUsd: amountAt(budget, now),
      spentNanoUsd,
      members,
      windowStart: new Date(window.startMs).toISOString(),
      windowEnd: budget.window === "total" ? null : new Date(window.endMs).toISOString(),
    };
  };
  const rows = rule
    ? rule.members.map((cap) => rowOf(cap))
    : [
        ...budgets.map((cap) => rowOf(cap)),
        ...rules.map((one) => {
          const { cap, of, first } = lineOf(one);
          const { id, each, scope, raises } = one.rule;
          return {
            ...rowOf(cap, of),
            id,
            each,
            scope,
            raises,
            words: ruleWords(one, nameOf),
            mostUsed: first?.id ?? null,
          };
        }),
      ];
  if (values.json) return void process.stdout.write(`${toJson(rows)}\n`);
  for (const { id, scope, reason } of frozen)
    process.stdout.write(`FROZEN ${id}: ${describeScope(scope, nameOf)} (${printable(reason)})\n`);
  const raised = rule ? [rule.rule] : [...budgets.map(({ budget }) => budget), ...rules.map((one) => one.rule)];
  for (const line of raiseLines(raised, nameOf, now)) process.stdout.write(line);
  const spent = formatUsdColumn(rows.map((row) => row.spentNanoUsd));
  const left = rows.map((row) => formatUsdDown(row.amountNowNanoUsd - row.spentNanoUsd));
  process.stdout.write(
    `${formatTable(
      ["id", "scope", "window", "kind", "how", "amount", "spent", "left", "until", "told at %"],
      rows.map((row, i) => [
        row.id,
        "words" in row ? row.words : describeBudgetScope(row, nameOf),
        row.window,
        row.kind,
        modeOf(row),
        formatUsdSet(row.amountNowNanoUsd),
        spent[i] ?? "",
        left[i] ?? "",
        row.windowEnd?.slice(0, 16) ?? "never",
        row.thresholds.join(", "),
      ]),
    )}\n`,
  );
  if (!rule && rules.length > 0)
    process.stdout.write("`keymeter budgets list --members ID` shows what each of a budget of each has spent\n");
}

/** "each user of team search: user anna has used most, of 6". */
function ruleWords(use: RuleUse, nameOf: (id: string) => string | undefined): string {
  const { of, first } = lineOf(use);
  const words = describeBudgetScope(use.rule, nameOf);
  return of === 0 || !first
    ? `${words}: nobody yet`
    : `${words}: ${memberWords(first, nameOf)} has used most, of ${of}`;
}

/** A member by what tells it from the others. */
function memberWords({ id, scope, ruleId }: Budget, nameOf: (id: string) => string | undefined): string {
  const { member = "" } = ruleOf(id);
  if (member === OTHER_MEMBERS || ruleId === undefined) return "one of the others";
  return nameOf(member) ?? (scope.tag?.endsWith(`=${member}`) ? scope.tag : member);
}

/** How it holds, in a word: what a soft one reserves is nobody's concern. */
function modeOf({ kind, mode, observe }: Pick<Budget, "kind" | "mode" | "observe">): string {
  if (kind === "soft") return "tells only";
  return observe ? `${mode}, observed` : mode;
}

/** What budgets are raised by now, a line each. */
function raiseLines(budgets: readonly Budget[], nameOf: (id: string) => string | undefined, nowMs: number): string[] {
  return budgets.flatMap(({ id, each, raises = [] }) =>
    raises
      .filter(({ untilMs }) => untilMs > nowMs)
      .map(
        (raise) =>
          `RAISED ${raise.id}: ${id}${each === undefined ? "" : `, ${raisedFor(raise.budgetId, nameOf)},`} by ${formatUsd(raise.amountNanoUsd)} until ${new Date(raise.untilMs).toISOString().slice(0, 16)}Z (${printable(raise.reason)})\n`,
      ),
  );
}

/** Of a rule: whom a raise is for. */
function raisedFor(budgetId: string, nameOf: (id: string) => string | undefined): string {
  const { member } = ruleOf(budgetId);
  return member === undefined ? "every member" : (nameOf(member) ?? member);
}

async function remove(args: string[]): Promise<void> {
  const [budgetId] = args;
  if (budgetId === undefined) throw new UsageError(`which budget?\n${USAGE}`);
  await makeChange(loadCommandConfig(), { type: "removeBudget", budgetId });
  process.stdout.write(`${budgetId}: removed\n`);
}
