// keymeter keys set KEY --team T --since DAY: what a key has spent already is its team's too. Shows first what moves
// and what that does to each budget; stops at days that are signed.
import { amountAt, describeBudgetScope } from "../ledger/budgets.ts";
import { readKeyOwners } from "../ledger/usage/budget-spend.ts";
import { ChangeRefused } from "../ledger/usage/change-refused.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { readClosed } from "../ledger/billing/closed-days.ts";
import type { Key } from "../ledger/usage/keys.ts";
import { formatUsd, formatUsdDown, formatUsdSet } from "../ledger/money.ts";
import { openBilling } from "../ledger/open.ts";
import type { UsageBooks } from "../ledger/books.ts";
import { planReassignment } from "../ledger/usage/reassign-plan.ts";
import type { ReassignmentPlan } from "../ledger/usage/reassign-plan.ts";
import { NO_END, stepsOf } from "../ledger/usage/reassign.ts";
import type { Owner, Span } from "../ledger/usage/reassign.ts";
import { readKeyHours } from "../ledger/usage/key-use.ts";
import { addDays, createCalendar, DAY_MS, utcDay } from "../ledger/windows.ts";
import { makeChange, requireUsage } from "./books.ts";
import { noteKept } from "./kept.ts";
import type { CommandConfig } from "./config.ts";
import { parseDay } from "./days.ts";
import { createProgress } from "./progress.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";
import { placeOf } from "../service/config.ts";

/** `describe`: what the key belongs to from now on, made in one change with the last step. Rejects with ChangeRefused
 *  where somebody else changes the key or signs one of the days meanwhile. */
export async function reachBack(
  config: CommandConfig,
  key: Key,
  to: Owner,
  since: string,
  describe: Change,
  isSure: boolean,
): Promise<void> {
  const calendar = createCalendar(config.timezone);
  const sinceDay = parseDay(since, calendar);
  const nowMs = Date.now();
  if (calendar.dayStart(sinceDay) > nowMs)
    throw new UsageError(`${sinceDay} lies in the future: without --since it counts from now on`);
  const usage = await requireUsage(config);
  try {
    const signed = await signedDays(config, usage, key.id, sinceDay);
    const spans = spansBetween(calendar.dayStart(sinceDay), signed);
    const { team, project, env } = await readKeyOwners(usage, key.id);
    const from = { team, project, env };
    await noteKept(usage, calendar.dayStart(sinceDay));
    const plan = await planReassignment(usage, { keyId: key.id, from, to }, spans, calendar, nowMs);
    const at = new Date(spans[0]?.sinceMs ?? nowMs).toISOString().slice(0, 16).replace("T", " ");
    print(plan, key, to, at, signed, nowMs);
    if (!isSure) {
      process.stdout.write("\nNothing is changed yet. Say it again with --yes to do it.\n");
      return;
    }
    const progress = createProgress();
    const current = { team: key.team, project: key.project, env: key.env };
    for await (const step of stepsOf(usage, { keyId: key.id, from, to, current, spans })) {
      if ((await signedDays(config, usage, key.id, sinceDay)).join() !== signed.join())
        throw new ChangeRefused("one of these days was signed meanwhile; what was moved so far stands. Say it again");
      const change: Change = { type: "reassign", ...step };
      const isLast = step.end === NO_END;
      progress.show(`${key.name}: ${isLast ? "the last step" : `up to attempt ${step.end}`}`);
      // The last one with what holds from now on: nothing is booked between the two.
      const described = describe.type === "together" ? describe.changes : [describe];
      await makeChange(config, isLast ? { type: "together", changes: [change, ...described] } : change);
    }
    progress.end();
    process.stdout.write(`\n${key.id} (${key.name}): set, from ${at} UTC on\n`);
  } finally {
    await usage.close();
  }
}

function print(
  { requests, costNanoUsd, staying, budgets }: ReassignmentPlan,
  key: Key,
  to: Owner,
  at: string,
  signed: readonly string[],
  nowMs: number,
): void {
  const count = (number: number): string => `${number.toLocaleString("en-US")} request${number === 1 ? "" : "s"}`;
  const words = Object.entries(to).map(([part, value]) => `${part} ${value || "(none)"}`);
  const lines = [
    `${key.name} (${key.id}) to ${words.join(", ")} from ${at} UTC on: ${count(requests)}, ${formatUsd(costNanoUsd)}.`,
    ...(staying > 0
      ? [`${count(staying)} more named a team, project or environment of their own by a tag, and stay there.`]
      : []),
    ...(signed.length === 0
      ? []
      : [
          `Days that are signed off stay as they are, charged back by what the key belonged to then: ${listed(signed)} (UTC).`,
        ]),
    budgets.length === 0
      ? "No budget sees a difference."
      : `\n${formatTable(
          ["budget", "for", "window", "amount", "spent before", "spent after", "left after"],
          budgets.map(({ budget, beforeNanoUsd, afterNanoUsd }) => [
            budget.id,
            describeBudgetScope(budget, (id) => (id === key.id ? key.name : undefined)),
            budget.window,
            `${formatUsdSet(amountAt(budget, nowMs))}${budget.kind === "hard" ? " hard" : ""}`,
            formatUsd(beforeNanoUsd),
            formatUsd(afterNanoUsd),
            formatUsdDown(amountAt(budget, nowMs) - afterNanoUsd),
          ]),
        )}`,
  ];
  process.stdout.write(`${lines.join("\n")}\n`);
}

/** "2026-11-01 to 2026-11-12, 2026-11-20". */
function listed(days: readonly string[]): string {
  const runs: [first: string, last: string][] = [];
  for (const day of days) {
    const run = runs.at(-1);
    if (run && addDays(run[1], 1) === day) run[1] = day;
    else runs.push([day, day]);
  }
  return runs.map(([first, last]) => (first === last ? first : `${first} to ${last}`)).join(", ");
}

/** What lies between signed days, the last span without an end. */
function spansBetween(sinceMs: number, signed: readonly string[]): Span[] {
  const spans: Span[] = [];
  let from = sinceMs;
  for (const day of signed) {
    const startMs = Date.parse(`${day}T00:00:00Z`);
    if (startMs > from) spans.push({ sinceMs: from, untilMs: startMs });
    from = Math.max(from, startMs + DAY_MS);
  }
  return [...spans, { sinceMs: from }];
}

/** The signed UTC days since a day of which the key has a part: at the provider whose bill was signed. */
async function signedDays(
  config: CommandConfig,
  usage: UsageBooks,
  keyId: string,
  sinceDay: string,
): Promise<string[]> {
  const billing = await openBilling(placeOf(config));
  if (!billing) return [];
  try {
    const today = utcDay(Date.now());
    const first = addDays(sinceDay, -1);
    const hours = await readKeyHours(usage, keyId, Date.parse(`${first}T00:00:00Z`));
    const used = new Set(hours.map(({ provider, hourMs }) => `${provider} ${utcDay(hourMs)}`));
    const signed = (await readClosed(billing, first, today)).filter(({ provider, day }) =>
      used.has(`${provider} ${day}`),
    );
    return [...new Set(signed.map(({ day }) => day))].toSorted();
  } finally {
    await billing.close();
  }
}
