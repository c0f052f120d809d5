// Does what this program holds work: Slack's token and channels, Alertmanager's way here? Asked of the program itself,
// for a shell beside it may hold others.
import type { Finding } from "../service/finding.ts";
import type { AlertsConfig } from "./config.ts";

const TIMEOUT_MS = 8_000;

/** How each Alertmanager delivers. */
export async function checkAlertmanagers({ alertmanagerUrls }: AlertsConfig): Promise<Finding[]> {
  return (await Promise.all(alertmanagerUrls.map(checkAlertmanager))).flat();
}

async function checkAlertmanager(url: string): Promise<Finding[]> {
  try {
    const answer = await fetch(new URL("api/v2/status", url.endsWith("/") ? url : `${url}/`), {
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const { config } = (await answer.json()) as { config: { original: string } };
    if (config.original.includes("/webhook") && !config.original.includes("credentials"))
      return [
        {
          what: "Alertmanager",
          state: "fail",
          said: `${url} delivers to Keymeter without the webhook's token`,
          mend: "give both webhooks http_config.authorization.credentials_file with the file webhook-token of the data folder, as alerts/alertmanager.yaml does",
        },
      ];
    if (config.original.includes("/webhook"))
      return [{ what: "Alertmanager", state: "ok", said: `${url} delivers to Keymeter` }];
    return [
      {
        what: "Alertmanager",
        state: "fail",
        said: `${url} has no webhook to Keymeter`,
        mend: "give it alerts/alertmanager.yaml",
      },
    ];
  } catch {
    return [{ what: "Alertmanager", state: "off", said: `none at ${url}` }];
  }
}

/** What of Slack works, a finding each, with its mending; a test message is sent if it `isSaid`. Changes nothing
 *  else. */
export async function checkSlack(
  { slackToken, slackChannel, slackChannels, slackUrl }: AlertsConfig,
  isSaid: boolean,
): Promise<Finding[]> {
  if (!slackToken || slackChannel === undefined) {
    const missing = slackToken ? "SLACK_CHANNEL" : "SLACK_BOT_TOKEN";
    const mend =
      "make an app in Slack with the scopes chat:write, files:write and channels:history, install it, and set SLACK_BOT_TOKEN and SLACK_CHANNEL";
    return [
      { what: "Slack", state: isSaid ? "fail" : "off", said: `${missing} is not set: alerts wait in the outbox`, mend },
    ];
  }
  const { createSlack } = await import("./slack.ts");
  const slack = createSlack(slackToken, slackUrl);
  const findings: Finding[] = [];
  try {
    const { team, bot, scopes } = await slack.check();
    findings.push({ what: "Slack", state: "ok", said: `the token is ${bot}'s, in ${team}` });
    for (const [scope, why] of Object.entries(SCOPES))
      if (scopes.length > 0 && !scopes.includes(scope))
        findings.push({
          what: "Slack",
          state: "fail",
          said: `the token lacks ${scope}`,
          mend: `${why}; add the scope and install the app again`,
        });
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    return [
      { what: "Slack", state: "fail", said, mend: "until it is mended every alert waits in the outbox; none is lost" },
    ];
  }
  if (!isSaid) return findings;
  const text = "A test of Keymeter: alerts will come here.";
  for (const channel of new Set([slackChannel, ...Object.values(slackChannels)])) {
    const outcome = await slack.post(channel, { headline: text, text, blocks: [] }, `doctor-${Date.now()}`);
    if (outcome.ok) findings.push({ what: "Slack", state: "ok", said: `a test message stands in ${channel}` });
    else
      findings.push({
        what: "Slack",
        state: "fail",
        said: `${channel}: ${outcome.error}`,
        mend: "mend that and run `keymeter doctor slack` again",
      });
  }
  return findings;
}

/** What the token should be able to do, and what is missing without. */
const SCOPES = {
  "chat:write": "without it nothing can be said",
  "files:write": "without it messages have no picture",
  "channels:history":
    "without it a message whose answer got lost may be there twice (groups:history for a private channel)",
};
