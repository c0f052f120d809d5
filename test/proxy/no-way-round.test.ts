// A key at its cap, on every route that exists, and by every trick we know: nothing that costs reaches the provider.
import { request as httpRequest } from "node:http";
import { beforeAll, describe, expect, it } from "vitest";
import { anthropic } from "../../proxy/dialects/anthropic.ts";
import { matchRoute } from "../../proxy/dialects/routes.ts";
import type { Route } from "../../proxy/dialects/routes.ts";
import { google } from "../../proxy/dialects/google.ts";
import { openai } from "../../proxy/dialects/openai.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { rawPost, sendRaw } from "../raw-http.ts";
import { writeSettings } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(json(chatAnswer()), (url) => ({
  KEYMETER_PASS_THROUGH: "on",
  KEYMETER_CONFIG: writeSettings(`proxy:
  upstreams:
    azure: { kind: azure, url: "${url}", api_key_env: OTHER_KEY, deployments: { chat: gpt-4o-mini } }
    other: { url: "${url}", api_key_env: OTHER_KEY, price_list: openai }
`),
  KEYMETER_VERTEX_URL: url,
  OTHER_KEY: "other-provider-credential",
}));
let secret: string;
/** A provider key that was used, and is under the cap since. */
const OWN_KEY = "sk-test-own-provider-key";
beforeAll(async () => {
  await ask("POST", "/openai/v1/chat/completions", OWN_KEY, BODIES["chat_completions"]);
  ({ secret } = await bench.running.createKey());
  await bench.running.setBudget({ id: "all", amountNanoUsd: 0n });
});

/** What makes sense on each endpoint, so that it is the cap that refuses and nothing else. */
const chat = { model: "gpt-4o-mini", max_tokens: 9, messages: [{ role: "user", content: "hi" }] };
const contents = [{ role: "user", parts: [{ text: "hi" }] }];
const BODIES: { readonly [endpoint: string]: object } = {
  chat_completions: chat,
  completions: { model: "gpt-3.5-turbo-instruct", prompt: "hi", max_tokens: 9 },
  responses: { model: "gpt-4o-mini", input: "hi", max_output_tokens: 9 },
  responses_compact: { model: "gpt-5.2", input: "hi" },
  decisions: { model: "gpt-5.2", input: "hi" },
  embeddings: { model: "text-embedding-3-small", input: "hi" },
  images: { model: "gpt-image-1", prompt: "hi", size: "1024x1024", quality: "low", images: [] },
  audio_speech: { model: "tts-1", input: "hi", voice: "alloy" },
  audio_transcriptions: { model: "whisper-1", file: "x" },
  videos: { model: "sora-2", prompt: "hi", seconds: "4" },
  batches: { input_file_id: "file-1", endpoint: "/v1/chat/completions", completion_window: "24h" },
  messages: { ...chat, model: "claude-haiku-4-5" },
  message_batches: { requests: [{ custom_id: "a", params: { ...chat, model: "claude-haiku-4-5" } }] },
  generate_content: { contents, generationConfig: { maxOutputTokens: 9 } },
  stream_generate_content: { contents, generationConfig: { maxOutputTokens: 9 } },
  embed_content: { content: contents[0] },
  batch_embed_contents: { requests: [{ model: "models/gemini-embedding-001", content: contents[0] }] },
  predict: { instances: [{ prompt: "hi" }], parameters: { sampleCount: 1 } },
  predict_long_running: { instances: [{ prompt: "hi" }], parameters: { durationSeconds: 4 } },
  cached_contents: { model: "models/gemini-2.5-flash", contents, ttl: "60s" },
  interactions: { model: "gemini-2.5-flash", input: "hi" },
};
const GOOGLE_MODELS: { readonly [endpoint: string]: string } = {
  embed_content: "gemini-embedding-001",
  batch_embed_contents: "gemini-embedding-001",
  predict: "imagen-4.0-generate-001",
  predict_long_running: "veo-3.0-generate-001",
};

const DIALECTS = [
  ["/openai/v1", openai.routes],
  ["/anthropic/v1", anthropic.routes],
  ["/google/v1beta", google.routes],
] as const;
const ROUTES = DIALECTS.flatMap(([base, routes]) => routes.map((route) => [base, route] as const));

function pathOf({ path, endpoint }: Route): string {
  return path
    .replace("{model}", GOOGLE_MODELS[endpoint] ?? "gemini-2.5-flash")
    .replace("{service+}", "google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent")
    .replace(/\{[^}]+\}/g, "id_1");
}

function ask(
  method: string,
  path: string,
  key: string,
  body?: object,
  headers: { [name: string]: string } = {},
): Promise<Response> {
  return fetch(`${bench.running.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      "anthropic-version": "2023-06-01",
      ...(body ? { "content-type": "application/json" } : {}),
      ...headers,
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
}

/** Asks for a WebSocket; resolves with the status of the answer. */
function upgrade(path: string, key: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = httpRequest(`${bench.running.url}${path}`, {
      headers: {
        authorization: `Bearer ${key}`,
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
      },
    });
    asked.once("response", (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? 0);
    });
    asked.once("upgrade", (_answer, socket) => {
      socket.destroy();
      resolve(101);
    });
    asked.once("error", reject);
    asked.end();
  });
}

/** What arrived at the provider while something was done. */
async function arrivedBy(act: () => Promise<unknown>): Promise<string[]> {
  const before = bench.provider.journal.length;
  await act();
  return bench.provider.journal.slice(before).map(({ method, url }) => `${method} ${url}`);
}

describe.each([
  ["a Keymeter key", () => secret],
  ["a provider key of its own", () => OWN_KEY],
])("under a cap that is used up, %s", (_name, keyOf) => {
  it("is refused for money on every route that costs, and nothing arrives at the provider", async () => {
    const other: string[] = [];
    let refused = 0;
    for (const [base, route] of ROUTES) {
      if (route.kind !== "metered") continue;
      const path = base + pathOf(route);
      const arrived = await arrivedBy(async () => {
        const answer = await ask(route.method, path, keyOf(), BODIES[route.endpoint] ?? { model: "gpt-4o-mini" });
        await answer.text();
        if (answer.status === 402) refused += 1;
        // What another key made is not there for this one, money or not.
        else if (route.scope !== "work" || answer.status !== 404) other.push(`${path}: ${answer.status}`);
      });
      expect(arrived).toEqual([]);
    }
    expect(other).toEqual([]);
    expect(refused).toBeGreaterThan(25);
  });

  it("is refused for money in the handshake of a WebSocket that says its model there", async () => {
    // Responses sockets and Live name their models in messages: there each message is refused (sockets.test.ts).
    const sockets = ROUTES.filter(([, { kind, endpoint }]) => kind === "socket" && endpoint === "realtime");
    expect(sockets.length).toBe(1);
    for (const [base, route] of sockets) {
      const path = base + pathOf(route).replace("/realtime", "/realtime?model=gpt-realtime");
      expect(await arrivedBy(async () => expect(await upgrade(path, keyOf()), path).toBe(402))).toEqual([]);
      // Without the upgrade it is no way in either.
      expect(
        await arrivedBy(async () => expect((await ask("GET", path, keyOf())).status).toBeGreaterThan(399)),
      ).toEqual([]);
    }
  });

  it("gets nothing through but what is free", async () => {
    const isOwn = keyOf() === OWN_KEY;
    for (const [base, route] of ROUTES) {
      if (route.kind === "metered" || route.kind === "socket") continue;
      const path = base + pathOf(route);
      const arrived = await arrivedBy(async () =>
        (await ask(route.method, path, keyOf(), route.method === "POST" ? {} : undefined)).text(),
      );
      const isForAll = route.kind === "free" && route.scope === undefined;
      expect(arrived.length, `${route.method} ${path}`).toBe(isForAll || isOwn ? 1 : 0);
    }
    expect((await bench.running.events()).length).toBe(1);
  });

  it("reaches nothing that is on no list, on any method", async () => {
    const isKnown = (method: string, path: string): boolean =>
      DIALECTS.some(
        ([base, routes]) => path.startsWith(base) && matchRoute(routes, method, path.slice(base.length)) !== undefined,
      );
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
      for (const path of [
        "/openai/v1/unknown",
        "/anthropic/v1/unknown",
        "/google/v1beta/models/gemini-2.5-flash:unknown",
        ...new Set(ROUTES.map(([base, route]) => base + pathOf(route))),
      ]) {
        if (isKnown(method, path)) continue;
        const body = ["POST", "PUT", "PATCH"].includes(method) ? chat : undefined;
        let status = 0;
        const arrived = await arrivedBy(async () => ({ status } = await ask(method, path, keyOf(), body)));
        expect([arrived, status >= 400], `${method} ${path}: ${status}`).toEqual([[], true]);
      }
  });
});

describe("tricks of a key at its cap", () => {
  const CREDENTIAL = /^(authorization|x-api-key|api-key|x-goog-api-key):/i;
  /** A request as it goes over the wire; with the key at its cap where it brings none itself. */
  const post = (target: string, headers: string[] = [], body = JSON.stringify(chat)): Buffer =>
    rawPost(
      target,
      body,
      headers.some((line) => CREDENTIAL.test(line)) ? headers : ["authorization: Bearer KEY", ...headers],
    );
  const CHAT = "/openai/v1/chat/completions";

  it.each([
    ["two credentials", post(CHAT, ["authorization: Bearer KEY", `x-api-key: ${OWN_KEY}2`])],
    [
      "two credentials, the other first",
      post(CHAT, [`x-api-key: sk-test-fresh-key-0001`, "authorization: Bearer KEY"]),
    ],
    ["a header twice", post(CHAT, ["authorization: Bearer KEY", "authorization: Bearer sk-test-fresh-key-0002"])],
    [
      "a header twice, in another case",
      post(CHAT, ["Authorization: Bearer sk-test-fresh-key-0003", "AUTHORIZATION: Bearer KEY"]),
    ],
    ["another key in the query", post(`${CHAT}?key=sk-test-fresh-key-0004`)],
    [
      "a key in the subprotocol of no WebSocket",
      post(CHAT, ["sec-websocket-protocol: openai-insecure-api-key.sk-test-fresh-key-0005"]),
    ],
    ["two models", post(CHAT, [], '{"model":"free","model":"gpt-4o-mini","max_tokens":1,"messages":[]}')],
    [
      "two models, one escaped",
      post(CHAT, [], '{"model":"gpt-4o-mini","\\u006dodel":"gpt-4o","max_tokens":1,"messages":[]}'),
    ],
    ["an escaped slash", post("/openai/v1/chat%2fcompletions")],
    ["an escaped letter", post("/openai/v1/chat/%63ompletions")],
    ["a step up", post("/openai/v1/models/../chat/completions")],
    ["an escaped step up", post("/openai/v1/models/%2e%2e/chat/completions")],
    ["two slashes", post("/openai/v1//chat/completions")],
    ["a slash at the end", post(`${CHAT}/`)],
    ["a parameter in the path", post("/openai/v1/chat/completions;x=1")],
    ["capitals", post("/openai/v1/Chat/Completions")],
    ["a whole URL", post("http://api.openai.com/v1/chat/completions")],
    ["a backslash", post("/openai/v1\\chat/completions")],
    ["a version twice", post("/openai/v1/v1/chat/completions")],
    ["no version", post("/openai/chat/completions")],
    ["no prefix", post("/v1/chat/completions")],
    ["another provider's prefix", post("/anthropic/v1/chat/completions")],
    ["Google's way of saying it", post("/google/v1beta/openai/chat/completions")],
    ["another method in a header", post("/openai/v1/models", ["x-http-method-override: POST"])],
    [
      "another method in the query",
      post("/google/v1beta/models/gemini-2.5-flash:countTokens?$httpMethod=POST&alt=sse"),
    ],
    ["an upgrade of a POST", post(CHAT, ["connection: upgrade", "upgrade: websocket"])],
    ["h2c", post(CHAT, ["upgrade: h2c", "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA"])],
    ["a second request in the body of the first", post(CHAT, ["transfer-encoding: chunked"])],
    ["a team of another", post(CHAT, ["x-keymeter-team: rich"])],
    ["a body in another encoding", post(CHAT, ["content-encoding: gzip"])],
    ["a batch", post("/openai/v1/batches", [], JSON.stringify(BODIES["batches"]))],
    ["work that goes on", post("/openai/v1/responses", [], '{"model":"gpt-4o-mini","input":"hi","background":true}')],
    ["a model that nobody knows", post(CHAT, [], '{"model":"nobody-knows","messages":[]}')],
    ["a model with a free one's name in front", post(CHAT, [], '{"model":"models/gpt-4o-mini","messages":[]}')],
    ["a negative limit", post(CHAT, [], '{"model":"gpt-4o-mini","max_tokens":-1000000,"messages":[]}')],
    ["no answers", post(CHAT, [], '{"model":"gpt-4o-mini","n":0,"max_tokens":1,"messages":[]}')],
  ])("%s: refused, and nothing arrives", async (_name, bytes) => {
    const arrived = await arrivedBy(async () => {
      const { status, text } = await sendRaw(bench.running.url, bytes.toString("latin1").replaceAll("KEY", secret));
      expect(status, text.slice(0, 300)).toBeGreaterThan(399);
    });
    expect(arrived).toEqual([]);
  });
});

const VERTEX = "/vertex/v1/projects/p1/locations/global/publishers";
const CHEAP = { anthropic_version: "vertex-2023-10-16", max_tokens: 9, messages: [] };
it.each([
  ["/azure/openai/deployments/chat/chat/completions?api-version=2024-10-21", chat],
  ["/azure/openai/v1/chat/completions", chat],
  ["/azure/openai/v1/embeddings", BODIES["embeddings"]],
  ["/other/v1/chat/completions", chat],
  ["/other/v1/responses", BODIES["responses"]],
  [`${VERTEX}/google/models/gemini-2.5-flash:generateContent`, BODIES["generate_content"]],
  [`${VERTEX}/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse`, BODIES["generate_content"]],
  [`${VERTEX}/google/models/imagen-4.0-generate-001:predict`, BODIES["predict"]],
  [`${VERTEX}/anthropic/models/claude-haiku-4-5:rawPredict`, CHEAP],
  [`${VERTEX}/anthropic/models/claude-haiku-4-5:streamRawPredict`, { ...CHEAP, stream: true }],
])("a client's own key at its cap is refused for money at other providers too: %s", async (path, body) => {
  let status = 0;
  expect(
    await arrivedBy(async () => ({ status } = await ask("POST", path, "client-key-of-another-provider", body))),
  ).toEqual([]);
  expect(status).toBe(402);
});

it("a freeze holds also for what no meter reads", async () => {
  const unknown = (): Promise<Response> => ask("POST", "/openai/v1/unknown", "sk-test-frozen-own-key", {});
  await bench.running.change({ type: "removeBudget", budgetId: "all" });
  expect((await unknown()).status).toBe(200);
  await bench.running.change({
    type: "freeze",
    freeze: { id: "f", scope: {}, reason: "a leak", createdAtMs: Date.now() },
  });
  let status = 0;
  expect(await arrivedBy(async () => ({ status } = await unknown()))).toEqual([]);
  expect(status).toBe(403);
  await bench.running.change({ type: "lift", freezeId: "f" });
});
