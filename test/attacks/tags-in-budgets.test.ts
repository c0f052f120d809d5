// Whose money a request spends: the key says it. A tag names a team for reports, and in budgets only where the settings
// say so.
import Database from "better-sqlite3";
import { describe, expect, it, vi } from "vitest";
import { readAllSettled, readSettled } from "../../ledger/usage/budget-spend.ts";
import { readBudgets } from "../../ledger/usage/changes.ts";
import { openUsage } from "../../ledger/open.ts";
import { createCalendar } from "../../ledger/windows.ts";
import { createProxy } from "../../proxy/app.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import { createLog } from "../../service/log.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

/** What one answer of 1,000,000 tokens in costs: 0.15 USD. */
const COST = 150_000_000n;
const ANSWER = chatAnswer(1_000_000, 0);
const CHAT = "/openai/v1/chat/completions";

async function ask(running: RunningProxy, secret: string, headers: { [name: string]: string } = {}): Promise<number> {
  const { status } = await fetch(running.url + CHAT, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [] }),
  });
  return status;
}
const TAGGED = { "x-keymeter-team": "search", "x-keymeter-project": "chat", "x-keymeter-env": "prod" };

/** By budget, what is settled: in memory, read from the books one by one, and all at once. */
async function settledOf(running: RunningProxy): Promise<{ [id: string]: readonly [bigint, bigint, bigint] }> {
  const books = await openUsage(running.dataDir);
  if (!books) throw new Error("no books");
  const calendar = createCalendar("UTC");
  const budgets = await readBudgets(books);
  const windowOf = (budget: (typeof budgets)[number]): ReturnType<typeof calendar.window> =>
    calendar.window(budget.window, Date.now());
  const all = await readAllSettled(books, budgets, windowOf);
  const found: { [id: string]: readonly [bigint, bigint, bigint] } = {};
  for (const { budget, settledNanoUsd } of await running.proxy.writer.states())
    found[budget.id] = [settledNanoUsd, await readSettled(books, budget, windowOf(budget)), all.get(budget.id) ?? -1n];
  await books.close();
  return found;
}

describe("fault 8: a key that belongs to nobody", () => {
  it("spends no team's budget by naming it, nor does a provider key in passing; reports know whose it was", async () => {
    const provider = await startFakeProvider(json(ANSWER));
    const running = await startProxy(provider.url, { KEYMETER_DURABILITY: "process" });
    const stranger = await running.createKey({ team: "", env: "" });
    const own = await running.createKey({ team: "search", project: "chat", env: "prod" });
    const scopes = { team: { team: "search" }, project: { project: "chat" }, env: { env: "prod" } };
    for (const [id, scope] of Object.entries(scopes))
      for (const window of ["hour", "month"] as const)
        await running.setBudget({ id: `${id}-${window}`, scope, window, amountNanoUsd: COST });

    for (let i = 0; i < 3; i++) {
      expect(await ask(running, stranger.secret, TAGGED)).toBe(200);
      expect(await ask(running, "sk-test-a-client-of-its-own", TAGGED)).toBe(200);
    }
    for (const settled of Object.values(await settledOf(running))) expect(settled).toEqual([0n, 0n, 0n]);
    expect((await running.events()).map(({ team, project, env }) => `${team} ${project} ${env}`)).toEqual(
      Array<string>(6).fill("search chat prod"),
    );
    // The team's own key finds all of its money, and is held to it.
    expect([await ask(running, own.secret), await ask(running, own.secret)]).toEqual([200, 402]);
    // A tag moves no spend away from it either.
    expect(await ask(running, own.secret, { "x-keymeter-team": "elsewhere" })).toBe(402);
    for (const settled of Object.values(await settledOf(running))) expect(settled).toEqual([COST, COST, COST]);
    expect((await running.proxy.writer.verify()).differences).toEqual([]);
    await running.stop();
    await provider.close();
  });

  it("counts by its tags where the settings say so; a start that ends this names each budget that loses by it, once", async () => {
    const provider = await startFakeProvider(json(ANSWER));
    const before = await startProxy(provider.url, { KEYMETER_DURABILITY: "process", KEYMETER_TAGS_IN_BUDGETS: "on" });
    const stranger = await before.createKey({ team: "", env: "" });
    const own = await before.createKey({ team: "ads" });
    const amountNanoUsd = 10n * COST;
    for (const [id, scope] of [
      ["team", { team: "search" }],
      ["team-model", { team: "search", model: "gpt-4o*" }],
      ["project", { project: "chat" }],
      ["other-team", { team: "ads" }],
      ["key", { keyId: stranger.id }],
      ["org", {}],
      ["unused", { env: "staging" }],
    ] as const)
      await before.setBudget({ id, scope, amountNanoUsd });
    expect(await ask(before, stranger.secret, TAGGED)).toBe(200);
    expect(await ask(before, own.secret)).toBe(200);
    const counted = await settledOf(before);
    expect(counted["team"]).toEqual([COST, COST, COST]);
    expect(counted["project"]).toEqual([COST, COST, COST]);
    await before.setBudget({ id: "small", scope: { team: "search" }, window: "day", amountNanoUsd: COST });
    expect(await ask(before, stranger.secret, TAGGED)).toBe(402);
    expect(before.proxy.writer.losing).toEqual([]);
    await before.stop();

    const { dataDir } = before;
    // Books of before this was asked say nothing of it: they counted by tags.
    const books = new Database(`${dataDir}/usage.db`);
    expect(books.prepare("DELETE FROM meta WHERE name = 'tags_in_budgets'").run().changes).toBe(1);
    books.close();
    const log = createLog("test", "silent");
    const warn = vi.spyOn(log, "warn");
    const start = (tags: string): ReturnType<typeof createProxy> =>
      createProxy(
        loadProxyConfig({
          KEYMETER_DATA_DIR: dataDir,
          KEYMETER_DURABILITY: "process",
          KEYMETER_DRAIN_SECONDS: "0",
          ...(tags === "" ? {} : { KEYMETER_TAGS_IN_BUDGETS: tags }),
        }),
        log,
      );
    // Off is what holds where nothing is said.
    const off = await start("");
    expect(off.writer.losing.map(({ id }) => id).toSorted()).toEqual(["project", "small", "team", "team-model"]);
    const said = warn.mock.calls.map((call) => call as unknown as [{ budget: string; scope: string }, string]);
    expect(said.map(([{ budget, scope }]) => `${budget}: ${scope}`).toSorted()).toEqual([
      "project: project chat",
      "small: team search",
      "team-model: team search, model gpt-4o*",
      "team: team search",
    ]);
    for (const [, sentence] of said) expect(sentence).toContain("tags_in_budgets: on makes it count again");
    const states = Object.fromEntries(
      (await off.writer.states()).map(({ budget, settledNanoUsd }) => [budget.id, settledNanoUsd]),
    );
    expect(states).toEqual({
      team: 0n,
      "team-model": 0n,
      project: 0n,
      small: 0n,
      "other-team": COST,
      key: COST,
      org: 2n * COST,
      unused: 0n,
    });
    expect((await off.writer.verify()).differences).toEqual([]);
    await off.stop();

    warn.mockClear();
    const again = await start("off");
    expect([again.writer.losing, warn.mock.calls]).toEqual([[], []]);
    await again.stop();
    const on = await start("on");
    expect((await on.writer.states()).find(({ budget }) => budget.id === "team")?.settledNanoUsd).toBe(COST);
    expect([on.writer.losing, warn.mock.calls]).toEqual([[], []]);
    await on.stop();
    await provider.close();
  });
});
