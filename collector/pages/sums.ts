// Sums of spend as pages show them: added up, told apart from what is not known, and in the order of what costs most.
import type { NanoUsd } from "../../ledger/money.ts";
import { addSums, NO_SPEND } from "../../ledger/usage/spend-sums.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import type { Dimension, SpendRow, SpendSums } from "../../ledger/usage/spend-sums.ts";
import type { Within } from "../../ledger/usage/within.ts";
import type { PageContext } from "./builder.ts";
import { usd } from "./page.ts";
import type { Cell } from "./page.ts";

/** All in one. */
export function sumUp(rows: Iterable<SpendSums | undefined>): SpendSums {
  let all = NO_SPEND;
  for (const row of rows) if (row) all = addSums(all, row);
  return all;
}

/** What was spent in `[since, until)`, in one sum. */
export async function readTotal(
  { books }: PageContext,
  since: string,
  until: string,
  within: Within = {},
): Promise<SpendSums> {
  return sumUp(await readSpend(books.usage, [], since, until, within));
}

/** Rows by what one dimension of them is. */
export function byValue(rows: readonly SpendRow[], dimension: Dimension): Map<string, SpendRow> {
  return new Map(rows.map((row) => [row.group[dimension] ?? "", row]));
}

/** Orders names by what they cost, the dearest first. */
export function byCost(costs: ReadonlyMap<string, SpendSums>): (a: string, b: string) => number {
  const cost = (name: string): NanoUsd => costs.get(name)?.costNanoUsd ?? 0n;
  return (a, b) => (cost(b) > cost(a) ? 1 : cost(b) < cost(a) ? -1 : 0);
}

/** What sums cost, as a cell: not known where nothing in them has a known cost. */
export const spent = (sums: SpendSums | undefined): Cell => usd(knownCost(sums ?? NO_SPEND));

/** What sums cost; undefined where nothing is known to have been spent and something is not known: that is not
 *  nothing. */
export function knownCost({ costNanoUsd, unpriced, unknown }: SpendSums): NanoUsd | undefined {
  return costNanoUsd === 0n && unpriced + unknown > 0 ? undefined : costNanoUsd;
}

/** Requests whose cost is known. What has no usage often has no price either, and is counted under both. */
export function pricedRequests({ requests, unpriced, unknown }: SpendSums): number {
  return requests - Math.max(unpriced, unknown);
}

/** What sums leave out, in a sentence; none where they leave nothing out. */
export function leftOut(sums: SpendSums, span: string): string[] {
  const parts = [
    ...(sums.unpriced > 0 ? [`${sums.unpriced.toLocaleString("en-US")} without a price`] : []),
    ...(sums.unknown > 0 ? [`${sums.unknown.toLocaleString("en-US")} without usage that could be read`] : []),
  ];
  return parts.length === 0 ? [] : [`Requests of ${span} that are in no sum: ${parts.join(", ")}.`];
}
