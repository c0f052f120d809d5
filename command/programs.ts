// keymeter proxy|collector|alerts: one program by itself.
import { parseArgs } from "node:util";
import { COLLECTOR_JOBS, runCollectorJob } from "../collector/ask.ts";
import type { CollectorJob } from "../collector/ask.ts";
import { startCollector } from "../collector/main.ts";
import { startAlerts } from "../alerts/main.ts";
import { startProxy } from "../proxy/main.ts";
import { SHARED_SETTINGS } from "../service/config.ts";
import { runProgram } from "../service/process.ts";
import { commandEnvironment } from "./config.ts";
import { createProgress } from "./progress.ts";
import { settingsHelp } from "./settings-pages.ts";
import { UsageError } from "./usage-error.ts";

const { proxyPort, opsPort, collectorPort, alertsPort } = SHARED_SETTINGS;
const said = ({ env, fallback }: { readonly env: string; readonly fallback: number }): string => `${fallback} (${env})`;

export const PROXY_USAGE = `keymeter proxy
  The proxy by itself: forwards, meters, caps. Ports ${said(proxyPort)} and ${said(opsPort)}: metrics, health, admin.

${settingsHelp("proxy")}`;

export const COLLECTOR_USAGE = `keymeter collector [--once JOB]
  The collector by itself: bills, comparison, forecast, report pages. Port ${said(collectorPort)}.
  --once does one job and ends: ${COLLECTOR_JOBS.join(", ")}.

${settingsHelp("collector")}`;

export const ALERTS_USAGE = `keymeter alerts
  The alerts program by itself: takes what Alertmanager sends and posts it to Slack. Port ${said(alertsPort)}.

${settingsHelp("alerts")}`;

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
