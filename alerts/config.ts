// Settings of the alerts program. The only reader of process.env here.
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { urlOfProgram } from "../service/admin.ts";
import { settingsBefore } from "../service/command-words.ts";
import { ADMIN_TOKEN, cron, ownSecretOf, PAGES_URL, SHARED_SETTINGS, tokenText, webUrl } from "../service/config.ts";
import { readReceivers, receiverRows, routeProblems, routeRows } from "./receivers/settings.ts";
import { listOf, readConfig, secret } from "../service/settings.ts";
import type { Environment, Reading, SettingTree, Values } from "../service/settings.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");
/** A package that is installed, which has JavaScript, is found by its name from anywhere. */
const isClone = import.meta.url.endsWith(".ts");

export const ALERTS_SETTINGS = {
  /** Undefined: nothing is sent; deliveries wait in the outbox. */
  slackToken: secret({
    place: "alerts.slack_bot_token",
    env: "SLACK_BOT_TOKEN",
    schema: z.string().min(1),
    says: "xoxb-..., scope chat:write",
  }),
  slackChannel: {
    place: "alerts.slack_channel",
    env: "SLACK_CHANNEL",
    schema: z.string().min(1),
    fallback: undefined,
    says: "its id, or its name (an id can be searched for a message that may have been sent)",
    example: "C0123ABCD",
  },
  /** The others' is `slackChannel`. */
  slackChannels: {
    place: "alerts.slack_channels",
    schema: z.record(z.string().min(1), z.string().min(1)),
    fallback: {},
    says: "a team's own channel",
    example: "{ search: C0456EFGH }",
  },
  /** As written; `receivers` of the config are made from it. */
  receiverRows: {
    place: "alerts.receivers",
    schema: receiverRows,
    fallback: {},
    says: "where alerts are said beside Slack, by name: Telegram, Discord, Teams, e-mail, a webhook of your own (alerts/README.md)",
    example: [
      'finance: { kind: email, smtp: "file:/run/secrets/smtp", from: "keymeter@example.com", to: ["finance@example.com"] }',
      'search: { kind: teams, url: "file:/run/secrets/teams" } # a workflow: when a webhook request is received',
      'oncall: { kind: telegram, token: "env:TELEGRAM_TOKEN", chat: "-1001234567890" }',
      'games: { kind: discord, token: "file:/run/secrets/discord", channel: "123456789012345678" }',
      'pager: { kind: webhook, url: "https://hooks.example.com/keymeter", secret: "vault:secret/keymeter/hook#secret" }',
    ],
  },
  routes: {
    place: "alerts.routes",
    schema: routeRows,
    fallback: [],
    says: "which receiver says what, by topic and team; the first that fits; what fits none is said in Slack",
    example: "[{ topic: leak, to: oncall }, { team: games, to: games }]",
  },
  digestTo: {
    place: "alerts.digest_to",
    env: "KEYMETER_DIGEST_TO",
    schema: z.string().min(1),
    fallback: undefined,
    says: "the receiver that tells the week; absent: Slack, or where everything else goes",
  },
  /** Undefined: messages have links only. */
  slackAppToken: secret({
    place: "alerts.slack_app_token",
    env: "SLACK_APP_TOKEN",
    schema: z.string().startsWith("xapp-", "an app-level token: it begins with xapp-"),
    says: "xapp-..., scope connections:write: buttons, over Socket Mode",
  }),
  slackUsers: {
    place: "alerts.slack_users",
    env: "KEYMETER_SLACK_USERS",
    schema: listOf(z.string().regex(/^[UW][A-Z0-9]+$/, "a member id such as U0123ABCD")),
    fallback: [],
    says: "by commas; ids of people whose presses may pause keys and raise budgets",
  },
  /** Asked what is active, and silenced by Acknowledge. */
  alertmanagerUrls: {
    place: "alerts.alertmanager_urls",
    env: "KEYMETER_ALERTMANAGER_URLS",
    schema: listOf(webUrl),
    fallback: undefined,
    says: "by commas; asked what is active, and silenced by Acknowledge",
    example: "[http://127.0.0.1:9093]",
  },
  /** What deliveries have to bring. */
  webhookToken: secret({
    place: "alerts.webhook_token",
    env: "KEYMETER_WEBHOOK_TOKEN",
    schema: tokenText,
    says: "what Alertmanager brings; made on the first start",
  }),
  ownRules: {
    place: "alerts.own_rules",
    env: "KEYMETER_OWN_RULES",
    schema: z.enum(["auto", "always", "never"]),
    fallback: "auto",
    says: "auto: money alerts are evaluated here while no Prometheus is heard; always, never",
  },
  targets: {
    place: "alerts.targets",
    env: "KEYMETER_ALERT_TARGETS",
    schema: listOf(webUrl),
    fallback: undefined,
    says: "by commas; metrics pages that own rules read",
    example: "[http://127.0.0.1:4001/metrics, http://127.0.0.1:4002/metrics]",
  },
  digestCron: {
    place: "alerts.digest_cron",
    env: "KEYMETER_DIGEST_CRON",
    schema: cron,
    fallback: "0 9 * * 1",
    says: "when the week is told",
  },
  slackUrl: {
    place: "alerts.slack_url",
    env: "KEYMETER_SLACK_URL",
    schema: z.url(),
    fallback: "https://slack.com/api/",
    says: "where Slack is",
  },
  runbookUrl: {
    place: "alerts.runbook_url",
    env: "KEYMETER_RUNBOOK_URL",
    schema: z.url(),
    fallback: "http://127.0.0.1:4003/runbook",
    says: "messages link to it, to collector.pages_url and to grafana_url where others can open them: not to 127.0.0.1",
  },
  /** How the command is typed where Keymeter runs. */
  command: {
    place: "alerts.command",
    env: "KEYMETER_COMMAND",
    schema: z
      .string()
      .regex(/^[\x20-\x7e]{1,200}$/, "what is typed before a verb, such as docker compose exec proxy keymeter"),
    fallback: undefined,
    says: "what messages put in front of a verb, such as docker compose exec proxy node keymeter.ts",
    example: "cd FOLDER && npx keymeter",
  },
  pagesUrl: PAGES_URL,
  adminToken: ADMIN_TOKEN,
  ...SHARED_SETTINGS,
} as const satisfies SettingTree;

/** Reads and checks everything; throws a SettingsError that names every problem. */
export function loadAlertsConfig(environment: Environment = process.env): AlertsConfig {
  return readConfig(ALERTS_SETTINGS, "alerts", environment, finish);
}
export type AlertsConfig = Readonly<ReturnType<typeof finish>>;

/** What depends on other settings, and the secrets that an installation makes for itself. */
function finish({ receiverRows: rows, ...values }: Values<typeof ALERTS_SETTINGS>, reading: Reading) {
  const receivers = readReceivers(rows, reading);
  const hasSlack = values.slackToken !== undefined && values.slackChannel !== undefined;
  reading.problems.push(...routeProblems(values.routes, values.digestTo, receivers, hasSlack));
  return {
    ...values,
    receivers,
    command: values.command ?? `${isClone ? `cd ${ROOT} && ` : ""}${settingsBefore(reading.environment)}npx keymeter`,
    alertmanagerUrls: values.alertmanagerUrls ?? [`http://127.0.0.1:${values.alertmanagerPort}`],
    targets: values.targets ?? (["proxy", "collector"] as const).map((one) => `${urlOfProgram(values, one)}/metrics`),
    // Without a Prometheus there is nothing to wait for.
    ownRules: values.ownRules === "auto" && values.prometheus === "off" ? "always" : values.ownRules,
    adminToken: ownSecretOf(values.dataDir, "admin-token", values.adminToken, reading),
    webhookToken: ownSecretOf(values.dataDir, "webhook-token", values.webhookToken, reading),
  };
}
