// Providers that serve other people's models under paths of their own: Azure OpenAI, Vertex AI, and vendors with odd
// settings.
import { createVerify, generateKeyPairSync } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { AzureOpenAI } from "openai";
import { describe, expect, it } from "vitest";
import { cost } from "../../ledger/cost.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import { DIALECTS } from "../../proxy/dialects/index.ts";
import { createMeter } from "../../proxy/meter.ts";
import { createProviders, OWN_PROVIDERS } from "../../proxy/providers/index.ts";
import { versioned } from "../../proxy/providers/provider.ts";
import type { Provider, ProviderSettings } from "../../proxy/providers/provider.ts";
import { resolveTarget } from "../../proxy/target.ts";
import type { Target } from "../../proxy/target.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { startProxy, temporaryFolder, writeSettings } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const ACCOUNT = "keymeter@p1.iam.gserviceaccount.com";
const PAIR = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
  publicKeyEncoding: { type: "spki", format: "pem" },
});

const bench = withProxy(
  json(chatAnswer()),
  (url) => {
    const keyFile = join(temporaryFolder(), "service-account.json");
    writeFileSync(
      keyFile,
      JSON.stringify({
        type: "service_account",
        client_email: ACCOUNT,
        private_key: PAIR.privateKey,
        project_id: "p1",
      }),
    );
    return {
      KEYMETER_CONFIG: writeSettings(`proxy:
  upstreams:
    azure: { kind: azure, url: "${url}", api_key_env: AZURE_KEY, deployments: { chat: gpt-4o-mini, gpt-4o: gpt-4o-mini } }
    vertex-eu: { kind: vertex, url: "${url}" }
    zai: { url: "${url}/api/paas/v4", version: none, price_list: openai }
    plain: { url: "${url}", ask_usage: false, price_list: openai }
`),
      AZURE_KEY: "azure-provider-credential",
      KEYMETER_VERTEX_URL: url,
      GOOGLE_APPLICATION_CREDENTIALS: keyFile,
    };
  },
  { each: true },
);

const ANSWER = {
  id: "chatcmpl-1",
  object: "chat.completion",
  model: "gpt-4o-mini-2024-07-18",
  choices: [],
  usage: { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 },
};
const COST = "210000";

describe("Azure OpenAI", () => {
  const client = (apiKey: string): AzureOpenAI =>
    new AzureOpenAI({ endpoint: `${bench.running.url}/azure`, apiKey, apiVersion: "2024-10-21", maxRetries: 0 });
  const ask = (apiKey: string, model = "chat"): Promise<unknown> =>
    client(apiKey).chat.completions.create({ model, max_tokens: 9, messages: [{ role: "user", content: "hi" }] });

  it("through its SDK: the deployment in the path, the api-version and the client's own api-key pass; the answer's model is priced", async () => {
    bench.provider.script = json(ANSWER);
    await ask("azure-client-key-1234");
    const [arrived] = bench.provider.journal;
    expect(arrived?.url).toBe("/openai/deployments/chat/chat/completions?api-version=2024-10-21");
    expect(arrived?.headers["api-key"]).toBe("azure-client-key-1234");
    expect((await bench.running.events())[0]).toMatchObject({
      provider: "azure",
      endpoint: "chat_completions",
      requestedModel: "chat",
      servedModel: "gpt-4o-mini-2024-07-18",
      costNanoUsd: COST,
    });
  });

  it("swaps a virtual key for the credential, and reserves by the model that settings give the deployment", async () => {
    bench.provider.script = json(ANSWER);
    const { secret, id } = await bench.running.createKey();
    await bench.running.setBudget({ amountNanoUsd: 1_000_000_000n, scope: { keyId: id }, mode: "strict" });
    await ask(secret);
    expect(bench.provider.journal[0]?.headers["api-key"]).toBe("azure-provider-credential");
    expect(bench.provider.journal[0]?.headers.authorization).toBeUndefined();
    // A deployment of which nobody said what it is cannot be bounded.
    await expect(ask(secret, "mystery")).rejects.toMatchObject({ status: 402 });
    expect(bench.provider.journal.length).toBe(1);
  });

  it("prices what answered by its own name, though a deployment of that name is another model", async () => {
    bench.provider.script = json({ ...ANSWER, model: "gpt-4o" });
    await ask("azure-client-key-1234");
    expect((await bench.running.events())[0]?.costNanoUsd).toBe(String(1_000 * 2_500 + 100 * 10_000));
  });

  it("by the newer path without deployments too; anything else leads nowhere", async () => {
    bench.provider.script = json(ANSWER);
    const post = async (path: string): Promise<number> =>
      (
        await fetch(`${bench.running.url}/azure${path}`, {
          method: "POST",
          headers: { "content-type": "application/json", "api-key": (await bench.running.createKey()).secret },
          body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [] }),
        })
      ).status;
    expect(await post("/openai/v1/chat/completions")).toBe(200);
    expect(bench.provider.journal[0]?.url).toBe("/openai/v1/chat/completions");
    expect(await post("/chat/completions")).toBe(404);
    expect(await post("/openai/deployments/chat/fine_tunes")).toBe(404);
    expect(bench.provider.journal.length).toBe(1);
  });
});

describe("Vertex AI", () => {
  const PLACE = "/v1/projects/p1/locations/global/publishers";
  const post = (path: string, body: object): Promise<Response> =>
    fetch(`${bench.running.url}/vertex${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer ya29.test-token" },
      body: JSON.stringify(body),
    });

  it("serves Gemini in Gemini's format", async () => {
    bench.provider.script = json({
      candidates: [{ finishReason: "STOP" }],
      modelVersion: "gemini-2.5-flash",
      usageMetadata: { promptTokenCount: 1_000, candidatesTokenCount: 10, trafficType: "ON_DEMAND" },
    });
    const answer = await post(`${PLACE}/google/models/gemini-2.5-flash:generateContent`, { contents: [] });
    expect(answer.status).toBe(200);
    expect(bench.provider.journal[0]?.url).toBe(`${PLACE}/google/models/gemini-2.5-flash:generateContent`);
    expect((await bench.running.events())[0]).toMatchObject({ provider: "gcp.vertex_ai", costNanoUsd: "325000" });
  });

  it("serves Claude in Anthropic's, the model from the path", async () => {
    bench.provider.script = json({
      id: "msg_1",
      type: "message",
      model: "claude-haiku-4-5-20251001",
      content: [],
      usage: { input_tokens: 100, output_tokens: 10 },
    });
    const body = { anthropic_version: "vertex-2023-10-16", max_tokens: 10, messages: [] };
    await post(`${PLACE}/anthropic/models/claude-haiku-4-5@20251001:rawPredict`, body);
    expect((await bench.running.events())[0]).toMatchObject({
      requestedModel: "claude-haiku-4-5@20251001",
      endpoint: "messages",
      priceConfidence: "exact",
      costNanoUsd: "150000",
    });
  });

  it("swaps a Keymeter key for a token that the service account signed", async () => {
    bench.provider.script = json({
      candidates: [],
      modelVersion: "gemini-2.5-flash",
      usageMetadata: { promptTokenCount: 10 },
    });
    const { secret } = await bench.running.createKey();
    await fetch(`${bench.running.url}/vertex${PLACE}/google/models/gemini-2.5-flash:generateContent`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({ contents: [] }),
    });
    const { authorization = "" } = bench.provider.journal[0]?.headers ?? {};
    const [head = "", claims = "", signature = ""] = authorization.replace(/^Bearer /, "").split(".");
    expect(JSON.parse(Buffer.from(claims, "base64url").toString())).toMatchObject({
      iss: ACCOUNT,
      sub: ACCOUNT,
      scope: "https://www.googleapis.com/auth/cloud-platform",
    });
    const verify = createVerify("RSA-SHA256").update(`${head}.${claims}`);
    expect(verify.verify(PAIR.publicKey, Buffer.from(signature, "base64url"))).toBe(true);
    expect(JSON.stringify(bench.provider.journal[0]?.headers)).not.toContain(secret);
  });

  it("has a premium in regions, where the provider has one", async () => {
    const claude = { id: "m", type: "message", model: "claude-haiku-4-5-20251001", content: [] };
    bench.provider.script = json({ ...claude, usage: { input_tokens: 100, output_tokens: 10 } });
    const body = { anthropic_version: "vertex-2023-10-16", max_tokens: 10, messages: [] };
    const costs = [];
    for (const [prefix, location] of [
      ["vertex", "global"],
      ["vertex", "us-east5"],
      ["vertex-eu", "europe-west1"],
    ] as const) {
      await fetch(
        `${bench.running.url}/${prefix}/v1/projects/p1/locations/${location}/publishers/anthropic/models/claude-haiku-4-5@20251001:rawPredict`,
        {
          method: "POST",
          headers: { "content-type": "application/json", authorization: "Bearer ya29.test-token" },
          body: JSON.stringify(body),
        },
      );
      const event = (await bench.running.events()).at(-1);
      costs.push([event?.costNanoUsd, event?.priceConfidence]);
    }
    expect(costs).toEqual([
      ["150000", "exact"],
      ["165000", "exact"],
      ["165000", "exact"],
    ]);
  });

  it("serves open models in OpenAI's format, and Gemini without a project", async () => {
    bench.provider.script = json(chatAnswer(10, 5, "meta/llama-4"));
    await post("/v1/projects/p1/locations/us-central1/endpoints/openapi/chat/completions", {
      model: "meta/llama-4",
      messages: [],
    });
    expect(bench.provider.journal[0]?.url).toBe(
      "/v1/projects/p1/locations/us-central1/endpoints/openapi/chat/completions",
    );
    bench.provider.script = json({
      candidates: [],
      modelVersion: "gemini-2.5-flash",
      usageMetadata: { promptTokenCount: 10 },
    });
    await post("/v1/publishers/google/models/gemini-2.5-flash:generateContent", { contents: [] });
    const events = await bench.running.events();
    expect(events.map(({ endpoint, usage, priceConfidence }) => [endpoint, usage, priceConfidence])).toEqual([
      ["chat_completions", { input: 10, output: 5 }, "unpriced"],
      ["generate_content", { input: 10 }, "exact"],
    ]);
  });

  it("says what is wrong with a key file, and how to mend it", async () => {
    const broken = join(temporaryFolder(), "broken.json");
    writeFileSync(broken, JSON.stringify({ type: "service_account", client_email: ACCOUNT, private_key: "no key" }));
    for (const file of [broken, "/nowhere/key.json"])
      await expect(startProxy(bench.provider.url, { GOOGLE_APPLICATION_CREDENTIALS: file })).rejects.toThrow(
        /GOOGLE_APPLICATION_CREDENTIALS\): .*(name a service account's key file, a reference to one, or unset it)/,
      );
  });

  it("takes credentials by reference: what is no key there, or not there yet, is a 503 until it is, and the rest runs", async () => {
    const file = join(temporaryFolder(), "mounted.json");
    writeFileSync(file, "{}");
    const own = await startProxy(bench.provider.url, {
      KEYMETER_VERTEX_URL: bench.provider.url,
      GOOGLE_APPLICATION_CREDENTIALS: `file:${file}`,
      KEYMETER_SECRETS_REFRESH: "1",
      OPENAI_API_KEY: "sk-of-openai-0123456789",
    });
    bench.provider.script = json(chatAnswer());
    const { secret } = await own.createKey();
    const ask = async (path: string): Promise<number> => {
      const answer = await fetch(`${own.url}/${path}/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: JSON.stringify({ model: "gpt-4o-mini", messages: [] }),
      });
      await answer.text();
      return answer.status;
    };
    const VERTEX = "vertex/v1/projects/p1/locations/global/endpoints/openapi";
    expect([await ask(VERTEX), await ask("openai/v1")]).toEqual([503, 200]);
    const key = { type: "service_account", client_email: ACCOUNT, private_key: PAIR.privateKey, private_key_id: "k-1" };
    writeFileSync(file, JSON.stringify(key, null, 2));
    await expect.poll(() => ask(VERTEX), { timeout: 10_000 }).toBe(200);
    const payers = (await own.events()).map(({ payer }) => payer);
    expect(new Set(payers).size).toBe(2);
    expect(payers).not.toContain("");
    await own.stop();
    await expect(startProxy(bench.provider.url, { GOOGLE_APPLICATION_CREDENTIALS: "vault:nothing" })).rejects.toThrow(
      'proxy.vertex.credentials (GOOGLE_APPLICATION_CREDENTIALS): what stands behind "vault:"',
    );
  });

  it("refuses in the format of the path", async () => {
    const answer = await fetch(`${bench.running.url}/vertex${PLACE}/anthropic/models/claude-haiku-4-5:rawPredict`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer ya29.test-token" },
      body: "not json",
    });
    expect([answer.status, ((await answer.json()) as { type: string }).type]).toEqual([400, "error"]);
  });
});

describe("a vendor without a version in its paths", () => {
  it("gets the path as its URL begins it, whatever version the client writes", async () => {
    bench.provider.script = json(chatAnswer());
    for (const path of ["/zai/chat/completions", "/zai/v1/chat/completions"])
      await fetch(bench.running.url + path, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer sk-test-zai-client" },
        body: JSON.stringify({ model: "gpt-4o-mini", messages: [] }),
      });
    expect(bench.provider.journal.map(({ url }) => url)).toEqual([
      "/api/paas/v4/chat/completions",
      "/api/paas/v4/chat/completions",
    ]);
  });
});

describe("OpenAI's format at other providers", () => {
  it("is metered at Google and at Anthropic, with their prices and a credential where they take it", async () => {
    const { secret } = await bench.running.createKey();
    for (const [path, model] of [
      ["/google/v1beta/openai/chat/completions", "gemini-2.5-flash"],
      ["/anthropic/v1/chat/completions", "claude-haiku-4-5"],
    ] as const) {
      bench.provider.script = json(chatAnswer(100, 10, model));
      await fetch(bench.running.url + path, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: JSON.stringify({ model, messages: [] }),
      });
    }
    // 0.30 / 2.50 and 1 / 5 USD a million.
    expect((await bench.running.events()).map(({ costNanoUsd }) => costNanoUsd)).toEqual(["55000", "150000"]);
    expect(bench.provider.journal.map(({ headers }) => headers.authorization)).toEqual([
      "Bearer AIzaProviderCredentialGoogle",
      "Bearer sk-ant-api03-provider-credential",
    ]);
  });
});

describe("a vendor that refuses stream_options", () => {
  it("gets the body as it was sent; the stream that states no usage is an estimate", async () => {
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const chunk = (content: string): string =>
        `data: ${JSON.stringify({ id: "c", model: "gpt-4o-mini", choices: [{ index: 0, delta: { content } }] })}\n\n`;
      response.end(`${chunk("hello ")}${chunk("world")}data: [DONE]\n\n`);
    };
    const body = JSON.stringify({ model: "gpt-4o-mini", stream: true, max_tokens: 50, messages: [] });
    const answer = await fetch(`${bench.running.url}/plain/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer sk-test-plain-client" },
      body,
    });
    await answer.text();
    expect(bench.provider.journal[0]?.body.toString()).toBe(body);
    expect((await bench.running.events())[0]).toMatchObject({ usageState: "estimated", outcome: "complete" });
  });
});

describe("a provider that nobody has heard of", () => {
  /** All that is written for one: a file in proxy/providers/, and its row. */
  const acme = (settings: ProviderSettings): Provider => {
    const frame = versioned(DIALECTS.anthropic, settings);
    return {
      name: "acme",
      prefixes: ["acme", "ac"],
      priceList: "anthropic",
      ...frame,
      takesBare: ({ headers }) => headers["x-acme"] !== undefined,
      locate: (segments) => (segments[0] === "api" ? frame.locate(segments.slice(1)) : undefined),
    };
  };
  const providers = createProviders(loadProxyConfig({}), [
    ...OWN_PROVIDERS,
    () => acme({ url: new URL("https://acme.test/base"), credential: undefined }),
  ]);
  const reach = (path: string, headers: IncomingHttpHeaders = {}): Target | undefined =>
    resolveTarget(providers, { method: "POST", headers } as IncomingMessage, path, new URLSearchParams());

  it("is reached by its prefixes and by what only it sends, in its own wire format", () => {
    expect(reach("/acme/api/v1/messages")).toMatchObject({
      provider: { name: "acme" },
      upstreamPath: "/base/v1/messages",
      match: { route: { endpoint: "messages" } },
      priceList: "anthropic",
      credentialHeader: "x-api-key",
    });
    expect(reach("/ac/api/messages")?.upstreamPath).toBe("/base/v1/messages");
    expect(reach("/api/v1/messages", { "x-acme": "1" })?.provider.name).toBe("acme");
    expect(reach("/v1/messages", { "x-api-key": "k" })?.provider.name).toBe("anthropic");
    // What it does not know is not metered.
    expect(reach("/acme/v1/messages")?.match).toBeUndefined();
  });

  it("has its requests read, its answers metered and priced as any other", () => {
    const { dialect, match, priceList } = reach("/acme/api/v1/messages") ?? {};
    if (!dialect || !match || priceList === undefined) throw new Error("it is not reached");
    const body = { model: "claude-haiku-4-5", max_tokens: 9, messages: [] };
    const call = dialect.describe(match, body, {}, { vendor: priceList, allowed: [] });
    const meter = createMeter(dialect, call, false, "application/json");
    meter.push(Buffer.from(JSON.stringify({ model: call.model, usage: { input_tokens: 10, output_tokens: 5 } })));
    const { usage = {} } = meter.reading();
    const price = createPriceBook().find(priceList, call.model, Date.now(), []);
    expect(usage).toEqual({ input: 10, output: 5 });
    expect(price && cost(usage, price).costNanoUsd).toBe(10n * 1_000n + 5n * 5_000n);
  });

  it("is named nowhere else: shared code knows providers as data", () => {
    const shared = readdirSync(PROXY).filter((file) => file.endsWith(".ts") && !SETTINGS.has(file));
    const naming = shared.filter((file) =>
      /["'`](openai|anthropic|google|gcp\.\w+)["'`]/.test(readFileSync(join(PROXY, file), "utf8")),
    );
    expect(naming).toEqual([]);
  });
});

const PROXY = fileURLToPath(new URL("../../proxy", import.meta.url));
/** Where a provider's settings are read, and its credential is tried, by the name of its section. */
const SETTINGS = new Set(["config.ts", "check.ts"]);
