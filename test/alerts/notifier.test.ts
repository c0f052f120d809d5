// From Alertmanager's delivery to Slack: one message a group, updated, resolved; an outage loses nothing.
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createAlertsApp } from "../../alerts/app.ts";
import { buildMessage } from "../../alerts/message.ts";
import { startNotifier } from "../../alerts/notifier.ts";
import type { Notifier } from "../../alerts/notifier.ts";
import { createSlack } from "../../alerts/slack.ts";
import type { Figures } from "../../alerts/figures.ts";
import type { AlertGroup } from "../../alerts/webhook.ts";
import { readDeliveries } from "../../ledger/notices.ts";
import { openForWriting } from "../../ledger/open.ts";
import type { Sqlite } from "../../ledger/open.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import type { FakeSlack } from "../fake/slack.ts";
import { startFakeSlack } from "../fake/slack.ts";
import { temporaryFolder } from "../start-proxy.ts";

const FIGURES: Figures = {
  asOfMs: Date.parse("2026-11-23T14:05:00Z"),
  subject: "team search",
  spentNanoUsd: 17_420_000_000n,
  forecastSoFarNanoUsd: 9_300_000_000n,
  forecastNanoUsd: 20_000_000_000n,
  budget: undefined,
  topKey: { id: "key_1", name: "agent-<nightly>", costNanoUsd: 9_000_000_000n },
  topModel: { name: "claude-opus-4-6", costNanoUsd: 8_500_000_000n },
};
const LINKS = { grafanaUrl: "http://grafana:3000", runbookUrl: "http://alerts:4003/runbook" };

function group(status: "firing" | "resolved" = "firing", team = "search"): AlertGroup {
  const labels = {
    alertname: "KeymeterSpendOverForecast",
    scope: "team",
    id: team,
    window: "day",
    severity: "warning",
  };
  return {
    groupKey: `{}:{alertname="KeymeterSpendOverForecast", id="${team}"}`,
    status,
    commonLabels: labels,
    commonAnnotations: {},
    alerts: [{ status, labels, annotations: {}, startsAt: "2026-11-23T13:50:00Z", endsAt: "0001-01-01T00:00:00Z" }],
  };
}

describe("the message of a key that is used past Keymeter", () => {
  it("names provider and key, says what to do, and nothing of who spent most", () => {
    const labels = {
      alertname: "KeymeterKeyUsedElsewhere",
      provider: "openai",
      billed_key: "key_<1>",
      kind: "unknown_key",
      unit: "tokens",
      severity: "critical",
    };
    const message = buildMessage(
      { ...group(), commonLabels: labels, alerts: group().alerts.map((alert) => ({ ...alert, labels })) },
      FIGURES,
      LINKS,
    );
    expect(message.text).toBe(
      "A provider key is used past Keymeter: it may have leaked. Provider openai, Key key_&lt;1&gt;",
    );
    const text = JSON.stringify(message.blocks);
    expect(text).toContain("keymeter leaks");
    expect(text).toContain("runbook#keymeterkeyusedelsewhere");
    expect(text).not.toContain("Top key");
  });
});

let slack: FakeSlack;
let database: Sqlite;
let notifier: Notifier;
let app: ReturnType<typeof createAlertsApp>;
let spent = 0n;

const start = (): void => {
  notifier = startNotifier(
    database,
    createSlack(new Secret("xoxb-test"), "#spend", slack.url),
    async (one) => buildMessage(one, { ...FIGURES, spentNanoUsd: 17_420_000_000n + spent }, LINKS),
    createLog("test", "silent"),
  );
  app = createAlertsApp(database, notifier);
};
const deliver = async (body: unknown): Promise<number> =>
  (
    await app.inject({
      method: "POST",
      url: "/webhook",
      headers: { "content-type": "application/json" },
      payload: JSON.stringify(body),
    })
  ).statusCode;

beforeEach(async () => {
  spent = 0n;
  slack = await startFakeSlack();
  database = openForWriting(join(temporaryFolder(), "notices.db"), "notices", "power");
  start();
});
afterEach(async () => {
  await notifier.stop();
  await app.close();
  database.close();
  await slack.close();
});

describe("an alert group", () => {
  it("is one message: posted, updated in place, resolved in place", async () => {
    expect(await deliver(group())).toBe(200);
    await expect.poll(() => slack.messages.size).toBe(1);
    spent = 2_000_000_000n;
    await deliver(group());
    await expect.poll(() => slack.calls.length).toBe(2);
    await deliver(group("resolved"));
    await expect.poll(() => slack.calls.length).toBe(3);
    expect(slack.calls.map(({ method }) => method)).toEqual(["chat.postMessage", "chat.update", "chat.update"]);
    expect([...slack.messages.values()][0]).toContain("Resolved: Team search");
    // The next time is a new message.
    await deliver(group());
    await expect.poll(() => slack.messages.size).toBe(2);
  });

  it("says which scope, how much over, the top key and model, what to do, and where to look", async () => {
    await deliver(group());
    await expect.poll(() => slack.calls.length).toBe(1);
    const text = JSON.stringify(slack.calls[0]?.blocks);
    for (const part of [
      "Team search is heading 41 % (8.12 USD) over today's forecast",
      "agent-&lt;nightly&gt;",
      "claude-opus-4-6",
      "keymeter keys pause key_1",
      "http://grafana:3000/d/keymeter-finance",
      "http://alerts:4003/runbook#keymeterspendoverforecast",
      "Metered, not invoiced",
      "14:05 UTC",
    ]) {
      expect(text).toContain(part);
    }
    expect(slack.calls[0]?.text).toContain("over today's forecast");
  });

  it("of another team is another message", async () => {
    await deliver(group("firing", "search"));
    await deliver(group("firing", "ads"));
    await expect.poll(() => slack.messages.size).toBe(2);
  });

  it("that resolved before it was ever said is not said", async () => {
    await deliver(group("resolved"));
    await expect.poll(async () => (await readDeliveries(database)).length).toBe(0);
    expect(slack.calls.length).toBe(0);
  });

  it("that is no delivery is refused, so that it is seen", async () => {
    expect(await deliver({ hello: "world" })).toBe(400);
  });
});

describe("Slack in trouble", () => {
  it.each([
    ["429", { retryAfter: 1 }],
    ["an error of its own", { status: 500 }],
  ])("(%s): the message comes once it is over, once", async (_name, failure) => {
    slack.failures.push(failure);
    expect(await deliver(group())).toBe(200);
    await expect.poll(() => slack.messages.size, { timeout: 10_000 }).toBe(1);
    // Slack has the message a moment before its delivery is struck off.
    await expect.poll(() => readDeliveries(database)).toEqual([]);
    expect(slack.calls.length).toBe(1);
  });

  it("with a refusal: the delivery stays, with the reason and the way out", async () => {
    slack.failures.push({ error: "not_in_channel" });
    await deliver(group());
    await expect.poll(() => notifier.status().lastError).toContain("/invite");
    expect((await readDeliveries(database)).length).toBe(1);
    const metrics = (await app.inject("/metrics")).body;
    expect(metrics).toContain("keymeter_outbox_deliveries 1");
    expect(metrics).toContain("keymeter_slack_failures_total 1");
  });

  it("or this program dead: what was delivered is said by the next start", async () => {
    slack.failures.push({ status: 500 });
    await deliver(group());
    await expect.poll(() => notifier.status().failed).toBe(1);
    await notifier.stop();
    await app.close();
    start();
    await expect.poll(() => slack.messages.size).toBe(1);
  });

  it("with a message that somebody deleted: a new one is posted", async () => {
    await deliver(group());
    await expect.poll(() => slack.messages.size).toBe(1);
    (slack.messages as Map<string, string>).clear();
    await deliver(group());
    await expect.poll(() => slack.messages.size).toBe(1);
    expect(slack.calls.map(({ method }) => method)).toEqual(["chat.postMessage", "chat.update", "chat.postMessage"]);
  });
});
