// keymeter verify: do the sums fold, do stored costs recompute, are audit, seals and register whole? Each is reported
// apart.
import { parseArgs } from "node:util";
import { readAdjustmentDifferences } from "../ledger/usage/adjustments.ts";
import { checkAudit } from "../ledger/usage/audit.ts";
import type { AuditHead } from "../ledger/usage/audit.ts";
import { walkEvents } from "../ledger/usage/events.ts";
import type { EventRecord } from "../ledger/usage/events.ts";
import { multiply } from "../ledger/money.ts";
import type { Ratio } from "../ledger/money.ts";
import type { UsageBooks } from "../ledger/books.ts";
import { checkArchive } from "../collector/reports.ts";
import { readExpiries, readExpiryDifferences } from "../ledger/usage/retention.ts";
import { readReassignDifferences } from "../ledger/usage/reassign.ts";
import { readSealDifferences, readSealedUntil } from "../ledger/usage/seals.ts";
import type { Unit } from "../ledger/usage.ts";
import { SEAT } from "../ledger/usage/usage-event.ts";
import { readFoldDifferences, readRegisterDifferences } from "../ledger/usage/verify.ts";
import { requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter verify [--head SEQ:HASH] [--archive FOLDER] [--json]
  Exits 1 when anything disagrees, and names the place. The last line is the head of the audit chain: note it where nobody who can
  write the books can write, and give it back with --head; then also a chain that was written anew is found.
  --archive reads the files that retention wrote, and holds each against the seal of its day.`;

const MOST_SHOWN = 10;

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { json: { type: "boolean", default: false }, head: { type: "string" }, archive: { type: "string" } },
  });
  const noted = values.head === undefined ? undefined : readHead(values.head);
  const books = await requireUsage(loadCommandConfig());
  const folds = await readFoldDifferences(books);
  const { events, costs } = await recompute(books);
  const { broken, head } = await checkAudit(books, noted);
  const brokenAudit = broken === undefined ? null : `record ${broken.seq}: ${broken.why}`;
  const seals = await readSealDifferences(books, (day) => {
    if (process.stderr.isTTY) process.stderr.write(`\rsealed events of ${day}`);
  });
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[K");
  const adjusted = await readAdjustmentDifferences(books);
  const reassigned = await readReassignDifferences(books);
  const register = await readRegisterDifferences(books);
  const sealedUntil = await readSealedUntil(books);
  const expiries = await readExpiries(books);
  const expired = await readExpiryDifferences(books);
  const archive = values.archive === undefined ? undefined : await checkArchive(books, values.archive, expiries);
  await books.close();

  const report = {
    events,
    sumsThatDoNotFold: folds,
    costsThatDoNotRecompute: costs,
    brokenAudit,
    brokenSeals: seals,
    brokenAdjustments: adjusted,
    brokenOwners: reassigned,
    changesWithoutAudit: register,
    daysInFiles: expiries.length,
    brokenExpiries: expired,
    ...(archive === undefined ? {} : { archive }),
    auditHead: `${head.seq}:${head.hash}`,
    sealedUntil: sealedUntil ?? null,
  };
  const checks = [
    ["hours and days are the sums of their events", folds],
    [`costs of ${events} events recompute from their lines`, costs],
    ["the audit chain is whole", brokenAudit === null ? [] : [brokenAudit]],
    [`events are as they were sealed (${sealedUntil === undefined ? "no day is yet" : `until ${sealedUntil}`})`, seals],
    ...(expiries.length === 0 && expired.length === 0
      ? []
      : ([[`sums of ${expiries.length} days are as they were when their events left for files`, expired]] as const)),
    ...(archive === undefined
      ? []
      : ([
          [
            `${archive.checked} files of events are as they were sealed${archive.missing === 0 ? "" : ` (${archive.missing} are not there)`}`,
            archive.differences,
          ],
        ] as const)),
    ["adjustments are as they were booked", adjusted],
    ["whose spend is, is as the audit has it", reassigned],
    ["keys, budgets and limits are what the audit says", register],
  ] as const;
  if (values.json) process.stdout.write(`${JSON.stringify(report)}\n`);
  else {
    for (const [name, problems] of checks)
      process.stdout.write(
        `${problems.length === 0 ? "ok  " : "BAD "} ${name}\n${problems
          .slice(0, MOST_SHOWN)
          .map((problem) => `       ${problem}\n`)
          .join(
            "",
          )}${problems.length > MOST_SHOWN ? `       and ${problems.length - MOST_SHOWN} more; --json names all\n` : ""}`,
      );
    process.stdout.write(`     head ${report.auditHead}\n`);
  }
  if (checks.some(([, problems]) => problems.length > 0)) process.exitCode = 1;
}

async function recompute(books: UsageBooks): Promise<{ readonly events: number; readonly costs: readonly string[] }> {
  const costs: string[] = [];
  let events = 0;
  for await (const event of walkEvents(books)) {
    events += 1;
    const sum = event.costLines.reduce((total, line) => total + BigInt(line.costNanoUsd), 0n);
    // Of a subscription nothing is billed: its lines are what it would have cost.
    const isSeat = event.payer === SEAT;
    const stored = isSeat ? event.seatNanoUsd : event.costNanoUsd;
    if (event.costLines.length > 0 && sum.toString() !== stored)
      costs.push(`${event.attemptId}: lines sum to ${sum}, stored ${stored}`);
    if (isSeat && event.costNanoUsd !== "0")
      costs.push(`${event.attemptId}: a subscription pays it, and ${event.costNanoUsd} is stored`);
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
    // Whatever a stated cost is beyond our lines, the whole is what the provider said.
    const isStated = event.costLines.some(({ unit }) => unit === "stated");
    if (isStated && stored !== event.statedCostNanoUsd)
      costs.push(`${event.attemptId}: stated ${event.statedCostNanoUsd}, stored ${stored}`);
    for (const [unit, quantity] of event.priceConfidence === "unpriced" ? [] : sumByUnit(event.costLines))
      if (event.usage[unit] !== quantity)
        costs.push(`${event.attemptId}: ${quantity} ${unit} were priced, ${event.usage[unit] ?? 0} were used`);
  }
  return { events, costs };
}

function readHead(text: string): AuditHead {
  const [, seq, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(text) ?? [];
  if (seq === undefined || hash === undefined)
    throw new UsageError(
      `--head ${text} is no head; it is what the last line of \`keymeter verify\` says, such as 17:3f0c...`,
    );
  return { seq: Number(seq), hash };
}

function readRatio(text: string): Ratio {
  const [numerator = "1", denominator = "1"] = text.split("/");
  return { numerator: BigInt(numerator), denominator: BigInt(denominator) };
}

/** Passes of several models have a line each for the same unit. */
function sumByUnit(lines: EventRecord["costLines"]): Map<Unit, number> {
  const sums = new Map<Unit, number>();
  for (const { unit, quantity } of lines) if (unit !== "stated") sums.set(unit, (sums.get(unit) ?? 0) + quantity);
  return sums;
}
