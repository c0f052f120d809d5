// keymeter users list|forget
import { parseArgs } from "node:util";
import { readSpend } from "../ledger/usage/spend.ts";
import { readPeople } from "../ledger/usage/people.ts";
import { formatUsdColumn } from "../ledger/money.ts";
import { createCalendar } from "../ledger/windows.ts";
import { toJson } from "../service/json.ts";
import { makeChange, requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { findUser } from "./find-user.ts";
import { formatTable } from "./table.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter users list [--json]           who spends, the most this month first
keymeter users forget USER --yes       takes the name away, for ever: sums and events stay, and nobody can say whose they are`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  if (verb === "list") return list(rest);
  if (verb === "forget") return forget(rest);
  throw noSuchVerb("users", verb, ["list", "forget"], USAGE);
}

async function list(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const config = loadCommandConfig();
  const books = await requireUsage(config);
  const people = await readPeople(books);
  const { firstDay, endDay } = createCalendar(config.timezone).window("month", Date.now());
  const spent = new Map((await readSpend(books, ["user"], firstDay, endDay)).map((row) => [row.group.user ?? "", row]));
  await books.close();
  const ids = new Set([...people.keys(), ...[...spent.keys()].filter((id) => id !== "")]);
  const rows = [...ids]
    .map((id) => ({
      id,
      name: people.get(id) ?? null,
      monthNanoUsd: spent.get(id)?.costNanoUsd ?? 0n,
      monthRequests: spent.get(id)?.requests ?? 0,
    }))
    .toSorted((a, b) => Number(b.monthNanoUsd - a.monthNanoUsd));
  if (values.json) return void process.stdout.write(`${toJson(rows)}\n`);
  if (rows.length === 0)
    return void process.stdout.write(
      "There is no user. `keymeter keys create --user NAME` makes one; requests name one by x-keymeter-user.\n",
    );
  const costs = formatUsdColumn(rows.map(({ monthNanoUsd }) => monthNanoUsd));
  process.stdout.write(
    `${formatTable(
      ["id", "name", "requests", "this month"],
      rows.map(({ id, name, monthRequests }, i) => [id, name ?? "(no name)", String(monthRequests), costs[i] ?? ""]),
    )}\n`,
  );
}

async function forget(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { yes: { type: "boolean", default: false } },
  });
  const [wanted, ...more] = positionals;
  if (wanted === undefined || more.length > 0) throw new UsageError(`which user? one name or id\n${USAGE}`);
  const userId = await findUser(wanted);
  if (!values.yes)
    throw new UsageError(
      `this takes the name of ${userId} out of the books for ever, and budgets keep counting for the id. Say it again with --yes`,
    );
  await makeChange(loadCommandConfig(), { type: "forgetUser", userId });
  process.stdout.write(`${userId}: has no name any more. Backups and logs of before may have it still.\n`);
}
