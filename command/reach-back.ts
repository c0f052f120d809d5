// keymeter keys set KEY --team T --since DAY: what a key has spent already is its team's too. Shows first what moves and what that does to each budget; stops
// at days that are signed.
import { join } from "node:path";
import { describeScope } from "../ledger/budgets.ts";
import type { Change } from "../ledger/changes.ts";
import { readClosed } from "../ledger/closing.ts";
import type { Key } from "../ledger/keys.ts";
import { formatUsd, formatUsdSet } from "../ledger/money.ts";
import { openForReading } from "../ledger/open.ts";
import { planReassignment } from "../ledger/reassign-plan.ts";
import { stepsOf } from "../ledger/reassign.ts";
import type { Owner } from "../ledger/reassign.ts";
import { readSpend } from "../ledger/spend.ts";
import { addDays, createCalendar } from "../ledger/windows.ts";
import { makeChange, openUsage } from "./books.ts";
import type { CommandConfig } from "./config.ts";
import { parseDay } from "./days.ts";
import { createProgress } from "./progress.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

/** `describe`: what the key belongs to from now on, made in one change with the last step. */
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
  const usage = openUsage(config);
  const signedUntil = await lastSigned(config, usage, key.id, sinceDay);
  // Signed days are UTC days.
  const sinceMs = Math.max(
    calendar.dayStart(sinceDay),
    signedUntil === undefined ? 0 : Date.parse(`${addDays(signedUntil, 1)}T00:00:00Z`),
  );
  const { requests, costNanoUsd, budgets } = await planReassignment(usage, key, to, sinceMs, calendar, nowMs);
  const words = Object.entries(to).map(([part, value]) => `${part} ${value || "(none)"}`);
  const at = new Date(sinceMs).toISOString().slice(0, 16).replace("T", " ");
  process.stdout.write(
    `${key.name} (${key.id}) to ${words.join(", ")} from ${at} UTC on: ${requests.toLocaleString("en-US")} requests, ${formatUsd(costNanoUsd)}.\n`,
  );
  if (signedUntil !== undefined)
    process.stdout.write(
      `Days up to ${signedUntil} (UTC) are signed off and stay as they are: they were charged back by what the key belonged to then.\n`,
    );
  if (budgets.length > 0)
    process.stdout.write(
      `\n${formatTable(
        ["budget", "for", "window", "amount", "spent before", "spent after", "left after"],
        budgets.map(({ budget, beforeNanoUsd, afterNanoUsd }) => [
          budget.id,
          describeScope(budget.scope, (id) => (id === key.id ? key.name : undefined)),
          budget.window,
          `${formatUsdSet(budget.amountNanoUsd)}${budget.kind === "hard" ? " hard" : ""}`,
          formatUsd(beforeNanoUsd),
          formatUsd(afterNanoUsd),
          formatUsd(budget.amountNanoUsd - afterNanoUsd),
        ]),
      )}\n`,
    );
  else process.stdout.write("No budget sees a difference.\n");
  if (!isSure) {
    usage.close();
    process.stdout.write("\nNothing is changed yet. Say it again with --yes to do it.\n");
    return;
  }
  const progress = createProgress();
  const steps = stepsOf(usage, { keyId: key.id, from: key, to, sinceMs });
  for (const step of steps) {
    const change: Change = { type: "reassign", ...step, from: { team: key.team, project: key.project, env: key.env } };
    const isLast = step.end === Number.MAX_SAFE_INTEGER;
    progress.show(`${key.name}: ${isLast ? "the last step" : `up to attempt ${step.end}`}`);
    // The last one with what holds from now on: nothing is booked between the two.
    await makeChange(config, isLast ? { type: "together", changes: [describe, change] } : change);
  }
  progress.end();
  usage.close();
  process.stdout.write(`\n${key.id} (${key.name}): set, from ${at} UTC on\n`);
}

/** The last signed UTC day on which the key was used, at a provider that was used then; undefined: none since that day. */
async function lastSigned(
  { dataDir }: CommandConfig,
  usage: Parameters<typeof readSpend>[0],
  keyId: string,
  sinceDay: string,
): Promise<string | undefined> {
  const billing = openForReading(join(dataDir, "billing.db"));
  if (!billing) return undefined;
  const today = new Date().toISOString().slice(0, 10);
  const providers = new Set(
    (await readSpend(usage, ["provider"], sinceDay, addDays(today, 2), { key: keyId })).map(
      ({ group }) => group.provider,
    ),
  );
  const signed = (await readClosed(billing, addDays(sinceDay, -1), today)).filter(({ provider }) =>
    providers.has(provider),
  );
  billing.close();
  return signed
    .map(({ day }) => day)
    .toSorted()
    .at(-1);
}
