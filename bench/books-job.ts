// One piece of the collector's work on large books, in a process of its own: how long it took, and the most memory it
// had. FOLDER JOB LASTDAY.
import { join } from "node:path";
import { closeQuietDays } from "../collector/jobs.ts";
import { compareDays } from "../collector/compare.ts";
import { NOTHING_STATED } from "../collector/match.ts";
import { exportFocus, reportChargeback } from "../collector/reports.ts";
import { openToWrite, openUsage } from "../ledger/open.ts";
import { giveWay } from "../service/priority.ts";
import { addDays } from "../ledger/windows.ts";

giveWay("lowest");
const [folder = "", job = "", lastDay = ""] = process.argv.slice(2);
const usage = await openUsage(folder);
if (!usage) throw new Error(`there are no books in ${folder}`);
const billing = await openToWrite(folder, "billing", "process");
const books = { usage, billing };
const month = addDays(lastDay, -1).slice(0, 7);
const nowMs = Date.parse(`${lastDay}T12:00:00Z`);
const nothing = (): void => undefined;
const before = process.resourceUsage().maxRSS;
const started = performance.now();
switch (job) {
  case "reconcile 31 days":
  case "reconcile 31 days again":
    await compareDays(books, addDays(lastDay, -31), lastDay, NOTHING_STATED, nowMs);
    break;
  case "fold the rest of the year":
    await compareDays(books, addDays(lastDay, -365), lastDay, NOTHING_STATED, nowMs);
    break;
  case "close 120 days":
    await closeQuietDays(books, { afterDays: 0, quietMs: 0 }, NOTHING_STATED, async () => undefined, nowMs);
    break;
  case "chargeback of a month":
    await reportChargeback(books, month, ["team", "feature", "key"], nothing);
    break;
  case "FOCUS of 31 days, CSV":
  case "FOCUS of 31 days, Parquet": {
    const format = job.endsWith("CSV") ? "csv" : "parquet";
    const file = join(folder, `focus.${format}`);
    await exportFocus(
      books,
      { sinceDay: addDays(lastDay, -31), untilDay: lastDay, version: "1.2", format, file },
      NOTHING_STATED,
      nothing,
    );
    break;
  }
  default:
    throw new Error(`no job ${job}`);
}
const seconds = (performance.now() - started) / 1000;
process.send?.({
  seconds,
  peakMb: Math.round(process.resourceUsage().maxRSS / 1024),
  baseMb: Math.round(before / 1024),
});
await usage.close();
await billing.close();
