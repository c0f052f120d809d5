// Settings of the collector. The only reader of process.env here.
import { z } from "zod";
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { googleCredentials } from "../service/google-credentials.ts";
import type { GoogleCredentials } from "../service/google-credentials.ts";
import { ownSecret, Secret } from "../service/secret.ts";
import { readSettings, SettingsError } from "../service/settings.ts";
import type { Environment, Settings } from "../service/settings.ts";
import type { GoogleSettings } from "./importers/google.ts";
import { thresholdsSchema } from "./thresholds.ts";
import type { Thresholds, ThresholdSettings } from "./thresholds.ts";

export type CollectorConfig = SharedConfig & {
  /** Reads OpenAI's bill; undefined: no importer. */
  readonly openaiAdminKey: Secret | undefined;
  readonly openaiBillingUrl: string;
  /** Reads Anthropic's bill; undefined: no importer. */
  readonly anthropicAdminKey: Secret | undefined;
  readonly anthropicBillingUrl: string;
  /** Reads Google's bill out of its BigQuery export; undefined: no importer. */
  readonly google: GoogleSettings | undefined;
  /** Which key of the provider a metered credential is, and which metered model a billed name means, where it cannot be told. */
  readonly billingKeys: { readonly [credential: string]: string };
  readonly billingModels: { readonly [billed: string]: string };
  /** How often bills are read, and usage is held against the meter, as cron expressions. */
  readonly reconcileCron: string;
  readonly watchCron: string;
  /** How many past days are read again each time: bills are revised. */
  readonly reconcileDays: number;
  /** A day is closed so many days after its end, once its bill has stood still so long. */
  readonly closeAfterDays: number;
  readonly closeQuietHours: number;
  /** Where a newer price list is fetched from every day; undefined: only when told to, from the list's own place. */
  readonly priceListUrl: string | undefined;
  readonly adminToken: Secret;
  /** Opens the report pages; it can read and nothing else. */
  readonly readToken: Secret;
  /** Where readers find the report pages; undefined: where this program listens. */
  readonly pagesUrl: string | undefined;
  /** The proxy's: where caps only observe, none can fail. */
  readonly capMode: "enforce" | "observe";
} & ThresholdSettings;

type Raw = SharedConfig & {
  openaiAdminKey: string | undefined;
  openaiBillingUrl: string;
  anthropicAdminKey: string | undefined;
  anthropicBillingUrl: string;
  googleBillingCredentials: string | undefined;
  googleBillingTable: string | undefined;
  googleProjects: readonly string[];
  googleSkus: { [skuId: string]: string };
  bigqueryUrl: string;
  googleBillingUrl: string;
  monitoringUrl: string;
  apiKeysUrl: string;
  billingKeys: { [credential: string]: string };
  billingModels: { [billed: string]: string };
  reconcileCron: string;
  watchCron: string;
  reconcileDays: number;
  closeAfterDays: number;
  closeQuietHours: number;
  priceListUrl: string | undefined;
  adminToken: string | undefined;
  readToken: string | undefined;
  pagesUrl: string | undefined;
  capMode: "enforce" | "observe";
  thresholds: Partial<Thresholds>;
  teamThresholds: { [team: string]: Partial<Thresholds> };
};

const secretText = z.string().regex(/^[\x21-\x7e]+$/, "a secret on one line, without spaces") as z.ZodType<
  string | undefined
>;
const origin = z.url({ protocol: /^https?$/, error: "an http or https URL" });
const cron = z.string().regex(/^(\S+\s+){4,5}\S+$/, "a cron expression of five or six fields");
const names = z.record(z.string().min(1), z.string().min(1));

export const COLLECTOR_SETTINGS: Settings<Raw> = {
  ...SHARED_SETTINGS,
  openaiAdminKey: {
    place: "collector.openai_admin_key",
    env: "OPENAI_ADMIN_KEY",
    schema: secretText,
    fallback: undefined,
  },
  openaiBillingUrl: {
    place: "collector.openai_billing_url",
    env: "KEYMETER_OPENAI_BILLING_URL",
    schema: origin,
    fallback: "https://api.openai.com/v1",
  },
  anthropicAdminKey: {
    place: "collector.anthropic_admin_key",
    env: "ANTHROPIC_ADMIN_KEY",
    schema: secretText,
    fallback: undefined,
  },
  anthropicBillingUrl: {
    place: "collector.anthropic_billing_url",
    env: "KEYMETER_ANTHROPIC_BILLING_URL",
    schema: origin,
    fallback: "https://api.anthropic.com",
  },
  googleBillingCredentials: {
    place: "collector.google.credentials",
    env: "KEYMETER_GOOGLE_BILLING_CREDENTIALS",
    schema: z.string().min(1),
    fallback: undefined,
  },
  googleBillingTable: {
    place: "collector.google.table",
    env: "KEYMETER_GOOGLE_BILLING_TABLE",
    schema: z
      .string()
      .regex(
        /^[a-z][\w-]{4,40}(:[\w-]+)?\.\w{1,200}\.[\w-]{1,200}$/,
        "project.dataset.table, such as my-project.billing.gcp_billing_export_v1_01AB23_456789_CDEF01",
      ),
    fallback: undefined,
  },
  googleProjects: {
    place: "collector.google.projects",
    env: "KEYMETER_GOOGLE_BILLING_PROJECTS",
    schema: z.preprocess(
      (value) => (typeof value === "string" ? value.split(",").map((part) => part.trim()) : value),
      z.array(z.string().regex(/^[a-z][a-z0-9-]{4,40}$/, "a project id")),
    ) as z.ZodType<readonly string[]>,
    fallback: [],
  },
  googleSkus: {
    place: "collector.google.skus",
    schema: z.record(
      z.string(),
      z.string().regex(/^[^,]+,\s*\w+$/, 'a model and a token class: "gemini-2.5-pro, output"'),
    ),
    fallback: {},
  },
  bigqueryUrl: {
    place: "collector.google.bigquery_url",
    env: "KEYMETER_BIGQUERY_BILLING_URL",
    schema: origin,
    fallback: "https://bigquery.googleapis.com",
  },
  googleBillingUrl: {
    place: "collector.google.billing_url",
    env: "KEYMETER_GOOGLE_BILLING_URL",
    schema: origin,
    fallback: "https://cloudbilling.googleapis.com",
  },
  monitoringUrl: {
    place: "collector.google.monitoring_url",
    env: "KEYMETER_MONITORING_BILLING_URL",
    schema: origin,
    fallback: "https://monitoring.googleapis.com",
  },
  apiKeysUrl: {
    place: "collector.google.api_keys_url",
    env: "KEYMETER_API_KEYS_BILLING_URL",
    schema: origin,
    fallback: "https://apikeys.googleapis.com",
  },
  billingKeys: { place: "collector.billing_keys", schema: names, fallback: {} },
  billingModels: { place: "collector.billing_models", schema: names, fallback: {} },
  reconcileCron: {
    place: "collector.reconcile_cron",
    env: "KEYMETER_RECONCILE_CRON",
    schema: cron,
    fallback: "17 */3 * * *",
  },
  watchCron: { place: "collector.watch_cron", env: "KEYMETER_WATCH_CRON", schema: cron, fallback: "*/5 * * * *" },
  reconcileDays: {
    place: "collector.reconcile_days",
    env: "KEYMETER_RECONCILE_DAYS",
    schema: z.coerce.number().int().min(1).max(60),
    fallback: 4,
  },
  closeAfterDays: {
    place: "collector.close_after_days",
    env: "KEYMETER_CLOSE_AFTER_DAYS",
    schema: z.coerce.number().int().min(1).max(90),
    fallback: 4,
  },
  closeQuietHours: {
    place: "collector.close_quiet_hours",
    env: "KEYMETER_CLOSE_QUIET_HOURS",
    schema: z.coerce
      .number()
      .min(0)
      .max(24 * 90),
    fallback: 48,
  },
  priceListUrl: {
    place: "collector.price_list_url",
    env: "KEYMETER_PRICE_LIST_URL",
    schema: z.url({ protocol: /^https?$/ }),
    fallback: undefined,
  },
  capMode: {
    place: "proxy.cap_mode",
    env: "KEYMETER_CAP_MODE",
    schema: z.enum(["enforce", "observe"]),
    fallback: "enforce",
  },
  thresholds: { place: "collector.thresholds", schema: thresholdsSchema, fallback: {} },
  teamThresholds: {
    place: "collector.team_thresholds",
    schema: z.record(z.string().min(1), thresholdsSchema),
    fallback: {},
  },
  adminToken: { place: "proxy.admin_token", env: "KEYMETER_ADMIN_TOKEN", schema: secretText, fallback: undefined },
  pagesUrl: {
    place: "collector.pages_url",
    env: "KEYMETER_PAGES_URL",
    schema: z.url({ protocol: /^https?$/ }).transform((url) => url.replace(/\/$/, "")),
    fallback: undefined,
  },
  readToken: { place: "collector.read_token", env: "KEYMETER_READ_TOKEN", schema: secretText, fallback: undefined },
};

/** Reads and checks everything; throws a SettingsError that names every problem. */
export function loadCollectorConfig(environment: Environment = process.env): CollectorConfig {
  const problems: string[] = [];
  const {
    openaiAdminKey,
    anthropicAdminKey,
    adminToken,
    readToken,
    googleBillingCredentials: file,
    googleBillingTable: table,
    googleProjects: projects,
    googleSkus: skus,
    bigqueryUrl,
    googleBillingUrl: billingUrl,
    monitoringUrl,
    apiKeysUrl,
    ...rest
  } = readSettings(COLLECTOR_SETTINGS, "collector", environment, problems);
  let credentials: GoogleCredentials | undefined;
  if ((file === undefined) !== (table === undefined))
    problems.push(
      "Google's bill needs both collector.google.credentials (KEYMETER_GOOGLE_BILLING_CREDENTIALS) and collector.google.table (KEYMETER_GOOGLE_BILLING_TABLE)",
    );
  if (file !== undefined)
    try {
      credentials = googleCredentials(file);
    } catch (error) {
      problems.push(
        `collector.google.credentials (KEYMETER_GOOGLE_BILLING_CREDENTIALS) ${file}: ${error instanceof Error ? error.message : String(error)}; give the path of a service account's key file`,
      );
    }
  if (problems.length > 0) throw new SettingsError(problems);
  const secret = (text: string | undefined): Secret | undefined => (text === undefined ? undefined : new Secret(text));
  return Object.freeze({
    ...rest,
    openaiAdminKey: secret(openaiAdminKey),
    anthropicAdminKey: secret(anthropicAdminKey),
    google:
      credentials && table !== undefined
        ? { credentials, table, projects, skus, bigqueryUrl, billingUrl, monitoringUrl, apiKeysUrl }
        : undefined,
    adminToken: ownSecret(rest.dataDir, "admin-token", adminToken),
    readToken: ownSecret(rest.dataDir, "read-token", readToken),
  });
}
