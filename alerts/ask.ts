// What the command asks of alerts: to say something in Slack now, beside all alerts.
import { openSecrets } from "../service/secrets/index.ts";
import { loadAlertsConfig } from "./config.ts";

const MOST_TEXT = 3_000;

/** Says a text where alerts are said. Returns where; rejects with an Error that says how to mend it. */
export async function sayInSlack(headline: string, text: string, nonce: string): Promise<string> {
  const config = loadAlertsConfig();
  (await openSecrets(config, { warn: () => undefined, info: () => undefined })).stop();
  const { slackToken, slackChannel, slackUrl } = config;
  if (!slackToken || slackChannel === undefined)
    throw new Error(`${slackToken ? "SLACK_CHANNEL" : "SLACK_BOT_TOKEN"} is not set: nothing was said in Slack`);
  const { createSlack } = await import("./receivers/slack.ts");
  const cut = text.length <= MOST_TEXT ? text : `${text.slice(0, MOST_TEXT - 1)}…`;
  const section = { type: "section" as const, text: { type: "plain_text" as const, text: cut } };
  const message = { headline, text: headline, blocks: [section] };
  const outcome = await createSlack(slackToken, slackUrl).post(slackChannel, message, nonce, false);
  if (!outcome.ok) throw new Error(`Slack did not take it: ${outcome.error}`);
  return slackChannel;
}
