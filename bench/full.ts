// The full product for the benchmark: a proxy as `keymeter proxy` starts it, with one virtual key under a strict hard
// budget; SECRET is that of another one on the same books, with which this one goes along. GUARDED=1 puts everything on that key that a key can have: a policy, limits of key, team and organisation,
// budgets inside budgets.
import { flushCompileCache } from "node:module";
import type { Change } from "../ledger/usage/changes.ts";
import type { KeyPolicy } from "../ledger/usage/key-policy.ts";
import { createDigest, issueVirtualKey } from "../ledger/usage/keys.ts";
import { readSpend } from "../ledger/usage/spend.ts";
import { createProxy } from "../proxy/app.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import { createLog } from "../service/log.ts";
import { tidyUp } from "../service/tidy.ts";

const config = loadProxyConfig();
const proxy = await createProxy(config, createLog("bench", "error"));
const now = Date.now();
const { key, secret: own } = issueVirtualKey({ name: "bench", team: "bench", env: "bench" }, now);
const secret = process.env["SECRET"] ?? own;
if (secret === own)
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
if (process.env["GUARDED"] === "1") {
  const change = (one: Change): Promise<void> => proxy.writer.change(one, "bench");
  const policy: KeyPolicy = {
    models: ["gpt-*", "o3"],
    providers: ["openai", "anthropic"],
    endpoints: ["chat_completions", "responses"],
    addresses: ["127.0.0.0/8", "::1/128"],
    tags: { feature: "bench" },
  };
  await change({ type: "setPolicy", keyId: key.id, policy });
  for (const scope of [`key:${key.id}`, "team:bench", "org"]) {
    const most = 1_000_000_000;
    const limits = { scope, requestsPerMinute: most, tokensPerMinute: most, concurrent: most, bodyBytes: most };
    await change({ type: "setLimits", limits });
  }
  const nested = [{}, { team: "bench" }, { team: "bench", env: "bench" }, { model: "gpt-4o*" }, { provider: "openai" }];
  for (const [i, scope] of nested.entries()) {
    const window = (["day", "month", "week", "quarter", "total"] as const)[i] ?? "day";
    const mode = i % 2 === 0 ? "expected" : "strict";
    const budget = {
      id: `nested-${i}`,
      scope,
      window,
      amountNanoUsd: 10n ** 15n,
      kind: "hard",
      mode,
      createdAtMs: now,
    } as const;
    await change({ type: "setBudget", budget });
  }
}
await proxy.context.register.reload();
await proxy.app.listen({ host: "127.0.0.1", port: 0 });
// The next one starts as the product does from its second start on.
flushCompileCache();
// As the product does when it is ready.
tidyUp();
process.send?.({ port: (proxy.app.server.address() as { port: number }).port, secret });
/** How many attempts stand in the books. */
process.on("message", (message) => {
  if (message !== "count") return;
  void readSpend(proxy.context.books, [], "2000-01-01", "3000-01-01").then(([all]) =>
    process.send?.({ count: all?.requests ?? 0 }),
  );
});
process.on("SIGTERM", () => void proxy.stop().then(() => process.exit(0)));
