// keymeter budgets raise|unraise: more money for a budget, for a while and with a reason.
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { describeBudgetScope, findBudget, memberBudget } from "../ledger/budgets.ts";
import type { Budget } from "../ledger/budgets.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import { formatUsdSet } from "../ledger/money.ts";
import { createCalendar } from "../ledger/windows.ts";
import { makeChange, requireUsage } from "./books.ts";
import { parseUsdOption } from "./budget-options.ts";
import { loadCommandConfig } from "./config.ts";
import { findKey } from "./find-key.ts";
import { findUser } from "./find-user.ts";
import { namesOfAll } from "./names-of-all.ts";
import { parseInstant } from "./days.ts";
import { toJson } from "../service/json.ts";
import { UsageError } from "./usage-error.ts";

export const RAISES_USAGE = `keymeter budgets raise BUDGET [--member WHO] --by 100 --until 2026-12-01 --why WORDS [--json]
  More money in that budget from now until that day begins, or until an instant such as 2026-11-30T18:00Z; then the amount is the old one.
  Of a budget of each: for every member, or for one (--member: a user, a key, the tag's value; or its id RULE/MEMBER for BUDGET).
keymeter budgets unraise RAISE    ends one before its time`;

export async function raise(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { by: text, until: text, why: text, member: text, json: { type: "boolean", default: false } },
  });
  const [given] = positionals;
  const { by, until, why } = values;
  if (given === undefined || by === undefined || until === undefined || !why)
    throw new UsageError(`a raise needs a budget, --by, --until and --why\n${RAISES_USAGE}`);
  const config = loadCommandConfig();
  const amountNanoUsd = parseUsdOption("--by", by);
  if (amountNanoUsd <= 0n) throw new UsageError(`--by ${by} raises nothing; \`keymeter budgets set\` lowers an amount`);
  const nowMs = Date.now();
  const untilMs = parseInstant(until, createCalendar(config.timezone));
  if (untilMs === undefined)
    throw new UsageError(`--until ${until} is no day and no instant: write 2026-12-01 or 2026-11-30T18:00Z`);
  if (untilMs <= nowMs) throw new UsageError(`--until ${until} is over; nothing was raised`);

  const budget = await budgetFor(given, values.member);
  const budgetId = budget.id;
  const id = `rai_${randomBytes(5).toString("hex")}`;
  const made = { id, budgetId, amountNanoUsd, reason: why, createdAtMs: nowMs, untilMs };
  await makeChange(config, { type: "raiseBudget", raise: made });
  process.stdout.write(
    values.json
      ? `${toJson(made)}\n`
      : `${id}: ${formatUsdSet(amountNanoUsd)} more for ${describeBudgetScope(budget, await namesOfAll())} (${budget.window}) until ${new Date(untilMs).toISOString().slice(0, 16)}Z; \`keymeter budgets unraise ${id}\` ends it before\n`,
  );
}

export async function unraise(args: string[]): Promise<void> {
  const [raiseId] = args;
  if (raiseId === undefined) throw new UsageError(`which raise?\n${RAISES_USAGE}`);
  await makeChange(loadCommandConfig(), { type: "endRaise", raiseId });
  process.stdout.write(`${raiseId}: ended\n`);
}

async function budgetFor(id: string, member: string | undefined): Promise<Budget> {
  const books = await requireUsage(loadCommandConfig());
  const found = findBudget(await readBudgets(books), id);
  await books.close();
  if (!found) throw new UsageError(`there is no budget ${id}; \`keymeter budgets list\` shows them`);
  if (member === undefined) return found;
  if (found.each === undefined) throw new UsageError(`budget ${id} is no budget of each: leave --member out`);
  const who =
    found.each === "user"
      ? await findUser(member)
      : found.each === "key"
        ? (await findKey(member)).id
        : member.replace(`${found.each.slice("tag:".length)}=`, "");
  return memberBudget(found, who);
}
