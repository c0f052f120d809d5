// keymeter events [--since --until --team --key --model ...] [--limit] [--csv | --json]
import { parseArgs } from "node:util";
import { readEvents } from "../ledger/usage/events.ts";
import type { EventRecord } from "../ledger/usage/events.ts";
import { formatUsd, formatUsdExact } from "../ledger/money.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { createCalendar } from "../ledger/windows.ts";
import { requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { toCsv } from "./csv.ts";
import { parseDay } from "./days.ts";
import { describeWithin, FILTER_OPTIONS, FILTER_USAGE, withinOf } from "./filters.ts";
import { noteKept } from "./kept.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter events [--since today|yesterday|7d|2026-11-01] [--until 2026-12-01] [--limit 50]
                [${FILTER_USAGE}] [--csv | --json]
  The newest --limit of them, oldest first. --json prints one object a line.`;

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      since: { type: "string" },
      until: { type: "string" },
      ...FILTER_OPTIONS,
      limit: { type: "string", default: "50" },
      csv: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const limit = Number(values.limit);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > 1_000_000)
    throw new UsageError(`--limit ${values.limit} is no number between 1 and 1000000`);
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const startOf = (day: string | undefined): number | undefined =>
    day === undefined ? undefined : calendar.dayStart(parseDay(day, calendar));
  const within = await withinOf(values);
  const books = await requireUsage(config);
  const events = await readEvents(books, {
    sinceMs: startOf(values.since),
    untilMs: startOf(values.until),
    within,
    limit,
  });
  if (values.since !== undefined || events.length < limit) await noteKept(books, startOf(values.since));
  const names = await readNames(books);
  await books.close();
  if (values.json) {
    for (const event of events) process.stdout.write(`${JSON.stringify(event)}\n`);
    return;
  }
  if (values.csv) return void process.stdout.write(csvOf(events, names));
  if (events.length === 0) return void process.stdout.write(`There is no event${describeWithin(within, names)}.\n`);
  const rows = events.map((event) => [
    event.at.slice(0, 19).replace("T", " "),
    names.get(event.keyId) || event.keyId,
    event.provider,
    event.endpoint,
    event.servedModel ?? event.requestedModel,
    String(event.usage.input ?? ""),
    String(event.usage.output ?? ""),
    event.usageReason === null ? event.usageState : `${event.usageState} (${event.usageReason})`,
    event.outcome,
    event.costNanoUsd === null ? "unpriced" : formatUsd(BigInt(event.costNanoUsd)),
  ]);
  process.stdout.write(
    `${formatTable(["at (UTC)", "key", "provider", "endpoint", "model", "input", "output", "usage", "outcome", "cost"], rows)}\n`,
  );
}

function csvOf(events: readonly EventRecord[], names: ReadonlyMap<string, string>): string {
  return toCsv(
    "at request_id key key_name team provider endpoint requested_model served_model input cache_read output usage_state outcome http_status cost_usd".split(
      " ",
    ),
    events.map((event) => [
      event.at,
      event.requestId,
      event.keyId,
      names.get(event.keyId),
      event.team,
      event.provider,
      event.endpoint,
      event.requestedModel,
      event.servedModel,
      event.usage.input,
      event.usage.cache_read,
      event.usage.output,
      event.usageState,
      event.outcome,
      event.httpStatus,
      event.costNanoUsd === null ? null : formatUsdExact(BigInt(event.costNanoUsd)),
    ]),
  );
}
