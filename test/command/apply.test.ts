// Budgets from a file, raises and thresholds by the command, through the running proxy.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readBudgets } from "../../ledger/usage/changes.ts";
import type { Budget } from "../../ledger/budgets.ts";
import { openUsage } from "../../ledger/open.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { IS_CI } from "../seed.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(json(chatAnswer()), { KEYMETER_DURABILITY: "process" });

const keymeter = (...args: string[]): ReturnType<typeof runKeymeter> => runKeymeter(bench.running, ...args);

async function budgets(): Promise<Budget[]> {
  const books = await openUsage(bench.running.dataDir);
  if (!books) throw new Error("no books");
  const found = await readBudgets(books);
  await books.close();
  return found;
}

function write(text: string): string {
  const path = join(bench.running.dataDir, "budgets.yaml");
  writeFileSync(path, text);
  return path;
}

const ask = (secret: string): Promise<Response> =>
  fetch(`${bench.running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 9, messages: [] }),
  });

/** Files that make no sense, and what is said of each. */
const WRONG = [
  ["budgets: [{ team: x, amount: 5 }]", 'budgets[0]: "5" is no budget'],
  ["budgets: [{ team: x, amount: 5/month, hrad: true }]", "budgets[0]: Unrecognized key"],
  ["budgets: [{ key: nobody, amount: 5/month }]", "budgets[0]: there is no key nobody"],
  ["budgets: [{ provider: opnai, amount: 5/month }]", "nothing is booked under the provider"],
  [
    "budgets: [{ amount: 5/month }, { amount: 6/month }]",
    "budgets[1]: budgets[0] is for the organisation and a month too",
  ],
  ["budgets: [{ amount: 5/month, thresholds: [0] }]", "no shares in percent"],
  ["limits: [{ team: x }]", "team:x has no limit"],
  ["limits: [{ rpm: 0 }]", "limits[0].rpm"],
  ["limits: [{ rpm: 5 }, { tpm: 5 }]", "limits[1]: org has limits above already"],
  ["budgets: {", "cannot be read"],
] as const;

describe("keymeter apply", () => {
  it("shows the difference, changes nothing unasked, then makes it so in one transaction, and once", async () => {
    const { id, secret } = await bench.running.createKey({ name: "ci" });
    await keymeter("budgets", "set", "--amount", "1/day", "--team", "old");
    await keymeter("limits", "set", "--team", "old", "--rpm", "5");
    const path = write(`
budgets:
  - amount: 5000/month
  - { key: ci, amount: 0/day, hard: true, thresholds: [50, 90] }
limits:
  - { key: ci, rpm: 600, body_mb: 2 }
`);
    const shown = await keymeter("apply", "-f", path);
    expect(shown.code).toBe(1);
    expect(shown.text.split("\n").slice(0, 5)).toEqual([
      "+ budget for the organisation: $5,000.00 a month, soft",
      `+ budget for key ci (${id}): $0.00 a day, hard, expected, told at 50, 90 %`,
      "- budget for team old: $1.00 a day, soft",
      `+ limits of key ci (${id}): 600 requests a minute, bodies of 2097152 bytes`,
      "- limits of team:old: 5 requests a minute",
    ]);
    expect((await ask(secret)).status).toBe(200);
    expect((await keymeter("apply", "-f", path, "--dry-run")).code).toBe(0);
    expect((await budgets()).map(({ scope }) => scope)).toEqual([{ team: "old" }]);

    expect((await keymeter("apply", "-f", path, "--yes")).text).toContain("5 changes made");
    expect((await ask(secret)).status).toBe(402);
    expect(await keymeter("apply", "-f", path, "--yes")).toEqual({ code: 0, text: "nothing differs\n" });
    const changed = await keymeter("apply", "-f", write("budgets: [{ key: ci, amount: 1/day, hard: true }]"), "--yes");
    expect(changed.text).toContain("hard, expected, told at 50, 90 % -> $1.00 a day, hard, expected");
    expect((await ask(secret)).status).toBe(200);
    // A section that the file leaves out is left alone.
    expect((await keymeter("limits", "list")).text).toContain(`key ci (${id})`);
    expect((await keymeter("verify")).code).toBe(0);
  });

  it.each(IS_CI ? WRONG : WRONG.slice(0, 3))("refuses %s as a whole, and says where", async (text, problem) => {
    const before = await budgets();
    const answer = await keymeter("apply", "-f", write(text), "--yes");
    expect(answer.code).toBe(2);
    expect(answer.text).toContain(problem);
    expect(await budgets()).toEqual(before);
  });
});

describe("a raise", () => {
  it("is money until it is ended; /keymeter/me and refusals count it; it stays when the budget is set anew", async () => {
    const { id, secret } = await bench.running.createKey({ name: "raised" });
    const budget = await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 0n });
    expect((await ask(secret)).status).toBe(402);
    for (const wrong of [
      ["--by", "0", "--until", "2099-01-01", "--why", "x"],
      ["--by", "5", "--until", "2020-01-01", "--why", "x"],
      ["--by", "5", "--until", "soon", "--why", "x"],
      ["--by", "5", "--until", "2099-02-31", "--why", "x"],
      ["--by", "5", "--until", "2099-01-01"],
    ])
      expect((await keymeter("budgets", "raise", budget.id, ...wrong)).code, wrong.join(" ")).toBe(2);
    const made = await keymeter("budgets", "raise", budget.id, "--by", "1", "--until", "2099-01-01", "--why", "launch");
    const raiseId = /rai_[0-9a-f]+/.exec(made.text)?.[0] ?? "";
    expect((await ask(secret)).status).toBe(200);
    const me = (await (
      await fetch(`${bench.running.url}/keymeter/me`, { headers: { authorization: `Bearer ${secret}` } })
    ).json()) as { budgets: { id: string; amountUsd: string }[] };
    expect(me.budgets.find((one) => one.id === budget.id)?.amountUsd).toBe("1.000000000");
    expect((await keymeter("budgets", "list")).text).toContain(
      `RAISED ${raiseId}: ${budget.id} by $1.00 until 2099-01-01T00:00Z (launch)`,
    );
    const anew = await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 1n });
    expect((await ask(secret)).status).toBe(200);
    expect((await budgets()).find((one) => one.id === anew.id)?.raises).toMatchObject([
      { id: raiseId, reason: "launch" },
    ]);
    expect((await keymeter("budgets", "unraise", raiseId)).code).toBe(0);
    expect((await ask(secret)).status).toBe(402);
    expect((await keymeter("budgets", "unraise", raiseId)).code).toBe(1);
    expect((await keymeter("verify")).text).toContain("ok   keys, budgets and limits are what the audit says");
  });
});

it("verify takes back the head that it said", async () => {
  const head = /head (\S+)/.exec((await keymeter("verify")).text)?.[1] ?? "";
  expect((await keymeter("verify", "--head", head)).code).toBe(0);
  const other = `${head.split(":")[0]}:${"0".repeat(64)}`;
  const found = await keymeter("verify", "--head", other);
  expect([found.code, found.text]).toEqual([1, expect.stringContaining("written anew")]);
  expect((await keymeter("verify", "--head", "nonsense")).code).toBe(2);
});
