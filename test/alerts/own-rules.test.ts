// The rules evaluated here: the same verdicts as promtool's on the same series, the same groups as Alertmanager's, and
// when they speak.
import { globSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { parse } from "yaml";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { groupAlerts, readGrouping } from "../../alerts/alertmanager.ts";
import { createEvaluator } from "../../alerts/evaluator.ts";
import type { FiringAlert } from "../../alerts/evaluator.ts";
import { evaluate, NeedsPrometheus, parseExpression } from "../../alerts/expression.ts";
import type { Sample } from "../../alerts/expression.ts";
import { createOwnRules } from "../../alerts/own-rules.ts";
import { OWN_SOURCE } from "../../alerts/source.ts";
import type { OwnRules } from "../../alerts/own-rules.ts";
import { readRules } from "../../alerts/rules.ts";
import { parseSamples } from "../../alerts/samples.ts";
import { readDeliveries } from "../../ledger/notices/notices.ts";
import type { NoticesBooks } from "../../ledger/books.ts";
import { openToWrite } from "../../ledger/open.ts";
import { createLog } from "../../service/log.ts";
import { temporaryFolder } from "../start-proxy.ts";

const rules = readRules();
const MINUTE = 60_000;

/** Of these, nobody may be without: they have to work where there is no Prometheus. */
const MONEY = [
  "KeymeterSpendOverForecast",
  "KeymeterSpendFarOverForecast",
  "KeymeterMonthOverForecast",
  "KeymeterKeyOverForecast",
  "KeymeterKeySpike",
  "KeymeterKeyIdleThenActive",
  "KeymeterBudgetThreshold",
  "KeymeterBudgetExhausted",
  "KeymeterBudgetLandingOver",
  "KeymeterBudgetBurnFast",
  "KeymeterCapRefusing",
  "KeymeterCapFailing",
  "KeymeterKeyUsedElsewhere",
  "KeymeterUnmeteredSpend",
  "KeymeterUnpricedModel",
];

describe("a rule", () => {
  it.each(MONEY)("%s can be evaluated here", (name) => {
    expect(rules.find(({ alert }) => alert === name)?.needsPrometheus).toBeUndefined();
  });

  it("that cannot says why", () => {
    const others = rules.filter(({ expression }) => !expression);
    expect(others.map(({ alert }) => alert).toSorted()).toEqual([
      "KeymeterBillingStale",
      "KeymeterDaysOpen",
      "KeymeterDeliveriesUnsigned",
      "KeymeterKeyTooOld",
      "KeymeterMeterSilent",
      "KeymeterPriceDiffers",
      "KeymeterPriceListOld",
      "KeymeterWatchdog",
      "KeymeterWorkPending",
    ]);
    for (const { needsPrometheus } of others) expect(needsPrometheus).toContain("more than is evaluated here");
  });

  it.each([
    ["a > bool 1", "more than"],
    ["rate(a[5m]) > 1", "more than"],
    ["a > on (x) group_left () b", "many to one"],
    ["sum by (x) (a) > 1", "more than"],
    ["a +", "no PromQL"],
    ["a offset 5m > 1", "more than"],
    ['{x="y"} > 1', "names no metric"],
    ["", "no PromQL"],
  ])("%s is left to Prometheus", (text, why) => {
    expect(() => parseExpression(text)).toThrow(NeedsPrometheus);
    expect(() => parseExpression(text)).toThrow(why);
  });

  it("whose sides do not fit one to one is an error, as in Prometheus, and no silence", () => {
    const samples: Sample[] = [
      { name: "a", labels: { x: "1" }, value: 1 },
      { name: "b", labels: { x: "1", y: "1" }, value: 0 },
      { name: "b", labels: { x: "1", y: "2" }, value: 0 },
    ];
    expect(() => evaluate(parseExpression("a > on (x) b"), samples)).toThrow("two series");
  });
});

// promtool runs these files too (test/check-rules.ts): what it says and what is said here has to be the same.
describe("the same series as promtool's", () => {
  type RuleTest = {
    name: string;
    interval: string;
    input_series: { series: string; values: string }[];
    alert_rule_test: { eval_time: string; alertname: string; exp_alerts: { exp_labels: Record<string, string> }[] }[];
  };
  const tests = globSync("test/rules/*.yaml").flatMap(
    (file) => (parse(readFileSync(file, "utf8")) as { tests: RuleTest[] }).tests,
  );
  const known = new Set(rules.filter(({ expression }) => expression).map(({ alert }) => alert));
  const cases = tests.filter((test) => test.alert_rule_test.some(({ alertname }) => known.has(alertname)));

  it("are enough to tell: every rule that is evaluated here is in one, fired and not", () => {
    const seen = cases.flatMap(({ alert_rule_test: asked }) => asked);
    for (const name of known) {
      expect(
        seen.some(({ alertname, exp_alerts: expected }) => alertname === name && expected.length > 0),
        name,
      ).toBe(true);
      expect(
        seen.some(({ alertname, exp_alerts: expected }) => alertname === name && expected.length === 0),
        name,
      ).toBe(true);
    }
  });

  it.each(cases.map((one) => [one.name, one] as const))("%s", (_name, test) => {
    const intervalMs = durationMs(test.interval);
    const series = test.input_series.map(({ series: text, values }) => ({
      ...seriesOf(text),
      values: valuesOf(values),
    }));
    const asked = test.alert_rule_test.filter(({ alertname }) => known.has(alertname));
    const endMs = Math.max(...asked.map(({ eval_time: time }) => durationMs(time)));
    const evaluator = createEvaluator(rules);
    const firing = new Map<number, FiringAlert[]>();
    for (let atMs = 0; atMs <= endMs; atMs += MINUTE) {
      const samples = series.flatMap(({ name, labels, values }): Sample[] => {
        const value = values[Math.floor(atMs / intervalMs)];
        return value === undefined ? [] : [{ name, labels, value }];
      });
      firing.set(
        atMs,
        evaluator.step(samples, atMs).filter(({ endsAtMs }) => endsAtMs === undefined),
      );
    }
    for (const { eval_time: time, alertname, exp_alerts: expected } of asked) {
      const got = (firing.get(durationMs(time)) ?? []).filter(({ alert }) => alert === alertname);
      expect(
        got.map(({ labels: { alertname: _own, ...labels } }) => labels),
        `${alertname} at ${time}`,
      ).toEqual(expected.map(({ exp_labels: labels }) => labels));
    }
  });
});

describe("groups", () => {
  const grouping = readGrouping();
  const alert = (name: string, labels: Record<string, string>): FiringAlert => {
    const rule = rules.find((one) => one.alert === name);
    return {
      alert: name,
      labels: { ...labels, ...rule?.labels, alertname: name },
      annotations: {},
      startsAtMs: 0,
      endsAtMs: undefined,
    };
  };

  it("of 500 keys are one for each team", () => {
    const alerts = Array.from({ length: 500 }, (_, i) =>
      alert("KeymeterKeyOverForecast", { scope: "key", id: `key_${i}`, team: `team-${i % 4}`, window: "day" }),
    );
    const groups = groupAlerts(alerts, grouping);
    expect(groups.map(({ groupKey }) => groupKey)).toEqual(
      [0, 1, 2, 3].map((i) => `{}:{team="team-${i}", topic="forecast"}`),
    );
    expect(groups.map(({ alerts: own }) => own.length)).toEqual([125, 125, 125, 125]);
  });

  it("leave out what another alert explains: keys and the organisation beside their team, a warning beside the critical", () => {
    const groups = groupAlerts(
      [
        alert("KeymeterSpendOverForecast", { scope: "team", id: "search", team: "search", window: "day" }),
        alert("KeymeterSpendFarOverForecast", { scope: "team", id: "search", team: "search", window: "day" }),
        alert("KeymeterKeyOverForecast", { scope: "key", id: "key_1", team: "search", window: "day" }),
        alert("KeymeterKeyOverForecast", { scope: "key", id: "key_2", team: "ads", window: "day" }),
        alert("KeymeterSpendOverForecast", { scope: "org", id: "all", window: "day" }),
        alert("KeymeterMonthOverForecast", { scope: "org", id: "all", window: "month" }),
      ],
      grouping,
    );
    expect(
      groups.flatMap(({ alerts: own }) => own.map(({ labels }) => `${labels["alertname"]} ${labels["id"]}`)),
    ).toEqual([
      "KeymeterSpendFarOverForecast search",
      "KeymeterKeyOverForecast key_2",
      "KeymeterMonthOverForecast all",
    ]);
  });
});

describe("a page of metrics", () => {
  it("is read with its escapes, and nothing but what is wanted", () => {
    const text = '# HELP a b\na{x="q\\"uo\\\\te",y="line\\nbreak"} 1.5e-3\nb 2\na 7 1700000000000\nc{x=""} +Inf\n';
    expect(parseSamples(text, new Set(["a", "c"]))).toEqual([
      { name: "a", labels: { x: 'q"uo\\te', y: "line\nbreak" }, value: 0.0015 },
      { name: "a", labels: {}, value: 7 },
      { name: "c", labels: { x: "" }, value: Infinity },
    ]);
  });
});

describe("speaking", () => {
  let database: NoticesBooks;
  let page = "";
  let isDown = false;
  let now = 1_000_000;
  let own: OwnRules;
  const server = createServer((_request, response) => response.writeHead(isDown ? 503 : 200).end(page));
  const UNPRICED = 'keymeter_unpriced_requests{provider="openai",model="new"} 3\n';
  const KEY = '{}:{provider="openai", topic="prices"}';
  const start = (mode: "auto" | "always" | "never"): void => {
    own = createOwnRules({
      notices: database,
      rules,
      grouping: readGrouping(),
      targets: [`http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`],
      mode,
      wake: () => undefined,
      log: createLog("test", "silent"),
      now: () => now,
    });
  };
  beforeEach(async () => {
    [page, isDown, now] = ["", false, 1_000_000];
    database = await openToWrite(temporaryFolder(), "notices", "power");
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterEach(async () => {
    await database.close();
    await new Promise((resolve) => server.close(resolve));
  });

  it("delivers once, again when something changes, and that it is over", async () => {
    start("always");
    page = UNPRICED;
    expect(await own.step()).toEqual([KEY]);
    now += MINUTE;
    expect(await own.step()).toEqual([]);
    page = "";
    now += MINUTE;
    expect(await own.step()).toEqual([KEY]);
    const [word] = await readDeliveries(database, KEY);
    expect([word?.source, JSON.parse(word?.payload ?? "{}").status]).toEqual([OWN_SOURCE, "resolved"]);
  });

  it("takes a page that does not answer for nothing at all, not for nothing to tell", async () => {
    start("always");
    page = UNPRICED;
    await own.step();
    isDown = true;
    await expect(own.step()).rejects.toThrow("503");
    const [word] = await readDeliveries(database, KEY);
    expect(JSON.parse(word?.payload ?? "{}").status).toBe("firing");
  });

  it("begins when no watchdog has come for three minutes, and ends three minutes after it comes again", async () => {
    start("auto");
    page = UNPRICED;
    expect(await own.step()).toEqual([]);
    for (let i = 0; i < 10; i++) {
      own.heardWatchdog();
      now += MINUTE;
      expect(await own.step()).toEqual([]);
    }
    now += 3 * MINUTE;
    expect(await own.step()).toEqual([KEY]);
    own.heardWatchdog();
    now += MINUTE;
    await own.step();
    expect(own.isSpeaking()).toBe(true);
    for (let i = 0; i < 3; i++) {
      own.heardWatchdog();
      now += MINUTE;
      await own.step();
    }
    expect(own.isSpeaking()).toBe(false);
    expect(await readDeliveries(database, KEY)).toEqual([]);
  });

  it("knows after a restart what it had said: what fires goes on without waiting again, what is over is told", async () => {
    start("always");
    const burns = (team: string): string =>
      ["1h", "5m"]
        .map((span) => `keymeter_budget_burn_ratio{budget="b-${team}",team="${team}",span="${span}"} 20\n`)
        .join("") + `keymeter_budget_burn_limit_ratio{budget="b-${team}",team="${team}",speed="fast"} 14.4\n`;
    const key = (team: string): string => `{}:{team="${team}", topic="budget"}`;
    page = burns("a") + burns("b");
    await own.step();
    now += 2 * MINUTE;
    expect(await own.step()).toEqual([key("a"), key("b")]);
    start("always");
    page = burns("a");
    now += MINUTE;
    expect(await own.step()).toEqual([key("b")]);
    const states = async (): Promise<string[]> =>
      Promise.all(
        ["a", "b"].map(async (team) => {
          const [word] = await readDeliveries(database, key(team));
          return (JSON.parse(word?.payload ?? "{}") as { status: string }).status;
        }),
      );
    expect(await states()).toEqual(["firing", "resolved"]);
  });

  it("never does where it is told not to", async () => {
    start("never");
    page = UNPRICED;
    now += 60 * MINUTE;
    expect(await own.step()).toEqual([]);
  });
});

/** `a{b="c"}` of promtool's files. */
function seriesOf(text: string): { name: string; labels: Record<string, string> } {
  const [sample] = parseSamples(`${text} 0`, new Set([text.split("{")[0] ?? ""]));
  if (!sample) throw new Error(`no series: ${text}`);
  return { name: sample.name, labels: { ...sample.labels } };
}

/** promtool's notation: `a+bxn`, `axn`, `_xn`, single values. */
function valuesOf(text: string): (number | undefined)[] {
  return text.split(/\s+/).flatMap((part) => {
    const [, start = "", step, times] = /^(_|-?[\d.]+)(?:([+-][\d.]+))?(?:x(\d+))?$/.exec(part) ?? [];
    if (start === "") throw new Error(`no values: ${part}`);
    const count = Number(times ?? 0);
    if (start === "_") return Array<undefined>(Math.max(count, 1)).fill(undefined);
    return Array.from({ length: count + 1 }, (_, i) => Number(start) + i * Number(step ?? 0));
  });
}

function durationMs(text: string): number {
  return Number(text.slice(0, -1)) * ({ s: 1_000, m: MINUTE, h: 60 * MINUTE }[text.slice(-1)] ?? NaN);
}
