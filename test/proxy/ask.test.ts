// Asking for more: by the holder of a key, answered by whoever runs Keymeter, in the command and in Slack; and what a holder
// is told of it.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { listenToButtons } from "../../alerts/buttons.ts";
import { replaceRests } from "../../ledger/billing/landings.ts";
import type { Rest } from "../../ledger/billing/landings.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { createCalendar, HOUR_MS } from "../../ledger/windows.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { startFakeSlack } from "../fake/slack.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

/** gpt-4o-mini: 100,000 in at 0.15 USD per million. */
const COST = 15_000_000n;

let provider: FakeProvider;
let running: RunningProxy;
beforeEach(async () => {
  provider = await startFakeProvider(
    json({
      id: "c",
      object: "chat.completion",
      model: "gpt-4o-mini",
      choices: [],
      usage: { prompt_tokens: 100_000, completion_tokens: 0, total_tokens: 100_000 },
    }),
  );
  running = await startProxy(provider.url);
});
afterEach(async () => {
  await running.stop();
  await provider.close();
});

type Said = { readonly status: number; readonly text: string };
async function send(secret: string, headers: { [name: string]: string } = {}): Promise<Said> {
  const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "x" }] }),
  });
  return { status: answer.status, text: await answer.text() };
}

async function askFor(secret: string, body: unknown): Promise<Said> {
  const answer = await fetch(`${running.url}/keymeter/ask`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  return { status: answer.status, text: await answer.text() };
}

type Me = {
  readonly asked: readonly { id: string; answer: string | null; amountUsd: string }[];
  readonly sessions: readonly object[];
};
async function me(secret: string): Promise<Me> {
  const answer = await fetch(`${running.url}/keymeter/me`, { headers: { authorization: `Bearer ${secret}` } });
  return (await answer.json()) as Me;
}

async function run(...args: string[]): Promise<string> {
  const { code, text } = await runKeymeter(running, ...args);
  expect(code, text).toBe(0);
  return text;
}

/** A key that has used its budget up. */
async function spent(): Promise<{ secret: string }> {
  const key = await running.createKey({ userName: "anna", name: "annas" });
  await running.setBudget({ id: "rule", each: "user", amountNanoUsd: COST });
  await send(key.secret);
  return key;
}

describe("asking for more", () => {
  it("is said by the refusal, goes through the command, is approved, and lets through what was asked for", async () => {
    const { secret } = await spent();
    const refused = await send(secret);
    expect([refused.status, refused.text]).toEqual([402, expect.stringContaining("keymeter ask --amount")]);
    const holder = { ...running, environment: { KEYMETER_KEY: secret, KEYMETER_URL: running.url } };
    const asked = await runKeymeter(holder, "ask", "--amount", "0.015", "--why", "a launch");
    expect([asked.code, asked.text]).toEqual([2, expect.stringContaining("such as 20 or 12.50")]);
    const again = await runKeymeter(holder, "ask", "--amount", "0.02", "--why", "a launch");
    expect([again.code, again.text]).toEqual([
      0,
      expect.stringMatching(/^ask_\w+: asked for \$0\.02 more for user anna/),
    ]);
    const [id = ""] = /ask_\w+/.exec(again.text) ?? [];
    // Nothing is raised yet.
    expect((await send(secret)).status).toBe(402);
    expect(await me(secret)).toMatchObject({ asked: [{ id, answer: null, amountUsd: "0.020000000" }] });
    expect(await run("asks", "list")).toMatch(/annas +user anna +month +\$0\.015 +\$0\.02 +2 +\$0\.02 +a launch/);
    expect(await run("asks", "approve", id)).toContain("approved; $0.02 more for rule/user_");
    await expect.poll(async () => (await send(secret)).status, { timeout: 5_000 }).toBe(200);
    expect(await me(secret)).toMatchObject({ asked: [{ id, answer: "approved" }] });
    expect(await run("asks", "list")).toContain("Nobody asks");
    expect(await run("asks", "list", "--all")).toMatch(/approved by /);
    const twice = await runKeymeter(running, "asks", "refuse", id);
    expect([twice.code === 0, twice.text]).toEqual([false, expect.stringContaining("was approved already")]);
    const books = await openUsage(running.place);
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
    await books?.close();
  });

  it("is refused, and raises nothing", async () => {
    const { secret } = await spent();
    expect((await askFor(secret, { amount: 20, why: "because" })).status).toBe(201);
    const [asked] = (await me(secret)).asked;
    expect(await run("asks", "refuse", asked?.id ?? "")).toContain("refused");
    expect((await send(secret)).status).toBe(402);
    await expect.poll(async () => (await me(secret)).asked[0]?.answer).toBe("refused");
  });

  it("is answered in Slack by who may, and goes into the audit with the name", async () => {
    const { secret } = await spent();
    await askFor(secret, { amount: "20", why: "a launch" });
    const id = (await me(secret)).asked[0]?.id ?? "";
    const slack = await startFakeSlack();
    const replies: string[] = [];
    const listening = listenToButtons(new Secret("xapp-test"), slack.url, {
      mayChange: ["U0ANA"],
      timezone: "UTC",
      usage: () => openUsage(running.place),
      change: async (change, actor) => {
        await running.proxy.writer.change(change, actor);
      },
      acknowledge: async () => {},
      refresh: async () => {},
      leak: async () => ["it is replaced"],
      command: "keymeter",
      reply: async (_group, text) => void replies.push(text),
      log: createLog("test", "silent"),
    });
    await vi.waitFor(() => {
      if (slack.listening() !== 1) throw new Error("the client has not connected");
    });
    slack.press("keymeter_approve", `${id} group`, { id: "U0BOB", name: "bob" });
    await expect.poll(() => replies.length).toBe(1);
    expect(replies[0]).toContain("may not do that");
    slack.press("keymeter_approve", `${id} group`, { id: "U0ANA", name: "ana" });
    await expect.poll(() => replies[1]).toContain(`<@U0ANA> approved ${id}: rule/user_`);
    slack.press("keymeter_refuse", `${id} group`, { id: "U0ANA", name: "ana" });
    await expect.poll(() => replies[2]).toContain("was approved already, by slack:ana");
    await listening.stop();
    await slack.close();
    expect((await send(secret)).status).toBe(200);
  });

  it("is bounded, and takes no budget of others", async () => {
    const { secret } = await spent();
    const other = await running.createKey({ userName: "bob" });
    for (let i = 0; i < 3; i++) expect((await askFor(secret, { amount: 1, why: `reason ${i}` })).status).toBe(201);
    const more = await askFor(secret, { amount: 1, why: "once more" });
    expect([more.status, more.text]).toEqual([409, expect.stringContaining("nobody has answered yet")]);
    expect((await me(other.secret)).asked).toEqual([]);
    const foreign = (await me(secret)).asked.length;
    expect(foreign).toBe(3);
    const own = (JSON.parse((await askFor(other.secret, { amount: 1, why: "mine" })).text) as { budgetId: string })
      .budgetId;
    expect(own).toMatch(/^rule\/user_/);
    const annas = (await me(secret)).asked[0] as { budgetId?: string };
    expect(annas.budgetId).not.toBe(own);
    const taken = await askFor(other.secret, { amount: 1, why: "not mine", budget: annas.budgetId });
    expect([taken.status, taken.text]).toEqual([400, expect.stringContaining("does not hold for this key")]);
    // The rule's own id means what it holds for whoever asks.
    expect((await askFor(other.secret, { amount: 1, why: "mine", budget: "rule" })).text).toContain(own);
  });

  it.each([
    ["no JSON", "amount"],
    [{ amount: 0, why: "nothing" }, "amount"],
    [{ amount: -5, why: "less" }, "amount"],
    [{ amount: "1e9", why: "much" }, "amount"],
    [{ amount: 5 }, "why"],
    [{ amount: 5, why: "a\nb c" }, "one line"],
    [{ amount: 5, why: "x".repeat(301) }, "300 characters"],
    [{ amount: 5, why: "fine", more: 1 }, "more"],
    [`{"amount":5,"why":"${"x".repeat(5_000)}"}`, "amount"],
  ])("says what is wrong, %#", async (body, why) => {
    const { secret } = await spent();
    const { status, text } = await askFor(secret, body);
    expect([status, text]).toEqual([400, expect.stringContaining(why)]);
    expect((await me(secret)).asked).toEqual([]);
  });

  it("takes no body of a stranger, and no GET", async () => {
    const { secret } = await spent();
    expect((await askFor("km_key_unknown_unknown", { amount: 5, why: "please" })).status).toBe(401);
    const read = await fetch(`${running.url}/keymeter/ask`, { headers: { authorization: `Bearer ${secret}` } });
    expect(read.status).toBe(404);
    await read.text();
  });
});

describe("where the month lands", () => {
  it("is told once the collector has reckoned it", async () => {
    const { id, secret } = await running.createKey();
    await send(secret);
    const told = async (): Promise<unknown> => ((await me(secret)) as { landsAtUsd?: unknown }).landsAtUsd;
    expect(await told()).toBeUndefined();
    const billing = await openToWrite(running.place, "billing", "process");
    const { startMs: monthMs, endMs } = createCalendar("UTC").window("month", Date.now());
    // A dollar in each hour that is left, but for the one that runs.
    const startMs = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
    const hours = (endMs - startMs) / HOUR_MS - 1;
    const rest: Rest = {
      ...({ scope: "key", id, window: "month", method: "profile", startMs, endMs } as const),
      windowId: `month:${new Date(monthMs).toISOString().slice(0, 7)}`,
      madeAtMs: startMs,
      historyHours: 100,
      largestHourNanoUsd: 0n,
      p10NanoUsd: BigInt(hours) * 500_000_000n,
      p50NanoUsd: BigInt(hours) * 1_000_000_000n,
      p90NanoUsd: BigInt(hours) * 2_000_000_000n,
      hours: [0n, ...Array.from({ length: hours }, () => 1_000_000_000n)],
    };
    await replaceRests(billing, [rest]);
    await billing.close();
    await expect.poll(told).toEqual({
      low: (hours / 2 + 0.015).toFixed(9),
      middle: (hours + 0.015).toFixed(9),
      high: (2 * hours + 0.015).toFixed(9),
    });
  });
});

describe("the last sessions", () => {
  it("are those of the holder, with what each cost, and nobody else's", async () => {
    const anna = await running.createKey({ userName: "anna" });
    const annas = await running.createKey({ userName: "anna" });
    const bob = await running.createKey({ userName: "bob" });
    for (const { secret } of [anna, annas]) await send(secret, { "x-keymeter-session": "s-1" });
    await send(anna.secret, { "x-keymeter-session": "s-2" });
    await send(bob.secret, { "x-keymeter-session": "s-3" });
    const { sessions } = await me(anna.secret);
    expect(sessions).toMatchObject([
      { session: "s-2", requests: 1, costUsd: "0.015000000" },
      { session: "s-1", requests: 2, costUsd: "0.030000000" },
    ]);
    expect((await me(bob.secret)).sessions.length).toBe(1);
  });
});
