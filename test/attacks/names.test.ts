// Names and patterns that others choose: patterns take no longer than they are, and names are bounded in number.
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createGlob } from "../../ledger/glob.ts";
import { openUsage } from "../../ledger/open.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { createNames } from "../../proxy/names.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

describe("fault 10: a pattern with stars", () => {
  /** What stars mean, letter by letter: slow, and easily seen to be right. */
  const isMatch = (pattern: string, name: string): boolean => {
    let reached = new Set([0]);
    for (const letter of pattern) {
      const next = new Set<number>();
      for (const at of reached) {
        if (letter === "*") for (let to = at; to <= name.length; to++) next.add(to);
        else if (name[at] === letter) next.add(at + 1);
      }
      reached = next;
    }
    return reached.has(name.length);
  };

  it("fits what it says, for any pattern and any name", () => {
    const next = random(SEED);
    const word = (letters: string, most: number): string =>
      Array.from(
        { length: Math.floor(next() * (most + 1)) },
        () => letters[Math.floor(next() * letters.length)] ?? "",
      ).join("");
    let fits = 0;
    const rounds = IS_CI ? 500_000 : 10_000;
    for (let round = 0; round < rounds; round++) {
      const [pattern, name] = [word("aab**", 8), word("aab", 9)];
      const wanted = isMatch(pattern, name);
      if (wanted) fits += 1;
      if (createGlob(pattern)(name) !== wanted) expect.fail(`${pattern} and ${name}: not ${wanted}; seed ${SEED}`);
    }
    expect(fits).toBeGreaterThan(rounds / 100);
  });

  it.each([
    ["gpt-4o*", "gpt-4o-mini", true],
    ["gpt-4o*", "gpt-4", false],
    ["*", "", true],
    ["", "", true],
    ["", "a", false],
    ["a*a", "a", false],
    ["ab*ba", "aba", false],
    ["a.c", "abc", false],
    ["gpt-[45]", "gpt-4", false],
    ["gpt-?", "gpt-4", false],
    ["claude-*-latest", "claude-3-5-latest-latest", true],
    ["**a**", "bab", true],
  ])("%s and %s: %s", (pattern, name, wanted) => {
    expect(createGlob(pattern)(name)).toBe(wanted);
    expect(isMatch(pattern, name)).toBe(wanted);
  });

  it("takes no time, however many stars it has: 12 against 60 letters, 2,000 against 100,000", () => {
    const startedMs = performance.now();
    expect(createGlob(`${"a*".repeat(12)}b`)("a".repeat(60))).toBe(false);
    expect(createGlob(`${"*a".repeat(12)}*b*c`)("a".repeat(60))).toBe(false);
    expect(createGlob(`${"a*".repeat(2_000)}b`)("a".repeat(100_000))).toBe(false);
    expect(performance.now() - startedMs).toBeLessThan(500);
  });

  it("of a key's models is asked for at once, by the name that takes a backtracking reader for ever", async () => {
    const provider = await startFakeProvider(json(chatAnswer()));
    const running = await startProxy(provider.url, { KEYMETER_DURABILITY: "process" });
    const pattern = `${"a*".repeat(12)}b`;
    const { secret } = await running.createKey({ policy: { models: [pattern] } });
    await running.setBudget({ scope: { model: pattern }, amountNanoUsd: 1n, kind: "soft" });
    const startedMs = performance.now();
    const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({ model: "a".repeat(60), max_tokens: 5, messages: [] }),
    });
    expect(answer.status).toBe(403);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
    await running.stop();
    await provider.close();
  });
});

describe("fault 18: names that clients choose", () => {
  const KINDS = ["team", "project", "env", "model"] as const;

  async function booksWith(
    teams: readonly (readonly [team: string, requests: number])[],
    atMs = Date.now(),
  ): ReturnType<typeof createNames> {
    const folder = temporaryFolder();
    const path = join(folder, "usage.db");
    const writer = await openWriter({ path, durability: "process", zone: "UTC", capMode: "enforce", now: () => atMs });
    const events = teams.flatMap(([team, requests]) =>
      Array.from({ length: requests }, () =>
        event(writer.nextAttemptId(), 1n, { team, project: `p ${team}`, requestedModel: `m-${team}` }),
      ),
    );
    await Promise.all(events.map((one) => writer.settle(one)));
    await writer.close();
    const books = await openUsage(folder);
    if (!books) throw new Error("no books");
    const names = await createNames(books, Date.now());
    await books.close();
    return names;
  }

  it("are taken up to the five hundredth, each kind for itself; what comes after them is other, and known ones stay", async () => {
    const names = await booksWith([]);
    for (const kind of KINDS) {
      for (let i = 0; i < 500; i++) {
        expect(names.of(kind, `n${i}`)).toBe(`n${i}`);
        names.take({ [kind]: `n${i}` });
      }
      expect([names.of(kind, "n500"), names.of(kind, "n501")]).toEqual(["other", "other"]);
      expect([names.of(kind, "n0"), names.of(kind, "n499"), names.of(kind, "")]).toEqual(["n0", "n499", ""]);
    }
  });

  it("(a model that was booked) is a name like any other, however many there are; what is only asked for takes no place", async () => {
    const names = await booksWith([]);
    for (let i = 0; i < 600; i++) expect(names.of("model", `asked-${i}`)).toBe(`asked-${i}`);
    for (let i = 0; i < 500; i++) names.take({ model: `n${i}`, team: "" });
    expect(names.of("model", "gpt-9")).toBe("other");
    names.take({ model: "gpt-9" });
    expect([names.of("model", "gpt-9"), names.of("model", "gpt-10"), names.of("team", "gpt-9")]).toEqual([
      "gpt-9",
      "other",
      "gpt-9",
    ]);
  });

  it("of the books come first after a restart: those with the most use, of the last month", async () => {
    const teams = Array.from({ length: 510 }, (_, i) => [`t${i}`, i < 10 ? 1 : 2] as const);
    const names = await booksWith(teams);
    expect(teams.slice(10).map(([team]) => names.of("team", team))).toEqual(teams.slice(10).map(([team]) => team));
    expect(teams.slice(0, 10).map(([team]) => names.of("team", team))).toEqual(Array(10).fill("other"));
    expect([names.of("project", "new"), names.of("model", "new"), names.of("env", "new")]).toEqual([
      "other",
      "other",
      "new",
    ]);
    const old = await booksWith(teams, Date.now() - 40 * 24 * 3_600_000);
    expect(old.of("team", "new")).toBe("new");
  });

  it("make no row each in the books of a running proxy: teams of tags, and models that no provider takes", async () => {
    const provider = await startFakeProvider(json({ error: { message: "no such model" } }, 404));
    const running = await startProxy(provider.url, { KEYMETER_DURABILITY: "process" });
    const { secret } = await running.createKey({ team: "", env: "" });
    const { names } = running.proxy.context;
    for (let i = 0; i < 499; i++) names.take({ team: `n${i}`, model: `n${i}` });
    for (let i = 0; i < 6; i++)
      await fetch(`${running.url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          authorization: `Bearer ${secret}`,
          "x-keymeter-team": `made-up-${i}`,
        },
        body: JSON.stringify({ model: `made-up-${i}`, max_tokens: 5, messages: [] }),
      });
    await expect.poll(async () => (await running.events()).length).toBe(6);
    const found = (await running.events()).map(({ team, requestedModel }) => [team, requestedModel]);
    expect(found.map(String)).toEqual(["made-up-0,made-up-0", ...Array<string>(5).fill("other,other")]);
    await running.stop();
    await provider.close();
  });
});
