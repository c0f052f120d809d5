// An alert group and its figures -> one Slack message. Pure. Says which scope, how much over, who drives it, what to do, and
// where to look; and what kind of money it speaks of.
import type { KnownBlock } from "@slack/web-api";
import { formatUsd } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Figures } from "./figures.ts";
import type { AlertGroup } from "./webhook.ts";

export type Message = {
  /** The whole message as one sentence: for notifications and screen readers. */
  readonly text: string;
  readonly blocks: KnownBlock[];
};

export type Links = { readonly grafanaUrl: string; readonly runbookUrl: string };

// Limits of Slack's Block Kit: https://docs.slack.dev/reference/block-kit/blocks
const MOST_HEADER = 150;
const MOST_SECTION = 3_000;
const MOST_LABEL_LINES = 5;

/** What to do first, by alert. The runbook has the rest. */
const ACTIONS: { readonly [alert: string]: (figures: Figures) => string } = {
  KeymeterSpendOverForecast: ({ topKey }) =>
    `Ask the owner of the top key whether this is planned; if not, \`keymeter keys pause ${topKey?.id ?? "KEY"}\` stops it within a second.`,
  KeymeterBudgetThreshold: () =>
    "Compare with the date; raise the budget for a while with `keymeter budgets raise`, or tell the team what happens when it is used up.",
  KeymeterCapRefusing: () =>
    "Tell the team that its requests are refused; raise the budget for a while with `keymeter budgets raise`, for good with `budgets set`, or leave it.",
  KeymeterUnpricedModel: () =>
    "Add the model's price under `proxy.prices` in keymeter.yaml; until then spend is counted too low.",
  KeymeterMeterSilent: () => "Look at `/readyz` of the proxy and the collector; money alerts are held back meanwhile.",
  KeymeterBillingStale: () => "Read the collector's log; usually an admin key expired.",
  KeymeterKeyUsedElsewhere: () =>
    "`keymeter leaks` has the steps: new key, into the proxy's environment, old one off. If it is yours: `keymeter leaks dismiss KEY --why ...`.",
  KeymeterPriceDiffers: () =>
    "`keymeter reconcile --since 7d --all` shows both prices; give the right one under `proxy.prices` or `proxy.discounts` in keymeter.yaml.",
  KeymeterDaysOpen: () => "`keymeter close DAY` says why a day cannot be closed.",
  KeymeterWorkPending: () =>
    "`keymeter work list` names it; fetch its result through Keymeter with the key that began it.",
};

export function buildMessage(group: AlertGroup, figures: Figures, links: Links): Message {
  const name = group.commonLabels["alertname"] ?? group.alerts[0]?.labels["alertname"] ?? "Alert";
  const resolved = group.status === "resolved";
  const headline = resolved ? `Resolved: ${describe(name, figures)}` : describe(name, figures);
  // What is about bills is not about who spent most today.
  const facts = name in BILL_LABELS ? labelLines(name, group) : factLines(name, figures);
  const action = ACTIONS[name]?.(figures) ?? group.commonAnnotations["summary"] ?? "";
  const since = group.alerts.map((alert) => alert.startsAt).toSorted()[0] ?? "";
  const dashboard = `${links.grafanaUrl}/d/keymeter-finance`;
  const runbook = `${links.runbookUrl}#${name.toLowerCase()}`;

  const blocks: KnownBlock[] = [
    { type: "header", text: { type: "plain_text", text: cut(headline, MOST_HEADER) } },
    {
      type: "section",
      text: {
        type: "mrkdwn",
        text: cut(
          [...facts, ...otherAlerts(group)].join("\n") || escape(group.commonAnnotations["summary"] ?? name),
          MOST_SECTION,
        ),
      },
    },
  ];
  if (!resolved && action !== "")
    blocks.push({ type: "section", text: { type: "mrkdwn", text: cut(`*What to do:* ${action}`, MOST_SECTION) } });
  blocks.push({ type: "section", text: { type: "mrkdwn", text: `<${dashboard}|Dashboard> · <${runbook}|Runbook>` } });
  blocks.push({
    type: "context",
    elements: [
      {
        type: "mrkdwn",
        text: `${name}, since ${since.slice(0, 16).replace("T", " ")} UTC. Metered, not invoiced; figures as of ${new Date(figures.asOfMs).toISOString().slice(11, 16)} UTC.`,
      },
    ],
  });
  return { text: [headline, ...facts.map((fact) => fact.replaceAll("*", ""))].join(". "), blocks };
}

function describe(name: string, figures: Figures): string {
  const subject = capital(figures.subject);
  switch (name) {
    case "KeymeterSpendOverForecast": {
      const over = overForecast(figures);
      return over
        ? `${subject} is heading ${over.percent} % (${formatUsd(over.amount)} USD) over today's forecast`
        : `${subject} is over today's forecast`;
    }
    case "KeymeterBudgetThreshold":
      return figures.budget
        ? `${subject} has used ${share(figures.budget.spentNanoUsd, figures.budget.amountNanoUsd)} % of its ${figures.budget.window} budget`
        : `${subject} has used much of a budget`;
    case "KeymeterCapRefusing":
      return `The cap of ${figures.subject} refuses requests`;
    case "KeymeterUnpricedModel":
      return "A model without a price is in use";
    case "KeymeterMeterSilent":
      return "Keymeter's own meter is down or stale";
    case "KeymeterBillingStale":
      return "A provider's bill could not be read for a day";
    case "KeymeterKeyUsedElsewhere":
      return "A provider key is used past Keymeter: it may have leaked";
    case "KeymeterPriceDiffers":
      return "A provider bills another price than is metered";
    case "KeymeterDaysOpen":
      return "A provider's days have not closed for two weeks";
    case "KeymeterWorkPending":
      return "The result of a batch or background response has not been fetched for more than a day";
    default:
      return name;
  }
}

function factLines(name: string, figures: Figures): string[] {
  const lines: string[] = [];
  const over = overForecast(figures);
  if (
    name === "KeymeterSpendOverForecast" &&
    over &&
    figures.spentNanoUsd !== undefined &&
    figures.forecastSoFarNanoUsd !== undefined &&
    figures.forecastNanoUsd !== undefined
  ) {
    lines.push(
      `*Spent today* ${formatUsd(figures.spentNanoUsd)} USD, forecast by now ${formatUsd(figures.forecastSoFarNanoUsd)}, for the whole day ${formatUsd(figures.forecastNanoUsd)}`,
    );
  }
  if (figures.budget) {
    const { amountNanoUsd, spentNanoUsd, window, endsMs, kind, refused, id } = figures.budget;
    lines.push(
      `*Budget* ${formatUsd(spentNanoUsd)} of ${formatUsd(amountNanoUsd)} USD (${kind}, ${window}${window === "total" ? "" : `, until ${new Date(endsMs).toISOString().slice(0, 16).replace("T", " ")} UTC`}), id ${id}`,
    );
    if (refused > 0) lines.push(`*Refused* ${refused} requests in 24 hours`);
  }
  if (figures.topKey)
    lines.push(
      `*Top key* ${escape(figures.topKey.name)} (${figures.topKey.id}), ${formatUsd(figures.topKey.costNanoUsd)} USD today`,
    );
  if (figures.topModel)
    lines.push(`*Top model* ${escape(figures.topModel.name)}, ${formatUsd(figures.topModel.costNanoUsd)} USD today`);
  return lines;
}

/** What an alert about bills is about: labels that the figures do not have. */
const BILL_LABELS: { readonly [alert: string]: readonly string[] } = {
  KeymeterKeyUsedElsewhere: ["provider", "billed_key"],
  KeymeterPriceDiffers: ["provider", "model", "unit"],
  KeymeterBillingStale: ["provider"],
  KeymeterDaysOpen: ["provider"],
};

function labelLines(name: string, { commonLabels }: AlertGroup): string[] {
  const found = (BILL_LABELS[name] ?? []).flatMap((label) => {
    const value = commonLabels[label];
    return value === undefined ? [] : [`*${capital(label.replace("billed_", ""))}* ${escape(value)}`];
  });
  return found.length === 0 ? [] : [found.join(", ")];
}

/** What the alerts of a group differ in, when there are several. */
function otherAlerts(group: AlertGroup): string[] {
  if (group.alerts.length < 2) return [];
  const lines = group.alerts.slice(0, MOST_LABEL_LINES).map(({ labels, status }) => {
    const own = Object.entries(labels).filter(([label]) => !(label in group.commonLabels));
    return `• ${escape(own.map(([label, value]) => `${label} ${value}`).join(", ") || "the same")}${status === "resolved" ? " (resolved)" : ""}`;
  });
  const rest = group.alerts.length - lines.length;
  return rest > 0 ? [...lines, `• and ${rest} more`] : lines;
}

/** How far the day is ahead of its forecast: of the whole day's, as the rule has it. */
function overForecast({
  spentNanoUsd,
  forecastSoFarNanoUsd,
  forecastNanoUsd,
}: Figures): { amount: NanoUsd; percent: number } | undefined {
  if (
    spentNanoUsd === undefined ||
    forecastSoFarNanoUsd === undefined ||
    forecastNanoUsd === undefined ||
    forecastNanoUsd === 0n
  )
    return undefined;
  const amount = spentNanoUsd - forecastSoFarNanoUsd;
  return { amount, percent: share(amount, forecastNanoUsd) };
}

function share(part: NanoUsd, whole: NanoUsd): number {
  return whole === 0n ? 0 : Math.round(Number((part * 1000n) / whole) / 10);
}

/** Slack's three control characters; names come from users. */
function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
