// Settings of the command. The only reader of process.env here.
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { readSettings, SettingsError } from "../service/settings.ts";
import type { Environment } from "../service/settings.ts";

/** What every verb needs: where the books lie and where the programs listen. Sections of the programs are theirs to check. */
export function loadCommandConfig(environment: Environment = process.env): SharedConfig {
  const problems: string[] = [];
  const config = readSettings(SHARED_SETTINGS, "", environment, problems);
  if (problems.length > 0) throw new SettingsError(problems);
  return config;
}

/** The environment that a supervisor hands on, in parts. */
export function commandEnvironment(): Environment {
  return process.env;
}
