// Forged deliveries to the alerts program: they end nothing, silence nothing, and say nothing in somebody else's name;
// what can never be said stays out of the outbox, and texts of others are texts.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createAlertsApp } from "../../alerts/app.ts";
import type { Figures } from "../../alerts/figures.ts";
import { buildMessage, principalOf } from "../../alerts/message.ts";
import { startNotifier } from "../../alerts/notifier.ts";
import type { Notifier } from "../../alerts/notifier.ts";
import { readGrouping } from "../../alerts/alertmanager.ts";
import { createOwnRules } from "../../alerts/own-rules.ts";
import { OWN_SOURCE } from "../../alerts/source.ts";
import type { OwnRules } from "../../alerts/own-rules.ts";
import { createSlack } from "../../alerts/receivers/slack.ts";
import { TEXTS } from "../../alerts/texts.ts";
import type { AlertGroup } from "../../alerts/webhook.ts";
import { findOpenNotice, keepDelivery, readDeliveries, readOutbox, readWords } from "../../ledger/notices/notices.ts";
import type { NoticesBooks } from "../../ledger/books.ts";
import { openToWrite } from "../../ledger/open.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import { startFakeSlack } from "../fake/slack.ts";
import type { FakeSlack } from "../fake/slack.ts";
import { temporaryFolder } from "../start-proxy.ts";

const TOKEN = "a-webhook-token-of-tests";
const MINUTE_MS = 60_000;
const GROUP_KEY = '{}:{provider="openai", topic="prices"}';
const LABELS = { alertname: "KeymeterUnpricedModel", provider: "openai", topic: "prices", severity: "warning" };
const FIGURES: Figures = {
  asOfMs: Date.parse("2026-11-28T14:05:00Z"),
  subject: "the organisation",
  window: "day",
  spentNanoUsd: undefined,
  forecast: undefined,
  landing: undefined,
  budget: undefined,
  movers: [],
  topModel: undefined,
  hourNanoUsd: undefined,
  paused: [],
  asked: undefined,
  leak: undefined,
};
const LINKS = {
  pagesUrl: "http://pages:4002",
  grafanaUrl: "http://grafana:3000",
  runbookUrl: "http://alerts:4003/runbook",
};

type Labels = { readonly [name: string]: string };
const alertOf = (status: string, labels: Labels, more: object = {}): object => ({
  status,
  labels,
  annotations: {},
  startsAt: new Date(Date.now() - MINUTE_MS).toISOString(),
  endsAt: "0001-01-01T00:00:00Z",
  ...more,
});
const delivery = (status: "firing" | "resolved", labels: Labels = LABELS, more: object = {}): object => ({
  version: "4",
  groupKey: GROUP_KEY,
  status,
  externalURL: "http://am-1:9093",
  commonLabels: labels,
  commonAnnotations: {},
  alerts: [alertOf(status, labels)],
  ...more,
});

let slack: FakeSlack;
let database: NoticesBooks;
let notifier: Notifier;
let ownRules: OwnRules;
let app: ReturnType<typeof createAlertsApp>;
let now: number;

beforeEach(async () => {
  now = Date.parse("2026-11-28T14:00:00Z");
  slack = await startFakeSlack();
  database = await openToWrite(temporaryFolder(), "notices", "process");
  const log = createLog("test", "silent");
  notifier = startNotifier({
    notices: database,
    receiver: createSlack(new Secret("xoxb-test"), slack.url),
    channelOf: () => "C0TEST",
    defaultChannel: "C0TEST",
    compose: async (one, notice) => ({
      message: buildMessage(one, FIGURES, {
        links: LINKS,
        command: "keymeter",
        host: "meter-1",
        buttons: { mayChange: true },
        acknowledged: undefined,
        before: notice && { postedAtMs: notice.postedAtMs, text: notice.text },
      }),
      severity: principalOf(one)["severity"] ?? "",
      figureNanoUsd: undefined,
    }),
    draw: async () => undefined,
    digest: async () => ({ headline: "The week", text: "The week", blocks: [] }),
    // No Alertmanager answers: then a later word holds.
    isActive: async () => undefined,
    log,
    paceMs: 1,
  });
  ownRules = createOwnRules({
    notices: database,
    rules: [],
    grouping: readGrouping(),
    targets: [],
    mode: "auto",
    wake: () => notifier.wake(),
    log,
    now: () => now,
  });
  app = createAlertsApp(database, notifier, ownRules, new Secret(TOKEN));
});
afterEach(async () => {
  await notifier.stop();
  await app.close();
  await database.close();
  await slack.close();
});

/** With the right token unless another one is given; "" is none. */
async function deliver(body: object | string, token = TOKEN): Promise<number> {
  const answer = await app.inject({
    method: "POST",
    url: "/webhook",
    headers: { "content-type": "application/json", ...(token === "" ? {} : { authorization: `Bearer ${token}` }) },
    payload: typeof body === "string" ? body : JSON.stringify(body),
  });
  return answer.statusCode;
}
const allSaid = async (): Promise<void> => {
  await expect.poll(async () => (await readOutbox(database)).length, { timeout: 10_000 }).toBe(0);
};
const gauge = async (name: string): Promise<number> => {
  const { body } = await app.inject("/metrics");
  return Number(new RegExp(`^${name} (\\S+)$`, "m").exec(body)?.[1]);
};
const standing = (): string[] => slack.posted.filter(({ threadTs }) => threadTs === undefined).map(({ text }) => text);

const FORGERS = [
  ["no token", ""],
  ["a wrong token", TOKEN.slice(0, -1)],
] as const;

describe.each(FORGERS)("fault 15: a delivery with %s", (_name, token) => {
  it("that says resolved ends nothing, by whichever source, while no Alertmanager answers", async () => {
    await deliver(delivery("firing"));
    await allSaid();
    for (const externalURL of ["http://am-1:9093", "http://elsewhere", "keymeter", "unsigned", undefined])
      expect(await deliver(delivery("resolved", LABELS, { externalURL }), token)).toBe(200);
    await allSaid();
    expect(slack.calls.map(({ method }) => method)).toEqual(["chat.postMessage"]);
    expect(await findOpenNotice(database, GROUP_KEY)).toMatchObject({ state: "firing" });
    expect((await readDeliveries(database, GROUP_KEY)).map(({ source }) => source)).toEqual(["http://am-1:9093"]);
  });

  it("that says firing of alerts that are all over ends nothing either, and changes no message that stands", async () => {
    await deliver(delivery("firing"));
    await allSaid();
    const over = [alertOf("resolved", LABELS)];
    await deliver(delivery("firing", LABELS, { alerts: over }), token);
    const others = { ...LABELS, alertname: "KeymeterPriceListOld", severity: "critical" };
    await deliver(delivery("firing", others, { alerts: [alertOf("firing", others)] }), token);
    await allSaid();
    expect(slack.calls.map(({ method }) => method)).toEqual(["chat.postMessage"]);
    expect(standing()[0]).toContain("A model without a price is in use");
    // The one who has the token is heard as before.
    await deliver(delivery("resolved"));
    await allSaid();
    expect(standing()[0]).toMatch(/^Resolved/);
  });

  it("that is a watchdog keeps the own rules no longer silent", async () => {
    const watchdog = { alertname: "KeymeterWatchdog", severity: "none" };
    for (let minute = 0; minute < 6; minute++) {
      expect(await deliver(delivery("firing", watchdog), token)).toBe(200);
      now += MINUTE_MS;
      await ownRules.step();
    }
    expect(ownRules.isSpeaking()).toBe(true);
    expect(await gauge("keymeter_own_rules_speaking")).toBe(1);
    await allSaid();
    expect(slack.calls).toEqual([]);
    // With the token it is what it says.
    for (let minute = 0; minute < 6; minute++) {
      await deliver(delivery("firing", watchdog));
      now += MINUTE_MS;
      await ownRules.step();
    }
    expect(ownRules.isSpeaking()).toBe(false);
  });

  it("that nobody else speaks of is said for now, marked, and seen in a gauge", async () => {
    expect(await gauge("keymeter_unsigned_deliveries_timestamp_seconds")).toBe(0);
    await deliver(delivery("firing"), token);
    await allSaid();
    expect(JSON.stringify(slack.calls[0]?.blocks)).toContain("came without the webhook's token");
    expect(await gauge("keymeter_unsigned_deliveries_timestamp_seconds")).toBeGreaterThan(Date.now() / 1000 - 60);
    // A word with the token takes its place, mark and all.
    await deliver(delivery("firing"));
    await allSaid();
    expect(JSON.stringify(slack.calls.at(-1)?.blocks)).not.toContain("came without the webhook's token");
  });
});

describe("fault 15: the word of the own rules", () => {
  it("cannot be taken by a delivery that calls itself theirs, not even with the token", async () => {
    const own = JSON.stringify(delivery("firing"));
    await keepDelivery(database, GROUP_KEY, OWN_SOURCE, own, Date.now());
    notifier.wake();
    await allSaid();
    for (const token of ["", TOKEN]) {
      // The outbox is not worked on meanwhile: what was said last stays to be seen.
      slack.outage = { status: 503 };
      await deliver(delivery("resolved", LABELS, { externalURL: OWN_SOURCE, isUnsigned: false }), token);
      expect((await readWords(database, OWN_SOURCE)).map(({ payload }) => payload)).toEqual([own]);
    }
    const sources = (await readDeliveries(database, GROUP_KEY)).map(({ source }) => source);
    expect(sources.toSorted()).toEqual(["alertmanager", OWN_SOURCE]);
  });

  it("says that it is unsigned where it is, whatever it says of itself", async () => {
    await deliver(delivery("firing", LABELS, { isUnsigned: false }), "");
    await allSaid();
    expect(JSON.stringify(slack.calls[0]?.blocks)).toContain("came without the webhook's token");
  });
});

describe("fault 15: a delivery that can never be said", () => {
  const named = (alertname: string): string =>
    JSON.stringify(delivery("firing", { ...LABELS, alertname: "NAME" })).replaceAll("NAME", alertname);
  const began = (startsAt: string): object =>
    delivery("firing", LABELS, { alerts: [alertOf("firing", LABELS, { startsAt })] });
  const NEVER: readonly (readonly [name: string, body: object | string])[] = [
    ["begins on no date", began("the day before yesterday")],
    ["begins too far ahead", began("+275760-09-13T00:00:00Z")],
    ["begins in a thousand years", began("3026-11-28T00:00:00Z")],
    ["is named constructor", named("constructor")],
    ["is named __proto__", named("__proto__")],
    ["is named toString", named("toString")],
    ["has a label that is named constructor", delivery("firing", { ...LABELS, constructor: "x" })],
    ["ends on no date", delivery("firing", LABELS, { alerts: [alertOf("firing", LABELS, { endsAt: "soon" })] })],
    ["has no alerts", delivery("firing", LABELS, { alerts: [] })],
    ["has no key of a group", delivery("firing", LABELS, { groupKey: "" })],
    [
      "has a number for a label",
      delivery("firing", LABELS, { alerts: [alertOf("firing", LABELS, { labels: { a: 1 } })] }),
    ],
    ["is null", "null"],
  ];

  it("(no date, named as every object's parts, without alerts ...) is refused and counted, with a token and without, and holds nothing up", async () => {
    for (const [name, body] of NEVER)
      expect([name, await deliver(body), await deliver(body, "")]).toEqual([name, 400, 400]);
    expect(await gauge("keymeter_deliveries_refused_total")).toBe(2 * NEVER.length);
    expect(await gauge("keymeter_outbox_deliveries")).toBe(0);
    expect(await gauge("keymeter_outbox_oldest_seconds")).toBe(0);
    await deliver(delivery("firing"));
    await allSaid();
    expect([standing().length, notifier.status().failed]).toEqual([1, 0]);
  });

  it("(a name of a label that every object has, written as JSON has it) makes no label and does no harm", async () => {
    const text = JSON.stringify(delivery("firing")).replaceAll('"topic"', '"__proto__"');
    const status = await deliver(text);
    await allSaid();
    expect([200, 400]).toContain(status);
    expect(({} as { topic?: string }).topic).toBeUndefined();
    expect(notifier.status().failed).toBe(0);
  });
});

describe("fault 15: texts of others in Slack", () => {
  const EVIL = "<!channel> <@U012ABCDEF> <https://evil.example|click> & <#C01|x>";
  /** All that Slack would read as its own markup, without the links that are ours. */
  const markupOf = (blocks: unknown, text: string): string[] => {
    const found: string[] = [text];
    JSON.stringify(blocks, (_name, value: unknown) => {
      if (typeof value === "object" && value !== null && "type" in value && value.type === "mrkdwn" && "text" in value)
        found.push(String(value.text));
      return value;
    });
    const ours = /<http:\/\/(pages:4002|grafana:3000|alerts:4003)\/[\w/?=&%#-]*\|\w+>/g;
    return found.flatMap((one) => one.replaceAll(ours, "").match(/<[^>]*>?/g) ?? []);
  };
  const said = async (labels: Labels, more: object = {}): Promise<void> => {
    expect(await deliver(delivery("firing", labels, more))).toBe(200);
    await allSaid();
    await deliver(delivery("resolved", labels, { ...more, alerts: [alertOf("resolved", labels)] }));
    await allSaid();
    expect(slack.calls.length).toBeGreaterThanOrEqual(3);
    for (const { blocks, text } of slack.calls) expect(markupOf(blocks, text)).toEqual([]);
  };

  it("are texts: the summary of an alert that is none of ours", async () => {
    await said({ alertname: "DiskFull", severity: "warning" }, { commonAnnotations: { summary: EVIL } });
    expect(JSON.stringify(slack.calls[0]?.blocks)).toContain("&lt;!channel&gt; &lt;@U012ABCDEF&gt;");
  });

  it("are texts: the name of an alert", async () => {
    await said({ alertname: EVIL, severity: "warning" });
    expect(slack.calls[0]?.text).toContain("&lt;!channel&gt;");
  });

  it("are texts: labels, of ours and of others", async () => {
    await said({ ...LABELS, provider: EVIL, model: EVIL });
    expect(JSON.stringify(slack.calls[0]?.blocks)).toContain("&lt;!channel&gt;");
  });

  it("are texts: a label in the headline, in the thread too when it is over", async () => {
    await said({ ...LABELS, alertname: "KeymeterProviderErrors", provider: EVIL });
    const reply = slack.calls.find(({ threadTs }) => threadTs !== null);
    expect(reply?.text).toContain("&lt;!channel&gt;");
  });

  it("are texts: the other alerts of a group", async () => {
    const other = { ...LABELS, alertname: `Other${EVIL}`, model: EVIL };
    const alerts = [alertOf("firing", { ...LABELS, severity: "critical" }), alertOf("firing", other)];
    expect(await deliver(delivery("firing", LABELS, { alerts }))).toBe(200);
    await allSaid();
    for (const { blocks, text } of slack.calls) expect(markupOf(blocks, text)).toEqual([]);
    expect(JSON.stringify(slack.calls[0]?.blocks)).toContain("Other&lt;!channel&gt;");
  });

  it("are texts in every alert of ours: whose spend it is, which key, which model", () => {
    const evil: Figures = {
      ...FIGURES,
      subject: `team ${EVIL}`,
      spentNanoUsd: 9_000_000_000n,
      forecast: { soFarNanoUsd: 1n, p10NanoUsd: 1n, p50NanoUsd: 2n, p90NanoUsd: 3n },
      movers: [
        {
          id: "key_1",
          name: EVIL,
          team: EVIL,
          owner: EVIL,
          costNanoUsd: 9_000_000_000n,
          overNanoUsd: 8_000_000_000n,
          isPaused: true,
        },
      ],
      topModel: { name: EVIL, costNanoUsd: 1_000_000_000n },
      paused: [{ id: "key_1", name: EVIL }],
      leak: { provider: EVIL, billedKey: EVIL, facts: EVIL, steps: [EVIL] },
    };
    for (const alertname of Object.keys(TEXTS))
      for (const status of ["firing", "resolved"] as const) {
        const labels = {
          alertname,
          severity: "warning",
          scope: EVIL,
          provider: EVIL,
          model: EVIL,
          id: EVIL,
          team: EVIL,
        };
        const group = delivery(status, labels, { commonAnnotations: { summary: EVIL } }) as AlertGroup;
        const { blocks, text } = buildMessage(group, evil, {
          links: LINKS,
          command: "keymeter",
          host: "meter-1",
          buttons: { mayChange: true },
          acknowledged: { by: EVIL, untilMs: Date.now() },
          before: { postedAtMs: Date.now(), text: "before" },
        });
        expect(markupOf(blocks, text), `${alertname}, ${status}`).toEqual([]);
      }
  });
});
