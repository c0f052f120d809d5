// The proxy program: settings, listeners, stop. One process, or several on one port.
import { listen } from "../service/listener.ts";
import { innerHostOf, noteOpenNetwork } from "../service/network.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { createProxy } from "./app.ts";
import type { Proxy } from "./app.ts";
import { loadProxyConfig } from "./config.ts";
import type { ProxyConfig } from "./config.ts";
import { startProcesses } from "./processes.ts";

export async function startProxy(): Promise<{ readonly log: Log; stop(): Promise<void> }> {
  const config = loadProxyConfig();
  const log = createLog("proxy", config.logLevel);
  const open = noteOpenNetwork(config);
  if (open !== undefined) log.warn(open);
  if (config.processes > 1) return startProcesses(config, log);
  const { proxy } = await startOne(config, log, { opsHost: innerHostOf(config), opsPort: config.opsPort });
  return { log, stop: () => proxy.stop() };
}

/** One process. `isOneOfSeveral`: others listen on its port too. */
export async function startOne(
  config: ProxyConfig,
  log: Log,
  {
    opsHost,
    opsPort: wanted,
    isOneOfSeveral = false,
  }: { readonly opsHost: string; readonly opsPort: number; readonly isOneOfSeveral?: boolean },
): Promise<{ readonly proxy: Proxy }> {
  const proxy = await createProxy(config, log);
  try {
    const port = await listen(proxy.app, config.host, config.proxyPort, "KEYMETER_PORT", isOneOfSeveral);
    const opsPort = await listen(proxy.ops, opsHost, wanted, "KEYMETER_OPS_PORT");
    const { dataDir, durability, passThrough } = config;
    log.info({ port, opsPort, dataDir, durability, passThrough }, "proxy is ready");
    process.send?.({ type: "ready", port, opsPort });
  } catch (error) {
    await proxy.stop();
    throw error;
  }
  return { proxy };
}

export { checkCredentials } from "./check.ts";
