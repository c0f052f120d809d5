// Settings of the alerts program. The only reader of process.env here.
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { addressOf } from "../service/admin.ts";
import { settingsBefore } from "../service/command-words.ts";
import { innerHostOf } from "../service/network.ts";
import { ownSecret, Secret } from "../service/secret.ts";
import { readSettings, SettingsError } from "../service/settings.ts";
import type { Environment, Settings } from "../service/settings.ts";

export type AlertsConfig = SharedConfig & {
  /** Undefined: nothing is sent; deliveries wait in the outbox. */
  readonly slackToken: Secret | undefined;
  readonly slackChannel: string | undefined;
  readonly slackUrl: string;
  /** A team's own channel; the others' is `slackChannel`. */
  readonly slackChannels: { readonly [team: string]: string };
  /** For buttons, over Socket Mode; undefined: messages have links only. */
  readonly slackAppToken: Secret | undefined;
  /** Ids of the people whose presses may pause keys and raise budgets. */
  readonly slackUsers: readonly string[];
  /** What messages link to: only what is not on the reader's own machine by its address. */
  readonly runbookUrl: string;
  readonly pagesUrl: string | undefined;
  /** How the command is typed where Keymeter runs. */
  readonly command: string;
  /** Asked what is active, and silenced by Acknowledge. */
  readonly alertmanagerUrls: readonly string[];
  /** Whether rules are evaluated here: "auto" while no Prometheus is heard. */
  readonly ownRules: "auto" | "always" | "never";
  /** Metrics pages of the programs, for that. */
  readonly targets: readonly string[];
  /** When the week is told. */
  readonly digestCron: string;
  /** For what buttons change. */
  readonly adminToken: Secret;
  /** What deliveries have to bring. */
  readonly webhookToken: Secret;
};

const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(/\/$/, "");

type Raw = SharedConfig & {
  slackToken: string | undefined;
  slackChannel: string | undefined;
  slackChannels: { readonly [team: string]: string };
  slackAppToken: string | undefined;
  slackUsers: readonly string[];
  slackUrl: string;
  runbookUrl: string;
  pagesUrl: string | undefined;
  command: string | undefined;
  alertmanagerUrls: readonly string[] | undefined;
  ownRules: "auto" | "always" | "never";
  targets: readonly string[] | undefined;
  digestCron: string;
  adminToken: string | undefined;
  webhookToken: string | undefined;
};

/** A list, or one text with commas. */
const list = (item: z.ZodType<string>): z.ZodType<readonly string[]> =>
  z.preprocess(
    (value) => (typeof value === "string" ? value.split(",").map((part) => part.trim()) : value),
    z.array(item),
  ) as z.ZodType<readonly string[]>;

export const ALERTS_SETTINGS: Settings<Raw> = {
  ...SHARED_SETTINGS,
  slackToken: {
    place: "alerts.slack_bot_token",
    env: "SLACK_BOT_TOKEN",
    schema: z.string().min(1),
    fallback: undefined,
  },
  slackChannel: {
    place: "alerts.slack_channel",
    env: "SLACK_CHANNEL",
    schema: z.string().min(1),
    fallback: undefined,
  },
  slackUrl: {
    place: "alerts.slack_url",
    env: "KEYMETER_SLACK_URL",
    schema: z.url(),
    fallback: "https://slack.com/api/",
  },
  slackChannels: {
    place: "alerts.slack_channels",
    schema: z.record(z.string().min(1), z.string().min(1)),
    fallback: {},
  },
  slackAppToken: {
    place: "alerts.slack_app_token",
    env: "SLACK_APP_TOKEN",
    schema: z.string().startsWith("xapp-", "an app-level token: it begins with xapp-"),
    fallback: undefined,
  },
  slackUsers: {
    place: "alerts.slack_users",
    env: "KEYMETER_SLACK_USERS",
    schema: list(z.string().regex(/^[UW][A-Z0-9]+$/, "a member id such as U0123ABCD")),
    fallback: [],
  },
  alertmanagerUrls: {
    place: "alerts.alertmanager_urls",
    env: "KEYMETER_ALERTMANAGER_URLS",
    schema: list(z.url({ protocol: /^https?$/ })),
    fallback: undefined,
  },
  ownRules: {
    place: "alerts.own_rules",
    env: "KEYMETER_OWN_RULES",
    schema: z.enum(["auto", "always", "never"]),
    fallback: "auto",
  },
  targets: {
    place: "alerts.targets",
    env: "KEYMETER_ALERT_TARGETS",
    schema: list(z.url({ protocol: /^https?$/ })),
    fallback: undefined,
  },
  digestCron: {
    place: "alerts.digest_cron",
    env: "KEYMETER_DIGEST_CRON",
    schema: z.string().regex(/^(\S+\s+){4,5}\S+$/, "a cron expression of five or six fields"),
    fallback: "0 9 * * 1",
  },
  adminToken: {
    place: "proxy.admin_token",
    env: "KEYMETER_ADMIN_TOKEN",
    schema: z.string().regex(/^[\x21-\x7e]+$/, "a secret on one line, without spaces"),
    fallback: undefined,
  },
  webhookToken: {
    place: "alerts.webhook_token",
    env: "KEYMETER_WEBHOOK_TOKEN",
    schema: z.string().regex(/^[\x21-\x7e]+$/, "a secret on one line, without spaces"),
    fallback: undefined,
  },
  pagesUrl: { place: "collector.pages_url", env: "KEYMETER_PAGES_URL", schema: z.url(), fallback: undefined },
  command: {
    place: "alerts.command",
    env: "KEYMETER_COMMAND",
    schema: z
      .string()
      .regex(/^[\x20-\x7e]{1,200}$/, "what is typed before a verb, such as docker compose exec proxy keymeter"),
    fallback: undefined,
  },
  runbookUrl: {
    place: "alerts.runbook_url",
    env: "KEYMETER_RUNBOOK_URL",
    schema: z.url(),
    fallback: "http://127.0.0.1:4003/runbook",
  },
};

/** Reads and checks everything; throws a SettingsError that names every problem. */
export function loadAlertsConfig(environment: Environment = process.env): AlertsConfig {
  const problems: string[] = [];
  const { slackToken, slackAppToken, adminToken, webhookToken, alertmanagerUrls, targets, ...rest } = readSettings(
    ALERTS_SETTINGS,
    "alerts",
    environment,
    problems,
  );
  if (problems.length > 0) throw new SettingsError(problems);
  const secret = (text: string | undefined): Secret | undefined => (text === undefined ? undefined : new Secret(text));
  const page = (port: number): string => `${addressOf(innerHostOf(rest), port)}/metrics`;
  return Object.freeze({
    ...rest,
    command: rest.command ?? `cd ${ROOT} && ${settingsBefore(environment)}npx keymeter`,
    slackToken: secret(slackToken),
    slackAppToken: secret(slackAppToken),
    alertmanagerUrls: alertmanagerUrls ?? [`http://127.0.0.1:${rest.alertmanagerPort}`],
    targets: targets ?? [rest.opsPort, rest.collectorPort].map(page),
    // Without a Prometheus there is nothing to wait for.
    ownRules: rest.ownRules === "auto" && rest.prometheus === "off" ? "always" : rest.ownRules,
    adminToken: ownSecret(rest.dataDir, "admin-token", adminToken),
    webhookToken: ownSecret(rest.dataDir, "webhook-token", webhookToken),
  });
}
