// Settings of the command. The only reader of process.env here.
import { z } from "zod";
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { Secret } from "../service/secret.ts";
import { readSettings, SettingsError } from "../service/settings.ts";
import type { Environment, Settings } from "../service/settings.ts";

/** What every verb needs, and the admin token where it is not the one in the data folder. */
export type CommandConfig = SharedConfig & { readonly adminToken?: Secret };

const COMMAND_SETTINGS: Settings<SharedConfig & { adminToken: string | undefined }> = {
  ...SHARED_SETTINGS,
  adminToken: {
    place: "proxy.admin_token",
    env: "KEYMETER_ADMIN_TOKEN",
    schema: z.string().min(1),
    fallback: undefined,
  },
};

/** What every verb needs: where the books lie and where the programs listen. Sections of the programs are theirs to check. */
export function loadCommandConfig(environment: Environment = process.env): CommandConfig {
  const problems: string[] = [];
  const { adminToken, ...config } = readSettings(COMMAND_SETTINGS, "", environment, problems);
  if (problems.length > 0) throw new SettingsError(problems);
  return adminToken === undefined ? config : { ...config, adminToken: new Secret(adminToken) };
}

/** The environment that a supervisor hands on, in parts. */
export function commandEnvironment(): Environment {
  return process.env;
}
