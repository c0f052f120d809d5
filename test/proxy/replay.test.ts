// An oracle outside our code: many mixed requests against a provider that bills for itself. The ledger's sum is its
// bill, to the nano-dollar, and every stored cost recomputes from its lines.
import { Agent, request as httpRequest } from "node:http";
import { expect, it } from "vitest";
import { createDemoProvider } from "../../command/demo/provider.ts";
import { multiply } from "../../ledger/money.ts";
import { openUsage } from "../../ledger/open.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { walkEvents } from "../../ledger/usage/events.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { countOf, random, SEED } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";

const REQUESTS = countOf(2_000, 30_000, 100_000);
const AT_ONCE = 48;

it(`${REQUESTS} mixed requests: the ledger's sum is the provider's own`, async () => {
  console.log(`seed ${SEED}`);
  const next = random(SEED);
  const provider = createDemoProvider();
  const running = await startProxy(`http://127.0.0.1:${await provider.listen()}`, { KEYMETER_DURABILITY: "process" });
  const secrets = await Promise.all(Array.from({ length: 5 }, async () => (await running.createKey()).secret));
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  let left = REQUESTS;
  const client = async (): Promise<void> => {
    while (left-- > 0) {
      const { path, headers, body } = makeRequest(next, secrets);
      expect(await post(agent, running.url + path, headers, body)).toBe(200);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, client));
  agent.destroy();
  expect(provider.journal.length).toBe(REQUESTS);
  expect(await running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  await running.stop();

  const books = await openUsage(running.place);
  if (!books) throw new Error("no books");
  const [all] = await readSpend(books, [], "0000-01-01", "9999-12-31");
  expect([all?.requests, all?.costNanoUsd]).toEqual([REQUESTS, provider.totalNanoUsd()]);
  expect([all?.estimated, all?.unknown, all?.unpriced, all?.inferred]).toEqual([0, 0, 0, 0]);
  expect(await readFoldDifferences(books)).toEqual([]);
  const wrong: string[] = [];
  for await (const event of walkEvents(books)) {
    const lines = event.costLines.reduce((sum, line) => sum + multiply(line.quantity, BigInt(line.pricePicoUsd)), 0n);
    if (lines.toString() !== event.costNanoUsd) wrong.push(event.attemptId);
  }
  expect(wrong).toEqual([]);
  await books.close();
  await provider.close();
});

type Request = { readonly path: string; readonly headers: { readonly [name: string]: string }; readonly body: object };

/** One of the paths, dialects and shapes that the demo provider bills. */
function makeRequest(next: () => number, secrets: readonly string[]): Request {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T;
  const text = "word ".repeat(1 + Math.floor(next() ** 4 * 3_000));
  const stream = next() < 0.3;
  const most = 1 + Math.floor(next() * 2_000);
  const secret = pick(secrets);
  const bearer = { authorization: `Bearer ${secret}` };
  const messages = [{ role: "user", content: text }];
  return pick<() => Request>([
    () => ({
      path: "/openai/v1/chat/completions",
      headers: bearer,
      body: {
        model: pick(["gpt-4o-mini", "gpt-5.2"]),
        messages,
        max_completion_tokens: most,
        stream,
        ...(stream && next() < 0.5 ? { stream_options: { include_usage: true } } : {}),
      },
    }),
    () => ({
      path: "/openai/v1/responses",
      headers: bearer,
      body: { model: pick(["gpt-4o-mini", "gpt-5.2"]), input: text, max_output_tokens: most, stream },
    }),
    () => ({
      path: "/openai/v1/embeddings",
      headers: bearer,
      body: { model: "text-embedding-3-small", input: text },
    }),
    () => ({
      path: "/anthropic/v1/messages",
      headers: { "x-api-key": secret, "anthropic-version": "2023-06-01" },
      body: {
        model: pick(["claude-haiku-4-5", "claude-opus-4-6"]),
        max_tokens: most,
        stream,
        messages,
        ...(next() < 0.3 ? { system: [{ type: "text", text: "be brief", cache_control: { type: "ephemeral" } }] } : {}),
      },
    }),
    () => ({
      path: `/google/v1beta/models/gemini-2.5-flash:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
      headers: { "x-goog-api-key": secret },
      body: { contents: [{ role: "user", parts: [{ text }] }], generationConfig: { maxOutputTokens: most } },
    }),
  ])();
}

/** Reads the answer to its end; gives its status. */
function post(agent: Agent, url: string, headers: { readonly [name: string]: string }, body: object): Promise<number> {
  return new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const request = httpRequest(
      url,
      {
        agent,
        method: "POST",
        headers: { "content-type": "application/json", "content-length": Buffer.byteLength(text), ...headers },
      },
      (response) => {
        response.resume();
        response.on("end", () => resolve(response.statusCode ?? 0));
        response.on("error", reject);
      },
    );
    request.on("error", reject);
    request.end(text);
  });
}
