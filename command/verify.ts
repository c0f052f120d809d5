// keymeter verify: do the sums fold, do stored costs recompute, is the audit whole? Each is reported apart.
import { parseArgs } from "node:util";
import { findBrokenAudit } from "../ledger/audit.ts";
import { walkEvents } from "../ledger/events.ts";
import type { EventRecord } from "../ledger/events.ts";
import { multiply } from "../ledger/money.ts";
import type { Ratio } from "../ledger/money.ts";
import type { Unit } from "../ledger/usage.ts";
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
    for (const line of event.costLines) {
      const again = multiply(
        line.quantity,
        BigInt(line.pricePicoUsd),
        line.multiplier ? [readRatio(line.multiplier)] : [],
      );
      if (again.toString() !== line.costNanoUsd)
        costs.push(`${event.attemptId}: ${line.unit} recomputes to ${again}, stored ${line.costNanoUsd}`);
    }
    // What has no price has no line.
    for (const [unit, quantity] of event.priceConfidence === "unpriced" ? [] : sumByUnit(event.costLines))
      if (event.usage[unit] !== quantity)
        costs.push(`${event.attemptId}: ${quantity} ${unit} were priced, ${event.usage[unit] ?? 0} were used`);
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

function readRatio(text: string): Ratio {
  const [numerator = "1", denominator = "1"] = text.split("/");
  return { numerator: BigInt(numerator), denominator: BigInt(denominator) };
}

/** Passes of several models have a line each for the same unit. */
function sumByUnit(lines: EventRecord["costLines"]): Map<Unit, number> {
  const sums = new Map<Unit, number>();
  for (const { unit, quantity } of lines) sums.set(unit, (sums.get(unit) ?? 0) + quantity);
  return sums;
}
