// An alert group and its figures -> one Slack message. Pure. Says which scope, how much over, who drives it, what to do, and
// where to look; and what kind of money it speaks of.
import type { KnownBlock } from "@slack/web-api";
import { formatUsd } from "../ledger/money.ts";
import type { Labels } from "./expression.ts";
import type { Figures, Mover } from "./figures.ts";
import { overForecast, share, TEXTS } from "./texts.ts";
import type { AlertGroup } from "./webhook.ts";

export type Message = {
  /** One line: what happened, or that it is over. */
  readonly headline: string;
  /** The whole message as one sentence: for notifications and screen readers. */
  readonly text: string;
  readonly blocks: KnownBlock[];
};

export type Links = { readonly grafanaUrl: string; readonly runbookUrl: string };

/** What stands below the figures. */
export type Standing = {
  readonly links: Links;
  /** Somebody has taken it on. */
  readonly acknowledged: { readonly by: string; readonly untilMs: number } | undefined;
  /** Whether buttons work: Socket Mode is on. `mayChange`: some people may pause keys and raise budgets. */
  readonly buttons: { readonly mayChange: boolean } | undefined;
  /** The message that stands already: when it was posted, and what it said. */
  readonly before: { readonly postedAtMs: number; readonly text: string } | undefined;
};

// Limits of Slack's Block Kit: https://docs.slack.dev/reference/block-kit/blocks
const MOST_HEADER = 150;
const MOST_SECTION = 3_000;
const MOST_LABEL_LINES = 5;
/** Whose alert speaks for the group, of several. */
const SEVERITIES = ["critical", "warning", "info", "none"];
const SCOPES = ["team", "project", "org", "key"];

/** The alert that speaks for its group: the most severe that fires, of the widest scope that somebody answers for. */
export function principalOf({ alerts, commonLabels }: AlertGroup): Labels {
  const firing = alerts.filter(({ status }) => status === "firing");
  const rank = (list: readonly string[], value: string | undefined): number => {
    const at = list.indexOf(value ?? "");
    return at < 0 ? list.length : at;
  };
  const [first] = (firing.length > 0 ? firing : alerts).toSorted(
    (a, b) =>
      rank(SEVERITIES, a.labels["severity"]) - rank(SEVERITIES, b.labels["severity"]) ||
      rank(SCOPES, a.labels["scope"]) - rank(SCOPES, b.labels["scope"]),
  );
  return first?.labels ?? commonLabels;
}

export function buildMessage(group: AlertGroup, figures: Figures, standing: Standing): Message {
  const labels = principalOf(group);
  const name = labels["alertname"] ?? "Alert";
  const resolved = group.status === "resolved";
  const { before } = standing;
  const sinceMs = Math.min(startOf(group), before?.postedAtMs ?? Infinity);
  // Of what is over, without a word of what it was, the message itself says it.
  const told = group.alerts.length === 0 ? before?.text.split(". ")[0] : undefined;
  const described = told ?? textOf(name)?.headline(figures, labels) ?? name;
  const headline = resolved ? `Resolved after ${lasted(figures.asOfMs - sinceMs)}: ${described}` : described;
  // What is about bills is not about who spent most today.
  const facts = Object.hasOwn(OWN_LABELS, name) ? labelLines(name, labels) : factLines(figures);
  const action = textOf(name)?.action(figures) ?? escape(group.commonAnnotations["summary"] ?? "");
  const body =
    [...facts, ...otherAlerts(group, labels)].join("\n") || escape(group.commonAnnotations["summary"] ?? name);

  const blocks: KnownBlock[] = [
    { type: "header", text: { type: "plain_text", text: cut(headline, MOST_HEADER) } },
    { type: "section", text: { type: "mrkdwn", text: cut(body, MOST_SECTION) } },
  ];
  if (!resolved && action !== "")
    blocks.push({ type: "section", text: { type: "mrkdwn", text: cut(`*What to do:* ${action}`, MOST_SECTION) } });
  blocks.push({ type: "section", text: { type: "mrkdwn", text: linksLine(name, figures, standing.links) } });
  if (!resolved && standing.buttons) blocks.push(buttonsOf(group, figures, standing.buttons.mayChange));
  const { acknowledged } = standing;
  const taken = acknowledged
    ? [`Acknowledged by ${escape(acknowledged.by)} until ${clock(acknowledged.untilMs)}.`]
    : [];
  const unsigned = group.isUnsigned ? ["*This came without the webhook's token: anybody could have sent it.*"] : [];
  const when = `${escape(name)}, since ${clock(sinceMs)}. Metered, not invoiced; figures as of ${clock(figures.asOfMs).slice(11)}.`;
  blocks.push({ type: "context", elements: [{ type: "mrkdwn", text: [...unsigned, ...taken, when].join(" ") }] });
  return { headline, text: [escape(headline), ...facts.map((fact) => fact.replaceAll("*", ""))].join(". "), blocks };
}

function textOf(name: string): (typeof TEXTS)[string] | undefined {
  return Object.hasOwn(TEXTS, name) ? TEXTS[name] : undefined;
}

/** When the earliest alert of a group began. */
function startOf({ alerts }: AlertGroup): number {
  return Math.min(...alerts.map(({ startsAt }) => Date.parse(startsAt)));
}

/** Slack's three control characters; names come from users. */
export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function factLines(figures: Figures): string[] {
  const { spentNanoUsd: spent, forecast, budget, movers, topModel, window } = figures;
  const when = window === "month" ? "this month" : "today";
  const lines: string[] = [];
  const over = overForecast(figures);
  if (over && forecast && spent !== undefined)
    lines.push(
      `*Spent ${when}* ${formatUsd(spent)}, forecast by now ${formatUsd(forecast.soFarNanoUsd)}, at the end ${formatUsd(forecast.p50NanoUsd)} (${formatUsd(forecast.p10NanoUsd)} to ${formatUsd(forecast.p90NanoUsd)})`,
    );
  if (budget) {
    const ends = budget.window === "total" ? "" : `, until ${clock(budget.endsMs)}`;
    lines.push(
      `*Budget* ${formatUsd(budget.spentNanoUsd)} of ${formatUsd(budget.amountNanoUsd)}, ${share(budget.spentNanoUsd, budget.amountNanoUsd)} % (${budget.kind}, ${budget.window}${ends}), id ${budget.id}`,
    );
    if (budget.refused > 0) lines.push(`*Refused* ${budget.refused} requests in 24 hours`);
  }
  if (movers.length > 0) lines.push(`*Top keys ${when}*`, ...movers.map(moverLine));
  if (topModel) lines.push(`*Top model* ${escape(topModel.name)}, ${formatUsd(topModel.costNanoUsd)} ${when}`);
  return lines;
}

function moverLine({ id, name, team, owner, costNanoUsd, overNanoUsd }: Mover): string {
  const whose = [team === "" ? "" : `team ${team}`, owner].filter((part) => part !== "").join(", ");
  const over = overNanoUsd !== undefined && overNanoUsd > 0n ? `, ${formatUsd(overNanoUsd)} over its forecast` : "";
  return `• ${escape(name)} (${id}${whose === "" ? "" : `; ${escape(whose)}`}): ${formatUsd(costNanoUsd)}${over}`;
}

/** What an alert is about that no figures are of: its labels. */
const OWN_LABELS: { readonly [alert: string]: readonly string[] } = {
  KeymeterKeyUsedElsewhere: ["provider", "billed_key"],
  KeymeterUnmeteredSpend: ["provider"],
  KeymeterReconciliationVariance: ["provider"],
  KeymeterPriceDiffers: ["provider", "model", "unit"],
  KeymeterBillingStale: ["provider"],
  KeymeterDaysOpen: ["provider"],
  KeymeterUnpricedModel: ["provider", "model"],
  KeymeterPriceListOld: [],
  KeymeterMeterSilent: ["job", "instance"],
  KeymeterLedgerFailing: ["instance"],
  KeymeterNotifierFailing: [],
  KeymeterDeliveriesUnsigned: [],
  KeymeterStatedCostDiffers: ["provider", "model"],
  KeymeterProviderKeyRejected: ["provider"],
  KeymeterProviderErrors: ["provider"],
  KeymeterKeyTooOld: ["id", "team"],
  KeymeterWorkPending: ["provider"],
  KeymeterForecastErrorHigh: ["scope", "window"],
  KeymeterForecastBandPoor: ["scope", "window"],
};

function labelLines(name: string, labels: Labels): string[] {
  const found = (OWN_LABELS[name] ?? []).flatMap((label) => {
    const value = labels[label];
    return value === undefined ? [] : [`*${capital(label.replace("billed_", ""))}* ${escape(value)}`];
  });
  return found.length === 0 ? [] : [found.join(", ")];
}

/** What else the group holds, a line an alert. */
function otherAlerts({ alerts, commonLabels }: AlertGroup, principal: Labels): string[] {
  const others = alerts.filter(({ labels }) => labels !== principal);
  const lines = others.slice(0, MOST_LABEL_LINES).map(({ labels, status }) => {
    const own = Object.entries(labels).filter(
      ([label]) => !(label in commonLabels) && !QUIET_LABELS.has(label) && label !== "alertname",
    );
    const what = labels["alertname"]?.replace("Keymeter", "") ?? "alert";
    const parts = own.map(([label, value]) => `${label} ${value}`).join(", ");
    return `• ${escape(parts === "" ? what : `${what}: ${parts}`)}${status === "resolved" ? " (resolved)" : ""}`;
  });
  const rest = others.length - lines.length;
  return [...(lines.length > 0 ? ["*Also*"] : []), ...lines, ...(rest > 0 ? [`• and ${rest} more`] : [])];
}

const QUIET_LABELS = new Set(["severity", "domain", "topic", "instance", "kind"]);

function linksLine(name: string, { movers }: Figures, { grafanaUrl, runbookUrl }: Links): string {
  const key =
    movers[0] && !(name in OWN_LABELS)
      ? ` · <${grafanaUrl}/d/keymeter-finance?var-key=${encodeURIComponent(movers[0].id)}|Key>`
      : "";
  return `<${grafanaUrl}/d/keymeter-finance|Dashboard>${key} · <${runbookUrl}${Object.hasOwn(TEXTS, name) ? `#${name.toLowerCase()}` : ""}|Runbook>`;
}

/** Acknowledge for everybody; what changes something for those who may, after a question. */
function buttonsOf({ groupKey }: AlertGroup, { movers, budget }: Figures, mayChange: boolean): KnownBlock {
  const button = (action: string, text: string, value: string, question?: string): object => ({
    type: "button",
    action_id: action,
    text: { type: "plain_text", text: cut(text, 75) },
    value: cut(value, 2_000),
    ...(question === undefined
      ? {}
      : {
          style: "danger",
          confirm: {
            title: { type: "plain_text", text: "Sure?" },
            text: { type: "mrkdwn", text: cut(question, 300) },
            confirm: { type: "plain_text", text: "Do it" },
            deny: { type: "plain_text", text: "No" },
          },
        }),
  });
  const [top] = movers;
  const elements = [button("keymeter_acknowledge", "Acknowledge", groupKey)];
  if (mayChange && top)
    elements.push(
      button(
        "keymeter_pause",
        `Pause ${top.name}`,
        `${top.id} ${groupKey}`,
        `Requests of ${escape(top.name)} (${top.id}) are refused until somebody resumes it.`,
      ),
    );
  if (mayChange && budget)
    elements.push(
      button(
        "keymeter_raise",
        "Raise by 20 %",
        `${budget.id} ${groupKey}`,
        `Budget ${budget.id} gets ${formatUsd(budget.amountNanoUsd / 5n)} more until its window ends.`,
      ),
    );
  return { type: "actions", elements } as KnownBlock;
}

/** "2 h 4 min". */
function lasted(ms: number): string {
  const minutes = Math.max(1, Math.round(ms / 60_000));
  const [days, hours] = [Math.floor(minutes / 1_440), Math.floor((minutes % 1_440) / 60)];
  return days > 0 ? `${days} d ${hours} h` : hours > 0 ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}

/** "2026-11-23 14:05 UTC". */
function clock(ms: number): string {
  return `${new Date(Math.min(Math.max(ms, 0), MOST_MS)).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

const MOST_MS = 8_640_000_000_000_000;

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
