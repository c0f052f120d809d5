// What the tests of attacks share: a proxy before a provider that bills, keys under budgets, clients that leave.
import { expect } from "vitest";
import type { BudgetState } from "../../ledger/budgets.ts";
import type { KeyPolicy } from "../../ledger/usage/key-policy.ts";
import { parseUsd } from "../../ledger/money.ts";
import { writeSettings } from "../start-proxy.ts";
import { withProxyBefore } from "../with-proxy.ts";
import type { WithProxy } from "../with-proxy.ts";
import { startBillingProvider } from "./billing-provider.ts";
import type { BillingProvider } from "./billing-provider.ts";

export type Bench = Pick<WithProxy<BillingProvider>, "provider" | "running"> & {
  /** Where the tests' paths lead at the provider. */
  quote(path: string, body: object | FormData, headers?: Headers): Promise<bigint>;
  /** A new key under a hard budget of its own. */
  keyUnder(usd: string, mode?: "strict" | "expected", policy?: KeyPolicy): Promise<Held>;
  post(secret: string, path: string, body: object | FormData, headers?: Headers): Promise<Response>;
  /** What was booked for a key, once nothing is under way. */
  settled(keyId: string): Promise<bigint>;
  /** What counts against its budget now: settled and reserved. */
  counted(keyId: string): Promise<bigint>;
  /** How often requests were refused for a reason. */
  refused(reason: string): Promise<number>;
};
export type Headers = { readonly [name: string]: string };
export type Held = { readonly id: string; readonly secret: string; readonly amountNanoUsd: bigint };

/** For all tests of a file. */
export function withBench(): Bench {
  const started = withProxyBefore(startBillingProvider, (url) => {
    const upstream = (name: string): string =>
      `    ${name}: { url: "${url}/${name}", price_list: ${name}, api_key_env: OTHER_KEY }`;
    return {
      KEYMETER_DURABILITY: "process",
      KEYMETER_CONFIG: writeSettings(`proxy:
  upstreams:
    azure: { kind: azure, url: "${url}/azure", api_key_env: OTHER_KEY, deployments: { chat: gpt-4o-mini, data: gpt-4o, think: gpt-5.2, gpt-4-next: gpt-5.2 } }
    gateway: { url: "${url}/gateway", price_list: openai, api_key_env: OTHER_KEY }
    vertex-eu: { kind: vertex, url: "${url}", api_key_env: OTHER_KEY }
${["openrouter", "mistral", "xai", "perplexity"].map(upstream).join("\n")}
`),
      KEYMETER_VERTEX_URL: url,
      OTHER_KEY: "other-provider-credential",
    };
  });
  const stateOf = async (keyId: string): Promise<BudgetState> => {
    const found = (await started.running.proxy.writer.states()).find(({ budget }) => budget.scope.keyId === keyId);
    if (!found) throw new Error(`no budget for ${keyId}`);
    return found;
  };
  return {
    get provider() {
      return started.provider;
    },
    get running() {
      return started.running;
    },
    quote: (path, body, headers) => started.provider.quote(upstreamPath(path), init(body, headers)),
    async keyUnder(usd, mode = "expected", policy) {
      const key = await started.running.createKey({ team: "", ...(policy ? { policy } : {}) });
      const amountNanoUsd = parseUsd(usd);
      await started.running.setBudget({ scope: { keyId: key.id }, amountNanoUsd, mode });
      return { ...key, amountNanoUsd };
    },
    post: (secret, path, body, headers) =>
      fetch(started.running.url + path, {
        method: "POST",
        ...init(body, { authorization: `Bearer ${secret}`, ...headers }),
      }),
    async settled(keyId) {
      await expect.poll(() => started.running.proxy.context.forwarder.open(), { timeout: 10_000, interval: 5 }).toBe(0);
      await expect.poll(async () => (await stateOf(keyId)).reservedNanoUsd, { timeout: 10_000, interval: 5 }).toBe(0n);
      return (await stateOf(keyId)).settledNanoUsd;
    },
    async counted(keyId) {
      const { settledNanoUsd, reservedNanoUsd } = await stateOf(keyId);
      return settledNanoUsd + reservedNanoUsd;
    },
    async refused(reason) {
      const metrics = await (await fetch(`${started.running.opsUrl}/metrics`)).text();
      return Number(new RegExp(`^keymeter_refused_total\\{reason="${reason}"\\} (\\d+)$`, "m").exec(metrics)?.[1] ?? 0);
    },
  };
}

/** The path behind the prefix, as the upstream's address has it. */
function upstreamPath(path: string): string {
  return path.replace(/^\/(openai|anthropic|google|vertex-eu)(?=\/)/, "");
}

function init(body: object | FormData, headers: Headers = {}): RequestInit {
  if (body instanceof FormData) return { body, headers };
  return { body: JSON.stringify(body), headers: { "content-type": "application/json", ...headers } };
}

/** Reads an answer until so many of its bytes hold a text, and leaves. */
export async function leaveAfter(answer: Response, wanted: string, times = 1): Promise<void> {
  const reader = answer.body?.getReader();
  let heard = "";
  while (heard.split(wanted).length <= times) {
    const piece = await reader?.read();
    if (!piece?.value) throw new Error(`the stream ended: ${heard.slice(0, 300)}`);
    heard += Buffer.from(piece.value).toString("utf8");
  }
  await reader?.cancel();
}

/** A form; what is given as bytes is a file. */
export function form(fields: { readonly [name: string]: string | number | readonly number[] }): FormData {
  const made = new FormData();
  for (const [name, value] of Object.entries(fields))
    if (typeof value === "string") made.append(name, value);
    else
      for (const bytes of typeof value === "number" ? [value] : value)
        made.append(name, new Blob([new Uint8Array(bytes).fill(65)]), "file");
  return made;
}

/** An amount as the books take it. */
export function usdOf(nanoUsd: bigint): string {
  const digits = nanoUsd.toString().padStart(10, "0");
  return `${digits.slice(0, -9)}.${digits.slice(-9)}`;
}
