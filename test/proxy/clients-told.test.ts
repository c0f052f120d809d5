// What a client is told when it is refused: for money, with all that a person needs to go on, and each client in the
// form that it takes as the last word.
import { GoogleGenAI } from "@google/genai";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { Budget } from "../../ledger/budgets.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { startFakeSocketProvider } from "../fake/socket-provider.ts";
import type { FakeSocketProvider } from "../fake/socket-provider.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const CODEX = "codex_cli_rs/0.169.0 (Debian 13.0.0; x86_64)";
const CONTACT = "Anna in #ai-costs ($& $1)";
/** gpt-4o-mini, as OpenAI publishes it: 0.15 and 0.60 USD per million tokens. */
const INPUT_NANO_USD = 150n;
const OUTPUT_NANO_USD = 600n;
/** What `chatAnswer()` states: 100 tokens in, 20 out. */
const ANSWER_NANO_USD = 100n * INPUT_NANO_USD + 20n * OUTPUT_NANO_USD;

const bench = withProxy(json(chatAnswer()), { KEYMETER_DURABILITY: "process" });
let sockets: FakeSocketProvider;
let withContact: RunningProxy;
let before = 0;

beforeAll(async () => {
  sockets = await startFakeSocketProvider();
  withContact = await startProxy(bench.provider.url, {
    KEYMETER_DURABILITY: "process",
    KEYMETER_CONTACT: CONTACT,
    KEYMETER_OPENAI_URL: sockets.url,
  });
});
afterAll(async () => {
  await withContact.stop();
  await sockets.close();
});
beforeEach(() => {
  before = bench.provider.journal.length;
});

type Told = {
  readonly status: number;
  readonly headers: Headers;
  readonly message: string;
  readonly error: { readonly [name: string]: unknown };
};

async function tell(
  path: string,
  secret: string,
  body: object,
  {
    userAgent = "a-client/1.0",
    from = bench.running,
  }: { readonly userAgent?: string; readonly from?: RunningProxy } = {},
): Promise<Told> {
  const answer = await fetch(from.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, "user-agent": userAgent },
    body: JSON.stringify(body),
  });
  const { error = {} } = (await answer.json()) as { error?: { [name: string]: unknown } };
  return { status: answer.status, headers: answer.headers, message: String(error["message"]), error };
}

const CHAT = "/openai/v1/chat/completions";
const chat = (max_tokens: number, more: object = {}): object => ({
  model: "gpt-4o-mini",
  max_tokens,
  messages: [{ role: "user", content: "hello" }],
  ...more,
});
const GENERATE = "/google/v1beta/models/gemini-2.5-flash:generateContent";
const MESSAGE = { model: "claude-haiku-4-5", max_tokens: 9, messages: [{ role: "user", content: "hi" }] };

/** A key of its own, under a budget of its own. */
async function capped(
  budget: Partial<Budget> & { readonly amountNanoUsd: bigint },
  fields: Parameters<RunningProxy["createKey"]>[0] = {},
  from = bench.running,
): Promise<{ id: string; secret: string; budget: Budget }> {
  const { id, secret } = await from.createKey(fields);
  return { id, secret, budget: await from.setBudget({ scope: { keyId: id }, ...budget }) };
}

describe("a refusal for money", () => {
  it("names the key with its id, its team and its user", async () => {
    const { id, secret } = await capped({ amountNanoUsd: 1n }, { name: "ci", team: "search", userName: "anna" });
    const { message } = await tell(CHAT, secret, chat(50));
    expect(message).toContain(`This request is of key ci (${id}, team search, user anna)`);
  });

  it("names the budget with its window, whose it is, and its id", async () => {
    const own = await capped({ id: "budget_of_bot", amountNanoUsd: 1n, window: "day" }, { name: "bot" });
    expect((await tell(CHAT, own.secret, chat(50))).message).toContain(`the day budget of key bot (${own.id}) (`);
    expect((await tell(CHAT, own.secret, chat(50))).message).toContain("; id budget_of_bot)");
    const ofTeam = await capped({ scope: { team: "ads" }, amountNanoUsd: 1n }, { team: "ads" });
    expect((await tell(CHAT, ofTeam.secret, chat(50))).message).toContain("the month budget of team ads (");
  });

  it("says what is left of how much, and what the request may cost", async () => {
    // After the first answer 0.0015 USD are left, of which the second may use 0.0024 and its input: what it may cost is
    // never said too low.
    const { secret } = await capped({ amountNanoUsd: 1_500_000n + ANSWER_NANO_USD });
    expect((await tell(CHAT, secret, chat(50))).status).toBe(200);
    const { message, headers } = await tell(CHAT, secret, chat(4_000));
    expect(message).toContain("($0.0015 left of $0.001527; id ");
    expect(message).toContain("may cost $0.0025.");
    expect(headers.get("x-keymeter-budget-spent-usd")).toBe("0.000027000");
  });

  it.each([
    ["strict", {}, 1n],
    ["expected", {}, 1n],
    ["strict", { n: 3 }, 3n],
    ["expected", { n: 3 }, 3n],
  ] as const)(
    "says with how many output tokens it would fit a budget of mode %s (%o): exactly so many pass, and not one more",
    async (mode, more, answers) => {
      // All limits have as many digits, so that all bodies have as many bytes.
      const { id, secret } = await capped({ amountNanoUsd: 0n, mode });
      const asked = await tell(CHAT, secret, chat(4_000, more));
      const askedNanoUsd = BigInt((asked.headers.get("x-keymeter-budget-asked-usd") ?? "").replace(".", ""));
      const input = askedNanoUsd - 4_000n * answers * OUTPUT_NANO_USD;
      expect(input % INPUT_NANO_USD).toBe(0n);
      expect(input).toBeGreaterThan(0n);
      // One nano-USD too little for another token of each answer.
      const left = input + 2_346n * answers * OUTPUT_NANO_USD - 1n;
      await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: left, mode });
      const told = await tell(CHAT, secret, chat(4_000, more));
      expect(told.message).toContain("It would fit with at most 2345 output tokens.");
      expect(told.headers.get("x-keymeter-fitting-output-tokens")).toBe("2345");
      expect((await tell(CHAT, secret, chat(2_346, more))).status).toBe(402);
      expect(bench.provider.journal.length).toBe(before);
      expect((await tell(CHAT, secret, chat(2_345, more))).status).toBe(200);
    },
  );

  it("says that not even an answer of one token would fit, where that is so", async () => {
    const { secret } = await capped({ amountNanoUsd: 100n });
    const { message, headers } = await tell(CHAT, secret, chat(50));
    expect(message).toContain("Not even an answer of one token would fit.");
    expect(headers.get("x-keymeter-fitting-output-tokens")).toBe("0");
  });

  it("gives no number of tokens where no answer is written", async () => {
    const { secret } = await capped({ amountNanoUsd: 1n });
    const told = await tell("/openai/v1/embeddings", secret, { model: "text-embedding-3-small", input: "hello world" });
    expect(told.status).toBe(402);
    expect(told.message).not.toMatch(/token/);
    expect(told.headers.get("x-keymeter-fitting-output-tokens")).toBeNull();
  });

  it("says when the budget starts anew", async () => {
    const now = new Date();
    const next = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1)).toISOString();
    const { secret } = await capped({ amountNanoUsd: 1n });
    const { message, headers } = await tell(CHAT, secret, chat(50));
    expect(message).toContain(`It starts anew on ${next.slice(0, 10)} 00:00 UTC.`);
    expect(headers.get("x-keymeter-budget-window-end")).toBe(next);
  });

  it("says of a budget for good that it has no end", async () => {
    const { secret } = await capped({ amountNanoUsd: 1n, window: "total" });
    const { message, headers } = await tell(CHAT, secret, chat(50));
    expect(message).toContain("the whole budget of key ");
    expect(message).toContain("The budget has no end.");
    expect(headers.get("x-keymeter-budget-window-end")).toBe("never");
  });

  it("says whom to ask: whoever runs Keymeter, or who the settings say that is", async () => {
    const { secret } = await capped({ amountNanoUsd: 1n });
    expect((await tell(CHAT, secret, chat(50))).message).toMatch(
      / Whoever runs Keymeter can raise the budget\. Ask for more: keymeter ask /,
    );
    const other = await capped({ amountNanoUsd: 1n }, {}, withContact);
    const { message } = await tell(CHAT, other.secret, chat(50), { from: withContact });
    expect(message).toContain(` ${CONTACT} can raise the budget.`);
    expect(message).not.toMatch(/whoever runs/i);
  });

  it("says the same to every dialect", async () => {
    const { secret } = await capped({ amountNanoUsd: 1n }, { name: "all-dialects", userName: "olga" });
    const asked: readonly (readonly [path: string, body: object])[] = [
      [CHAT, chat(50)],
      ["/openai/v1/responses", { model: "gpt-4o-mini", max_output_tokens: 50, input: "hi" }],
      ["/anthropic/v1/messages", MESSAGE],
      [GENERATE, { contents: [{ parts: [{ text: "hi" }] }], generationConfig: { maxOutputTokens: 9 } }],
    ];
    for (const [path, body] of asked) {
      const { status, message } = await tell(path, secret, body);
      expect(status, path).toBe(402);
      expect(message, path).toMatch(
        /^Keymeter: the request does not fit the month budget of key all-dialects .* user olga\) and may cost \$\S+\. Not even .* UTC\. Whoever runs Keymeter can raise the budget\. Ask for more: keymeter ask .*$/,
      );
    }
    expect(bench.provider.journal.length).toBe(before);
  });
});

describe("a model without a price under a hard budget", () => {
  it("is named, with a code of its own in each dialect", async () => {
    const { secret } = await capped({ amountNanoUsd: 10n ** 12n });
    const ofOpenAi = await tell(CHAT, secret, chat(5, { model: "unheard-of-model" }));
    expect(ofOpenAi.status).toBe(402);
    expect(ofOpenAi.message).toContain('the model "unheard-of-model" has no price here');
    expect(ofOpenAi.error).toMatchObject({ code: "model_not_priced", type: "invalid_request_error" });
    const ofGoogle = await tell("/google/v1beta/models/unheard-of:generateContent", secret, { contents: [] });
    expect(ofGoogle.status).toBe(402);
    expect(ofGoogle.error).toMatchObject({
      status: "FAILED_PRECONDITION",
      details: [{ reason: "MODEL_NOT_PRICED", domain: "keymeter" }],
    });
    const ofAnthropic = await tell("/anthropic/v1/messages", secret, { ...MESSAGE, model: "unheard-of-claude" });
    expect(ofAnthropic.error).toMatchObject({ type: "invalid_request_error" });
    expect(bench.provider.journal.length).toBe(before);
  });

  it("is not told that money ran out, but how it may be used", async () => {
    const { id, secret } = await capped({ amountNanoUsd: 10n ** 12n });
    const { message } = await tell(CHAT, secret, chat(5, { model: "unheard-of-model" }));
    expect(message).toContain("The budget is not used up.");
    expect(message).not.toMatch(/does not fit|starts anew/);
    expect(message).toContain("(proxy.prices)");
    expect(message).toContain(`(keymeter keys set ${id} --unpriced 3/15: USD per million tokens in and out)`);
  });

  it("passes once its key has what the refusal names as the way out", async () => {
    const { id, secret } = await capped({ amountNanoUsd: 10n ** 12n });
    bench.provider.script = json(chatAnswer(1_000, 100, "unheard-of-model"));
    const unpriced = { inputUsdPerMillion: "3", outputUsdPerMillion: "15" };
    expect(await bench.running.change({ type: "setPolicy", keyId: id, policy: { unpriced } })).toBe(200);
    expect((await tell(CHAT, secret, chat(5, { model: "unheard-of-model" }))).status).toBe(200);
    expect((await bench.running.events()).at(-1)).toMatchObject({ costNanoUsd: String(1_000 * 3_000 + 100 * 15_000) });
    bench.provider.script = json(chatAnswer());
  });
});

describe("Codex", () => {
  const RESPONSES = "/openai/v1/responses";
  const asked = { model: "gpt-5.2", input: "hi" };

  it("is told of a used-up budget in the one form that it neither tries again nor hides", async () => {
    const { secret, budget } = await capped({ amountNanoUsd: 1n }, { name: "codex" });
    const { status, error, headers, message } = await tell(RESPONSES, secret, asked, { userAgent: CODEX });
    expect(status).toBe(429);
    expect(error).toMatchObject({ type: "usage_limit_reached" });
    const end = Date.parse(headers.get("x-keymeter-budget-window-end") ?? "");
    expect(error["resets_at"]).toBe(end / 1_000);
    const promo = headers.get("x-codex-promo-message") ?? "";
    expect(promo).toContain(`id ${budget.id})`);
    // It writes a comma behind.
    expect(`${promo}.`).toBe(message);
    expect(bench.provider.journal.length).toBe(before);
  });

  it("is told in ASCII alone, whatever the team is called", async () => {
    const { secret } = await capped({ amountNanoUsd: 1n }, { name: "ключ", team: "поиск", userName: "Zoë" });
    const { status, headers, message } = await tell(RESPONSES, secret, asked, { userAgent: CODEX });
    expect(status).toBe(429);
    expect(message).toContain("team поиск, user Zoë");
    const promo = headers.get("x-codex-promo-message") ?? "";
    expect(promo).toMatch(/^[\x20-\x7e]{100,}$/);
    expect(promo).toContain("team ?????, user Zo?");
  });

  it("is told of a paused key in that form, and every other client as 403", async () => {
    const { id, secret } = await bench.running.createKey({ name: "paused-one" });
    await bench.running.change({ type: "setKeyState", keyId: id, state: "paused" });
    const told = await tell(RESPONSES, secret, asked, { userAgent: CODEX });
    expect(told.status).toBe(429);
    expect(told.error).toMatchObject({ type: "usage_limit_reached" });
    expect(told.error).not.toHaveProperty("resets_at");
    expect(told.headers.get("x-codex-promo-message")).toContain(`key paused-one (${id}) is paused`);
    const others = await tell(RESPONSES, secret, asked);
    expect(others.status).toBe(403);
    expect(others.error).toMatchObject({ code: "permission_denied" });
    expect(others.headers.get("x-codex-promo-message")).toBeNull();
  });

  it("is told of a frozen scope in that form, and every other client as 403", async () => {
    const { id, secret } = await bench.running.createKey();
    const freeze = { id: "freeze_leak", scope: { keyId: id }, reason: "a leak", createdAtMs: Date.now() };
    expect(await bench.running.change({ type: "freeze", freeze })).toBe(200);
    const told = await tell(RESPONSES, secret, asked, { userAgent: CODEX });
    expect(told.status).toBe(429);
    expect(told.headers.get("x-codex-promo-message")).toContain("is frozen (freeze_leak): a leak");
    expect((await tell(RESPONSES, secret, asked)).status).toBe(403);
    expect(bench.provider.journal.length).toBe(before);
  });

  it("alone is told so: another client hears 402, also one that has Codex in its name", async () => {
    const { secret } = await capped({ amountNanoUsd: 1n });
    for (const userAgent of ["OpenAI/JS 7.57.0", "my-codex_cli_rs/1.0", "python-httpx/0.28"]) {
      const told = await tell(RESPONSES, secret, asked, { userAgent });
      expect(told.status, userAgent).toBe(402);
      expect(told.error, userAgent).toMatchObject({ type: "insufficient_quota", code: "insufficient_quota" });
      expect(told.headers.get("x-codex-promo-message"), userAgent).toBeNull();
    }
  });

  it("hears an unknown key as 401, as everybody", async () => {
    const told = await tell(RESPONSES, "km_x_y_z", asked, { userAgent: CODEX });
    expect(told.status).toBe(401);
    expect(told.error).toMatchObject({ code: "invalid_api_key" });
  });

  /** What a WebSocket hears of one response.create, and how it is closed. */
  async function converse(secret: string, userAgent: string): Promise<{ heard: object[]; code: number }> {
    const socket = new WebSocket(withContact.url.replace("http", "ws") + RESPONSES, {
      headers: { authorization: `Bearer ${secret}`, "user-agent": userAgent },
    });
    const heard: object[] = [];
    socket.on("open", () => socket.send(JSON.stringify({ type: "response.create", ...asked })));
    socket.on("message", (data: Buffer) => heard.push(JSON.parse(data.toString("utf8")) as object));
    const code = await new Promise<number>((resolve, reject) => {
      socket.on("close", resolve);
      socket.on("error", reject);
    });
    return { heard, code };
  }

  it("on its WebSocket hears one message with status, error and headers in it", async () => {
    const { secret, budget } = await capped({ amountNanoUsd: 1n }, {}, withContact);
    const { heard, code } = await converse(secret, CODEX);
    expect(heard).toHaveLength(1);
    expect(heard[0]).toMatchObject({
      type: "error",
      status: 429,
      error: { type: "usage_limit_reached", resets_at: expect.any(Number) as number },
      headers: { "x-codex-promo-message": expect.stringContaining(`id ${budget.id})`) as string },
    });
    expect(JSON.stringify(heard[0])).toContain(CONTACT);
    expect(code).toBe(1008);
    expect(sockets.messages).toEqual([]);
  });

  it("alone hears that there: another client gets the usual error", async () => {
    const { secret } = await capped({ amountNanoUsd: 1n }, {}, withContact);
    const { heard } = await converse(secret, "OpenAI/JS 7.57.0");
    expect(heard).toMatchObject([
      { type: "error", status: 402, error: { type: "insufficient_quota", code: "insufficient_quota" } },
    ]);
    expect(heard[0]).not.toHaveProperty("headers");
    expect(sockets.messages).toEqual([]);
  });

  it("hears in the handshake that its key is paused", async () => {
    const { id, secret } = await withContact.createKey();
    await withContact.change({ type: "setKeyState", keyId: id, state: "paused" });
    const socket = new WebSocket(withContact.url.replace("http", "ws") + RESPONSES, {
      headers: { authorization: `Bearer ${secret}`, "user-agent": CODEX },
    });
    const answer = await new Promise<{ statusCode?: number | undefined; headers: { [name: string]: unknown } }>(
      (resolve, reject) => {
        socket.on("unexpected-response", (request, response) => {
          resolve(response);
          request.destroy();
        });
        socket.on("open", () => reject(new Error("it opened")));
        socket.on("error", () => {});
      },
    );
    expect(answer.statusCode).toBe(429);
    expect(answer.headers["x-codex-promo-message"]).toContain("is paused");
  });
});

describe("Gemini", () => {
  const ASKED = { contents: [{ parts: [{ text: "hi" }] }], generationConfig: { maxOutputTokens: 9 } };

  it("is told of money as a precondition, never as an exhausted resource, whatever the reason", async () => {
    const used = await capped({ amountNanoUsd: 1n });
    const exceeded = await tell(GENERATE, used.secret, ASKED);
    expect(exceeded.error).toMatchObject({
      code: 402,
      status: "FAILED_PRECONDITION",
      details: [{ reason: "BUDGET_EXCEEDED" }],
    });
    const strict = await capped({ amountNanoUsd: 10n ** 12n, mode: "strict" });
    const unbounded = await tell(GENERATE, strict.secret, { ...ASKED, tools: [{ googleSearch: {} }] });
    expect(unbounded.message).toContain("cannot be proven");
    expect(unbounded.error).toMatchObject({ code: 402, status: "FAILED_PRECONDITION" });
    expect(JSON.stringify([exceeded.error, unbounded.error])).not.toContain("RESOURCE_EXHAUSTED");
    expect(bench.provider.journal.length).toBe(before);
  });

  it("is told so too in a stream that is cut when the budget has no more", async () => {
    // 4,096 tokens of 2.50 USD a million fit, and the answer is far longer.
    const { secret } = await capped({ amountNanoUsd: 11_000_000n });
    bench.provider.script = async (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const part = JSON.stringify({ candidates: [{ content: { parts: [{ text: "word ".repeat(800) }] } }] });
      for (let i = 0; i < 40 && !response.destroyed; i++) {
        response.write(`data: ${part}\r\n\r\n`);
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      response.end();
    };
    const answer = await fetch(
      `${bench.running.url}/google/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse&key=${secret}`,
      {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          contents: ASKED.contents,
          generationConfig: { thinkingConfig: { thinkingBudget: 0 } },
        }),
      },
    );
    const text = await answer.text();
    bench.provider.script = json(chatAnswer());
    expect(answer.status).toBe(200);
    const last = JSON.parse(text.trim().split("data: ").at(-1) ?? "") as { error: object };
    expect(last.error).toMatchObject({ code: 402, status: "FAILED_PRECONDITION" });
    expect(text).not.toContain("RESOURCE_EXHAUSTED");
  });

  it("a rate limit keeps its own name", async () => {
    const { id, secret } = await bench.running.createKey();
    const limits = {
      scope: `key:${id}`,
      requestsPerMinute: 1,
      tokensPerMinute: undefined,
      concurrent: undefined,
      bodyBytes: undefined,
    };
    expect(await bench.running.change({ type: "setLimits", limits })).toBe(200);
    await tell(GENERATE, secret, ASKED);
    expect((await tell(GENERATE, secret, ASKED)).error).toMatchObject({ code: 429, status: "RESOURCE_EXHAUSTED" });
  });

  it("asked through its SDK sends one request, and throws what it was told", async () => {
    const { secret, budget } = await capped({ amountNanoUsd: 1n });
    let requests = 0;
    const count = (): void => void (requests += 1);
    bench.running.proxy.app.server.on("request", count);
    const client = new GoogleGenAI({ apiKey: secret, httpOptions: { baseUrl: `${bench.running.url}/google` } });
    const thrown: unknown = await client.models
      .generateContent({ model: "gemini-2.5-flash", contents: "hi" })
      .catch((error: unknown) => error);
    bench.running.proxy.app.server.off("request", count);
    expect(thrown).toMatchObject({ status: 402 });
    expect((thrown as Error).message).toContain(`id ${budget.id})`);
    expect(requests).toBe(1);
    expect(bench.provider.journal.length).toBe(before);
  });
});
