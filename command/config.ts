// Settings of the command. The only reader of process.env here.
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { readSettings } from "../service/settings.ts";
import type { Environment } from "../service/settings.ts";

/** What every verb needs: where the books lie and where the programs listen. Sections of the programs are theirs to check. */
export function loadCommandConfig(environment: Environment = process.env): SharedConfig {
  return readSettings(SHARED_SETTINGS, "", environment);
}

/** The environment that a supervisor hands on, in parts. */
export function commandEnvironment(): Environment {
  return process.env;
}
