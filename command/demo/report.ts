// The demo's last word: what was asked, spent and refused, what stands in Slack, and whether the books are the
// provider's.
import { resolve } from "node:path";
import { readComparisons } from "../../ledger/billing/closed-days.ts";
import type { Comparison } from "../../ledger/billing/closed-days.ts";
import { formatUsd, formatUsdColumn, formatUsdSet } from "../../ledger/money.ts";
import { openBilling, openUsage } from "../../ledger/open.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { addDays, createCalendar, utcDay } from "../../ledger/windows.ts";
import type { SharedConfig } from "../../service/config.ts";
import type { DemoProvider } from "./provider.ts";
import type { SlackMessage } from "./slack.ts";
import type { Counts } from "./traffic.ts";
import { formatTable } from "../table.ts";

const BILLED_DAYS = 7;

type Run = {
  readonly config: SharedConfig;
  readonly dataDir: string;
  readonly provider: DemoProvider;
  readonly counts: Counts;
  readonly messages: readonly SlackMessage[];
};

/** How the demo provider's bill of whole days compares with what was metered, and why. */
async function describeBills(dataDir: string, nowMs: number): Promise<string> {
  const billing = await openBilling(dataDir);
  const today = utcDay(nowMs);
  const compared = billing ? await readComparisons(billing, addDays(today, -BILLED_DAYS), today) : [];
  await billing?.close();
  if (compared.length === 0) return "The bill was not read in time.";
  const sum = (read: (one: Comparison) => bigint): bigint => compared.reduce((total, one) => total + read(one), 0n);
  const causes = new Map<string, bigint>();
  for (const { variances } of compared)
    for (const { cause, amountNanoUsd } of variances) causes.set(cause, (causes.get(cause) ?? 0n) + amountNanoUsd);
  const [billed, metered] = [sum((one) => one.billedNanoUsd), sum((one) => one.meteredNanoUsd)];
  const why = [...causes]
    .filter(([, amount]) => amount !== 0n)
    .map(([cause, amount]) => `${cause} ${formatUsd(amount)}`);
  return `OpenAI's bill of the last ${BILLED_DAYS} days is ${formatUsd(billed)}, metered were ${formatUsd(metered)}: ${formatUsd(billed - metered)} more (${why.join(", ") || "no cause"}).
  npx keymeter reconcile --since 7d and npx keymeter leaks say which key, since when, and what to do.`;
}

/** `isGood`: the cap refused, nothing failed, the alert came, and the books agree. */
export async function report({
  config,
  dataDir,
  provider,
  counts,
  messages,
}: Run): Promise<{ readonly text: string; readonly isGood: boolean }> {
  const books = await openUsage(dataDir);
  if (!books) throw new Error("the books are gone");
  const calendar = createCalendar(config.timezone);
  const now = Date.now();
  const { firstDay, endDay } = calendar.window("day", now);
  const rows = await readSpend(books, ["team"], firstDay, endDay);
  const [all] = await readSpend(books, [], "0000-01-01", "9999-12-31");
  await books.close();
  const bills = await describeBills(dataDir, now);
  const costs = formatUsdColumn(rows.map((row) => row.costNanoUsd));
  const ledgerTotal = all?.costNanoUsd ?? 0n;
  const providerTotal = provider.totalNanoUsd();
  const agrees = ledgerTotal === providerTotal;
  const alert = messages.findLast(({ text }) => text.includes("over today's forecast"));

  const cap = rows.reduce((total, row) => total + row.costNanoUsd, 0n);
  const text = `
The two minutes are over: ${counts.requests} requests, ${counts.refused} refused by the cap, ${counts.failed} failed. ${formatUsd(cap)} were spent today.

${formatTable(
  ["team", "requests today", "cost"],
  rows.map((row, i) => [row.group.team ?? "", String(row.requests), costs[i] ?? ""]),
)}

${alert ? `Slack has ${messages.length} messages:\n${messages.map(({ text: words }) => `  - ${headlineOf(words)}`).join("\n")}` : "The forecast alert did not reach Slack in time; the logs of alerts and collector in the data folder say why."}

${bills}

Ledger total           ${formatUsdSet(ledgerTotal)}
Provider's own total   ${formatUsdSet(providerTotal)}, of the key behind Keymeter
${agrees ? "They are equal, to the nano-dollar." : `They differ by ${formatUsdSet(ledgerTotal - providerTotal)}: that is a bug.`}

The books stay in ${resolve(dataDir)}:
  KEYMETER_DATA_DIR=${dataDir} npx keymeter spend --by team,key,model
`;
  return {
    text,
    isGood: agrees && counts.failed === 0 && counts.refused > 0 && alert !== undefined,
  };
}

/** The first sentence of a message, as people read it. */
export function headlineOf(words: string): string {
  return (words.split(". ")[0] ?? words).replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}
