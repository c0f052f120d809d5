// keymeter events [--since --key --limit] [--json]
import { parseArgs } from "node:util";
import { readEvents } from "../ledger/events.ts";
import { formatUsd } from "../ledger/money.ts";
import { createCalendar } from "../ledger/windows.ts";
import { openUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { parseDay } from "./days.ts";
import { findKey } from "./find-key.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter events [--since today|7d|2026-11-01] [--key KEY] [--limit 50] [--json]
  --json prints one object a line.`;

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      since: { type: "string" },
      key: { type: "string" },
      limit: { type: "string", default: "50" },
      json: { type: "boolean", default: false },
    },
  });
  const limit = Number(values.limit);
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > 1_000_000)
    throw new UsageError(`--limit ${values.limit} is no number between 1 and 1000000`);
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const books = openUsage(config);
  const events = await readEvents(books, {
    sinceMs: values.since === undefined ? undefined : calendar.dayStart(parseDay(values.since, calendar)),
    keyId: values.key === undefined ? undefined : (await findKey(values.key)).id,
    limit,
  });
  books.close();
  if (values.json) {
    for (const event of events) process.stdout.write(`${JSON.stringify(event)}\n`);
    return;
  }
  const rows = events.map((event) => [
    event.at.slice(0, 19).replace("T", " "),
    event.keyId,
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
