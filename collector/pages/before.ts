// The days before the meter began, on pages: billed where a bill was read, not known where none was, and never zero.
import { readBilledSpend } from "../../ledger/billing/billed-hours.ts";
import type { BilledDimension } from "../../ledger/billing/billed-hours.ts";
import { findMeterBegan } from "../../ledger/usage/meter-hours.ts";
import type { SpendRow } from "../../ledger/usage/spend-sums.ts";
import type { PageContext } from "./builder.ts";
import { bySize, change, sum, text, usd } from "./page.ts";
import type { Cell, Section } from "./page.ts";

/** Local days `[since, until)` under the heading of a column. */
export type SpanOfDays = {
  readonly field: string;
  readonly title: string;
  readonly since: string;
  readonly until: string;
};

/** The local day on which the meter began; undefined: it has not run yet. */
export async function firstDay({ books, calendar }: PageContext): Promise<string | undefined> {
  const beganMs = await findMeterBegan(books.usage);
  return beganMs === undefined ? undefined : calendar.day(beganMs);
}

/** What bills say of spans that begin before the meter did, with what was metered in them: to be held beside each
 *  other, for neither is whole alone. None where nothing was billed in them. */
export async function beforeSections(
  { books, calendar, ...context }: PageContext,
  spans: readonly SpanOfDays[],
  dimensions: readonly BilledDimension[],
  metered: (by: BilledDimension, span: SpanOfDays) => Promise<readonly SpendRow[]>,
): Promise<Section[]> {
  const began = await firstDay({ books, calendar, ...context });
  if (began === undefined || spans.every(({ since }) => since >= began)) return [];
  const sections: Section[] = [];
  for (const by of dimensions) {
    const sums = new Map<string, bigint[]>();
    const add = (id: string, column: number, amount: bigint): void => {
      const cells = sums.get(id) ?? Array<bigint>(spans.length * 2).fill(0n);
      cells[column] = (cells[column] ?? 0n) + amount;
      sums.set(id, cells);
    };
    let billed = 0;
    for (const [i, span] of spans.entries()) {
      for (const one of await readBilledSpend(books.billing, calendar, by, span.since, span.until)) {
        add(one.id, i * 2, one.costNanoUsd);
        billed += 1;
      }
      for (const { group, costNanoUsd } of await metered(by, span)) add(group[by] ?? "", i * 2 + 1, costNanoUsd);
    }
    if (billed === 0) continue;
    const both = (cells: readonly bigint[], i: number): bigint => (cells[i * 2] ?? 0n) + (cells[i * 2 + 1] ?? 0n);
    const [first, second] = spans;
    const isCompared = first !== undefined && second !== undefined;
    const cellsOf = (cells: readonly bigint[]): Cell[] => [
      ...spans.flatMap((_, i) => [usd(cells[i * 2]), usd(cells[i * 2 + 1]), usd(both(cells, i))]),
      ...(isCompared ? [change(both(cells, 1) - both(cells, 0))] : []),
    ];
    const rows = [...sums].toSorted(([, a], [, b]) => bySize(both(a, 0), both(b, 0)));
    sections.push({
      title: `Billed before the meter, by ${by}`,
      question: `What did it come to with the days before ${began}, when the meter began?`,
      money: "billed",
      table: {
        name: `before_${by}`,
        columns: [
          { field: by, title: by === "provider" ? "Provider" : "Model", is: "text" },
          ...spans.flatMap(
            ({ field, title }) =>
              [
                { field: `${field}Billed`, title: `${title}: billed`, is: "usd" },
                { field: `${field}Metered`, title: `${title}: metered`, is: "usd" },
                { field, title: `${title}: together`, is: "usd" },
              ] as const,
          ),
          ...(isCompared ? ([{ field: "more", title: "Difference", is: "usd" }] as const) : []),
        ],
        rows: rows.map(([id, cells]) => [text(id === "" ? "(not told)" : id), ...cellsOf(cells)]),
        total: [
          text("All"),
          ...cellsOf(
            spans.flatMap((_, i) => [0, 1].map((side) => sum(rows.map(([, cells]) => cells[i * 2 + side] ?? 0n)))),
          ),
        ],
        empty: "Nothing was billed.",
      },
      notes: [
        "Billed: by the provider, for the hours before the meter began; use and fees, without credits and taxes. No cap, alert or leak counts it, and no team: bills do not know them.",
      ],
    });
  }
  return sections;
}
