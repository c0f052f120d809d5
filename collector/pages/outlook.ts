// The running month of a scope: where it lands, what was forecast when it began, and both of them drawn.
import { expectedSoFar } from "../../ledger/billing/forecasts.ts";
import type { FrozenForecast } from "../../ledger/billing/forecasts.ts";
import { landingOf, readRests } from "../../ledger/billing/landings.ts";
import type { Landing, Rest } from "../../ledger/billing/landings.ts";
import { readExpectations } from "../../ledger/billing/plans.ts";
import { amountAt, isAbout } from "../../ledger/budgets.ts";
import { formatUsdCents, toUsdNumber } from "../../ledger/money.ts";
import { readBudgets } from "../../ledger/usage/changes.ts";
import { readHourlySpend } from "../../ledger/usage/hours.ts";
import { findMeterBegan } from "../../ledger/usage/meter-hours.ts";
import type { ForecastScope } from "../../ledger/usage/hours.ts";
import { utcDay } from "../../ledger/windows.ts";
import { courseOf, courseStart } from "../../charts/course.ts";
import { SCREEN, WIDE } from "../../charts/draw.ts";
import { drawSpend } from "../../charts/spend.ts";
import type { PageContext } from "./builder.ts";
import { spansOf } from "./days.ts";
import { usd } from "./page.ts";
import type { Chart, Figure } from "./page.ts";
import { readTotal } from "./sums.ts";

/** The running month of a scope, seen from two sides. */
export type Outlook = {
  /** As it was forecast when it began: frozen. "learning": there was too little history to show one. */
  readonly frozen: FrozenForecast | "learning" | undefined;
  /** What is to come, and where it lands with what is spent; undefined: nobody knows yet. */
  readonly rest: Rest | undefined;
  readonly landing: Landing | undefined;
};

export async function readOutlook(context: PageContext, of: ForecastScope): Promise<Outlook> {
  const { books, nowMs } = context;
  const { month } = spansOf(context);
  const [found] = await readExpectations(books, nowMs, { ...of, window: "month" });
  const [rest] = await readRests(books, nowMs, { ...of, window: "month" });
  const within = of.scope === "org" ? {} : { [of.scope]: of.id };
  const { costNanoUsd } = await readTotal(context, month.firstDay, month.endDay, within);
  const isKnown = rest !== undefined && rest.method !== "learning";
  return {
    frozen: found?.method === "learning" ? "learning" : found,
    rest: isKnown ? rest : undefined,
    landing: isKnown ? landingOf(rest, costNanoUsd, nowMs) : undefined,
  };
}

/** Where the month lands, and what was forecast when it began. */
export function outlookFigures({ frozen, landing }: Outlook): Figure[] {
  const known: Figure[] = landing
    ? [
        { title: "Lands at", value: usd(landing.p50NanoUsd), money: "landing" },
        { title: "At least, with 90 % probability", value: usd(landing.p10NanoUsd), money: "landing" },
        { title: "At most, with 90 % probability", value: usd(landing.p90NanoUsd), money: "landing" },
      ]
    : [
        {
          title: "Lands at",
          value: undefined,
          money: "landing",
          note: "Fewer than three days of history: nothing is worth showing yet. It is worked out every hour, for the organisation and the 500 largest of each kind.",
        },
      ];
  if (frozen === undefined || frozen === "learning") return known;
  const date = utcDay(frozen.madeAtMs);
  return [
    ...known,
    {
      title: "Forecast when it began",
      value: usd(frozen.p50NanoUsd),
      money: "forecast",
      note: `Fixed on ${date}; alerts go by it.`,
    },
  ];
}

/** The month so far, where it lands and what was forecast, drawn; undefined where there is nothing to draw it
 *  against. */
export async function monthChart(
  context: PageContext,
  of: ForecastScope,
  { frozen, rest, landing }: Outlook,
): Promise<Chart | undefined> {
  if (frozen === undefined || frozen === "learning") return undefined;
  const { books, calendar, nowMs } = context;
  const hours = await readHourlySpend(books.usage, courseStart(frozen), nowMs, of.scope, of);
  const course = courseOf(
    frozen,
    hours.filter(({ id }) => id === of.id),
    rest,
    nowMs,
  );
  const knownFromMs = await findMeterBegan(books.usage);
  const series = { ...course, budget: await monthBudget(context, of), timezone: calendar.zone, knownFromMs };
  const total = course.spent.reduce((all, one) => all + one, 0);
  const lands = landing ? ` It lands at ${formatUsdCents(landing.p50NanoUsd)}.` : "";
  return {
    svg: await drawSpend(series, SCREEN, WIDE),
    narrow: await drawSpend(series, SCREEN),
    label: `This month: ${total.toLocaleString("en-US", { style: "currency", currency: "USD" })} spent, ${formatUsdCents(expectedSoFar(frozen, nowMs))} expected by now as forecast when it began, ${formatUsdCents(frozen.p50NanoUsd)} by the end.${lands}`,
  };
}

async function monthBudget({ books, nowMs }: PageContext, { scope, id }: ForecastScope): Promise<number | undefined> {
  const own = (await readBudgets(books.usage)).find(
    (budget) => budget.window === "month" && isAbout(budget, scope, id),
  );
  return own && toUsdNumber(amountAt(own, nowMs));
}
