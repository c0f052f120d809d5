// The figures of a message as of now, from the ledger: Alertmanager carries labels, no values. Reads only.
import { expectedSoFar, readForecasts } from "../ledger/forecasts.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Sqlite } from "../ledger/open.ts";
import { readBudgets } from "../ledger/changes.ts";
import { amountAt, describeScope } from "../ledger/budgets.ts";
import { readKeyNames, readRefused, readSettled, readSpend } from "../ledger/spend.ts";
import type { SpendRow } from "../ledger/spend.ts";
import { createCalendar } from "../ledger/windows.ts";

/** What is known of an alert's subject. Every field may be missing: a message says what it has. */
export type Figures = {
  readonly asOfMs: number;
  /** "team search", "the organisation". */
  readonly subject: string;
  readonly spentNanoUsd: NanoUsd | undefined;
  readonly forecastSoFarNanoUsd: NanoUsd | undefined;
  readonly forecastNanoUsd: NanoUsd | undefined;
  readonly budget:
    | {
        readonly id: string;
        readonly amountNanoUsd: NanoUsd;
        readonly spentNanoUsd: NanoUsd;
        readonly window: string;
        readonly endsMs: number;
        readonly kind: string;
        readonly refused: number;
      }
    | undefined;
  readonly topKey: { readonly id: string; readonly name: string; readonly costNanoUsd: NanoUsd } | undefined;
  readonly topModel: { readonly name: string; readonly costNanoUsd: NanoUsd } | undefined;
};

export type FigureBooks = { readonly usage: Sqlite | undefined; readonly billing: Sqlite | undefined };

const REFUSED_MS = 24 * 3_600_000;

/** Reads the figures of the subject that an alert's labels name. */
export async function readFigures(
  { usage, billing }: FigureBooks,
  labels: { readonly [name: string]: string },
  timezone: string,
  nowMs: number,
): Promise<Figures> {
  const calendar = createCalendar(timezone);
  const scope = labels["scope"] ?? "org";
  const id = labels["id"] ?? "all";
  const budget =
    usage && labels["budget"] !== undefined ? readBudgets(usage).find((one) => one.id === labels["budget"]) : undefined;
  const { firstDay, endDay } = calendar.window("day", nowMs);

  const rows = usage ? await readSpend(usage, ["key", "team", "project", "model"], firstDay, endDay) : [];
  const covered = rows.filter((row) => {
    if (budget)
      return (
        (budget.scope.team ?? row.group.team) === row.group.team &&
        (budget.scope.keyId ?? row.group.key) === row.group.key
      );
    return (
      scope === "org" ||
      (scope === "team" && row.group.team === id) ||
      (scope === "project" && row.group.project === id) ||
      (scope === "key" && row.group.key === id)
    );
  });
  const forecast = billing
    ? (await readForecasts(billing, nowMs)).find(
        (one) =>
          one.scope === scope &&
          one.id === id &&
          one.window === (labels["window"] ?? "day") &&
          one.method !== "learning",
      )
    : undefined;
  const topKey = largest(covered, (row) => row.group.key ?? "");
  const topModel = largest(covered, (row) => row.group.model ?? "");
  const names = usage ? await readKeyNames(usage) : new Map<string, string>();
  const window = budget && calendar.window(budget.window, nowMs);
  const refused = usage && budget ? await readRefused(usage, nowMs - REFUSED_MS, nowMs + 60_000) : [];

  return {
    asOfMs: nowMs,
    subject: budget
      ? describeScope(budget.scope)
      : scope === "org"
        ? "the organisation"
        : `${scope} ${scope === "key" ? (names.get(id) ?? id) : id}`,
    spentNanoUsd: usage ? covered.reduce((sum, row) => sum + row.costNanoUsd, 0n) : undefined,
    forecastSoFarNanoUsd: forecast && expectedSoFar(forecast, nowMs),
    forecastNanoUsd: forecast?.p50NanoUsd,
    budget:
      budget && window && usage
        ? {
            id: budget.id,
            amountNanoUsd: amountAt(budget, nowMs),
            spentNanoUsd: readSettled(usage, budget, window),
            window: budget.window,
            endsMs: window.endMs,
            kind: budget.kind,
            refused: refused.filter((row) => row.budgetId === budget.id).reduce((sum, row) => sum + row.count, 0),
          }
        : undefined,
    topKey: topKey && { id: topKey.name, name: names.get(topKey.name) ?? topKey.name, costNanoUsd: topKey.costNanoUsd },
    topModel,
  };
}

function largest(
  rows: readonly SpendRow[],
  nameOf: (row: SpendRow) => string,
): { name: string; costNanoUsd: NanoUsd } | undefined {
  const sums = new Map<string, NanoUsd>();
  for (const row of rows) sums.set(nameOf(row), (sums.get(nameOf(row)) ?? 0n) + row.costNanoUsd);
  const [top] = [...sums].toSorted(([, a], [, b]) => (b > a ? 1 : b < a ? -1 : 0));
  return top && { name: top[0], costNanoUsd: top[1] };
}
