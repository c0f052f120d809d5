// keymeter verify: do the sums fold, do stored costs recompute, is the audit whole? Each is reported apart.
import { parseArgs } from "node:util";
import { findBrokenAudit } from "../ledger/audit.ts";
import { walkEvents } from "../ledger/events.ts";
import { multiply, parseRatio } from "../ledger/money.ts";
import { TIER_ROWS } from "../ledger/prices/rows.ts";
import { readFoldDifferences } from "../ledger/verify.ts";
import { openUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";

export const USAGE = "keymeter verify [--json]";

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { json: { type: "boolean", default: false } } });
  const books = openUsage(loadCommandConfig());
  const folds = await readFoldDifferences(books);
  const costs: string[] = [];
  let events = 0;
  for await (const event of walkEvents(books)) {
    events += 1;
    const sum = event.costLines.reduce((total, line) => total + BigInt(line.costNanoUsd), 0n);
    if (event.costLines.length > 0 && sum.toString() !== event.costNanoUsd)
      costs.push(`${event.attemptId}: lines sum to ${sum}, stored ${event.costNanoUsd}`);
    const ratios = multipliersOf(event.priceVersion);
    for (const line of event.costLines) {
      const again = multiply(line.quantity, BigInt(line.pricePicoUsd), line.unit.endsWith("_search") ? [] : ratios);
      if (again.toString() !== line.costNanoUsd)
        costs.push(`${event.attemptId}: ${line.unit} recomputes to ${again}, stored ${line.costNanoUsd}`);
    }
  }
  const broken = await findBrokenAudit(books);
  books.close();

  const report = {
    events,
    sumsThatDoNotFold: folds,
    costsThatDoNotRecompute: costs,
    brokenAudit: broken === undefined ? null : `record ${broken.seq}: ${broken.why}`,
  };
  if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else {
    const say = (name: string, problems: readonly string[]): string =>
      `${problems.length === 0 ? "ok  " : "BAD "} ${name}${problems
        .slice(0, 10)
        .map((problem) => `\n       ${problem}`)
        .join("")}`;
    process.stdout.write(
      `${[say("hours and days are the sums of their events", folds), say(`costs of ${events} events recompute from their lines`, costs), say("the audit chain is whole", broken ? [report.brokenAudit ?? ""] : [])].join("\n")}\n`,
    );
  }
  if (folds.length > 0 || costs.length > 0 || broken) process.exitCode = 1;
}

/** The tiers that a price version names behind its "+". */
function multipliersOf(version: string | null): ReturnType<typeof parseRatio>[] {
  const [base = "", ...tiers] = (version ?? "").split("+");
  const [list = "", model = ""] = (base.split(":").at(-1) ?? "").split("/");
  return tiers.flatMap((tier) => {
    const row = TIER_ROWS.find(
      (one) => one.list === list && one.tier === tier && (!one.model || one.model.test(model)),
    );
    return row ? [parseRatio(row.multiplier)] : [];
  });
}
