// The week in one message: what was spent, against what was forecast, who made the difference, what is ahead. Reads
// only.
import type { KnownBlock } from "@slack/web-api";
import { readScores, recordOf } from "../ledger/billing/forecasts.ts";
import { formatUsd } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { landingOf, readRests } from "../ledger/billing/landings.ts";
import { readExpectations, readPlans } from "../ledger/billing/plans.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { readSpend } from "../ledger/usage/spend.ts";
import type { Dimension } from "../ledger/usage/spend-sums.ts";
import { addDays, createCalendar, DAY_MS } from "../ledger/windows.ts";
import type { FigureBooks } from "./figures.ts";
import { escape } from "./message.ts";
import type { Links, Message } from "./message.ts";

const SCORED_MS = 28 * DAY_MS;
const MOST_ROWS = 5;

/** The seven days before today, beside the seven before them. */
export async function buildDigest(
  { usage, billing }: FigureBooks,
  timezone: string,
  links: Links,
  nowMs: number,
): Promise<Message> {
  const calendar = createCalendar(timezone);
  const today = calendar.day(nowMs);
  const [sinceDay, beforeDay] = [addDays(today, -7), addDays(today, -14)];
  const headline = `The week of ${sinceDay} to ${addDays(today, -1)}`;
  if (!usage) return { headline, text: `${headline}: the books cannot be read.`, blocks: [] };
  const sumOf = async (since: string, until: string): Promise<NanoUsd> =>
    (await readSpend(usage, [], since, until))[0]?.costNanoUsd ?? 0n;
  const [week, before] = [await sumOf(sinceDay, today), await sumOf(beforeDay, sinceDay)];
  const names = await readNames(usage);
  const moved = async (by: Dimension): Promise<string[]> => {
    const old = new Map(
      (await readSpend(usage, [by], beforeDay, sinceDay)).map((row) => [row.group[by] ?? "", row.costNanoUsd]),
    );
    const now = new Map(
      (await readSpend(usage, [by], sinceDay, today)).map((row) => [row.group[by] ?? "", row.costNanoUsd]),
    );
    return [...new Set([...old.keys(), ...now.keys()])]
      .map((id) => ({ id, cost: now.get(id) ?? 0n, more: (now.get(id) ?? 0n) - (old.get(id) ?? 0n) }))
      .toSorted((a, b) => Number(size(b.more) - size(a.more)))
      .slice(0, MOST_ROWS)
      .map(
        ({ id, cost, more }) =>
          `• ${escape(names.get(id) ?? (id === "" ? "(no team)" : id))}: ${formatUsd(cost)} (${signed(more)})`,
      );
  };
  const month = billing
    ? (await readExpectations({ usage, billing }, nowMs, { scope: "org", window: "month" })).find(
        ({ method }) => method !== "learning",
      )
    : undefined;
  const { firstDay } = calendar.window("month", nowMs);
  const spent = await sumOf(firstDay, addDays(today, 1));
  const rest = billing
    ? (await readRests({ usage, billing }, nowMs, { scope: "org", window: "month" })).find(
        ({ method }) => method !== "learning",
      )
    : undefined;
  const landing = rest && landingOf(rest, spent, nowMs);
  const record = billing
    ? recordOf(
        (await readScores(billing, nowMs - SCORED_MS)).filter(
          ({ scope, window }) => scope === "team" && window === "day",
        ),
      )
    : undefined;
  const plans = billing ? await readPlans(billing, nowMs, nowMs + 7 * DAY_MS) : [];

  const lines = [
    `*Spent* ${formatUsd(week)}, ${signed(week - before)} against the week before`,
    landing
      ? `*This month* ${formatUsd(spent)} so far; it lands at ${formatUsd(landing.p50NanoUsd)} (${formatUsd(landing.p10NanoUsd)} to ${formatUsd(landing.p90NanoUsd)})${month ? `, forecast on the first ${formatUsd(month.p50NanoUsd)}` : ""}`
      : `*This month* ${formatUsd(spent)} so far; where it lands cannot be told yet`,
    ...(record
      ? [
          `*Forecasts* of teams' days were off by ${Math.round(record.error * 100)} % in the last four weeks; the band held ${Math.round(record.coverage * 100)} % of them`,
        ]
      : []),
    ...plans.map(
      (plan) =>
        `*Planned* ${escape(plan.scope === "org" ? "organisation" : `${plan.scope} ${plan.scopeId}`)} x ${plan.factor}: ${escape(plan.why)}`,
    ),
  ];
  const section = (text: string): KnownBlock => ({
    type: "section",
    text: { type: "mrkdwn", text: text.slice(0, 3_000) },
  });
  return {
    headline,
    text: [headline, ...lines.map((line) => line.replaceAll("*", ""))].join(". "),
    blocks: [
      { type: "header", text: { type: "plain_text", text: headline } },
      section(lines.join("\n")),
      section(["*Teams that made the difference*", ...(await moved("team"))].join("\n")),
      section(["*Keys that made the difference*", ...(await moved("key"))].join("\n")),
      ...linkSections(links),
      { type: "context", elements: [{ type: "mrkdwn", text: `Metered, not invoiced; days of ${timezone}.` }] },
    ],
  };
}

function size(amount: NanoUsd): NanoUsd {
  return amount < 0n ? -amount : amount;
}

function signed(amount: NanoUsd): string {
  return `${amount < 0n ? "-" : "+"}${formatUsd(size(amount))}`;
}

function linkSections({ pagesUrl, grafanaUrl }: Links): KnownBlock[] {
  const links = [
    ...(pagesUrl === undefined ? [] : [`<${pagesUrl}/changes|What changed>`]),
    ...(grafanaUrl === undefined ? [] : [`<${grafanaUrl}/d/keymeter-finance|Dashboard>`]),
  ];
  return links.length === 0 ? [] : [{ type: "section", text: { type: "mrkdwn", text: links.join(" · ") } }];
}
