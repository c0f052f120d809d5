// Names from strangers: each request names a user and a customer that nobody has seen, under a cap of each. What is kept
// of them is bounded: names, caps, labels, memory. `npm run proof` goes beyond the bounds; here they are not reached.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { MOST_MEMBERS } from "../../ledger/budgets.ts";
import { valueOf } from "../../ledger/engine.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { MOST_NAMED, OTHERS } from "../../ledger/usage/people.ts";
import { METRICS_SETTINGS } from "../collector/metrics-settings.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { countOf, IS_PROOF } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const NAMES = countOf(200, 2_000, 100_000);
const AT_ONCE = 32;
/** Series that a rule may have in one metric: its own, its members nearest to their end, a threshold's lines of each. */
const MOST_SERIES = 200;
const MIB = 1024 * 1024;

describe(`${NAMES} names`, () => {
  let provider: FakeProvider;
  let running: RunningProxy;
  const statuses = new Map<number, number>();
  const memory: { readonly names: number; readonly heap: number }[] = [];

  beforeAll(async () => {
    provider = await startFakeProvider(json(chatAnswer()));
    // Tags of requests count in budgets; a user does by the key's word.
    running = await startProxy(provider.url, { KEYMETER_TAGS_IN_BUDGETS: "on" });
    await running.setBudget({ id: "bud_users", each: "user", amountNanoUsd: 1_000_000_000_000n });
    await running.setBudget({ id: "bud_customers", each: "tag:customer", amountNanoUsd: 1_000_000_000_000n });
    const { secret } = await running.createKey({ policy: { users: "x-user" } });
    let named = 0;
    const ask = async (): Promise<void> => {
      while (named < NAMES) {
        const name = `stranger ${(named += 1)}`;
        const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
          method: "POST",
          headers: {
            "content-type": "application/json",
            authorization: `Bearer ${secret}`,
            "x-user": name,
            "x-keymeter-tags": JSON.stringify({ customer: name }),
          },
          body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
        });
        await answer.text();
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
        // What arrived is no memory of the proxy's.
        (provider.journal as unknown[]).length = 0;
        if (named % (NAMES / 10) === 0) memory.push({ names: named, heap: process.memoryUsage().heapUsed });
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, ask));
  }, 1_200_000);
  afterAll(async () => {
    await running.stop();
    await provider.close();
  });

  it("are all served and booked, each under caps", async () => {
    expect([...statuses]).toEqual([[200, NAMES]]);
    const books = await openUsage(running.place);
    if (!books) throw new Error("no books");
    const count = async (query: string, ...values: string[]): Promise<number> =>
      Number(await valueOf(books, query, ...values));
    expect(await count("SELECT COUNT(*) FROM events")).toBe(NAMES);
    const kept = Math.min(NAMES, MOST_NAMED);
    expect(await count("SELECT COUNT(*) FROM people WHERE name LIKE 'stranger %'")).toBe(kept);
    expect(await count("SELECT COUNT(*) FROM events WHERE person = ?", OTHERS)).toBe(NAMES - kept);
    // Sums of a day are by user, thus bounded with them.
    expect(await count("SELECT COUNT(*) FROM rollup_day")).toBeLessThanOrEqual(2 * (kept + 1));
    await books.close();
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
  }, 600_000);

  it("make few labels", async () => {
    const usage = await openUsage(running.place);
    if (!usage) throw new Error("no books");
    const billing = await openToWrite(running.place, "billing", "process");
    const { registry, refresh } = createCollectorMetrics({ usage, billing }, METRICS_SETTINGS);
    await refresh(Date.now());
    const shown = `${await registry.metrics()}\n${await (await fetch(`${running.opsUrl}/metrics`)).text()}`;
    await usage.close();
    await billing.close();
    const series = Map.groupBy(
      shown.split("\n").filter((line) => line !== "" && !line.startsWith("#")),
      (line) => line.split(/[{ ]/, 1)[0],
    );
    for (const [name, lines] of series) expect(lines.length, name).toBeLessThanOrEqual(MOST_SERIES);
    expect(shown).not.toContain("stranger 1");
    const members = shown.split("\n").filter((line) => /^keymeter_budget_members\{.*used="any"/.test(line));
    expect(members.map((line) => Number(line.split(" ").at(-1)))).toEqual(
      Array.from({ length: 2 }, () => Math.min(NAMES, MOST_MEMBERS) + (NAMES > MOST_MEMBERS ? 1 : 0)),
    );
  }, 600_000);

  if (IS_PROOF)
    it("hold no more memory once the bounds are reached", () => {
      const after = (share: number): number => memory.find(({ names }) => names >= NAMES * share)?.heap ?? 0;
      expect((after(1) - after(0.5)) / MIB, JSON.stringify(memory)).toBeLessThan(100);
    });
});
