// The demo's last word: what was asked, spent and refused, what stands in Slack, and whether the books are the provider's.
import { join, resolve } from "node:path";
import { readComparisons } from "../ledger/closing.ts";
import type { Comparison } from "../ledger/closing.ts";
import { formatUsdColumn, formatUsdExact } from "../ledger/money.ts";
import { openForReading } from "../ledger/open.ts";
import { readRefused, readSpend } from "../ledger/spend.ts";
import { addDays, createCalendar } from "../ledger/windows.ts";
import type { SharedConfig } from "../service/config.ts";
import type { DemoProvider } from "./demo-provider.ts";
import type { SlackMessage } from "./demo-slack.ts";
import type { Counts } from "./demo-traffic.ts";
import type { Stack } from "./stack.ts";
import { formatTable } from "./table.ts";

const HOUR_MS = 3_600_000;
const BILLED_DAYS = 3;

type Run = {
  readonly config: SharedConfig;
  readonly dataDir: string;
  readonly provider: DemoProvider;
  readonly counts: Counts;
  readonly messages: readonly SlackMessage[];
  readonly stack: Pick<Stack, "hasPrometheus" | "missing">;
};

/** How the demo provider's bill of the days before today compares, a line a cause. */
async function describeBills(dataDir: string, nowMs: number): Promise<string> {
  const billing = openForReading(join(dataDir, "billing.db"));
  const today = new Date(nowMs).toISOString().slice(0, 10);
  const compared = billing ? await readComparisons(billing, addDays(today, -BILLED_DAYS), today) : [];
  billing?.close();
  if (compared.length === 0) return "";
  const sum = (read: (one: Comparison) => bigint): bigint => compared.reduce((total, one) => total + read(one), 0n);
  const causes = [...new Set(compared.flatMap(({ variances }) => variances.map(({ cause }) => cause)))];
  return `OpenAI's bill of the ${BILLED_DAYS} days before  ${formatUsdExact(sum((one) => one.billedNanoUsd))} USD, metered ${formatUsdExact(sum((one) => one.meteredNanoUsd))} USD (differences: ${causes.join(", ") || "none"})
`;
}

/** `isGood`: the cap refused, nothing failed, the alert came where it could, and the books agree. */
export async function report({
  config,
  dataDir,
  provider,
  counts,
  messages,
  stack: { hasPrometheus, missing },
}: Run): Promise<{ readonly text: string; readonly isGood: boolean }> {
  const books = openForReading(join(dataDir, "usage.db"));
  if (!books) throw new Error("the books are gone");
  const calendar = createCalendar(config.timezone);
  const now = Date.now();
  const { firstDay, endDay } = calendar.window("day", now);
  const rows = await readSpend(books, ["team"], firstDay, endDay);
  const [all] = await readSpend(books, [], "0000-01-01", "9999-12-31");
  const refused = await readRefused(books, now - 24 * HOUR_MS, now + HOUR_MS);
  books.close();
  const bills = await describeBills(dataDir, now);
  const costs = formatUsdColumn(rows.map((row) => row.costNanoUsd));
  const ledgerTotal = all?.costNanoUsd ?? 0n;
  const providerTotal = provider.totalNanoUsd();
  const agrees = ledgerTotal === providerTotal;
  const alert = messages.findLast(({ text }) => text.includes("over today's forecast"));

  const text = `
Requests sent live     ${counts.requests} (${counts.refused} refused by the cap, ${counts.failed} failed)
Refused, in the books  ${refused.map((row) => `${row.count} ${row.reason}`).join(", ") || "none"}

Spend today by team
${formatTable(
  ["team", "requests", "cost"],
  rows.map((row, i) => [row.group.team ?? "", String(row.requests), costs[i] ?? ""]),
)}

${hasPrometheus ? (alert ? `What stands in Slack\n${messages.map(({ text }) => `  - ${text}`).join("\n")}` : "The forecast alert did not reach Slack in time; look at the log of prometheus and alerts in the data folder.") : `The alert step was not run: ${missing.find((line) => line.startsWith("Alerts:")) ?? "no Prometheus"}`}

${bills}
Ledger total           ${formatUsdExact(ledgerTotal)} USD
Provider's own total   ${formatUsdExact(providerTotal)} USD
${agrees ? "They are equal, to the nano-dollar." : `They differ by ${formatUsdExact(ledgerTotal - providerTotal)} USD: that is a bug.`}

The books stay in ${resolve(dataDir)}: KEYMETER_DATA_DIR=${dataDir} npx keymeter spend --by team,key,model`;
  return {
    text,
    isGood: agrees && counts.failed === 0 && counts.refused > 0 && (!hasPrometheus || alert !== undefined),
  };
}
