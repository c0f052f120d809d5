// How the command is typed so that it finds this Keymeter: it looks for books and programs by its own settings, so
// those that are not the defaults go in front of it.
import { resolve } from "node:path";
import { SHARED_SETTINGS } from "./config.ts";
import { FILE_VARIABLE } from "./settings.ts";
import type { Environment } from "./settings.ts";

const { dataDir, host, innerHost, opsPort, collectorPort, alertsPort } = SHARED_SETTINGS;
const NAMED = [FILE_VARIABLE, ...[dataDir, host, innerHost, opsPort, collectorPort, alertsPort].map(({ env }) => env)];
const PATHS: ReadonlySet<string> = new Set([FILE_VARIABLE, dataDir.env]);

/** "KEYMETER_DATA_DIR=/srv/keymeter ", or nothing. */
export function settingsBefore(environment: Environment): string {
  return NAMED.flatMap((name) => {
    const value = environment[name];
    return value ? [`${name}=${PATHS.has(name) ? resolve(value) : value} `] : [];
  }).join("");
}
