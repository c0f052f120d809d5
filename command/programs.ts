// keymeter proxy|collector|alerts: one program by itself.
import { parseArgs } from "node:util";
import { COLLECTOR_JOBS, runCollectorJob } from "../collector/ask.ts";
import type { CollectorJob } from "../collector/ask.ts";
import { startCollector } from "../collector/main.ts";
import { startAlerts } from "../alerts/main.ts";
import { startProxy } from "../proxy/main.ts";
import { runProgram } from "../service/process.ts";
import { commandEnvironment } from "./config.ts";
import { createProgress } from "./progress.ts";
import { UsageError } from "./usage-error.ts";

export const PROXY_USAGE = `keymeter proxy
  The proxy by itself: forwards, meters, caps. Ports 4000 (KEYMETER_PORT) and 4001 (KEYMETER_OPS_PORT: metrics, health, admin).
  Settings: keymeter.yaml, section proxy, and the environment.`;

export const COLLECTOR_USAGE = `keymeter collector [--once JOB]
  The collector by itself: bills, comparison, forecast, report pages. Port 4002 (KEYMETER_COLLECTOR_PORT).
  --once does one job and ends: ${COLLECTOR_JOBS.join(", ")}.
  Settings: keymeter.yaml, section collector, and the environment.`;

export const ALERTS_USAGE = `keymeter alerts
  The alerts program by itself: takes what Alertmanager sends and posts it to Slack. Port 4003 (KEYMETER_ALERTS_PORT).
  Settings: keymeter.yaml, section alerts, and the environment.`;

/** Under `keymeter up` a terminal's Ctrl-C reaches us too; the supervisor then sends SIGTERM in order. */
const isSupervised = (): boolean => commandEnvironment()["KEYMETER_SUPERVISED"] === "1";

export async function proxy(): Promise<void> {
  await runProgram(startProxy, isSupervised());
}

export async function collector(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { once: { type: "string" } } });
  if (values.once === undefined) return runProgram(startCollector, isSupervised());
  if (!(COLLECTOR_JOBS as readonly string[]).includes(values.once))
    throw new UsageError(`there is no job ${values.once}; there are ${COLLECTOR_JOBS.join(", ")}`);
  const progress = createProgress();
  const failures = await runCollectorJob(values.once as CollectorJob, (text) => progress.show(text)).finally(() =>
    progress.end(),
  );
  for (const failure of failures) process.stderr.write(`${failure}\n`);
  if (failures.length > 0) process.exitCode = 1;
}

export async function alerts(): Promise<void> {
  await runProgram(startAlerts, isSupervised());
}
