// The full product for the benchmark: a proxy as `keymeter proxy` starts it, with one virtual key under a strict hard budget.
import { flushCompileCache } from "node:module";
import { createDigest, issueVirtualKey } from "../ledger/keys.ts";
import { createProxy } from "../proxy/app.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import { createLog } from "../service/log.ts";

const config = loadProxyConfig();
const proxy = await createProxy(config, createLog("bench", "error"));
const { id, secret } = issueVirtualKey("bench");
const now = Date.now();
await proxy.writer.change(
  {
    type: "createKey",
    digest: createDigest(config.pepper.reveal())(secret),
    key: {
      id,
      kind: "virtual",
      provider: undefined,
      name: "bench",
      team: "bench",
      project: "",
      env: "bench",
      owner: "",
      state: "active",
      hint: "",
      createdAtMs: now,
      expiresAtMs: undefined,
    },
    budget: {
      id: "bench",
      scope: { keyId: id },
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
