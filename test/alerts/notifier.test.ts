// From Alertmanager's delivery to Slack: one message a group, updated, resolved; an outage loses nothing and doubles
// nothing.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createAlertsApp } from "../../alerts/app.ts";
import type { Figures } from "../../alerts/figures.ts";
import { buildMessage, principalOf } from "../../alerts/message.ts";
import type { Standing } from "../../alerts/message.ts";
import { startNotifier } from "../../alerts/notifier.ts";
import type { Notifier, NotifierParts } from "../../alerts/notifier.ts";
import { createSlack } from "../../alerts/receivers/slack.ts";
import { lookAtNotices } from "../../alerts/watch.ts";
import type { AlertGroup } from "../../alerts/webhook.ts";
import { findOpenNotice, readOutbox } from "../../ledger/notices/notices.ts";
import type { NoticesBooks } from "../../ledger/books.ts";
import { openToWrite } from "../../ledger/open.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import type { FakeSlack } from "../fake/slack.ts";
import { startFakeSlack } from "../fake/slack.ts";
import { temporaryFolder } from "../start-proxy.ts";

const FIGURES: Figures = {
  asOfMs: Date.parse("2026-11-23T14:05:00Z"),
  subject: "team search",
  window: "day",
  spentNanoUsd: 17_420_000_000n,
  forecast: {
    soFarNanoUsd: 9_300_000_000n,
    p10NanoUsd: 16_000_000_000n,
    p50NanoUsd: 20_000_000_000n,
    p90NanoUsd: 26_000_000_000n,
  },
  landing: undefined,
  budget: undefined,
  movers: [
    {
      id: "key_1",
      name: "agent-<nightly>",
      team: "search",
      owner: "ana",
      costNanoUsd: 9_000_000_000n,
      overNanoUsd: 7_000_000_000n,
      isPaused: false,
    },
  ],
  topModel: { name: "claude-opus-4-6", costNanoUsd: 8_500_000_000n },
  hourNanoUsd: 3_200_000_000n,
  paused: [],
  asked: undefined,
  leak: undefined,
};
const STANDING: Standing = {
  links: { pagesUrl: "http://pages:4002", grafanaUrl: "http://grafana:3000", runbookUrl: "http://alerts:4003/runbook" },
  command: "keymeter",
  host: "meter-1",
  buttons: undefined,
  acknowledged: undefined,
  before: undefined,
};
const LABELS = {
  alertname: "KeymeterSpendOverForecast",
  scope: "team",
  window: "day",
  severity: "warning",
  topic: "forecast",
};

function group(
  status: "firing" | "resolved" = "firing",
  team = "search",
  more: { readonly [label: string]: string } = {},
  startsAt = new Date(Date.now() - 60_000).toISOString(),
): AlertGroup {
  const labels = { ...LABELS, id: team, team, ...more };
  return {
    groupKey: `{}:{team="${team}", topic="forecast"}`,
    status,
    commonLabels: labels,
    commonAnnotations: {},
    alerts: [{ status, labels, annotations: {}, startsAt, endsAt: "0001-01-01T00:00:00Z" }],
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
      STANDING,
    );
    expect(message.text).toMatch(
      /^A provider key is used past Keymeter: it may have leaked\. Critical · since \S+ \S+ UTC \(1 min\)\. Provider openai, Key key_&lt;1&gt;$/,
    );
    const text = JSON.stringify(message.blocks);
    expect(text).toContain("keymeter leaks");
    expect(text).toContain("runbook#keymeterkeyusedelsewhere");
    expect(text).not.toContain("Top keys");
  });
});

let slack: FakeSlack;
let database: NoticesBooks;
let notifier: Notifier;
let app: ReturnType<typeof createAlertsApp>;
let spent = 0n;
let active: boolean | undefined;

const figures = (): Figures => ({ ...FIGURES, spentNanoUsd: 17_420_000_000n + spent });
const start = (over: Partial<NotifierParts> = {}): void => {
  notifier = startNotifier({
    notices: database,
    receiver: createSlack(new Secret("xoxb-test"), slack.url),
    channelOf: () => "C0TEST",
    defaultChannel: "C0TEST",
    compose: async (one, notice) => ({
      message: buildMessage(one, figures(), {
        ...STANDING,
        before: notice && { postedAtMs: notice.postedAtMs, text: notice.text },
      }),
      severity: principalOf(one)["severity"] ?? "",
      figureNanoUsd: figures().spentNanoUsd,
    }),
    draw: async () => undefined,
    digest: async () => ({ headline: "The week", text: "The week", blocks: [] }),
    isActive: async () => active,
    log: createLog("test", "silent"),
    paceMs: 1,
    ...over,
  });
  app = createAlertsApp(
    database,
    notifier,
    { heardWatchdog: () => undefined, isSpeaking: () => false },
    new Secret(TOKEN),
  );
};
const TOKEN = "a-webhook-token-of-tests";
const deliver = async (body: unknown, source = "http://am-1:9093", token = TOKEN): Promise<number> =>
  (
    await app.inject({
      method: "POST",
      url: "/webhook",
      headers: { "content-type": "application/json", ...(token === "" ? {} : { authorization: `Bearer ${token}` }) },
      payload: JSON.stringify({ externalURL: source, ...(body as object) }),
    })
  ).statusCode;
const posts = (): number =>
  slack.calls.filter(({ method, threadTs }) => method === "chat.postMessage" && threadTs === null).length;
const standing = (): string[] => slack.posted.filter(({ threadTs }) => threadTs === undefined).map(({ text }) => text);
const allSaid = async (): Promise<void> => {
  await expect.poll(async () => (await readOutbox(database)).length, { timeout: 15_000 }).toBe(0);
};

beforeEach(async () => {
  spent = 0n;
  active = undefined;
  slack = await startFakeSlack();
  database = await openToWrite(temporaryFolder(), "notices", "power");
  start();
});
afterEach(async () => {
  await notifier.stop();
  await app.close();
  await database.close();
  await slack.close();
});

describe("an alert group", () => {
  it("is one message: posted, updated in place, resolved in place and in its thread", async () => {
    expect(await deliver(group())).toBe(200);
    await allSaid();
    expect(standing().length).toBe(1);
    spent = 2_000_000_000n;
    await deliver(group());
    await allSaid();
    await deliver(group("resolved"));
    await allSaid();
    expect(slack.calls.map(({ method, threadTs }) => `${method}${threadTs === null ? "" : " in thread"}`)).toEqual([
      "chat.postMessage",
      "chat.update",
      "chat.update",
      "chat.postMessage in thread",
    ]);
    expect(standing()[0]).toMatch(/^Resolved after \d+ .*: Team search/);
    // The next time is a new message.
    await deliver(group("firing", "search", {}, new Date(Date.now() + 1000).toISOString()));
    await allSaid();
    expect(standing().length).toBe(2);
  });

  it("says which scope, how much over, the top keys and model, what to do, and where to look", async () => {
    await deliver(group());
    await allSaid();
    const text = JSON.stringify(slack.calls[0]?.blocks);
    for (const part of [
      "Team search is heading 41 % ($8.12) over today's forecast",
      "at the end, as it was forecast this morning, $20.00 ($16.00 to $26.00)",
      "agent-&lt;nightly&gt;",
      "team search, ana",
      "7.00 over its forecast",
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

  it("of another team is another message, in that team's channel; a channel that takes none falls back to the usual one", async () => {
    await notifier.stop();
    const channels: { readonly [team: string]: string } = { search: "C0SEARCH", ads: "C0GONE" };
    start({ channelOf: ({ commonLabels }) => channels[commonLabels["team"] ?? ""] ?? "C0TEST" });
    slack.closed.set("C0GONE", "is_archived");
    for (const team of ["search", "ads", "web"]) await deliver(group("firing", team));
    await allSaid();
    expect(slack.posted.map(({ channel }) => channel)).toEqual(["C0SEARCH", "C0TEST", "C0TEST"]);
  });

  it("that gets worse says so aloud in its thread, once", async () => {
    await deliver(group());
    await allSaid();
    const worse = group("firing", "search", { alertname: "KeymeterSpendFarOverForecast", severity: "critical" });
    for (let i = 0; i < 3; i++) {
      await deliver(worse);
      await allSaid();
    }
    expect(slack.posted.filter(({ threadTs }) => threadTs !== undefined).length).toBe(1);
    expect(slack.calls.filter(({ threadTs }) => threadTs !== null).length).toBe(1);
  });

  it("that resolved before it was ever said is not said", async () => {
    await deliver(group("resolved"));
    await allSaid();
    expect(slack.calls.length).toBe(0);
  });

  it("that is no delivery is refused, so that it is seen", async () => {
    expect(await deliver({ hello: "world" })).toBe(400);
  });

  it("whose figure grows by a tenth is updated without a word from Alertmanager; by less it is not", async () => {
    await deliver(group());
    await allSaid();
    const look = async (): Promise<boolean> =>
      lookAtNotices(
        {
          notices: database,
          figureOf: async () => figures().spentNanoUsd,
          isActive: async () => undefined,
          now: Date.now,
        },
        new Map(),
      );
    spent = 1_000_000_000n;
    expect(await look()).toBe(false);
    spent = 2_000_000_000n;
    expect(await look()).toBe(true);
    notifier.wake();
    await allSaid();
    expect(slack.calls.map(({ method }) => method)).toEqual(["chat.postMessage", "chat.update"]);
    expect(slack.calls[1]?.text).toContain("$10.12");
    expect(await look()).toBe(false);
  });

  it("whose end was never told is closed when nothing of it has been active for five looks, and no other with it", async () => {
    await deliver(group("firing", "ads"));
    await deliver(group());
    await allSaid();
    const absent = new Map<string, number>();
    const look = async (isActive: boolean | undefined): Promise<boolean> =>
      lookAtNotices(
        {
          notices: database,
          figureOf: async () => figures().spentNanoUsd,
          isActive: async ({ commonLabels }) => (commonLabels["team"] === "ads" ? true : isActive),
          now: Date.now,
        },
        absent,
      );
    for (const answer of [false, false, undefined, false, false, false, false]) expect(await look(answer)).toBe(false);
    expect(await look(false)).toBe(true);
    notifier.wake();
    await allSaid();
    expect(standing()[0]).not.toMatch(/^Resolved/);
    expect(standing()[1]).toMatch(/^Resolved/);
  });
});

describe("two Alertmanagers that do not know of each other", () => {
  it("make one message, that resolves once", async () => {
    await deliver(group(), "http://am-1:9093");
    await deliver(group(), "http://am-2:9093");
    await allSaid();
    // The second one still has it active: the word of the first is not the last.
    active = true;
    await deliver(group("resolved"), "http://am-1:9093");
    await allSaid();
    expect(standing()[0]).not.toMatch(/^Resolved/);
    active = false;
    await deliver(group("resolved"), "http://am-2:9093");
    await allSaid();
    expect(standing()[0]).toMatch(/^Resolved/);
    expect(posts()).toBe(1);
  });

  it("late news of what was closed opens the same message again", async () => {
    await deliver(group(), "http://am-1:9093");
    await allSaid();
    await deliver(group("resolved"), "http://am-1:9093");
    await allSaid();
    await deliver(group(), "http://am-2:9093");
    await allSaid();
    expect(posts()).toBe(1);
    expect(standing()[0]).not.toMatch(/^Resolved/);
    expect(await findOpenNotice(database, group().groupKey)).toBeDefined();
  });
});

describe("Slack in trouble", () => {
  it.each([
    ["429", { retryAfter: 1 }],
    ["an error of its own", { status: 500 }],
    ["an error of its own, and took it all the same", { status: 500, isTaken: true }],
    ["a message that it does not like", { error: "invalid_blocks" }],
  ])("(%s): the message comes once it is over, once", async (_name, failure) => {
    slack.failures.push(failure);
    expect(await deliver(group())).toBe(200);
    await allSaid();
    expect(standing().length).toBe(1);
  });

  it("(gone for long): what happened meanwhile is said once, as it is then; what is over by then is not said", async () => {
    slack.outage = { status: 503 };
    for (const team of ["search", "ads"]) await deliver(group("firing", team));
    await expect.poll(() => notifier.status().failed, { timeout: 10_000 }).toBe(2);
    for (let i = 0; i < 5; i++) {
      spent += 1_000_000_000n;
      await deliver(group("firing", "search"));
    }
    await deliver(group("resolved", "ads"));
    slack.outage = undefined;
    await allSaid();
    expect(standing().length).toBe(1);
    expect(standing()[0]).toContain("$13.12");
  });

  it("(an answer that got lost, and the end meanwhile): what stands there is closed", async () => {
    slack.failures.push({ status: 500, isTaken: true });
    await deliver(group());
    await expect.poll(() => notifier.status().failed).toBe(1);
    await deliver(group("resolved"));
    await allSaid();
    expect(standing().length).toBe(1);
    expect(standing()[0]).toMatch(/^Resolved/);
  });

  it("with a refusal: it stays, with the reason and the way out, and other channels are not held up", async () => {
    await notifier.stop();
    start({ channelOf: ({ commonLabels }) => (commonLabels["team"] === "ads" ? "C0ADS" : "C0TEST") });
    slack.closed.set("C0TEST", "not_in_channel");
    await deliver(group());
    await expect.poll(() => notifier.status().lastError).toContain("/invite");
    await deliver(group("firing", "ads"));
    await expect.poll(() => slack.posted.length).toBe(1);
    await expect.poll(async () => (await readOutbox(database)).map(({ kind }) => kind)).toEqual(["group"]);
    const metrics = (await app.inject("/metrics")).body;
    expect(metrics).toContain("keymeter_outbox_deliveries 1");
    expect(metrics).toContain("keymeter_slack_failures_total 1");
  });

  it("with a token that is wrong: nothing is tried again and again, and all of it waits", async () => {
    slack.outage = { error: "invalid_auth" };
    for (const team of ["search", "ads", "web"]) await deliver(group("firing", team));
    await expect.poll(() => notifier.status().lastError).toContain("SLACK_BOT_TOKEN");
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(notifier.status().failed).toBe(1);
    expect((await readOutbox(database)).length).toBe(3);
  });

  it("or this program dead: what was delivered is said by the next start", async () => {
    slack.failures.push({ status: 500 });
    await deliver(group());
    await expect.poll(() => notifier.status().failed).toBe(1);
    await notifier.stop();
    await app.close();
    start();
    await allSaid();
    expect(standing().length).toBe(1);
  });

  it("with a token that may not read the channel: an answer that got lost may double one message, and no more", async () => {
    slack.scopes = ["chat:write"];
    slack.failures.push({ status: 500, isTaken: true });
    await deliver(group());
    await allSaid();
    expect(standing().length).toBe(2);
    await deliver(group("resolved"));
    await allSaid();
    expect(posts()).toBe(1);
  });

  it("with a message that somebody deleted: a new one is posted", async () => {
    await deliver(group());
    await allSaid();
    (slack.messages as Map<string, string>).clear();
    spent = 5_000_000_000n;
    await deliver(group());
    await allSaid();
    expect(slack.calls.map(({ method }) => method)).toEqual(["chat.postMessage", "chat.update", "chat.postMessage"]);
  });

  it("never hears more than its limit allows, however much there is to say", async () => {
    slack.hasLimit = true;
    await notifier.stop();
    start({ paceMs: 1_100 });
    for (let i = 0; i < 8; i++) await deliver(group("firing", `team-${i}`));
    await allSaid();
    expect(standing().length).toBe(8);
    expect(slack.limited).toBe(0);
  }, 30_000);
});

describe("the picture", () => {
  it("goes into the thread of its message, once, even where the answer gets lost", async () => {
    await notifier.stop();
    const png = Buffer.from("not really a picture");
    start({ draw: async () => ({ png, title: "Spend", alt: "Spend so far" }) });
    slack.failures.push({ method: "files.completeUploadExternal", status: 500, isTaken: true });
    await deliver(group());
    await allSaid();
    const [message, picture] = slack.posted;
    expect(picture?.threadTs).toBe(message?.ts);
    expect(picture?.file?.bytes.includes(png)).toBe(true);
    expect(slack.posted.length).toBe(2);
  });

  it("that may not be uploaded, or cannot be drawn, holds nothing up", async () => {
    slack.scopes = ["chat:write"];
    await notifier.stop();
    start({ draw: async () => ({ png: Buffer.from("x"), title: "Spend", alt: "Spend" }) });
    await deliver(group());
    await allSaid();
    await notifier.stop();
    start({
      draw: async () => {
        throw new Error("no fonts");
      },
    });
    await deliver(group("firing", "ads"));
    await allSaid();
    expect(standing().length).toBe(2);
  });
});
