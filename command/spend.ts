// keymeter spend [--by team,key,model] [--since --until] [--json]
import { parseArgs } from "node:util";
import { formatUsd, formatUsdColumn } from "../ledger/money.ts";
import { DIMENSIONS, isTag, readKeyNames, readSpend, readSpendByTag } from "../ledger/spend.ts";
import type { Breakdown, SpendRow } from "../ledger/spend.ts";
import { addDays, createCalendar } from "../ledger/windows.ts";
import { openUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { parseDay } from "./days.ts";
import { toJson } from "../service/json.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter spend [--by ${DIMENSIONS.join(",")},tag:NAME] [--since today|month|30d|2026-11-01] [--until 2026-12-01] [--json]
  Local days of the configured zone; --until is not included. Without --since: this month.
  tag:feature is the value that requests carried as x-keymeter-feature, or as a tag of another gateway; "(none)" carried none.`;
const TAG = /^tag:[a-z0-9][a-z0-9_.-]{0,63}$/;

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      by: { type: "string", default: "team" },
      since: { type: "string", default: "month" },
      until: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const by = values.by.split(",").filter((part) => part !== "") as Breakdown[];
  const unknown = by.find((part) => !(DIMENSIONS as readonly string[]).includes(part) && !TAG.test(part));
  if (unknown !== undefined)
    throw new UsageError(
      `spend cannot be broken down by "${unknown}"; it can by ${DIMENSIONS.join(", ")} and by a tag, such as tag:feature`,
    );
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const since = parseDay(values.since, calendar);
  const until = values.until === undefined ? addDays(calendar.day(Date.now()), 1) : parseDay(values.until, calendar);
  const books = openUsage(config);
  const plain = by.filter((part) => !isTag(part));
  const rows =
    plain.length === by.length
      ? await readSpend(books, plain, since, until)
      : await readSpendByTag(books, by, calendar, since, until);
  const names = await readKeyNames(books);
  books.close();

  if (values.json) {
    const records = rows.map(({ group, ...row }) => ({
      ...group,
      ...(group.key === undefined ? {} : { keyName: names.get(group.key) ?? null }),
      ...row,
    }));
    return void process.stdout.write(
      `${toJson({ since, until, timezone: config.timezone, rows: records, totalNanoUsd: total(rows) })}\n`,
    );
  }
  const costs = formatUsdColumn(rows.map((row) => row.costNanoUsd));
  const cells = rows.map((row, i) => [
    ...by.map(
      (part) =>
        (part === "key" ? (names.get(row.group.key ?? "") ?? row.group.key ?? "") : (row.group[part] ?? "")) ||
        "(none)",
    ),
    String(row.requests),
    String(row.input),
    String(row.cacheRead),
    String(row.cacheWrite),
    String(row.output),
    String(row.estimated),
    String(row.unknown),
    String(row.unpriced),
    String(row.inferred),
    costCell(row, costs[i] ?? ""),
  ]);
  process.stdout.write(
    `${formatTable([...by, "requests", "input", "cache read", "cache write", "output", "estimated", "unknown", "unpriced", "inferred", "cost"], cells)}\n`,
  );
  process.stdout.write(
    `\n${formatUsd(total(rows))} metered from ${since} until before ${until} (${config.timezone})\n`,
  );
  if (rows.some((row) => row.unpriced > 0))
    process.stdout.write(
      "Some requests are unpriced: their money is missing above. `keymeter prices show MODEL` says why.\n",
    );
}

/** What has no price is not 0: a row without any price says so, a row with some is marked as a lower bound. */
function costCell(row: SpendRow, cost: string): string {
  if (row.unpriced > 0 && row.unpriced === row.requests && row.costNanoUsd === 0n) return "unpriced";
  return row.unpriced > 0 ? `≥ ${cost}` : cost;
}

function total(rows: readonly { readonly costNanoUsd: bigint }[]): bigint {
  return rows.reduce((sum, row) => sum + row.costNanoUsd, 0n);
}
