// An alert group and its figures -> one Slack message. Pure. Says which scope, how much over, who drives it, what to
// do, and where to look; and what kind of money it speaks of.
import type { KnownBlock } from "@slack/web-api";
import { formatUsd } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { Labels } from "./expression.ts";
import type { Figures, Mover } from "./figures.ts";
import { isAboutNoSpend, overForecast, share, textOf } from "./texts.ts";
import type { AlertGroup } from "./webhook.ts";

export type Message = {
  /** One line: what happened, or that it is over. */
  readonly headline: string;
  /** The whole message as one sentence: for notifications and screen readers. */
  readonly text: string;
  readonly blocks: KnownBlock[];
  /** What nobody should forget when it is over: keys that are still paused. */
  readonly reminder?: string | undefined;
};

/** Where readers find more; undefined: nowhere that they could open. No slash at the end. */
export type Links = {
  readonly pagesUrl: string | undefined;
  readonly grafanaUrl: string | undefined;
  readonly runbookUrl: string | undefined;
};

/** What stands below the figures. */
export type Standing = {
  readonly links: Links;
  /** Somebody has taken it on. */
  readonly acknowledged: { readonly by: string; readonly untilMs: number } | undefined;
  /** Whether buttons work: Socket Mode is on. `mayChange`: some people may pause keys and raise budgets. */
  readonly buttons: { readonly mayChange: boolean } | undefined;
  /** How the command is typed where Keymeter runs, and the name of that machine. */
  readonly command: string;
  readonly host: string;
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
  // Of what is over the message that stands says what it was: figures of now say that it is over.
  const told = before?.text.split(". ")[0]?.replace(/^Resolved after [^:]+: /, "");
  const said = (resolved ? told && unescape(told) : undefined) ?? textOf(name)?.headline(figures, labels) ?? name;
  const lastedWords = lasted(figures.asOfMs - sinceMs);
  const headline = resolved ? `Resolved after ${lastedWords}: ${said}` : said;
  // What is about bills is not about who spent most today.
  const isOwn = isAboutNoSpend(name);
  const facts = [
    ...(resolved ? [] : [stateLine(labels, sinceMs, lastedWords, isOwn ? undefined : figures.hourNanoUsd)]),
    ...(isOwn ? labelLines(name, labels) : factLines(figures)),
    ...(figures.leak ? [escape(figures.leak.facts)] : []),
    ...pausedLines(isOwn ? [] : figures.paused, resolved),
  ];
  const action = commands(
    textOf(name)?.action({ ...figures, leak: escapedLeak(figures) }) ??
      escape(group.commonAnnotations["summary"] ?? ""),
    standing.command,
  );
  const body =
    [...facts, ...otherAlerts(group, labels)].join("\n") || escape(group.commonAnnotations["summary"] ?? name);

  const blocks: KnownBlock[] = [
    { type: "header", text: { type: "plain_text", text: cut(headline, MOST_HEADER) } },
    { type: "section", text: { type: "mrkdwn", text: cut(body, MOST_SECTION) } },
  ];
  if (!resolved && action !== "")
    blocks.push({ type: "section", text: { type: "mrkdwn", text: cut(`*What to do:* ${action}`, MOST_SECTION) } });
  const links = linksLine(name, labels, figures, standing.links);
  if (links !== "") blocks.push({ type: "section", text: { type: "mrkdwn", text: links } });
  const buttons = standing.buttons && buttonsOf(group, name, figures, standing.buttons.mayChange, resolved);
  if (buttons) blocks.push(buttons);
  const { acknowledged } = standing;
  const taken = acknowledged
    ? [`Acknowledged by ${escape(acknowledged.by)} until ${clock(acknowledged.untilMs)}.`]
    : [];
  const unsigned = group.isUnsigned ? ["*This came without the webhook's token: anybody could have sent it.*"] : [];
  const when = `${escape(name)}, since ${clock(sinceMs)}. Metered, not invoiced; figures as of ${clock(figures.asOfMs).slice(11)}. Commands run on ${escape(standing.host)}.`;
  blocks.push({ type: "context", elements: [{ type: "mrkdwn", text: [...unsigned, ...taken, when].join(" ") }] });
  const [reminder] = pausedLines(isOwn ? [] : figures.paused, resolved);
  return {
    headline,
    text: [escape(headline), ...facts.map((fact) => fact.replaceAll("*", ""))].join(". "),
    blocks,
    reminder,
  };
}

/** How bad it is, since when, and what it goes on to cost. */
function stateLine(labels: Labels, sinceMs: number, lastedWords: string, hourNanoUsd: NanoUsd | undefined): string {
  const severity = labels["severity"] === undefined ? "" : `*${capital(escape(labels["severity"]))}* · `;
  const rate = hourNanoUsd === undefined || hourNanoUsd === 0n ? "" : ` · *${formatUsd(hourNanoUsd)}* in the last hour`;
  return `${severity}since ${clock(sinceMs)} (${lastedWords})${rate}`;
}

/** The words of a leak name keys as their provider does. */
function escapedLeak({ leak }: Figures): Figures["leak"] {
  if (!leak) return undefined;
  const { provider, billedKey, facts, steps } = leak;
  return {
    provider: escape(provider),
    billedKey: escape(billedKey),
    facts: escape(facts),
    steps: steps.map(escape),
  };
}

/** What is paused now, so that nobody forgets it. */
function pausedLines(paused: Figures["paused"], resolved: boolean): string[] {
  if (paused.length === 0) return [];
  const names = paused.map(({ id, name }) => `${escape(name)} (${id})`);
  const more = names.length > MOST_PAUSED ? ` and ${names.length - MOST_PAUSED} more` : "";
  return [`*${resolved ? "Still paused" : "Paused"}* ${names.slice(0, MOST_PAUSED).join(", ")}${more}`];
}

const MOST_PAUSED = 5;

/** Commands as they are typed where Keymeter runs. */
function commands(words: string, command: string): string {
  return words.replaceAll("`keymeter ", `\`${escape(command)} `);
}

/** When the earliest alert of a group began. */
function startOf({ alerts }: AlertGroup): number {
  return Math.min(...alerts.map(({ startsAt }) => Date.parse(startsAt)));
}

function unescape(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

/** Slack's three control characters; names come from users. */
export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function factLines(figures: Figures): string[] {
  const { spentNanoUsd: spent, forecast, landing, budget, movers, topModel, window } = figures;
  const when = window === "month" ? "this month" : "today";
  const lines: string[] = [];
  const over = overForecast(figures);
  if (over && forecast && spent !== undefined)
    lines.push(
      `*Spent ${when}* ${formatUsd(spent)}, forecast by now ${formatUsd(forecast.soFarNanoUsd)}; at the end, as it was forecast ${window === "month" ? "on the first" : "this morning"}, ${formatUsd(forecast.p50NanoUsd)} (${formatUsd(forecast.p10NanoUsd)} to ${formatUsd(forecast.p90NanoUsd)})`,
    );
  if (landing)
    lines.push(
      `*Lands at* ${formatUsd(landing.p50NanoUsd)} (${formatUsd(landing.p10NanoUsd)} to ${formatUsd(landing.p90NanoUsd)}), as it looks now`,
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

function moverLine({ id, name, team, owner, costNanoUsd, overNanoUsd, isPaused }: Mover): string {
  const whose = [team === "" ? "" : `team ${team}`, owner].filter((part) => part !== "").join(", ");
  const over = overNanoUsd !== undefined && overNanoUsd > 0n ? `, ${formatUsd(overNanoUsd)} over its forecast` : "";
  return `• ${escape(name)} (${id}${isPaused ? ", paused" : ""}${whose === "" ? "" : `; ${escape(whose)}`}): ${formatUsd(costNanoUsd)}${over}`;
}

function labelLines(name: string, labels: Labels): string[] {
  const found = (textOf(name)?.about ?? []).flatMap((label) => {
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

/** Only what the reader can open: an address that nobody set leads nowhere on a phone. */
function linksLine(
  name: string,
  labels: Labels,
  { movers }: Figures,
  { pagesUrl, grafanaUrl, runbookUrl }: Links,
): string {
  const [top] = movers;
  const keyId = labels["scope"] === "key" ? labels["id"] : top?.id;
  const isAboutKeys = !isAboutNoSpend(name) && keyId !== undefined;
  const page = isAboutKeys ? `key?id=${encodeURIComponent(keyId)}` : (textOf(name)?.page ?? "overview");
  return [
    ...(pagesUrl === undefined ? [] : [`<${pagesUrl}/${page}|${isAboutKeys ? "Key" : "Report"}>`]),
    ...(grafanaUrl === undefined ? [] : [`<${grafanaUrl}/d/keymeter-finance|Dashboard>`]),
    ...(runbookUrl === undefined ? [] : [`<${runbookUrl}${textOf(name) ? `#${name.toLowerCase()}` : ""}|Runbook>`]),
  ].join(" · ");
}

/** Acknowledge for everybody; what changes something for those who may, after a question, and only where it helps.
 *  Undefined: none. */
function buttonsOf(
  { groupKey }: AlertGroup,
  name: string,
  { movers, budget, paused, asked, leak }: Figures,
  mayChange: boolean,
  resolved: boolean,
): KnownBlock | undefined {
  const button = (action: string, text: string, value: string, question?: string): object => ({
    type: "button",
    action_id: action,
    text: { type: "plain_text", text: cut(text, 75) },
    value: cut(value, 2_000),
    ...(question === undefined
      ? {}
      : {
          style: action === "keymeter_resume" ? "primary" : "danger",
          confirm: {
            title: { type: "plain_text", text: "Sure?" },
            text: { type: "mrkdwn", text: cut(question, 300) },
            confirm: { type: "plain_text", text: "Do it" },
            deny: { type: "plain_text", text: "No" },
          },
        }),
  });
  const helps = textOf(name)?.helps ?? [];
  const elements = resolved ? [] : [button("keymeter_acknowledge", "Acknowledge", groupKey)];
  const toPause = movers.find(({ isPaused }) => !isPaused);
  if (mayChange && !resolved && helps.includes("pause") && toPause)
    elements.push(
      button(
        "keymeter_pause",
        `Pause ${toPause.name}`,
        `${toPause.id} ${groupKey}`,
        `Requests of ${escape(toPause.name)} (${toPause.id}) are refused until somebody resumes it.`,
      ),
    );
  if (mayChange && helps.includes("pause"))
    for (const key of paused.slice(0, MOST_RESUMED))
      elements.push(
        button(
          "keymeter_resume",
          `Resume ${key.name}`,
          `${key.id} ${groupKey}`,
          `Requests of ${escape(key.name)} (${key.id}) are let through again.`,
        ),
      );
  if (mayChange && !resolved && helps.includes("raise") && budget)
    elements.push(
      button(
        "keymeter_raise",
        "Raise by 20 %",
        `${budget.id} ${groupKey}`,
        `Budget ${budget.id} gets ${formatUsd(budget.amountNanoUsd / 5n)} more until its window ends.`,
      ),
    );
  if (mayChange && !resolved && helps.includes("answer") && asked)
    elements.push(
      button(
        "keymeter_approve",
        `Approve ${formatUsd(asked.amountNanoUsd)}`,
        `${asked.id} ${groupKey}`,
        `${escape(asked.keyName)} gets ${formatUsd(asked.amountNanoUsd)} more until the budget's window ends.`,
      ),
      button("keymeter_refuse", "Refuse", `${asked.id} ${groupKey}`, "Nothing is raised."),
    );
  if (mayChange && !resolved && leak)
    elements.push(
      button(
        "keymeter_leak",
        "Replace it, and take it away",
        `${encodeURIComponent(leak.provider)}/${encodeURIComponent(leak.billedKey.toWellFormed())} ${groupKey}`,
        `${escape(leak.billedKey)} of ${escape(leak.provider)}: ${escape("what `keymeter leak` does, now: another key in its place where Keymeter can make one, and this one is taken away at the provider.")}`,
      ),
    );
  return elements.length === 0 ? undefined : ({ type: "actions", elements } as KnownBlock);
}

/** In a row of buttons each action stands once. */
const MOST_RESUMED = 1;

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
  return text.length <= most ? text : `${text.slice(0, most - 1).toWellFormed()}…`;
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
