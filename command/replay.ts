// keymeter budgets replay: what a hard cap would have refused on what was metered.
import { parseArgs } from "node:util";
import { describeBudgetScope } from "../ledger/budgets.ts";
import { formatUsd, formatUsdColumn } from "../ledger/money.ts";
import { replayCap } from "../ledger/usage/replay.ts";
import type { Replayed } from "../ledger/usage/replay.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { createCalendar } from "../ledger/windows.ts";
import { noteKept } from "./kept.ts";
import { requireUsage } from "./books.ts";
import { newBudget, parseAmount, parseEach, SCOPE_OPTIONS, scopeOf } from "./budget-options.ts";
import { loadCommandConfig } from "./config.ts";
import { parseDay } from "./days.ts";
import { toJson } from "../service/json.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const REPLAY_USAGE = `keymeter budgets replay --amount 500/month [SCOPE] [--each user|key|tag:NAME] [--since 2026-10-01|30d|month] [--json]
  What such a hard cap would have refused of what was metered: when, and whose. Nothing is set and nothing is refused.`;

export async function replay(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args,
    options: {
      ...SCOPE_OPTIONS,
      amount: text,
      each: text,
      since: { ...text, default: "month" },
      json: { type: "boolean", default: false },
    },
  });
  if (!values.amount) throw new UsageError(`which --amount?\n${REPLAY_USAGE}`);
  const scope = await scopeOf(values);
  const budget = newBudget({
    scope,
    each: values.each === undefined ? undefined : parseEach(values.each),
    ...parseAmount(values.amount),
    hard: true,
    strict: false,
  });
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const since = calendar.dayStart(parseDay(values.since, calendar));
  const books = await requireUsage(config);
  const { sinceMs, all, windows, keys } = await replayCap(books, budget, calendar, since);
  const names = await readNames(books);
  await noteKept(books, sinceMs);
  await books.close();

  if (values.json)
    return void process.stdout.write(
      `${toJson({
        scope,
        amountNanoUsd: budget.amountNanoUsd,
        window: budget.window,
        since: new Date(sinceMs).toISOString(),
        ...all,
        windows: [...windows].map(([id, sums]) => ({ id, ...sums })),
        keys: [...keys].map(([keyId, sums]) => ({ keyId, name: names.get(keyId) ?? null, ...sums })),
      })}\n`,
    );
  const from = budget.window === "total" ? "all that was metered" : `what was metered since ${instant(sinceMs)}`;
  process.stdout.write(
    `A hard cap of ${formatUsd(budget.amountNanoUsd)} a ${budget.window} for ${describeBudgetScope(budget, (id) => (id === scope.user ? names.get(id) : undefined))}, on ${from}:\n` +
      `${all.requests} requests of ${formatUsd(all.costNanoUsd)}; refused would have been ${all.refused} of ${formatUsd(all.refusedNanoUsd)}` +
      `${all.unpriced > 0 ? `, ${all.unpriced} of them because they have no price` : ""}.\n`,
  );
  if (all.refused === 0) return;
  process.stdout.write(
    `\n${table("window", windows, (id) => id)}\n\n${table("key", keys, (id) => names.get(id) ?? id)}\n`,
  );
}

function table(title: string, rows: ReadonlyMap<string, Replayed>, name: (id: string) => string): string {
  const hit = [...rows].filter(([, { refused }]) => refused > 0);
  const spent = formatUsdColumn(hit.map(([, row]) => row.costNanoUsd));
  const refused = formatUsdColumn(hit.map(([, row]) => row.refusedNanoUsd));
  return formatTable(
    [title, "requests", "cost", "refused", "refused cost", "the first at"],
    hit.map(([id, row], i) => [
      name(id),
      String(row.requests),
      spent[i] ?? "",
      String(row.refused),
      refused[i] ?? "",
      row.firstRefusedAtMs === undefined ? "" : instant(row.firstRefusedAtMs),
    ]),
  );
}

/** UTC, to the minute. */
function instant(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 16)}Z`;
}
