// What clients reach, and from where: Azure without a deployment, upstreams that ask for no key, pages in a browser,
// the address itself, paths that nobody meters, and answers that go on from others.
import OpenAI, { AzureOpenAI } from "openai";
import { beforeEach, describe, expect, it } from "vitest";
import { chatAnswer, json } from "../fake/provider.ts";
import { sendRaw } from "../raw-http.ts";
import { writeSettings } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const ORIGIN = "https://app.example.com";
const OWN_KEY = "sk-test-reached-client-own-key";

const bench = withProxy(
  json(chatAnswer()),
  (url) => ({
    KEYMETER_CONFIG: writeSettings(`proxy:
  cors_origins: ["${ORIGIN}", "http://localhost:5173"]
  upstreams:
    azure: { kind: azure, url: "${url}", api_key_env: AZURE_KEY }
    local: { url: "${url}", price_list: openai }
    lax: { url: "${url}", price_list: openai, api_key_env: LAX_KEY, needs_key: false }
    firm: { url: "${url}", price_list: openai, needs_key: true }
    keyed: { url: "${url}", price_list: openai, api_key_env: LAX_KEY }
`),
    KEYMETER_DURABILITY: "process",
    AZURE_KEY: "azure-provider-credential",
    LAX_KEY: "lax-provider-credential",
  }),
  { key: {} },
);
let before = 0;
beforeEach(() => {
  before = bench.provider.journal.length;
  bench.provider.script = json(chatAnswer());
});

const CHAT_BODY = JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] });
/** `chatAnswer()` of gpt-4o-mini at 0.15 and 0.60 USD per million. */
const CHAT_COST = String(100 * 150 + 20 * 600);

function post(path: string, body: string, headers: { readonly [name: string]: string } = {}): Promise<Response> {
  return fetch(bench.running.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body,
  });
}

async function counted(reason: string): Promise<number> {
  const metrics = await (await fetch(`${bench.running.opsUrl}/metrics`)).text();
  return Number(new RegExp(`^keymeter_refused_total\\{reason="${reason}"\\} (\\d+)`, "m").exec(metrics)?.[1] ?? 0);
}

const RESPONSE = {
  id: "resp_1",
  object: "response",
  model: "gpt-4o-mini-2024-07-18",
  status: "completed",
  output: [],
  usage: { input_tokens: 1_000, output_tokens: 100, total_tokens: 1_100 },
};
const RESPONSE_COST = String(1_000 * 150 + 100 * 600);

describe("Azure without a deployment in its path", () => {
  const client = (apiKey: string): AzureOpenAI =>
    new AzureOpenAI({
      endpoint: `${bench.running.url}/azure`,
      apiKey,
      apiVersion: "2025-04-01-preview",
      maxRetries: 0,
    });

  it.each([
    ["a Keymeter key", () => bench.secret, "azure-provider-credential"],
    ["the client's own key", () => "azure-client-key-1234", "azure-client-key-1234"],
  ])("answers its SDK's responses.create with %s, and is metered", async (_whose, keyOf, credential) => {
    bench.provider.script = json(RESPONSE);
    const answer = await client(keyOf()).responses.create({ model: "gpt-4o-mini", input: "hi", max_output_tokens: 50 });
    expect(answer.id).toBe("resp_1");
    const arrived = bench.provider.journal.at(-1);
    expect(arrived?.url).toBe("/openai/responses?api-version=2025-04-01-preview");
    expect(arrived?.headers["api-key"]).toBe(credential);
    expect((await bench.running.events()).at(-1)).toMatchObject({
      provider: "azure",
      endpoint: "responses",
      requestedModel: "gpt-4o-mini",
      usage: { input: 1_000, output: 100 },
      costNanoUsd: RESPONSE_COST,
    });
  });

  it("is held to a strict budget there", async () => {
    const capped = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: capped.id }, amountNanoUsd: 1n, mode: "strict" });
    const asked = client(capped.secret).responses.create({ model: "gpt-4o-mini", input: "hi", max_output_tokens: 50 });
    await expect(asked).rejects.toMatchObject({ status: 402, code: "insufficient_quota" });
    expect(bench.provider.journal.length).toBe(before);
  });

  it("answers a stream of it too", async () => {
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const say = (event: { type: string; response: object }): void =>
        void response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
      say({ type: "response.created", response: { ...RESPONSE, status: "in_progress", usage: null } });
      say({ type: "response.completed", response: RESPONSE });
      response.end();
    };
    const types: string[] = [];
    for await (const { type } of await client(bench.secret).responses.create({
      model: "gpt-4o-mini",
      input: "hi",
      stream: true,
    }))
      types.push(type);
    expect(types).toEqual(["response.created", "response.completed"]);
    expect((await bench.running.events()).at(-1)).toMatchObject({ provider: "azure", costNanoUsd: RESPONSE_COST });
  });
});

describe("an upstream that asks for no key", () => {
  const KEYS = ["EMPTY", "ollama", "sk-1234", "a b", ""];
  const ask = (upstream: string, key: string): Promise<Response> =>
    post(`/${upstream}/v1/chat/completions`, CHAT_BODY, key === "" ? {} : { authorization: `Bearer ${key}` });

  it.each(KEYS)("on this machine takes the key %j, and is metered", async (key) => {
    expect((await ask("local", key)).status).toBe(200);
    expect(bench.provider.journal.at(-1)?.headers.authorization).toBe(key === "" ? undefined : `Bearer ${key}`);
    expect((await bench.running.events()).at(-1)).toMatchObject({ provider: "local", costNanoUsd: CHAT_COST });
  });

  it("by its settings (needs_key: false) does so too", async () => {
    for (const key of KEYS) {
      expect((await ask("lax", key)).status, key).toBe(200);
      expect((await bench.running.events()).at(-1), key).toMatchObject({ provider: "lax", costNanoUsd: CHAT_COST });
    }
    expect(bench.provider.journal.length).toBe(before + KEYS.length);
  });

  it("is spoken to by the official SDK with a key that is none", async () => {
    const client = new OpenAI({ baseURL: `${bench.running.url}/local/v1`, apiKey: "EMPTY", maxRetries: 0 });
    await client.chat.completions.create({ model: "gpt-4o-mini", messages: [{ role: "user", content: "hi" }] });
    expect((await bench.running.events()).at(-1)).toMatchObject({ provider: "local", costNanoUsd: CHAT_COST });
  });

  it("takes a Keymeter key, and gets no credential", async () => {
    const { id, secret } = await bench.running.createKey({ team: "local-team" });
    expect((await ask("local", secret)).status).toBe(200);
    const { headers } = bench.provider.journal.at(-1) ?? {};
    for (const name of ["authorization", "api-key", "x-api-key", "x-goog-api-key"])
      expect(headers?.[name], name).toBeUndefined();
    expect(JSON.stringify(headers)).not.toContain("km_");
    expect((await bench.running.events()).at(-1)).toMatchObject({
      keyId: id,
      team: "local-team",
      costNanoUsd: CHAT_COST,
    });
  });

  it("hands its errors on, also to a Keymeter key, and everybody else is answered meanwhile", async () => {
    const { secret } = await bench.running.createKey({});
    bench.provider.script = json({ error: { message: "model not found", type: "invalid_request_error" } }, 404);
    for (const key of [secret, "EMPTY", ""]) {
      const answer = await ask("local", key);
      expect([answer.status, await answer.text()], key).toEqual([404, expect.stringContaining("model not found")]);
      expect((await bench.running.events()).at(-1), key).toMatchObject({ httpStatus: 404, costNanoUsd: "0" });
    }
  });

  it("gets its own credential for a Keymeter key where there is one", async () => {
    expect((await ask("lax", bench.secret)).status).toBe(200);
    expect(bench.provider.journal.at(-1)?.headers.authorization).toBe("Bearer lax-provider-credential");
  });

  it("holds a Keymeter key to its budget", async () => {
    const capped = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: capped.id }, amountNanoUsd: 1n });
    expect((await ask("local", capped.secret)).status).toBe(402);
    expect(bench.provider.journal.length).toBe(before);
  });

  it("still knows a Keymeter key that is wrong", async () => {
    expect((await ask("local", "km_x_y_z")).status).toBe(401);
    expect((await ask("local", `"${bench.secret}"`)).status).toBe(401);
    expect(bench.provider.journal.length).toBe(before);
  });

  it("books two different short keys as two keys, and none as a third", async () => {
    const booked: (string | undefined)[] = [];
    for (const key of ["one", "two", "one", ""]) {
      await ask("local", key);
      booked.push((await bench.running.events()).at(-1)?.keyId);
    }
    const [one, two, again, none] = booked;
    expect(again).toBe(one);
    expect(new Set([one, two, none]).size).toBe(3);
  });

  it("shows no short key in the name of a key", async () => {
    await ask("local", "hunter2");
    const names = bench.running.proxy.context.register.list().map(({ name, hint }) => `${name} ${hint}`);
    expect(names).toContain("local key of 7 characters ");
    expect(names.join("\n")).not.toMatch(/ter2/);
  });
});

describe("an upstream that asks for a key", () => {
  it.each(["firm", "keyed"])("(%s) answers what is too short for one, and none, with 401", async (upstream) => {
    for (const key of ["EMPTY", "ollama", "sk-1234", "a b", ""]) {
      const headers: { [name: string]: string } = key === "" ? {} : { authorization: `Bearer ${key}` };
      const answer = await post(`/${upstream}/v1/chat/completions`, CHAT_BODY, headers);
      expect(answer.status, key).toBe(401);
      expect(await answer.json(), key).toMatchObject({ error: { code: "invalid_api_key" } });
    }
    expect(bench.provider.journal.length).toBe(before);
  });

  it("says of a key that is too short what setting takes any", async () => {
    const answer = await post("/firm/v1/chat/completions", CHAT_BODY, { authorization: "Bearer EMPTY" });
    expect(await answer.text()).toContain("needs_key: false in keymeter.yaml");
  });
});

describe("a page in a browser", () => {
  const preflight = (path: string, origin: string, more: { [name: string]: string } = {}): Promise<Response> =>
    fetch(bench.running.url + path, {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
        ...more,
      },
    });
  const allowed = (answer: Response): string | null => answer.headers.get("access-control-allow-origin");
  /** A provider that has a word of its own on every header of CORS. */
  const OPINIONATED = {
    "access-control-allow-origin": "*",
    "access-control-allow-credentials": "true",
    "access-control-expose-headers": "x-their-own",
  };

  it("of an origin in the settings gets its preflight answered, with what it asked for", async () => {
    const answer = await preflight("/openai/v1/chat/completions", ORIGIN);
    expect(answer.status).toBe(204);
    expect(allowed(answer)).toBe(ORIGIN);
    expect(answer.headers.get("access-control-allow-headers")).toBe("authorization,content-type,x-stainless-lang");
    expect(answer.headers.get("access-control-allow-methods")).toContain("POST");
    expect(answer.headers.get("vary")).toBe("origin");
    expect(bench.provider.journal.length).toBe(before);
  });

  it("on another machine that asks for this one's network is allowed that too", async () => {
    const answer = await preflight("/openai/v1/models", ORIGIN, { "access-control-request-private-network": "true" });
    expect(answer.headers.get("access-control-allow-private-network")).toBe("true");
  });

  it("of the second origin in the settings is answered under its own name", async () => {
    expect(allowed(await preflight("/openai/v1/models", "http://localhost:5173"))).toBe("http://localhost:5173");
  });

  it.each([
    ["/openai/v1/chat/completions", { error: { code: "permission_denied" } }],
    ["/anthropic/v1/messages", { type: "error", error: { type: "permission_error" } }],
    ["/google/v1beta/models/gemini-2.5-flash:generateContent", { error: { status: "PERMISSION_DENIED" } }],
  ])("of another origin hears 403 in the dialect of %s, with what setting allows it", async (path, error) => {
    for (const origin of [
      "https://evil.example",
      "https://app.example.com.evil.example",
      "http://app.example.com",
      "null",
    ]) {
      const answer = await preflight(path, origin);
      expect(answer.status, origin).toBe(403);
      expect(allowed(answer), origin).toBeNull();
      const text = await answer.text();
      expect(JSON.parse(text), origin).toMatchObject(error);
      expect(text, origin).toContain("proxy.cors_origins");
    }
    expect(bench.provider.journal.length).toBe(before);
  });

  it("may read an answer: its origin stands there once, whatever the provider says of origins", async () => {
    bench.provider.script = (_arrived, response) =>
      void response
        .writeHead(200, { "content-type": "application/json", ...OPINIONATED })
        .end(JSON.stringify(chatAnswer()));
    const answer = await post("/openai/v1/chat/completions", CHAT_BODY, {
      authorization: `Bearer ${bench.secret}`,
      origin: ORIGIN,
    });
    expect(answer.status).toBe(200);
    expect(allowed(answer)).toBe(ORIGIN);
    expect(answer.headers.get("access-control-expose-headers")).toBe("*");
    expect(answer.headers.get("access-control-allow-credentials")).toBeNull();
  });

  it("may read a stream of events", async () => {
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream", ...OPINIONATED });
      response.write(
        'data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n',
      );
      response.end("data: [DONE]\n\n");
    };
    const body = JSON.stringify({ ...(JSON.parse(CHAT_BODY) as object), stream: true });
    const answer = await post("/openai/v1/chat/completions", body, {
      authorization: `Bearer ${bench.secret}`,
      origin: ORIGIN,
    });
    expect(await answer.text()).toContain("[DONE]");
    expect(allowed(answer)).toBe(ORIGIN);
  });

  it("may read what passes unread", async () => {
    bench.provider.script = (_arrived, response) =>
      void response.writeHead(200, { "content-type": "application/json", ...OPINIONATED }).end('{"data":[]}');
    const answer = await fetch(`${bench.running.url}/openai/v1/models`, {
      headers: { authorization: `Bearer ${bench.secret}`, origin: ORIGIN },
    });
    expect(answer.status).toBe(200);
    expect(allowed(answer)).toBe(ORIGIN);
  });

  it("may read why it is refused, whenever that is found out", async () => {
    const capped = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: capped.id }, amountNanoUsd: 1n });
    const cases: readonly (readonly [status: number, key: string, body: string])[] = [
      [401, "km_x_y_z", CHAT_BODY],
      [400, bench.secret, "{broken"],
      [402, capped.secret, CHAT_BODY],
    ];
    for (const [status, key, body] of cases) {
      const answer = await post("/openai/v1/chat/completions", body, {
        authorization: `Bearer ${key}`,
        origin: ORIGIN,
      });
      expect(answer.status).toBe(status);
      expect(allowed(answer), String(status)).toBe(ORIGIN);
    }
  });

  it("of another origin may read nothing, though the provider lets everybody", async () => {
    bench.provider.script = (_arrived, response) =>
      void response
        .writeHead(200, { "content-type": "application/json", ...OPINIONATED })
        .end(JSON.stringify(chatAnswer()));
    const headers = { authorization: `Bearer ${bench.secret}`, origin: "https://evil.example" };
    expect(allowed(await post("/openai/v1/chat/completions", CHAT_BODY, headers))).toBeNull();
  });
});

describe("the address itself", () => {
  it.each(["/", "/openai/v1/", "/openai/v1", "/openai", "/anthropic/", "/google"])(
    "opened at %s says what this is, and names the base URLs",
    async (path) => {
      const answer = await fetch(bench.running.url + path);
      expect(answer.status).toBe(200);
      expect(answer.headers.get("content-type")).toMatch(/^text\/plain/);
      const text = await answer.text();
      for (const base of [
        `OPENAI_BASE_URL=${bench.running.url}/openai/v1`,
        `ANTHROPIC_BASE_URL=${bench.running.url}/anthropic`,
        `GOOGLE_GEMINI_BASE_URL=${bench.running.url}/google`,
      ])
        expect(text).toContain(base);
      expect(bench.provider.journal.length).toBe(before);
    },
  );

  it("answers HEAD without a body", async () => {
    const answer = await fetch(bench.running.url, { method: "HEAD" });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("content-type")).toMatch(/^text\/plain/);
    expect(await answer.text()).toBe("");
  });

  it("writes no host into its text that is none", async () => {
    const { status, text } = await sendRaw(bench.running.url, 'GET / HTTP/1.1\r\nhost: a"b$(rm)\r\n\r\n');
    expect([200, 400]).toContain(status);
    expect(text).not.toContain("$(rm)");
  });

  it.each(["/openai/v1/chat/completions/", "/anthropic/v1/messages/", "/openai/v1/models//"])(
    "with a slash at the end of a path (%s) says so with 400",
    async (path) => {
      const answer = await post(path, CHAT_BODY, { authorization: `Bearer ${bench.secret}` });
      expect(answer.status).toBe(400);
      expect(await answer.text()).toContain(`the path ends in a slash: write ${path.replace(/\/+$/, "")}`);
      expect(bench.provider.journal.length).toBe(before);
    },
  );

  it("asked by HEAD whether somebody is there, without a key, says 401, and counts no refusal", async () => {
    const countedBefore = await counted("no_credential");
    const answer = await fetch(`${bench.running.url}/anthropic/api/hello`, { method: "HEAD" });
    expect(answer.status).toBe(401);
    expect(await answer.text()).toBe("");
    expect(await counted("no_credential")).toBe(countedBefore);
    // The same by another method is one.
    expect((await fetch(`${bench.running.url}/anthropic/api/hello`)).status).toBe(401);
    expect(await counted("no_credential")).toBe(countedBefore + 1);
  });

  it.each([
    ["/openai/v1/chat/completions", '"type":"invalid_request_error"', '"param":null'],
    ["/anthropic/v1/messages", '{"type":"error"', '"request_id":"req_'],
    ["/google/v1beta/models/gemini-2.5-flash:generateContent", '"status":"INVALID_ARGUMENT"', '"code":431'],
  ])("asked for %s with 20 KB of headers says 431 in its dialect, and counts it", async (path, ...words) => {
    const countedBefore = await counted("bad_headers");
    const { status, text } = await sendRaw(
      bench.running.url,
      `POST ${path} HTTP/1.1\r\nhost: k\r\nauthorization: Bearer ${bench.secret}\r\nx-large: ${"x".repeat(20_000)}\r\ncontent-length: 0\r\n\r\n`,
    );
    expect(status).toBe(431);
    for (const word of words) expect(text).toContain(word);
    expect(text).toContain("larger than 16 KB");
    expect(await counted("bad_headers")).toBe(countedBefore + 1);
  });
});

describe("an answer that goes on from another and names no model", () => {
  const body = JSON.stringify({ previous_response_id: "resp_earlier", input: "go on", max_output_tokens: 50 });
  const ask = (key: string): Promise<Response> =>
    post("/openai/v1/responses", body, { authorization: `Bearer ${key}` });

  it("passes for a key without a hard budget, and is booked by the model that answered", async () => {
    bench.provider.script = json(RESPONSE);
    const { secret } = await bench.running.createKey();
    expect((await ask(secret)).status).toBe(200);
    expect(bench.provider.journal.at(-1)?.body.toString()).toBe(body);
    expect((await bench.running.events()).at(-1)).toMatchObject({
      endpoint: "responses",
      servedModel: "gpt-4o-mini-2024-07-18",
      costNanoUsd: RESPONSE_COST,
    });
  });

  it("is refused under a hard budget as without a price, for it names no model", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 10n ** 12n });
    const answer = await ask(secret);
    expect(answer.status).toBe(402);
    const { error } = (await answer.json()) as { error: { code: string; message: string } };
    expect(error.code).toBe("model_not_priced");
    expect(error.message).toContain("the request names no model");
    expect(error.message).toContain("The budget is not used up.");
    expect(bench.provider.journal.length).toBe(before);
  });

  it("without the answer it goes on from, too, may leave the model out to the provider", async () => {
    bench.provider.script = json({ error: { message: "you must provide a model" } }, 400);
    const answer = await post("/openai/v1/responses", '{"input":"hi"}', { authorization: `Bearer ${bench.secret}` });
    expect(answer.status).toBe(400);
  });
});

describe("a path that nobody meters", () => {
  const ask = (path: string, key: string): Promise<Response> => post(path, "{}", { authorization: `Bearer ${key}` });
  type Listed = { unmetered: { key: string; keyId: string; provider: string; path: string; requests: number }[] };
  const list = async (token = bench.running.adminToken): Promise<Response> =>
    fetch(`${bench.running.opsUrl}/admin/unmetered`, { headers: { authorization: `Bearer ${token}` } });

  it("that a client's own key used is listed by key and path, ids left out, with how often", async () => {
    await ask("/openai/v1/vector_stores/vs_68a1/files", OWN_KEY);
    await ask("/openai/v1/vector_stores/vs_99ff/files", OWN_KEY);
    await ask("/openai/v1/fine_tuning/jobs", OWN_KEY);
    await ask("/openai/v1/fine_tuning/jobs", "sk-test-reached-another-own-key");
    const { unmetered } = (await (await list()).json()) as Listed;
    const found = unmetered.map(({ keyId, provider, path, requests }) => [keyId, provider, path, requests]);
    const [mine] = unmetered;
    expect(found).toEqual([
      [mine?.keyId, "openai", "POST /v1/vector_stores/{id}/files", 2],
      [mine?.keyId, "openai", "POST /v1/fine_tuning/jobs", 1],
      [expect.not.stringMatching(`^${mine?.keyId}$`), "openai", "POST /v1/fine_tuning/jobs", 1],
    ]);
    expect(mine?.key).toBe("openai key …-key");
    expect(JSON.stringify(unmetered)).not.toMatch(/vs_|sk-test/);
  });

  it("is listed for nobody without the admin token", async () => {
    expect((await list("wrong-token")).status).toBe(401);
    expect((await fetch(`${bench.running.opsUrl}/admin/unmetered`)).status).toBe(401);
  });

  it("is refused to a Keymeter key, which is told that this is why", async () => {
    const answer = await ask("/openai/v1/fine_tuning/jobs", bench.secret);
    expect(answer.status).toBe(404);
    const text = await answer.text();
    expect(text).toContain("Keymeter cannot tell what POST /v1/fine_tuning/jobs costs, so it is not forwarded");
    expect(text).toContain("a Keymeter key reaches only what is metered or free");
    expect(bench.provider.journal.length).toBe(before);
  });

  it("is refused under a hard budget, which the refusal names by its id", async () => {
    const budget = await bench.running.setBudget({ id: "budget_all", amountNanoUsd: 10n ** 15n, window: "week" });
    const answer = await ask("/openai/v1/fine_tuning/jobs", OWN_KEY);
    await bench.running.proxy.writer.change({ type: "removeBudget", budgetId: budget.id }, "test");
    expect(answer.status).toBe(404);
    const text = await answer.text();
    expect(text).toContain("this key is under a hard budget (the organisation, week, budget_all), which must hold");
    expect(bench.provider.journal.length).toBe(before);
  });

  it("that was refused is not listed as used", async () => {
    await ask("/openai/v1/evals", bench.secret);
    expect(await (await list()).text()).not.toContain("/evals");
  });
});
