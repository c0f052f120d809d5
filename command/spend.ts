// keymeter spend [--by team,key,model] [--team T ...] [--since --until] [--csv | --json]
import { parseArgs } from "node:util";
import { formatUsd, formatUsdColumn, formatUsdExact } from "../ledger/money.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { DIMENSIONS } from "../ledger/usage/spend-sums.ts";
import { isTag, readSpend, readSpendByTag } from "../ledger/usage/spend.ts";
import type { Breakdown, SpendRow } from "../ledger/usage/spend-sums.ts";
import { addDays, createCalendar } from "../ledger/windows.ts";
import { toJson } from "../service/json.ts";
import { requireUsage } from "./books.ts";
import { didYouMean } from "../service/closest.ts";
import { noteKept } from "./kept.ts";
import { loadCommandConfig } from "./config.ts";
import { toCsv } from "./csv.ts";
import { parseDay } from "./days.ts";
import { describeWithin, FILTER_OPTIONS, FILTER_USAGE, withinOf } from "./filters.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter spend [--by ${DIMENSIONS.join(",")},client,session,agent,repo,branch,ticket,tag:NAME] [--since today|yesterday|month|30d|2026-11-01] [--until 2026-12-01]
               [${FILTER_USAGE}] [--csv | --json]
  Local days of the configured zone; --until is not included. Without --since: this month.
  tag:feature is the value that requests carried as x-keymeter-feature, or as a tag of another gateway; "(none)" carried none.`;
/** Tags of coding agents, which need no `tag:` before them. */
const WORK_TAGS: readonly string[] = ["client", "session", "agent", "repo", "branch", "ticket"];
const TAG = /^tag:[a-z0-9][a-z0-9_.-]{0,63}$/;
/** The sums of a row, under their headings. */
const SUMS = {
  requests: "requests",
  input: "input",
  cacheRead: "cache read",
  cacheWrite: "cache write",
  output: "output",
  estimated: "estimated",
  unknown: "unknown",
  unpriced: "unpriced",
  inferred: "inferred",
} as const satisfies { readonly [sum in Exclude<keyof SpendRow, "group" | "costNanoUsd" | "seatNanoUsd">]: string };
const SUM_NAMES = Object.keys(SUMS) as (keyof typeof SUMS)[];

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      by: { type: "string", default: "team" },
      since: { type: "string", default: "month" },
      until: { type: "string" },
      ...FILTER_OPTIONS,
      csv: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const by = values.by
    .split(",")
    .filter((part) => part !== "")
    .map((part) => (WORK_TAGS.includes(part) ? `tag:${part}` : part)) as Breakdown[];
  const unknown = by.find((part) => !(DIMENSIONS as readonly string[]).includes(part) && !TAG.test(part));
  if (unknown !== undefined)
    throw new UsageError(
      `spend cannot be broken down by "${unknown}"${didYouMean(unknown, DIMENSIONS)}; it can by ${DIMENSIONS.join(", ")} and by a tag, such as tag:feature`,
    );
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const since = parseDay(values.since, calendar);
  const until = values.until === undefined ? addDays(calendar.day(Date.now()), 1) : parseDay(values.until, calendar);
  if (until <= since) throw new UsageError(`no day lies from ${since} until before ${until}: --until is not included`);
  const within = await withinOf(values);
  const books = await requireUsage(config);
  const plain = by.filter((part) => !isTag(part));
  const rows =
    plain.length === by.length
      ? await readSpend(books, plain, since, until, within)
      : await readSpendByTag(books, by, calendar, since, until, within);
  // Tags stand with events alone.
  if (plain.length < by.length) await noteKept(books, calendar.dayStart(since));
  // Days in their order, whatever they cost.
  if (by[0] === "day") rows.sort((a, b) => (a.group.day ?? "").localeCompare(b.group.day ?? ""));
  const names = await readNames(books);
  await books.close();

  if (values.json) {
    const records = rows.map(({ group, ...row }) => ({
      ...group,
      ...(group.key === undefined ? {} : { keyName: names.get(group.key) ?? null }),
      ...(group.user === undefined ? {} : { userName: names.get(group.user) ?? null }),
      ...row,
    }));
    return void process.stdout.write(
      `${toJson({ since, until, timezone: config.timezone, within, rows: records, totalNanoUsd: total(rows) })}\n`,
    );
  }
  if (values.csv) {
    const parts = by.flatMap((part) => (isNamed(part) ? [part, `${part.replace("tag:", "")}_name`] : [part]));
    return void process.stdout.write(
      toCsv(
        [...parts, ...SUM_NAMES.map((sum) => SUMS[sum].replace(" ", "_")), "cost_usd", "seat_usd"],
        rows.map(({ group, ...row }) => [
          ...by.flatMap((part) =>
            isNamed(part) ? [group[part] ?? "", names.get(group[part] ?? "") ?? ""] : [group[part] ?? ""],
          ),
          ...SUM_NAMES.map((sum) => row[sum]),
          // What is not known is not nothing.
          row.costNanoUsd === 0n && row.unpriced + row.unknown > 0 ? "" : formatUsdExact(row.costNanoUsd),
          formatUsdExact(row.seatNanoUsd),
        ]),
      ),
    );
  }
  if (rows.length === 0)
    return void process.stdout.write(
      `Nothing was metered${describeWithin(within, names)} from ${since} until before ${until} (${config.timezone}).\n`,
    );
  const costs = formatUsdColumn(rows.map((row) => row.costNanoUsd));
  const cells = rows.map((row, i) => [
    ...by.map((part) => nameOf(part, row, names)),
    ...SUM_NAMES.map((sum) => String(row[sum])),
    costCell(row, costs[i] ?? ""),
  ]);
  process.stdout.write(`${formatTable([...by, ...SUM_NAMES.map((sum) => SUMS[sum]), "cost"], cells)}\n`);
  process.stdout.write(
    `\n${formatUsd(total(rows))} metered${describeWithin(within, names)} from ${since} until before ${until} (${config.timezone})\n`,
  );
  const seats = rows.reduce((sum, row) => sum + row.seatNanoUsd, 0n);
  if (seats > 0n)
    process.stdout.write(
      `Beside that subscriptions paid for what would have cost ${formatUsd(seats)}; \`--by payer,user\` shows whose.\n`,
    );
  if (rows.some((row) => row.unpriced > 0))
    process.stdout.write(
      "Some requests are unpriced: their money is missing above. `keymeter prices show MODEL` says why.\n",
    );
}

/** What has an id, and a name for people. */
function isNamed(part: Breakdown): boolean {
  return part === "key" || part === "user" || part === "tag:user";
}

function nameOf(part: Breakdown, { group }: SpendRow, names: ReadonlyMap<string, string>): string {
  const value = group[part] ?? "";
  if (value === "") return "(none)";
  return isNamed(part) ? (names.get(value) ?? value) : value;
}

/** What has no price is not 0: a row without any price says so, a row with some is marked as a lower bound. */
function costCell(row: SpendRow, cost: string): string {
  if (row.unpriced > 0 && row.unpriced === row.requests && row.costNanoUsd === 0n) return "unpriced";
  return row.unpriced > 0 ? `≥ ${cost}` : cost;
}

function total(rows: readonly { readonly costNanoUsd: bigint }[]): bigint {
  return rows.reduce((sum, row) => sum + row.costNanoUsd, 0n);
}
