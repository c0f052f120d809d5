// Edges of what clients are promised, each of which was a fault once.
import { writeFileSync } from "node:fs";
import { request as openRequest } from "node:https";
import { join } from "node:path";
import { generate } from "selfsigned";
import { beforeEach, describe, expect, it } from "vitest";
import { chatAnswer, json } from "../fake/provider.ts";
import { sendRaw } from "../raw-http.ts";
import { startProxy, temporaryFolder, writeSettings } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const ORIGIN = "https://app.example.com";
const bench = withProxy(json(chatAnswer()), (url) => ({
  KEYMETER_CONFIG: writeSettings(`proxy:
  contact: Anna
  cors_origins: ["${ORIGIN}"]
  upstreams:
    local: { url: "${url}", price_list: openai }
`),
  KEYMETER_DURABILITY: "process",
}));
beforeEach(() => {
  bench.provider.script = json(chatAnswer());
});

function post(
  path: string,
  key: string,
  body: object,
  headers: { readonly [name: string]: string } = {},
): Promise<Response> {
  return fetch(bench.running.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}`, ...headers },
    body: JSON.stringify(body),
  });
}

describe("a request that states no limit", () => {
  const chat = { messages: [{ role: "user", content: "hello" }] };
  it.each([
    ["strict", "/openai/v1/chat/completions", "max_tokens", chat],
    ["expected", "/openai/v1/chat/completions", "max_tokens", chat],
    ["strict", "/openai/v1/responses", "max_output_tokens", { input: "hello" }],
    ["expected", "/openai/v1/responses", "max_output_tokens", { input: "hello" }],
  ] as const)(
    "passes a %s budget at %s with exactly the %s that its refusal names: the bytes of that field are reckoned with",
    async (mode, path, field, more) => {
      const { id, secret } = await bench.running.createKey();
      await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1_000_000n, mode });
      const refused = await post(path, secret, { model: "gpt-4o-mini", ...more });
      expect(refused.status).toBe(402);
      const fitting = Number(refused.headers.get("x-keymeter-fitting-output-tokens"));
      expect(fitting).toBeGreaterThan(1_000);
      expect((await post(path, secret, { model: "gpt-4o-mini", ...more, [field]: fitting })).status).toBe(200);
    },
  );
});

describe("a refusal for money", () => {
  it("speaks of no output tokens where a request has no limit of them: pictures, speech", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 100_000n });
    for (const [path, body] of [
      ["/openai/v1/images/generations", { model: "gpt-image-1", prompt: "a cat" }],
      ["/openai/v1/audio/speech", { model: "gpt-4o-mini-tts", input: "hello ".repeat(600), voice: "alloy" }],
    ] as const) {
      const refused = await post(path, secret, body);
      expect(refused.status, path).toBe(402);
      expect(refused.headers.get("x-keymeter-fitting-output-tokens"), path).toBeNull();
      expect(await refused.text(), path).not.toMatch(/token/);
    }
  });

  it("tells Codex no end of the budget where waiting does not help: a model without a price", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 10n ** 12n });
    const asked = { model: "unheard-of-model", input: "hi" };
    const refused = await post("/openai/v1/responses", secret, asked, { "user-agent": "codex_cli_rs/0.169.0" });
    expect(refused.status).toBe(429);
    expect(((await refused.json()) as { error: object }).error).not.toHaveProperty("resets_at");
  });

  it("is answered also where a budget's id, which the admin API takes as any text, cannot stand in a header", async () => {
    const { id, secret } = await bench.running.createKey();
    const budget = {
      id: "бюджет",
      scope: { keyId: id },
      window: "month",
      amountNanoUsd: 1n,
      kind: "hard",
      mode: "expected",
      createdAtMs: Date.now(),
    } as const;
    const isTaken = (await bench.running.change({ type: "setBudget", budget })) === 200;
    const asked = post("/openai/v1/chat/completions", secret, { model: "gpt-4o-mini", messages: [] });
    const status = await Promise.race([
      asked.then((answer) => answer.status),
      new Promise((resolve) => setTimeout(() => resolve("no answer"), 500)),
    ]);
    expect(status).toBe(isTaken ? 402 : 200);
  });
});

describe("whom to ask", () => {
  it("is named as the settings say in a stream, too, that somebody cuts", async () => {
    const { id, secret } = await bench.running.createKey();
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write('data: {"id":"c","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n');
    };
    const answer = await post("/openai/v1/chat/completions", secret, {
      model: "gpt-4o-mini",
      stream: true,
      messages: [],
    });
    bench.running.proxy.context.forwarder.cut(({ keyId }) => keyId === id);
    const text = await answer.text();
    expect(text).toContain("stopped this key or scope");
    expect(text).not.toContain("whoever runs Keymeter");
  });
});

describe("a key's limit on the size of a body", () => {
  it("holds for an upload of no stated length, too", async () => {
    bench.provider.script = json({ id: "file-1", object: "file" });
    const { id, secret } = await bench.running.createKey();
    const limits = {
      scope: `key:${id}`,
      requestsPerMinute: undefined,
      tokensPerMinute: undefined,
      concurrent: undefined,
      bodyBytes: 1_000,
    };
    expect(await bench.running.change({ type: "setLimits", limits })).toBe(200);
    const head = `POST /openai/v1/files HTTP/1.1\r\nhost: k\r\nauthorization: Bearer ${secret}\r\ncontent-type: multipart/form-data; boundary=b\r\n`;
    const bytes = "x".repeat(5_000);
    const stated = await sendRaw(bench.running.url, `${head}content-length: 5000\r\n\r\n${bytes}`);
    expect(stated.status).toBe(413);
    const chunked = await sendRaw(
      bench.running.url,
      `${head}transfer-encoding: chunked\r\n\r\n1388\r\n${bytes}\r\n0\r\n\r\n`,
    );
    expect(chunked.status).toBe(413);
  });
});

describe("an upstream that asks for no key", () => {
  it("takes an Authorization header without a key in it: of a variable that is not set", async () => {
    const body = '{"model":"gpt-4o-mini","messages":[]}';
    const answer = await sendRaw(
      bench.running.url,
      `POST /local/v1/chat/completions HTTP/1.1\r\nhost: k\r\nauthorization: Bearer \r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    expect(answer.status).toBe(200);
  });
});

describe("a page in a browser", () => {
  it("gets an answer that varies by origin also where the provider names another header there", async () => {
    bench.provider.script = (_arrived, response) =>
      void response.writeHead(200, { "content-type": "application/json", vary: "Accept-Encoding" }).end('{"data":[]}');
    const { secret } = await bench.running.createKey();
    const answer = await fetch(`${bench.running.url}/openai/v1/models`, {
      headers: { authorization: `Bearer ${secret}`, origin: ORIGIN },
    });
    expect(answer.headers.get("vary")?.toLowerCase().split(/, */)).toContain("origin");
  });
});

describe("the list of what passes unmetered", () => {
  it("leaves out ids of letters alone, too", async () => {
    await post("/openai/v1/threads/thread_abcdEFGHijklMNOPqrstUVWX/runs", "sk-test-faults-own-key", {});
    const listed = await fetch(`${bench.running.opsUrl}/admin/unmetered`, {
      headers: { authorization: `Bearer ${bench.running.adminToken}` },
    });
    expect(await listed.text()).toContain('"POST /v1/threads/{id}/runs"');
  });
});

describe("a Gemini upload over TLS of our own", () => {
  it("is sent on to an address of the same scheme", async () => {
    const folder = temporaryFolder();
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const made = await generate([{ name: "commonName", value: "127.0.0.1" }], { keySize: 2048 });
    writeFileSync(cert, made.cert);
    writeFileSync(key, made.private);
    const own = await startProxy(bench.provider.url, {
      KEYMETER_DURABILITY: "process",
      KEYMETER_TLS_CERT: cert,
      KEYMETER_TLS_KEY: key,
    });
    const { secret } = await own.createKey();
    bench.provider.script = (_arrived, response) => {
      const headers = { "x-goog-upload-url": `${bench.provider.url}/upload/v1beta/files?upload_id=1` };
      response.writeHead(200, headers).end("{}");
    };
    const address = await new Promise<unknown>((resolve, reject) => {
      openRequest(
        `${own.url.replace("http:", "https:")}/google/upload/v1beta/files`,
        {
          method: "POST",
          ca: made.cert,
          checkServerIdentity: () => undefined,
          headers: { "x-goog-api-key": secret, "x-goog-upload-command": "start" },
        },
        (response) => {
          response.resume();
          resolve(response.headers["x-goog-upload-url"]);
        },
      )
        .on("error", reject)
        .end();
    });
    await own.stop();
    expect(address).toMatch(/^https:/);
  });
});
