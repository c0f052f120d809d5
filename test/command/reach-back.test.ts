// `keymeter keys set KEY --team T --since DAY`, through a running proxy: what it shows before, what it does, that
// signed days stay, and that a cap holds by it.
import { join } from "node:path";
import Database from "better-sqlite3";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openForWriting } from "../../ledger/sqlite.ts";
import { addDays } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const USD = 1_000_000_000n;
const today = new Date().toISOString().slice(0, 10);
const [signed, open] = [addDays(today, -4), addDays(today, -2)];
const KEY = "fp_own";
let provider: FakeProvider;
let proxy: RunningProxy;

/** A provider key without a team spent 7 USD on a day that is signed by now, and 20 on one that is not. */
beforeAll(async () => {
  provider = await startFakeProvider(json(chatAnswer()));
  const dataDir = temporaryFolder();
  let clock = 0;
  const path = join(dataDir, "usage.db");
  const writer = await openWriter({ path, durability: "process", zone: "UTC", capMode: "enforce", now: () => clock });
  for (const [day, cost] of [
    [signed, 7n],
    [open, 20n],
  ] as const) {
    clock = Date.parse(`${day}T12:00:00Z`);
    await writer.settle(event(writer.nextAttemptId(), cost * USD, { keyId: KEY, team: "" }));
  }
  await writer.close();
  // As a proxy registers a provider key that it has seen.
  const usage = new Database(path);
  usage
    .prepare(
      "INSERT INTO keys (id, kind, provider, name, hint, created_at_ms, state) VALUES (?, 'fingerprint', 'openai', 'own', 'wn12', ?, 'active')",
    )
    .run(KEY, Date.parse(signed));
  usage.close();
  const billing = openForWriting(join(dataDir, "billing.db"), "billing", "process");
  billing
    .prepare(
      `INSERT INTO closed_days (provider, day, metered_nano_usd, billed_nano_usd, bill_digest, closed_at_ms, closed_by)
       VALUES ('openai', ?, ?, ?, 'd', ?, 'finance')`,
    )
    .run(signed, 7n * USD, 7n * USD, Date.parse(open));
  billing.close();
  proxy = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir });
});
afterAll(async () => {
  await proxy.stop();
  await provider.close();
});

const run = async (...args: string[]): Promise<{ code: number | null; text: string }> => runKeymeter(proxy, ...args);
const spentBy = async (): Promise<{ [team: string]: string }> => {
  const { text } = await run("spend", "--by", "team", "--since", signed, "--json");
  const { rows } = JSON.parse(text) as { rows: { team: string; costNanoUsd: string }[] };
  return Object.fromEntries(rows.map(({ team, costNanoUsd }) => [team, costNanoUsd]));
};

it("shows what moves and each budget's change, changes nothing; with --yes does it, and signed days stay", async () => {
  await run("budgets", "set", "--team", "search", "--amount", "15/total", "--hard");
  const asked = await run("keys", "set", KEY, "--team", "search", "--since", addDays(signed, -3));
  expect(asked.code, asked.text).toBe(0);
  expect(asked.text).toContain(
    `own (${KEY}) to team search from ${addDays(signed, -3)} 00:00 UTC on: 1 request, $20.00.`,
  );
  expect(asked.text).toContain(
    `Days that are signed off stay as they are, charged back by what the key belonged to then: ${signed} (UTC).`,
  );
  expect(asked.text).toMatch(/team search +total +\$15\.00 hard +\$0\.00 +\$20\.00 +-\$5\.00/);
  expect(asked.text).toContain("Nothing is changed yet. Say it again with --yes to do it.");
  expect(await spentBy()).toEqual({ "": String(27n * USD) });
  expect((await run("keys", "show", KEY)).text).toContain('"team": ""');

  const done = await run("keys", "set", KEY, "--team", "search", "--since", addDays(signed, -3), "--yes");
  expect(done.code, done.text).toBe(0);
  expect(await spentBy()).toEqual({ "": String(7n * USD), search: String(20n * USD) });
  expect((await run("keys", "show", KEY)).text).toContain('"team": "search"');
  const verified = await run("verify");
  expect(verified.code, verified.text).toBe(0);
  expect(verified.text).toContain("ok   whose spend is, is as the audit has it");
  // The proxy that runs holds the cap by it at once.
  const { secret } = await proxy.createKey({ name: "ci", team: "search" });
  const answer = await fetch(`${proxy.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 10, messages: [{ role: "user", content: "hi" }] }),
  });
  expect(answer.status).toBe(402);
  expect(await answer.text()).toContain("$0.00 left of $15.00");
});

it("says what it needs, and without --since that it counts from now on", async () => {
  const bad = await run("keys", "set", KEY, "--since", open);
  expect([bad.code, bad.text]).toEqual([2, expect.stringContaining("--since says from when a --team")]);
  const future = await run("keys", "set", KEY, "--team", "ads", "--since", "2099-01-01");
  expect([future.code, future.text]).toEqual([2, expect.stringContaining("lies in the future")]);
  expect((await run("keys", "set", KEY, "--team", "ads")).text).toContain("Counts from now on");
  expect(await spentBy()).toMatchObject({ search: String(20n * USD) });
  // Said afterwards it moves what the key's earlier teams have.
  expect((await run("keys", "set", KEY, "--team", "ads", "--since", open, "--yes")).text).toContain(
    "1 request, $20.00",
  );
  expect(await spentBy()).toEqual({ "": String(7n * USD), ads: String(20n * USD) });
  expect((await run("verify")).code).toBe(0);
});
