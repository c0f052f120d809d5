// Promises that no other file tests by name: what is held before a byte goes, what binds at once, who may change
// things, and that no secret is ever written anywhere.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import Database from "better-sqlite3";
import { chatAnswer, json } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { withProxy } from "../with-proxy.ts";

const CREDENTIAL = "sk-proj-provider-credential-openai";
const OWN_KEY = "sk-test-own-key-that-nobody-may-see";

const bench = withProxy(json(chatAnswer()), { KEYMETER_PASS_THROUGH: "on" });

function ask(secret: string, more: object = {}, path = "/openai/v1/chat/completions"): Promise<Response> {
  return fetch(`${bench.running.url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 9, messages: [], ...more }),
  });
}

it("when the first byte arrives at the provider, its reservation is in the books for everybody to read", async () => {
  const { id, secret } = await bench.running.createKey();
  const seen: unknown[] = [];
  const answer = bench.provider.script;
  bench.provider.script = async (arrived, response, request) => {
    const books = new Database(join(bench.running.dataDir, "usage.db"), { readonly: true });
    seen.push(books.prepare("SELECT key_id, expected_nano_usd > 0 AS held FROM reservations").get());
    books.close();
    await answer(arrived, response, request);
  };
  expect((await ask(secret)).status).toBe(200);
  bench.provider.script = answer;
  expect(seen).toEqual([{ key_id: id, held: 1 }]);
});

describe("a change binds the next request:", () => {
  it("a revoked key, a paused one, one that is resumed", async () => {
    const { id, secret } = await bench.running.createKey();
    const states: number[] = [];
    for (const state of ["paused", "active", "revoked"] as const) {
      expect(await bench.running.change({ type: "setKeyState", keyId: id, state })).toBe(200);
      states.push((await ask(secret)).status);
    }
    expect(states).toEqual([403, 200, 401]);
  });

  it("a cap that is lowered, and one that is raised again", async () => {
    const { id, secret } = await bench.running.createKey();
    const states: number[] = [];
    for (const amountNanoUsd of [10n ** 12n, 1n, 10n ** 12n]) {
      await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd });
      states.push((await ask(secret)).status);
    }
    expect(states).toEqual([200, 402, 200]);
  });
});

describe("the admin API", () => {
  const change = (url: string, token?: string): Promise<Response> =>
    fetch(`${url}/admin/changes`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify({ type: "setLimits", limits: { scope: "org", requestsPerMinute: 1 } }),
    });

  it("is not on the public port, and nowhere without the token", async () => {
    expect((await change(bench.running.url, bench.running.adminToken)).status).toBe(404);
    const answers = await Promise.all(
      [undefined, "", "x", bench.running.adminToken.slice(1), `${bench.running.adminToken}x`].map((token) =>
        change(bench.running.opsUrl, token),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual([401, 401, 401, 401, 401]);
    expect((await ask((await bench.running.createKey()).secret)).status).toBe(200);
  });

  it("answers guesses one after the other, slowly, and the right token meanwhile", async () => {
    const startedMs = Date.now();
    const guesses = Array.from({ length: 8 }, (_, i) =>
      change(bench.running.opsUrl, `guess ${i}`).then(() => Date.now() - startedMs),
    );
    const budgets = await fetch(`${bench.running.opsUrl}/admin/budgets`, {
      headers: { authorization: `Bearer ${bench.running.adminToken}` },
    });
    const rightMs = Date.now() - startedMs;
    const times = (await Promise.all(guesses)).toSorted((a, b) => a - b);
    expect(budgets.status).toBe(200);
    expect(rightMs).toBeLessThan(times.at(-1) ?? 0);
    // A quarter of a second each, whoever else guesses.
    expect(times.at(-1)).toBeGreaterThanOrEqual(8 * 250 - 20);
  });
});

it("counters are what was booked since the start, model by model", async () => {
  const { secret } = await bench.running.createKey();
  for (let i = 0; i < 5; i++) await (await ask(secret, { model: i % 2 === 0 ? "gpt-4o-mini" : "gpt-4o" })).text();
  const metrics = await (await fetch(`${bench.running.opsUrl}/metrics`)).text();
  const counted = [...metrics.matchAll(/^keymeter_cost_usd_total\{.*\} (\S+)$/gm)].reduce(
    (sum, [, value]) => sum + Number(value),
    0,
  );
  const booked =
    (await bench.running.events()).reduce((sum, { costNanoUsd }) => sum + Number(costNanoUsd ?? 0), 0) / 1e9;
  expect(counted).toBeGreaterThan(0);
  expect(counted).toBeCloseTo(booked, 9);
  const requests = [...metrics.matchAll(/^keymeter_requests_total\{.*\} (\d+)$/gm)].reduce(
    (sum, [, value]) => sum + Number(value),
    0,
  );
  expect(requests).toBe((await bench.running.events()).length);
});

it("no secret is written anywhere: not into the books, metrics, answers or what the command prints", async () => {
  const { id, secret } = await bench.running.createKey({ name: "canary" });
  const answers: Response[] = [
    await ask(secret),
    await ask(OWN_KEY),
    await ask(`${secret}x`),
    await ask(secret, {}, "/openai/v1/unknown"),
  ];
  await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 0n });
  answers.push(await ask(secret), await fetch(`${bench.running.url}/openai/v1/models?key=${OWN_KEY}2`));
  bench.provider.script = json({ error: { message: "no" } }, 401);
  answers.push(await ask(OWN_KEY));
  bench.provider.script = json(chatAnswer());
  const texts = await Promise.all(
    answers.map(async (answer) => JSON.stringify([...answer.headers]) + (await answer.text())),
  );
  texts.push(await (await fetch(`${bench.running.opsUrl}/metrics`)).text());
  for (const args of [["keys", "list", "--json"], ["keys", "show", "canary"], ["events", "--json"], ["verify"]])
    texts.push((await runKeymeter(bench.running, ...args)).text);
  // Where the token and the pepper are kept is where they belong.
  for (const file of readdirSync(bench.running.dataDir).filter((name) => name.startsWith("usage.db")))
    texts.push(readFileSync(join(bench.running.dataDir, file), "latin1"));
  const pepper = readFileSync(join(bench.running.dataDir, "pepper"), "utf8").trim();
  const secretPart = secret.split("_").at(-1) ?? "";
  expect(secretPart.length).toBeGreaterThan(20);
  for (const one of [secretPart, CREDENTIAL, OWN_KEY, bench.running.adminToken, pepper])
    for (const form of [one, Buffer.from(one).toString("base64").replace(/=+$/, ""), Buffer.from(one).toString("hex")])
      expect(
        texts.findIndex((text) => text.includes(form)),
        one.slice(0, 8),
      ).toBe(-1);
});
