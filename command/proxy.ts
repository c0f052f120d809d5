// keymeter proxy: the proxy by itself.
import { startProxy } from "../proxy/main.ts";
import { SHARED_SETTINGS } from "../service/config.ts";
import { runProgram } from "../service/process.ts";
import { isSupervised } from "./config.ts";

const { proxyPort, opsPort } = SHARED_SETTINGS;

export const USAGE = `keymeter proxy
  The proxy by itself: forwards, meters, caps. Ports ${proxyPort.fallback} (${proxyPort.env}) and ${opsPort.fallback} (${opsPort.env}): metrics, health, admin.`;

/** The settings of its part of the file. All declarations are loaded for it, and not for the program itself. */
export const help = async (): Promise<string> => (await import("./settings-pages.ts")).settingsHelp("proxy");

export async function run(): Promise<void> {
  await runProgram(startProxy, isSupervised());
}
