// Does what this program holds work: Slack's token and channels, Alertmanager's way here? Asked of the program itself,
// for a shell beside it may hold others.
import type { Finding } from "../service/finding.ts";
import type { AlertsConfig } from "./config.ts";
import { receiverOf } from "./receivers/index.ts";
import { readRules } from "./rules.ts";

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

/** What of the other receivers works; a test message is sent to each if it `isSaid`. */
export async function checkReceivers({ receivers }: AlertsConfig, isSaid: boolean): Promise<Finding[]> {
  const findings = receivers.map(async ({ name, kind, channel, make }): Promise<Finding> => {
    const what = `${kind} (${name})`;
    const warnings: string[] = [];
    const mend = `mend alerts.receivers.${name}; until then what goes there waits, and none is lost`;
    try {
      const receiver = make((said) => warnings.push(said));
      const who = await receiver.check();
      if (!isSaid) return { what, state: "ok", said: `it answers as ${who}` };
      const text = "A test of Keymeter: alerts will come here.";
      const own = receiverOf(channel)?.channel ?? "";
      const outcome = await receiver.post(own, { headline: text, text, blocks: [] }, `doctor-${Date.now()}`, false);
      if (outcome.ok && warnings[0] !== undefined) return { what, state: "warn", said: warnings[0], mend };
      return outcome.ok
        ? { what, state: "ok", said: `a test message stands there, from ${who}` }
        : { what, state: "fail", said: outcome.error, mend };
    } catch (error) {
      return { what, state: "fail", said: error instanceof Error ? error.message : String(error), mend };
    }
  });
  return Promise.all(findings);
}

/** Receivers and routes that nothing comes to. By a topic that no rule here has only an Alertmanager's own alerts could come. */
export function checkRoutes({
  routes,
  receivers,
  digestTo,
}: Pick<AlertsConfig, "routes" | "receivers" | "digestTo">): Finding[] {
  const known = [...new Set(readRules().flatMap(({ labels }) => labels["topic"] ?? []))].toSorted();
  const strange = routes.flatMap(({ topic }) => (topic === undefined || known.includes(topic) ? [] : [topic]));
  const last = routes.findIndex(({ topic, team }) => topic === undefined && team === undefined);
  const used = new Set([...routes.map(({ to }) => to), digestTo]);
  const found = (said: string, mend: string): Finding => ({ what: "alerts.routes", state: "warn", said, mend });
  return [
    ...strange.map((topic) =>
      found(`no alert of Keymeter's has the topic ${topic}`, `its topics are ${known.join(", ")}`),
    ),
    ...receivers.flatMap(({ name }) =>
      used.has(name) ? [] : [found(`nothing is told to ${name}`, "name it in alerts.routes or alerts.digest_to")],
    ),
    ...(last >= 0 && last < routes.length - 1
      ? [found("routes after the one that takes everything are never reached", "put that one last")]
      : []),
  ];
}

/** What of Slack works, a finding each, with its mending; a test message is sent if it `isSaid`. Changes nothing
 *  else. */
export async function checkSlack(
  { slackToken, slackChannel, slackChannels, slackUrl, receivers }: AlertsConfig,
  isSaid: boolean,
): Promise<Finding[]> {
  // Who has other receivers, and nothing of Slack, wants none.
  if (!slackToken && slackChannel === undefined && receivers.length > 0) return [];
  if (!slackToken || slackChannel === undefined) {
    const missing = slackToken ? "SLACK_CHANNEL" : "SLACK_BOT_TOKEN";
    const mend =
      "make an app in Slack with the scopes chat:write, files:write and channels:history, install it, and set SLACK_BOT_TOKEN and SLACK_CHANNEL";
    return [
      { what: "Slack", state: isSaid ? "fail" : "off", said: `${missing} is not set: alerts wait in the outbox`, mend },
    ];
  }
  const { createSlack } = await import("./receivers/slack.ts");
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
    const outcome = await slack.post(channel, { headline: text, text, blocks: [] }, `doctor-${Date.now()}`, false);
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
