// keymeter ask: the holder of a key asks for more money.
import { parseArgs } from "node:util";
import { formatUsd } from "../ledger/money.ts";
import { parseUsdOption } from "./budget-options.ts";
import { askAsHolder, findHolder, HOLDER_USAGE } from "./holder.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter ask --amount 20 --why WORDS [--budget BUDGET] [--json]
  Asks whoever runs Keymeter for so many USD more: in BUDGET, or in the hard budget of the key that is nearest its end. Nothing is raised by that;
  \`keymeter status --json\` shows what became of it. ${HOLDER_USAGE}`;

const ANSWER_MS = 10_000;

export async function run(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args,
    options: { amount: text, why: text, budget: text, json: { type: "boolean", default: false } },
  });
  const { amount, why, budget } = values;
  if (amount === undefined || !why) throw new UsageError(`how much, and why?\n${USAGE}`);
  if (parseUsdOption("--amount", amount) <= 0n) throw new UsageError(`--amount ${amount} asks for nothing`);
  const asked = await askAsHolder<{ id: string; scope: string; window: string }>(findHolder(USAGE), "/keymeter/ask", {
    body: { amount, why, ...(budget === undefined ? {} : { budget }) },
    answerMs: ANSWER_MS,
  }).catch((error: unknown) => {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  });
  process.stdout.write(
    values.json
      ? `${JSON.stringify(asked)}\n`
      : `${asked.id}: asked for ${formatUsd(parseUsdOption("--amount", amount))} more for ${asked.scope} (${asked.window}); whoever runs Keymeter answers\n`,
  );
}
