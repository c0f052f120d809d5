// keymeter work list|settle
import { parseArgs } from "node:util";
import { attemptAtMs } from "../ledger/ids.ts";
import type { AttemptId } from "../ledger/ids.ts";
import { formatUsd } from "../ledger/money.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { readPendingWork } from "../ledger/usage/pending-work.ts";
import { makeChange, requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { toJson } from "../service/json.ts";
import { formatTable } from "./table.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter work list [--json]     batches, background responses and films whose result has not passed yet
keymeter work settle WORK       books one at the amount that is held for it, as estimated, and lets the budgets go on
  What nobody fetches is settled so by itself after 31 days.`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  if (verb === "list") return list(rest);
  if (verb === "settle") return settle(rest);
  if (verb === "close") {
    process.stderr.write(
      "`keymeter work close` is `keymeter work settle` now; the old name works for one release more\n",
    );
    return settle(rest);
  }
  throw noSuchVerb("work", verb, ["list", "settle"], USAGE);
}

/** What is held stands in the budgets as reserved, until the result passes. */
async function list(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const books = await requireUsage(loadCommandConfig());
  const work = await readPendingWork(books);
  const names = await readNames(books);
  await books.close();
  const at = (attemptId: AttemptId): string => new Date(attemptAtMs(attemptId)).toISOString();
  if (values.json) {
    for (const one of work) process.stdout.write(`${toJson({ at: at(one.attemptId), ...one })}\n`);
    return;
  }
  const rows = work.map((one) => [
    at(one.attemptId).slice(0, 19).replace("T", " "),
    names.get(one.keyId) || one.keyId,
    one.provider,
    one.endpoint,
    one.workId,
    one.requestedModel,
    one.expectedNanoUsd === undefined ? "unknown" : formatUsd(one.expectedNanoUsd),
  ]);
  process.stdout.write(
    `${formatTable(["since (UTC)", "key", "provider", "endpoint", "work", "model", "held"], rows)}\n`,
  );
}

async function settle(args: string[]): Promise<void> {
  const { positionals } = parseArgs({ args, allowPositionals: true });
  const [workId, ...more] = positionals;
  if (workId === undefined || more.length > 0)
    throw new UsageError("name one piece of work; `keymeter work list` shows them");
  await makeChange(loadCommandConfig(), { type: "closeWork", workId });
  process.stdout.write(`${workId} is settled at the amount that was held for it\n`);
}
