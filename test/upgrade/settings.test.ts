// What was written down for the release before still means the same: settings in the file and in the environment, npm
// scripts, verbs, metrics, recording rules, alerts and dashboards.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { generate } from "selfsigned";
import { beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { createAlertsApp } from "../../alerts/app.ts";
import { ALERTS_SETTINGS, loadAlertsConfig } from "../../alerts/config.ts";
import { COLLECTOR_SETTINGS, loadCollectorConfig } from "../../collector/config.ts";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { loadCommandConfig } from "../../command/config.ts";
import { DASHBOARDS } from "../../dashboards/all.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openForWriting } from "../../ledger/sqlite.ts";
import { loadProxyConfig, PROXY_SETTINGS } from "../../proxy/config.ts";
import { askProxy } from "../../service/admin.ts";
import { Secret } from "../../service/secret.ts";
import { readSettings, settingsIn } from "../../service/settings.ts";
import type { Environment } from "../../service/settings.ts";
import { METRICS_SETTINGS } from "../collector/metrics-settings.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const fixture = (name: string): string => readFileSync(here(name), "utf8");
const shipped = (path: string): string => fixture(`../../${path}`);

/** All settings of all programs, as one does that reads no value. */
type AnySettings = ReturnType<typeof settingsIn>;
const PROGRAMS: readonly (readonly [string, AnySettings])[] = [
  ["proxy", settingsIn(PROXY_SETTINGS)],
  ["collector", settingsIn(COLLECTOR_SETTINGS)],
  ["alerts", settingsIn(ALERTS_SETTINGS)],
];
const VARIABLES = parse(fixture("environment-7ee2d97.yaml")) as { readonly [variable: string]: string };
/** Named by settings of that file, and by nothing else. */
const UPSTREAM_KEYS = { GROQ_API_KEY: "gsk-1", ZAI_API_KEY: "zai-1", AZURE_KEY: "azure-1" };

let folder: string;
let file: string;
let values: unknown;
beforeAll(async () => {
  folder = temporaryFolder();
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const { cert, private: key } = await generate([{ name: "commonName", value: "localhost" }], { keySize: 2048 });
  writeFileSync(join(folder, "cert.pem"), cert);
  writeFileSync(join(folder, "key.pem"), key);
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const account = { type: "service_account", client_email: "me@my-project.iam.gserviceaccount.com", private_key: pem };
  writeFileSync(join(folder, "google.json"), JSON.stringify({ ...account, project_id: "my-project" }));
  file = join(folder, "keymeter.yaml");
  const text = fixture("settings-7ee2d97.yaml").replaceAll("FOLDER", folder);
  writeFileSync(file, text);
  values = parse(text);
});

function valueAt(place: string): unknown {
  return place.split(".").reduce((value, part) => (value as { [part: string]: unknown })[part], values);
}

/** Places of the old file, as far down as settings go. */
function placesOf(value: unknown, prefix: string, known: ReadonlySet<string>): string[] {
  if (known.has(prefix) || typeof value !== "object" || value === null || Array.isArray(value)) return [prefix];
  return Object.entries(value).flatMap(([name, member]) =>
    placesOf(member, prefix === "" ? name : `${prefix}.${name}`, known),
  );
}

describe("keymeter.yaml of the release before", () => {
  const known = new Set(PROGRAMS.flatMap(([, settings]) => Object.values(settings).map(({ place }) => place)));

  it("has only settings that there still are: every one of then", () => {
    const places = placesOf(values, "", known);
    expect(places.length).toBe(74);
    expect(places.filter((place) => !known.has(place))).toEqual([]);
  });

  it.each(PROGRAMS)(
    "is read by the %s as it was written: no setting falls back to its default",
    (section, settings) => {
      const problems: string[] = [];
      const read = readSettings(settings, section, { KEYMETER_CONFIG: file }, problems);
      expect(problems).toEqual([]);
      const mine = Object.entries(settings).filter(([, { place }]) => valueOrNothing(place) !== undefined);
      expect(mine.length).toBeGreaterThan(25);
      for (const [name, { fallback, place }] of mine) {
        expect(read[name], place).not.toEqual(fallback);
        // Rows get defaults of their own, a path loses its last slash.
        if (typeof valueAt(place) !== "object") expect(read[name], place).toBe(valueAt(place));
        else expect(Object.keys(read[name] as object), place).toEqual(Object.keys(valueAt(place) as object));
      }
    },
  );

  it("may have an admin token of several words: the proxy took it, and its requests bring it", async () => {
    const running = await startProxy("http://127.0.0.1:1", { KEYMETER_ADMIN_TOKEN: "three words long" });
    const asked = { adminToken: new Secret("three words long"), dataDir: running.dataDir };
    const config = { ...loadCommandConfig({ KEYMETER_DATA_DIR: running.dataDir }), ...asked };
    const opsPort = Number(new URL(running.opsUrl).port);
    await expect(askProxy({ ...config, opsPort }, "GET", "/admin/unmetered")).resolves.toBeDefined();
    const wrong = { ...config, opsPort, adminToken: new Secret("three other words") };
    await expect(askProxy(wrong, "GET", "/admin/unmetered")).rejects.toThrow("token");
    expect(() => loadProxyConfig({ KEYMETER_ADMIN_TOKEN: "a line\nand another" })).toThrow("on one line");
  });

  it("loads in each program without a problem", () => {
    const environment = { KEYMETER_CONFIG: file, ...UPSTREAM_KEYS };
    const proxy = loadProxyConfig(environment);
    expect(proxy.pepper.reveal()).toBe("a-pepper-of-the-release-before");
    expect(proxy.adminToken.reveal()).toBe("an-admin-token-of-the-release-before");
    expect(proxy).toMatchObject({ passThrough: false, mostBodyBytes: 32 * 1024 * 1024, refusalStatus: 429 });
    expect(proxy.tls?.cert).toContain("BEGIN CERTIFICATE");
    expect(proxy.upstreams.map(({ name, kind }) => [name, kind])).toEqual([
      ["groq", "openai"],
      ["zai", "openai"],
      ["old-vllm", "openai"],
      ["azure", "azure"],
      ["vertex-eu", "vertex"],
    ]);
    expect(proxy.upstreams[0]?.settings.credential?.reveal()).toBe("gsk-1");
    expect(proxy.prices.map(({ model }) => model)).toEqual(["my-model", "my-speaker"]);
    expect(proxy.discounts).toEqual([{ list: "openai", model: "gpt-5*", percent: "12.5" }]);

    const collector = loadCollectorConfig(environment);
    expect(collector.readToken.reveal()).toBe("a-read-token-of-the-release-before");
    expect(collector.google?.projects).toEqual(["my-project", "my-other-project"]);
    expect(collector.thresholds.over_forecast).toBe(0.21);
    expect(collector.capMode).toBe("observe");

    const alerts = loadAlertsConfig(environment);
    expect(alerts.slackToken?.reveal()).toBe("xoxb-of-then");
    expect(alerts.alertmanagerUrls).toEqual(["http://127.0.0.1:9095", "http://127.0.0.1:9096"]);
    expect(alerts).toMatchObject({
      ownRules: "never",
      digestCron: "0 10 * * 2",
      slackUsers: ["U0123ABCD", "U0456EFGH"],
    });

    expect(loadCommandConfig(environment)).toMatchObject({ timezone: "Europe/Berlin", opsPort: 5001 });
  });

  it("and nothing at all: what was the default is the default", () => {
    const environment = { KEYMETER_CONFIG: join(folder, "empty.yaml"), KEYMETER_DATA_DIR: join(folder, "empty") };
    writeFileSync(environment.KEYMETER_CONFIG, "");
    expect(loadProxyConfig(environment)).toMatchObject({
      host: "127.0.0.1",
      timezone: "UTC",
      durability: "power",
      passThrough: true,
      capMode: "enforce",
      refusalStatus: 402,
      mostBodyBytes: 64 * 1024 * 1024,
      connectSeconds: 5,
      headersSeconds: 600,
      idleSeconds: 300,
      totalSeconds: 3600,
      proxyPort: 4000,
      opsPort: 4001,
    });
    expect(loadCollectorConfig(environment)).toMatchObject({
      collectorPort: 4002,
      reconcileCron: "17 */3 * * *",
      watchCron: "*/5 * * * *",
      reconcileDays: 4,
      closeAfterDays: 4,
      closeQuietHours: 48,
    });
    expect(loadAlertsConfig(environment)).toMatchObject({
      alertsPort: 4003,
      ownRules: "auto",
      digestCron: "0 9 * * 1",
      alertmanagerUrls: ["http://127.0.0.1:9093"],
      targets: ["http://127.0.0.1:4001/metrics", "http://127.0.0.1:4002/metrics"],
    });
  });
});

describe("environment variables of the release before", () => {
  it.each(Object.entries(VARIABLES))("%s sets %s", (variable, place) => {
    const given = valueAt(place);
    const text = Array.isArray(given) ? given.join(",") : String(given);
    let readers = 0;
    for (const [section, settings] of PROGRAMS) {
      const read = (environment: Environment): unknown => {
        const problems: string[] = [];
        const all = readSettings(settings, section, { ...environment }, problems);
        expect(problems).toEqual([]);
        return all[Object.keys(settings).find((name) => settings[name]?.place === place) ?? ""];
      };
      if (!Object.values(settings).some((setting) => setting.place === place)) continue;
      readers += 1;
      const empty = join(folder, "nothing.yaml");
      writeFileSync(empty, "");
      expect(read({ KEYMETER_CONFIG: empty, [variable]: text }), section).toEqual(read({ KEYMETER_CONFIG: file }));
    }
    expect(readers).toBeGreaterThan(0);
  });
});

type Names = {
  readonly [program in "proxy" | "collector" | "alerts"]: {
    readonly [metric: string]: { readonly type: string; readonly labels: readonly string[] };
  };
} & {
  readonly recorded: readonly string[];
  readonly alerts_of_rules: readonly string[];
  readonly dashboards: { readonly [file: string]: { readonly uid: string; readonly title: string } };
  readonly npm_scripts: readonly string[];
  readonly verbs: readonly string[];
};
const NAMES = parse(fixture("names-7ee2d97.yaml")) as Names;

describe("metrics of the release before", () => {
  /** Types by name, as Prometheus reads them. */
  const typesIn = (page: string): Map<string, string> =>
    new Map([...page.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = "", type = ""]) => [name, type]));
  type Registry = { metrics(): Promise<string>; getMetricsAsArray(): unknown };

  const check = async (registry: Registry, expected: Names["proxy"]): Promise<void> => {
    const types = typesIn(await registry.metrics());
    const made = registry.getMetricsAsArray() as { readonly name: string; readonly labelNames?: readonly string[] }[];
    for (const [name, { type, labels }] of Object.entries(expected)) {
      expect(types.get(name), name).toBe(type);
      const labelNames = made.find((one) => one.name === name)?.labelNames ?? [];
      for (const label of labels) expect(labelNames, name).toContain(label);
    }
  };

  it("are all exposed by the proxy, with their labels", async () => {
    const running = await startProxy("http://127.0.0.1:1");
    expect(Object.keys(NAMES.proxy).length).toBe(19);
    await check(running.proxy.context.metrics.registry, NAMES.proxy);
    const page = await (await fetch(`${running.opsUrl}/metrics`)).text();
    expect([...typesIn(page).keys()]).toEqual(expect.arrayContaining(Object.keys(NAMES.proxy)));
    await running.stop();
  });

  it("are all exposed by the collector, with their labels", async () => {
    const data = temporaryFolder();
    openForWriting(join(data, "usage.db"), "usage", "process").close();
    const usage = await openUsage(data);
    const billing = await openToWrite(data, "billing", "process");
    if (!usage) throw new Error("no books");
    const { registry } = createCollectorMetrics({ usage, billing }, METRICS_SETTINGS);
    expect(Object.keys(NAMES.collector).length).toBe(55);
    await check(registry, NAMES.collector);
    await usage.close();
    await billing.close();
  });

  it("are all exposed by the alerts program", async () => {
    const database = await openToWrite(temporaryFolder(), "notices", "process");
    const silent = { wake: () => undefined, stop: async () => undefined, status: () => ({ sent: 0, failed: 0 }) };
    const ownRules = { heardWatchdog: () => undefined, isSpeaking: () => false };
    const app = createAlertsApp(
      database,
      silent as unknown as Parameters<typeof createAlertsApp>[1],
      ownRules,
      new Secret("a-webhook-token-of-tests"),
    );
    const types = typesIn((await app.inject("/metrics")).body);
    expect(Object.keys(NAMES.alerts).length).toBe(6);
    for (const [name, { type }] of Object.entries(NAMES.alerts)) expect(types.get(name), name).toBe(type);
    await app.close();
    await database.close();
  });
});

describe("names of the release before", () => {
  type Rules = { readonly groups: readonly { readonly rules: readonly { record?: string; alert?: string }[] }[] };
  const rulesIn = (path: string): Rules["groups"][number]["rules"] =>
    (parse(shipped(path)) as Rules).groups.flatMap(({ rules }) => rules);

  it("are recorded by the rules", () => {
    const recorded = rulesIn("dashboards/rules.yaml").map(({ record }) => record);
    expect(NAMES.recorded.length).toBe(3);
    expect(recorded).toEqual(expect.arrayContaining([...NAMES.recorded]));
  });

  it("are those of alerts, which silences and routes go by", () => {
    const alerts = ["bills", "budgets", "forecast", "meter"].flatMap((name) =>
      rulesIn(`alerts/rules/${name}.yaml`).map(({ alert }) => alert),
    );
    expect(NAMES.alerts_of_rules.length).toBeGreaterThan(25);
    expect(NAMES.alerts_of_rules.filter((name) => !alerts.includes(name))).toEqual([]);
  });

  it("are those of dashboards, which links go by", () => {
    const made = Object.values(DASHBOARDS).map(({ uid }) => uid);
    for (const [name, { uid, title }] of Object.entries(NAMES.dashboards)) {
      expect(made, name).toContain(uid);
      expect(JSON.parse(shipped(`dashboards/json/${name}`)), name).toMatchObject({ uid, title });
    }
    expect(Object.keys(NAMES.dashboards).length).toBe(7);
  });

  it("are those of npm scripts and of the command's verbs", () => {
    const { scripts } = JSON.parse(shipped("package.json")) as { scripts: { [name: string]: string } };
    expect(NAMES.npm_scripts.length).toBe(20);
    expect(NAMES.npm_scripts.filter((name) => !(name in scripts))).toEqual([]);
    const command = shipped("command/verbs.ts");
    expect(NAMES.verbs.length).toBe(22);
    for (const verb of NAMES.verbs) expect(command).toMatch(new RegExp(`^ {2}${verb}: (async )?\\(`, "m"));
  });
});

function valueOrNothing(place: string): unknown {
  return place
    .split(".")
    .reduce<unknown>(
      (value, part) =>
        typeof value === "object" && value !== null ? (value as { [part: string]: unknown })[part] : undefined,
      values,
    );
}
