// The full product for the benchmark: a proxy as `keymeter proxy` starts it, with one virtual key under a strict hard budget.
import { flushCompileCache } from "node:module";
import { createDigest, issueVirtualKey } from "../ledger/keys.ts";
import { createProxy } from "../proxy/app.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import { createLog } from "../service/log.ts";

const config = loadProxyConfig();
const proxy = await createProxy(config, createLog("bench", "error"));
const now = Date.now();
const { key, secret } = issueVirtualKey({ name: "bench", team: "bench", env: "bench" }, now);
await proxy.writer.change(
  {
    type: "createKey",
    digest: createDigest(config.pepper.reveal())(secret),
    key,
    budget: {
      id: "bench",
      scope: { keyId: key.id },
      window: "month",
      amountNanoUsd: 1_000_000_000_000_000n,
      kind: "hard",
      mode: "strict",
      createdAtMs: now,
    },
  },
  "bench",
);
await proxy.context.register.reload();
await proxy.app.listen({ host: "127.0.0.1", port: 0 });
// The next one starts as the product does from its second start on.
flushCompileCache();
process.send?.({ port: (proxy.app.server.address() as { port: number }).port, secret });
process.on("SIGTERM", () => void proxy.stop().then(() => process.exit(0)));
