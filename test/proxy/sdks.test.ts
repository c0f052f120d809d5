// The official SDKs, unchanged but for their base URL, against a running proxy and a provider on loopback.
import Anthropic from "@anthropic-ai/sdk";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { GoogleGenAI } from "@google/genai";
import { generateText, streamText } from "ai";
import OpenAI from "openai";
import { describe, expect, it } from "vitest";
import { createDemoProvider } from "../../command/demo/provider.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { withProxyBefore } from "../with-proxy.ts";

const bench = withProxyBefore(
  async () => {
    const provider = createDemoProvider();
    return Object.assign(provider, { url: `http://127.0.0.1:${await provider.listen()}` });
  },
  {},
  { key: { name: "sdk" } },
);

/** Runs a client call, and returns the one event that the books gained by it. */
async function booked(call: () => Promise<unknown>): Promise<Awaited<ReturnType<RunningProxy["events"]>>[number]> {
  const before = (await bench.running.events()).length;
  await call();
  const events = await bench.running.events();
  expect(events.length).toBe(before + 1);
  const event = events.at(-1);
  const entry = bench.provider.journal.at(-1);
  if (!event || !entry) throw new Error("no event");
  expect(event.outcome).toBe("complete");
  expect(event.usageState).toBe("reported");
  expect(event.costNanoUsd).toBe(entry.costNanoUsd.toString());
  return event;
}

const KEYS = [
  {
    kind: "pass-through",
    openai: () => "sk-proj-client-own-key-1234567890",
    anthropic: () => "sk-ant-api03-client-own-key",
    google: () => "AIzaClientOwnKey1234567890",
    sees: {
      openai: "sk-proj-client-own-key-1234567890",
      anthropic: "sk-ant-api03-client-own-key",
      google: "AIzaClientOwnKey1234567890",
    },
  },
  {
    kind: "virtual",
    openai: () => bench.secret,
    anthropic: () => bench.secret,
    google: () => bench.secret,
    sees: {
      openai: "sk-proj-provider-credential-openai",
      anthropic: "sk-ant-api03-provider-credential",
      google: "AIzaProviderCredentialGoogle",
    },
  },
];

describe.each(KEYS)("with a $kind key", (keys) => {
  const lastCredential = (): string | undefined => bench.provider.journal.at(-1)?.credential;

  describe.each(["/openai/v1", "/v1", "/openai"])("openai at %s", (base) => {
    const client = (): OpenAI => new OpenAI({ baseURL: bench.running.url + base, apiKey: keys.openai() });

    it("chat completions, JSON", async () => {
      const event = await booked(async () => {
        const answer = await client().chat.completions.create({
          model: "gpt-4o-mini",
          messages: [{ role: "user", content: "hi" }],
          max_tokens: 30,
        });
        expect(answer.choices[0]?.message.content).toContain("spend");
      });
      expect(event.endpoint).toBe("chat_completions");
      expect(lastCredential()).toBe(keys.sees.openai);
    });

    it("chat completions, stream, without asking for usage: gets none, and is metered", async () => {
      await booked(async () => {
        const stream = await client().chat.completions.create({
          model: "gpt-4o-mini",
          messages: [{ role: "user", content: "hi" }],
          max_tokens: 30,
          stream: true,
        });
        let text = "";
        for await (const chunk of stream) {
          expect(chunk.choices.length).toBe(1);
          text += chunk.choices[0]?.delta.content ?? "";
        }
        expect(text).toContain("spend is a number");
      });
    });

    it("chat completions, stream, asking for usage: gets it", async () => {
      await booked(async () => {
        const stream = await client().chat.completions.create({
          model: "gpt-4o-mini",
          messages: [{ role: "user", content: "hi" }],
          max_tokens: 30,
          stream: true,
          stream_options: { include_usage: true },
        });
        let usage: number | undefined;
        for await (const chunk of stream) usage = chunk.usage?.completion_tokens ?? usage;
        expect(usage).toBe(bench.provider.journal.at(-1)?.output);
      });
    });

    it("responses, JSON and stream", async () => {
      const event = await booked(async () => {
        const answer = await client().responses.create({ model: "gpt-5.2", input: "hi", max_output_tokens: 50 });
        expect(answer.output_text).toContain("spend");
      });
      expect(event.endpoint).toBe("responses");
      await booked(async () => {
        const stream = await client().responses.create({
          model: "gpt-5.2",
          input: "hi",
          max_output_tokens: 50,
          stream: true,
        });
        let last = "";
        for await (const one of stream) last = one.type;
        expect(last).toBe("response.completed");
      });
    });

    it("embeddings", async () => {
      const event = await booked(async () => {
        const answer = await client().embeddings.create({
          model: "text-embedding-3-small",
          input: "hello",
          encoding_format: "float",
        });
        expect(answer.data[0]?.embedding.length).toBe(8);
      });
      expect(event.usage).toEqual({ input: bench.provider.journal.at(-1)?.input });
    });
  });

  describe.each(["/anthropic", ""])("anthropic at %s/", (base) => {
    const client = (): Anthropic => new Anthropic({ baseURL: bench.running.url + base, apiKey: keys.anthropic() });
    const question = {
      model: "claude-haiku-4-5",
      max_tokens: 64,
      messages: [{ role: "user" as const, content: "hi" }],
    };

    it("messages, JSON and stream", async () => {
      await booked(async () => {
        const answer = await client().messages.create(question);
        expect(answer.content[0]?.type).toBe("text");
      });
      expect(lastCredential()).toBe(keys.sees.anthropic);
      await booked(async () => {
        const answer = await client().messages.stream(question).finalMessage();
        expect(answer.usage.output_tokens).toBe(bench.provider.journal.at(-1)?.output);
      });
    });
  });

  describe.each(["/google", "/gemini", "/genai", ""])("google at %s/", (base) => {
    const client = (): GoogleGenAI =>
      new GoogleGenAI({ apiKey: keys.google(), httpOptions: { baseUrl: bench.running.url + base } });
    const question = { model: "gemini-2.5-flash", contents: "hi", config: { maxOutputTokens: 40 } };

    it("generateContent and its stream", async () => {
      await booked(async () => {
        const answer = await client().models.generateContent(question);
        expect(answer.text).toContain("spend");
      });
      expect(lastCredential()).toBe(keys.sees.google);
      await booked(async () => {
        let text = "";
        for await (const chunk of await client().models.generateContentStream(question)) text += chunk.text ?? "";
        expect(text).toContain("spend");
      });
    });
  });

  describe("the AI SDK", () => {
    const models = (): { name: string; model: Parameters<typeof generateText>[0]["model"] }[] => [
      {
        name: "openai",
        model: createOpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: keys.openai() })("gpt-5.2"),
      },
      {
        name: "openai chat",
        model: createOpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: keys.openai() }).chat("gpt-4o-mini"),
      },
      {
        name: "anthropic",
        model: createAnthropic({ baseURL: `${bench.running.url}/anthropic/v1`, apiKey: keys.anthropic() })(
          "claude-haiku-4-5",
        ),
      },
      {
        name: "google",
        model: createGoogleGenerativeAI({ baseURL: `${bench.running.url}/google/v1beta`, apiKey: keys.google() })(
          "gemini-2.5-flash",
        ),
      },
    ];

    it("generateText and streamText with each provider", async () => {
      for (const { model } of models()) {
        await booked(async () => {
          const answer = await generateText({ model, prompt: "hi", maxOutputTokens: 64 });
          expect(answer.text).toContain("spend");
        });
        await booked(async () => {
          let text = "";
          for await (const part of streamText({ model, prompt: "hi", maxOutputTokens: 64 }).textStream) text += part;
          expect(text).toContain("spend");
        });
      }
    });
  });
});
