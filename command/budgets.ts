// keymeter budgets set|list|remove
import { randomBytes } from "node:crypto";
import { parseArgs } from "node:util";
import { describeScope } from "../ledger/budgets.ts";
import type { Budget, Scope } from "../ledger/budgets.ts";
import { readBudgets } from "../ledger/changes.ts";
import { formatUsd, formatUsdColumn, parseUsd } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { readSettled } from "../ledger/spend.ts";
import { createCalendar, WINDOWS } from "../ledger/windows.ts";
import type { WindowKind } from "../ledger/windows.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import { makeChange, openUsage } from "./books.ts";
import { findKey } from "./find-key.ts";
import { loadCommandConfig } from "./config.ts";
import { formatTable, toJson } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter budgets set --amount 500/month [--team T] [--project P] [--env E] [--key KEY] [--provider P] [--model M] [--hard] [--strict]
keymeter budgets list [--json]
keymeter budgets remove ID
  Windows: ${WINDOWS.join(", ")}. No scope at all is the whole organisation. A budget for the same scope and window replaces the old one.
  --hard refuses what does not fit, by what a request probably costs; --strict by the most it can cost (never overshoots).`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  switch (verb) {
    case "set":
      return set(rest);
    case "list":
      return list(rest);
    case "remove":
      return remove(rest);
    default:
      throw new UsageError(USAGE);
  }
}

/** "50/month" -> amount and window. */
export function parseAmount(text: string): { amountNanoUsd: NanoUsd; window: WindowKind } {
  const [amount = "", window = ""] = text.split("/");
  if (!(WINDOWS as readonly string[]).includes(window))
    throw new UsageError(
      `"${text}" is no budget: write an amount in USD and a window, such as 50/month (${WINDOWS.join(", ")})`,
    );
  try {
    const amountNanoUsd = parseUsd(amount);
    if (amountNanoUsd < 0n) throw new RangeError(`"${amount}" is negative`);
    return { amountNanoUsd, window: window as WindowKind };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

export function newBudget({
  scope,
  amountNanoUsd,
  window,
  hard,
  strict,
}: {
  scope: Scope;
  amountNanoUsd: NanoUsd;
  window: WindowKind;
  hard: boolean;
  strict: boolean;
}): Budget {
  return {
    id: `bud_${randomBytes(5).toString("hex")}`,
    scope,
    amountNanoUsd,
    window,
    kind: hard ? "hard" : "soft",
    mode: strict ? "strict" : "expected",
    createdAtMs: Date.now(),
  };
}

async function set(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args,
    options: {
      amount: text,
      team: text,
      project: text,
      env: text,
      key: text,
      provider: text,
      model: text,
      hard: { type: "boolean", default: false },
      strict: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  if (!values.amount) throw new UsageError(`a budget needs an --amount\n${USAGE}`);
  const scope: Scope = Object.fromEntries(
    Object.entries({
      team: values.team,
      project: values.project,
      env: values.env,
      keyId: values.key === undefined ? undefined : (await findKey(values.key)).id,
      provider: values.provider === undefined ? undefined : providerName(values.provider),
      model: values.model,
    }).filter(([, value]) => value !== undefined),
  );
  const budget = newBudget({
    scope,
    ...parseAmount(values.amount),
    hard: values.hard || values.strict,
    strict: values.strict,
  });
  await makeChange(loadCommandConfig(), { type: "setBudget", budget });
  process.stdout.write(
    values.json
      ? `${toJson(budget)}\n`
      : `${budget.id}: ${budget.kind} budget of ${formatUsd(budget.amountNanoUsd)} USD a ${budget.window} for ${describeScope(scope)} (${budget.mode})\n`,
  );
}

/** A budget on a name that nothing is booked under would never hold. */
function providerName(wanted: string): string {
  const known: { readonly [name: string]: string } = {
    openai: "openai",
    anthropic: "anthropic",
    google: "gcp.gemini",
    "gcp.gemini": "gcp.gemini",
    vertex: "gcp.vertex_ai",
    "gcp.vertex_ai": "gcp.vertex_ai",
  };
  const upstreams = loadProxyConfig().upstreams.map(({ name }) => name);
  const found = known[wanted] ?? upstreams.find((name) => name === wanted);
  if (found === undefined)
    throw new UsageError(
      `nothing is booked under the provider "${wanted}"; there are ${[...new Set([...Object.keys(known), ...upstreams])].join(", ")}`,
    );
  return found;
}

async function list(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const config = loadCommandConfig();
  const books = openUsage(config);
  const calendar = createCalendar(config.timezone);
  const now = Date.now();
  const rows = readBudgets(books).map((budget) => {
    const window = calendar.window(budget.window, now);
    return {
      ...budget,
      spentNanoUsd: readSettled(books, budget, window),
      windowStart: new Date(window.startMs).toISOString(),
      windowEnd: budget.window === "total" ? null : new Date(window.endMs).toISOString(),
    };
  });
  books.close();
  if (values.json) return void process.stdout.write(`${toJson(rows)}\n`);
  const spent = formatUsdColumn(rows.map((row) => row.spentNanoUsd));
  const left = formatUsdColumn(rows.map((row) => row.amountNanoUsd - row.spentNanoUsd));
  process.stdout.write(
    `${formatTable(
      ["id", "scope", "window", "kind", "mode", "amount USD", "spent USD", "left USD", "until"],
      rows.map((row, i) => [
        row.id,
        describeScope(row.scope),
        row.window,
        row.kind,
        row.mode,
        formatUsd(row.amountNanoUsd),
        spent[i] ?? "",
        left[i] ?? "",
        row.windowEnd?.slice(0, 16) ?? "never",
      ]),
    )}\n`,
  );
}

async function remove(args: string[]): Promise<void> {
  const [budgetId] = args;
  if (budgetId === undefined) throw new UsageError(`which budget?\n${USAGE}`);
  await makeChange(loadCommandConfig(), { type: "removeBudget", budgetId });
  process.stdout.write(`${budgetId}: removed\n`);
}
