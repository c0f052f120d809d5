// What `keymeter up` checks before it starts anything: the settings of all three programs, what only shows when they
// are seen together, and variables that look like settings and are none.
import { loadAlertsConfig } from "../alerts/config.ts";
import { loadCollectorConfig } from "../collector/config.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import type { ProxyConfig } from "../proxy/config.ts";
import { SHARED_SETTINGS, UPSTREAMS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { FILE_VARIABLE, readSettings, SettingsError } from "../service/settings.ts";
import type { Environment } from "../service/settings.ts";
import type { UpstreamRows } from "../service/upstreams.ts";
import { didYouMean } from "../service/closest.ts";
import { ALL_VARIABLES, namedBy, PROGRAMS } from "./settings.ts";

/** Ours, and no settings: where the file is, who started us, what tests use. */
const NO_SETTINGS = [FILE_VARIABLE, "KEYMETER_SUPERVISED", "KEYMETER_SEED", "KEYMETER_TEST_REPORT"];
const PORTS = [
  "proxyPort",
  "opsPort",
  "collectorPort",
  "alertsPort",
  "prometheusPort",
  "alertmanagerPort",
] as const satisfies readonly (keyof SharedConfig)[];
const OF_PROMETHEUS: ReadonlySet<keyof SharedConfig> = new Set(["prometheusPort", "alertmanagerPort"]);

/** Reads them all. Throws one SettingsError with everything that is wrong. */
export function checkAllSettings(environment: Environment): ProxyConfig {
  const problems = new Set<string>();
  const attempt = <T>(load: (environment: Environment) => T): T | undefined => {
    try {
      return load(environment);
    } catch (error) {
      if (!(error instanceof SettingsError)) throw error;
      for (const problem of error.problems) problems.add(problem);
      return undefined;
    }
  };
  const config = attempt(loadProxyConfig);
  attempt(loadCollectorConfig);
  attempt(loadAlertsConfig);
  if (config) for (const problem of sharedPorts(config)) problems.add(problem);
  if (problems.size > 0 || !config) throw new SettingsError([...problems, ...strayVariables(environment)]);
  return config;
}

/** A sentence for each `KEYMETER_...` variable that nobody reads: most likely a slip of the pen, and the default holds
 *  in silence. What orchestrators set for a service of our name is none. */
export function strayVariables(environment: Environment): string[] {
  const { rows } = readSettings({ rows: UPSTREAMS }, "", environment, []);
  const ofUpstreams = Object.values(rows as UpstreamRows).map(({ api_key_env: variable }) => variable);
  const known = new Set([
    ...NO_SETTINGS,
    ...ALL_VARIABLES,
    ...ofUpstreams,
    ...PROGRAMS.flatMap((program) => [...namedBy(program, environment)]),
  ]);
  return Object.keys(environment)
    .filter((name) => name.startsWith("KEYMETER_") && !known.has(name) && !SERVICE_LINK.test(name))
    .map((name) => {
      const meant = didYouMean(name, [...ALL_VARIABLES]);
      return `${name}: there is no setting of this name${meant === "" ? ";" : meant} \`keymeter.example.yaml\` lists them all`;
    });
}

const SERVICE_LINK = /_SERVICE_(HOST|PORT)|_PORT_\d+_(TCP|UDP)|_PORT$/;

/** Ports that two listeners would fight over; 0 is any free one. */
function sharedPorts(config: SharedConfig): string[] {
  const used = PORTS.filter((name) => config.prometheus === "auto" || !OF_PROMETHEUS.has(name));
  return used.flatMap((name, i) => {
    const first = used.slice(0, i).find((other) => config[other] === config[name] && config[name] !== 0);
    return first === undefined
      ? []
      : [
          `${SHARED_SETTINGS[name].env}: ${config[name]} is the port of ${SHARED_SETTINGS[first].env} too; give each its own`,
        ];
  });
}
