// Settings of the collector. The only reader of process.env here.
import { z } from "zod";
import {
  ADMIN_TOKEN,
  CAP_MODE,
  cron,
  ownSecretOf,
  PAGES_URL,
  SHARED_SETTINGS,
  tokenText,
  webUrl,
} from "../service/config.ts";
import { googleCredentialsAt } from "../service/google-credentials.ts";
import { group, listOf, readConfig, secret } from "../service/settings.ts";
import type { Environment, Reading, SettingTree, Values } from "../service/settings.ts";
import type { GoogleSettings } from "./importers/google.ts";
import { signInRoles } from "./pages/sign-in.ts";
import type { SignInSettings } from "./pages/sign-in.ts";
import { ownKeyRows, readOwnKeys } from "./rotation/own-keys.ts";
import { readRotations, rotationRows } from "./rotation/settings.ts";
import { CLOUDWATCH, OTLP, readCloudWatch, readOtlp } from "./telemetry/settings.ts";
import { THRESHOLD_LINES, thresholdsSchema } from "./thresholds.ts";

const names = z.record(z.string().min(1), z.string().min(1));

/** Google's bill, and the places of its APIs. */
const GOOGLE = {
  credentials: {
    place: "collector.google.credentials",
    env: "KEYMETER_GOOGLE_BILLING_CREDENTIALS",
    schema: z.string().min(1),
    fallback: undefined,
    says: "a service account's key file, or a reference to what it holds",
    mayRefer: true,
  },
  table: {
    place: "collector.google.table",
    env: "KEYMETER_GOOGLE_BILLING_TABLE",
    schema: z
      .string()
      .regex(
        /^[a-z][\w-]{4,40}(:[\w-]+)?\.\w{1,200}\.[\w-]{1,200}$/,
        "project.dataset.table, such as my-project.billing.gcp_billing_export_v1_01AB23_456789_CDEF01",
      ),
    fallback: undefined,
    says: "project.dataset.gcp_billing_export_v1_...",
  },
  projects: {
    place: "collector.google.projects",
    env: "KEYMETER_GOOGLE_BILLING_PROJECTS",
    schema: listOf(z.string().regex(/^[a-z][a-z0-9-]{4,40}$/, "a project id")),
    fallback: [],
    says: "by commas; whose API keys are watched",
  },
  skus: {
    place: "collector.google.skus",
    schema: z.record(
      z.string(),
      z.string().regex(/^[^,]+,\s*\w+$/, 'a model and a token class: "gemini-2.5-pro, output"'),
    ),
    fallback: {},
    says: "what a SKU is, where its description does not tell",
    example: '{ 4D2E-0A1B-9C3F: "gemini-2.5-pro, output" }',
  },
  bigqueryUrl: {
    place: "collector.google.bigquery_url",
    env: "KEYMETER_BIGQUERY_BILLING_URL",
    schema: webUrl,
    fallback: "https://bigquery.googleapis.com",
    says: "where the export is asked for",
  },
  billingUrl: {
    place: "collector.google.billing_url",
    env: "KEYMETER_GOOGLE_BILLING_URL",
    schema: webUrl,
    fallback: "https://cloudbilling.googleapis.com",
    says: "where Google's list prices are asked for",
  },
  monitoringUrl: {
    place: "collector.google.monitoring_url",
    env: "KEYMETER_MONITORING_BILLING_URL",
    schema: webUrl,
    fallback: "https://monitoring.googleapis.com",
    says: "where requests by the hour are asked for",
  },
  apiKeysUrl: {
    place: "collector.google.api_keys_url",
    env: "KEYMETER_API_KEYS_BILLING_URL",
    schema: webUrl,
    fallback: "https://apikeys.googleapis.com",
    says: "where the keys of projects are asked for",
  },
} as const satisfies SettingTree;

/** An identity provider at which readers of the pages sign in. */
const SIGN_IN = {
  issuer: {
    place: "collector.sign_in.issuer",
    env: "KEYMETER_SIGN_IN_ISSUER",
    schema: webUrl,
    fallback: undefined,
    says: "an OpenID Connect provider, such as https://login.example.com",
  },
  clientId: {
    place: "collector.sign_in.client_id",
    env: "KEYMETER_SIGN_IN_CLIENT",
    schema: z.string().min(1),
    fallback: undefined,
    says: "as which Keymeter is registered there; its redirect URI is PAGES_URL/login/callback",
  },
  clientSecret: secret({
    place: "collector.sign_in.client_secret",
    env: "KEYMETER_SIGN_IN_SECRET",
    schema: tokenText,
    says: "absent: a public client, by PKCE alone",
  }),
  groupsClaim: {
    place: "collector.sign_in.groups_claim",
    schema: z.string().min(1),
    fallback: "groups",
    says: "which claim has a person's groups, in the ID token or at userinfo",
  },
  scopes: {
    place: "collector.sign_in.scopes",
    schema: z.string(),
    fallback: "profile email",
    says: "what is asked for beside openid; some providers give groups for a scope of that name",
  },
  roles: {
    place: "collector.sign_in.roles",
    schema: signInRoles,
    fallback: {},
    says: "which groups have which role; who is in none of them sees nothing",
    example: "{ admin: [platform], finance: [finance], read: [engineering], leads: { search-leads: search } }",
  },
} as const satisfies SettingTree;

export const COLLECTOR_SETTINGS = {
  openaiAdminKey: secret({
    place: "collector.openai_admin_key",
    env: "OPENAI_ADMIN_KEY",
    schema: tokenText,
    says: "reads OpenAI's bill",
  }),
  openaiBillingUrl: {
    place: "collector.openai_billing_url",
    env: "KEYMETER_OPENAI_BILLING_URL",
    schema: webUrl,
    fallback: "https://api.openai.com/v1",
    says: "where OpenAI's bill is asked for",
  },
  anthropicAdminKey: secret({
    place: "collector.anthropic_admin_key",
    env: "ANTHROPIC_ADMIN_KEY",
    schema: tokenText,
    says: "reads Anthropic's bill",
  }),
  anthropicBillingUrl: {
    place: "collector.anthropic_billing_url",
    env: "KEYMETER_ANTHROPIC_BILLING_URL",
    schema: webUrl,
    fallback: "https://api.anthropic.com",
    says: "where Anthropic's bill is asked for",
  },
  /** Undefined: no importer. */
  google: group(GOOGLE, readGoogle, "reads Google's bill out of its BigQuery export"),
  billingKeys: {
    place: "collector.billing_keys",
    schema: names,
    fallback: {},
    says: "which key of the provider a metered credential is, where it cannot be told",
    example: "{ fp_0a1b2c3d4e5f: key_AbC }",
  },
  billingModels: {
    place: "collector.billing_models",
    schema: names,
    fallback: {},
    says: "which metered model a billed name means, where it cannot be told",
    example: "{ gpt-4o-mini: gpt-4o-mini-2024-07-18 }",
  },
  /** As written; `rotations` of the config are read from it. */
  rotation: {
    place: "collector.rotation",
    schema: rotationRows,
    fallback: {},
    says: "provider keys that Keymeter replaces: where proxies read each, who makes a new one, how often (docs/rotation.md)",
    example: [
      "openai:",
      '  secret: "vault:secret/keymeter/openai#api_key"',
      '  admin_key: "vault:secret/keymeter/admin#openai"',
      "  project: proj_AbC",
      "  service_account: user-AbC",
      "  every: 60d",
      "anthropic: # the new key is made by hand",
      '  secret: "vault:secret/keymeter/anthropic#api_key"',
      '  admin_key: "vault:secret/keymeter/admin#anthropic"',
      "  every: 90d",
    ],
  },
  keyRotation: {
    place: "collector.key_rotation",
    schema: ownKeyRows,
    fallback: {},
    says: "Keymeter keys that get another secret by a schedule, and where it is written (docs/rotation.md)",
    example: '{ ci: { to: "github:acme/app/KEYMETER_KEY", every: 30d, grace: 24h } }',
  },
  reconcileCron: {
    place: "collector.reconcile_cron",
    env: "KEYMETER_RECONCILE_CRON",
    schema: cron,
    fallback: "17 */3 * * *",
    says: "when bills are read and compared",
  },
  watchCron: {
    place: "collector.watch_cron",
    env: "KEYMETER_WATCH_CRON",
    schema: cron,
    fallback: "*/5 * * * *",
    says: "usage by the hour against the meter: leaks",
  },
  priceListUrl: {
    place: "collector.price_list_url",
    env: "KEYMETER_PRICE_LIST_URL",
    schema: webUrl,
    fallback: undefined,
    says: "a newer list every day; absent: only with `keymeter collector --once prices`",
  },
  /** Opens the report pages; it can read and nothing else. */
  readToken: secret({
    place: "collector.read_token",
    env: "KEYMETER_READ_TOKEN",
    schema: tokenText,
    says: "opens the report pages, and can only read; made on the first start",
  }),
  pagesUrl: PAGES_URL,
  /** Undefined: by tokens alone. */
  signIn: group(SIGN_IN, readSignIn, "signs readers of the pages in at an identity provider (docs/access.md)"),
  reconcileDays: {
    place: "collector.reconcile_days",
    env: "KEYMETER_RECONCILE_DAYS",
    schema: z.coerce.number().int().min(1).max(60),
    fallback: 4,
    says: "bills of the last days are read again",
  },
  closeAfterDays: {
    place: "collector.close_after_days",
    env: "KEYMETER_CLOSE_AFTER_DAYS",
    schema: z.coerce.number().int().min(1).max(90),
    fallback: 4,
    says: "a day is closed so many days after its end, once its bill stands still",
  },
  closeQuietHours: {
    place: "collector.close_quiet_hours",
    env: "KEYMETER_CLOSE_QUIET_HOURS",
    schema: z.coerce
      .number()
      .min(0)
      .max(24 * 90),
    fallback: 48,
    says: "hours for which that bill must not have changed",
  },
  thresholds: {
    place: "collector.thresholds",
    schema: thresholdsSchema,
    fallback: {},
    says: "where alerts draw their lines; shares are of 1, money is USD",
    example: THRESHOLD_LINES,
  },
  teamThresholds: {
    place: "collector.team_thresholds",
    schema: z.record(z.string().min(1), thresholdsSchema),
    fallback: {},
    says: "a team's own; of keys and budgets that belong to it too",
    example: "{ search: { over_forecast: 0.4 } }",
  },
  /** Undefined: nothing is exported by OTLP. */
  otlp: group(OTLP, readOtlp, "exports the books to OpenTelemetry (docs/telemetry.md)"),
  /** Undefined: nothing is exported to CloudWatch. */
  cloudWatch: group(CLOUDWATCH, readCloudWatch, "exports metrics to CloudWatch (docs/telemetry.md)"),
  capMode: CAP_MODE,
  adminToken: ADMIN_TOKEN,
  ...SHARED_SETTINGS,
} as const satisfies SettingTree;

export { cloudOf } from "./rotation/settings.ts";

/** Reads and checks everything; throws a SettingsError that names every problem. */
export function loadCollectorConfig(environment: Environment = process.env): CollectorConfig {
  return readConfig(COLLECTOR_SETTINGS, "collector", environment, finish);
}
export type CollectorConfig = Readonly<ReturnType<typeof finish>>;

function finish(values: Values<typeof COLLECTOR_SETTINGS>, reading: Reading) {
  if (values.signIn && values.pagesUrl === undefined)
    reading.problems.push(
      `${SIGN_IN.issuer.place}: whoever signs in has to be sent back to the pages: say ${PAGES_URL.place} (${PAGES_URL.env})`,
    );
  if (values.signIn && Object.keys(values.signIn.roles).length === 0)
    reading.problems.push(`${SIGN_IN.roles.place} gives no group a role: nobody could sign in`);
  return {
    ...values,
    adminToken: ownSecretOf(values.dataDir, "admin-token", values.adminToken, reading),
    readToken: ownSecretOf(values.dataDir, "read-token", values.readToken, reading),
    rotations: readRotations(values.rotation, values.providers, reading),
    ownKeyRotations: readOwnKeys(values.keyRotation, reading.problems),
  };
}

function readSignIn(
  { issuer, clientId, ...rest }: Values<typeof SIGN_IN>,
  reading: Reading,
): SignInSettings | undefined {
  if ((issuer === undefined) !== (clientId === undefined))
    reading.problems.push(`signing in needs both ${SIGN_IN.issuer.place} and ${SIGN_IN.clientId.place}`);
  return issuer === undefined || clientId === undefined ? undefined : { ...rest, issuer, clientId };
}

function readGoogle(
  { credentials: given, table, ...rest }: Values<typeof GOOGLE>,
  reading: Reading,
): GoogleSettings | undefined {
  if ((given === undefined) !== (table === undefined))
    reading.problems.push(
      `Google's bill needs both ${GOOGLE.credentials.place} (${GOOGLE.credentials.env}) and ${GOOGLE.table.place} (${GOOGLE.table.env})`,
    );
  if (given === undefined) return undefined;
  const credentials = googleCredentialsAt(GOOGLE.credentials, given, reading);
  return table === undefined || !credentials ? undefined : { ...rest, credentials, table };
}
