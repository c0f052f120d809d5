// keymeter alerts: the alerts program by itself.
import { startAlerts } from "../alerts/main.ts";
import { SHARED_SETTINGS } from "../service/config.ts";
import { runProgram } from "../service/process.ts";
import { isSupervised } from "./config.ts";

const { alertsPort } = SHARED_SETTINGS;

export const USAGE = `keymeter alerts
  The alerts program by itself: takes what Alertmanager sends and posts it to Slack. Port ${alertsPort.fallback} (${alertsPort.env}).`;

/** The settings of its part of the file. All declarations are loaded for it, and not for the program itself. */
export const help = async (): Promise<string> => (await import("./settings-pages.ts")).settingsHelp("alerts");

export async function run(): Promise<void> {
  await runProgram(startAlerts, isSupervised());
}
