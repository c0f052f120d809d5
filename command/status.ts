// keymeter status: one line of what is spent and left, for a terminal or the status line of Claude Code.
import { formatUsd, formatUsdDown, parseUsd } from "../ledger/money.ts";
import { askAsHolder, findHolder, HOLDER_USAGE } from "./holder.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter status [--json]
  What a key has spent today and this month, and what is left, in one line. ${HOLDER_USAGE}
  For Claude Code, in ~/.claude/settings.json: "statusLine": { "type": "command", "command": "keymeter status" }`;

const ANSWER_MS = 2_000;

type Told = {
  readonly spent: { readonly todayUsd: string; readonly monthUsd: string };
  readonly budgets: readonly { readonly kind: string; readonly window: string; readonly leftUsd?: string }[];
  readonly seatCaps?: readonly {
    readonly window: string;
    readonly tokens?: number;
    readonly left?: number;
    readonly usedPercent?: number;
  }[];
};

export async function run(args: string[]): Promise<void> {
  const isJson = args[0] === "--json";
  if (args.length > (isJson ? 1 : 0)) throw new UsageError(USAGE);
  const line = await askAsHolder<Told>(findHolder(USAGE), "/keymeter/me", { answerMs: ANSWER_MS }).then(
    (told) => (isJson ? JSON.stringify(told) : lineOf(told)),
    // A status line that fails says so, and takes nothing down.
    (error: unknown) => `Keymeter: ${error instanceof Error ? error.message : String(error)}`,
  );
  process.stdout.write(`${line}\n`);
}

/** "$1.20 today, $14.30 this month, $35.70 left (month)": of the hard budget that is nearest its end; and of subscriptions
 *  "40 % of tokens left (5 hours)". */
function lineOf({ spent, budgets, seatCaps = [] }: Told): string {
  const left = budgets
    .filter(({ kind, leftUsd }) => kind === "hard" && leftUsd !== undefined)
    .map(({ window, leftUsd = "0" }) => ({ window, amount: parseUsd(leftUsd) }))
    .toSorted((a, b) => (a.amount < b.amount ? -1 : 1))[0];
  const money = `${formatUsd(parseUsd(spent.todayUsd))} today, ${formatUsd(parseUsd(spent.monthUsd))} this month`;
  const seat = seatCaps
    .map(({ window, tokens = 100, usedPercent = 0, left = Math.max(0, 100 - usedPercent) }) => ({
      window,
      share: left / tokens,
    }))
    .toSorted((a, b) => a.share - b.share)[0];
  return [
    money,
    ...(left === undefined ? [] : [`${formatUsdDown(left.amount)} left (${left.window})`]),
    ...(seat === undefined ? [] : [`${Math.floor(seat.share * 100)} % of tokens left (${seat.window})`]),
  ].join(", ");
}
