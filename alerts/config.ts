// Settings of the alerts program. The only reader of process.env here.
import { z } from "zod";
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { Secret } from "../service/secret.ts";
import { readSettings, SettingsError } from "../service/settings.ts";
import type { Environment, Settings } from "../service/settings.ts";

export type AlertsConfig = SharedConfig & {
  /** Undefined: nothing is sent; deliveries wait in the outbox. */
  readonly slackToken: Secret | undefined;
  readonly slackChannel: string | undefined;
  readonly slackUrl: string;
  /** What messages link to. */
  readonly runbookUrl: string;
};

type Raw = SharedConfig & {
  slackToken: string | undefined;
  slackChannel: string | undefined;
  slackUrl: string;
  runbookUrl: string;
};

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
  const { slackToken, ...rest } = readSettings(ALERTS_SETTINGS, "alerts", environment, problems);
  if (problems.length > 0) throw new SettingsError(problems);
  return Object.freeze({ ...rest, slackToken: slackToken === undefined ? undefined : new Secret(slackToken) });
}
