// keymeter pages: a link that opens the report pages, once.
import { askProgram } from "../service/admin.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = "keymeter pages    prints a link to the report pages; it opens them once, within a day";

export async function run(args: string[]): Promise<void> {
  if (args.length > 0) throw new UsageError(USAGE);
  const config = loadCommandConfig();
  const { url } = (await askProgram(config, "collector", "POST", "/admin/link")) as { url: string };
  process.stdout.write(`${url}\n`);
}
