// Keymeters elsewhere that somebody signed in to: where each is, and the token for it, in a file that only its user can read.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { parse, stringify } from "yaml";
import { z } from "zod";
import { commandEnvironment } from "../config.ts";
import { UsageError } from "../usage-error.ts";

const name = z.string().regex(/^[\w.-]{1,60}$/, "a name of letters, digits, dots and dashes");
const file = z.strictObject({
  current: name.optional(),
  profiles: z.record(name, z.strictObject({ server: z.string(), token: z.string() })),
});

export type Profile = { readonly server: string; readonly token: string };
type Profiles = z.infer<typeof file>;

/** `profiles.yaml` in the folder where settings of a user's programs are. */
export function profilesPath(): string {
  const { XDG_CONFIG_HOME: xdg, APPDATA: windows } = commandEnvironment();
  return join(xdg ?? windows ?? join(homedir(), ".config"), "keymeter", "profiles.yaml");
}

/** The profile of a name, or the one that was signed in to last; undefined: there is none. Throws UsageError for a file that
 *  cannot be read or that others can read. */
export function findProfile(wanted?: string): (Profile & { readonly name: string }) | undefined {
  const { current, profiles } = readProfiles();
  const found = wanted ?? current;
  const profile = found === undefined ? undefined : profiles[found];
  if (found !== undefined && profile) return { name: found, ...profile };
  if (wanted === undefined) return undefined;
  throw new UsageError(
    `there is no profile ${wanted} in ${profilesPath()}${Object.keys(profiles).length === 0 ? "" : `; there are ${Object.keys(profiles).join(", ")}`}: \`keymeter login --profile ${wanted} --server https://...\` makes it`,
  );
}

/** The token of whoever signed in at a server. */
export function tokenOfServer(server: string): string | undefined {
  return Object.values(readProfiles().profiles).find((profile) => isSameServer(profile.server, server))?.token;
}

export function isSameServer(one: string, other: string): boolean {
  const [a, b] = [one, other].map((text) => (URL.canParse(text) ? new URL(text).href.replace(/\/+$/, "") : text));
  return a === b;
}

/** Throws UsageError for what is no name of a profile. */
export function requireProfileName(given: string): void {
  const parsed = name.safeParse(given);
  if (!parsed.success) throw new UsageError(`--profile ${given}: ${parsed.error.issues[0]?.message ?? "no name"}`);
}

/** Keeps a profile, as the current one. */
export function keepProfile(wanted: string, profile: Profile): void {
  const { profiles } = readProfiles();
  write({ current: name.parse(wanted), profiles: { ...profiles, [wanted]: profile } });
}

/** Whether there was one. */
export function dropProfile(wanted: string): boolean {
  const { current, profiles } = readProfiles();
  const { [wanted]: dropped, ...rest } = profiles;
  if (!dropped) return false;
  write({ ...(current === undefined || current === wanted ? {} : { current }), profiles: rest });
  return true;
}

function readProfiles(): Profiles {
  const path = profilesPath();
  if (!existsSync(path)) return { profiles: {} };
  if (process.platform !== "win32" && (statSync(path).mode & 0o077) !== 0)
    throw new UsageError(`${path} holds tokens, and others can read it: chmod 600 ${path}`);
  try {
    return file.parse(parse(readFileSync(path, "utf8")));
  } catch (error) {
    throw new UsageError(
      `${path} cannot be read (${error instanceof z.ZodError ? error.issues[0]?.message : error instanceof Error ? error.message : String(error)}); \`keymeter login\` makes it anew when it is gone`,
    );
  }
}

function write(profiles: Profiles): void {
  const path = profilesPath();
  if (Object.keys(profiles.profiles).length === 0) return rmSync(path);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, stringify(profiles), { mode: 0o600 });
  renameSync(mine, path);
}
