// keymeter limits set|list|remove
import { parseArgs } from "node:util";
import { readLimits } from "../ledger/usage/limits.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { makeChange, requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { findUser } from "./find-user.ts";
import { findKey } from "./find-key.ts";
import { toJson } from "../service/json.ts";
import { ownScopes } from "./own.ts";
import { formatTable } from "./table.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter limits set [--key KEY | --team T | --user U] [--rpm 60] [--tpm 100000] [--concurrent 5] [--body-mb 10]
                    [--seat-5h 2000000] [--seat-week 10000000]
keymeter limits list [--json]
keymeter limits remove [--key KEY | --team T | --user U]
  Requests and tokens in any 60 seconds, requests at once, the size of a body. Without a scope they hold for everybody together.
  set replaces all limits of that scope. What is passed gets 429 with retry-after.
  --seat-5h, --seat-week: tokens that subscriptions may pay for in five hours, which begin with the first request after the last
  ended, and in a week. What is passed gets what a cap of money gets.`;

const SEAT_OPTIONS = { "seat-5h": { type: "string" }, "seat-week": { type: "string" } } as const;
const MOST_SEAT_TOKENS = 1_000_000_000_000;
const HEADINGS = [
  "scope",
  "requests a minute",
  "tokens a minute",
  "at once",
  "bytes of a body",
  "by subscriptions in 5 hours",
  "in a week",
];

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  if (verb === "set") return set(rest);
  if (verb === "list") return list(rest);
  if (verb === "remove") return remove(rest);
  throw noSuchVerb("limits", verb, ["set", "list", "remove"], USAGE);
}

async function set(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args,
    options: {
      key: text,
      team: text,
      user: text,
      rpm: text,
      tpm: text,
      concurrent: text,
      "body-mb": text,
      ...SEAT_OPTIONS,
    },
  });
  const limits = {
    scope: await limitScopeOf(values),
    requestsPerMinute: whole("--rpm", values.rpm),
    tokensPerMinute: whole("--tpm", values.tpm),
    concurrent: whole("--concurrent", values.concurrent),
    bodyBytes: values["body-mb"] === undefined ? undefined : whole("--body-mb", values["body-mb"], 1024)! * 1024 * 1024,
    seatTokensPer5Hours: whole("--seat-5h", values["seat-5h"], MOST_SEAT_TOKENS),
    seatTokensPerWeek: whole("--seat-week", values["seat-week"], MOST_SEAT_TOKENS),
  };
  if (Object.values(limits).filter((value) => value !== undefined).length === 1)
    throw new UsageError(`say at least one limit\n${USAGE}`);
  await makeChange(loadCommandConfig(), { type: "setLimits", limits });
  process.stdout.write(`${await wordsOf(limits.scope)}: limits set\n`);
}

async function list(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const books = await requireUsage(loadCommandConfig());
  const isOwn = await ownLimits();
  const all = (await readLimits(books)).filter(({ scope }) => isOwn(scope));
  const names = await readNames(books);
  await books.close();
  if (values.json) return void process.stdout.write(`${toJson(all)}\n`);
  const rows = all.map((one) => [
    describeLimitScope(one.scope, names),
    ...[
      one.requestsPerMinute,
      one.tokensPerMinute,
      one.concurrent,
      one.bodyBytes,
      one.seatTokensPer5Hours,
      one.seatTokensPerWeek,
    ].map((value) => String(value ?? "")),
  ]);
  process.stdout.write(`${formatTable(HEADINGS, rows)}\n`);
}

/** Whether limits of a scope are shown. */
async function ownLimits(): Promise<(scope: string) => boolean> {
  const isOwn = await ownScopes();
  return (scope) => {
    const [, kind, id] = /^(team|key):(.*)$/.exec(scope) ?? [];
    return isOwn(kind === "team" ? { team: id } : kind === "key" ? { keyId: id } : {});
  };
}

/** "key ci (key_x)" for "key:key_x": keys are called by their names. */
export function describeLimitScope(scope: string, names: ReadonlyMap<string, string>): string {
  const userId = /^user:(.+)$/.exec(scope)?.[1];
  if (userId !== undefined) return `user ${names.get(userId) ?? userId}`;
  const keyId = /^key:(.+)$/.exec(scope)?.[1];
  const name = keyId === undefined ? undefined : names.get(keyId);
  return name === undefined ? scope : `key ${name} (${keyId})`;
}

async function wordsOf(scope: string): Promise<string> {
  const books = await requireUsage(loadCommandConfig());
  const names = await readNames(books);
  await books.close();
  return describeLimitScope(scope, names);
}

async function remove(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ args, options: { key: text, team: text, user: text } });
  const scope = await limitScopeOf(values);
  await makeChange(loadCommandConfig(), { type: "removeLimits", scope });
  process.stdout.write(`${await wordsOf(scope)}: limits removed\n`);
}

/** Throws UsageError for a key or a user that does not exist, or for several. */
export async function limitScopeOf({
  key,
  team,
  user,
}: {
  key?: string | undefined;
  team?: string | undefined;
  user?: string | undefined;
}): Promise<string> {
  if ([key, team, user].filter((one) => one !== undefined).length > 1)
    throw new UsageError("say a --key, a --team or a --user, not several of them");
  if (user !== undefined) return `user:${await findUser(user)}`;
  if (key !== undefined) return `key:${(await findKey(key)).id}`;
  return team === undefined ? "org" : `team:${team}`;
}

function whole(option: string, text: string | undefined, most = 1_000_000_000): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1 || value > most)
    throw new UsageError(`${option} ${text} is no whole number from 1 to ${most}`);
  return value;
}
