// How the command is typed so that it finds this Keymeter: it looks for books and programs by its own settings, so those that are not the defaults go in
// front of it.
import { resolve } from "node:path";
import type { Environment } from "./settings.ts";

const NAMED = [
  "KEYMETER_CONFIG",
  "KEYMETER_DATA_DIR",
  "KEYMETER_HOST",
  "KEYMETER_INNER_HOST",
  "KEYMETER_OPS_PORT",
  "KEYMETER_COLLECTOR_PORT",
  "KEYMETER_ALERTS_PORT",
];
const PATHS = new Set(["KEYMETER_CONFIG", "KEYMETER_DATA_DIR"]);

/** "KEYMETER_DATA_DIR=/srv/keymeter ", or nothing. */
export function settingsBefore(environment: Environment): string {
  return NAMED.flatMap((name) => {
    const value = environment[name];
    return value ? [`${name}=${PATHS.has(name) ? resolve(value) : value} `] : [];
  }).join("");
}
