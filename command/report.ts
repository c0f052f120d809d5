// keymeter report pr: what the work on a branch cost, as a comment for a pull request.
import { parseArgs } from "node:util";
import { formatUsd } from "../ledger/money.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { addSums, NO_SPEND } from "../ledger/usage/spend-sums.ts";
import type { SpendRow, SpendSums } from "../ledger/usage/spend-sums.ts";
import { readSpendByTag } from "../ledger/usage/spend.ts";
import { addDays, createCalendar } from "../ledger/windows.ts";
import { toJson } from "../service/json.ts";
import { noteKept } from "./kept.ts";
import { requireUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { parseDay } from "./days.ts";
import { readWork } from "./run.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter report pr [--repo OWNER/NAME] [--branch B] [--since 90d] [--json]
  What requests with these tags cost (x-keymeter-repo, x-keymeter-branch; \`keymeter run\` sends them), as Markdown for a comment.
  Without --repo and --branch: those of this folder.`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  if (verb !== "pr") throw noSuchVerb("report", verb, ["pr"], USAGE);
  const { values } = parseArgs({
    args: rest,
    options: {
      repo: { type: "string" },
      branch: { type: "string" },
      since: { type: "string", default: "90d" },
      json: { type: "boolean", default: false },
    },
  });
  const here = readWork();
  const { repo = here.repo, branch = here.branch } = values;
  if (repo === undefined || branch === undefined)
    throw new UsageError(`which --repo and which --branch? This folder has none\n${USAGE}`);
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const since = parseDay(values.since, calendar);
  const books = await requireUsage(config);
  const names = await readNames(books);
  const by = ["user", "tag:client", "model", "tag:repo", "tag:branch"] as const;
  const all = await readSpendByTag(books, by, calendar, since, addDays(calendar.day(Date.now()), 1));
  await noteKept(books, calendar.dayStart(since));
  await books.close();
  const rows = all.filter(({ group }) => group["tag:repo"] === repo && group["tag:branch"] === branch);
  const total = rows.reduce((sum: SpendSums, row) => addSums(sum, row), NO_SPEND);
  if (values.json) return void process.stdout.write(`${toJson({ repo, branch, since, rows, total })}\n`);
  process.stdout.write(asMarkdown(rows, total, `${repo}, branch ${branch}`, names));
}

function asMarkdown(
  rows: readonly SpendRow[],
  total: SpendSums,
  subject: string,
  names: ReadonlyMap<string, string>,
): string {
  if (rows.length === 0) return `No AI spend was metered for ${cell(subject)}.\n`;
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(" | ")} |\n`;
  const sums = ({ requests, input, cacheRead, cacheWrite, output, costNanoUsd, seatNanoUsd }: SpendSums): string[] => [
    String(requests),
    String(input + cacheWrite),
    String(cacheRead),
    String(output),
    formatUsd(costNanoUsd),
    ...(total.seatNanoUsd > 0n ? [formatUsd(seatNanoUsd)] : []),
  ];
  const heads = ["who", "client", "model", "requests", "in", "cached", "out", "cost"];
  if (total.seatNanoUsd > 0n) heads.push("paid by subscriptions, worth");
  return [
    `**AI spend of ${cell(subject)}: ${formatUsd(total.costNanoUsd)}**\n\n`,
    line(heads),
    line(heads.map((_head, i) => (i < 3 ? "---" : "--:"))),
    ...rows.map((row) =>
      line([
        names.get(row.group.user ?? "") ?? (row.group.user || "(nobody named)"),
        row.group["tag:client"] || "(unknown)",
        row.group.model ?? "",
        ...sums(row),
      ]),
    ),
    line(["**all**", "", "", ...sums(total)]),
    ...(total.unpriced + total.unknown > 0
      ? ["\nSome of it has no price or no count: its money is missing above.\n"]
      : []),
  ].join("");
}

/** Names come from outside: none of them makes a table, a link or a mention. */
function cell(text: string): string {
  return text.replace(/[\\`|<>[\]@]/g, (mark) => `\\${mark}`).replace(/\s+/g, " ");
}
