// Settings of the command. The only reader of process.env here.
import { ADMIN_TOKEN, PEPPER, SHARED_SETTINGS } from "../service/config.ts";
import { openSecrets, secretsOf, shareSecrets } from "../service/secrets/index.ts";
import { readConfig } from "../service/settings.ts";
import type { Environment, SettingTree, Values } from "../service/settings.ts";

const COMMAND_SETTINGS = { ...SHARED_SETTINGS, adminToken: ADMIN_TOKEN, pepper: PEPPER } as const satisfies SettingTree;

/** What every verb needs; admin token and pepper where they are not those in the data folder. */
export type CommandConfig = Values<typeof COMMAND_SETTINGS>;

/** What every verb needs: where the books lie and where the programs listen. Sections of the programs are theirs to
 *  check. */
export function loadCommandConfig(environment: Environment = process.env): CommandConfig {
  return readConfig(COMMAND_SETTINGS, "", environment, (values) => values);
}

/** Reads the secrets that references name, before a verb needs them. What is wrong with settings the verb says itself. */
export async function openCommandSecrets(environment: Environment = process.env): Promise<void> {
  let config: CommandConfig;
  try {
    config = loadCommandConfig(environment);
  } catch {
    return;
  }
  if (secretsOf(config).length === 0) return;
  const opened = await openSecrets(config, QUIET);
  opened.stop();
  shareSecrets(config);
}

/** A log that nobody reads. */
export const QUIET = { warn: () => undefined, info: () => undefined };

/** The environment that a supervisor hands on, in parts. */
export function commandEnvironment(): Environment {
  return process.env;
}

/** Under `keymeter up` a terminal's Ctrl-C reaches the programs too; the supervisor then sends SIGTERM in order. */
export function isSupervised(environment: Environment = process.env): boolean {
  return environment["KEYMETER_SUPERVISED"] === "1";
}
