// keymeter tokens create|list|revoke|me: who may ask what, at the admin API, the pages and the remote command.
import { parseArgs } from "node:util";
import { issueToken, readTokens, ROLES } from "../ledger/usage/tokens.ts";
import type { Role } from "../ledger/usage/tokens.ts";
import { utcDay } from "../ledger/windows.ts";
import { didYouMean } from "../service/closest.ts";
import { toJson } from "../service/json.ts";
import { findAsker } from "./asker.ts";
import { makeChange, requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { parseExpiry } from "./days.ts";
import { formatTable } from "./table.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter tokens create --name anna --role ${ROLES.join("|")} [--team T] [--expires 90d|2027-01-31] [--json]
  read: sees everything. lead: sees and changes the keys of --team, and budgets inside it. finance: sees everything, sets budgets, closes bills.
  admin: everything. The audit names who by --name. With it: \`keymeter login\`, the admin API, the report pages.
keymeter tokens list [--json]
keymeter tokens revoke TOKEN     an id (tok_...) or a name
keymeter tokens me [--json]      as whom this command runs`;

const NAME = /^[\x21-\x7e]{1,60}$/;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  if (verb === "create") return create(rest);
  if (verb === "list") return list(rest);
  if (verb === "revoke") return revoke(rest);
  if (verb === "me") return me(rest);
  throw noSuchVerb("tokens", verb, ["create", "list", "revoke", "me"], USAGE);
}

async function create(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args,
    options: { name: text, role: text, team: text, expires: text, json: { type: "boolean", default: false } },
  });
  const { name = "", team } = values;
  if (!NAME.test(name))
    throw new UsageError(`a token needs a --name of 1 to 60 plain characters without spaces, such as anna\n${USAGE}`);
  const role = roleOf(values.role);
  if (role === "lead" ? !team : team !== undefined)
    throw new UsageError(role === "lead" ? "a lead needs a --team" : `--team is for leads; ${role} is of no team`);
  const nowMs = Date.now();
  const expiresAtMs = values.expires === undefined ? undefined : parseExpiry(values.expires, nowMs);
  const { token, digest, secret } = issueToken(
    { name, role, ...(team === undefined ? {} : { team }) },
    expiresAtMs,
    nowMs,
  );
  await makeChange(loadCommandConfig(), { type: "createToken", token, digest });
  if (values.json) return void process.stdout.write(`${toJson({ ...token, secret })}\n`);
  process.stdout.write(`${secret}\n`);
  process.stderr.write(
    `Token ${token.id} (${name}, ${role}${team === undefined ? "" : ` of ${team}`}). The line above is shown once and stored nowhere.\n`,
  );
}

function roleOf(given = ""): Role {
  const role = ROLES.find((one) => one === given);
  if (role) return role;
  throw new UsageError(`--role ${given}: one of ${ROLES.join(", ")}${didYouMean(given, ROLES)}`);
}

async function list(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const books = await requireUsage(loadCommandConfig());
  const tokens = await readTokens(books);
  await books.close();
  if (values.json) return void process.stdout.write(`${toJson(tokens)}\n`);
  if (tokens.length === 0)
    return void process.stdout.write("There is no named token; the admin token is the only one.\n");
  const nowMs = Date.now();
  process.stdout.write(
    `${formatTable(
      ["id", "name", "role", "team", "state", "made", "expires"],
      tokens.map(({ id, name, role, team = "", createdAtMs, expiresAtMs, revokedAtMs }) => [
        id,
        name,
        role,
        team,
        revokedAtMs !== undefined ? "revoked" : (expiresAtMs ?? Infinity) <= nowMs ? "ended" : "active",
        utcDay(createdAtMs),
        expiresAtMs === undefined ? "" : utcDay(expiresAtMs),
      ]),
    )}\n`,
  );
}

async function revoke(args: string[]): Promise<void> {
  const [wanted, ...more] = args;
  if (wanted === undefined || more.length > 0) throw new UsageError(`which token? one id or name\n${USAGE}`);
  const config = loadCommandConfig();
  const books = await requireUsage(config);
  const live = (await readTokens(books)).filter(({ revokedAtMs }) => revokedAtMs === undefined);
  await books.close();
  const token = live.find(({ id }) => id === wanted) ?? live.find(({ name }) => name === wanted);
  if (!token)
    throw new UsageError(
      `there is no token ${wanted}${
        didYouMean(
          wanted,
          live.map(({ name }) => name),
        ) || "; `keymeter tokens list` shows them"
      }`,
    );
  await makeChange(config, { type: "revokeToken", tokenId: token.id });
  process.stdout.write(`${token.id} (${token.name}): revoked\n`);
}

function me(args: string[]): void {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const { name, role, team } = findAsker() ?? { name: "this machine", role: "admin" as const };
  if (values.json) return void process.stdout.write(`${toJson({ name, role, team })}\n`);
  process.stdout.write(`${name}, ${role}${team === undefined ? "" : ` of ${team}`}\n`);
}
