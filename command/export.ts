// keymeter export focus|chargeback|openmetrics: the books as files, for finance and for a new Prometheus.
import { createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadCollectorConfig } from "../collector/config.ts";
import {
  CHARGEBACK_OWNERS,
  exportFocus,
  FOCUS_VERSIONS,
  reportChargeback,
  writeHistory,
} from "../collector/reports.ts";
import { formatUsd, formatUsdColumn, formatUsdExact, formatUsdSet } from "../ledger/money.ts";
import { openBilling } from "../ledger/open.ts";
import { addDays, createCalendar, utcDay } from "../ledger/windows.ts";
import { giveWay } from "../service/priority.ts";
import { toJson } from "../service/json.ts";
import { pathOf } from "./asker.ts";
import { requireUsage } from "./books.ts";
import { parseDay, parseMonth } from "./days.ts";
import { createProgress } from "./progress.ts";
import { formatTable } from "./table.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";
import { placeOf } from "../service/config.ts";

export const USAGE = `keymeter export focus [--month 2026-11 | --since --until] [--version 1.2|1.4] [--format csv|parquet] [--out FILE]
keymeter export chargeback --month 2026-11 [--by team,project,env,feature,user,key] [--csv | --json]
keymeter export openmetrics --since 2026-01-01 [--until DAY] [--out FILE]    what the gauges would have said, for dashboards of a new Prometheus`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  giveWay("lowest");
  if (verb === "focus") return focus(rest);
  if (verb === "chargeback") return charge(rest);
  if (verb === "openmetrics") return openmetrics(rest);
  throw noSuchVerb("export", verb, ["focus", "chargeback", "openmetrics"], USAGE);
}

async function openmetrics(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { since: { type: "string" }, until: { type: "string" }, out: { type: "string" } },
  });
  if (values.since === undefined) throw new UsageError(`history since when?\n${USAGE}`);
  const config = loadCollectorConfig();
  const calendar = createCalendar(config.timezone);
  const sinceDay = parseDay(values.since, calendar);
  const untilDay = values.until === undefined ? calendar.day(Date.now()) : parseDay(values.until, calendar);
  if (sinceDay >= untilDay) throw new UsageError(`--since ${sinceDay} is not before --until ${untilDay}`);
  const usage = await requireUsage(config);
  const billing = await openBilling(placeOf(config));
  const progress = createProgress();
  try {
    const text = writeHistory({ usage, billing }, config.timezone, sinceDay, untilDay, (day) => progress.show(day));
    const out = values.out === undefined ? process.stdout : createWriteStream(pathOf(values.out));
    await pipeline(text, out, { end: values.out !== undefined });
  } finally {
    progress.end();
    await usage.close();
    await billing?.close();
  }
  process.stderr.write(
    `${sinceDay} to ${untilDay} is written, an hour apart. promtool tsdb create-blocks-from --max-block-duration=744h openmetrics FILE FOLDER makes blocks of it, FOLDER being Prometheus' own (with keymeter up: ${join(config.dataDir, "prometheus", "tsdb")}).\n`,
  );
}

async function focus(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      month: { type: "string" },
      since: { type: "string" },
      until: { type: "string" },
      version: { type: "string", default: "1.2" },
      format: { type: "string" },
      out: { type: "string" },
    },
  });
  const version = FOCUS_VERSIONS.find((one) => one === values.version);
  if (!version) throw new UsageError(`--version ${values.version} is none of ${FOCUS_VERSIONS.join(", ")}`);
  const format = values.format ?? (values.out?.endsWith(".parquet") ? "parquet" : "csv");
  if (format !== "csv" && format !== "parquet") throw new UsageError(`--format ${format} is neither csv nor parquet`);
  if (format === "parquet" && values.out === undefined)
    throw new UsageError("Parquet needs a file: --out FILE.parquet");
  if (values.month !== undefined && (values.since ?? values.until) !== undefined)
    throw new UsageError("say --month, or --since and --until, not both");
  const calendar = createCalendar("UTC");
  const month = values.month === undefined ? undefined : daysOfMonth(values.month);
  const sinceDay = month?.sinceDay ?? parseDay(values.since ?? "month", calendar);
  const untilDay = month?.untilDay ?? (values.until === undefined ? tomorrow() : parseDay(values.until, calendar));
  if (sinceDay >= untilDay) throw new UsageError(`--since ${sinceDay} is not before --until ${untilDay}`);
  const config = loadCollectorConfig();
  const usage = await requireUsage(config);
  const billing = await openBilling(placeOf(config));
  const progress = createProgress();
  try {
    const stated = { keys: config.billingKeys, models: config.billingModels, providers: config.providers };
    const options = {
      sinceDay,
      untilDay,
      version,
      format,
      file: values.out === undefined ? undefined : pathOf(values.out),
    } as const;
    const done = await exportFocus({ usage, billing }, options, stated, (day) =>
      progress.show(`FOCUS ${version}: ${day}`),
    );
    progress.end();
    process.stderr.write(
      `${done.rows} rows, ${formatUsdSet(done.billedNanoUsd)}; ${done.closedDays} provider-days are closed, ${done.openDays} are open (as metered, not as billed).\n`,
    );
  } finally {
    progress.end();
    await usage.close();
    await billing?.close();
  }
}

async function charge(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      month: { type: "string" },
      by: { type: "string", default: "team" },
      csv: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  if (values.month === undefined) throw new UsageError(`chargeback needs a --month such as 2026-11\n${USAGE}`);
  daysOfMonth(values.month);
  const by = values.by.split(",").map((part) => {
    const owner = CHARGEBACK_OWNERS.find((one) => one === part.trim());
    if (!owner) throw new UsageError(`--by ${part}: there is ${CHARGEBACK_OWNERS.join(", ")}`);
    return owner;
  });
  const config = loadCollectorConfig();
  const usage = await requireUsage(config);
  const billing = await openBilling(placeOf(config));
  const progress = createProgress();
  const { charges, closedDays, openDays } = await reportChargeback({ usage, billing }, values.month, by, (day) =>
    progress.show(`chargeback: ${day}`),
  ).finally(async () => {
    progress.end();
    await usage.close();
    await billing?.close();
  });
  if (values.json)
    return void process.stdout.write(
      `${toJson({ month: values.month, by, closedDays, openDays, charges: charges.map(({ owner, ...money }) => ({ ...Object.fromEntries(by.map((one, i) => [one, owner[i] ?? ""])), ...money })) })}\n`,
    );
  const sum = charges.reduce((total, one) => total + one.totalNanoUsd, 0n);
  if (values.csv) {
    const line = (cells: readonly string[]): string =>
      `${cells.map((cell) => (/[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(",")}\n`;
    process.stdout.write(line([...by, "metered_usd", "shared_usd", "total_usd"]));
    for (const { owner, meteredNanoUsd, sharedNanoUsd, totalNanoUsd } of charges)
      process.stdout.write(line([...owner, ...[meteredNanoUsd, sharedNanoUsd, totalNanoUsd].map(formatUsdExact)]));
    return;
  }
  const column = (read: (one: (typeof charges)[number]) => bigint): string[] => formatUsdColumn(charges.map(read));
  const [metered, shared, total] = [
    column((one) => one.meteredNanoUsd),
    column((one) => one.sharedNanoUsd),
    column((one) => one.totalNanoUsd),
  ];
  process.stdout.write(
    `${formatTable(
      [...by, "metered", "shared", "total"],
      charges.map(({ owner }, i) => [
        ...owner.map((one, column) => one || (by[column] === "team" ? "(nobody)" : "(none)")),
        metered[i] ?? "",
        shared[i] ?? "",
        total[i] ?? "",
      ]),
    )}

${formatUsd(sum)} in ${values.month} (UTC days): ${closedDays} provider-days are closed, ${openDays} are open and may still change. Shared: what each
provider billed beyond what was metered (fees, tax, credits, other prices, use round the proxy), in proportion to what was metered there.\n`,
  );
}

/** The days of a month that has begun. */
function daysOfMonth(text: string): { sinceDay: string; untilDay: string } {
  const sinceDay = `${parseMonth(text)}-01`;
  if (sinceDay > tomorrow()) throw new UsageError(`${text} lies in the future`);
  return { sinceDay, untilDay: `${addDays(sinceDay, 31).slice(0, 7)}-01` };
}

function tomorrow(): string {
  return addDays(utcDay(Date.now()), 1);
}
