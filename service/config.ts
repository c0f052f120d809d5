// Settings that every program shares.
import { z } from "zod";
import type { Settings } from "./settings.ts";

const port = (): z.ZodType<number> =>
  z.coerce.number("a port number").int("a whole number").min(0, "0 to 65535").max(65_535, "0 to 65535");

export type SharedConfig = {
  /** Where every program listens. */
  readonly host: string;
  /** Where everything but the proxy\'s port listens; undefined: network.ts decides. */
  readonly innerHost: string | undefined;
  /** What metrics ask others for; undefined: the file metrics-token in the data folder. */
  readonly metricsToken: string | undefined;
  /** The folder of the ledgers and of the secrets made on the first start. */
  readonly dataDir: string;
  /** The IANA zone of days, weeks and months. */
  readonly timezone: string;
  readonly logLevel: string;
  /** Whether a tag that names a team, project or environment counts in budgets of it, where the key has none of its own. */
  readonly tagsInBudgets: boolean;
  readonly proxyPort: number;
  readonly opsPort: number;
  readonly collectorPort: number;
  readonly alertsPort: number;
  /** Run Prometheus and Alertmanager when they are installed. */
  readonly prometheus: "auto" | "off";
  readonly prometheusPort: number;
  readonly alertmanagerPort: number;
  /** How often Prometheus scrapes and evaluates. */
  readonly scrapeSeconds: number;
  /** What Slack messages link to. */
  readonly grafanaUrl: string;
  /** How long a stop waits for open requests. */
  readonly drainSeconds: number;
};

export const SHARED_SETTINGS: Settings<SharedConfig> = {
  innerHost: { place: "inner_host", env: "KEYMETER_INNER_HOST", schema: z.string().min(1), fallback: undefined },
  metricsToken: {
    place: "metrics_token",
    env: "KEYMETER_METRICS_TOKEN",
    schema: z.string().regex(/^[\x21-\x7e]{16,}$/, "a secret of at least 16 characters, without spaces"),
    fallback: undefined,
  },
  host: { place: "host", env: "KEYMETER_HOST", schema: z.string().min(1), fallback: "127.0.0.1" },
  dataDir: { place: "data_dir", env: "KEYMETER_DATA_DIR", schema: z.string().min(1), fallback: "./data" },
  timezone: {
    place: "timezone",
    env: "KEYMETER_TIMEZONE",
    schema: z.string().refine(isZone, "an IANA time zone such as Europe/Berlin"),
    fallback: "UTC",
  },
  logLevel: {
    place: "log_level",
    env: "KEYMETER_LOG_LEVEL",
    schema: z.enum(["trace", "debug", "info", "warn", "error", "silent"]),
    fallback: "info",
  },
  tagsInBudgets: {
    place: "tags_in_budgets",
    env: "KEYMETER_TAGS_IN_BUDGETS",
    schema: z.union([z.boolean(), z.enum(["on", "off"]).transform((word) => word === "on")]) as z.ZodType<boolean>,
    fallback: false,
  },
  proxyPort: { place: "ports.proxy", env: "KEYMETER_PORT", schema: port(), fallback: 4000 },
  opsPort: { place: "ports.ops", env: "KEYMETER_OPS_PORT", schema: port(), fallback: 4001 },
  collectorPort: { place: "ports.collector", env: "KEYMETER_COLLECTOR_PORT", schema: port(), fallback: 4002 },
  alertsPort: { place: "ports.alerts", env: "KEYMETER_ALERTS_PORT", schema: port(), fallback: 4003 },
  prometheus: { place: "prometheus", env: "KEYMETER_PROMETHEUS", schema: z.enum(["auto", "off"]), fallback: "auto" },
  prometheusPort: { place: "ports.prometheus", env: "KEYMETER_PROMETHEUS_PORT", schema: port(), fallback: 9090 },
  alertmanagerPort: { place: "ports.alertmanager", env: "KEYMETER_ALERTMANAGER_PORT", schema: port(), fallback: 9093 },
  scrapeSeconds: {
    place: "scrape_seconds",
    env: "KEYMETER_SCRAPE_SECONDS",
    schema: z.coerce.number().int().min(1).max(300),
    fallback: 15,
  },
  grafanaUrl: { place: "grafana_url", env: "KEYMETER_GRAFANA_URL", schema: z.url(), fallback: "http://127.0.0.1:3000" },
  drainSeconds: {
    place: "drain_seconds",
    env: "KEYMETER_DRAIN_SECONDS",
    schema: z.coerce.number().min(0).max(3600),
    fallback: 10,
  },
};

function isZone(zone: string): boolean {
  try {
    return new Intl.DateTimeFormat("en-US", { timeZone: zone }).resolvedOptions().timeZone !== "";
  } catch {
    return false;
  }
}
