// The proxy program: settings, listeners, stop. One process, or several on one port.
import { listen, whenFree } from "../service/listener.ts";
import { innerHostOf, noteOpenNetwork } from "../service/network.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { createProxy } from "./app.ts";
import { isInUse, waitBeside } from "./beside.ts";
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
  const { stop } = await startOne(config, log, { opsHost: innerHostOf(config), opsPort: config.opsPort });
  return { log, stop };
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
): Promise<{ readonly proxy: Proxy; readonly stop: () => Promise<void> }> {
  const beside =
    config.takeOver && !isOneOfSeveral && (config.ledgerUrl !== undefined || isInUse(config.dataDir))
      ? await waitBeside(config, log)
      : undefined;
  const proxy = await createProxy(config, log).catch((error: unknown) => {
    beside?.close();
    throw error;
  });
  try {
    const sharing = isOneOfSeveral ? "shared" : "succeeded";
    const port = beside?.port ?? (await listen(proxy.app, config.host, config.proxyPort, "KEYMETER_PORT", sharing));
    await proxy.app.ready();
    beside?.handOver(proxy.app.server);
    // The other one has that port until it ends.
    if (beside)
      await whenFree(opsHost, wanted, () =>
        log.warn(`port ${wanted} is taken still; this proxy serves, and is not ready before it is free`),
      );
    beside?.release();
    const opsPort = await listen(proxy.ops, opsHost, wanted, "KEYMETER_OPS_PORT");
    const { dataDir, durability, passThrough } = config;
    log.info({ port, opsPort, dataDir, durability, passThrough }, "proxy is ready");
    process.send?.({ type: "ready", port, opsPort });
  } catch (error) {
    await proxy.stop();
    throw error;
  }
  return { proxy, stop: () => proxy.stop(beside?.server) };
}

export { checkCredentials } from "./check.ts";
