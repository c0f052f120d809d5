// keymeter import FILE...: bills out of files, FOCUS 1.x as CSV or Parquet, or the providers' own downloads.
import { readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { parseArgs } from "node:util";
import { askCollector } from "../collector/ask.ts";
import { pathOf } from "./asker.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE =
  "keymeter import FILE... [--replace]     bills from files: FOCUS 1.x (CSV, Parquet), cost downloads of OpenAI and Anthropic; --replace: also where a fuller bill is known";

const MOST_BYTES = 128 * 1024 * 1024;

export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { replace: { type: "boolean", default: false } },
  });
  if (positionals.length === 0) throw new UsageError(USAGE);
  for (const path of positionals) {
    const place = pathOf(path);
    const file = statSync(place, { throwIfNoEntry: false });
    if (!file?.isFile()) throw new UsageError(`there is no file ${path}`);
    if (file.size > MOST_BYTES) throw new UsageError(`${path} is larger than 128 MiB; export a month at a time`);
    for (const said of await askCollector({
      type: "import",
      name: basename(path),
      bytes: readFileSync(place),
      isForced: values.replace,
    }))
      process.stdout.write(`${said}\n`);
  }
}
