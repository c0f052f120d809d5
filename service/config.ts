// Settings that more than one program reads.
import { z } from "zod";
import { LEAST_DAYS } from "../ledger/usage/kept-days.ts";
import { HeldSecret } from "./secrets/index.ts";
import { ownSecret, Secret, weaknessOf } from "./secret.ts";
import type { OwnSecret } from "./secret.ts";
import { group, secret, secretText, webUrl } from "./settings.ts";
import type { Reading, SettingTree, Values } from "./settings.ts";
import { configureStores, STORES } from "./store-settings.ts";
import { providersOf, upstreamRows } from "./upstreams.ts";

const port = z.coerce.number("a port number").int("a whole number").min(0, "0 to 65535").max(65_535, "0 to 65535");
const ONE_LINE = /^[\x21-\x7e]+$/;
const PLAIN_LINE = /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/;
/** A secret that travels in headers. */
export const tokenText = z.string().regex(ONE_LINE, "a secret on one line, without spaces");
export const cron = z.string().regex(/^(\S+\s+){4,5}\S+$/, "a cron expression of five or six fields");

export { webUrl } from "./settings.ts";

/** The upstreams as they stand in the file: the proxy alone reads where they are and what opens them. */
export const UPSTREAMS = {
  place: "proxy.upstreams",
  schema: upstreamRows,
  fallback: {},
  says: "providers of your own by name: OpenAI-compatible ones, Azure, Vertex regions; base URL http://127.0.0.1:4000/NAME/v1",
  example: [
    "groq: { url: https://api.groq.com/openai, api_key_env: GROQ_API_KEY, price_list: groq }",
    "zai: { url: https://api.z.ai/api/paas/v4, version: none, api_key_env: ZAI_API_KEY } # no /v1 is added",
    "chatgpt: { url: https://chatgpt.com/backend-api/codex, version: none, price_list: openai, subscription: true } # Codex with a ChatGPT login: paid by the month",
    "ollama: { url: http://127.0.0.1:11434, needs_key: false } # takes any key, or none; so does every upstream on this machine without api_key_env",
    "old-vllm: { url: http://127.0.0.1:8000, ask_usage: false } # refuses stream_options",
    "azure: { kind: azure, url: https://me.openai.azure.com, api_key_env: AZURE_KEY, deployments: { chat: gpt-4o } }",
    "bedrock: { kind: bedrock, url: https://bedrock-runtime.us-east-1.amazonaws.com, api_key_env: BEDROCK_KEY }",
    "vertex-eu: { kind: vertex, url: https://europe-west1-aiplatform.googleapis.com }",
  ],
} as const;

const days = (least: number) => z.coerce.number().int().min(least).max(36_500).optional();

/** How long things are kept; without a setting for ever. */
const RETENTION = {
  eventsDays: {
    place: "retention.events_days",
    env: "KEYMETER_RETENTION_EVENTS_DAYS",
    schema: days(LEAST_DAYS),
    fallback: undefined,
    says: `usage events; then each sealed day goes into a Parquet file, and only its sums stay in the books; ${LEAST_DAYS} at the least`,
    example: "90",
  },
  folder: {
    place: "retention.folder",
    env: "KEYMETER_RETENTION_FOLDER",
    schema: z.string().min(1),
    fallback: undefined,
    says: "where those files go; absent: archive in the data folder",
    example: '"/srv/keymeter-archive"',
  },
  rawUsageDays: {
    place: "retention.raw_usage_days",
    env: "KEYMETER_RETENTION_RAW_USAGE_DAYS",
    schema: days(1),
    fallback: undefined,
    says: "the providers' usage objects as they were sent, in events",
    example: "30",
  },
  refusalsDays: {
    place: "retention.refusals_days",
    env: "KEYMETER_RETENTION_REFUSALS_DAYS",
    schema: days(2),
    fallback: undefined,
    says: "counts of refused requests",
    example: "90",
  },
  addressesDays: {
    place: "retention.addresses_days",
    env: "KEYMETER_RETENTION_ADDRESSES_DAYS",
    schema: days(1),
    fallback: undefined,
    says: "addresses from which keys were used last so long ago",
    example: "90",
  },
} as const satisfies SettingTree;

export const SHARED_SETTINGS = {
  takeOver: {
    place: "take_over",
    env: "KEYMETER_TAKE_OVER",
    schema: z.union([z.boolean(), z.enum(["on", "off"]).transform((word) => word === "on")]),
    fallback: false,
    says: "a start beside a Keymeter on the same folder listens too, and waits until that one has ended: an upgrade without a gap",
    example: "off",
  },
  retention: RETENTION,
  host: {
    place: "host",
    env: "KEYMETER_HOST",
    schema: z.string().min(1),
    fallback: "127.0.0.1",
    says: "where the proxy listens; another address needs pass_through to be chosen",
  },
  /** Undefined: network.ts decides. */
  innerHost: {
    place: "inner_host",
    env: "KEYMETER_INNER_HOST",
    schema: z.string().min(1),
    fallback: undefined,
    says: "where all but the proxy's own port listen: metrics, admin API, pages, webhook",
    example: "127.0.0.1",
  },
  /** Undefined: the file metrics-token in the data folder. */
  metricsToken: secret({
    place: "metrics_token",
    env: "KEYMETER_METRICS_TOKEN",
    schema: z.string().regex(/^[\x21-\x7e]{16,}$/, "a secret of at least 16 characters, without spaces"),
    says: "asked of scrapes from elsewhere; made on the first start (file metrics-token)",
  }),
  dataDir: {
    place: "data_dir",
    env: "KEYMETER_DATA_DIR",
    schema: z
      .string()
      .min(1)
      .refine(
        (path) => !/^\w+:\/\//.test(path),
        "has to be a folder such as ./data; for books in Postgres set KEYMETER_LEDGER_URL",
      ),
    fallback: "./data",
    says: "the ledgers and the secrets made on the first start",
  },
  /** Undefined: SQLite, in the data folder. */
  ledgerUrl: secret({
    place: "ledger.url",
    env: "KEYMETER_LEDGER_URL",
    schema: z
      .string()
      .regex(/^postgres(?:ql)?:\/\/[^/]+\/.+$/, "a URL such as postgres://user:password@host:5432/keymeter"),
    says: "books in Postgres, for more than one proxy: postgres://user:password@host:5432/keymeter; absent: SQLite in data_dir",
  }),
  timezone: {
    place: "timezone",
    env: "KEYMETER_TIMEZONE",
    schema: z.string().refine(isZone, "an IANA time zone such as Europe/Berlin"),
    fallback: "UTC",
    says: "of days, weeks and months",
  },
  logLevel: {
    place: "log_level",
    env: "KEYMETER_LOG_LEVEL",
    schema: z.enum(["trace", "debug", "info", "warn", "error", "silent"]),
    fallback: "info",
    says: "trace, debug, info, warn, error or silent",
  },
  drainSeconds: {
    place: "drain_seconds",
    env: "KEYMETER_DRAIN_SECONDS",
    schema: z.coerce.number().min(0).max(3600),
    fallback: 10,
    says: "how long a stop waits for open requests",
  },
  tagsInBudgets: {
    place: "tags_in_budgets",
    env: "KEYMETER_TAGS_IN_BUDGETS",
    schema: z.union([z.boolean(), z.enum(["on", "off"]).transform((word) => word === "on")]),
    fallback: false,
    says: "on: a tag names the team or project whose budget pays, so that who holds a key can choose it",
    example: "off",
  },
  prometheus: {
    place: "prometheus",
    env: "KEYMETER_PROMETHEUS",
    schema: z.enum(["auto", "off"]),
    fallback: "auto",
    says: "off: do not run it though it is installed",
  },
  scrapeSeconds: {
    place: "scrape_seconds",
    env: "KEYMETER_SCRAPE_SECONDS",
    schema: z.coerce.number().int().min(1).max(300),
    fallback: 15,
    says: "how often Prometheus reads and evaluates",
  },
  grafanaUrl: {
    place: "grafana_url",
    env: "KEYMETER_GRAFANA_URL",
    schema: z.url(),
    fallback: "http://127.0.0.1:3000",
    says: "what Slack messages link to",
  },
  proxyPort: {
    place: "ports.proxy",
    env: "KEYMETER_PORT",
    schema: port,
    fallback: 4000,
    says: "what clients are pointed at",
  },
  /** Undefined: on this machine. */
  proxyUrl: {
    place: "proxy_ops_url",
    env: "KEYMETER_PROXY_OPS_URL",
    schema: webUrl.transform((url) => url.replace(/\/+$/, "")),
    fallback: undefined,
    says: "where the other programs and the command find the proxy's ops port, where it is on another machine or in another container",
    example: "http://proxy:4001",
  },
  collectorUrl: {
    place: "collector_url",
    env: "KEYMETER_COLLECTOR_URL",
    schema: webUrl.transform((url) => url.replace(/\/+$/, "")),
    fallback: undefined,
    says: "the same of the collector's port",
    example: "http://collector:4002",
  },
  alertsUrl: {
    place: "alerts_url",
    env: "KEYMETER_ALERTS_URL",
    schema: webUrl.transform((url) => url.replace(/\/+$/, "")),
    fallback: undefined,
    says: "the same of the alerts program's port",
    example: "http://alerts:4003",
  },
  opsPort: {
    place: "ports.ops",
    env: "KEYMETER_OPS_PORT",
    schema: port,
    fallback: 4001,
    says: "metrics, health and admin API of the proxy",
  },
  collectorPort: {
    place: "ports.collector",
    env: "KEYMETER_COLLECTOR_PORT",
    schema: port,
    fallback: 4002,
    says: "report pages, metrics and health of the collector",
  },
  alertsPort: {
    place: "ports.alerts",
    env: "KEYMETER_ALERTS_PORT",
    schema: port,
    fallback: 4003,
    says: "runbook, webhook, metrics and health of the alerts program",
  },
  prometheusPort: {
    place: "ports.prometheus",
    env: "KEYMETER_PROMETHEUS_PORT",
    schema: port,
    fallback: 9090,
    says: "of the Prometheus that `keymeter up` runs",
  },
  alertmanagerPort: {
    place: "ports.alertmanager",
    env: "KEYMETER_ALERTMANAGER_PORT",
    schema: port,
    fallback: 9093,
    says: "of the Alertmanager that `keymeter up` runs",
  },
  providers: group({ upstreams: UPSTREAMS }, providersOf),
  /** Where secrets are that references name; read by the room of secrets alone. */
  stores: group(STORES, configureStores, "where secrets are that settings name by a reference"),
} as const satisfies SettingTree;

export type SharedConfig = Values<typeof SHARED_SETTINGS>;

/** Where the books are. */
export type BooksConfig = Pick<SharedConfig, "dataDir" | "ledgerUrl">;

/** The data folder, or the URL of a database: what `ledger/open.ts` opens. */
export function placeOf({ dataDir, ledgerUrl }: BooksConfig): string {
  return ledgerUrl?.reveal() ?? dataDir;
}

/** Opens the admin API; the programs and the command bring it. */
export const ADMIN_TOKEN = secret({
  place: "proxy.admin_token",
  env: "KEYMETER_ADMIN_TOKEN",
  // Words with spaces between them are tokens too, in use since before.
  schema: secretText.regex(PLAIN_LINE, "a secret on one line, of plain characters, with no space at its ends"),
  says: "opens the admin API; made on the first start",
});

/** What digests of keys are made with: by the proxy, and by the command where no proxy runs. */
export const PEPPER = secret({
  place: "proxy.pepper",
  env: "KEYMETER_PEPPER",
  says: "made on the first start; keys are lost with it",
});

/** The proxy enforces; where caps only observe, the collector's gauges know that none can fail. */
export const CAP_MODE = {
  place: "proxy.cap_mode",
  env: "KEYMETER_CAP_MODE",
  schema: z.enum(["enforce", "observe"]),
  fallback: "enforce",
  says: "observe: hard budgets refuse nothing, and count what they would have",
} as const;

/** The collector's pages; messages link to them. */
export const PAGES_URL = {
  place: "collector.pages_url",
  env: "KEYMETER_PAGES_URL",
  schema: webUrl.transform((url) => url.replace(/\/$/, "")),
  fallback: undefined,
  says: "what dashboards link to; absent: http://127.0.0.1:4002 or where the collector listens",
} as const;

/** A secret that an installation makes for itself where none was given. What is wrong goes into the problems. */
export function ownSecretOf(
  dataDir: string,
  name: OwnSecret,
  given: Secret | undefined,
  { problems }: Pick<Reading, "problems">,
): Secret {
  // What it is shows when its store is asked.
  if (given instanceof HeldSecret) {
    given.require((text) => weaknessOf(name, text));
    return given;
  }
  // Nothing is made in a folder that may be the wrong one.
  if (given === undefined && problems.length > 0) return new Secret("");
  try {
    return ownSecret(dataDir, name, given);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    problems.push(
      why.startsWith("E") ? `KEYMETER_DATA_DIR: ${dataDir} cannot be used as the data folder (${why})` : why,
    );
    return new Secret("");
  }
}

function isZone(zone: string): boolean {
  try {
    return new Intl.DateTimeFormat("en-US", { timeZone: zone }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
}
