// keymeter asks list|approve|refuse: what holders of keys asked for, and the answers.
import { parseArgs } from "node:util";
import { amountAt, describeBudgetScope, findBudget } from "../ledger/budgets.ts";
import { formatUsd, formatUsdColumn, formatUsdSet } from "../ledger/money.ts";
import { approvalOf } from "../ledger/usage/approval.ts";
import { readAskedRaises } from "../ledger/usage/asked-raises.ts";
import type { AnsweredRaise } from "../ledger/usage/asked-raises.ts";
import { readSettled } from "../ledger/usage/budget-spend.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { readRefused } from "../ledger/usage/refused.ts";
import { createCalendar, DAY_MS } from "../ledger/windows.ts";
import { toJson } from "../service/json.ts";
import { makeChange, requireUsage } from "./books.ts";
import { parseUsdOption } from "./budget-options.ts";
import { loadCommandConfig } from "./config.ts";
import { parseInstant } from "./days.ts";
import { ownScopes } from "./own.ts";
import { formatTable, printable } from "./table.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter asks list [--all] [--json]       who asks for more money, what is spent, and what was refused for the lack of it
keymeter asks approve ASK [--amount 10] [--until 2026-12-01]   raises the budget: by what was asked, until its window ends, or as said
keymeter asks refuse ASK
  All of it stands in the audit. Holders of keys ask with \`keymeter ask\`.`;

const SHOWN_MS = 31 * DAY_MS;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  if (verb === "list") return list(rest);
  if (verb === "approve") return approve(rest);
  if (verb === "refuse") return refuse(rest);
  throw noSuchVerb("asks", verb, ["list", "approve", "refuse"], USAGE);
}

async function list(args: string[]): Promise<void> {
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({ args, options: { all: flag, json: flag } });
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const nowMs = Date.now();
  const books = await requireUsage(config);
  const isOwn = await ownScopes();
  const asked = (await readAskedRaises(books, nowMs - SHOWN_MS)).filter(
    ({ answer, keyId }) => (values.all || !answer) && isOwn({ keyId }),
  );
  const [budgets, names] = [await readBudgets(books), await readNames(books)];
  const rows = [];
  for (const one of asked) {
    const budget = findBudget(budgets, one.budgetId);
    const window = budget && calendar.window(budget.window, nowMs);
    const isSeen = budget !== undefined && isOwn(budget.scope);
    const refused = window && isSeen ? await readRefused(books, window.startMs, nowMs + 60_000) : [];
    rows.push({
      ...one,
      key: names.get(one.keyId) ?? one.keyId,
      budget: budget ? describeBudgetScope(budget, (id) => names.get(id)) : "removed",
      window: budget?.window ?? "",
      amountNowNanoUsd: isSeen ? amountAt(budget, nowMs) : 0n,
      spentNanoUsd: isSeen && window ? await readSettled(books, budget, window) : 0n,
      refusedRequests: refused
        .filter(({ budgetId, observed }) => budgetId === one.budgetId && !observed)
        .reduce((sum, { count }) => sum + count, 0),
    });
  }
  await books.close();
  if (values.json) return void process.stdout.write(`${toJson(rows)}\n`);
  if (rows.length === 0) return void process.stdout.write("Nobody asks for more.\n");
  const spent = formatUsdColumn(rows.map(({ spentNanoUsd }) => spentNanoUsd));
  process.stdout.write(
    `${formatTable(
      [
        "ask",
        "key",
        "budget",
        "window",
        "amount",
        "spent",
        "refused",
        "asks for",
        "why",
        ...(values.all ? ["answer"] : []),
      ],
      rows.map((row, i) => [
        row.id,
        row.key,
        row.budget,
        row.window,
        formatUsdSet(row.amountNowNanoUsd),
        spent[i] ?? "",
        String(row.refusedRequests),
        formatUsd(row.amountNanoUsd),
        printable(row.why),
        ...(values.all ? [row.answer === undefined ? "" : `${row.answer} by ${row.answeredBy}`] : []),
      ]),
    )}\n`,
  );
}

async function approve(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options: { amount: text, until: text } });
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const asked = await findAsked(positionals[0]);
  const books = await requireUsage(config);
  const budget = findBudget(await readBudgets(books), asked.budgetId);
  await books.close();
  if (!budget) throw new UsageError(`budget ${asked.budgetId} was removed since; \`keymeter asks refuse ${asked.id}\``);
  const nowMs = Date.now();
  if (values.until === undefined && budget.window === "total")
    throw new UsageError(`budget ${budget.id} has no end: say --until`);
  const untilMs =
    values.until === undefined ? calendar.window(budget.window, nowMs).endMs : parseInstant(values.until, calendar);
  if (untilMs === undefined || untilMs <= nowMs)
    throw new UsageError(`--until ${values.until} is no day to come: write 2026-12-01 or 2026-11-30T18:00Z`);
  const amountNanoUsd = values.amount === undefined ? asked.amountNanoUsd : parseUsdOption("--amount", values.amount);
  if (amountNanoUsd <= 0n) throw new UsageError(`--amount ${values.amount} raises nothing`);
  const { change, raiseId } = approvalOf(asked, { amountNanoUsd, untilMs }, nowMs);
  await makeChange(config, change);
  process.stdout.write(
    `${asked.id}: approved; ${formatUsd(amountNanoUsd)} more for ${budget.id} until ${new Date(untilMs).toISOString().slice(0, 16)}Z (${raiseId})\n`,
  );
}

async function refuse(args: string[]): Promise<void> {
  const asked = await findAsked(args[0]);
  await makeChange(loadCommandConfig(), { type: "answerAsk", askId: asked.id, answer: "refused" });
  process.stdout.write(`${asked.id}: refused\n`);
}

async function findAsked(id: string | undefined): Promise<AnsweredRaise> {
  if (id === undefined) throw new UsageError(`which?\n${USAGE}`);
  const books = await requireUsage(loadCommandConfig());
  const found = (await readAskedRaises(books, 0)).find((one) => one.id === id);
  await books.close();
  if (!found) throw new UsageError(`nobody asked ${id}; \`keymeter asks list\` shows what was asked`);
  return found;
}
