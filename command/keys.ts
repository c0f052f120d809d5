// keymeter keys create|list|show|pause|resume|revoke|rotate
import { parseArgs } from "node:util";
import type { Budget } from "../ledger/budgets.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import { createDigest, issueVirtualKey, reissueSecret } from "../ledger/usage/keys.ts";
import { formatUsdSet } from "../ledger/money.ts";
import { LedgerError } from "../ledger/books.ts";
import { ownSecret } from "../service/secret.ts";
import type { Key } from "../ledger/usage/keys.ts";
import { cutLive, makeChange, requireUsage } from "./books.ts";
import { newBudget, parseAmount } from "./budget-options.ts";
import { loadCommandConfig } from "./config.ts";
import type { CommandConfig } from "./config.ts";
import { DAY_MS, utcDay } from "../ledger/windows.ts";
import { findAsker } from "./asker.ts";
import { parseExpiry } from "./days.ts";
import { didYouMean } from "../service/closest.ts";
import { allKeys, findKey } from "./find-key.ts";
import { allUsers, userFor } from "./find-user.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { reachBack } from "./reach-back.ts";
import { POLICY_OPTIONS, POLICY_USAGE, withOptions } from "./policy-options.ts";
import { toJson } from "../service/json.ts";
import { formatTable } from "./table.ts";
import { checkTarget, targetProblem, writeSecret } from "../service/secrets/target.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

/** A store may be far away. */
const WRITE_MS = 30_000;

export const USAGE = `keymeter keys create --name NAME [--team T] [--project P] [--env E] [--user U] [--expires 90d|2027-01-31]
                     [--purpose WORDS] [--budget 50/month [--hard] [--strict]] [--json]   and what it may do:
${POLICY_USAGE}
keymeter keys set KEY [--name N] [--team T] [--project P] [--env E] [--user U] [--purpose WORDS]   and what it may do, as above
                     [--since 2026-11-01 [--yes]]   what it spent since then is the team's (project's, env's) too; shows first what that does
keymeter keys list [--json]
keymeter keys show KEY
keymeter keys pause|resume|revoke KEY [--cut]   --cut ends its live requests too
keymeter keys rotate KEY [--grace 24h] [--to vault:secret/ci#key,github:OWNER/REPO/NAME]      KEY is an id (key_...) or a name;
                     --to writes the new secret there, and shows it nowhere`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  switch (verb) {
    case "create":
      return create(rest);
    case "list":
      return list(rest);
    case "show":
      return show(rest);
    case "pause":
    case "resume":
    case "revoke":
      return setState(verb, rest);
    case "rotate":
      return rotate(rest);
    case "set":
      return set(rest);
    default:
      throw noSuchVerb("keys", verb, ["create", "list", "show", "set", "pause", "resume", "revoke", "rotate"], USAGE);
  }
}

async function create(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      name: { type: "string" },
      team: { type: "string", default: "" },
      project: { type: "string", default: "" },
      env: { type: "string", default: "" },
      user: { type: "string", default: "" },
      // One release longer.
      owner: { type: "string", default: "" },
      purpose: { type: "string", default: "" },
      ...POLICY_OPTIONS,
      expires: { type: "string" },
      budget: { type: "string" },
      hard: { type: "boolean", default: false },
      strict: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  if (!values.name) throw new UsageError(`a key needs a --name\n${USAGE}`);
  if (!values.budget && (values.hard || values.strict))
    throw new UsageError("--hard and --strict say how a --budget holds; give one, such as --budget 50/month");
  const config = loadCommandConfig();
  await (await requireUsage(config)).close();
  const { name: asked, team: ofTeam, project: ofProject, env: ofEnv } = values;
  const userName = values.user || values.owner;
  requireNames({ name: asked, team: ofTeam, project: ofProject, env: ofEnv, user: userName });
  for (const words of unknownNames({ team: ofTeam, project: ofProject, env: ofEnv }, await allKeys()))
    process.stderr.write(`${words}\n`);
  const given = givenOf(config);
  const now = Date.now();
  const { name, team, project, env, purpose } = values;
  const { id: user, made } = await userFor(userName);
  const policy = withOptions({}, values);
  const expiresAtMs = values.expires === undefined ? undefined : parseExpiry(values.expires, now);
  const { key, secret } = issueVirtualKey({ name, team, project, env, user, purpose, policy, expiresAtMs }, now);
  const budget: Budget | undefined =
    values.budget === undefined
      ? undefined
      : newBudget({
          scope: { keyId: key.id },
          ...parseAmount(values.budget),
          hard: values.hard || values.strict,
          strict: values.strict,
        });
  const change = { type: "createKey", key, ...given(secret), ...(budget ? { budget } : {}) } as const;
  await makeChange(config, afterwards(made, change));
  if (values.json) return void process.stdout.write(`${toJson({ id: key.id, key: secret, name, budget })}\n`);
  process.stdout.write(`${secret}\n`);
  process.stderr.write(
    `Key ${key.id} (${name})${budget ? `, ${budget.kind} budget of ${formatUsdSet(budget.amountNanoUsd)} a ${budget.window}, ${budget.mode}` : ""}. The line above is shown once and stored nowhere.\n`,
  );
}

async function list(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const [keys, users] = [await allKeys(), await allUsers()];
  const now = Date.now();
  if (values.json) return void process.stdout.write(`${toJson(keys.map((key) => withNames(key, users)))}\n`);
  process.stdout.write(
    `${formatTable(
      ["id", "name", "kind", "team", "env", "user", "state", "ends in", "age", "last used", "expires"],
      keys.map((key) => [
        key.id,
        key.name,
        key.kind,
        key.team,
        key.env,
        users.get(key.user) ?? key.user,
        key.state,
        key.hint,
        `${Math.floor((now - key.createdAtMs) / DAY_MS)} d`,
        key.lastUsedHourMs === undefined ? "never" : `${new Date(key.lastUsedHourMs).toISOString().slice(0, 13)}h`,
        key.expiresAtMs === undefined ? "" : utcDay(key.expiresAtMs),
      ]),
    )}\n`,
  );
}

async function show(args: string[]): Promise<void> {
  const key = await findKey(onlyOne(args.filter((arg) => arg !== "--json")));
  const books = await requireUsage(loadCommandConfig());
  const budgets = (await readBudgets(books)).filter(({ scope }) => scope.keyId === key.id);
  await books.close();
  const named = withNames(key, await allUsers());
  process.stdout.write(`${JSON.stringify(JSON.parse(toJson({ ...named, budgets })), null, 2)}\n`);
}

/** With the name of its user; as `owner` too, one release longer. */
function withNames<T extends Pick<Key, "user">>(
  key: T,
  users: ReadonlyMap<string, string>,
): T & { readonly userName: string; readonly owner: string } {
  const userName = users.get(key.user) ?? "";
  return { ...key, userName, owner: userName };
}

/** In one transaction with what it rests on. */
function afterwards(made: readonly Change[], change: Change): Change {
  return made.length === 0 ? change : { type: "together", changes: [...made, change] };
}

const LONGEST_NAME = 200;

/** Throws UsageError for what is no name: it stands in tables and in headers. */
function requireNames(names: { readonly [option: string]: string | undefined }): void {
  for (const [option, value] of Object.entries(names)) {
    if (value === undefined) continue;
    if (value.length > LONGEST_NAME) throw new UsageError(`--${option} is longer than ${LONGEST_NAME} characters`);
    if (/\p{Cc}/u.test(value))
      throw new UsageError(
        `--${option} ${JSON.stringify(value)} holds a control character, such as a tab or a line's end`,
      );
  }
}

/** A sentence for each name that is new and near to one that is not: it may be a slip. */
function unknownNames(
  names: { readonly [part in "team" | "project" | "env"]?: string | undefined },
  keys: readonly Pick<Key, "team" | "project" | "env">[],
): string[] {
  return (["team", "project", "env"] as const).flatMap((part) => {
    const wanted = names[part];
    const known = [...new Set(keys.map((key) => key[part]).filter((one) => one !== ""))];
    if (!wanted || known.includes(wanted)) return [];
    const guess = didYouMean(wanted, known);
    return guess === "" ? [] : [`No other key belongs to ${part} ${wanted}${guess}`];
  });
}

/** Says anew whose a key is and what it may do; a fingerprint of a provider key can be named, owned and bound too. */
async function set(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      name: text,
      team: text,
      project: text,
      env: text,
      user: text,
      // One release longer.
      owner: text,
      purpose: text,
      ...POLICY_OPTIONS,
      since: text,
      yes: { type: "boolean", default: false },
    },
  });
  const key = await findKey(onlyOne(positionals));
  const { name, team, project, env, purpose } = values;
  const userName = values.user ?? values.owner;
  const keys = await allKeys();
  const namesake = keys.find((one) => one.name === name && one.id !== key.id && one.state !== "revoked");
  if (namesake) throw new UsageError(`a key named "${name}" exists already (${namesake.id}); choose another name`);
  requireNames({ name, team, project, env, user: userName });
  for (const words of unknownNames({ team, project, env }, keys)) process.stderr.write(`${words}\n`);
  const { id: user, made } = userName === undefined ? { id: undefined, made: [] } : await userFor(userName);
  const fields = Object.fromEntries(
    Object.entries({ name, team, project, env, user, purpose }).filter(([, value]) => value !== undefined),
  );
  const policy = withOptions(key.policy, values);
  const config = loadCommandConfig();
  const to = Object.fromEntries(Object.entries({ team, project, env }).filter(([, value]) => value !== undefined));
  if (values.since !== undefined && Object.keys(to).length === 0)
    throw new UsageError("--since says from when a --team, --project or --env counts: name one of them");
  const describe = afterwards(made, { type: "describeKey", keyId: key.id, fields });
  if (values.since !== undefined) {
    await reachBack(config, key, to, values.since, describe, values.yes);
    if (!values.yes) return;
  } else if (Object.keys(fields).length > 0) await makeChange(config, describe);
  if (JSON.stringify(policy) !== JSON.stringify(key.policy))
    await makeChange(config, { type: "setPolicy", keyId: key.id, policy });
  if (values.since !== undefined) return;
  process.stdout.write(`${key.id} (${name ?? key.name}): set\n`);
  if (Object.keys(to).length > 0)
    process.stderr.write(
      "Counts from now on: what the key used before stays where it was booked. `--since 2026-11-01` moves that too, and shows first what it does.\n",
    );
}

async function setState(verb: "pause" | "resume" | "revoke", args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { cut: { type: "boolean", default: false } },
  });
  const key = await findKey(onlyOne(positionals));
  const config = loadCommandConfig();
  await makeChange(config, {
    type: "setKeyState",
    keyId: key.id,
    state: ({ pause: "paused", resume: "active", revoke: "revoked" } as const)[verb],
  });
  const cut = values.cut && verb !== "resume" ? await cutLive(config, { keyId: key.id }) : undefined;
  process.stdout.write(`${key.id} (${key.name}): ${verb}d${cut === undefined ? "" : `, ${cut} live requests ended`}\n`);
}

async function rotate(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      grace: { type: "string", default: "24h" },
      to: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const targets = (values.to ?? "").split(",").filter((one) => one !== "");
  const asker = findAsker();
  if (targets.length > 0 && asker !== undefined && asker.role !== "admin")
    throw new UsageError("--to writes with what Keymeter itself may write with: an admin does that");
  if (values.to !== undefined && targets.length === 0)
    throw new UsageError("--to names no place: write vault:MOUNT/PATH#FIELD, github:OWNER/REPO/NAME, or leave it out");
  for (const target of targets) {
    const problem = targetProblem(target);
    if (problem !== undefined) throw new UsageError(`--to ${target}: ${problem}`);
  }
  const key = await findKey(positionals[0]);
  const config = loadCommandConfig();
  // Before anything changes.
  for (const target of targets)
    await checkTarget(config, target).catch((error: unknown) => {
      throw new UsageError(`--to ${target}: ${error instanceof Error ? error.message : String(error)}`);
    });
  const given = givenOf(config);
  const secret = reissueSecret(key.env);
  const graceUntilMs = parseExpiry(values.grace, Date.now());
  await makeChange(config, {
    type: "rotateKey",
    keyId: key.id,
    ...given(secret),
    hint: secret.slice(-4),
    graceUntilMs,
  });
  if (targets.length > 0) return handOut(config, { id: key.id, name: key.name, secret, graceUntilMs }, targets);
  if (values.json) return void process.stdout.write(`${toJson({ id: key.id, key: secret, graceUntilMs })}\n`);
  process.stdout.write(`${secret}\n`);
  process.stderr.write(
    `Key ${key.id} (${key.name}) has a new secret, shown once. The old one works until ${new Date(graceUntilMs).toISOString()}.\n`,
  );
}

/** Into each target, and to nobody's eyes. One that fails keeps no other from it. */
async function handOut(
  config: CommandConfig,
  { id, name, secret, graceUntilMs }: { id: string; name: string; secret: string; graceUntilMs: number },
  targets: readonly string[],
): Promise<void> {
  const until = new Date(graceUntilMs).toISOString();
  for (const target of targets) {
    try {
      await writeSecret(config, target, secret, AbortSignal.timeout(WRITE_MS));
      process.stdout.write(`${target} has the new secret of ${name} (${id}). The old one works until ${until}.\n`);
    } catch (error) {
      process.exitCode = 1;
      const why = error instanceof Error ? error.message : String(error);
      process.stderr.write(
        `${target} does not have the new secret: ${why}. The old one works until ${until}: mend that, and rotate again before.\n`,
      );
    }
  }
}

function onlyOne(args: readonly string[]): string | undefined {
  if (args.length > 1) throw new UsageError(`one key at a time, not ${args.join(" ")}\n${USAGE}`);
  return args[0];
}

/** What the books get of a secret: its digest. Where somebody elsewhere asks, the proxy makes that, which has the pepper. */
function givenOf({ dataDir, pepper }: CommandConfig): (secret: string) => { digest: string; secret?: string } {
  if (findAsker()) return (secret) => ({ digest: "", secret });
  try {
    const digestOf = createDigest(ownSecret(dataDir, "pepper", pepper).reveal());
    return (secret) => ({ digest: digestOf(secret) });
  } catch (error) {
    // Books that are there without it would not know the key that is made.
    throw new LedgerError(error instanceof Error ? error.message : String(error));
  }
}
