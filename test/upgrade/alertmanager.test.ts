// Alertmanager and Prometheus with the files of the release before: their deliveries, which bring no token, are said
// for one release longer, marked; and they end, silence and prove nothing.
import { spawn, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { groupAlerts, readGrouping } from "../../alerts/alertmanager.ts";
import { createAlertsApp } from "../../alerts/app.ts";
import type { FiringAlert } from "../../alerts/evaluator.ts";
import type { Figures } from "../../alerts/figures.ts";
import { buildMessage, principalOf } from "../../alerts/message.ts";
import { startNotifier } from "../../alerts/notifier.ts";
import type { Notifier } from "../../alerts/notifier.ts";
import { OWN_SOURCE } from "../../alerts/source.ts";
import { createSlack } from "../../alerts/receivers/slack.ts";
import { findMute, findOpenNotice, readDeliveries, readOutbox } from "../../ledger/notices/notices.ts";
import type { NoticesBooks } from "../../ledger/books.ts";
import { openToWrite } from "../../ledger/open.ts";
import { SHARED_SETTINGS } from "../../service/config.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import { startFakeSlack } from "../fake/slack.ts";
import type { FakeSlack } from "../fake/slack.ts";
import { freePorts } from "../free-ports.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { hasPrometheus } from "../tools.ts";
import { dumpsOf, restore } from "./old-books.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const ALERTMANAGER = here("alertmanager-7ee2d97.yaml");
const PROMETHEUS = here("prometheus-7ee2d97.yaml");
const TOKEN = "a-webhook-token-of-tests";
const MARK = "This came without the webhook's token";
const GAUGE = "keymeter_unsigned_deliveries_timestamp_seconds";

const FIGURES: Figures = {
  asOfMs: Date.parse("2025-05-22T14:05:00Z"),
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
  movers: [],
  topModel: undefined,
  hourNanoUsd: undefined,
  paused: [],
  asked: undefined,
  leak: undefined,
};
const LABELS = { scope: "team", window: "day", severity: "warning", topic: "forecast" };
type Status = "firing" | "resolved";

const keyOf = (team: string): string => `{}:{team="${team}", topic="forecast"}`;

/** A delivery as Alertmanager writes it: webhook version 4. */
function delivery(
  status: Status,
  team = "search",
  names: readonly string[] = ["KeymeterSpendOverForecast"],
  more: object = {},
): object {
  const alerts = names.map((alertname) => ({
    status,
    labels: { ...LABELS, alertname, id: team, team, ...(alertname.includes("Far") ? { severity: "critical" } : {}) },
    annotations: {},
    startsAt: new Date(Date.now() - 60_000).toISOString(),
    endsAt: status === "firing" ? "0001-01-01T00:00:00Z" : new Date().toISOString(),
    generatorURL: "http://prometheus:9090/graph",
    fingerprint: "0123456789abcdef",
  }));
  return {
    version: "4",
    receiver: "keymeter",
    groupKey: keyOf(team),
    status,
    truncatedAlerts: 0,
    groupLabels: { team, topic: "forecast" },
    commonLabels: alerts.length === 1 ? alerts[0]?.labels : { ...LABELS, id: team, team },
    commonAnnotations: {},
    externalURL: "http://alertmanager:9093",
    alerts,
    ...more,
  };
}

const WATCHDOG = {
  ...delivery("firing", "", ["KeymeterWatchdog"]),
  receiver: "watchdog",
  groupKey: '{}/{alertname="KeymeterWatchdog"}:{alertname="KeymeterWatchdog"}',
};

let slack: FakeSlack;
let database: NoticesBooks;
let notifier: Notifier;
let app: ReturnType<typeof createAlertsApp>;
let heard = 0;
const closers: (() => Promise<unknown>)[] = [];

const startOn = (books: NoticesBooks): void => {
  database = books;
  notifier = startNotifier({
    notices: database,
    receiver: createSlack(new Secret("xoxb-test"), slack.url),
    channelOf: () => "C0TEST",
    defaultChannel: "C0TEST",
    compose: async (group, notice) => ({
      message: buildMessage(group, FIGURES, {
        links: {
          pagesUrl: "http://pages:4002",
          grafanaUrl: "http://grafana:3000",
          runbookUrl: "http://alerts:4003/runbook",
        },
        command: "keymeter",
        host: "meter-1",
        buttons: undefined,
        acknowledged: undefined,
        before: notice && { postedAtMs: notice.postedAtMs, text: notice.text },
      }),
      severity: principalOf(group)["severity"] ?? "",
      figureNanoUsd: FIGURES.spentNanoUsd,
    }),
    draw: async () => undefined,
    digest: async () => ({ headline: "The week", text: "The week", blocks: [] }),
    isActive: async () => undefined,
    log: createLog("test", "silent"),
    paceMs: 1,
  });
  app = createAlertsApp(
    database,
    notifier,
    { heardWatchdog: () => (heard += 1), isSpeaking: () => false },
    new Secret(TOKEN),
  );
};

/** Without a token: as the file of then has it sent. */
async function deliver(body: object, token?: string): Promise<number> {
  const headers = {
    "content-type": "application/json",
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
  const answer = await app.inject({ method: "POST", url: "/webhook", headers, payload: JSON.stringify(body) });
  // Alertmanager drops what is answered with 4xx, and tries again what is answered with 5xx.
  expect(answer.statusCode).toBe(200);
  await expect.poll(async () => (await readOutbox(database)).length, { timeout: 10_000 }).toBe(0);
  return answer.statusCode;
}

const signed = (body: object): Promise<number> => deliver(body, TOKEN);
const shown = (): string => JSON.stringify(slack.calls.at(-1)?.blocks);
const standing = (): string[] => slack.posted.filter(({ threadTs }) => threadTs === undefined).map(({ text }) => text);
const lastUnsigned = async (): Promise<number> =>
  Number(new RegExp(`^${GAUGE} (\\S+)$`, "m").exec((await app.inject("/metrics")).body)?.[1]);

beforeEach(async () => {
  heard = 0;
  slack = await startFakeSlack();
  startOn(await openToWrite(temporaryFolder(), "notices", "process"));
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  await notifier.stop();
  await app.close();
  await database.close();
  await slack.close();
});

describe("a delivery of the Alertmanager of then, that brings no token", () => {
  it("is said in Slack, marked; when it came is exposed", async () => {
    expect(await lastUnsigned()).toBe(0);
    const before = Date.now() / 1000;
    await deliver(delivery("firing"));
    expect(standing().length).toBe(1);
    expect(shown()).toContain("KeymeterSpendOverForecast");
    expect(shown()).toContain(MARK);
    expect(await lastUnsigned()).toBeGreaterThanOrEqual(before);
    expect(await lastUnsigned()).toBeLessThanOrEqual(Date.now() / 1000);
    expect((await app.inject("/metrics")).body).toContain("keymeter_deliveries_received_total 1");
  });

  it("is told apart from one with the token, that is said without a mark and does not move the gauge", async () => {
    await signed(delivery("firing"));
    expect(standing().length).toBe(1);
    expect(shown()).not.toContain(MARK);
    expect(await lastUnsigned()).toBe(0);
  });

  it.each(["a-webhook-token-of-another", `${TOKEN} `.repeat(2), TOKEN.toUpperCase()])(
    "nor does a wrong one help: %s",
    async (token) => {
      await deliver(delivery("firing"), token);
      expect(shown()).toContain(MARK);
      expect(await lastUnsigned()).toBeGreaterThan(0);
    },
  );

  it("is said again when it has more to say, and each time marked", async () => {
    await deliver(delivery("firing"));
    await deliver(delivery("firing", "search", ["KeymeterSpendOverForecast", "KeymeterSpendFarOverForecast"]));
    expect(standing().length).toBe(1);
    const updates = slack.calls.filter(({ method }) => method === "chat.update");
    expect(updates.length).toBe(1);
    expect(JSON.stringify(updates[0]?.blocks)).toContain("KeymeterSpendFarOverForecast");
    expect(JSON.stringify(updates[0]?.blocks)).toContain(MARK);
  });

  it("cannot say that it has none to bring", async () => {
    await deliver(delivery("firing", "search", undefined, { isUnsigned: false }));
    expect(shown()).toContain(MARK);
    await signed(delivery("firing", "ads", undefined, { isUnsigned: true }));
    expect(shown()).not.toContain(MARK);
  });

  it("fires the alert that says so, as a warning, with what to do first", () => {
    type Rule = { readonly alert?: string; readonly expr: string; readonly labels?: { readonly severity?: string } };
    const text = readFileSync(here("../../alerts/rules/meter.yaml"), "utf8");
    const rules = (parse(text) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);
    const [rule, ...others] = rules.filter(({ expr }) => expr.includes(GAUGE));
    expect(rule).toMatchObject({ alert: "KeymeterDeliveriesUnsigned", labels: { severity: "warning" } });
    expect(others).toEqual([]);
    const runbook = readFileSync(here("../../alerts/runbook.md"), "utf8").split("## KeymeterDeliveriesUnsigned\n")[1];
    expect(runbook?.split("\n## ")[0]).toContain("webhook-token");
  });
});

describe("what comes without a token", () => {
  it("proves nothing: a watchdog is not heard", async () => {
    await deliver(WATCHDOG);
    expect(heard).toBe(0);
    expect(slack.calls).toEqual([]);
    expect(await lastUnsigned()).toBeGreaterThan(0);
    await signed(WATCHDOG);
    expect(heard).toBe(1);
    expect(slack.calls).toEqual([]);
  });

  it.each([
    ["with the token", TOKEN],
    ["without it", undefined],
  ])("ends nothing that was said %s", async (_how, token) => {
    await deliver(delivery("firing"), token);
    const said = slack.calls.length;
    const words = await readDeliveries(database, keyOf("search"));
    await deliver(delivery("resolved"));
    expect(slack.calls.length).toBe(said);
    expect(standing().length).toBe(1);
    expect(standing()[0]).not.toMatch(/^Resolved/);
    expect(await findOpenNotice(database, keyOf("search"))).toBeDefined();
    expect(await readDeliveries(database, keyOf("search"))).toEqual(words);
    // What brings the token ends both.
    await signed(delivery("resolved"));
    expect(standing()[0]).toMatch(/^Resolved/);
    expect(await findOpenNotice(database, keyOf("search"))).toBeUndefined();
  });

  it("ends nothing as a group that fires without its worst alert either: the word with the token stands", async () => {
    await signed(delivery("firing", "search", ["KeymeterSpendOverForecast", "KeymeterSpendFarOverForecast"]));
    const said = slack.calls.length;
    for (const externalURL of ["http://alertmanager:9093", OWN_SOURCE, "unsigned", "alertmanager", undefined])
      await deliver(delivery("firing", "search", ["KeymeterSpendOverForecast"], { externalURL }));
    expect(slack.calls.length).toBe(said);
    expect(shown()).toContain("KeymeterSpendFarOverForecast");
    expect(shown()).not.toContain(MARK);
  });

  it("adds nothing unmarked to what was said with the token", async () => {
    await signed(delivery("firing"));
    await deliver(delivery("firing", "search", ["KeymeterSpendOverForecast", "KeymeterSpendFarOverForecast"]));
    for (const { blocks, text } of slack.calls) {
      const said = JSON.stringify([blocks, text]);
      expect(said.includes("FarOverForecast") && !said.includes(MARK), said).toBe(false);
    }
    // Nor does it stay when the group is told again with the token.
    await signed(delivery("firing", "search", ["KeymeterSpendOverForecast"], { externalURL: "http://am-2:9093" }));
    expect(shown()).not.toContain("FarOverForecast");
  });

  it("silences nothing: the same group with the token is said as ever, and the mark goes", async () => {
    await deliver(delivery("firing"));
    expect(await findMute(database, keyOf("search"), Date.now())).toBeUndefined();
    await signed(delivery("firing"));
    expect(standing().length).toBe(1);
    expect(slack.calls.at(-1)?.method).toBe("chat.update");
    expect(shown()).not.toContain(MARK);
    await signed(delivery("firing", "ads"));
    expect(standing().length).toBe(2);
  });

  it("of one that resolved before it was said is nothing to say", async () => {
    await deliver(delivery("resolved"));
    expect(slack.calls).toEqual([]);
    expect(await readDeliveries(database, keyOf("search"))).toEqual([]);
  });
});

describe("notices of before the upgrade", () => {
  /** Starts on old notices, where the message that they know of stands in Slack. */
  async function upgrade(dump: string): Promise<void> {
    await notifier.stop();
    await app.close();
    await database.close();
    const old = { channel: "C0TEST", ts: "1747900800.000100", threadTs: undefined, metadata: null, file: undefined };
    (slack.posted as object[]).push({ ...old, text: "Team search is heading over its forecast" });
    (slack.messages as Map<string, string>).set(old.ts, "Team search is heading over its forecast");
    startOn(await openToWrite(restore(dump).folder, "notices", "process"));
    await expect.poll(async () => (await readOutbox(database)).length, { timeout: 10_000 }).toBe(0);
  }

  it.each(dumpsOf("notices"))("(%s): what waited is said once, in the message that stands for it", async (dump) => {
    await upgrade(dump);
    const [search, ads, ...others] = standing();
    expect(search).toMatch(/^Resolved/);
    expect(ads).toMatch(/^Team search is heading .* over today's forecast/);
    expect(others).toEqual([]);
    expect(
      slack.calls.map(({ method, threadTs }) => `${method}${threadTs === null ? "" : " in thread"}`).toSorted(),
    ).toEqual(["chat.postMessage", "chat.postMessage in thread", "chat.update"]);
    expect(await findOpenNotice(database, keyOf("search"))).toBeUndefined();
    expect(await findOpenNotice(database, keyOf("ads"))).toBeDefined();
  });

  it("(what is acknowledged) stays so", async () => {
    await upgrade("notices-7ee2d97");
    expect(await findMute(database, keyOf("web"), Date.parse("2025-05-22T08:30:00Z"))).toMatchObject({
      mutedBy: "ana",
    });
  });

  it("do not hide what the Alertmanager of then has to say of the same group: their words brought no token either", async () => {
    await upgrade("notices-7ee2d97");
    const said = slack.calls.length;
    await deliver(delivery("firing", "ads", ["KeymeterSpendOverForecast", "KeymeterSpendFarOverForecast"]));
    const news = JSON.stringify(slack.calls.slice(said));
    expect(news).toContain("KeymeterSpendFarOverForecast");
    expect(news).toContain(MARK);
  });

  it("do not hide what comes later of a group that was over then", async () => {
    await upgrade("notices-7ee2d97");
    expect(standing()[0]).toMatch(/^Resolved/);
    const later = delivery("firing") as { alerts: { startsAt: string }[] };
    for (const alert of later.alerts) alert.startsAt = new Date(Date.now() + 1000).toISOString();
    await deliver(later);
    expect(standing().filter((text) => !text.startsWith("Resolved")).length).toBe(2);
    expect(shown()).toContain(MARK);
  });
});

describe("the files of then", () => {
  type Scrape = {
    readonly scrape_configs: readonly {
      readonly job_name: string;
      readonly static_configs: readonly { readonly targets: readonly string[] }[];
    }[];
    readonly rule_files: readonly string[];
    readonly alerting: { readonly alertmanagers: readonly { readonly static_configs: { targets: string[] }[] }[] };
  };
  const file = parse(readFileSync(PROMETHEUS, "utf8")) as Scrape;
  const compose = parse(readFileSync(here("../../compose.yaml"), "utf8"), { merge: true }) as {
    readonly services: {
      readonly [name: string]: { readonly ports?: readonly string[]; readonly volumes?: readonly string[] };
    };
  };

  it("name no token: else these tests test nothing", () => {
    expect(readFileSync(ALERTMANAGER, "utf8")).not.toMatch(/authorization|token|http_config/);
    expect(readFileSync(here("../../alerts/alertmanager.yaml"), "utf8")).toContain("webhook-token");
  });

  it("group and inhibit: the alerts program reads them as Alertmanager does", () => {
    const then = readGrouping(ALERTMANAGER);
    expect(then.groupBy).toEqual(["topic", "team", "provider"]);
    const alertOf = (alertname: string, team: string): FiringAlert => ({
      alert: alertname,
      labels: { ...LABELS, alertname, id: team, team },
      annotations: {},
      startsAtMs: Date.now(),
      endsAtMs: undefined,
    });
    const alerts = [
      alertOf("KeymeterSpendOverForecast", "search"),
      alertOf("KeymeterSpendFarOverForecast", "search"),
      alertOf("KeymeterSpendOverForecast", "ads"),
    ];
    const told = groupAlerts(alerts, then).map((group) => group.alerts.map(({ labels }) => labels["alertname"]));
    expect(told).toEqual([["KeymeterSpendFarOverForecast"], ["KeymeterSpendOverForecast"]]);
    expect(groupAlerts(alerts, readGrouping()).length).toBe(2);
  });

  it("scrape jobs and ports that there still are, and hand to an Alertmanager that there still is", () => {
    const targets = file.scrape_configs.flatMap(({ static_configs }) =>
      static_configs.flatMap(({ targets: all }) => all),
    );
    expect(file.scrape_configs.map(({ job_name }) => job_name)).toEqual([
      "keymeter-proxy",
      "keymeter-collector",
      "keymeter-alerts",
    ]);
    const ports: { readonly [service: string]: number } = {
      proxy: SHARED_SETTINGS.opsPort.fallback,
      collector: SHARED_SETTINGS.collectorPort.fallback,
      alerts: SHARED_SETTINGS.alertsPort.fallback,
      alertmanager: SHARED_SETTINGS.alertmanagerPort.fallback,
    };
    const managers = file.alerting.alertmanagers.flatMap(({ static_configs }) =>
      static_configs.flatMap(({ targets: all }) => all),
    );
    expect(targets.length + managers.length).toBe(4);
    for (const target of [...targets, ...managers]) {
      const [service = "", port] = target.split(":");
      expect(String(ports[service]), target).toBe(port);
      expect(compose.services[service]?.ports, target).toContain(`127.0.0.1:${port}:${port}`);
    }
    // The rule that tells a silent meter goes by the names of jobs.
    const rules = readFileSync(here("../../alerts/rules/meter.yaml"), "utf8");
    for (const [, jobs = ""] of rules.matchAll(/job=~"([^"]+)"/g))
      for (const job of jobs.split("|")) expect(file.scrape_configs.map(({ job_name }) => job_name)).toContain(job);
    // And its rules lie where compose puts ours.
    const mounted = compose.services["prometheus"]?.volumes?.map((volume) => volume.split(":")[1]);
    expect(file.rule_files).toEqual(["rules/*.yaml", "dashboards/*.yaml"]);
    expect(mounted).toEqual(expect.arrayContaining(["/etc/prometheus/rules", "/etc/prometheus/dashboards/rules.yaml"]));
  });

  it("send to a place that the alerts program still has", async () => {
    const { receivers } = parse(readFileSync(ALERTMANAGER, "utf8")) as {
      receivers: { webhook_configs: { url: string }[] }[];
    };
    const urls = receivers.flatMap(({ webhook_configs: all }) => all.map(({ url }) => new URL(url)));
    expect(urls.length).toBe(2);
    for (const { hostname, port, pathname } of urls) {
      expect(Object.keys(compose.services)).toContain(hostname);
      expect(port).toBe(String(SHARED_SETTINGS.alertsPort.fallback));
      expect((await app.inject({ method: "POST", url: pathname, payload: delivery("firing") })).statusCode).toBe(200);
    }
  });

  describe.skipIf(!hasPrometheus)("with the real programs", () => {
    const run = (tool: string, ...args: string[]): string => {
      const { status, stdout, stderr } = spawnSync(tool, args, { encoding: "utf8" });
      return status === 0 ? "accepted" : `${stdout}${stderr}`;
    };

    it("are accepted, with today's rules", () => {
      for (const name of ["alertmanager-7ee2d97.yaml", "alertmanager.receivers-7ee2d97.yaml"])
        expect(run("amtool", "check-config", here(name)), name).toBe("accepted");
      const folder = mkdtempSync(join(temporaryFolder(), "prometheus-"));
      copyFileSync(PROMETHEUS, join(folder, "prometheus.yaml"));
      symlinkSync(here("../../alerts/rules"), join(folder, "rules"));
      mkdirSync(join(folder, "dashboards"));
      copyFileSync(here("../../dashboards/rules.yaml"), join(folder, "dashboards", "rules.yaml"));
      expect(run("promtool", "check", "config", join(folder, "prometheus.yaml"))).toBe("accepted");
    });

    it("bring a real alert to Slack, marked", async () => {
      await app.listen({ host: "127.0.0.1", port: 0 });
      const port = (await freePorts())["KEYMETER_ALERTMANAGER_PORT"] ?? "";
      const folder = temporaryFolder();
      const hook = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}/webhook`;
      // The same file, on ports of this test, and without a wait for company.
      const text = readFileSync(ALERTMANAGER, "utf8")
        .replaceAll("http://alerts:4003/webhook", hook)
        .replaceAll("group_wait: 10s", "group_wait: 0s");
      expect(text.split(hook).length).toBe(3);
      writeFileSync(join(folder, "alertmanager.yaml"), text);
      const child = spawn(
        "prometheus-alertmanager",
        [
          `--config.file=${join(folder, "alertmanager.yaml")}`,
          `--storage.path=${folder}`,
          `--web.listen-address=127.0.0.1:${port}`,
          "--cluster.listen-address=",
        ],
        { stdio: "ignore" },
      );
      closers.push(async () => {
        const exited = new Promise((resolve) => child.once("exit", resolve));
        child.kill("SIGTERM");
        await exited;
      });
      const url = `http://127.0.0.1:${port}`;
      const isReady = async (): Promise<unknown> => (await fetch(`${url}/-/ready`).catch(() => undefined))?.ok;
      await expect.poll(isReady, { timeout: 20_000 }).toBe(true);
      const labels = { ...LABELS, alertname: "KeymeterSpendOverForecast", id: "search", team: "search" };
      const alerts = [labels, { alertname: "KeymeterWatchdog", severity: "none" }].map((one) => ({
        labels: one,
        startsAt: new Date().toISOString(),
      }));
      const taken = await fetch(`${url}/api/v2/alerts`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(alerts),
      });
      expect(taken.status).toBe(200);
      await expect.poll(() => standing().length, { timeout: 20_000 }).toBe(1);
      expect(JSON.stringify(slack.calls[0]?.blocks)).toContain(MARK);
      await expect
        .poll(async () => (await app.inject("/metrics")).body, { timeout: 20_000 })
        .toContain("keymeter_deliveries_received_total 2");
      expect(heard).toBe(0);
      expect(await lastUnsigned()).toBeGreaterThan(0);
    }, 60_000);
  });
});
