// keymeter clock accept
import { makeChange } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter clock accept     says that the machine's clock is right now, though it jumped or events lie ahead of it
  Nothing is admitted while that is in doubt. It stands in the audit; what is dated ahead stays as it is.`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...more] = args;
  if (verb !== "accept" || more.length > 0) throw new UsageError(USAGE);
  await makeChange(loadCommandConfig(), { type: "acceptClock" });
  process.stdout.write(`the clock is taken as right: it is ${new Date().toISOString()}\n`);
}
