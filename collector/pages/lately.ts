// Spend of the spans that lists show beside each other: this month, today, and the last two weeks.
import { readSpend } from "../../ledger/usage/spend.ts";
import type { Dimension, SpendRow, SpendSums } from "../../ledger/usage/spend-sums.ts";
import type { Within } from "../../ledger/usage/within.ts";
import { addDays } from "../../ledger/windows.ts";
import { firstDay } from "./before.ts";
import type { PageContext } from "./builder.ts";
import { spansOf } from "./days.ts";
import { change } from "./page.ts";
import type { Cell } from "./page.ts";
import { byValue, knownCost, sumUp } from "./sums.ts";

/** Spend of the spans that lists show, by one dimension. The last seven days are whole ones, up to yesterday. */
export type Lately = {
  readonly [span in "month" | "today" | "week" | "weekBefore"]: ReadonlyMap<string, SpendRow>;
} & {
  /** How much more the last seven days cost than the seven before, of these or of all; undefined: the meter did not run
   *  in all of them. */
  readonly more: (names?: readonly string[]) => Cell;
};

export async function readLately(context: PageContext, by: Dimension, within: Within = {}): Promise<Lately> {
  const { today, tomorrow, month } = spansOf(context);
  const read = async (since: string, until: string): Promise<Map<string, SpendRow>> =>
    byValue(await readSpend(context.books.usage, [by], since, until, within), by);
  const week = await read(addDays(today, -7), today);
  const weekBefore = await read(addDays(today, -14), addDays(today, -7));
  const of = (map: ReadonlyMap<string, SpendRow>, names: readonly string[] | undefined): SpendSums =>
    sumUp(names === undefined ? map.values() : names.map((name) => map.get(name)));
  const isWhole = addDays(today, -14) >= ((await firstDay(context)) ?? tomorrow);
  return {
    month: await read(month.firstDay, month.endDay),
    today: await read(today, tomorrow),
    week,
    weekBefore,
    more: (names) => (isWhole ? more(of(week, names), of(weekBefore, names)) : undefined),
  };
}

/** How much more sums cost than others. */
function more(now: SpendSums, before: SpendSums): Cell {
  const [is, was] = [knownCost(now), knownCost(before)];
  return is === undefined || was === undefined ? undefined : change(is - was);
}
