// What coding agents need beside metering: lists of models that show what the key may use, Bedrock's two doors that take a
// bearer, and what Cursor sends.
import Anthropic from "@anthropic-ai/sdk";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { startProxy, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

let provider: FakeProvider;
let running: RunningProxy;
beforeEach(async () => {
  provider = await startFakeProvider(json({}));
  const settings = writeSettings(`proxy:
  upstreams:
    bedrock: { kind: bedrock, url: "${provider.url}", api_key_env: BEDROCK_KEY }
    claude-aws: { kind: anthropic, url: "${provider.url}/aws", api_key_env: BEDROCK_KEY }
`);

  running = await startProxy(provider.url, {
    KEYMETER_CONFIG: settings,
    BEDROCK_KEY: "bedrock-api-key-of-the-company",
  });
});
afterEach(async () => {
  await running.stop();
  await provider.close();
});

describe("a list of models", () => {
  const names = ["claude-opus-5", "claude-haiku-4-5", "gpt-5", "gemini-2.5-pro", "nobody-knows-me"];
  const openai = { object: "list", data: names.map((id) => ({ id, object: "model", created: 1, owned_by: "x" })) };
  const anthropic = {
    data: names.map((id) => ({ type: "model", id, display_name: id, created_at: "2026-01-01T00:00:00Z" })),
    has_more: false,
    first_id: names[0],
    last_id: names.at(-1),
  };
  const google = { models: names.map((name) => ({ name: `models/${name}`, displayName: name })) };

  const lists: { readonly [sdk: string]: (secret: string) => Promise<string[]> } = {
    openai: async (apiKey) => {
      provider.script = json(openai);
      const found = [];
      for await (const { id } of new OpenAI({ baseURL: `${running.url}/openai/v1`, apiKey }).models.list())
        found.push(id);
      return found;
    },
    anthropic: async (apiKey) => {
      provider.script = json(anthropic);
      const found = [];
      const client = new Anthropic({ baseURL: `${running.url}/anthropic`, apiKey });
      for await (const { id } of client.models.list({ limit: 1000 })) found.push(id);
      return found;
    },
    google: async (apiKey) => {
      provider.script = json(google);
      const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: `${running.url}/google` } });
      const found = [];
      for await (const { name = "" } of await client.models.list()) found.push(name.replace("models/", ""));
      return found;
    },
  };

  it.each(Object.entries(lists))("shows what the key may use, in the shape of %s", async (_sdk, list) => {
    const free = await running.createKey();
    const held = await running.createKey({ policy: { models: ["claude-*", "gemini-2.5-pro"] } });
    expect(await list(free.secret)).toEqual(names);
    expect(await list(held.secret)).toEqual(["claude-opus-5", "claude-haiku-4-5", "gemini-2.5-pro"]);
    expect(await running.events()).toEqual([]);
  });

  it("leaves out models without a price, where the key uses only such", async () => {
    const { secret } = await running.createKey({ policy: { unpriced: "refuse" } });
    expect(await lists["openai"]?.(secret)).toEqual(["gpt-5"]);
    expect(await lists["anthropic"]?.(secret)).toEqual(["claude-opus-5", "claude-haiku-4-5"]);
  });

  it("refuses one model that it may not use, and lets the provider say of one that it may", async () => {
    provider.script = json({ id: "gpt-5", object: "model" });
    const { secret } = await running.createKey({ policy: { models: ["gpt-5"] } });
    const client = new OpenAI({ baseURL: `${running.url}/openai/v1`, apiKey: secret, maxRetries: 0 });
    expect((await client.models.retrieve("gpt-5")).id).toBe("gpt-5");
    await expect(client.models.retrieve("gpt-4o")).rejects.toMatchObject({ status: 403 });
    expect(provider.journal.length).toBe(1);
  });

  it("passes an error, and what is no list, as they are", async () => {
    const { secret } = await running.createKey({ policy: { models: ["gpt-5"] } });
    const get = async (): Promise<string> =>
      (await fetch(`${running.url}/openai/v1/models`, { headers: { authorization: `Bearer ${secret}` } })).text();
    provider.script = json({ error: { message: "no", data: [1] } }, 500);
    expect(JSON.parse(await get())).toEqual({ error: { message: "no", data: [1] } });
    provider.script = (_arrived, response) => void response.end("<html>");
    expect(await get()).toBe("<html>");
  });
});

describe("Bedrock", () => {
  const message = (model: string): object => ({
    id: "msg_bdrk_1",
    type: "message",
    role: "assistant",
    model,
    content: [{ type: "text", text: "hi" }],
    stop_reason: "end_turn",
    usage: {
      input_tokens: 1_000_000,
      cache_read_input_tokens: 0,
      cache_creation_input_tokens: 0,
      output_tokens: 100_000,
    },
  });

  // 2026-11: 5 and 25 USD per million for `global.`, a tenth more in a region (AWS's price page, by genai-prices).
  it.each([
    ["global.anthropic.claude-opus-5", 7_500_000_000n],
    ["us.anthropic.claude-opus-5", 8_250_000_000n],
    ["anthropic.claude-opus-5", 8_250_000_000n],
  ])("takes Anthropic's format for %s, and prices by the profile", async (model, nanoUsd) => {
    provider.script = json(message("claude-opus-5"));
    const { secret } = await running.createKey();
    const client = new Anthropic({ baseURL: `${running.url}/bedrock/anthropic`, authToken: secret, apiKey: null });
    await client.messages.create({ model, max_tokens: 10, messages: [{ role: "user", content: "hi" }] });
    const [sent] = provider.journal;
    expect([sent?.url, sent?.headers["authorization"]]).toEqual([
      "/anthropic/v1/messages",
      "Bearer bedrock-api-key-of-the-company",
    ]);
    expect(await running.events()).toMatchObject([
      {
        provider: "bedrock",
        endpoint: "messages",
        requestedModel: model,
        costNanoUsd: String(nanoUsd),
        priceList: "aws",
      },
    ]);
  });

  it("takes OpenAI's format, whole and as a stream", async () => {
    const usage = { prompt_tokens: 1_000_000, completion_tokens: 100_000, total_tokens: 1_100_000 };
    const model = "openai.gpt-oss-120b-1:0";
    const { secret } = await running.createKey();
    const client = new OpenAI({ baseURL: `${running.url}/bedrock/openai/v1`, apiKey: secret, maxRetries: 0 });
    const asked = { model, messages: [{ role: "user" as const, content: "hi" }] };
    provider.script = json({ id: "c", object: "chat.completion", model, choices: [], usage });
    await client.chat.completions.create(asked);
    provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.end(
        `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model, choices: [], usage })}\n\ndata: [DONE]\n\n`,
      );
    };
    for await (const _ of await client.chat.completions.create({ ...asked, stream: true })) continue;
    expect(provider.journal.map(({ url }) => url)).toEqual([
      "/openai/v1/chat/completions",
      "/openai/v1/chat/completions",
    ]);
    // 0.15 and 0.60 USD per million.
    for (const event of await running.events())
      expect(event).toMatchObject({ costNanoUsd: "210000000", priceList: "aws" });
    expect((await running.events()).length).toBe(2);
  });

  it("is reached by a Keymeter key nowhere else, and never by a signature", async () => {
    const { secret } = await running.createKey();
    const ask = async (path: string, authorization: string): Promise<[number, string]> => {
      const answer = await fetch(`${running.url}/bedrock/${path}`, {
        method: "POST",
        headers: { authorization },
        body: "{}",
      });
      return [answer.status, await answer.text()];
    };
    const [status] = await ask("model/anthropic.claude-opus-5/converse", `Bearer ${secret}`);
    expect(status).toBe(404);
    const [signed, why] = await ask(
      "anthropic/v1/messages",
      "AWS4-HMAC-SHA256 Credential=AKIA/20261130/us-east-1/bedrock/aws4_request",
    );
    expect([signed, why]).toEqual([401, expect.stringContaining("signed for AWS")]);
    expect(provider.journal).toEqual([]);
  });

  it("has beside it others that speak Anthropic's format", async () => {
    provider.script = json(message("claude-haiku-4-5"));
    const { secret } = await running.createKey();
    const client = new Anthropic({ baseURL: `${running.url}/claude-aws`, apiKey: secret });
    await client.messages.create({
      model: "claude-haiku-4-5",
      max_tokens: 10,
      messages: [{ role: "user", content: "hi" }],
    });
    expect(provider.journal[0]?.url).toBe("/aws/v1/messages");
    // 1 and 5 USD per million.
    expect(await running.events()).toMatchObject([{ provider: "claude-aws", costNanoUsd: "1500000000" }]);
  });
});

describe("Cursor", () => {
  const chat = {
    id: "c",
    object: "chat.completion",
    model: "gpt-4o-mini",
    choices: [],
    usage: { prompt_tokens: 1_000_000, completion_tokens: 0, total_tokens: 1_000_000 },
  };
  const post = async (path: string, secret: string, body: object): Promise<number> => {
    const answer = await fetch(`${running.url}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", "api-key": secret },
      body: JSON.stringify(body),
    });
    await answer.text();
    return answer.status;
  };

  it.each(["/openai/deployments/any/chat/completions", "/openai/openai/deployments/any/chat/completions"])(
    "sends Azure's path %s, and the body names the model",
    async (path) => {
      provider.script = json(chat);
      const { secret } = await running.createKey();
      const body = { model: "gpt-4o-mini", messages: [{ role: "user", content: "hi" }] };
      expect(await post(`${path}?api-version=2024-10-21`, secret, body)).toBe(200);
      const [sent] = provider.journal;
      expect([sent?.url, JSON.parse(String(sent?.body))]).toEqual(["/v1/chat/completions", body]);
      expect(sent?.headers["authorization"]).toBe("Bearer sk-proj-provider-credential-openai");
      expect(await running.events()).toMatchObject([{ endpoint: "chat_completions", costNanoUsd: "150000000" }]);
    },
  );

  it.each([
    ["answered as a chat", chat],
    [
      "answered as a response",
      {
        id: "resp_1",
        object: "response",
        status: "completed",
        model: "gpt-4o-mini",
        output: [],
        usage: { input_tokens: 1_000_000, output_tokens: 0, total_tokens: 1_000_000 },
      },
    ],
  ])("sends the body of a response to the path of a chat, %s", async (_how, answer) => {
    provider.script = json(answer);
    const { secret } = await running.createKey();
    const body = { model: "gpt-4o-mini", input: [{ role: "user", content: "hi" }], max_output_tokens: 100 };
    expect(await post("/openai/v1/chat/completions", secret, body)).toBe(200);
    expect(JSON.parse(String(provider.journal[0]?.body))).toEqual(body);
    expect(await running.events()).toMatchObject([{ costNanoUsd: "150000000", usageState: "reported" }]);
  });
});
