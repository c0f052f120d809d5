// Bad input: a 4xx in the client's dialect, never a 500, nothing sent upstream, nothing booked.
import { beforeEach, describe, expect, it } from "vitest";
import { chatAnswer, json } from "../fake/provider.ts";
import { rawPost, sendRaw } from "../raw-http.ts";
import { withProxy } from "../with-proxy.ts";

const KEY = "authorization: Bearer sk-test-gate-client-key";
const CHAT = "/openai/v1/chat/completions";
const GOOD = '{"model":"gpt-4o-mini","max_tokens":5,"messages":[]}';

const bench = withProxy(json(chatAnswer()), {}, { key: { name: "gate" } });
let before = 0;
let bookedBefore = 0;
beforeEach(async () => {
  before = bench.provider.journal.length;
  bookedBefore = (await bench.running.events()).length;
});

async function isRefused(bytes: string | Buffer, ...statuses: number[]): Promise<string> {
  const answer = await sendRaw(bench.running.url, bytes);
  expect(statuses, answer.text.slice(0, 300)).toContain(answer.status);
  expect(bench.provider.journal.length, "something was sent upstream").toBe(before);
  expect((await bench.running.events()).length, "something was booked").toBe(bookedBefore);
  return answer.text;
}

describe("the target", () => {
  it.each([
    ["absolute form", "http://evil.example/openai/v1/chat/completions"],
    ["two slashes", "//evil.example/openai/v1/chat/completions"],
    ["slash and backslash", "/\\evil.example/v1"],
    ["dots that climb", "/openai/v1/../admin/chat/completions"],
    ["escaped dots", "/openai/v1/%2e%2e/chat/completions"],
    ["an escaped slash", "/openai/v1/..%2fchat/completions"],
    ["an escaped NUL", "/openai/v1/chat/completions%00"],
    ["a double slash inside", "/openai//v1/chat/completions"],
    ["a semicolon", "/openai/v1/chat/completions;x=1"],
    ["a fragment", "/openai/v1/chat/completions#x"],
    ["half an escape", "/openai/v1/chat/completions%z"],
    ["a doubled escape", "/openai/v1/%252e%252e/chat/completions"],
    ["an asterisk", "*"],
  ])("with %s is refused", async (_name, target) => {
    await isRefused(rawPost(target, GOOD, [KEY]), 400, 404);
  });

  it("of another case, or with a slash at its end, is not that route", async () => {
    await isRefused(rawPost("/OpenAI/v1/chat/completions", GOOD, [`authorization: Bearer ${bench.secret}`]), 404);
    await isRefused(rawPost(`${CHAT}/`, GOOD, [`authorization: Bearer ${bench.secret}`]), 400, 404);
  });

  it("that is not metered is not forwarded for a virtual key, in the dialect it asks in", async () => {
    expect(
      await isRefused(rawPost("/openai/v1/fine_tuning/jobs", GOOD, [`authorization: Bearer ${bench.secret}`]), 404),
    ).toContain('"code":"not_metered"');
    expect(await isRefused(rawPost("/anthropic/v1/nothing", GOOD, [`x-api-key: ${bench.secret}`]), 404)).toContain(
      '"type":"not_found_error"',
    );
    expect(
      await isRefused(rawPost("/google/v1beta/models/x:nothing", GOOD, [`x-goog-api-key: ${bench.secret}`]), 404),
    ).toContain('"status":"NOT_FOUND"');
  });

  it("that is not metered passes for a client's own key, counted, until a hard budget covers it", async () => {
    const answer = await sendRaw(bench.running.url, rawPost("/openai/v1/fine_tuning/jobs", GOOD, [KEY]));
    expect(answer.status).toBe(200);
    expect(bench.provider.journal.at(-1)?.url).toBe("/v1/fine_tuning/jobs");
    expect(await (await fetch(`${bench.running.opsUrl}/metrics`)).text()).toContain(
      'keymeter_unmetered_requests_total{provider="openai"} 1',
    );
    before = bench.provider.journal.length;
    const budget = await bench.running.setBudget({ amountNanoUsd: 10n ** 15n });
    await isRefused(rawPost("/openai/v1/fine_tuning/jobs", GOOD, [KEY]), 404);
    await bench.running.proxy.writer.change({ type: "removeBudget", budgetId: budget.id }, "test");
  });
});

describe("credentials", () => {
  it.each([
    ["none", []],
    ["an empty one", ["authorization: Bearer "]],
    ["one of another scheme", ["authorization: Basic abc"]],
    [
      "an unknown virtual key",
      ["authorization: Bearer km_prod_0123456789_0123456789012345678901234567890123456789012ABCDEF"],
    ],
    ["a virtual key with a wrong checksum", ["authorization: Bearer km_x_y_z"]],
  ])("%s: 401 in the client's dialect", async (_name, headers) => {
    expect(await isRefused(rawPost(CHAT, GOOD, headers), 401)).toContain('"code":"invalid_api_key"');
    expect(await isRefused(rawPost("/anthropic/v1/messages", GOOD, headers), 401)).toContain(
      '"type":"authentication_error"',
    );
    expect(
      await isRefused(rawPost("/google/v1beta/models/gemini-2.5-flash:generateContent", GOOD, headers), 401),
    ).toContain('"status":"UNAUTHENTICATED"');
  });

  it.each([
    ["two different ones", [KEY, "x-api-key: another-key-123"]],
    ["one header twice", [KEY, KEY]],
    ["one in a header and one in the query", [KEY]],
  ])("%s: 400", async (name, headers) => {
    await isRefused(rawPost(name.includes("query") ? `${CHAT}?key=another-key-123` : CHAT, GOOD, headers), 400);
  });

  it("a revoked, a paused and an expired key: 401, 403, 401", async () => {
    const { id, secret } = await bench.running.createKey();
    const setState = async (state: "paused" | "revoked" | "active"): Promise<void> => {
      await bench.running.proxy.writer.change({ type: "setKeyState", keyId: id, state }, "test");
      await bench.running.proxy.context.register.reload();
    };
    await setState("paused");
    await isRefused(rawPost(CHAT, GOOD, [`authorization: Bearer ${secret}`]), 403);
    await setState("revoked");
    await isRefused(rawPost(CHAT, GOOD, [`authorization: Bearer ${secret}`]), 401);
    const expired = await bench.running.createKey({ expiresAtMs: Date.now() - 1 });
    await isRefused(rawPost(CHAT, GOOD, [`authorization: Bearer ${expired.secret}`]), 401);
  });

  it("go upstream in place of the client's, and nothing of the client's with them", async () => {
    await sendRaw(
      bench.running.url,
      rawPost("/anthropic/v1/messages?beta=true", '{"model":"claude-haiku-4-5","max_tokens":5,"messages":[]}', [
        `x-api-key: ${bench.secret}`,
        "anthropic-version: 2023-06-01",
        "anthropic-beta: new-thing-2027",
        "x-forwarded-for: 1.2.3.4",
        "cookie: a=b",
        "connection: x-secret-hop",
        "x-secret-hop: 1",
        "x-keymeter-team: t",
        "helicone-auth: h",
        "x-new-feature: kept",
        "openai-organization: org-evil",
      ]),
    );
    const arrived = bench.provider.journal.at(-1);
    expect(arrived?.url).toBe("/v1/messages?beta=true");
    expect(arrived?.headers).toMatchObject({
      "x-api-key": "sk-ant-api03-provider-credential",
      "anthropic-version": "2023-06-01",
      "anthropic-beta": "new-thing-2027",
      "x-new-feature": "kept",
      "accept-encoding": "identity",
    });
    for (const name of [
      "x-forwarded-for",
      "cookie",
      "x-secret-hop",
      "x-keymeter-team",
      "helicone-auth",
      "authorization",
      "openai-organization",
    ])
      expect(arrived?.headers[name], name).toBeUndefined();
    expect(JSON.stringify(arrived?.headers)).not.toContain(bench.secret);
    const [event] = (await bench.running.events()).slice(-1);
    expect(event?.team).toBe("search");
  });

  it("of a query never stand in the upstream's target", async () => {
    await sendRaw(
      bench.running.url,
      rawPost(`/google/v1beta/models/gemini-2.5-flash:generateContent?key=${bench.secret}`, '{"contents":[]}'),
    );
    expect(bench.provider.journal.at(-1)?.url).toBe("/v1beta/models/gemini-2.5-flash:generateContent");
    expect(bench.provider.journal.at(-1)?.headers["x-goog-api-key"]).toBe("AIzaProviderCredentialGoogle");
  });
});

describe("the body", () => {
  const nested = (depth: number): string => `{"model":"m","messages":${"[".repeat(depth)}${"]".repeat(depth)}}`;
  it.each([
    ["that is no JSON", "{broken"],
    ["that is half a JSON", '{"model":"gpt-4o-mini"'],
    ["that is empty", ""],
    ["that is an array", "[]"],
    ["with a name twice", '{"model":"cheap","model":"gpt-4o-mini","messages":[]}'],
    ["with a name twice in two spellings", '{"model":"cheap","\\u006dodel":"gpt-4o-mini"}'],
    ["with a name twice deep inside", '{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}'],
    ["with an absurd number", '{"model":"gpt-4o-mini","temperature":1e400}'],
    ["with a negative limit", '{"model":"gpt-4o-mini","max_tokens":-1}'],
    ["with half a token as limit", '{"model":"gpt-4o-mini","max_tokens":1.5}'],
    ["with a limit in quotes", '{"model":"gpt-4o-mini","max_tokens":"5"}'],
    ["nested too deep", nested(80)],
    ["nested absurdly deep", nested(200_000)],
    ["with __proto__", '{"model":"m","__proto__":{"x":1}}'],
    ["without a model", '{"messages":[]}'],
    ["with a model that is no name", '{"model":"gpt\\n4","messages":[]}'],
    ["with a byte order mark", "\ufeff{}"],
  ])("%s is refused", async (_name, body) => {
    const text = await isRefused(rawPost(CHAT, body, [KEY]), 400);
    expect(text).toContain('"type":"invalid_request_error"');
    expect(text).toContain("Keymeter: ");
  });

  it("that is no UTF-8, of another type, or packed as nobody can read it is refused", async () => {
    await isRefused(rawPost(CHAT, Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), [KEY]), 400);
    await isRefused(
      `POST ${CHAT} HTTP/1.1\r\nhost: k\r\n${KEY}\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n{}`,
      415,
    );
    await isRefused(rawPost(CHAT, GOOD, [KEY, "content-encoding: gzip"]), 400);
    await isRefused(rawPost(CHAT, GOOD, [KEY, "content-encoding: compress"]), 415);
    await isRefused(rawPost(CHAT, GOOD, [KEY, "content-encoding: gzip, br"]), 415);
  });

  it("larger than the limit is refused without being read", async () => {
    await isRefused(
      `POST ${CHAT} HTTP/1.1\r\nhost: k\r\n${KEY}\r\ncontent-type: application/json\r\ncontent-length: 999999999\r\n\r\n{`,
      413,
    );
  });

  it("of a GET is refused", async () => {
    await isRefused(`GET /openai/v1/models HTTP/1.1\r\nhost: k\r\n${KEY}\r\ncontent-length: 2\r\n\r\n{}`, 400);
  });
});

describe("HTTP", () => {
  it.each([
    [
      "both lengths",
      `POST ${CHAT} HTTP/1.1\r\nhost: k\r\n${KEY}\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}`,
    ],
    ["two lengths", `POST ${CHAT} HTTP/1.1\r\nhost: k\r\n${KEY}\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{}`],
    [
      "two hosts",
      `POST ${CHAT} HTTP/1.1\r\nhost: k\r\nhost: l\r\n${KEY}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
    ],
    [
      "a coding before chunked",
      `POST ${CHAT} HTTP/1.1\r\nhost: k\r\n${KEY}\r\ncontent-type: application/json\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
    ],
    [
      "chunked over HTTP/1.0",
      `POST ${CHAT} HTTP/1.0\r\nhost: k\r\n${KEY}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
    ],
    ["a bare line feed", `POST ${CHAT} HTTP/1.1\nhost: k\n${KEY}\n\n`],
  ])("with %s is refused", async (_name, bytes) => {
    await isRefused(bytes, 400);
  });

  it("with half a handshake is answered 426, wherever it leads", async () => {
    await isRefused(
      `GET /openai/v1/responses HTTP/1.1\r\nhost: k\r\n${KEY}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n`,
      426,
    );
  });

  it("with an upgrade to what cannot be metered is answered 426, so that clients fall back at once", async () => {
    await isRefused(
      `GET /openai/v1/live HTTP/1.1\r\nhost: k\r\n${KEY}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n`,
      426,
    );
  });

  it("that asks 100-continue hears 401, not 100, when nobody knows who it is", async () => {
    const text = await isRefused(
      `POST ${CHAT} HTTP/1.1\r\nhost: k\r\nauthorization: Bearer km_bad\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n`,
      401,
    );
    expect(text).not.toContain("100 Continue");
  });

  it("that asks 100-continue with a key is served", async () => {
    const answer = await sendRaw(
      bench.running.url,
      Buffer.concat([
        Buffer.from(
          `POST ${CHAT} HTTP/1.1\r\nhost: k\r\n${KEY}\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: ${GOOD.length}\r\n\r\n`,
        ),
        Buffer.from(GOOD),
      ]),
    );
    expect(answer.text).toContain("100 Continue");
    await expect.poll(async () => (await bench.running.events()).length).toBe(bookedBefore + 1);
  });

  it("limits are in force", () => {
    const { server } = bench.running.proxy.app;
    expect(server).toMatchObject({ requestTimeout: 3_600_000, headersTimeout: 10_000, keepAliveTimeout: 75_000 });
    expect(process.execArgv).not.toContain("--insecure-http-parser");
  });
});

describe("secrets", () => {
  it("never appear in answers, metrics or events", async () => {
    const refused = await sendRaw(bench.running.url, rawPost(CHAT, GOOD, [`authorization: Bearer ${bench.secret}x`]));
    const seen = [
      refused.text,
      await (await fetch(`${bench.running.opsUrl}/metrics`)).text(),
      JSON.stringify(await bench.running.events()),
    ].join("\n");
    for (const secret of [
      bench.secret,
      "sk-proj-provider-credential-openai",
      "sk-ant-api03-provider-credential",
      bench.running.adminToken,
    ])
      expect(seen).not.toContain(secret);
  });
});
