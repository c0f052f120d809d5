// keymeter reconcile [--day|--since] [--all] [--json]: what was metered against what is billed, by UTC day, with the
// cause of each difference.
import { parseArgs } from "node:util";
import { readBillDays, readImports } from "../ledger/billing/bills.ts";
import { CAUSES, readClosed, readComparisons, readCorrections } from "../ledger/billing/closed-days.ts";
import type { Comparison, VarianceCause } from "../ledger/billing/closed-days.ts";
import { formatUsd, formatUsdColumn } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { openBilling } from "../ledger/open.ts";
import { firstMeteredDay } from "../ledger/usage/meter-hours.ts";
import { addDays, createCalendar, utcDay } from "../ledger/windows.ts";
import { toJson } from "../service/json.ts";
import { requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { isDay } from "../ledger/windows.ts";
import { parseDay } from "./days.ts";
import { bookedProvider } from "./providers.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";
import { placeOf } from "../service/config.ts";

export const USAGE =
  "keymeter reconcile [--day 2026-11-20 | --since 7d] [--provider openai] [--all] [--json]     metered against billed, and why they differ";

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      day: { type: "string" },
      since: { type: "string" },
      provider: { type: "string" },
      all: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  if (values.day !== undefined && values.since !== undefined) throw new UsageError("say --day or --since, not both");
  if (values.day !== undefined && !isDay(values.day))
    throw new UsageError(`"${values.day}" is no day: write 2026-11-20`);
  const config = loadCommandConfig();
  const today = utcDay(Date.now());
  const since = values.day ?? parseDay(values.since ?? "7d", createCalendar("UTC"));
  if (since > today) throw new UsageError(`${since} lies in the future: nothing of it has been metered or billed`);
  const until = values.day === undefined ? addDays(today, 1) : addDays(values.day, 1);

  const billing = await openBilling(placeOf(config));
  const imports = billing ? await readImports(billing) : [];
  const provider = values.provider === undefined ? undefined : bookedProvider(values.provider);
  const days = billing ? await readBillDays(billing, since, until, provider) : [];
  if (!billing || (imports.length === 0 && days.length === 0)) {
    if (values.json) process.stdout.write(`${toJson({ imports: [], days: [], comparisons: [] })}\n`);
    else
      process.stdout.write(
        "No bill has been read yet. Set OPENAI_ADMIN_KEY, ANTHROPIC_ADMIN_KEY or KEYMETER_GOOGLE_BILLING_CREDENTIALS for the collector, which then reads them every three hours; or import a file: `keymeter import FILE`.\n",
      );
    await billing?.close();
    process.exitCode = 1;
    return;
  }
  const usage = await requireUsage(config);
  const firstDay = await firstMeteredDay(usage, Date.now());
  await usage.close();
  const comparisons = await readComparisons(billing, since, until, provider);
  const closed = await readClosed(billing, since, until);
  const corrections = await readCorrections(billing, since, until);
  await billing.close();
  const stateOf = (provider: string, day: string): string => {
    const count = corrections.filter((one) => one.provider === provider && one.day === day).length;
    if (!closed.some((one) => one.provider === provider && one.day === day)) return "open";
    return count === 0 ? "closed" : `closed, ${count} correction${count === 1 ? "" : "s"}`;
  };
  if (values.json)
    return void process.stdout.write(
      `${toJson({
        imports,
        days: days.map((one) => ({
          ...one,
          state: one.day < firstDay ? "before the meter" : stateOf(one.provider, one.day),
        })),
        comparisons,
        closed,
        corrections,
      })}\n`,
    );
  printDays(comparisons, stateOf);
  for (const one of corrections)
    process.stdout.write(
      `Correction of ${one.day}, ${one.provider}, from ${utcDay(one.madeAtMs)}: billed ${formatUsd(one.billedNanoUsd)}, metered ${formatUsd(one.meteredNanoUsd)} more than signed\n`,
    );
  printCauses(comparisons, values.all || values.day !== undefined);
  const before = days.filter(({ day, lines }) => day < firstDay && lines > 0);
  if (before.length > 0)
    process.stdout.write(
      `${before.length} of these bills, ${formatUsd(before.reduce((sum, { amountNanoUsd }) => sum + amountNanoUsd, 0n))}, are of days before ${firstDay}, when the meter began: history, compared with nothing.\n`,
    );
  for (const one of imports) {
    const read = one.lastSuccessMs === null ? "never" : new Date(one.lastSuccessMs).toISOString().slice(0, 16);
    process.stdout.write(
      `${one.provider}: last read ${read}${one.lastError === null ? "" : `; last error: ${one.lastError}`}${one.note === null ? "" : `; note: ${one.note}`}\n`,
    );
  }
}

type Sum = { metered: NanoUsd; billed: NanoUsd; readonly causes: Map<VarianceCause, NanoUsd> };

/** A row a day and provider: both figures, and the largest cause of what is between them. */
function printDays(comparisons: readonly Comparison[], stateOf: (provider: string, day: string) => string): void {
  const sums = new Map<string, Sum>();
  for (const one of comparisons) {
    const name = `${one.day} ${one.provider}`;
    const sum = sums.get(name) ?? { metered: 0n, billed: 0n, causes: new Map() };
    sum.metered += one.meteredNanoUsd;
    sum.billed += one.billedNanoUsd;
    for (const { cause, amountNanoUsd } of one.variances)
      sum.causes.set(cause, (sum.causes.get(cause) ?? 0n) + amountNanoUsd);
    sums.set(name, sum);
  }
  const rows = [...sums].map(([name, { metered, billed, causes }]) => {
    const [day = "", provider = ""] = name.split(" ");
    const [largest] = [...causes].toSorted(([, a], [, b]) => (size(a) > size(b) ? -1 : 1));
    return [
      day,
      provider,
      formatUsd(metered),
      formatUsd(billed),
      formatUsd(billed - metered),
      largest?.[0] ?? "",
      stateOf(provider, day),
    ];
  });
  process.stdout.write(
    `${formatTable(["day (UTC)", "provider", "metered", "billed", "billed - metered", "mostly", "state"], rows)}\n`,
  );
}

/** Differences by cause; with `isDetailed` each one, with what is known of it. */
function printCauses(comparisons: readonly Comparison[], isDetailed: boolean): void {
  const sums = new Map<string, NanoUsd>();
  for (const { variances } of comparisons)
    for (const { cause, amountNanoUsd } of variances) sums.set(cause, (sums.get(cause) ?? 0n) + amountNanoUsd);
  const causes = CAUSES.filter((cause) => sums.has(cause));
  if (comparisons.length === 0)
    return void process.stdout.write("\nNothing was compared: no bill of these days has a line, or none was read.\n\n");
  if (causes.length === 0) return void process.stdout.write("\nBill and meter agree, to the last digit.\n\n");
  const amounts = formatUsdColumn(causes.map((cause) => sums.get(cause) ?? 0n));
  process.stdout.write(
    `\n${formatTable(
      ["cause", "billed - metered"],
      causes.map((cause, i) => [cause, amounts[i] ?? ""]),
    )}\n\n`,
  );
  if (!isDetailed) return;
  const rows = comparisons.flatMap((one) =>
    one.variances.map(({ cause, amountNanoUsd, detail }) => [
      one.day,
      one.provider,
      one.key ?? "",
      one.model ?? "",
      one.unit ?? "",
      cause,
      formatUsd(amountNanoUsd),
      detail,
    ]),
  );
  process.stdout.write(
    `${formatTable(["day (UTC)", "provider", "key", "model", "class", "cause", "amount", "what"], rows)}\n\n`,
  );
}

function size(amount: NanoUsd): NanoUsd {
  return amount < 0n ? -amount : amount;
}
