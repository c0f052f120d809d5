// keymeter collector: the collector by itself, or one of its jobs.
import { parseArgs } from "node:util";
import { COLLECTOR_JOBS, runCollectorJob } from "../collector/ask.ts";
import type { CollectorJob } from "../collector/ask.ts";
import { startCollector } from "../collector/main.ts";
import { SHARED_SETTINGS } from "../service/config.ts";
import { runProgram } from "../service/process.ts";
import { commandEnvironment, isSupervised } from "./config.ts";
import { createProgress } from "./progress.ts";
import { offerCommand } from "./remote/server.ts";
import { UsageError } from "./usage-error.ts";

const { collectorPort } = SHARED_SETTINGS;

export const USAGE = `keymeter collector [--once JOB]
  The collector by itself: bills, comparison, forecast, report pages. Port ${collectorPort.fallback} (${collectorPort.env}).
  --once does one job and ends: ${COLLECTOR_JOBS.join(", ")}.`;

/** The settings of its part of the file. All declarations are loaded for it, and not for the program itself. */
export const help = async (): Promise<string> => (await import("./settings-pages.ts")).settingsHelp("collector");

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { once: { type: "string" } } });
  if (values.once === undefined)
    return runProgram(() => startCollector(offerCommand(commandEnvironment())), isSupervised());
  if (!(COLLECTOR_JOBS as readonly string[]).includes(values.once))
    throw new UsageError(`there is no job ${values.once}; there are ${COLLECTOR_JOBS.join(", ")}`);
  const progress = createProgress();
  const failures = await runCollectorJob(values.once as CollectorJob, (text) => progress.show(text)).finally(() =>
    progress.end(),
  );
  for (const failure of failures) process.stderr.write(`${failure}\n`);
  if (failures.length > 0) process.exitCode = 1;
}
