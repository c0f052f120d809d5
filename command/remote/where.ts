// Where a verb runs: here, or at a Keymeter elsewhere; by the options before the verb, the environment, and who signed in.
import { readFileSync } from "node:fs";
import { commandEnvironment } from "../config.ts";
import { UsageError } from "../usage-error.ts";
import { findAsker } from "../asker.ts";
import { findProfile, isSameServer, tokenOfServer } from "./profiles.ts";
import { RULES } from "./rules.ts";
import { WHERE_OPTIONS } from "./split.ts";
import type { Given } from "./split.ts";

/** A Keymeter elsewhere, and the token for it. */
export type Where = { readonly server: URL; readonly token: string; readonly profile?: string };

/** Undefined: here. */
export function whereOf(given: Given, verb: string): Where | undefined {
  const env = commandEnvironment();
  const isAsked = WHERE_OPTIONS.some((option) => given[option] !== undefined);
  const empty = WHERE_OPTIONS.find((option) => given[option] === "");
  if (empty !== undefined) throw new UsageError(`${empty} needs a value, before the verb`);
  // Who asks from elsewhere is answered here.
  if (findAsker()) return undefined;
  if (given.isLocal) {
    if (isAsked) throw new UsageError("say --local, or where else; not both");
    return undefined;
  }
  if (!Object.hasOwn(RULES, verb)) {
    if (isAsked && verb === "login")
      throw new UsageError("say it behind the verb: keymeter login --server https://...");
    if (isAsked)
      throw new UsageError(`\`keymeter ${verb}\` runs on its own machine only: leave ${WHERE_OPTIONS.join(", ")} out`);
    return undefined;
  }
  const named = given["--profile"] ?? (given["--server"] === undefined ? env["KEYMETER_PROFILE"] : undefined);
  const server = given["--server"] ?? (named === undefined ? env["KEYMETER_SERVER"] : undefined);
  if (server !== undefined) return { server: serverUrl(server), token: tokenFor(given, server) };
  // A token of the environment is for the server of the environment.
  const profile = findProfile(named);
  if (!profile) {
    if (isAsked) throw new UsageError("which Keymeter? Say --server https://..., or sign in with `keymeter login`");
    return undefined;
  }
  return {
    server: serverUrl(profile.server),
    token: saidToken(given) ?? profile.token,
    profile: profile.name,
  };
}

/** Throws UsageError for what is no address to send a token to. */
export function serverUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol) || url.username || url.search || url.hash)
    throw new UsageError(`--server ${text} is no address such as https://keymeter.example.com`);
  const isNear = ["127.0.0.1", "[::1]", "localhost"].includes(url.hostname);
  if (url.protocol === "http:" && !isNear && commandEnvironment()["KEYMETER_ALLOW_HTTP"] !== "1")
    throw new UsageError(
      `--server ${text} would send the token without encryption: use https://, or set KEYMETER_ALLOW_HTTP=1 where the network itself is encrypted`,
    );
  return url;
}

/** The token that was said before the verb: itself, or a file. */
function saidToken(given: Given): string | undefined {
  const path = given["--token-file"];
  if (given["--token"] !== undefined || path === undefined) return given["--token"];
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    throw new UsageError(
      `--token-file ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
}

/** A token goes to no other address than its own: that of the environment to the server there, that of a profile to its. */
function tokenFor(given: Given, server: string): string {
  const { KEYMETER_SERVER: own, KEYMETER_TOKEN: ofOwn } = commandEnvironment();
  const isOwn = own === undefined || isSameServer(own, server);
  const token = saidToken(given) ?? (isOwn ? ofOwn : undefined) ?? tokenOfServer(server);
  if (token !== undefined) return token;
  throw new UsageError(
    `which token for ${server}? Say --token-file FILE or KEYMETER_TOKEN, or sign in with \`keymeter login --server ${server}\``,
  );
}
