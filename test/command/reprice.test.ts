// Prices that are put right afterwards: adjustments, which count in every sum, and never an edit of an event.
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { openUsage } from "../../ledger/open.ts";
import { readSpend, readSpendByTag } from "../../ledger/usage/spend.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { addDays, createCalendar } from "../../ledger/windows.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));

it("an unpriced model gets its price, once, through the running proxy; budgets, sums, zones and verify follow", async () => {
  const provider = await startFakeProvider(
    json({
      id: "c",
      object: "chat.completion",
      model: "in-house-1",
      choices: [],
      usage: { prompt_tokens: 1_000, completion_tokens: 100, total_tokens: 1_100 },
    }),
  );
  const folder = temporaryFolder();
  const running = await startProxy(provider.url);
  const opsPort = new URL(running.opsUrl).port;
  const budget = await running.setBudget({ amountNanoUsd: 1_000_000_000n, kind: "soft" });
  await running.setBudget({ amountNanoUsd: 1_000_000_000n, kind: "soft", window: "hour" });
  for (let i = 0; i < 3; i++)
    await fetch(`${running.url}/openai/v1/chat/completions`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: "Bearer sk-test-reprice-key",
        "x-keymeter-feature": "a",
      },
      body: JSON.stringify({ model: "in-house-1", max_tokens: 100, messages: [] }),
    }).then((answer) => answer.text());

  const config = join(folder, "keymeter.yaml");
  const env = {
    PATH: process.env["PATH"] ?? "",
    KEYMETER_DATA_DIR: running.dataDir,
    KEYMETER_OPS_PORT: opsPort,
    KEYMETER_CONFIG: config,
  };
  const command = async (...args: string[]): Promise<string> => {
    // The proxy runs in this process: it must be able to answer meanwhile.
    const child = spawn(process.execPath, [START, ...args], { env });
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
    await new Promise((resolve) => child.once("exit", resolve));
    return text;
  };
  const reprice = async (...args: string[]): Promise<object> =>
    JSON.parse(await command("prices", "reprice", "--since", "today", "--json", ...args)) as object;
  const price = (input: string): void =>
    writeFileSync(
      config,
      `proxy: { prices: [{ provider: openai, model: in-house-1, usd_per_million: { input: "${input}", output: "10" } }] }\n`,
    );
  const spend = async (): Promise<[bigint | undefined, number | undefined]> => {
    const books = await openUsage(running.dataDir);
    if (!books) throw new Error("no books");
    const calendar = createCalendar("UTC");
    const today = calendar.day(Date.now());
    const [all] = await readSpend(books, [], today, addDays(today, 1));
    const [tagged] = await readSpendByTag(books, ["tag:feature"], calendar, today, addDays(today, 1));
    expect([tagged?.costNanoUsd, tagged?.unpriced]).toEqual([all?.costNanoUsd, all?.unpriced]);
    expect(await readFoldDifferences(books)).toEqual([]);
    await books.close();
    return [all?.costNanoUsd, all?.unpriced];
  };
  expect(await spend()).toEqual([0n, 3]);
  price("0");
  expect(JSON.parse(await command("prices", "check", "--json"))).toMatchObject([{ model: "in-house-1", unpriced: 3 }]);
  expect(JSON.parse(await command("spend", "--by", "tag:feature", "--json"))).toMatchObject({
    rows: [{ "tag:feature": "a", requests: 3 }],
  });
  expect(await command("work", "list")).toContain("(none)");

  price("2");
  // 1,000 at 2 and 100 at 10 USD a million, three times.
  expect(await reprice("--dry-run")).toMatchObject({ events: 3, adjustments: 3, sumNanoUsd: "9000000" });
  expect(await spend()).toEqual([0n, 3]);
  expect(await reprice()).toMatchObject({ adjustments: 3 });
  expect(await reprice()).toMatchObject({ adjustments: 0 });
  expect(await spend()).toEqual([9_000_000n, 0]);
  expect(await command("prices", "check")).toContain("Everything metered since 30d has a price of its own");
  const states = await running.proxy.writer.states();
  expect(states.map(({ settledNanoUsd }) => settledNanoUsd)).toEqual([9_000_000n, 9_000_000n]);
  expect(states.map(({ budget: { id } }) => id)).toContain(budget.id);
  expect(await running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });

  price("1");
  expect(await reprice()).toMatchObject({ adjustments: 3, sumNanoUsd: "-3000000" });
  // There and back again, as often as it takes.
  for (const [input, sum] of [
    ["2", "3000000"],
    ["1", "-3000000"],
    ["2", "3000000"],
  ] as const) {
    price(input);
    expect(await reprice()).toMatchObject({ adjustments: 3, sumNanoUsd: sum });
  }
  expect(await spend()).toEqual([9_000_000n, 0]);
  // The events are as they were.
  expect((await running.events()).map(({ costNanoUsd }) => costNanoUsd)).toEqual([null, null, null]);

  await running.stop();
  const again = await startProxy(provider.url, {
    KEYMETER_DATA_DIR: running.dataDir,
    KEYMETER_TIMEZONE: "Asia/Kathmandu",
  });
  const books = await openUsage(running.dataDir);
  expect((books && (await readSpend(books, [], "0000-01-01", "9999-12-31")))?.[0]?.costNanoUsd).toBe(9_000_000n);
  expect(books && (await readFoldDifferences(books))).toEqual([]);
  await books?.close();
  await again.stop();
  const verified = spawnSync(process.execPath, [START, "verify"], { env, encoding: "utf8" });
  expect([verified.status, verified.stdout]).toEqual([0, expect.not.stringContaining("BAD")]);
  await provider.close();
});
