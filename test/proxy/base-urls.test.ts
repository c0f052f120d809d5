// Every form of base URL that SDKs are configured with: prefix or none, a version missing, there, or doubled.
import { describe, expect, it } from "vitest";
import { chatAnswer, json } from "../fake/provider.ts";
import { writeSettings } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(json(chatAnswer()), (url) => ({
  KEYMETER_CONFIG: writeSettings(
    `proxy: { upstreams: { groq: { url: "${url}/openai", price_list: groq }, local-vllm: { url: "${url}" } } }\n`,
  ),
}));

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
    const before = (await bench.running.events()).length;
    const answer = await fetch(bench.running.url + path, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: "Bearer sk-test-base-url-client", ...headers },
      body: JSON.stringify({ model: "m", max_tokens: 5, messages: [] }),
    });
    expect(answer.status).toBe(200);
    expect(bench.provider.journal.at(-1)?.url).toBe(upstream);
    const events = await bench.running.events();
    expect(events.length).toBe(before + 1);
    expect(events.at(-1)?.provider).toBe(name);
  });

  it("to a free path is forwarded and not booked", async () => {
    const before = (await bench.running.events()).length;
    for (const path of ["/openai/v1/models", "/v1/models", "/anthropic/v1/models", "/google/v1beta/models"]) {
      expect(
        (await fetch(bench.running.url + path, { headers: { authorization: "Bearer sk-test-base-url-client" } }))
          .status,
      ).toBe(200);
    }
    const { secret } = await bench.running.createKey();
    expect(
      (
        await fetch(`${bench.running.url}/anthropic/v1/messages/count_tokens`, {
          method: "POST",
          headers: { "content-type": "application/json", "x-api-key": secret },
          body: "{}",
        })
      ).status,
    ).toBe(200);
    expect(bench.provider.journal.at(-1)?.headers["x-api-key"]).toBe("sk-ant-api03-provider-credential");
    expect((await bench.running.events()).length).toBe(before);
  });

  it("to a bare /v1 path belongs to whom its headers say", async () => {
    await fetch(`${bench.running.url}/v1/models`, {
      headers: { "x-api-key": "sk-ant-test-base-url", "anthropic-version": "2023-06-01" },
    });
    expect(bench.provider.journal.at(-1)?.headers["x-api-key"]).toBe("sk-ant-test-base-url");
    await fetch(`${bench.running.url}/v1/models?key=AIzaTestBaseUrl`);
    expect(bench.provider.journal.at(-1)?.headers["x-goog-api-key"]).toBe("AIzaTestBaseUrl");
    expect(bench.provider.journal.at(-1)?.url).toBe("/v1/models");
  });
});
