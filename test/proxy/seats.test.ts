// A Keymeter key beside the client's own credential: the key says who asks, the credential goes to the provider as it came.
// What a subscription pays is booked at its value, and billed to nobody; what a client's own API key pays is money.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { firstAttemptId } from "../../ledger/ids.ts";
import { openUsage } from "../../ledger/open.ts";
import { readMeteredHours } from "../../ledger/usage/metered-hours.ts";
import { readMeteredCredentials } from "../../ledger/usage/credentials.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { SEAT } from "../../ledger/usage/usage-event.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { matchKeys } from "../../collector/match.ts";
import { json, messageAnswer, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider, Script } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const LOGIN = "sk-ant-oat01-a-login-of-somebody-0123456789";
const OWN_KEY = "sk-ant-api03-a-key-of-somebody-0123456789";
/** A million tokens in, at the provider's published price of $1. */
const USD = 1_000_000_000n;
const MESSAGE = messageAnswer({ input_tokens: 1_000_000, output_tokens: 0 });

/** What the provider says to a login of a subscription. */
const SUBSCRIBED = { "anthropic-ratelimit-unified-status": "allowed" };
/** It knows a login by its name here; what else comes is billed by use. */
const answering: Script = (arrived, response, request) =>
  json(MESSAGE, 200, arrived.headers.authorization?.includes(LOGIN) ? SUBSCRIBED : {})(arrived, response, request);

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

async function ask(headers: { [name: string]: string }, more: object = {}): Promise<number> {
  const answer = await fetch(`${running.url}/anthropic/v1/messages?beta=true`, {
    method: "POST",
    headers: { "content-type": "application/json", "anthropic-version": "2023-06-01", ...headers },
    body: JSON.stringify({
      model: "claude-haiku-4-5",
      max_tokens: 5,
      messages: [{ role: "user", content: "hi" }],
      ...more,
    }),
  });
  await answer.text();
  return answer.status;
}

async function withBooks<T>(read: (books: UsageBooks) => Promise<T>): Promise<T> {
  const books = await openUsage(running.place);
  if (!books) throw new Error("no books");
  try {
    return await read(books);
  } finally {
    await books.close();
  }
}

describe("a Keymeter key beside the client's own credential", () => {
  it.each([
    ["x-keymeter-key", ""],
    ["x-litellm-api-key", "Bearer "],
    ["x-litellm-api-key", ""],
    ["x-portkey-api-key", ""],
    ["cf-aig-authorization", "Bearer "],
  ])("in %s (%j before it) says who asks; the credential passes on, the header does not", async (name, before) => {
    const { id, secret } = await running.createKey({ userName: "anna" });
    const beta = "oauth-2025-04-20,claude-code-20250219";
    expect(await ask({ authorization: `Bearer ${LOGIN}`, [name]: `${before}${secret}`, "anthropic-beta": beta })).toBe(
      200,
    );
    const [sent] = provider.journal;
    expect(sent?.headers).toMatchObject({ authorization: `Bearer ${LOGIN}`, "anthropic-beta": beta });
    expect(JSON.stringify(sent?.rawHeaders)).not.toContain("km_");
    expect(sent?.headers["x-api-key"]).toBeUndefined();
    const [event] = await running.events();
    expect(event).toMatchObject({ keyId: id, payer: SEAT, costNanoUsd: "0", seatNanoUsd: String(USD) });
  });

  it("alone is swapped for Keymeter's credential, as anywhere else", async () => {
    const { secret } = await running.createKey();
    expect(await ask({ "x-keymeter-key": secret })).toBe(200);
    expect(provider.journal[0]?.headers["x-api-key"]).toBe("sk-ant-api03-provider-credential");
    expect((await running.events())[0]).toMatchObject({
      payer: expect.stringMatching(/^fp_/) as string,
      costNanoUsd: String(USD),
      seatNanoUsd: null,
    });
  });

  it("with a key of the client's own for the API is money, which that key pays", async () => {
    const { id, secret } = await running.createKey();
    await running.setBudget({ scope: { keyId: id }, amountNanoUsd: USD });
    expect(await ask({ "x-api-key": OWN_KEY, "x-keymeter-key": secret })).toBe(200);
    expect(provider.journal[0]?.headers["x-api-key"]).toBe(OWN_KEY);
    const [event] = await running.events();
    expect(event).toMatchObject({ keyId: id, costNanoUsd: String(USD), seatNanoUsd: null });
    expect(event?.payer).toMatch(/^fp_/);
    expect(await ask({ "x-api-key": OWN_KEY, "x-keymeter-key": secret })).toBe(402);
    // It is matched with the bill of that key, not of Keymeter's.
    const hours = await withBooks((books) => readMeteredHours(books, "anthropic", 0, Date.now() + 1));
    expect(hours.map(({ credential }) => credential)).toEqual([event?.payer]);
    const billed = {
      state: "active",
      billedKey: "apikey_1",
      name: "of somebody",
      hint: `sk-ant-api03-...${OWN_KEY.slice(-4)}`,
    };
    const { byCredential } = matchKeys(await withBooks(readMeteredCredentials), [billed]);
    expect(byCredential.get(String(event?.payer))).toBe("apikey_1");
  });

  it("makes things in an account of its own: by their names it reaches nothing of the company's", async () => {
    const [one, other] = [await running.createKey(), await running.createKey()];
    const own = "AIzaOfSomebodyElse0123456789";
    // A file's name is its maker's choice at Gemini.
    provider.script = json({ file: { name: "files/board-minutes", uri: "https://x/files/board-minutes" } });
    const make = async (headers: { [name: string]: string }): Promise<number> => {
      const answer = await fetch(`${running.url}/google/upload/v1beta/files`, { method: "POST", headers, body: "x" });
      await answer.text();
      return answer.status;
    };
    const read = async (headers: { [name: string]: string }): Promise<number> => {
      const answer = await fetch(`${running.url}/google/v1beta/files/board-minutes`, { headers });
      await answer.text();
      return answer.status;
    };
    expect(await make({ "x-keymeter-key": one.secret, "x-goog-api-key": own })).toBe(200);
    provider.script = json({ name: "files/board-minutes" });
    expect(await read({ "x-keymeter-key": one.secret, "x-goog-api-key": own })).toBe(200);
    // The same name in the company's account is not that key's.
    expect(await read({ "x-goog-api-key": one.secret })).toBe(404);
    expect(await read({ "x-goog-api-key": other.secret })).toBe(404);
    provider.script = json({ file: { name: "files/board-minutes", uri: "https://x/files/board-minutes" } });
    expect(await make({ "x-goog-api-key": other.secret })).toBe(200);
    expect(await read({ "x-goog-api-key": other.secret })).toBe(200);
    expect(await read({ "x-goog-api-key": one.secret })).toBe(404);
  });

  it("is refused where it is unclear whose, or none", async () => {
    const [one, other] = [await running.createKey(), await running.createKey()];
    expect(await ask({ "x-keymeter-key": one.secret, "x-litellm-api-key": other.secret })).toBe(400);
    expect(await ask({ "x-keymeter-key": one.secret, "x-api-key": other.secret })).toBe(400);
    expect(await ask({ "x-keymeter-key": "sk-something-else-0123", "x-api-key": OWN_KEY })).toBe(401);
    expect(await ask({ "x-keymeter-key": `${one.secret}x`, "x-api-key": OWN_KEY })).toBe(401);
    expect(provider.journal).toEqual([]);
    // Nor does a secret of ours go to a provider, whatever stands around it.
    expect(await ask({ "x-keymeter-key": one.secret, "x-api-key": `sk-${other.secret}` })).toBe(401);
    expect(await ask({ "x-keymeter-key": one.secret, "x-api-key": `"${other.secret}"` })).toBe(401);
    expect(await ask({ "x-keymeter-key": one.secret, "x-api-key": running.adminToken })).toBe(401);
    // What stands there of another gateway is no concern of ours.
    expect(await ask({ "x-portkey-api-key": "pk-of-portkey-0123456789", "x-api-key": one.secret })).toBe(200);
  });

  it("is paused and capped like any other; its client's 401 and 429 are that client's alone", async () => {
    const [one, other] = [await running.createKey(), await running.createKey()];
    provider.script = json({ type: "error", error: { type: "authentication_error", message: "expired" } }, 401);
    expect(await ask({ authorization: `Bearer ${LOGIN}`, "x-keymeter-key": one.secret })).toBe(401);
    provider.script = json({ type: "error", error: { type: "rate_limit_error", message: "5 hours" } }, 429);
    expect(await ask({ authorization: `Bearer ${LOGIN}`, "x-keymeter-key": one.secret })).toBe(429);
    provider.script = answering;
    expect(await ask({ authorization: `Bearer ${LOGIN}2`, "x-keymeter-key": other.secret })).toBe(200);
    expect(await running.change({ type: "setKeyState", keyId: one.id, state: "paused" })).toBe(200);
    expect(await ask({ authorization: `Bearer ${LOGIN}`, "x-keymeter-key": one.secret })).toBe(403);
    expect((await running.events()).map(({ costNanoUsd }) => costNanoUsd)).toEqual(["0", "0", "0"]);
  });
});

describe("a provider key that is a key of its own here", () => {
  it("is paused, and bound to its owner, beside a Keymeter key too", async () => {
    const { secret } = await running.createKey();
    const beside = { "x-api-key": OWN_KEY, "x-keymeter-key": secret };
    expect(await ask({ "x-api-key": OWN_KEY })).toBe(200);
    const keyId = String((await running.events())[0]?.keyId);
    expect(await ask(beside)).toBe(200);
    expect((await running.events())[1]?.payer).toBe(keyId);
    await running.change({ type: "describeKey", keyId, fields: { team: "ads" } });
    expect(await ask(beside)).toBe(403);
    await running.change({ type: "describeKey", keyId, fields: { team: "" } });
    await running.change({ type: "setKeyState", keyId, state: "paused" });
    expect(await ask(beside)).toBe(403);
  });

  it.each([
    [
      "a budget",
      (keyId: string) => runKeymeter(running, "budgets", "set", "--key", keyId, "--amount", "9/month", "--hard"),
    ],
    [
      "a freeze",
      (keyId: string) =>
        running.change({
          type: "freeze",
          freeze: { id: "frz_1", scope: { keyId }, reason: "leak", createdAtMs: Date.now() },
        }),
    ],
    [
      "a limit",
      (keyId: string) =>
        running.change({
          type: "setLimits",
          limits: {
            scope: `key:${keyId}`,
            requestsPerMinute: 9,
            tokensPerMinute: undefined,
            concurrent: undefined,
            bodyBytes: undefined,
          },
        }),
    ],
  ])("with %s of its own is sent alone: beside another key that would not hold", async (_what, rule) => {
    const { secret } = await running.createKey();
    expect(await ask({ "x-api-key": OWN_KEY })).toBe(200);
    await rule(String((await running.events())[0]?.keyId));
    await expect.poll(() => ask({ "x-api-key": OWN_KEY, "x-keymeter-key": secret }), { timeout: 5_000 }).toBe(403);
  });

  it("that its provider refuses makes no payer of its own", async () => {
    const { secret } = await running.createKey();
    provider.script = json({ type: "error", error: { type: "authentication_error", message: "no" } }, 401);
    for (let i = 0; i < 3; i++) await ask({ "x-api-key": `${OWN_KEY}${i}`, "x-keymeter-key": secret });
    expect((await running.events()).map(({ payer }) => payer)).toEqual(["", "", ""]);
  });
});

describe("what a subscription pays", () => {
  it("is refused by no cap, also where one was passed", async () => {
    const { id, secret } = await running.createKey();
    await running.setBudget({ scope: { keyId: id }, amountNanoUsd: USD / 2n });
    expect(await ask({ authorization: `Bearer ${LOGIN}`, "x-keymeter-key": secret })).toBe(200);
    expect(await ask({ "x-api-key": secret })).toBe(200);
    expect(await ask({ "x-api-key": secret })).toBe(402);
    expect(await ask({ authorization: `Bearer ${LOGIN}`, "x-keymeter-key": secret })).toBe(200);
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
  });

  it("is in no cap, uses none up, and is summed up by itself", async () => {
    const { id, secret } = await running.createKey({ userName: "anna" });
    await running.setBudget({ scope: { keyId: id }, amountNanoUsd: USD, mode: "strict" });
    const login = { authorization: `Bearer ${LOGIN}`, "x-keymeter-key": secret };
    for (let i = 0; i < 3; i++) expect(await ask(login)).toBe(200);
    expect(await ask({ "x-api-key": secret })).toBe(200);
    expect(await ask({ "x-api-key": secret })).toBe(402);
    expect(await ask(login)).toBe(200);
    const [sums] = await withBooks((books) => readSpend(books, [], "2020-01-01", "2100-01-01"));
    expect(sums).toMatchObject({ requests: 5, costNanoUsd: USD, seatNanoUsd: 4n * USD });
    const byPayer = await withBooks((books) => readSpend(books, ["payer"], "2020-01-01", "2100-01-01"));
    expect(byPayer.map(({ group, costNanoUsd, seatNanoUsd }) => [group.payer, costNanoUsd, seatNanoUsd])).toEqual([
      [expect.stringMatching(/^fp_/) as string, USD, 0n],
      [SEAT, 0n, 4n * USD],
    ]);
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
    expect(await withBooks(readFoldDifferences)).toEqual([]);
    expect(await runKeymeter(running, "verify")).toMatchObject({ code: 0 });
    const spend = await runKeymeter(running, "spend", "--by", "user");
    expect(spend.text).toContain("$1.00");
    expect(spend.text).toContain("subscriptions");
    // Whose key it is sees both, apart.
    const me = await fetch(`${running.url}/keymeter/me`, {
      headers: { authorization: `Bearer ${secret}`, accept: "text/plain" },
    });
    expect(await me.text()).toContain(
      "spent $1.00 today, $1.00 this month; subscriptions, worth $4.00 and $4.00\nanna with all keys: $1.00 today",
    );
    // Nobody looks for it in a bill.
    const hours = await withBooks((books) => readMeteredHours(books, "anthropic", 0, Date.now() + 1));
    expect(hours.map(({ tokens }) => tokens)).toEqual([1_000_000]);
  });

  it("is a sign-in's by the provider's word alone: a workload's federation begins alike, and is money", async () => {
    const { id, secret } = await running.createKey();
    await running.setBudget({ scope: { keyId: id }, amountNanoUsd: 2n * USD, mode: "strict" });
    const workload = { authorization: "Bearer sk-ant-oat01-of-a-workload-0123456789", "x-keymeter-key": secret };
    expect(await ask(workload)).toBe(200);
    expect(await ask(workload)).toBe(200);
    // Nobody has said yet what this one is.
    const login = { authorization: `Bearer ${LOGIN}`, "x-keymeter-key": secret };
    expect(await ask(workload)).toBe(402);
    expect(await ask(login)).toBe(402);
    expect(provider.journal).toHaveLength(2);
    for (const { payer, costNanoUsd, seatNanoUsd } of await running.events())
      expect([payer, costNanoUsd, seatNanoUsd]).toEqual([expect.stringMatching(/^fp_/), String(USD), null]);
  });

  it.each([
    ["says so", { ...SUBSCRIBED, "anthropic-ratelimit-unified-overage-in-use": "true" }],
    ["names it", { ...SUBSCRIBED, "anthropic-ratelimit-unified-representative-claim": "overage" }],
    ["says nothing of a subscription any more", {}],
  ])("is money beyond its limits: the answer %s, and what comes after is held", async (_how, headers) => {
    const { id, secret } = await running.createKey();
    await running.setBudget({ scope: { keyId: id }, amountNanoUsd: 2n * USD, mode: "strict" });
    const login = { authorization: `Bearer ${LOGIN}`, "x-keymeter-key": secret };
    expect(await ask(login)).toBe(200);
    provider.script = json(MESSAGE, 200, headers);
    // One was on its way before anybody knew.
    expect(await ask(login)).toBe(200);
    expect(await ask(login)).toBe(200);
    expect(await ask(login)).toBe(402);
    expect((await running.events()).map(({ costNanoUsd }) => costNanoUsd)).toEqual(["0", String(USD), String(USD)]);
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
    expect(await withBooks(readFoldDifferences)).toEqual([]);
    expect(await runKeymeter(running, "verify")).toMatchObject({ code: 0 });
  });

  it("is known without a Keymeter key too", async () => {
    expect(await ask({ authorization: `Bearer ${LOGIN}` })).toBe(200);
    expect((await running.events())[0]).toMatchObject({ payer: SEAT, costNanoUsd: "0", seatNanoUsd: String(USD) });
  });

  it("is what an upstream says of itself in the settings (Codex with a ChatGPT login)", async () => {
    await running.stop();
    const settings = writeSettings(
      `proxy: { upstreams: { chatgpt: { url: "${provider.url}", version: none, price_list: openai, subscription: true } } }`,
    );
    running = await startProxy(provider.url, { KEYMETER_CONFIG: settings });
    const { secret } = await running.createKey();
    provider.script = json({
      id: "resp_1",
      object: "response",
      status: "completed",
      model: "gpt-5.2",
      output: [],
      usage: { input_tokens: 1_000_000, output_tokens: 0, total_tokens: 1_000_000 },
    });
    const answer = await fetch(`${running.url}/chatgpt/responses`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln",
        "chatgpt-account-id": "acc_1",
        "x-keymeter-key": secret,
      },
      body: JSON.stringify({ model: "gpt-5.2", input: "hi" }),
    });
    expect(answer.status).toBe(200);
    expect(provider.journal[0]).toMatchObject({
      url: "/responses",
      headers: { authorization: "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln", "chatgpt-account-id": "acc_1" },
    });
    expect((await running.events())[0]).toMatchObject({ payer: SEAT, costNanoUsd: "0" });
  });

  it("that nobody heard the end of is booked at what it probably was worth, as a crash", async () => {
    const { writer } = running.proxy;
    const attemptId = writer.nextAttemptId();
    await writer.reserve(
      {
        attemptId,
        subject: {
          keyId: "key_1",
          team: "",
          project: "",
          env: "",
          user: "",
          provider: "anthropic",
          model: "claude-haiku-4-5",
        },
        boundNanoUsd: 0n,
        expectedNanoUsd: 0n,
        mostNanoUsd: 0n,
        payer: SEAT,
        seatNanoUsd: 7n,
      },
      "messages",
      undefined,
    );
    if (running.place !== running.dataDir) return;
    const dataDir = running.dataDir;
    await running.stop();
    running = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir });
    expect(attemptId).toBeGreaterThan(firstAttemptId(0));
    expect(await running.events()).toMatchObject([
      { payer: SEAT, costNanoUsd: "0", seatNanoUsd: "7", outcome: "crash", usageState: "estimated" },
    ]);
  });
});
