// keymeter close DAY: signs a day's bill off. Its figure stays; what changes later is a correction.
import { parseArgs } from "node:util";
import { askCollector } from "../collector/ask.ts";
import { isDay } from "../ledger/windows.ts";
import { whoSays } from "./who.ts";
import { UsageError } from "./usage-error.ts";
import { bookedProvider } from "./providers.ts";

export const USAGE =
  "keymeter close DAY [--provider openai] [--by NAME]     signs a UTC day's bill off (it closes itself once it stands still)";

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { provider: { type: "string" }, by: { type: "string" } },
  });
  const [day, ...more] = positionals;
  if (day === undefined || more.length > 0) throw new UsageError(USAGE);
  if (!isDay(day)) throw new UsageError(`"${day}" is no day: write 2026-11-20`);
  const by = values.by ?? whoSays();
  for (const said of await askCollector({
    type: "close",
    day,
    provider: values.provider === undefined ? undefined : bookedProvider(values.provider),
    by,
  }))
    process.stdout.write(`${said}\n`);
}
