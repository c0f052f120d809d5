// keymeter reconcile [--json]: what was metered against what is billed, by UTC day.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { readImports, readVariances } from "../ledger/bills.ts";
import { formatUsd } from "../ledger/money.ts";
import { openForReading } from "../ledger/open.ts";
import { addDays } from "../ledger/windows.ts";
import { loadCommandConfig } from "./config.ts";
import { formatTable, toJson } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE =
  "keymeter reconcile [--days 7] [--json]     the collector reads the bills; this shows what came of it";

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { days: { type: "string", default: "7" }, json: { type: "boolean", default: false } },
  });
  const days = Number(values.days);
  if (!Number.isSafeInteger(days) || days < 1 || days > 400)
    throw new UsageError(`--days ${values.days} is no number between 1 and 400`);
  const config = loadCommandConfig();
  const billing = openForReading(join(config.dataDir, "billing.db"));
  const imports = billing ? await readImports(billing) : [];
  if (values.json && (!billing || imports.length === 0))
    return void process.stdout.write(`${toJson({ imports: [], rows: [] })}\n`);
  if (!billing || imports.length === 0) {
    process.stdout.write(
      "No bill has been read yet. Set OPENAI_ADMIN_KEY for the collector; it then reads the costs of the last days every three hours.\n",
    );
    billing?.close();
    process.exitCode = 1;
    return;
  }
  const today = new Date().toISOString().slice(0, 10);
  const rows = await readVariances(billing, addDays(today, -days), addDays(today, 1));
  billing.close();
  if (values.json) return void process.stdout.write(`${toJson({ imports, rows })}\n`);
  process.stdout.write(
    `${formatTable(
      ["day (UTC)", "provider", "model", "metered USD", "billed USD", "billed - metered", "cause"],
      rows.map((row) => [
        row.day,
        row.provider,
        row.model,
        formatUsd(row.meteredNanoUsd),
        formatUsd(row.billedNanoUsd),
        formatUsd(row.billedNanoUsd - row.meteredNanoUsd),
        row.cause,
      ]),
    )}\n`,
  );
  for (const one of imports)
    process.stdout.write(
      `${one.provider}: last read ${one.lastSuccessMs === null ? "never" : new Date(one.lastSuccessMs).toISOString()}${one.lastError === null ? "" : `; last error: ${one.lastError}`}\n`,
    );
}
