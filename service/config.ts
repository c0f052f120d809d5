// Settings that more than one program reads.
import { z } from "zod";
import { googleCredentials, machineCredentials } from "./google-credentials.ts";
import { HeldSecret } from "./secrets/index.ts";
import type { VaultLogin } from "./secrets/vault.ts";
import { ownSecret, Secret, weaknessOf } from "./secret.ts";
import type { OwnSecret } from "./secret.ts";
import { group, secret, secretText } from "./settings.ts";
import type { Reading, SettingTree, Values } from "./settings.ts";
import { providersOf, upstreamRows } from "./upstreams.ts";

const port = z.coerce.number("a port number").int("a whole number").min(0, "0 to 65535").max(65_535, "0 to 65535");
const ONE_LINE = /^[\x21-\x7e]+$/;
const PLAIN_LINE = /^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/;
/** A secret that travels in headers. */
export const tokenText = z.string().regex(ONE_LINE, "a secret on one line, without spaces");
/** Where people reach something. */
export const webUrl = z.url({ protocol: /^https?$/, error: "an http or https URL" });
export const cron = z.string().regex(/^(\S+\s+){4,5}\S+$/, "a cron expression of five or six fields");

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

const seconds = z.coerce.number("a number of seconds").int("whole seconds").min(1).max(86_400);

const STORES = {
  refreshSeconds: {
    place: "secrets.refresh",
    env: "KEYMETER_SECRETS_REFRESH",
    schema: seconds,
    fallback: undefined,
    says: "seconds after which a secret is asked for again; absent: 60, of files 10",
  },
  maxStaleSeconds: {
    place: "secrets.max_stale",
    env: "KEYMETER_SECRETS_MAX_STALE",
    schema: seconds,
    fallback: undefined,
    says: "seconds after which a secret that cannot be asked for again is used no longer; absent: the last good one goes on",
  },
  vaultAddress: {
    place: "secrets.vault.address",
    env: "VAULT_ADDR",
    schema: z.string().min(1),
    fallback: undefined,
    says: "Vault or OpenBao, for vault:MOUNT/PATH#FIELD (key-value store, version 2)",
    example: "https://vault.example.com:8200",
  },
  vaultNamespace: {
    place: "secrets.vault.namespace",
    env: "VAULT_NAMESPACE",
    schema: z.string().min(1),
    fallback: undefined,
    says: "the namespace there",
  },
  vaultToken: secret({
    place: "secrets.vault.token",
    env: "VAULT_TOKEN",
    schema: z.string().min(1),
    says: "a token for it, such as file:/run/secrets/vault-token; or one of the sign-ins below",
  }),
  vaultRoleId: {
    place: "secrets.vault.role_id",
    env: "VAULT_ROLE_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "AppRole: the role",
  },
  vaultSecretId: secret({
    place: "secrets.vault.secret_id",
    env: "VAULT_SECRET_ID",
    schema: z.string().min(1),
    says: "AppRole: its secret",
  }),
  vaultRole: {
    place: "secrets.vault.role",
    env: "KEYMETER_VAULT_ROLE",
    schema: z.string().min(1),
    fallback: undefined,
    says: "sign-in by a JWT: the role",
  },
  vaultJwtFile: {
    place: "secrets.vault.jwt_file",
    env: "KEYMETER_VAULT_JWT_FILE",
    schema: z.string().min(1),
    fallback: undefined,
    says: "where the JWT is; absent: Kubernetes' own token",
  },
  vaultMount: {
    place: "secrets.vault.mount",
    env: "KEYMETER_VAULT_MOUNT",
    schema: z.string().regex(/^[\w-]+(\/[\w-]+)*$/, "a path such as approle"),
    fallback: undefined,
    says: "where the sign-in is mounted; absent: approle; kubernetes, or jwt with a jwt_file",
  },
  connectAddress: {
    place: "secrets.onepassword.address",
    env: "OP_CONNECT_HOST",
    schema: z.string().min(1),
    fallback: undefined,
    says: "1Password's Connect server, for op://VAULT/ITEM/FIELD",
    example: "http://connect.example.com:8080",
  },
  connectToken: secret({
    place: "secrets.onepassword.token",
    env: "OP_CONNECT_TOKEN",
    schema: z.string().min(1),
    says: "a token for it, such as file:/run/secrets/connect-token",
  }),
  serviceAccountToken: secret({
    place: "secrets.onepassword.service_account_token",
    env: "OP_SERVICE_ACCOUNT_TOKEN",
    schema: z.string().min(1),
    says: "a service account's token, in place of a Connect server; needs the package @1password/sdk",
  }),
  awsRegion: {
    place: "secrets.aws.region",
    env: "AWS_REGION",
    schema: z.string().min(1),
    fallback: undefined,
    says: "AWS's region, for aws-sm:NAME#FIELD; absent: as AWS's tools find it. Needs the package @aws-sdk/client-secrets-manager",
  },
  awsAddress: {
    place: "secrets.aws.url",
    env: "KEYMETER_SECRETS_AWS_URL",
    schema: webUrl,
    fallback: undefined,
    says: "where AWS Secrets Manager is; absent: the region's own",
  },
  awsAccessKeyId: {
    place: "secrets.aws.access_key_id",
    env: "KEYMETER_SECRETS_AWS_ACCESS_KEY_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "a user's access key; absent: what this machine is to AWS (a role, a profile)",
  },
  awsSecretAccessKey: secret({
    place: "secrets.aws.secret_access_key",
    env: "KEYMETER_SECRETS_AWS_SECRET_ACCESS_KEY",
    schema: z.string().min(1),
    says: "its secret",
  }),
  azureTenantId: {
    place: "secrets.azure.tenant_id",
    env: "KEYMETER_SECRETS_AZURE_TENANT_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "an application's tenant, for azure-kv:https://VAULT.vault.azure.net/NAME; absent: what this machine is to Azure. Needs the package @azure/identity",
  },
  azureClientId: {
    place: "secrets.azure.client_id",
    env: "KEYMETER_SECRETS_AZURE_CLIENT_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "the application",
  },
  azureClientSecret: secret({
    place: "secrets.azure.client_secret",
    env: "KEYMETER_SECRETS_AZURE_CLIENT_SECRET",
    schema: z.string().min(1),
    says: "its secret",
  }),
  azureAuthority: {
    place: "secrets.azure.authority",
    env: "KEYMETER_SECRETS_AZURE_AUTHORITY",
    schema: webUrl,
    fallback: undefined,
    says: "who signs in, where that is not Azure's public cloud",
    example: "https://login.microsoftonline.us",
  },
  githubToken: secret({
    place: "secrets.github.token",
    env: "KEYMETER_SECRETS_GITHUB_TOKEN",
    schema: z.string().min(1),
    says: "may write secrets of GitHub Actions, for `keymeter keys rotate --to github:OWNER/REPO/NAME`; needs the package libsodium-wrappers",
  }),
  githubAddress: {
    place: "secrets.github.url",
    env: "KEYMETER_SECRETS_GITHUB_URL",
    schema: webUrl,
    fallback: "https://api.github.com",
    says: "where GitHub's API is",
  },
  googleAddress: {
    place: "secrets.google.url",
    env: "KEYMETER_SECRETS_GOOGLE_URL",
    schema: webUrl,
    fallback: "https://secretmanager.googleapis.com",
    says: "where Google's Secret Manager is, for gcp-sm:projects/PROJECT/secrets/NAME",
  },
  googleCredentials: {
    place: "secrets.google.credentials",
    env: "KEYMETER_SECRETS_GOOGLE_CREDENTIALS",
    schema: z.string().min(1),
    fallback: undefined,
    says: "a service account's key file; absent: what this machine is to Google",
  },
} as const satisfies SettingTree;

export const SHARED_SETTINGS = {
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

const KUBERNETES_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/** Tells the room of secrets where its stores are. What is lacking matters to who names one. */
function configureStores(values: Values<typeof STORES>, { room }: Reading): undefined {
  const {
    refreshSeconds,
    maxStaleSeconds,
    connectAddress,
    connectToken,
    serviceAccountToken,
    googleAddress,
    googleCredentials: file,
  } = values;
  room.configure(
    {
      vault: vaultOf(values),
      op: serviceAccountToken
        ? (cannotOpen(serviceAccountToken, "op") ?? { account: () => serviceAccountToken.reveal().trim() })
        : onePasswordOf(connectAddress, connectToken),
      "aws-sm": awsOf(values),
      "gcp-sm": googleOf(googleAddress, file),
      "azure-kv": azureOf(values),
    },
    { refreshSeconds, maxStaleSeconds },
    { address: values.githubAddress, token: values.githubToken },
  );
}

function onePasswordOf(address: string | undefined, token: Secret | undefined) {
  if (address === undefined)
    return "secrets.onepassword.address (OP_CONNECT_HOST) or service_account_token (OP_SERVICE_ACCOUNT_TOKEN)";
  if (!isWebUrl(address)) return "an http or https URL in secrets.onepassword.address (OP_CONNECT_HOST)";
  if (!token) return "secrets.onepassword.token (OP_CONNECT_TOKEN)";
  return cannotOpen(token, "op") ?? { address, token: () => token.reveal().trim() };
}

function awsOf({
  awsRegion: region,
  awsAddress: address,
  awsAccessKeyId: id,
  awsSecretAccessKey: secret,
}: Values<typeof STORES>) {
  if (id === undefined && secret === undefined) return { region, address, accessKey: undefined };
  if (id === undefined) return "secrets.aws.access_key_id beside its secret";
  if (!secret) return "secrets.aws.secret_access_key beside its id";
  return cannotOpen(secret, "aws-sm") ?? { region, address, accessKey: { id, secret: () => secret.reveal().trim() } };
}

function azureOf({
  azureTenantId: tenantId,
  azureClientId: clientId,
  azureClientSecret: secret,
  azureAuthority: authority,
}: Values<typeof STORES>) {
  if (tenantId === undefined && clientId === undefined && !secret) return { application: undefined, authority };
  if (tenantId === undefined) return "secrets.azure.tenant_id beside client_id and client_secret";
  if (clientId === undefined) return "secrets.azure.client_id beside tenant_id and client_secret";
  if (!secret) return "secrets.azure.client_secret beside tenant_id and client_id";
  const application = { tenantId, clientId, secret: () => secret.reveal().trim() };
  return cannotOpen(secret, "azure-kv") ?? { application, authority };
}

function googleOf(address: string, file: string | undefined) {
  try {
    const credentials = file === undefined ? machineCredentials() : googleCredentials(file);
    return { address, token: () => credentials.reveal() };
  } catch (error) {
    return `another secrets.google.credentials than ${file}: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/** Other programs use the same variables, in forms of their own: what is wrong with them matters to who names the store. */
function isWebUrl(text: string): boolean {
  return webUrl.safeParse(text).success;
}

/** What is in a store cannot open it. */
function cannotOpen(opener: Secret | undefined, scheme: string): string | undefined {
  return opener instanceof HeldSecret && opener.reference.scheme === scheme
    ? `another ${opener.place} than ${opener.reference.text}: it cannot open the store that it is in`
    : undefined;
}

function vaultOf({ vaultAddress: address, vaultNamespace: namespace, ...values }: Values<typeof STORES>) {
  if (address === undefined) return "secrets.vault.address (VAULT_ADDR)";
  if (!isWebUrl(address)) return "an http or https URL in secrets.vault.address (VAULT_ADDR)";
  const login = vaultLogin(values);
  return typeof login === "string" ? login : { address, namespace, login };
}

/** The one way to sign in that settings name; as a text, what they lack. */
function vaultLogin({
  vaultToken: token,
  vaultRoleId: roleId,
  vaultSecretId: secretId,
  vaultRole: role,
  vaultJwtFile: file,
  vaultMount: mount,
}: Omit<Values<typeof STORES>, "vaultAddress" | "vaultNamespace">): VaultLogin | string {
  const unfit = cannotOpen(token, "vault") ?? cannotOpen(secretId, "vault");
  if (unfit !== undefined) return unfit;
  if (role !== undefined)
    return file === undefined
      ? { by: "kubernetes", mount: mount ?? "kubernetes", role, file: KUBERNETES_TOKEN }
      : { by: "jwt", mount: mount ?? "jwt", role, file };
  if (roleId !== undefined && secretId)
    return { by: "approle", mount: mount ?? "approle", roleId, secretId: () => secretId.reveal().trim() };
  if (token) return { by: "token", token: () => token.reveal().trim() };
  return "a sign-in: secrets.vault.token (VAULT_TOKEN), role_id and secret_id (VAULT_ROLE_ID, VAULT_SECRET_ID), or role";
}
