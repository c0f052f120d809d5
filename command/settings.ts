// The settings of all programs, seen together: whose each variable is, and which of an environment a program gets.
import { ALERTS_SETTINGS } from "../alerts/config.ts";
import { receiverTexts } from "../alerts/receivers/settings.ts";
import type { ReceiverRows } from "../alerts/receivers/settings.ts";
import { cloudOf, COLLECTOR_SETTINGS } from "../collector/config.ts";
import type { CollectorConfig } from "../collector/config.ts";
import { PROXY_SETTINGS } from "../proxy/config.ts";
import { UPSTREAMS } from "../service/config.ts";
import { storeOfVariable } from "../service/store-settings.ts";
import { FILE_VARIABLE, readSettings, settingsIn } from "../service/settings.ts";
import type { Environment, SettingTree } from "../service/settings.ts";
import { credentialRows } from "../service/upstreams.ts";
import type { CredentialRows, UpstreamRows } from "../service/upstreams.ts";

export const PROGRAMS = ["proxy", "collector", "alerts"] as const;
export type Program = (typeof PROGRAMS)[number];

/** What each program reads, as it declares it. */
export const DECLARED: { readonly [program in Program]: SettingTree } = {
  proxy: PROXY_SETTINGS,
  collector: COLLECTOR_SETTINGS,
  alerts: ALERTS_SETTINGS,
};

const VARIABLES = new Map(PROGRAMS.map((program) => [program, variablesOf(DECLARED[program])] as const));

/** Every variable that is a setting of some program. */
export const ALL_VARIABLES: ReadonlySet<string> = new Set([...VARIABLES.values()].flatMap((names) => [...names]));

/** What any program may need of the machine that it runs on. */
const OF_THE_MACHINE = new Set(
  `PATH HOME PWD USER LOGNAME SHELL TERM HOSTNAME TZ TMPDIR TMP TEMP LANG LANGUAGE LC_ALL LC_CTYPE LC_TIME LD_LIBRARY_PATH LD_PRELOAD MALLOC_ARENA_MAX
  UV_THREADPOOL_SIZE NODE_ENV NODE_OPTIONS NODE_DEBUG NODE_PATH NODE_NO_WARNINGS NODE_EXTRA_CA_CERTS NODE_USE_SYSTEM_CA NODE_USE_ENV_PROXY
  NODE_TLS_REJECT_UNAUTHORIZED NODE_COMPILE_CACHE NODE_V8_COVERAGE SSL_CERT_FILE SSL_CERT_DIR OPENSSL_CONF HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY
  GRPC_DEFAULT_SSL_ROOTS_FILE_PATH GRPC_PROXY NO_GRPC_PROXY NIX_LD NIX_LD_LIBRARY_PATH
  NO_COLOR FORCE_COLOR NOTIFY_SOCKET INVOCATION_ID JOURNAL_STREAM
  SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERPROFILE USERNAME APPDATA LOCALAPPDATA PROGRAMDATA COMPUTERNAME OS`.split(
    /\s+/,
  ),
);

/** What a Google sign-in by another cloud's identity goes by; the collector reads bills with one. */
const OF_A_SIGN_IN = new Set(["GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES", "AWS_REGION", "AWS_DEFAULT_REGION"]);

const OF_GOOGLE = new Set(["GCE_METADATA_HOST", "GCE_METADATA_IP", "CLOUDSDK_CONFIG", "GOOGLE_CLOUD_PROJECT"]);

/** What a machine is to a cloud, where a program's secrets are there. */
const OF_CLOUDS: readonly (readonly [scheme: string, isOf: (variable: string) => boolean])[] = [
  ["gcp-sm", (name) => OF_GOOGLE.has(name)],
  // A key for models is no sign-in.
  ["aws-sm", (name) => name.startsWith("AWS_") && name !== "AWS_BEARER_TOKEN_BEDROCK"],
  ["azure-kv", (name) => /^(?:AZURE|IDENTITY|MSI)_/.test(name) && !/KEY/.test(name)],
];

/** What of an environment a program gets: its own settings, and what any has of the machine. A variable that is
 *  nobody's setting may be a provider's key that keymeter.yaml names, or what makes one: those are the proxy's. */
export function environmentOf(program: Program, environment: Environment): NodeJS.ProcessEnv {
  const own = VARIABLES.get(program);
  const named = namedBy(program, environment);
  const others = PROGRAMS.filter((one) => one !== program).map((one) => namedBy(one, environment));
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => {
      if (named.has(name)) return true;
      // What opens a store is for whoever has a secret there.
      const store = storeOfVariable(name);
      if (store !== undefined && !OF_A_SIGN_IN.has(name)) return usesStore(store, program, environment);
      if (name === FILE_VARIABLE || own?.has(name)) return true;
      if (ALL_VARIABLES.has(name) || others.some((ones) => ones.has(name))) return false;
      if (program === "collector" && OF_A_SIGN_IN.has(name)) return true;
      if (OF_CLOUDS.some(([scheme, isOf]) => isOf(name) && usesStore(scheme, program, environment))) return true;
      return program === "proxy" || OF_THE_MACHINE.has(name.toUpperCase());
    }),
  );
}

/** Variables in which a program's secrets are, by references of its settings (`env:NAME`) or by their names. */
export function namedBy(program: Program, environment: Environment): ReadonlySet<string> {
  const { texts, variables } = secretTexts(program, environment);
  const referenced = texts.flatMap((text) => /^env:(\w+)$/.exec(text)?.[1] ?? []);
  return new Set([...variables, ...referenced]);
}

function usesStore(scheme: string, program: Program, environment: Environment): boolean {
  return secretTexts(program, environment).texts.some((text) => text.startsWith(`${scheme}:`));
}

/** What stands where a program's secrets stand, and the variables that name keys of upstreams. */
function secretTexts(
  program: Program,
  environment: Environment,
): { readonly texts: readonly string[]; readonly variables: readonly string[] } {
  const secrets = Object.entries(settingsIn(DECLARED[program])).filter(
    ([, { isSecret, mayRefer }]) => isSecret ?? mayRefer,
  );
  // What is wrong with them the program says itself.
  const values = readSettings(Object.fromEntries(secrets), program, environment, []);
  const rows = program === "proxy" ? credentialRowsOf(environment) : [];
  const rotated = program === "collector" ? rotationTexts(environment) : [];
  const clouds = program === "collector" && sendsAsThisMachine(environment) ? ["aws-sm:"] : [];
  const receivers = program === "alerts" ? receiverTextsOf(environment) : [];
  const variables = rows.flatMap(({ api_key_env: variable }) => variable ?? []);
  const texts = [
    ...Object.values(values),
    ...rows.map(({ api_key: key }) => key),
    ...rotated,
    ...clouds,
    ...receivers,
    ...variables.map((name) => environment[name]),
  ];
  return { texts: texts.filter((text) => typeof text === "string"), variables };
}

/** Where the keys are that rotations write, and those that make them; a maker that the machine's own sign-in is enough for uses
 *  that cloud. */
function rotationTexts(environment: Environment): readonly (string | undefined)[] {
  const { rotation, keyRotation } = COLLECTOR_SETTINGS;
  const read = readSettings({ rotation, keyRotation }, "collector", environment, []);
  const { rotation: rows, keyRotation: ownKeys } = read as Pick<CollectorConfig, "rotation" | "keyRotation">;
  return [
    ...Object.entries(rows).flatMap(([name, row]) => {
      const cloud = cloudOf(name, row);
      return [row.secret, row.admin_key, ...(cloud === undefined ? [] : [`${cloud}:`])];
    }),
    ...Object.values(ownKeys).flatMap(({ to }) => to),
  ];
}

/** Whether metrics go to CloudWatch as what this machine is to AWS. */
function sendsAsThisMachine(environment: Environment): boolean {
  const { region, accessKeyId } = COLLECTOR_SETTINGS.cloudWatch.members;
  const read = readSettings({ region, accessKeyId }, "collector", environment, []);
  return read["region"] !== undefined && read["accessKeyId"] === undefined;
}

/** The secrets of receivers beside Slack. */
function receiverTextsOf(environment: Environment): readonly string[] {
  const { receiverRows } = ALERTS_SETTINGS;
  const { receiverRows: rows } = readSettings({ receiverRows }, "alerts", environment, []);
  return receiverTexts(rows as ReceiverRows);
}

/** Rows of keymeter.yaml that hold a provider's credential: upstreams, and what they and others have more than one of. */
function credentialRowsOf(environment: Environment): readonly CredentialRows[string][] {
  const named = Object.entries(settingsIn(DECLARED.proxy)).filter(([, { schema }]) => schema === credentialRows);
  const { upstreams, ...more } = readSettings(
    { ...Object.fromEntries(named), upstreams: UPSTREAMS },
    "proxy",
    environment,
    [],
  );
  const rows = Object.values(upstreams as UpstreamRows);
  const groups = [...Object.values(more as { [name: string]: CredentialRows }), ...rows.map((row) => row.credentials)];
  return [...rows, ...groups.flatMap((group) => Object.values(group))];
}

function variablesOf(declared: SettingTree): ReadonlySet<string> {
  return new Set(Object.values(settingsIn(declared)).flatMap(({ env }) => (env === undefined ? [] : [env])));
}
