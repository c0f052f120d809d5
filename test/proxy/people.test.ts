// People: who is behind a request, by the key, by a header that the key may name people with, by the body; what budgets on a
// person hold; and what is left of a name that was taken away.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { KeyPolicy } from "../../ledger/usage/key-policy.ts";
import { MOST_NAMED, OTHERS, readPeople } from "../../ledger/usage/people.ts";
import { openUsage } from "../../ledger/open.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { createPeople } from "../../proxy/people.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

let provider: FakeProvider;
let running: RunningProxy;
beforeEach(async () => {
  provider = await startFakeProvider(
    json({
      id: "c",
      object: "chat.completion",
      model: "gpt-4o-mini",
      choices: [],
      usage: { prompt_tokens: 1_000_000, completion_tokens: 0, total_tokens: 1_000_000 },
    }),
  );
  running = await startProxy(provider.url);
});
afterEach(async () => {
  await running.stop();
  await provider.close();
});

async function ask(secret: string, headers: { [name: string]: string } = {}, more: object = {}): Promise<number> {
  const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [], ...more }),
  });
  await answer.text();
  return answer.status;
}

/** Names of those who were booked, in order. */
async function booked(): Promise<string[]> {
  return withBooks(async (books) => {
    const people = await readPeople(books);
    return (await running.events()).map(({ user }) => people.get(user) ?? user);
  });
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

describe("who is behind a request", () => {
  it("is whose the key is, whatever the request names", async () => {
    const { secret } = await running.createKey({ userName: "anna" });
    await ask(secret, { "x-keymeter-user": "bob" }, { user: "carol" });
    expect(await booked()).toEqual(["anna"]);
  });

  it.each<[string, KeyPolicy, { [name: string]: string }, object, string]>([
    ["our header", {}, { "x-keymeter-user": " Bob@Example.com " }, {}, "Bob@Example.com"],
    ["another gateway's header", {}, { "helicone-user-id": "bob" }, {}, "bob"],
    ["the body", {}, {}, { user: "bob" }, "bob"],
    [
      "the header that the key says",
      { users: "x-openwebui-user-email" },
      { "x-openwebui-user-email": "bob" },
      {},
      "bob",
    ],
    ["and no other", { users: "x-openwebui-user-email" }, { "x-keymeter-user": "eve" }, { user: "eve" }, ""],
    ["the body, where the key says so", { users: "body" }, { "x-keymeter-user": "eve" }, { user: "bob" }, "bob"],
    [
      "its own field alone: what else it holds may be another one's word",
      { users: "body" },
      {},
      { user: "bob", metadata: { user: "eve" } },
      "bob",
    ],
    ["nothing, where only another field says so", { users: "body" }, {}, { metadata: { user: "eve" } }, ""],
    ["a tag that is fixed for the key", { tags: { user: "robot" } }, { "x-keymeter-user": "eve" }, {}, "robot"],
  ])("is whom the request names, by %s", async (_by, policy, headers, more, name) => {
    const { secret } = await running.createKey({ policy });
    expect(await ask(secret, headers, more)).toBe(200);
    expect(await booked()).toEqual([name]);
    // No header of ours, and no name, reaches the provider.
    const [sent] = provider.journal;
    expect(Object.keys(sent?.headers ?? {}).filter((one) => one.startsWith("x-keymeter-"))).toEqual([]);
    for (const value of Object.values(headers)) expect(JSON.stringify(sent?.rawHeaders)).not.toContain(value);
    // A name stands in no event.
    const [event] = await running.events();
    expect(event?.user).toMatch(name === "" ? /^$/ : /^user_[0-9a-f]{16}$/);
    expect(event?.tags).toEqual({});
  });

  it.each([
    ["user_0a1b_account_11-22_session_33-44", "11-22"],
    ["user_0a1b_account__session_33-44", "0a1b"],
    ['{"device_id":"d1","account_uuid":"11-22","session_id":"s"}', "11-22"],
    ['{"device_id":"d1","account_uuid":"","session_id":"s"}', "d1"],
    ["somebody", "somebody"],
  ])("is the account, or the device, of Claude Code's user_id: %s", async (userId, name) => {
    const { secret } = await running.createKey();
    const answer = await fetch(`${running.url}/anthropic/v1/messages`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": secret, "anthropic-version": "2023-06-01" },
      body: JSON.stringify({
        model: "claude-haiku-4-5",
        max_tokens: 5,
        messages: [{ role: "user", content: "hi" }],
        metadata: { user_id: userId },
      }),
    });
    await answer.text();
    expect(await booked()).toEqual([name]);
  });

  it("is one person under all spellings, and through all proxies' restarts", async () => {
    const { secret } = await running.createKey();
    for (const name of ["Bob", "bob", " BOB "]) await ask(secret, { "x-keymeter-user": name });
    const dataDir = running.dataDir;
    await running.stop();
    running = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir });
    await ask(secret, { "x-keymeter-user": "bOb" });
    expect(new Set((await running.events()).map(({ user }) => user)).size).toBe(1);
    expect(await booked()).toEqual(["Bob", "Bob", "Bob", "Bob"]);
  });
});

describe("a budget of a person", () => {
  it("holds over all of his keys, and for nobody else", async () => {
    const first = await running.createKey({ userName: "anna" });
    const second = await running.createKey({ userName: "anna" });
    const other = await running.createKey({ userName: "bob" });
    const anna = await running.proxy.writer.personOf("anna");
    await running.setBudget({ scope: { user: anna }, amountNanoUsd: 150_000_000n });
    expect(await ask(first.secret)).toBe(200);
    expect(await ask(second.secret)).toBe(402);
    expect(await ask(other.secret)).toBe(200);
  });

  it("counts whom a request names where its key may name people, and else nobody's word", async () => {
    const app = await running.createKey({ policy: { users: "x-user" } });
    const plain = await running.createKey();
    const bob = await running.proxy.writer.personOf("bob");
    await running.setBudget({ scope: { user: bob }, amountNanoUsd: 150_000_000n });
    // It is told in reports, and uses up nothing of his.
    expect(await ask(plain.secret, { "x-keymeter-user": "bob" })).toBe(200);
    expect(await ask(plain.secret, { "x-keymeter-user": "bob" })).toBe(200);
    expect(await ask(app.secret, { "x-user": "bob" })).toBe(200);
    expect(await ask(app.secret, { "x-user": "bob" })).toBe(402);
    expect(await ask(app.secret, { "x-user": "carol" })).toBe(200);
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
  });
});

describe("a key that may name people no longer", () => {
  it("names nobody: it was believed before, and is not now", async () => {
    const { id, secret } = await running.createKey({ policy: { users: "x-user" } });
    await ask(secret, { "x-user": "bob" });
    await running.change({ type: "setPolicy", keyId: id, policy: {} });
    await ask(secret, { "x-keymeter-user": "bob" });
    expect(await booked()).toEqual(["bob", ""]);
  });
});

describe("a key that was somebody's", () => {
  it("uses up nothing of his by naming him, now that it is nobody's", async () => {
    const { id, secret } = await running.createKey({ userName: "anna" });
    const own = await running.createKey({ userName: "anna" });
    await running.change({ type: "describeKey", keyId: id, fields: { user: "" } });
    const anna = await running.proxy.writer.personOf("anna");
    await running.setBudget({ scope: { user: anna }, amountNanoUsd: 150_000_000n });
    for (let i = 0; i < 2; i++) expect(await ask(secret, { "x-keymeter-user": "anna" })).toBe(200);
    expect(await booked()).toEqual(["", ""]);
    expect(await ask(own.secret)).toBe(200);
  });
});

describe("a limit of a person", () => {
  /** A fleet's proxies hear within a second what a command changed. */
  const limitIsHeard = (): Promise<void> =>
    expect.poll(() => running.proxy.context.limiter.hasSome(), { timeout: 5_000 }).toBe(true);

  it("counts nobody's mere word", async () => {
    const own = await running.createKey({ userName: "anna" });
    const other = await running.createKey();
    expect(await runKeymeter(running, "limits", "set", "--user", "anna", "--rpm", "1")).toMatchObject({ code: 0 });
    await limitIsHeard();
    for (let i = 0; i < 3; i++) expect(await ask(other.secret, { "x-keymeter-user": "anna" })).toBe(200);
    expect(await ask(own.secret)).toBe(200);
    expect(await ask(own.secret)).toBe(429);
  });

  it("holds over all of his keys, and for whom requests name", async () => {
    const own = await running.createKey({ userName: "anna" });
    const app = await running.createKey({ policy: { users: "x-user" } });
    expect(await runKeymeter(running, "limits", "set", "--user", "anna", "--rpm", "2")).toMatchObject({ code: 0 });
    await limitIsHeard();
    expect((await runKeymeter(running, "limits", "list")).text).toContain("user anna");
    expect(await ask(own.secret)).toBe(200);
    expect(await ask(app.secret, { "x-user": "Anna" })).toBe(200);
    expect(await ask(app.secret, { "x-user": "anna" })).toBe(429);
    expect(await ask(own.secret)).toBe(429);
    expect(await ask(app.secret, { "x-user": "bob" })).toBe(200);
  });
});

describe("the command", () => {
  it("takes users by their names: budgets, a file of them, spend, events", async () => {
    const { secret } = await running.createKey({ userName: "anna" });
    await ask(secret);
    const run = async (...args: string[]): Promise<string> => {
      const { code, text } = await runKeymeter(running, ...args);
      expect(code, text).toBe(0);
      return text;
    };
    expect(await run("budgets", "set", "--user", "Anna", "--amount", "5/month", "--hard")).toContain("user anna");
    expect(await run("budgets", "list")).toContain("user anna");
    const file = writeSettings("budgets:\n  - { user: anna, amount: 7/month, hard: true }\n");
    expect(await run("apply", "-f", file, "--yes")).toContain("user anna");
    expect(await run("spend", "--by", "user,model")).toMatch(/anna +gpt-4o-mini/);
    expect(await run("spend", "--user", "anna", "--csv")).toContain("0.15");
    expect(await run("events", "--user", "anna")).toContain("gpt-4o-mini");
    expect(await run("users", "list")).toMatch(/anna +1 +\$0\.15/);
    const wrong = await runKeymeter(running, "budgets", "set", "--user", "ana", "--amount", "5/month");
    expect([wrong.code, wrong.text]).toEqual([2, expect.stringContaining("did you mean anna")]);
  });
});

describe("a name that was taken away", () => {
  it("is in no file; sums, events and the register are what they were", async () => {
    const name = "zebedee.quux@example.test";
    const { secret } = await running.createKey({ userName: name });
    const app = await running.createKey();
    await ask(secret);
    await ask(app.secret, { "x-keymeter-user": name });
    const spent = (): Promise<unknown> =>
      withBooks((books) => readSpend(books, ["user", "key"], "2020-01-01", "2100-01-01"));
    const [before, user] = [await spent(), (await running.events())[0]?.user];
    expect(await booked()).toEqual([name, name]);
    expect(await runKeymeter(running, "users", "forget", name, "--yes")).toMatchObject({ code: 0 });
    expect(await booked()).toEqual([user, user]);
    expect(await spent()).toEqual(before);
    await withBooks(async (books) => {
      expect(await readFoldDifferences(books)).toEqual([]);
      expect(await readRegisterDifferences(books)).toEqual([]);
    });
    // The name is another one's, if it comes again: other proxies hear of it within a second.
    await expect.poll(() => running.proxy.context.people.known(name), { timeout: 5_000 }).toBeUndefined();
    await ask(app.secret, { "x-keymeter-user": name });
    const again = (await running.events())[2]?.user;
    expect(again).not.toBe(user);
    expect(await runKeymeter(running, "users", "forget", String(again), "--yes")).toMatchObject({ code: 0 });
    if (running.place !== running.dataDir) return;
    const holders = (): string[] =>
      readdirSync(running.dataDir, { recursive: true, withFileTypes: true })
        .filter((one) => one.isFile())
        .map((one) => join(one.parentPath, one.name))
        .filter((file) => readFileSync(file).includes(name));
    await expect.poll(holders, { timeout: 10_000 }).toEqual([]);
  });
});

describe("a crowd of names", () => {
  it("is bounded: who comes after the last one that is named is one of the others, for all", async () => {
    const named = new Map<string, string>();
    const people = createPeople(async () => named, {
      async personOf(name) {
        const id = `user_${named.size + 1}`;
        named.set(id, name);
        return id;
      },
    });
    for (let i = 0; i < 30_000; i++) await people.idOf(`name ${i}`);
    expect(named.size).toBe(MOST_NAMED);
    expect(await people.idOf("name 29999")).toBe(OTHERS);
    expect(await people.idOf("name 3")).toBe("user_4");
  });

  it("that no provider has accepted names nobody", async () => {
    provider.script = json({ error: { message: "no" } }, 401);
    for (let i = 0; i < 20; i++) await ask(`sk-test-stranger-${i}-0123456789`, { "x-keymeter-user": `name ${i}` });
    expect(await withBooks(readPeople)).toEqual(new Map());
  });
});
