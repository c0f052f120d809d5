// The way to change the books, for programs and commands that do not own them: through the proxy that has them, or,
// when none runs, by taking their lock and calling the same function.
import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { join, resolve } from "node:path";
import { ChangeRefused } from "../ledger/usage/change-refused.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { LedgerError, LedgerInUse } from "../ledger/books.ts";
import { looksLikeToken } from "../ledger/usage/tokens.ts";
import { openWriter } from "../ledger/usage/writer.ts";
import type { SharedConfig } from "./config.ts";
import { toJson } from "./json.ts";
import { innerHostOf } from "./network.ts";
import { looksLikePass } from "./pass.ts";
import type { Secret } from "./secret.ts";

/** Where the programs are, and the token that opens them where it was given. */
type Programs = SharedConfig & { readonly adminToken?: Secret | undefined };

/** Makes a change, whoever owns the books now. Throws ChangeRefused or LedgerError. */
export async function makeChange(config: Programs, change: Change, actor: string): Promise<void> {
  // A named token, or a pass, is somebody's: what that one may, the program that owns the books says.
  const token = config.adminToken?.reveal() ?? "";
  if (looksLikeToken(token) || looksLikePass(token))
    return void (await askProxy(config, "POST", "/admin/changes", toJson(change)));
  if (config.ledgerUrl) return changeInPostgres(config, config.ledgerUrl, change, actor);
  const path = join(config.dataDir, "usage.db");
  if (!existsSync(path)) throw noBooks(path);
  try {
    const writer = await openWriter({
      path,
      durability: "power",
      zone: config.timezone,
      capMode: "enforce",
      tagsInBudgets: config.tagsInBudgets,
    });
    try {
      return await writer.change(change, actor);
    } finally {
      await writer.close();
    }
  } catch (error) {
    if (!(error instanceof LedgerInUse)) throw error;
  }
  await askProxy(config, "POST", "/admin/changes", toJson(change));
}

/** Any node's change binds all of them: this one is a node for as long. */
async function changeInPostgres(
  { timezone, tagsInBudgets }: Programs,
  url: Secret,
  change: Change,
  actor: string,
): Promise<void> {
  const writer = await openWriter({
    url: url.reveal(),
    name: nodeName("command"),
    zone: timezone,
    capMode: "enforce",
    tagsInBudgets,
    agreed: agreedOn({ timezone, tagsInBudgets }),
    orphanSeconds: Infinity,
  });
  try {
    await writer.change(change, actor);
  } finally {
    await writer.close();
  }
}

/** Whose a node is, for people. */
export function nodeName(what: string): string {
  return `${what} on ${hostname()}, process ${process.pid}`;
}

/** What all programs that write have to have the same, by the setting's name. */
export function agreedOn({ timezone, tagsInBudgets }: Pick<SharedConfig, "timezone" | "tagsInBudgets">): {
  readonly [setting: string]: string;
} {
  return { timezone, tags_in_budgets: tagsInBudgets ? "on" : "off" };
}

/** Where each program's inner port is said. */
export const PROGRAMS = {
  proxy: { port: "opsPort", url: "proxyUrl", setting: "KEYMETER_OPS_PORT", elsewhere: "KEYMETER_PROXY_OPS_URL" },
  collector: {
    port: "collectorPort",
    url: "collectorUrl",
    setting: "KEYMETER_COLLECTOR_PORT",
    elsewhere: "KEYMETER_COLLECTOR_URL",
  },
  alerts: { port: "alertsPort", url: "alertsUrl", setting: "KEYMETER_ALERTS_PORT", elsewhere: "KEYMETER_ALERTS_URL" },
} as const satisfies {
  readonly [program: string]: {
    readonly port: keyof SharedConfig;
    readonly url: keyof SharedConfig;
    readonly setting: string;
    readonly elsewhere: string;
  };
};
export type Program = keyof typeof PROGRAMS;

/** Where a program's inner port answers: on this machine, if nothing else is said. */
export function urlOfProgram(config: SharedConfig, program: Program): string {
  const { port, url } = PROGRAMS[program];
  return config[url] ?? addressOf(innerHostOf(config), config[port]);
}

/** A program that is asked for a report or an import may take long. */
const MOST_ANSWER_MS = 600_000;

/** Nobody answers where the proxy should be. */
export class ProgramGone extends LedgerError {}

/** Calls the admin API of the running proxy with the token of the data folder. */
export async function askProxy(
  config: Programs,
  method: "GET" | "POST",
  path: string,
  body?: string,
  token?: string,
  actor?: string,
): Promise<unknown> {
  return askProgram(config, "proxy", method, path, body, token, actor);
}

/** Calls the admin API of a running program. Rejects with ProgramGone when nobody answers, ChangeRefused when it is
 *  refused. */
export async function askProgram(
  config: Programs,
  program: Program,
  method: "GET" | "POST",
  path: string,
  body?: string | Buffer,
  token = adminTokenOf(config),
  actor?: string,
): Promise<unknown> {
  const { setting, elsewhere } = PROGRAMS[program];
  const url = `${urlOfProgram(config, program)}${path}`;
  let answer: Response;
  try {
    answer = await fetch(url, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(actor === undefined ? {} : { "x-keymeter-actor": encodeURIComponent(actor).replaceAll("%3A", ":") }),
        ...(body === undefined
          ? {}
          : { "content-type": typeof body === "string" ? "application/json" : "application/octet-stream" }),
      },
      signal: AbortSignal.timeout(MOST_ANSWER_MS),
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : new Uint8Array(body) }),
    });
  } catch {
    throw new ProgramGone(
      `the books are in use, but no ${program} answers at ${url}. Set ${setting} to the port it was started with, and KEYMETER_INNER_HOST to the address, where it was given one; where it runs in another container or on another machine, set ${elsewhere}.`,
    );
  }
  const parsed = (await answer.json().catch(() => ({}))) as { error?: string };
  if (answer.status === 409 || answer.status === 403) throw new ChangeRefused(parsed.error ?? "refused");
  if (!answer.ok)
    throw new LedgerError(`the ${program} at ${url} answered ${answer.status}: ${parsed.error ?? "no reason"}`);
  return parsed;
}

/** The admin token: as it was given, else the one in the data folder. Throws a LedgerError where there is none. */
function adminTokenOf({ adminToken, dataDir }: Programs): string {
  if (adminToken) return adminToken.reveal();
  const path = join(dataDir, "admin-token");
  if (!existsSync(path))
    throw new LedgerError(
      `there is no admin token: ${path} does not exist, and KEYMETER_ADMIN_TOKEN is not set. Give the one that the programs were started with.`,
    );
  return readFileSync(path, "utf8").trim();
}

/** Where a program answers on this machine, whichever addresses it listens on. */
export function addressOf(host: string, port: number): string {
  const near = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  return `http://${near.includes(":") ? `[${near}]` : near}:${port}`;
}

export function noBooks(path: string): LedgerError {
  return new LedgerError(
    `${resolve(path)} does not exist: nothing has been metered here yet. Start Keymeter (npm start), or name its data folder with KEYMETER_DATA_DIR.`,
  );
}
