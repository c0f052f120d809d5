// Every form of base URL that SDKs are configured with: prefix or none, a version missing, there, or doubled.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

let provider: FakeProvider;
let running: RunningProxy;
beforeAll(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
  const config = join(temporaryFolder(), "keymeter.yaml");
  writeFileSync(
    config,
    `proxy: { upstreams: { groq: { url: "${provider.url}/openai", price_list: groq }, local-vllm: { url: "${provider.url}" } } }\n`,
  );
  running = await startProxy(provider.url, { KEYMETER_CONFIG: config });
});
afterAll(async () => {
  await running.stop();
  await provider.close();
});

const GEMINI = "models/gemini-2.5-flash:generateContent";

describe("a request", () => {
  it.each([
    ["/openai/v1/chat/completions", {}, "/v1/chat/completions", "openai"],
    ["/openai/chat/completions", {}, "/v1/chat/completions", "openai"],
    ["/openai/v1/v1/chat/completions", {}, "/v1/chat/completions", "openai"],
    ["/v1/chat/completions", {}, "/v1/chat/completions", "openai"],
    ["/anthropic/v1/messages", {}, "/v1/messages", "anthropic"],
    ["/anthropic/messages", {}, "/v1/messages", "anthropic"],
    ["/anthropic/v1/v1/messages?beta=true", {}, "/v1/messages?beta=true", "anthropic"],
    ["/v1/messages", {}, "/v1/messages", "anthropic"],
    ["/google/v1beta/" + GEMINI, {}, "/v1beta/" + GEMINI, "gcp.gemini"],
    ["/google/v1/" + GEMINI, {}, "/v1/" + GEMINI, "gcp.gemini"],
    ["/google/v1alpha/" + GEMINI, {}, "/v1alpha/" + GEMINI, "gcp.gemini"],
    ["/gemini/" + GEMINI, {}, "/v1beta/" + GEMINI, "gcp.gemini"],
    ["/genai/v1beta/" + GEMINI, {}, "/v1beta/" + GEMINI, "gcp.gemini"],
    ["/v1beta/" + GEMINI, {}, "/v1beta/" + GEMINI, "gcp.gemini"],
    ["/v1/" + GEMINI, {}, "/v1/" + GEMINI, "gcp.gemini"],
    ["/groq/v1/chat/completions", {}, "/openai/v1/chat/completions", "groq"],
    ["/local-vllm/v1/chat/completions", {}, "/v1/chat/completions", "local-vllm"],
  ])("to %s reaches %s of %s", async (path, headers, upstream, name) => {
    const before = (await running.events()).length;
    const answer = await fetch(running.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer sk-test-base-url-client", ...headers },
      body: JSON.stringify({ model: "m", max_tokens: 5, messages: [] }),
    });
    expect(answer.status).toBe(200);
    expect(provider.journal.at(-1)?.url).toBe(upstream);
    const events = await running.events();
    expect(events.length).toBe(before + 1);
    expect(events.at(-1)?.provider).toBe(name);
  });

  it("to a free path is forwarded and not booked", async () => {
    const before = (await running.events()).length;
    for (const path of ["/openai/v1/models", "/v1/models", "/anthropic/v1/models", "/google/v1beta/models"]) {
      expect(
        (await fetch(running.url + path, { headers: { authorization: "Bearer sk-test-base-url-client" } })).status,
      ).toBe(200);
    }
    const { secret } = await running.createKey();
    expect(
      (
        await fetch(`${running.url}/anthropic/v1/messages/count_tokens`, {
          method: "POST",
          headers: { "content-type": "application/json", "x-api-key": secret },
          body: "{}",
        })
      ).status,
    ).toBe(200);
    expect(provider.journal.at(-1)?.headers["x-api-key"]).toBe("sk-ant-api03-provider-credential");
    expect((await running.events()).length).toBe(before);
  });

  it("to a bare /v1 path belongs to whom its headers say", async () => {
    await fetch(`${running.url}/v1/models`, {
      headers: { "x-api-key": "sk-ant-test-base-url", "anthropic-version": "2023-06-01" },
    });
    expect(provider.journal.at(-1)?.headers["x-api-key"]).toBe("sk-ant-test-base-url");
    await fetch(`${running.url}/v1/models?key=AIzaTestBaseUrl`);
    expect(provider.journal.at(-1)?.headers["x-goog-api-key"]).toBe("AIzaTestBaseUrl");
    expect(provider.journal.at(-1)?.url).toBe("/v1/models");
  });
});
