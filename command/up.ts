// keymeter up: everything on one machine. Starts the stack, says where to point SDKs, and stops it in order.
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { resolve } from "node:path";
import { LedgerInUse } from "../ledger/books.ts";
import { lockForWriting, waitForBooks } from "../ledger/open.ts";
import type { ProxyConfig } from "../proxy/config.ts";
import { addressOf } from "../service/admin.ts";
import { settingsBefore } from "../service/command-words.ts";
import { innerHostOf } from "../service/network.ts";
import { exportsOf } from "../service/base-urls.ts";
import type { Environment } from "../service/settings.ts";
import { tidyUp } from "../service/tidy.ts";
import { checkAllSettings, strayVariables } from "./check-settings.ts";
import { commandEnvironment, loadCommandConfig } from "./config.ts";
import { startStack } from "./stack.ts";
import type { Stack } from "./stack.ts";

export const USAGE = `keymeter up
  Proxy, collector and alerts under one supervisor, with Prometheus and Alertmanager where they are installed (KEYMETER_PROMETHEUS=off: without).
  KEYMETER_TAKE_OVER=on: beside one that runs, until that is stopped: an upgrade without a gap (docs/operating.md).
  Ctrl-C or SIGTERM stops it; open requests get their answers first. Logs: logs/ in the data folder (KEYMETER_DATA_DIR, ./data).
  Settings: keymeter.yaml (another file: KEYMETER_CONFIG) and the environment; keymeter.example.yaml lists them.`;

const SAME_SIGNAL_MS = 500;

export async function run(): Promise<void> {
  const proxyConfig = checkAllSettings(commandEnvironment());
  const config = loadCommandConfig();
  for (const sentence of strayVariables(commandEnvironment())) process.stderr.write(`${sentence}\n`);
  // Who takes over has the folder when the other one has ended (below).
  let lock = config.takeOver ? undefined : takeFolder(config.dataDir);
  process.stderr.write("Keymeter is starting ...\n");
  let stopRequested = (): void => {};
  const stopped = new Promise<void>((done) => (stopRequested = done));
  let stoppingSinceMs: number | undefined;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      // A terminal and a launcher may both pass on the same key press; a second one is impatience.
      if (stoppingSinceMs !== undefined && Date.now() - stoppingSinceMs > SAME_SIGNAL_MS) process.exit(130);
      stoppingSinceMs ??= Date.now();
      stopRequested();
    });
  }
  let isStarted = false;
  if (config.takeOver) void stopped.then(() => !isStarted && process.exit(0));
  const whenFree = async (): Promise<void> => {
    if (lock) return;
    await waitForBooks(config.dataDir, "keymeter");
    lock = takeFolder(config.dataDir);
  };
  const stack = await startStack({ config, environment: commandEnvironment(), whenFree }).catch((error: unknown) => {
    lock?.release();
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
    return undefined;
  });
  isStarted = true;
  if (!stack) return;
  process.stdout.write(greeting(proxyConfig, commandEnvironment(), stack));
  tidyUp();

  const why = await Promise.race([stopped.then(() => undefined), stack.broken]);
  process.stderr.write(
    why === undefined
      ? "\nKeymeter is stopping: open requests get their answers first.\n"
      : `${why}\nKeymeter stops.\n`,
  );
  await stack.stop();
  lock?.release();
  process.exit(why === undefined ? 0 : 1);
}

/** One Keymeter a data folder. */
function takeFolder(dataDir: string): { release(): void } {
  try {
    return lockForWriting(`${dataDir}/keymeter`);
  } catch (error) {
    if (!(error instanceof LedgerInUse)) throw error;
    throw new LedgerInUse(
      `Keymeter runs already on the data folder ${resolve(dataDir)}. Stop that one first, or give this one a folder and ports of its own (KEYMETER_DATA_DIR, KEYMETER_PORT, ...).`,
    );
  }
}

function greeting(
  config: ProxyConfig,
  environment: Environment,
  { missing, hasPrometheus, pages }: Pick<Stack, "missing" | "hasPrometheus" | "pages">,
): string {
  const base = `${config.tls ? "https" : "http"}://${reachableHost(config.host)}:${config.proxyPort}`;
  const own = config.passThrough ? "your own provider key, or a Keymeter key (km_...)" : "a Keymeter key (km_...)";
  const prefix = settingsBefore(environment);
  const credentials = Object.entries(config.own).flatMap(([name, { credential }]) => {
    const variable = config.providers.find(name)?.keyVariable;
    return variable === undefined || credential ? [] : [variable];
  });
  const missingLines = [
    ...missing,
    ...(credentials.length > 0
      ? [
          `Virtual keys: ${credentials.join(", ")} not set; Keymeter keys work for a provider once its credential is in the environment.`,
        ]
      : []),
  ];
  return `
Keymeter ${version()} is running. Point your SDK here and use ${own}:

${exportsOf(base)}  docs/clients.md says it for each client and agent.

  Reports     ${pages}
              That link signs one browser in, once; \`${prefix}npx keymeter pages\` prints another.
  Ledger      ${resolve(config.dataDir)}/usage.db
  Logs        ${resolve(config.dataDir)}/logs (what happens; no request and no answer is ever written down)
  In this folder:
    ${prefix}npx keymeter spend --by team,key,model
    ${prefix}npx keymeter keys create --name ci --team search --env prod --budget 50/month --hard
  Metrics     ${addressOf(innerHostOf(config), config.opsPort)}/metrics · ${addressOf(innerHostOf(config), config.collectorPort)}/metrics
${hasPrometheus ? `  Prometheus  http://127.0.0.1:${config.prometheusPort}   Alertmanager http://127.0.0.1:${config.alertmanagerPort}\n` : ""}${missingLines.length > 0 ? `\nNot there, and how to get it:\n${missingLines.map((line) => `  - ${line}`).join("\n")}\n` : ""}
Ctrl-C stops it.
`;
}

/** How others reach a host that means all addresses: by this machine's name. */
function reachableHost(host: string): string {
  if (host === "0.0.0.0" || host === "::") return hostname();
  return host.includes(":") ? `[${host}]` : host;
}

function version(): string {
  return (JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")) as { version: string }).version;
}
