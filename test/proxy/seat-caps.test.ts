// Caps of tokens that subscriptions pay for: five hours that begin with a request, and weeks; held against windows that this
// test counts by itself, and through a real proxy. What seats cost, and what they are worth.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { firstAttemptId } from "../../ledger/ids.ts";
import { openUsage } from "../../ledger/open.ts";
import type { Limits } from "../../ledger/usage/limits.ts";
import { readSeatTokens } from "../../ledger/usage/seat-tokens.ts";
import { SEAT } from "../../ledger/usage/usage-event.ts";
import { createCalendar, DAY_MS, HOUR_MS } from "../../ledger/windows.ts";
import { createSeatCaps } from "../../proxy/seat-caps.ts";
import { json, messageAnswer, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider, Script } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { event as usageEvent } from "../usage-event.ts";

const LOGIN = "sk-ant-oat01-a-login-of-somebody-0123456789";
const TOKENS = 1_000_000;
const answering: Script = (arrived, response, request) =>
  json(
    messageAnswer({ input_tokens: TOKENS - 300_000, cache_read_input_tokens: 200_000, output_tokens: 100_000 }),
    200,
    arrived.headers.authorization?.includes(LOGIN) ? { "anthropic-ratelimit-unified-status": "allowed" } : {},
  )(arrived, response, request);

let provider: FakeProvider;
let running: RunningProxy;
beforeEach(async () => {
  provider = await startFakeProvider(answering);
  running = await startProxy(provider.url);
});
afterEach(async () => {
  await running.stop();
  await provider.close();
});

/** By a subscription, beside a key of ours. */
async function ask(secret: string, url = running.url): Promise<{ status: number; headers: Headers; text: string }> {
  const answer = await fetch(`${url}/anthropic/v1/messages`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      "anthropic-version": "2023-06-01",
      authorization: `Bearer ${LOGIN}`,
      "x-keymeter-key": secret,
    },
    body: JSON.stringify({ model: "claude-haiku-4-5", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
  });
  return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

function limitsOf(scope: string, caps: Partial<Limits>): Limits {
  const none = {
    requestsPerMinute: undefined,
    tokensPerMinute: undefined,
    concurrent: undefined,
    bodyBytes: undefined,
  };
  return { scope, ...none, ...caps };
}

async function me(secret: string): Promise<{ seatCaps: object[] }> {
  const answer = await fetch(`${running.url}/keymeter/me`, { headers: { authorization: `Bearer ${secret}` } });
  return (await answer.json()) as { seatCaps: object[] };
}

describe("a cap of tokens by subscriptions", () => {
  it("refuses what does not fit, once, with its numbers; money and others pass; a restart forgets nothing", async () => {
    const anna = await running.createKey({ userName: "anna" });
    const bob = await running.createKey({ userName: "bob" });
    const set = await runKeymeter(running, "limits", "set", "--user", "anna", "--seat-5h", String(3 * TOKENS));
    expect(set).toMatchObject({ code: 0 });
    // With books in Postgres the command may be another node, of which the proxy hears within a second.
    await expect.poll(async () => (await me(anna.secret)).seatCaps.length, { timeout: 5_000 }).toBe(1);
    const from = Date.now();
    for (let i = 0; i < 3; i++) expect((await ask(anna.secret)).status).toBe(200);
    const refused = await ask(anna.secret);
    expect(refused.status).toBe(402);
    expect(refused.headers.get("x-should-retry")).toBe("false");
    expect(refused.text).toContain("user anna: 3000000 in 5 hours, 3000000 used");
    expect((await ask(bob.secret)).status).toBe(200);
    expect(provider.journal).toHaveLength(4);
    const [cap] = (await me(anna.secret)).seatCaps as { endsAt: string }[];
    expect(cap).toMatchObject({ scope: "user anna", window: "5 hours", tokens: 3 * TOKENS, used: 3 * TOKENS, left: 0 });
    const endsIn = Date.parse(cap?.endsAt ?? "") - from;
    expect(endsIn).toBeGreaterThanOrEqual(5 * HOUR_MS);
    expect(endsIn).toBeLessThan(5 * HOUR_MS + 60_000);
    expect((await me(bob.secret)).seatCaps).toEqual([]);

    const { dataDir, place } = running;
    await running.stop();
    running = await startProxy(provider.url, {
      KEYMETER_DATA_DIR: dataDir,
      ...(place === dataDir ? {} : { KEYMETER_LEDGER_URL: place }),
    });
    // Nobody has said since the start that the sign-in is a subscription's: bob's request does.
    expect((await ask(bob.secret)).status).toBe(200);
    expect((await ask(anna.secret)).status).toBe(402);
    expect(await runKeymeter(running, "limits", "remove", "--user", "anna")).toMatchObject({ code: 0 });
    await expect.poll(async () => (await ask(anna.secret)).status, { timeout: 5_000 }).toBe(200);
  });

  it("set late counts what was used before, in the key, its team and all together", async () => {
    const { id, secret } = await running.createKey({ team: "search" });
    for (let i = 0; i < 2; i++) expect((await ask(secret)).status).toBe(200);
    for (const scope of [`key:${id}`, "team:search", "org"]) {
      const limits = limitsOf(scope, { seatTokensPerWeek: 2 * TOKENS });
      expect(await running.change({ type: "setLimits", limits })).toBe(200);
      expect((await ask(secret)).status, scope).toBe(402);
      expect(await running.change({ type: "setLimits", limits: { ...limits, seatTokensPerWeek: 9 * TOKENS } })).toBe(
        200,
      );
      expect(await running.change({ type: "removeLimits", scope })).toBe(200);
    }
    expect((await ask(secret)).status).toBe(200);
  });

  it("lets many at once pass it by no more than what they were taken for", async () => {
    const { secret } = await running.createKey();
    expect((await ask(secret)).status).toBe(200);
    const limits = limitsOf("org", { seatTokensPerWeek: TOKENS + 100 });
    expect(await running.change({ type: "setLimits", limits })).toBe(200);
    // Each is taken for about 40 tokens: its body and what it may say at most.
    // What everybody together uses is not for each holder to see.
    expect((await me(secret)).seatCaps).toMatchObject([
      { scope: "everybody together", window: "week", usedPercent: 99 },
    ]);
    expect(JSON.stringify((await me(secret)).seatCaps)).not.toContain(String(TOKENS));
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(secret)));
    const passed = answers.filter(({ status }) => status === 200).length;
    expect(passed).toBeGreaterThan(0);
    expect(passed).toBeLessThan(4);
    expect(passed + answers.filter(({ status }) => status === 402).length).toBe(20);
  });

  it.skipIf(process.env["TEST_BOOKS"] !== "postgres")("is heard of at another proxy", async () => {
    const { dataDir, place } = running;
    const other = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir, KEYMETER_LEDGER_URL: place });
    const { secret } = await running.createKey();
    // Both know the sign-in.
    for (const { url } of [running, other]) expect((await ask(secret, url)).status).toBe(200);
    const limits = limitsOf("org", { seatTokensPer5Hours: 4 * TOKENS });
    expect(await running.change({ type: "setLimits", limits })).toBe(200);
    for (let i = 0; i < 2; i++) expect((await ask(secret)).status).toBe(200);
    await expect.poll(async () => (await ask(secret, other.url)).status, { timeout: 5_000 }).toBe(402);
    const passed = provider.journal.length;
    expect(passed).toBeGreaterThanOrEqual(4);
    await other.stop();
  });
});

describe(`seed ${SEED}: windows of five hours`, () => {
  it("open with the first request after the last ended, as this test counts them", async () => {
    const next = random(SEED);
    const books = await openUsage(running.place);
    if (!books) throw new Error("no books");
    const calendar = createCalendar("Europe/Berlin");
    const caps = createSeatCaps(books, calendar, () => undefined, 402);
    await caps.set([limitsOf("org", { seatTokensPer5Hours: 1, seatTokensPerWeek: 1 })]);
    let atMs = Date.parse("2026-10-01T00:00:00Z");
    const seen: { readonly atMs: number; readonly tokens: number }[] = [];
    for (let i = 0; i < (IS_CI ? 5_000 : 500); i++) {
      // Minutes, hours, and now and then days.
      atMs += Math.floor(next() ** 4 * (next() < 0.05 ? 4 * DAY_MS : 5 * HOUR_MS)) + 1;
      const tokens = 1 + Math.floor(next() * 1_000_000);
      seen.push({ atMs, tokens });
      caps.book(usageEvent(firstAttemptId(atMs), 0n, { payer: SEAT, usage: { input: tokens } }), 0, atMs);
      const askedMs = atMs + Math.floor(next() * 6 * HOUR_MS);
      const [five, week] = caps.states({ keyId: "k", team: "", user: "" }, askedMs);
      expect(five).toMatchObject(windowOf(seen, askedMs));
      const { id } = calendar.window("week", askedMs);
      const inWeek = seen.filter((one) => calendar.window("week", one.atMs).id === id);
      expect(week?.used).toBe(inWeek.reduce((sum, one) => sum + one.tokens, 0));
    }
    await books.close();
  });

  /** By going from request to request. */
  function windowOf(
    seen: readonly { readonly atMs: number; readonly tokens: number }[],
    nowMs: number,
  ): { used: number; endsAtMs: number | undefined } {
    const starts: number[] = [];
    for (const { atMs } of seen) if (atMs >= (starts.at(-1) ?? 0) + 5 * HOUR_MS) starts.push(atMs);
    const start = starts.at(-1) ?? 0;
    if (nowMs >= start + 5 * HOUR_MS) return { used: 0, endsAtMs: undefined };
    const used = seen.filter(({ atMs }) => atMs >= start).reduce((sum, { tokens }) => sum + tokens, 0);
    return { used, endsAtMs: start + 5 * HOUR_MS };
  }
});

describe("books with many requests of subscriptions", () => {
  it("are read piece by piece, each request once", async () => {
    const { writer } = running.proxy;
    const ids = Array.from({ length: 4_321 }, () => writer.nextAttemptId());
    await Promise.all(
      ids.map((id) => writer.settle(usageEvent(id, 0n, { payer: SEAT, usage: { input: 2, output: 1 } }))),
    );
    const books = await openUsage(running.place);
    if (!books) throw new Error("no books");
    const read: number[] = [];
    for await (const { attemptId, tokens } of readSeatTokens(books, Date.now() - DAY_MS)) {
      read.push(attemptId);
      expect(tokens).toBe(3);
    }
    expect(read).toEqual(ids);
    const caps = createSeatCaps(books, createCalendar("UTC"), () => undefined, 402);
    await caps.set([limitsOf("org", { seatTokensPerWeek: 1 })]);
    expect(caps.states({ keyId: "k", team: "", user: "" }, Date.now())[0]?.used).toBe(3 * ids.length);
    // The word that one of them was booked comes late.
    caps.book(usageEvent(ids.at(-1) ?? 0, 0n, { payer: SEAT, usage: { input: 3 } }), 0, Date.now());
    expect(caps.states({ keyId: "k", team: "", user: "" }, Date.now())[0]?.used).toBe(3 * ids.length);
    await books.close();
  });
});

describe("what other proxies say", () => {
  it("is added once, and never taken back: each forgets a second at its own time, and some end", async () => {
    const books = await openUsage(running.place);
    if (!books) throw new Error("no books");
    const caps = createSeatCaps(books, createCalendar("UTC"), () => undefined, 402);
    await caps.set([limitsOf("org", { seatTokensPerWeek: 1 })]);
    const second = Math.floor(Date.now() / 1000) + 5;
    const used = (): number | undefined => caps.states({ keyId: "k", team: "", user: "" }, Date.now())[0]?.used;
    const hear = (...seconds: [number, number, number][]): void =>
      caps.hear([
        { scope: "seats org", seconds, open: 0 },
        { scope: "org", seconds: [[second, 9, 9]], open: 1 },
      ]);
    hear([second, 0, 7_000]);
    hear([second, 0, 12_000]);
    hear([second, 0, 5_000]);
    hear();
    hear([second, 0, 12_000], [second + 1, 0, 100]);
    expect(used()).toBe(12_100);
    await books.close();
  });
});

describe("a request of which nobody says what it used", () => {
  it("counts as what it was taken for", async () => {
    const { secret } = await running.createKey();
    expect((await ask(secret)).status).toBe(200);
    const limits = limitsOf("org", { seatTokensPerWeek: 9 * TOKENS });
    expect(await running.change({ type: "setLimits", limits })).toBe(200);
    provider.script = (_arrived, response) =>
      void response
        .writeHead(200, { "content-type": "application/json", "anthropic-ratelimit-unified-status": "allowed" })
        .end('{"type":"message"');
    await ask(secret).catch(() => undefined);
    const { keyId, team, user } = (await running.events()).at(-1) ?? { keyId: "", team: "", user: "" };
    const [cap] = running.proxy.context.seatCaps.states({ keyId, team, user }, Date.now());
    expect(cap?.used).toBeGreaterThan(TOKENS);
    expect(cap?.used).toBeLessThan(TOKENS + 2_000);
  });
});

describe("a seat's price", () => {
  it("is entered from a month on, and stands beside what the seat paid for", async () => {
    const { secret } = await running.createKey({ userName: "anna" });
    for (let i = 0; i < 2; i++) expect((await ask(secret)).status).toBe(200);
    // Each: 700,000 in at $1, 200,000 from a cache at $0.10, 100,000 out at $5, by a million.
    const value = 2_440_000_000n;
    const run = async (...args: string[]): Promise<string> => {
      const { code, text } = await runKeymeter(running, "seats", ...args);
      expect(code, text).toBe(0);
      return text;
    };
    expect(await run("list")).toMatch(/user anna +not entered +\$2\.44/);
    expect(await run("price", "--user", "anna", "0.50")).toContain("user anna: $0.50 a month");
    expect(await run("list")).toMatch(/user anna +\$0\.50 +\$2\.44 +4\.88 times/);
    const month = new Date().toISOString().slice(0, 7);
    expect(JSON.parse(await run("list", "--json"))).toMatchObject({
      month,
      seats: [{ priceNanoUsd: "500000000", valueNanoUsd: String(value) }],
    });
    expect(await run("price", "--user", "anna", "0")).toContain("no seat from");
    expect(await run("list")).toMatch(/user anna +not entered/);
    // What was paid before stays what it was.
    await run("price", "--user", "anna", "200", "--from", "2026-01");
    expect(await run("list", "--month", "2026-02")).toMatch(/user anna +\$200\.00 +\$0\.00 +0\.00 times/);
    expect(await run("list")).toMatch(/user anna +not entered/);
    for (const wrong of [
      ["price", "--user", "anna"],
      ["price", "12"],
      ["price", "--user", "anna", "12", "--from", "2026-13"],
    ])
      expect((await runKeymeter(running, "seats", ...wrong)).code).toBe(2);
  });
});
