// Caps of each: one rule, a cap for every user, key or value of a tag, made when it is first seen.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Budget } from "../../ledger/budgets.ts";
import type { KeyPolicy } from "../../ledger/usage/key-policy.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { IS_CI } from "../seed.ts";
import { startProxy, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

/** gpt-4o-mini: 100,000 in at 0.15 USD per million. */
const COST = 15_000_000n;
const INPUT = "x ".repeat(100);
const MEMBERS = IS_CI ? 500 : 25;
const PARALLEL = IS_CI ? 2_000 : 150;

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

type Said = { readonly status: number; readonly text: string; readonly budget: string | null };
async function say(secret: string, headers: { [name: string]: string } = {}): Promise<Said> {
  const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: INPUT }] }),
  });
  const text = await answer.text();
  return { status: answer.status, text, budget: answer.headers.get("x-keymeter-budget-id") };
}

async function ask(secret: string, headers?: { [name: string]: string }): Promise<number> {
  return (await say(secret, headers)).status;
}

/** What the first request costs is all that each has. */
function rule(more: Partial<Budget>): Promise<Budget> {
  return running.setBudget({ amountNanoUsd: COST, ...more });
}

async function restart(environment: { [name: string]: string } = {}): Promise<void> {
  const { dataDir } = running;
  await running.stop();
  running = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir, ...environment });
}

async function holdsInBooks(): Promise<void> {
  expect((await running.proxy.writer.verify()).differences).toEqual([]);
}

async function run(...args: string[]): Promise<string> {
  const { code, text } = await runKeymeter(running, ...args);
  expect(code, text).toBe(0);
  return text;
}

describe("a cap of each user", () => {
  it("holds for each over all of his keys, through a restart, and says whose it is", async () => {
    const [anna, annas, bob] = [
      await running.createKey({ userName: "anna" }),
      await running.createKey({ userName: "anna" }),
      await running.createKey({ userName: "bob" }),
    ];
    const nobody = await running.createKey();
    const elsewhere = await running.createKey({ userName: "carol", team: "ads" });
    const { id } = await rule({ each: "user", scope: { team: "search" } });
    expect(await ask(anna.secret)).toBe(200);
    const { status, text, budget } = await say(annas.secret);
    expect(status).toBe(402);
    expect(text).toContain("user anna");
    expect(budget).toMatch(new RegExp(`^${id}/user_`));
    expect(await ask(bob.secret)).toBe(200);
    await restart();
    for (const { secret } of [anna, annas, bob]) expect(await ask(secret)).toBe(402);
    for (const { secret } of [nobody, nobody, elsewhere, elsewhere]) expect(await ask(secret)).toBe(200);
    await holdsInBooks();
  });

  it("counts whom requests name where their key may name people, and nobody's mere word", async () => {
    const app = await running.createKey({ policy: { users: "x-user" } });
    const plain = await running.createKey();
    await rule({ each: "user" });
    for (let i = 0; i < 2; i++) expect(await ask(plain.secret, { "x-keymeter-user": "bob" })).toBe(200);
    expect(await ask(app.secret, { "x-user": "bob" })).toBe(200);
    expect(await ask(app.secret, { "x-user": "Bob" })).toBe(402);
    expect(await ask(app.secret, { "x-user": "carol" })).toBe(200);
    await restart();
    expect(await ask(app.secret, { "x-user": "carol" })).toBe(402);
    await holdsInBooks();
  });

  it("can be raised for one, and gives way to a budget of his own", async () => {
    const [anna, bob] = [await running.createKey({ userName: "anna" }), await running.createKey({ userName: "bob" })];
    await rule({ id: "rule", each: "user" });
    for (const { secret } of [anna, bob]) expect([await ask(secret), await ask(secret)]).toEqual([200, 402]);
    const more = ["--by", "0.015", "--until", "2099-01-01", "--why", "a trial"];
    expect(await run("budgets", "raise", "rule", "--member", "anna", ...more)).toContain("user anna");
    await expect.poll(() => ask(anna.secret), { timeout: 5_000, interval: 100 }).toBe(200);
    expect([await ask(anna.secret), await ask(bob.secret)]).toEqual([402, 402]);
    const own = await run("budgets", "set", "--user", "bob", "--amount", "0.045/month", "--hard", "--json");
    await expect.poll(() => ask(bob.secret), { timeout: 5_000, interval: 100 }).toBe(200);
    expect([await ask(bob.secret), await ask(bob.secret)]).toEqual([200, 402]);
    const vain = await runKeymeter(running, "budgets", "raise", "rule", "--member", "bob", ...more);
    expect([vain.code === 0, vain.text]).toEqual([false, expect.stringContaining("raise that one")]);
    await holdsInBooks();
    // What he spent under his own counts in the rule's cap again.
    await run("budgets", "remove", (JSON.parse(own.split("\n")[0] ?? "") as { id: string }).id);
    await expect.poll(async () => (await say(bob.secret)).budget, { timeout: 5_000 }).toMatch(/^rule\//);
    await holdsInBooks();
    await restart();
    expect([await ask(anna.secret), await ask(bob.secret)]).toEqual([402, 402]);
    await holdsInBooks();
  });

  it("is one line with its members, for who runs it and for whom it holds", async () => {
    const [anna, bob] = [await running.createKey({ userName: "anna" }), await running.createKey({ userName: "bob" })];
    const set = ["--each", "user", "--team", "search", "--amount", "0.03/month", "--hard"];
    expect(await run("budgets", "set", ...set)).toContain("each user of team search");
    const { id } = JSON.parse(await run("budgets", "list", "--json"))[0] as { id: string };
    await expect.poll(async () => (await run("budgets", "list")).includes(id), { timeout: 5_000 }).toBe(true);
    await expect
      .poll(async () => ((await ask(anna.secret)) === 402 ? 402 : 200), { timeout: 10_000, interval: 20 })
      .toBe(402);
    expect(await ask(bob.secret)).toBe(200);
    expect(await run("budgets", "list")).toMatch(/each user of team search: anna has used most, of 2/);
    const members = await run("budgets", "list", "--members", id);
    expect(members).toMatch(/user anna/);
    expect(members).toMatch(/user bob/);
    const me = await fetch(`${running.url}/keymeter/me`, { headers: { authorization: `Bearer ${bob.secret}` } });
    const { budgets } = (await me.json()) as { budgets: { scope: string; leftUsd: string }[] };
    expect(budgets).toMatchObject([{ scope: "team search, user bob", leftUsd: "0.015000000" }]);
    expect(budgets.length).toBe(1);
    const file = writeSettings("budgets:\n  - { team: search, each: user, amount: 0.06/month, hard: true }\n");
    expect(await run("apply", "-f", file, "--yes")).toContain("each user of team search");
    expect(await run("apply", "-f", file, "--dry-run")).toContain("nothing differs");
  });

  it(`lets none of ${MEMBERS} pass it, ${PARALLEL} at once`, async () => {
    provider.script = json(chatAnswer(50, 5, "gpt-4o-mini"));
    const app = await running.createKey({ policy: { users: "x-user" } });
    const amountNanoUsd = 130_000n;
    await running.setBudget({ each: "user", amountNanoUsd, mode: "strict" });
    const names = Array.from({ length: MEMBERS }, (_, i) => `member ${i}`);
    const crowd = Array.from({ length: PARALLEL }, (_, i) => names[i % MEMBERS] ?? "");
    const eager = Array.from({ length: PARALLEL / 5 }, () => "member 0");
    const statuses = await Promise.all([...crowd, ...eager].map((name) => ask(app.secret, { "x-user": name })));
    expect(new Set(statuses)).toEqual(new Set([200, 402]));
    const spent = new Map<string, bigint>();
    // Where the books are slow, an answer waits for its event five seconds at most.
    await expect
      .poll(
        async () => {
          spent.clear();
          for (const { user, costNanoUsd } of await running.events())
            spent.set(user, (spent.get(user) ?? 0n) + BigInt(costNanoUsd ?? 0));
          return spent.size;
        },
        { timeout: 20_000 },
      )
      .toBe(MEMBERS);
    for (const [user, sum] of spent) {
      expect(sum, user).toBeGreaterThan(0n);
      expect(sum, user).toBeLessThanOrEqual(amountNanoUsd);
    }
    await holdsInBooks();
  });
});

describe("a cap of each key", () => {
  it("holds for every key, also for one that is made later", async () => {
    const first = await running.createKey();
    await rule({ each: "key", mode: "expected" });
    expect([await ask(first.secret), await ask(first.secret)]).toEqual([200, 402]);
    const later = await running.createKey();
    expect([await ask(later.secret), await ask(later.secret)]).toEqual([200, 402]);
    await holdsInBooks();
  });
});

describe("a cap on a tag's value, and of each", () => {
  const tagged = (policy: KeyPolicy): Promise<{ id: string; secret: string }> => running.createKey({ policy });

  it("counts what all requests of a key carry, and what one names by itself only where that counts", async () => {
    const [acme, globex, plain] = [
      await tagged({ tags: { customer: "acme" } }),
      await tagged({ tags: { customer: "globex / 1" } }),
      await tagged({}),
    ];
    await rule({ each: "tag:customer" });
    for (let i = 0; i < 2; i++) expect(await ask(plain.secret, { "x-keymeter-customer": "acme" })).toBe(200);
    for (const { secret } of [acme, globex]) expect([await ask(secret), await ask(secret)]).toEqual([200, 402]);
    await restart();
    for (const { secret } of [acme, globex]) expect(await ask(secret)).toBe(402);
    await holdsInBooks();
  });

  it("counts what requests name where tags count in budgets", async () => {
    await running.stop();
    running = await startProxy(provider.url, { KEYMETER_TAGS_IN_BUDGETS: "on" });
    const { secret } = await running.createKey();
    await rule({ each: "tag:customer" });
    for (const customer of ["acme", "initech"]) {
      expect(await ask(secret, { "x-keymeter-customer": customer })).toBe(200);
      expect(await ask(secret, { "x-keymeter-customer": customer })).toBe(402);
    }
    expect([await ask(secret), await ask(secret)]).toEqual([200, 200]);
    await holdsInBooks();
  });

  it("holds for one value beside others", async () => {
    const [acme, other] = [await tagged({ tags: { customer: "acme" } }), await tagged({ tags: { customer: "b" } })];
    expect(await run("budgets", "set", "--tag", "customer=acme", "--amount", "0.015/month", "--hard")).toContain(
      "tag customer=acme",
    );
    await expect
      .poll(async () => ((await ask(acme.secret)) === 402 ? 402 : 200), { timeout: 10_000, interval: 50 })
      .toBe(402);
    expect([await ask(other.secret), await ask(other.secret)]).toEqual([200, 200]);
    expect(await run("budgets", "list")).toContain("customer=acme");
    await holdsInBooks();
  });
});

describe("odd values of a tag", () => {
  it("are values like any other: a star, a slash, half a character, very long ones", async () => {
    await running.stop();
    running = await startProxy(provider.url, { KEYMETER_TAGS_IN_BUDGETS: "on" });
    const { secret } = await running.createKey();
    // Half a character is in the books before the rule is there.
    const half = { "x-keymeter-tags": JSON.stringify({ customer: "a\ud83d", note: "\udc00" }) };
    expect(await ask(secret, half)).toBe(200);
    await rule({ id: "rule", each: "tag:customer" });
    await running.setBudget({ id: "plain", scope: { project: "none" }, amountNanoUsd: 1n });
    for (const value of ["*", "a/b%20c", "%", "..", "界".repeat(80)]) {
      const ascii = JSON.stringify({ customer: value }).replace(
        /[^\x20-\x7e]/g,
        (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
      );
      const tagged = { "x-keymeter-tags": ascii };
      expect(await ask(secret, tagged), value).toBe(200);
      expect(await ask(secret, tagged), value).toBe(402);
    }
    expect(await ask(secret, half)).toBe(402);
    // A budget of its own takes the star's place, too.
    await running.setBudget({ id: "star", scope: { tag: "customer=*" }, amountNanoUsd: 2n * COST });
    const star = { "x-keymeter-tags": JSON.stringify({ customer: "*" }) };
    expect([await ask(secret, star), await ask(secret, star)]).toEqual([200, 402]);
    await holdsInBooks();
    await restart({ KEYMETER_TAGS_IN_BUDGETS: "on" });
    expect(await ask(secret, star)).toBe(402);
    await holdsInBooks();
    const me = await fetch(`${running.url}/keymeter/me`, { headers: { authorization: `Bearer ${secret}` } });
    expect([me.status, await me.text()]).toEqual([200, expect.stringContaining("spent")]);
  });
});

describe("a path that nobody meters", () => {
  it.each(["key", "user", "tag:customer"] as const)("passes nothing under a hard cap of each %s", async (each) => {
    const own = "sk-test-of-a-client-itself-0123456789";
    expect(await ask(own)).toBe(200);
    const post = async (): Promise<number> => {
      const answer = await fetch(`${running.url}/openai/v1/unknown/thing`, {
        method: "POST",
        headers: { authorization: `Bearer ${own}`, "content-type": "application/json" },
        body: "{}",
      });
      await answer.text();
      return answer.status;
    };
    expect(await post()).toBe(200);
    await rule({ each });
    expect(await post()).toBe(404);
  });
});

describe("what makes no sense", () => {
  it.each([
    [["--each", "team"], "write user, key, or a tag's name"],
    [["--each", "user", "--user", "anna"], "leave one of the two out"],
    [["--tag", "acme"], "is no tag"],
    [["--each", "tag:user"], "write --each user"],
  ])("is said: %j", async (args, why) => {
    await running.createKey({ userName: "anna" });
    const { code, text } = await runKeymeter(running, "budgets", "set", "--amount", "5/month", ...args);
    expect([code === 0, text]).toEqual([false, expect.stringContaining(why)]);
  });
});
