// Faults that a review named and no attack: what the collector goes by, credentials that do not come, rules that cannot
// be evaluated.
import { expect, it } from "vitest";
import { createEvaluator } from "../../alerts/evaluator.ts";
import { parseExpression } from "../../alerts/expression.ts";
import { hasBatchesSince } from "../../ledger/usage/metered-hours.ts";
import { openUsage } from "../../ledger/open.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { createProviders, PROVIDERS } from "../../ledger/providers.ts";
import { credentialFor } from "../../proxy/arrival.ts";
import { createPatience } from "../../proxy/patience.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import { startProxy } from "../start-proxy.ts";

it("review 4.8: a file that a key uploaded is no batch: leaks of the batch tier are seen all the same", async () => {
  const provider = await startFakeProvider(json({ id: "file-1", object: "file", purpose: "batch" }));
  const running = await startProxy(provider.url, { KEYMETER_DURABILITY: "process" });
  try {
    const { secret } = await running.createKey();
    const isBatchSeen = async (): Promise<boolean> => {
      const books = await openUsage(running.dataDir);
      if (!books) throw new Error("no books");
      const seen = await hasBatchesSince(books, "openai", Date.now() - 3_600_000);
      await books.close();
      return seen;
    };
    const post = async (path: string, body: object): Promise<number> => {
      const answer = await fetch(`${running.url}/openai/v1/${path}`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: JSON.stringify(body),
      });
      await answer.arrayBuffer();
      return answer.status;
    };
    expect(await post("files", { purpose: "batch" })).toBe(200);
    await expect.poll(() => running.proxy.context.things.ownerOf("openai", "file-1")).toBeDefined();
    expect(await isBatchSeen()).toBe(false);
    provider.script = json({ id: "batch_1", object: "batch", status: "validating" });
    expect(await post("batches", { input_file_id: "file-1", endpoint: "/v1/chat/completions" })).toBe(200);
    await expect.poll(isBatchSeen).toBe(true);
  } finally {
    await running.stop();
    await provider.close();
  }
});

it.each([
  ["gcp.vertex_ai", "gemini-2.5-pro", "google"],
  ["gcp.vertex_ai", "claude-sonnet-4-5", "anthropic"],
  ["gcp.gemini", "gemini-2.5-pro", "google"],
  ["my-gateway", "gpt-4o-mini", "openai"],
  ["vertex-eu", "claude-sonnet-4-5", "anthropic"],
  ["groq", "llama-3.3-70b-versatile", "groq"],
])("review 4.9: %s, %s is priced by the list of %s", (provider, model, list) => {
  const { priceListOf } = createProviders([
    { name: "my-gateway", kind: "openai", priceList: "openai" },
    { name: "vertex-eu", kind: "vertex" },
  ]);
  expect(priceListOf(provider, model)).toBe(list);
  expect(createPriceBook([], []).find(list, model, Date.now(), [])?.units.input?.base).toBeGreaterThan(0n);
});

it("review 4.9: each provider that needs no setting has a list with prices", () => {
  for (const one of PROVIDERS) expect(["openai", "anthropic", "google"]).toContain(one.priceListOf("a model"));
  expect(PROVIDERS.map(({ name }) => name)).toContain("gcp.vertex_ai");
});

it.each([
  ["fails", () => Promise.reject(new Error("no token for sk-secret-of-ours"))],
  ["is empty", () => Promise.resolve("")],
])(
  "review 4.15: a credential whose source %s is a refusal that is worth a retry, and says nothing of it",
  async (_how, reveal) => {
    type Asked = Parameters<typeof credentialFor>;
    const target = { provider: { name: "gcp.vertex_ai", credential: { reveal }, scoped: [] } } as unknown as Asked[1];
    const principal = { kind: "virtual" } as Asked[2];
    const credential = { text: "km_x", carrier: "authorization" } as Asked[3];
    const refused = await credentialFor({} as Asked[0], target, principal, credential, undefined).catch(
      (error: unknown) => error,
    );
    expect(refused).toMatchObject({ reason: "busy", refusal: { status: 503 } });
    expect(String(refused)).toContain("gcp.vertex_ai");
    expect(String(refused)).not.toContain("sk-secret");
  },
);

it("review 4.16: a promise that rejects has come to its end too", async () => {
  const patience = createPatience(5_000);
  expect(await patience.wait(Promise.reject(new Error("rejected")))).toBe(true);
  patience.close();
});

it("review 4.17: a rule that samples cannot answer stops no other, and what fires by it goes on", () => {
  const rule = (alert: string, text: string): Parameters<typeof createEvaluator>[0][number] => ({
    alert,
    expression: parseExpression(text),
    needsPrometheus: undefined,
    forMs: 0,
    labels: {},
    annotations: {},
  });
  const troubles: string[] = [];
  const evaluator = createEvaluator([rule("First", "a > on (x) b"), rule("Second", "c > 1")], (name) =>
    troubles.push(name),
  );
  const a = { name: "a", labels: { x: "1" }, value: 5 };
  const b = { name: "b", labels: { x: "1" }, value: 1 };
  const c = { name: "c", labels: {}, value: 2 };
  const firing = (samples: Parameters<typeof evaluator.step>[0], nowMs: number): string[] =>
    evaluator.step(samples, nowMs).flatMap(({ alert, endsAtMs }) => (endsAtMs === undefined ? [alert] : []));
  expect(firing([a, b, c], 1_000)).toEqual(["First", "Second"]);
  // Two series on one side for one key: no comparison.
  expect(firing([a, b, { ...b, labels: { x: "1", y: "2" } }, c], 2_000)).toEqual(["First", "Second"]);
  expect(troubles).toEqual(["First"]);
  expect(firing([{ ...a, value: 0 }, b, c], 3_000)).toEqual(["Second"]);
});
