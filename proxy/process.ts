// One of several processes of a proxy (processes.ts starts it). On its command line: the port that all of them share. Its
// own operations port is for the process that started it, which also asks it for its metrics.
import { createLog } from "../service/log.ts";
import { runProgram } from "../service/process.ts";
import { loadProxyConfig } from "./config.ts";
import { startOne } from "./main.ts";

await runProgram(async () => {
  const config = { ...loadProxyConfig(), proxyPort: Number(process.argv[2]) };
  const log = createLog("proxy", config.logLevel);
  const { proxy } = await startOne(config, log, { opsHost: "127.0.0.1", opsPort: 0, isOneOfSeveral: true });
  process.on("message", ({ id }: { readonly id: number }) => {
    void proxy.context.metrics.registry
      .getMetricsAsJSON()
      .then((metrics) => process.send?.({ type: "metrics", id, metrics }));
  });
  return { log, stop: () => proxy.stop() };
}, true);
