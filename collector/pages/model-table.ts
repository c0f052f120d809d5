// Models on the page of a team or a key: tokens by class, and what they cost.
import type { SpendRow, SpendSums } from "../../ledger/usage/spend-sums.ts";
import { count, text } from "./page.ts";
import type { Cell, Section } from "./page.ts";
import { leftOut, spent, sumUp } from "./sums.ts";

/** Tokens by class and what they cost, by served model. */
export function modelsSection(rows: readonly SpendRow[], question: string): Section {
  const cells = (row: SpendSums): Cell[] => [
    count(row.requests),
    count(row.input),
    count(row.cacheRead),
    count(row.cacheWrite),
    count(row.output),
    spent(row),
  ];
  return {
    title: "Models",
    question,
    money: "metered",
    table: {
      name: "models",
      columns: [
        { field: "model", title: "Model", is: "text" },
        { field: "provider", title: "Provider", is: "text" },
        { field: "requests", title: "Requests", is: "count" },
        { field: "inputTokens", title: "Input tokens", is: "count" },
        { field: "cacheReadTokens", title: "Cache read", is: "count" },
        { field: "cacheWriteTokens", title: "Cache write", is: "count" },
        { field: "outputTokens", title: "Output tokens", is: "count" },
        { field: "cost", title: "Cost", is: "usd" },
      ],
      rows: rows.map((row) => [text(row.group.model ?? ""), text(row.group.provider ?? ""), ...cells(row)]),
      total: [text("All"), text(""), ...cells(sumUp(rows))],
      empty: "Nothing was used.",
    },
    notes: leftOut(sumUp(rows), "this month"),
  };
}
