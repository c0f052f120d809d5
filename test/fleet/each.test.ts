// One rule over three proxies: nobody passes his cap, and what changes for one member binds on all of them.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { migratePostgres } from "../../ledger/postgres.ts";
import { readAllEvents, startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { hasPostgres, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { IS_CI } from "../seed.ts";
import { isTurnOf } from "../skipped.ts";

const MEMBERS = IS_CI ? 500 : 20;
const PARALLEL = IS_CI ? 2_000 : 120;
const AMOUNT = 130_000n;
const BINDS_WITHIN_MS = 1_500;

describe.skipIf(!hasPostgres || !isTurnOf(3, 4, "a cap of each user over three proxies"))(
  "a cap of each user over three proxies",
  () => {
    let server: PostgresServer;
    let provider: FakeProvider;
    let proxies: RunningProxy[];
    let secret: string;
    beforeAll(async () => {
      server = await startPostgres();
      const url = await server.database("each");
      await migratePostgres(url);
      provider = await startFakeProvider(json(chatAnswer(50, 5, "gpt-4o-mini")));
      const shared = { KEYMETER_DATA_DIR: temporaryFolder(), KEYMETER_LEDGER_URL: url };
      proxies = [];
      for (let i = 0; i < 3; i++) proxies.push(await startProxy(provider.url, shared));
      const [first] = proxies;
      if (!first) throw new Error("no proxy");
      ({ secret } = await first.createKey({ policy: { users: "x-user" } }));
      await first.setBudget({ id: "rule", each: "user", amountNanoUsd: AMOUNT, mode: "strict" });
      for (let i = 0; i < 3; i++) while ((await ask(i, "somebody")) === 401) await sleep(50);
    }, 60_000);
    afterAll(async () => {
      for (const proxy of proxies) await proxy.stop();
      await provider.close();
      await server.stop();
    });

    const ask = async (i: number, user: string): Promise<number> => {
      const answer = await fetch(`${proxies[i]?.url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, "x-user": user },
        body: JSON.stringify({
          model: "gpt-4o-mini",
          max_tokens: 5,
          messages: [{ role: "user", content: "x".repeat(200) }],
        }),
      });
      await answer.text();
      return answer.status;
    };
    /** Uses up what is left of a cap. */
    const exhaust = async (user: string): Promise<void> => {
      for (let i = 0; ; i++) if ((await ask(i % 3, user)) === 402 && (await ask((i + 1) % 3, user)) === 402) return;
    };
    const spentBy = async (): Promise<Map<string, bigint>> => {
      const spent = new Map<string, bigint>();
      for (const { user, costNanoUsd } of await readAllEvents(proxies[0]?.place ?? ""))
        spent.set(user, (spent.get(user) ?? 0n) + BigInt(costNanoUsd ?? 0));
      return spent;
    };
    const holdsInBooks = async (): Promise<void> => {
      for (const { proxy } of proxies) expect((await proxy.writer.verify()).differences).toEqual([]);
    };

    it(`is passed by none of ${MEMBERS}, ${PARALLEL} at once`, async () => {
      const statuses = await Promise.all(
        Array.from({ length: PARALLEL }, (_, i) => ask(i % 3, `member ${i % MEMBERS}`)),
      );
      statuses.push(...(await Promise.all(Array.from({ length: PARALLEL / 4 }, (_, i) => ask(i % 3, "member 0")))));
      expect(new Set(statuses)).toEqual(new Set([200, 402]));
      for (const sum of (await spentBy()).values()) expect(sum).toBeLessThanOrEqual(AMOUNT);
      await holdsInBooks();
    });

    it("binds anew within a second: raised for one, a budget of his own, and the rule again", async () => {
      const [first] = proxies;
      if (!first) throw new Error("no proxy");
      for (const name of ["anna", "bob"]) await exhaust(name);
      const anna = await first.proxy.writer.personOf("anna");
      const raise = {
        id: "raise",
        budgetId: `rule/${anna}`,
        amountNanoUsd: AMOUNT,
        reason: "because",
        createdAtMs: Date.now(),
        untilMs: Date.now() + 3_600_000,
      };
      await first.proxy.writer.change({ type: "raiseBudget", raise }, "test");
      await expect.poll(() => ask(2, "anna"), { timeout: BINDS_WITHIN_MS, interval: 50 }).toBe(200);
      expect(await ask(1, "bob")).toBe(402);
      await exhaust("anna");
      const bob = await first.proxy.writer.personOf("bob");
      await first.setBudget({ id: "bobs", scope: { user: bob }, amountNanoUsd: 2n * AMOUNT, mode: "strict" });
      await expect.poll(() => ask(2, "bob"), { timeout: BINDS_WITHIN_MS, interval: 50 }).toBe(200);
      await exhaust("bob");
      await first.proxy.writer.change({ type: "removeBudget", budgetId: "bobs" }, "test");
      const spent = await spentBy();
      for (const [user, most] of [
        [anna, 2n * AMOUNT],
        [bob, 2n * AMOUNT],
      ] as const) {
        expect(spent.get(user)).toBeGreaterThan(AMOUNT);
        expect(spent.get(user)).toBeLessThanOrEqual(most);
      }
      await holdsInBooks();
      for (const i of [0, 1, 2]) expect([await ask(i, "anna"), await ask(i, "bob")]).toEqual([402, 402]);
    });
  },
);
