// Days drawn as bars by one dimension.
import { readBilledSpend } from "../../ledger/billing/billed-hours.ts";
import { formatUsd, toUsdNumber } from "../../ledger/money.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import type { Within } from "../../ledger/usage/within.ts";
import { addDays } from "../../ledger/windows.ts";
import { drawDays } from "../../charts/days.ts";
import { SCREEN, WIDE } from "../../charts/draw.ts";
import { firstDay } from "./before.ts";
import type { PageContext } from "./builder.ts";
import { sum } from "./page.ts";
import type { Chart } from "./page.ts";
import { sumUp } from "./sums.ts";

/** Days drawn by one dimension: metered, and before the meter as they were billed. Undefined where there is nothing to
 *  draw. */
export async function daysChart(
  context: PageContext,
  by: "provider" | "model",
  since: string,
  until: string,
  within: Within = {},
): Promise<Chart | undefined> {
  const { books, calendar } = context;
  const rows = await readSpend(books.usage, ["day", by], since, until, within);
  // Bills know neither teams nor keys of ours.
  const isAll = Object.keys(within).length === 0;
  const billed = isAll ? await readBilledSpend(books.billing, calendar, by, since, until) : [];
  if (rows.length + billed.length === 0) return undefined;
  const days: string[] = [];
  for (let day = since; day < until; day = addDays(day, 1)) days.push(day);
  const bars = [
    ...rows.map(({ group, costNanoUsd }) => ({
      day: group.day ?? "",
      name: group[by] ?? "",
      costNanoUsd,
      isBilled: false,
    })),
    ...billed.map(({ day, id, costNanoUsd }) => ({
      day,
      name: `${id || "(not told)"}, billed`,
      costNanoUsd,
      isBilled: true,
    })),
  ];
  const cost = new Map(bars.map(({ day, name, costNanoUsd }) => [`${day} ${name}`, toUsdNumber(costNanoUsd)]));
  const began = await firstDay(context);
  const series = {
    days,
    series: [...new Map(bars.map(({ name, isBilled }) => [name, isBilled]))].map(([name, isBilled]) => ({
      name,
      isBilled,
      values: days.map((day) => cost.get(`${day} ${name}`) ?? 0),
    })),
    ...(began !== undefined && began > since ? { meteredFrom: began } : {}),
  };
  // Rows come with the largest first.
  const [dearest] = rows;
  const metered =
    dearest === undefined
      ? "Nothing metered"
      : `Metered spend by day and ${by} since ${began !== undefined && began > since ? began : since}: ${formatUsd(sumUp(rows).costNanoUsd)} in all. Most: ${dearest.group.day} with ${dearest.group[by]}, ${formatUsd(dearest.costNanoUsd)}`;
  const before =
    billed.length === 0
      ? ""
      : ` Billed before the meter began: ${formatUsd(sum(billed.map(({ costNanoUsd }) => costNanoUsd)))}.`;
  return {
    svg: await drawDays(series, SCREEN, WIDE),
    narrow: await drawDays(series, SCREEN),
    label: `${metered}.${before}`,
  };
}
