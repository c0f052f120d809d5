// What a key may do beside spending: models, providers, endpoints, addresses; limits of requests and tokens; freezes;
// budgets on trial.
import OpenAI from "openai";
import { beforeEach, describe, expect, it } from "vitest";
import { createLimiter } from "../../proxy/limits.ts";
import type { Principal } from "../../proxy/principal.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { random, SEED } from "../seed.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(json(chatAnswer(100, 20)), { KEYMETER_DURABILITY: "process" }, { each: true });

const CHAT = "/openai/v1/chat/completions";
function ask(
  secret: string,
  body: object = {},
  path = CHAT,
  headers: { [name: string]: string } = {},
): Promise<Response> {
  return fetch(bench.running.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 50, messages: [], ...body }),
  });
}
const statusOf = async (...asked: Parameters<typeof ask>): Promise<number> => (await ask(...asked)).status;

describe("a key", () => {
  it("uses the models, providers and endpoints that it may, and no others; the refusal says which it may", async () => {
    const policy = { models: ["gpt-4o*", "o3"], providers: ["openai"], endpoints: ["chat_completions"] };
    const { secret } = await bench.running.createKey({ policy });
    expect(await statusOf(secret)).toBe(200);
    expect(await statusOf(secret, { model: "o3" })).toBe(200);
    const refused = await ask(secret, { model: "o3-pro" });
    expect(refused.status).toBe(403);
    expect(await refused.text()).toContain("it may use gpt-4o*, o3");
    expect(await statusOf(secret, { input: "x" }, "/openai/v1/embeddings")).toBe(403);
    expect(await statusOf(secret, {}, "/anthropic/v1/messages")).toBe(403);
    const list = await fetch(`${bench.running.url}/anthropic/v1/models`, {
      headers: { authorization: `Bearer ${secret}` },
    });
    expect(list.status).toBe(403);
    expect(bench.provider.journal.length).toBe(2);
  });

  it("may not ask for what cannot be seen: a stored prompt names no model", async () => {
    const { secret } = await bench.running.createKey({ policy: { models: ["gpt-4o*"] } });
    expect(await statusOf(secret, { model: undefined, prompt: { id: "pmpt_1" } }, "/openai/v1/responses")).toBe(403);
    expect(bench.provider.journal).toEqual([]);
  });

  it("is good from its addresses only; X-Forwarded-For counts behind trusted proxies alone", async () => {
    const { secret } = await bench.running.createKey({ policy: { addresses: ["10.1.0.0/16"] } });
    const from = (address: string): Promise<number> => statusOf(secret, {}, CHAT, { "x-forwarded-for": address });
    expect([await statusOf(secret), await from("10.1.2.3")]).toEqual([403, 403]);
    const dataDir = bench.running.dataDir;
    await bench.running.stop();
    await bench.startAgain({
      KEYMETER_DATA_DIR: dataDir,
      KEYMETER_TRUSTED_PROXIES: "127.0.0.0/8, 192.168.7.7",
    });
    expect(await from("10.1.2.3")).toBe(200);
    expect(await from("10.1.2.3, 192.168.7.7")).toBe(200);
    // What the client wrote in front of its own address is not believed.
    expect([await from("10.1.2.3, 8.8.8.8"), await from("8.8.8.8"), await from("nonsense")]).toEqual([403, 403, 403]);
  });

  it("carries its own tags, whatever the request says", async () => {
    const { secret } = await bench.running.createKey({ policy: { tags: { feature: "search" } } });
    await ask(secret, {}, CHAT, { "x-keymeter-feature": "other", "x-keymeter-user": "u1" });
    expect((await bench.running.events())[0]?.tags).toEqual({ feature: "search" });
  });

  it("is told what is wrong with its policy, and changes it from the next request on", async () => {
    const { id, secret } = await bench.running.createKey();
    expect(await bench.running.change({ type: "setPolicy", keyId: id, policy: { addresses: ["10.0.0.0/99"] } })).toBe(
      400,
    );
    expect(await bench.running.change({ type: "setPolicy", keyId: "key_unheard", policy: {} })).toBe(409);
    expect(await bench.running.change({ type: "setPolicy", keyId: id, policy: { models: ["o3"] } })).toBe(200);
    expect(await statusOf(secret)).toBe(403);
    expect(await bench.running.change({ type: "setPolicy", keyId: id, policy: {} })).toBe(200);
    expect(await statusOf(secret)).toBe(200);
  });
});

describe("a model without a price", () => {
  const unpriced = { model: "mystery-1" };
  beforeEach(() => void (bench.provider.script = json(chatAnswer(100, 20, "mystery-1"))));

  it("is refused under a hard budget; with a key that refuses it, always; with one that allows it, never", async () => {
    const [usual, strict, lax] = [
      await bench.running.createKey(),
      await bench.running.createKey({ policy: { unpriced: "refuse" } }),
      await bench.running.createKey({ policy: { unpriced: "allow" } }),
    ];
    expect([await statusOf(usual.secret, unpriced), await statusOf(strict.secret, unpriced)]).toEqual([200, 402]);
    await bench.running.setBudget({ amountNanoUsd: 1_000_000_000n });
    expect([await statusOf(usual.secret, unpriced), await statusOf(lax.secret, unpriced)]).toEqual([402, 200]);
  });

  it("is held and booked at the key's own ceiling, as inferred", async () => {
    const ceiling = { inputUsdPerMillion: "5", outputUsdPerMillion: "25" };
    const { id, secret } = await bench.running.createKey({ policy: { unpriced: ceiling } });
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 2_000_000n });
    expect(await statusOf(secret, unpriced)).toBe(200);
    const [event] = await bench.running.events();
    expect([event?.costNanoUsd, event?.priceConfidence]).toEqual([String(100 * 5_000 + 20 * 25_000), "inferred"]);
    // 1,000,000 nano-USD are spent, and 50 tokens out may cost 1,250,000 more.
    expect(await statusOf(secret, unpriced)).toBe(402);
  });
});

describe("limits", () => {
  it("of requests a minute refuse with the time to wait, and say what is left", async () => {
    const { id, secret } = await bench.running.createKey();
    const limits = {
      scope: `key:${id}`,
      requestsPerMinute: 2,
      tokensPerMinute: undefined,
      concurrent: undefined,
      bodyBytes: undefined,
    };
    expect(await bench.running.change({ type: "setLimits", limits })).toBe(200);
    const answers = [await ask(secret), await ask(secret), await ask(secret)];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 429]);
    expect(answers.map(({ headers }) => headers.get("x-ratelimit-remaining-requests"))).toEqual(["1", "0", "0"]);
    const wait = Number(answers[2]?.headers.get("retry-after"));
    expect(wait).toBeGreaterThanOrEqual(58);
    expect(wait).toBeLessThanOrEqual(61);
    expect(await answers[2]?.json()).toMatchObject({ error: { code: "rate_limit_exceeded" } });
    expect(bench.provider.journal.length).toBe(2);
    expect(await bench.running.change({ type: "removeLimits", scope: `key:${id}` })).toBe(200);
    expect(await statusOf(secret)).toBe(200);
  });

  it("of a team count its keys together; the provider's own rate headers are then not shown", async () => {
    bench.provider.script = (_arrived, response) =>
      void response
        .writeHead(200, {
          "content-type": "application/json",
          "x-ratelimit-remaining-requests": "9999",
          "x-other": "1",
        })
        .end(JSON.stringify(chatAnswer()));
    const [a, b, c] = [
      await bench.running.createKey(),
      await bench.running.createKey(),
      await bench.running.createKey({ team: "ads" }),
    ];
    const limits = {
      scope: "team:search",
      requestsPerMinute: 2,
      tokensPerMinute: undefined,
      concurrent: undefined,
      bodyBytes: undefined,
    };
    await bench.running.change({ type: "setLimits", limits });
    const first = await ask(a.secret);
    expect([first.headers.get("x-ratelimit-remaining-requests"), first.headers.get("x-other")]).toEqual(["1", "1"]);
    expect([await statusOf(b.secret), await statusOf(b.secret), await statusOf(c.secret)]).toEqual([200, 429, 200]);
    expect((await ask(c.secret)).headers.get("x-ratelimit-remaining-requests")).toBe("9999");
  });

  it("of requests at once give places back when answers end, however they end", async () => {
    const { id, secret } = await bench.running.createKey();
    const limits = {
      scope: `key:${id}`,
      concurrent: 2,
      requestsPerMinute: undefined,
      tokensPerMinute: undefined,
      bodyBytes: undefined,
    };
    await bench.running.change({ type: "setLimits", limits });
    bench.provider.script = (_arrived, response) => void setTimeout(() => response.destroy(), 200);
    const broken = await Promise.all([statusOf(secret), statusOf(secret), statusOf(secret)]);
    expect(broken.toSorted()).toEqual([429, 502, 502]);
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 0n });
    expect([await statusOf(secret), await statusOf(secret), await statusOf(secret)]).toEqual([402, 402, 402]);
  });

  it("of a body's size, and of tokens a minute by what was used", async () => {
    const { id, secret } = await bench.running.createKey();
    const limits = {
      scope: `key:${id}`,
      tokensPerMinute: 500,
      bodyBytes: 2_000,
      requestsPerMinute: undefined,
      concurrent: undefined,
    };
    await bench.running.change({ type: "setLimits", limits });
    expect(await statusOf(secret, { user: "x".repeat(3_000) })).toBe(413);
    // 120 tokens each, by the provider's word.
    const statuses = [];
    for (let i = 0; i < 6; i++) statuses.push(await statusOf(secret));
    expect(statuses).toEqual([200, 200, 200, 200, 429, 429]);
  });

  it("never let more through in any 60 seconds, and always something when it is time", () => {
    console.log(`seed ${SEED}`);
    const next = random(SEED);
    const limiter = createLimiter();
    limiter.set([
      { scope: "org", requestsPerMinute: 30, tokensPerMinute: undefined, concurrent: undefined, bodyBytes: undefined },
    ]);
    const principal = { keyId: "k", team: "" } as Principal;
    const passed: number[] = [];
    let now = 1_700_000_000_000;
    for (let step = 0; step < 20_000; step++) {
      now += Math.floor(next() * 3_000);
      try {
        limiter.enter(principal, 0, 0, now).leave(0, now);
        passed.push(now);
      } catch (error) {
        const wait = Number((error as { headers: string[] }).headers[1]);
        expect(() => limiter.enter(principal, 0, 0, now + wait * 1_000)).not.toThrow();
        now += wait * 1_000;
        passed.push(now);
      }
      while ((passed[0] ?? now) <= now - 60_000) passed.shift();
      expect(passed.length).toBeLessThanOrEqual(30);
    }
  });

  it("hold for several proxies by what each has heard of the others, whose clocks are not quite its own", () => {
    console.log(`seed ${SEED}`);
    const next = random(SEED);
    const of = { scope: "org", tokensPerMinute: undefined, concurrent: 5, bodyBytes: undefined };
    const nodes = [0, -1_200, 700].map((aheadMs) => {
      const limiter = createLimiter();
      limiter.set([{ ...of, requestsPerMinute: 30 }]);
      return {
        limiter,
        aheadMs,
        own: [] as number[],
        heard: [] as number[],
        open: [] as { leave(): void }[],
        heardOpen: 0,
      };
    });
    const principal = { keyId: "k", team: "" } as Principal;
    const told = nodes.map(
      (): { said: ReturnType<(typeof nodes)[0]["limiter"]["passed"]>; own: number[]; open: number } => ({
        said: [],
        own: [],
        open: 0,
      }),
    );
    let now = 1_700_000_000_000;
    let refused = 0;
    for (let step = 0; step < 20_000; step++) {
      now += Math.floor(next() * (next() < 0.01 ? 30_000 : 300));
      const at = Math.floor(next() * nodes.length);
      const one = nodes[at]!;
      const clock = now + one.aheadMs;
      if (next() < 0.4) {
        told[at] = { said: one.limiter.passed(clock), own: [...one.own], open: one.open.length };
        const others = told.filter((_, other) => other !== at);
        const seconds = others.flatMap(({ said }) => said.flatMap((passed) => passed.seconds));
        const open = others.reduce((sum, other) => sum + other.open, 0);
        one.limiter.hear([{ scope: "org", seconds, open }], clock);
        one.heard = others.flatMap(({ own }) => own);
        one.heardOpen = open;
        continue;
      }
      if (next() < 0.5) one.open.shift()?.leave();
      // Clocks are up to 1.9 s apart: what was there a second ago may be one of those that are over here.
      const known = [...one.own, ...one.heard].filter((atMs) => atMs > now - 58_000).length;
      try {
        const place = one.limiter.enter(principal, 0, 0, clock);
        one.open.push({ leave: () => place.leave(0, clock) });
        one.own.push(now);
        expect(known, `seed ${SEED}, step ${step}`).toBeLessThan(30);
        expect(one.open.length + one.heardOpen).toBeLessThanOrEqual(5);
      } catch (error) {
        if (!(error instanceof Error && error.message.includes("try again"))) throw error;
        refused += 1;
        const older = [...one.own, ...one.heard].filter((atMs) => atMs > now - 64_000).length;
        expect(older >= 30 || one.open.length + one.heardOpen >= 5, `seed ${SEED}, step ${step}`).toBe(true);
      }
      one.own = one.own.filter((atMs) => atMs > now - 70_000);
    }
    expect(refused).toBeGreaterThan(100);
  });
});

describe("a freeze", () => {
  it("admits nothing more in its scope from the next request on, until it is lifted; who is refused reads why", async () => {
    const [search, ads] = [await bench.running.createKey(), await bench.running.createKey({ team: "ads" })];
    const freeze = { id: "frz_1", scope: { team: "search" }, reason: "a key leaked", createdAtMs: Date.now() };
    expect(await bench.running.change({ type: "freeze", freeze })).toBe(200);
    const refused = await ask(search.secret);
    expect([refused.status, await statusOf(ads.secret)]).toEqual([403, 200]);
    expect(await refused.text()).toContain("team search is frozen (frz_1): a key leaked");
    const dataDir = bench.running.dataDir;
    await bench.running.stop();
    await bench.startAgain({ KEYMETER_DATA_DIR: dataDir });
    expect(await statusOf(search.secret)).toBe(403);
    expect(await bench.running.change({ type: "lift", freezeId: "frz_1" })).toBe(200);
    expect(await statusOf(search.secret)).toBe(200);
    expect(await bench.running.change({ type: "lift", freezeId: "frz_1" })).toBe(409);
  });

  it("makes an SDK fail once, with one clear error", async () => {
    const { secret } = await bench.running.createKey();
    await bench.running.change({
      type: "freeze",
      freeze: { id: "frz_2", scope: {}, reason: "stop", createdAtMs: Date.now() },
    });
    const client = new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: secret, maxRetries: 3 });
    await expect(client.chat.completions.create({ model: "gpt-4o-mini", messages: [] })).rejects.toMatchObject({
      status: 403,
    });
    expect(await (await fetch(`${bench.running.opsUrl}/metrics`)).text()).toContain(
      'keymeter_refused_total{reason="frozen"} 1',
    );
  });

  it("with a cut ends the streams of its scope at once, with an error, and books what went by", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey({ team: "ads" })];
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const delta = { id: "c", model: "gpt-4o-mini", choices: [{ index: 0, delta: { content: "word " } }] };
      response.write(`data: ${JSON.stringify(delta)}\n\n`);
    };
    const [cut, left] = [await ask(mine.secret, { stream: true }), await ask(other.secret, { stream: true })];
    const answer = await fetch(`${bench.running.opsUrl}/admin/cut`, {
      method: "POST",
      headers: { authorization: `Bearer ${bench.running.adminToken}`, "content-type": "application/json" },
      body: JSON.stringify({ team: "search" }),
    });
    expect(await answer.json()).toEqual({ cut: 1 });
    expect(await cut.text()).toContain("whoever runs Keymeter stopped this key or scope");
    await expect.poll(async () => (await bench.running.events()).length).toBe(1);
    expect((await bench.running.events())[0]).toMatchObject({
      keyId: mine.id,
      outcome: "cut",
      usageState: "estimated",
    });
    await left.body?.cancel();
  });
});

describe("a hard budget that is observed", () => {
  it("refuses nothing, and counts what it would have refused; another one beside it holds", async () => {
    const { id, secret } = await bench.running.createKey();
    const scope = { keyId: id };
    await bench.running.setBudget({ scope, amountNanoUsd: 10n, observe: true });
    expect([await statusOf(secret), await statusOf(secret)]).toEqual([200, 200]);
    const { readRefused } = await import("../../ledger/usage/refused.ts");
    const { openUsage } = await import("../../ledger/open.ts");
    const books = await openUsage(bench.running.place);
    if (!books) throw new Error("no books");
    const refused = await readRefused(books, Date.now() - 3_600_000, Date.now() + 60_000);
    await books.close();
    expect(refused).toMatchObject([{ reason: "budget_exceeded", observed: true, count: 2 }]);
    await bench.running.setBudget({ id: "hard", window: "day", scope, amountNanoUsd: 10n });
    expect(await statusOf(secret)).toBe(402);
  });
});
