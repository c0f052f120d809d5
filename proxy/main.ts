// The proxy program: settings, listeners, stop.
import { listen } from "../service/listener.ts";
import { innerHostOf, noteOpenNetwork } from "../service/network.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { createProxy } from "./app.ts";
import { loadProxyConfig } from "./config.ts";

export async function startProxy(): Promise<{ stop(): Promise<void>; log: Log }> {
  const config = loadProxyConfig();
  const log = createLog("proxy", config.logLevel);
  const open = noteOpenNetwork(config);
  if (open !== undefined) log.warn(open);
  const proxy = await createProxy(config, log);
  try {
    const port = await listen(proxy.app, config.host, config.proxyPort, "KEYMETER_PORT");
    const opsPort = await listen(proxy.ops, innerHostOf(config), config.opsPort, "KEYMETER_OPS_PORT");
    log.info(
      { port, opsPort, dataDir: config.dataDir, durability: config.durability, passThrough: config.passThrough },
      "proxy is ready",
    );
    process.send?.({ type: "ready", port, opsPort });
  } catch (error) {
    await proxy.stop();
    throw error;
  }
  return { log, stop: () => proxy.stop() };
}

export { checkCredentials } from "./check.ts";
