// A setting is declared once, and everything that is said of it is made from there: the example file, the manual's
// page, --help, the check of misspelt variables, and which program sees which variable.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { loadAlertsConfig } from "../../alerts/config.ts";
import { loadCollectorConfig } from "../../collector/config.ts";
import { strayVariables } from "../../command/check-settings.ts";
import { loadCommandConfig } from "../../command/config.ts";
import { settingsHelp, settingsPages } from "../../command/settings-pages.ts";
import { AZURE_RESOURCE } from "../fake/cloud-key-makers.ts";
import { DECLARED, environmentOf, PROGRAMS } from "../../command/settings.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import { readSettings, settingsIn, SettingsError } from "../../service/settings.ts";
import type { Setting } from "../../service/settings.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { temporaryFolder, writeSettings } from "../start-proxy.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const declared = new Set<Setting>(PROGRAMS.flatMap((program) => Object.values(settingsIn(DECLARED[program]))));

function fileWith(values: unknown): string {
  return writeSettings(typeof values === "string" ? values : stringify(values));
}

describe("every setting", () => {
  it("has one declaration, whichever programs read it", () => {
    expect(declared.size).toBeGreaterThan(80);
    expect(new Set([...declared].map(({ place }) => place)).size).toBe(declared.size);
    const variables = [...declared].flatMap(({ env }) => (env === undefined ? [] : [env]));
    expect(new Set(variables).size).toBe(variables.length);
  });

  it.each([...declared].map((one) => [one.place, one] as const))(
    "%s has a sentence, and a default that is allowed",
    (place, { says, schema, fallback }) => {
      expect(says).toMatch(/[^.]$|\.\.\.$/);
      // On loopback only: that cannot be written down.
      const isAllowed = place === "proxy.pass_through" || fallback === undefined || schema.safeParse(fallback).success;
      expect(isAllowed).toBe(true);
    },
  );
});

describe("what is wrong", () => {
  it("is said in one message, each with its place, its value and what is allowed", () => {
    const upstreams = { groq: { url: "https://groq.test/v1" } };
    const file = fileWith({ tmezone: "UTC", proxy: { upstreams, tls: { cert: "/nowhere" } } });
    const load = (): unknown => loadProxyConfig({ KEYMETER_CONFIG: file, KEYMETER_DURABILITY: "wish" });
    expect(load).toThrow(/^4 settings are wrong:\n/);
    for (const part of [
      'KEYMETER_DURABILITY: "wish" is not allowed: ',
      `${file}: proxy.upstreams.groq.url: "https://groq.test/v1" is not allowed: a URL without the version at its end`,
      `${file}: tmezone is no setting; `,
      "KEYMETER_TLS_CERT and KEYMETER_TLS_KEY belong together",
    ])
      expect(load).toThrow(part);
  });
});

describe("files that are made from the declarations", () => {
  it.each(Object.entries(settingsPages()))("%s is what `npm run settings` makes", (path, made) => {
    expect(readFileSync(join(ROOT, path), "utf8")).toBe(made);
  });

  it("keymeter.example.yaml without its comment signs is a file that every program reads", () => {
    const text = (settingsPages()["keymeter.example.yaml"] ?? "").replace(/^# ?(?=\s*(- \{|[\w-]+:))/gm, "");
    const noEmpty = (_name: string, value: unknown): unknown => (value === "" ? undefined : value);
    const file = fileWith(JSON.parse(JSON.stringify(parse(text), noEmpty)));
    for (const program of PROGRAMS) {
      const problems: string[] = [];
      const read = readSettings(settingsIn(DECLARED[program]), program, { KEYMETER_CONFIG: file }, problems);
      expect(problems).toEqual([]);
      expect(read["providers.upstreams"]).toHaveProperty("old-vllm");
    }
  });

  it("--help of a program lists the settings of its own part", () => {
    expect(settingsHelp("collector")).toMatch(/collector\.reconcile_days +KEYMETER_RECONCILE_DAYS +4 +bills of/);
    expect(settingsHelp("collector")).not.toContain("alerts.");
  });
});

describe("secrets", () => {
  const folder = temporaryFolder();

  it("are wrapped where they are read: no config shows one", () => {
    const environment = {
      KEYMETER_DATA_DIR: folder,
      OPENAI_API_KEY: "sk-of-openai",
      KEYMETER_PEPPER: "pepper-of-this-test",
      KEYMETER_METRICS_TOKEN: "metrics-token-of-this-test",
      OPENAI_ADMIN_KEY: "sk-admin-of-openai",
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://otlp.test",
      OTEL_EXPORTER_OTLP_HEADERS: "x-api-key=otlp-of-this-test",
      SLACK_BOT_TOKEN: "xoxb-of-this-test",
      KEYMETER_CONFIG: fileWith({
        proxy: { upstreams: { groq: { url: "https://groq.test", api_key_env: "G" } } },
        alerts: {
          receivers: {
            telegram: { kind: "telegram", token: "1:telegram-of-this-test", chat: "-1" },
            discord: { kind: "discord", token: "discord-of-this-test", channel: "123456789012345678" },
            webhook: { kind: "webhook", url: "https://x.test/url-of-this-test", secret: "webhook-of-this-test" },
            teams: { kind: "teams", url: "https://x.test/teams-of-this-test" },
            email: { kind: "email", smtp: "smtp://a:mail-of-this-test@x.test", from: "a@x.test", to: ["b@x.test"] },
          },
          routes: [{ to: "telegram" }],
        },
      }),
      G: "gsk-of-groq",
    };
    const configs = [loadProxyConfig, loadCollectorConfig, loadAlertsConfig, loadCommandConfig].map((load) =>
      load(environment),
    );
    for (const config of configs) {
      expect(Object.isFrozen(config)).toBe(true);
      expect(JSON.stringify(config)).not.toMatch(/-of-(openai|this-test|groq)/);
    }
    expect(loadProxyConfig(environment).own.openai.credential?.reveal()).toBe("sk-of-openai");
  });

  it("are not repeated where they are refused", () => {
    const load = (): unknown => loadAlertsConfig({ KEYMETER_DATA_DIR: folder, SLACK_APP_TOKEN: "xoxb-by-mistake" });
    expect(load).toThrow("SLACK_APP_TOKEN: what it holds is not allowed: an app-level token: it begins with xapp-");
    expect(load).not.toThrow("by-mistake");
    const KEYMETER_CONFIG = fileWith({
      alerts: {
        receivers: { a: { kind: "webhook", url: "https://x.test/by-mistake", secret: "s-by-mistake", more: 1 } },
      },
    });
    const headers = (): unknown =>
      loadCollectorConfig({ KEYMETER_DATA_DIR: folder, OTEL_EXPORTER_OTLP_HEADERS: "x by-mistake" });
    expect(headers).toThrow("OTEL_EXPORTER_OTLP_HEADERS: what it holds is not allowed: headers as name=value");
    expect(headers).not.toThrow("by-mistake");
    const receivers = (): unknown => loadAlertsConfig({ KEYMETER_DATA_DIR: folder, KEYMETER_CONFIG });
    expect(receivers).toThrow("alerts.receivers.a: ");
    expect(receivers).not.toThrow("by-mistake");
  });

  it("that stand in keymeter.yaml are the command's too", () => {
    const KEYMETER_CONFIG = fileWith({ proxy: { pepper: "a-pepper-of-the-file" } });
    expect(loadCommandConfig({ KEYMETER_CONFIG }).pepper?.reveal()).toBe("a-pepper-of-the-file");
  });

  it("that are too short are said with everything else that is wrong", () => {
    for (const load of [loadProxyConfig, loadCollectorConfig, loadAlertsConfig]) {
      const environment = { KEYMETER_DATA_DIR: folder, KEYMETER_ADMIN_TOKEN: "short", KEYMETER_PORT: "-1" };
      expect(() => load(environment)).toThrow(SettingsError);
      expect(() => load(environment)).toThrow(/^2 settings are wrong:\n {2}- KEYMETER_PORT: .*\n {2}- the admin-token/);
    }
  });
});

describe("a variable", () => {
  it.each([
    ["PATH", ["proxy", "collector", "alerts"]],
    ["https_proxy", ["proxy", "collector", "alerts"]],
    ["KEYMETER_CONFIG", ["proxy", "collector", "alerts"]],
    ["KEYMETER_DATA_DIR", ["proxy", "collector", "alerts"]],
    ["KEYMETER_ADMIN_TOKEN", ["proxy", "collector", "alerts"]],
    ["KEYMETER_PAGES_URL", ["collector", "alerts"]],
    ["KEYMETER_PEPPER", ["proxy"]],
    ["OPENAI_API_KEY", ["proxy"]],
    ["GOOGLE_APPLICATION_CREDENTIALS", ["proxy"]],
    ["GROQ_API_KEY", ["proxy"]],
    ["AWS_ACCESS_KEY_ID", ["proxy"]],
    ["OPENAI_ADMIN_KEY", ["collector"]],
    ["KEYMETER_READ_TOKEN", ["collector"]],
    ["OTEL_EXPORTER_OTLP_ENDPOINT", ["collector"]],
    ["OTEL_EXPORTER_OTLP_HEADERS", ["collector"]],
    ["KEYMETER_GOOGLE_BILLING_CREDENTIALS", ["collector"]],
    ["KEYMETER_WEBHOOK_TOKEN", ["alerts"]],
    ["SLACK_BOT_TOKEN", ["alerts"]],
  ])("%s is given to %j", (name, readers) => {
    expect(PROGRAMS.filter((program) => name in environmentOf(program, { [name]: "1" }))).toEqual(readers);
  });

  it("of AWS's is the collector's too, where metrics go to CloudWatch as what the machine is", () => {
    const readers = (more: object): string[] =>
      PROGRAMS.filter((program) => "AWS_PROFILE" in environmentOf(program, { AWS_PROFILE: "1", ...more }));
    expect(readers({})).toEqual(["proxy"]);
    expect(readers({ KEYMETER_CLOUDWATCH_REGION: "eu-west-1" })).toEqual(["proxy", "collector"]);
    expect(
      readers({ KEYMETER_CLOUDWATCH_REGION: "eu-west-1", KEYMETER_CLOUDWATCH_ACCESS_KEY_ID: "AKIAEXAMPLE" }),
    ).toEqual(["proxy"]);
  });

  it("in which a secret is, by a reference, is given to whom the secret is for", () => {
    const file = fileWith({
      collector: { openai_admin_key: "env:KEYMETER_BILL_READER" },
      proxy: { admin_token: "env:ADMIN" },
    });
    const environment = {
      KEYMETER_CONFIG: file,
      KEYMETER_BILL_READER: "sk-admin",
      ADMIN: "an admin token of some length",
      SLACK_BOT_TOKEN: "env:OF_SLACK",
      OF_SLACK: "xoxb-1",
    };
    const readers = (name: string): string[] =>
      PROGRAMS.filter((program) => name in environmentOf(program, environment));
    expect(readers("KEYMETER_BILL_READER")).toEqual(["collector"]);
    expect(readers("ADMIN")).toEqual(["proxy", "collector", "alerts"]);
    expect(readers("OF_SLACK")).toEqual(["alerts"]);
    expect(strayVariables(environment)).toEqual([]);
    // A variable that is a key of an upstream, too, is the proxy's still.
    const both = fileWith({
      collector: { openai_admin_key: "env:SHARED" },
      proxy: { upstreams: { groq: { url: "https://groq.test", api_key_env: "SHARED" } } },
    });
    expect(
      PROGRAMS.filter((program) => "SHARED" in environmentOf(program, { KEYMETER_CONFIG: both, SHARED: "gsk" })),
    ).toEqual(["proxy", "collector"]);
    // Of receivers beside Slack, and what opens their store.
    const rows = {
      oncall: { kind: "telegram", token: "env:TELEGRAM", chat: "-1" },
      hook: { kind: "webhook", url: "env:HOOK", secret: "vault:secret/hook#secret" },
      mail: { kind: "email", smtp: "env:MAIL", from: "a@x.test", to: ["b@x.test"] },
    };
    const ofReceivers = { TELEGRAM: "1:t", HOOK: "https://x.test", MAIL: "smtp://x.test", VAULT_TOKEN: "hvs-1" };
    const told = { KEYMETER_CONFIG: fileWith({ alerts: { receivers: rows } }), ...ofReceivers };
    for (const name of Object.keys(ofReceivers))
      expect([name, ...PROGRAMS.filter((program) => name in environmentOf(program, told))]).toEqual([name, "alerts"]);
    const google = { KEYMETER_ADMIN_TOKEN: "gcp-sm:projects/p/secrets/s", GCE_METADATA_HOST: "127.0.0.1:1" };
    expect(PROGRAMS.filter((program) => "GCE_METADATA_HOST" in environmentOf(program, google))).toEqual([...PROGRAMS]);
  });

  it("that signs a machine in to a cloud goes to the collector whose makers need it, and to no other", () => {
    const row = { secret: "file:/key", url: "https://a.test" };
    const readers = (rotation: object, more: object = {}): string[] => {
      const environment = {
        KEYMETER_CONFIG: fileWith({ collector: { rotation, ...more } }),
        IDENTITY_ENDPOINT: "http://127.0.0.1:1",
        AWS_WEB_IDENTITY_TOKEN_FILE: "/token",
        GOOGLE_CLOUD_PROJECT: "p",
        KEYMETER_SECRETS_GITHUB_TOKEN: "ghp_1",
      };
      const given = environmentOf("collector", environment);
      return Object.keys(environment)
        .slice(1)
        .filter((name) => name in given);
    };
    // By the name of the upstream, as by `maker`.
    expect(readers({ azure: { ...row, resource: AZURE_RESOURCE } })).toEqual(["IDENTITY_ENDPOINT"]);
    expect(readers({ models: { ...row, maker: "bedrock", user: "u" } })).toEqual(["AWS_WEB_IDENTITY_TOKEN_FILE"]);
    expect(readers({ vertex: row })).toEqual(["GOOGLE_CLOUD_PROJECT"]);
    expect(readers({ vertex: { ...row, admin_key: "file:/admin.json" } })).toEqual([]);
    expect(readers({ groq: row })).toEqual([]);
    const ownKeys = { key_rotation: { ci: { to: "github:acme/app/KEY", every: "30d" } } };
    expect(readers({}, ownKeys)).toEqual(["KEYMETER_SECRETS_GITHUB_TOKEN"]);
  });

  it("that is misspelt is said; one that keymeter.yaml names is not", () => {
    const upstream = { url: "https://groq.test", api_key_env: "KEYMETER_GROQ_KEY" };
    const environment = {
      KEYMETER_CONFIG: fileWith({ proxy: { upstreams: { groq: upstream } } }),
      KEYMETER_GROQ_KEY: "gsk",
      KEYMETER_DRAIN_SECOND: "5",
      KEYMETER_PROXY_SERVICE_HOST: "10.0.0.1",
      KEYMETER_PORT: "4000",
    };
    expect(strayVariables(environment)).toEqual([
      "KEYMETER_DRAIN_SECOND: there is no setting of this name, did you mean KEYMETER_DRAIN_SECONDS? `keymeter.example.yaml` lists them all",
    ]);
  });
});

describe("upstreams that settings name", () => {
  const upstreams = {
    "vertex-eu": { kind: "vertex", url: "https://europe-west1-aiplatform.googleapis.com" },
    gateway: { url: "https://gateway.test", price_list: "openai" },
  };

  it("are providers in every program", () => {
    const environment = { KEYMETER_DATA_DIR: temporaryFolder(), KEYMETER_CONFIG: fileWith({ proxy: { upstreams } }) };
    for (const load of [loadProxyConfig, loadCollectorConfig, loadAlertsConfig, loadCommandConfig]) {
      const { providers } = load(environment);
      expect(providers.priceListOf("vertex-eu", "claude-haiku-4-5")).toBe("anthropic");
      expect(providers.priceListOf("gateway", "gpt-4o-mini")).toBe("openai");
      expect(providers.names).toEqual(expect.arrayContaining(["gateway", "vertex-eu", "openai", "gemini"]));
    }
  });

  it("may not take a name that leads elsewhere, whichever program is asked", () => {
    const KEYMETER_CONFIG = fileWith({ proxy: { upstreams: { gemini: upstreams.gateway } } });
    const environment = { KEYMETER_DATA_DIR: temporaryFolder(), KEYMETER_CONFIG };
    for (const load of [loadProxyConfig, loadCollectorConfig, loadAlertsConfig])
      expect(() => load(environment)).toThrow("proxy.upstreams.gemini: this name is taken; choose another");
  });

  it("are hinted at when a provider is misspelt", async () => {
    const environment = { KEYMETER_CONFIG: fileWith({ proxy: { upstreams } }) };
    const beside = { dataDir: temporaryFolder(), opsUrl: "http://127.0.0.1:1", environment };
    const { code, text } = await runKeymeter(beside, "budgets", "set", "--provider", "gatewy", "--amount", "5/day");
    expect(code).toBe(2);
    expect(text).toContain('nothing is booked under the provider "gatewy", did you mean gateway?');
    const spend = await runKeymeter(beside, "spend", "--provider", "vertex-e");
    expect(spend.text).toContain('settings name no provider "vertex-e", did you mean vertex-eu?');
  });
});
