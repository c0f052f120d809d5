// keymeter events [--since --key --limit | --pending] [--json]
import { parseArgs } from "node:util";
import { readEvents } from "../ledger/events.ts";
import { attemptAtMs } from "../ledger/ids.ts";
import type { AttemptId } from "../ledger/ids.ts";
import { formatUsd } from "../ledger/money.ts";
import { createCalendar } from "../ledger/windows.ts";
import { readPendingWork } from "../ledger/work.ts";
import { openUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { parseDay } from "./days.ts";
import { findKey } from "./find-key.ts";
import { formatTable, toJson } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter events [--since today|7d|2026-11-01] [--key KEY] [--limit 50] [--json]
keymeter events --pending [--json]     batches and background responses whose result has not passed yet
  --json prints one object a line.`;

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      since: { type: "string" },
      key: { type: "string" },
      limit: { type: "string", default: "50" },
      pending: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  if (values.pending) return pending(values.json);
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
    event.usageState,
    event.outcome,
    event.costNanoUsd === null ? "unpriced" : formatUsd(BigInt(event.costNanoUsd)),
  ]);
  process.stdout.write(
    `${formatTable(["at (UTC)", "key", "provider", "endpoint", "model", "input", "output", "usage", "outcome", "cost USD"], rows)}\n`,
  );
}

/** What is held stands in the budgets as reserved, until the result passes. */
async function pending(isJson: boolean): Promise<void> {
  const books = openUsage(loadCommandConfig());
  const work = await readPendingWork(books);
  books.close();
  const at = (attemptId: AttemptId): string => new Date(attemptAtMs(attemptId)).toISOString();
  if (isJson) {
    for (const one of work) process.stdout.write(`${toJson({ at: at(one.attemptId), ...one })}\n`);
    return;
  }
  const held = work.map((one) => (one.expectedNanoUsd === undefined ? "unknown" : formatUsd(one.expectedNanoUsd)));
  const rows = work.map((one, i) => [
    at(one.attemptId).slice(0, 19).replace("T", " "),
    one.keyId,
    one.provider,
    one.endpoint,
    one.workId,
    one.requestedModel,
    held[i] ?? "",
  ]);
  process.stdout.write(
    `${formatTable(["since (UTC)", "key", "provider", "endpoint", "work", "model", "held USD"], rows)}\n`,
  );
}
